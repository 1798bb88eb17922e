//! `stratalog export`.
//!
//! Owns which events are exported. Calls the store's readers, and `events` to print; `main` calls it.

use std::error::Error;
use std::path::Path;

use stratalog::Store;

use crate::events::{self, Extent};

/// Prints the events of the store in a directory: of one stream or of all, from a position on.
pub(crate) fn run(directory: &Path, stream: Option<&str>, from: u64) -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_read_only(directory)?;
    let extent = Extent::UpTo(store.head().get());
    match stream {
        None => {
            let mut reader = store.read_all().from(from).forward();
            events::print(extent, 0, || reader.next_batch())?;
        }
        Some(stream) => {
            let mut reader = store.read_stream(stream).forward();
            events::print(extent, from, || reader.next_batch())?;
        }
    }
    Ok(())
}
