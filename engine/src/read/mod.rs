//! Reading: batches that own memory, events that borrow it, and the readers that fill batches.
//!
//! Owns how stored events are shown. Calls the catalog (`log`) and the live segments (`commit`), and
//! takes no lock that the writing side takes; `store` hands it to users, and `append` asks it about conditions and ids.

mod all;
mod batch;
mod event;
mod find;
mod first_match;
mod ids;
mod locate;
mod query;
mod sources;
mod span;
mod stream;
mod streams;
mod typed;
mod upcasts;

use std::sync::Arc;

pub use all::{ReadAll, ReaderAll};
pub use batch::{Batch, BatchIter};
pub use event::{EventRef, EventView};
pub(crate) use first_match::FirstMatch;
pub(crate) use ids::{FoundId, SoughtId};
pub use query::{ReadQuery, ReaderQuery};
pub use stream::{ReadStream, ReaderStream};
pub use streams::ReaderStreams;
pub use typed::{Looked, Typed};

use crate::commit::{ChunkPool, Watermark};
use crate::disk::Disk;
use crate::error::ReadError;
use crate::format::checksum::StoreId;
use crate::log::{Catalogs, IndexOrRead, OpenRun, Run};

/// The reading side of an open store.
#[derive(Debug)]
pub(crate) struct Reads {
    pub disk: Arc<dyn Disk>,
    pub store: StoreId,
    pub catalogs: Arc<Catalogs>,
    pub watermark: Arc<Watermark>,
    /// Where the tail's memory comes from.
    pub pool: Arc<ChunkPool>,
}

/// Why a reader stopped before it had what it wanted.
#[derive(Debug)]
enum Stopped {
    /// A file of the index is of no use, which the catalog was told: there is something else in its place now.
    Distrusted,
    Read(ReadError),
}

impl From<ReadError> for Stopped {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Where a position stands in a part of the log that begins with `first`: the first place for those before.
#[inline]
fn ordinal(position: u64, first: u64) -> u32 {
    u32::try_from(position.saturating_sub(first)).unwrap_or(u32::MAX)
}

impl Reads {
    /// How many streams began in the segments of a run.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn streams_created(&self, run: &Arc<Run>) -> Result<u64, ReadError> {
        match self.opened(run) {
            Ok(open) => return Ok(open.terms.streams_created()),
            Err(Stopped::Read(error)) => return Err(error),
            Err(Stopped::Distrusted) => {}
        }
        // Of single segments now, each of which says it.
        run.split().map(|run| self.streams_created(&Arc::new(run))).sum()
    }

    /// Opens a run; damage of its file is told to the catalog.
    fn opened(&self, run: &Arc<Run>) -> Result<Arc<OpenRun>, Stopped> {
        run.open().map_err(|error| self.failed(run, None, error))
    }

    /// Ends a look into an open run that failed: damage of its file is told to the catalog.
    fn failed(&self, run: &Arc<Run>, open: Option<&Arc<OpenRun>>, error: IndexOrRead) -> Stopped {
        match error {
            IndexOrRead::Read(error) => Stopped::Read(error),
            IndexOrRead::Index(damage) => {
                let told = self.catalogs.distrust(run, open, &damage);
                told.map_or_else(Stopped::Read, |()| Stopped::Distrusted)
            }
        }
    }
}
