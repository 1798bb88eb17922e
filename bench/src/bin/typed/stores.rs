//! The stores that are scanned: each is filled once, closed, and read as it is from then on.

use std::path::Path;

use stratalog::{Expect, NewEvent, Store};
use stratalog_bench::PAYLOAD_BYTES;

use super::Failure;
use super::appends::pipelined;
use super::events::{Posted, PostedJson, PostedV1};

/// Every such event is of version 1 where versions are mixed.
const OLD_EVERY: u64 = 10;

/// What is in a store.
#[derive(Debug, Clone, Copy)]
pub enum Content {
    /// Values of the newest version.
    Current,
    /// Every tenth of version 1, the others of the newest.
    Mixed,
    /// JSON.
    Json,
}

/// Opens the store with so many events, which is filled if it is not there.
pub fn open(directory: &Path, content: Content, events: u64) -> Result<Store, Failure> {
    let name = match content {
        Content::Current => "current",
        Content::Mixed => "mixed",
        Content::Json => "json",
    };
    let directory = directory.join(format!("{name}-{events}"));
    if !directory.join("manifest").exists() {
        let store = Store::open(&directory)?;
        fill(&store, content, events)?;
        store.close()?;
    }
    Ok(Store::options().open_read_only(directory)?)
}

fn fill(store: &Store, content: Content, events: u64) -> Result<(), Failure> {
    let bytes = NewEvent::of(&Posted::numbered(0)).payload().len();
    if bytes != PAYLOAD_BYTES {
        return Err(format!("an event has {bytes} bytes").into());
    }
    pipelined(events, |number, stream| match content {
        Content::Mixed if number % OLD_EVERY == 0 => {
            store.append(stream, Expect::Any, [PostedV1::numbered(number)])
        }
        Content::Current | Content::Mixed => {
            store.append(stream, Expect::Any, [Posted::numbered(number)])
        }
        Content::Json => store.append(stream, Expect::Any, [PostedJson::numbered(number)]),
    })
}
