//! What the benchmarks share: events and stores of a known size.

pub mod fan_out;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::{AppendError, Expect, NewEvent, Options, Store};

/// How long a payload is, in bytes.
pub const PAYLOAD_BYTES: usize = 256;
/// How many events [`fill`] puts into one append.
const FILL_EVENTS: u64 = 50;
/// How many events each stream of [`fill_scattered`] gets.
pub const STREAM_EVENTS: u64 = 100;

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

/// Appends that are on their way at once in [`scatter`].
const SCATTER_IN_FLIGHT: usize = 8_192;

/// The name of a stream of [`scatter`], 20 bytes long; numbers are scattered over all streams.
pub fn scattered_name(number: u64, streams: u64) -> String {
    format!("stream-{:013}", number * 7_919 % streams)
}

/// Appends events with these numbers, each by itself, to streams that lie scattered over the log, and waits
/// until they are durable.
///
/// # Errors
/// Why an append fails.
pub fn scatter(store: &Store, numbers: Range<u64>, streams: u64) -> Result<(), AppendError> {
    let mut pending = VecDeque::new();
    for number in numbers {
        let event = NewEvent::bytes("type-000000000000001", vec![7; PAYLOAD_BYTES]);
        let mut append = store.append(&scattered_name(number, streams), Expect::Any, [event]);
        loop {
            match append.try_submit() {
                Ok(claimed) => break pending.push_back(claimed),
                Err(AppendError::Busy) => match pending.pop_front() {
                    Some(first) => drop(first.wait()?),
                    None => std::thread::yield_now(),
                },
                Err(error) => return Err(error),
            }
        }
        if pending.len() > SCATTER_IN_FLIGHT
            && let Some(first) = pending.pop_front()
        {
            first.wait()?;
        }
    }
    store.flush()
}

/// Appends [`STREAM_EVENTS`] events to each of so many streams; see [`scatter`].
///
/// # Errors
/// Those of an append.
pub fn fill_scattered(store: &Store, streams: u64) -> Result<(), AppendError> {
    scatter(store, 0..streams * STREAM_EVENTS, streams)
}

/// The sum of the bytes' words, in as many lanes as the compiler likes.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}
