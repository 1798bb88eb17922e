//! Reading: batches that own memory, events that borrow it, and the readers that fill batches.
//!
//! Owns how stored events are shown. Calls the catalog (`log`) and the live segments (`commit`), and
//! takes no lock that the writing side takes; `store` hands it to users.

mod all;
mod batch;
mod event;
mod sources;
mod stream;

use std::sync::Arc;

pub use all::{ReadAll, ReaderAll};
pub use batch::{Batch, BatchIter};
pub use event::{EventRef, EventView};
pub use stream::{ReadStream, ReaderStream};

use crate::commit::Watermark;
use crate::disk::Disk;
use crate::format::checksum::StoreId;
use crate::log::Catalogs;

/// The reading side of an open store.
#[derive(Debug)]
pub(crate) struct Reads {
    pub disk: Arc<dyn Disk>,
    pub store: StoreId,
    pub catalogs: Arc<Catalogs>,
    pub watermark: Arc<Watermark>,
}
