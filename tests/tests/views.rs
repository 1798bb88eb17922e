//! What readers keep of the tail's memory: it is bounded, it is said how much it is, and it is given back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog::disk::MemoryDisk;
use stratalog::limits::{CHUNK_BYTES, PINNED_BYTES_MAX, UNSEALED_SEGMENTS_MAX};
use stratalog::{EventView, Expect, Message, NewEvent, Store};

const PAYLOAD_BYTES: usize = 128 << 10;
const SEGMENT_BYTES: u64 = 4 << 20;

/// Waits until something is so, which the store does in the background.
fn until(is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_mins(1), "it does not become so");
        std::thread::yield_now();
    }
}

fn payload(number: u64) -> Vec<u8> {
    let mut payload = vec![u8::try_from(number % 251).unwrap(); PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    payload
}

/// Appends events with these numbers, and keeps a view of one of each chunk, as a subscriber sees it.
fn append_and_keep(store: &Store, numbers: std::ops::Range<u64>) -> Vec<EventView> {
    let mut live = store.subscribe().after(store.head()).start().unwrap();
    let mut kept = Vec::new();
    for number in numbers {
        let event = NewEvent::bytes("large", payload(number));
        store.append("s", Expect::Any, [event.tag("t")]).wait().unwrap();
        while let Some(message) = live.try_recv().unwrap() {
            let Message::Events(batch) = message else { continue };
            for event in &batch {
                if number.is_multiple_of((CHUNK_BYTES / PAYLOAD_BYTES) as u64 - 1) {
                    kept.push(event.to_view());
                }
            }
        }
    }
    kept
}

#[test]
fn views_keep_chunks_up_to_a_bound_and_are_copies_then() {
    let disk = MemoryDisk::new();
    let store = Store::options().segment_bytes(SEGMENT_BYTES).open_on(Arc::new(disk)).unwrap();
    assert_eq!(store.pinned_bytes(), 0);
    let events = 2 * PINNED_BYTES_MAX / PAYLOAD_BYTES as u64;
    let kept = append_and_keep(&store, 0..events);
    let unsealed = (UNSEALED_SEGMENTS_MAX as u64 + 1) * SEGMENT_BYTES;
    let pinned = store.pinned_bytes();
    assert!(pinned > PINNED_BYTES_MAX / 2, "{pinned}");
    assert!(pinned <= PINNED_BYTES_MAX + unsealed + 2 * CHUNK_BYTES as u64, "{pinned}");
    // Also those that are copies are what was appended.
    for view in &kept {
        let event = view.event();
        assert_eq!(event.payload(), payload(event.position().get() - 1));
        assert_eq!((event.stream(), event.event_type()), ("s", "large"));
        assert!(event.tags().eq(["t"]));
        let again = event.to_view();
        assert_eq!(again.event().payload(), event.payload());
    }
    drop(kept);
    // Segments that are sealed now let go of the rest.
    until(|| store.pinned_bytes() == 0);
}

#[test]
fn a_subscription_that_is_dropped_in_the_middle_of_a_batch_keeps_nothing() {
    let disk = MemoryDisk::new();
    let store = Store::options().segment_bytes(SEGMENT_BYTES).open_on(Arc::new(disk)).unwrap();
    let mut live = store.subscribe().start().unwrap();
    for number in 0..8 {
        store.append("s", Expect::Any, [NewEvent::bytes("large", payload(number))]).wait().unwrap();
    }
    let Message::Events(batch) = live.recv().unwrap() else { panic!("there are events") };
    drop(live);
    for number in 0..200 {
        store.append("s", Expect::Any, [NewEvent::bytes("large", payload(number))]).wait().unwrap();
    }
    until(|| store.pinned_bytes() > 0);
    assert_eq!(batch.get(0).unwrap().payload(), payload(0));
    drop(batch);
    // Another segment may be being let go of just now.
    until(|| store.pinned_bytes() == 0);
}
