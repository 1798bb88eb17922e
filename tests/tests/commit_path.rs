//! What the commit path does behind the answers: what it writes when nobody appends, and what it must
//! not leave undone. One behaviour each, on the memory disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog::disk::{Fault, FaultError, FaultPlan, MemoryDisk, OpKind};
use stratalog::limits::WITNESS_IDLE;
use stratalog::{AppendError, Expect, NewEvent, Store};
use stratalog_tests::watchdog;

fn open(disk: &MemoryDisk) -> Store {
    Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone())).unwrap()
}

fn event(bytes: usize) -> NewEvent {
    NewEvent::bytes("type", vec![3; bytes])
}

/// Waits until this holds; fails where it does not come to.
fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it does not come to that");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// How many begins and ends of durable writes the disk has recorded.
fn durable_writes(disk: &MemoryDisk) -> usize {
    disk.trace().to_string().lines().filter(|line| line.contains("WriteDurable")).count()
}

#[test]
fn a_log_that_rests_is_witnessed_once() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    disk.start_recording();
    // Each write is begun and ended: those of a batch and of a witness, twice.
    for (submitted, writes) in [(false, 4), (true, 8)] {
        let append = store.append("s", Expect::Any, [event(10)]);
        if submitted {
            append.submit().unwrap().wait().unwrap()
        } else {
            append.wait().unwrap()
        };
        until(|| durable_writes(&disk) >= writes);
    }
    std::thread::sleep(40 * WITNESS_IDLE);
    assert_eq!(durable_writes(&disk), 8, "it rests: {}", disk.trace());
}

#[test]
fn what_may_wait_is_written_in_time_though_the_next_append_has_no_segment() {
    let disk = MemoryDisk::new();
    disk.set_faults(FaultPlan::new().inject(
        OpKind::Create,
        "segment-0000000002",
        0,
        u64::MAX,
        Fault::Fail(FaultError::NoSpace),
    ));
    let store = open(&disk);
    let within =
        |bytes| store.append("s", Expect::Any, [event(bytes)]).within(Duration::from_millis(200));
    let mut last = None;
    let error = loop {
        match within(10_000).submit() {
            Ok(pending) => last = Some(pending.wait().unwrap()),
            Err(AppendError::Busy) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::NoSpace(_)), "{error}");
    let receipt = last.unwrap();
    watchdog::within(Duration::from_secs(20), "the write of what may wait", move || {
        receipt.durable().wait().unwrap();
    });
}

#[test]
fn nothing_is_written_behind_a_failed_write() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.append("s", Expect::Any, [event(10)]).wait().unwrap();
    let fails = Fault::Fail(FaultError::Io);
    disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "segment-", 0, 1, fails));
    disk.start_recording();
    // The one that fails may have been a witness of the append before.
    assert!(store.append("s", Expect::Any, [event(10)]).wait().is_err());
    drop(store);
    assert!(durable_writes(&disk) <= 2, "{}", disk.trace());
}

#[test]
fn a_full_segment_is_sealed_though_the_next_one_cannot_be_made() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let full = Fault::Fail(FaultError::NoSpace);
    let faults = FaultPlan::new().inject(OpKind::Create, "segment-0000000003", 0, u64::MAX, full);
    let fails = Fault::Fail(FaultError::Io);
    disk.set_faults(faults.clone().inject(
        OpKind::Truncate,
        "segment-0000000001",
        0,
        u64::MAX,
        fails,
    ));
    let error = loop {
        if let Err(error) = store.append("s", Expect::Any, [event(10_000)]).wait() {
            break error;
        }
    };
    assert!(matches!(error, AppendError::NoSpace(_)), "{error}");
    disk.set_faults(faults);
    // Nobody appends any more.
    until(|| disk.file_names().contains(&"segment-0000000001.table".to_owned()));
}
