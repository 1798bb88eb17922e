//! Appends that do not wait for the disk: answered at once, durable in time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use stratalog::disk::{Fault, FaultError, FaultPlan, MemoryDisk, OpKind};
use stratalog::{AppendError, Durability, Expect, NewEvent, Receipt, Store};
use stratalog_tests::watchdog::within;

/// Long enough that nothing is written because of it while a test runs.
const LATER: Duration = Duration::from_secs(50);
const PATIENCE: Duration = Duration::from_secs(20);

fn open(disk: &MemoryDisk) -> Store {
    Store::options().open_on(Arc::new(disk.clone())).unwrap()
}

fn accept(store: &Store, stream: &str, expect: Expect, time: Duration) -> Receipt {
    let event = NewEvent::bytes("measured", *b"21.5");
    store.append(stream, expect, [event]).within(time).wait().unwrap()
}

#[test]
fn an_append_is_answered_before_it_is_durable_and_seen_by_nobody_until_then() {
    let store = open(&MemoryDisk::new());
    let receipt = accept(&store, "sensor", Expect::NoStream, LATER);
    assert_eq!((receipt.version(), receipt.position().get()), (0, 1));
    assert_eq!(receipt.durability(), Durability::Accepted);
    assert_eq!((store.head().get(), store.stream_head("sensor").unwrap()), (0, None));
    // The next one follows it, and what waits for it brings both to the disk.
    let event = NewEvent::bytes("measured", *b"22");
    let next = store.append("sensor", Expect::Version(0), [event]).wait().unwrap();
    assert_eq!((next.version(), next.durability()), (1, Durability::Durable));
    assert_eq!(receipt.durability(), Durability::Durable);
    receipt.durable().wait().unwrap();
    assert_eq!(store.head().get(), 2);
}

#[test]
fn what_nobody_waits_for_is_written_in_time() {
    let store = open(&MemoryDisk::new());
    for time in [Duration::from_millis(20), Duration::ZERO] {
        let receipt = accept(&store, "sensor", Expect::Any, time);
        within(PATIENCE, "the write", move || {
            while receipt.durability() == Durability::Accepted {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }
}

#[test]
fn an_earlier_time_goes_before_a_later_one() {
    let store = open(&MemoryDisk::new());
    let later = accept(&store, "sensor", Expect::Any, LATER);
    let sooner = accept(&store, "sensor", Expect::Any, Duration::from_millis(5));
    within(PATIENCE, "the write", move || {
        sooner.durable().wait().unwrap();
        later.durable().wait().unwrap();
    });
}

#[test]
fn a_flush_and_a_close_write_what_was_accepted() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let receipt = accept(&store, "sensor", Expect::Any, LATER);
    store.flush().unwrap();
    assert_eq!(receipt.durability(), Durability::Durable);
    let receipt = accept(&store, "sensor", Expect::Any, LATER);
    store.close().unwrap();
    assert_eq!(receipt.durability(), Durability::Durable);
    assert_eq!(open(&disk).head().get(), 2);
}

#[test]
fn a_conflict_is_an_error_as_ever() {
    let store = open(&MemoryDisk::new());
    accept(&store, "sensor", Expect::NoStream, LATER);
    let event = NewEvent::bytes("measured", *b"0");
    let append = store.append("sensor", Expect::NoStream, [event]).within(LATER);
    let error = within(PATIENCE, "the answer", move || append.wait().unwrap_err());
    let AppendError::Conflict(conflict) = error else { panic!("{error}") };
    assert_eq!(conflict.streams().next().unwrap().actual(), Some(0));
}

#[test]
fn a_crash_may_lose_what_was_accepted_and_nothing_that_was_durable() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let durable = accept(&store, "sensor", Expect::Any, LATER);
    store.flush().unwrap();
    assert_eq!(durable.durability(), Durability::Durable);
    let accepted = accept(&store, "sensor", Expect::Any, LATER);
    assert_eq!(accepted.durability(), Durability::Accepted);
    let crashed = disk.fork();
    assert_eq!(open(&crashed).head().get(), 1);
}

#[test]
fn a_failed_write_is_reported_to_whom_it_concerns_and_by_the_next_append() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let receipt = accept(&store, "sensor", Expect::Any, LATER);
    let fails = Fault::Fail(FaultError::Io);
    disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "segment-", 0, 1, fails));
    assert!(store.flush().is_err());
    let error = receipt.durable().wait().unwrap_err();
    let AppendError::Unknown { event_ids, .. } = error else { panic!("{error}") };
    assert_eq!(event_ids, receipt.event_ids());
    assert_eq!(receipt.durability(), Durability::Accepted);
    let event = NewEvent::bytes("measured", *b"0");
    let next = store.append("sensor", Expect::Any, [event]).within(LATER).wait();
    assert!(matches!(next, Err(AppendError::Poisoned(_))), "{next:?}");
}
