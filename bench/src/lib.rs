//! What the benchmarks share: events and stores of a known size.

use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::{AppendError, Expect, NewEvent, Options, Store};

/// How long a payload is, in bytes.
pub const PAYLOAD_BYTES: usize = 256;
/// How many events [`fill`] puts into one append.
const FILL_EVENTS: u64 = 50;

/// An event with a payload of [`PAYLOAD_BYTES`].
pub fn event() -> NewEvent {
    NewEvent::bytes("entry-posted", vec![0x5A; PAYLOAD_BYTES])
}

/// A new store in memory.
///
/// # Panics
/// Where it cannot be opened.
pub fn memory_store() -> Store {
    open(&Store::options(), &MemoryDisk::new())
}

/// Opens the store of a disk in memory.
///
/// # Panics
/// Where it cannot be opened.
pub fn open(options: &Options, disk: &MemoryDisk) -> Store {
    options.open_on(Arc::new(disk.clone())).expect("the store opens")
}

/// The name of a stream.
pub fn stream_name(stream: u64) -> String {
    format!("account-{stream:012}")
}

/// Appends `events` events evenly to `streams` streams, whose events stand mixed in the log, and waits
/// until they are durable. `events` is a multiple of `streams` times the events of one append.
///
/// # Panics
/// Where an append fails, or the numbers do not come out even.
pub fn fill(store: &Store, events: u64, streams: u64) {
    assert!(events.is_multiple_of(streams * FILL_EVENTS), "the appends come out even");
    let event = event();
    let names: Vec<_> = (0..streams).map(stream_name).collect();
    for _ in 0..events / (streams * FILL_EVENTS) {
        for name in &names {
            let append = || store.append(name, Expect::Any, (0..FILL_EVENTS).map(|_| &event));
            match append().submit() {
                Ok(_) => {}
                Err(AppendError::Busy) => drop(append().wait().expect("the append succeeds")),
                Err(error) => panic!("the append fails: {error}"),
            }
        }
    }
    store.flush().expect("all of it is durable");
    assert_eq!(store.head().get(), events);
}
