//! Events as JSON Lines: one JSON object to a line, in the form that the `stratalog` command prints and reads.
//!
//! With the cargo feature `export`. Owns the lines' shape, in `line`, and the export of typed events. Calls `read`.

mod line;

use std::io::{self, Write};

pub use line::{on_one_line, raw, time_of, timestamp, write_event};

use crate::error::{DecodeError, ReadError};
use crate::store::Store;
use crate::typed::EventSet;
use crate::typed::derived::ToJson;

/// An export ended early; what was written before is good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event could not be read as one of the set's.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An event could not be written as JSON.
    #[error("the event at position {position} could not be written as JSON: {source}")]
    Json {
        /// Where it stands in the log.
        position: crate::Position,
        /// What `serde_json` says.
        source: serde_json::Error,
    },
    /// What was written to has failed.
    #[error("writing the export failed: {0}")]
    Write(#[from] io::Error),
}

/// Writes the events of a set as JSON Lines: each as the newest version of its type, its payload as JSON, by
/// `serde::Serialize`. One that the set splits has a line for each part. Events of other types are left out. Says how many
/// lines there are.
///
/// The set is derived with `#[event_set(json)]`. [`write_event`](fn@write_event) prints what is stored instead.
///
/// ```
/// use stratalog::rkyv::{Archive, Deserialize, Serialize};
/// use stratalog::{Event, EventSet, Expect, Store, disk::MemoryDisk};
///
/// #[derive(Event, Archive, Serialize, Deserialize, serde::Serialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "opened", version = 1)]
/// struct Opened { title: String }
///
/// #[derive(EventSet)]
/// #[event_set(json)]
/// enum Ticket { Opened(Opened) }
///
/// let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// store.append("ticket-1", Expect::NoStream, [Opened { title: "printer".into() }]).wait()?;
/// let mut lines = Vec::new();
/// assert_eq!(stratalog::export::<Ticket>(&store, &mut lines)?, 1);
/// assert!(lines.ends_with(br#""data":{"title":"printer"}}
/// "#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ExportError`].
pub fn export<S: EventSet + ToJson>(
    store: &Store,
    out: &mut impl Write,
) -> Result<u64, ExportError> {
    let mut lines = 0;
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch()? {
        for event in &batch {
            for value in S::values(event)?.into_iter().flatten() {
                let position = event.position();
                let json =
                    value.to_json().map_err(|source| ExportError::Json { position, source })?;
                line::write_json(event, &json, out)?;
                lines += 1;
            }
        }
    }
    Ok(lines)
}
