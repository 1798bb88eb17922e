//! What an append is told that is not as things are, beside events that have their place but are not durable yet.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stratalog::disk::{Fault, FaultError, FaultPlan, MemoryDisk, OpKind};
use stratalog::{Append, AppendError, Conflict, Durability, Expect, NewEvent, Query, Store};
use stratalog_tests::block_on::block_on;
use stratalog_tests::watchdog::within;

/// Long enough that nothing is written because of it while a test runs.
const LATER: Duration = Duration::from_secs(50);
const PATIENCE: Duration = Duration::from_secs(20);

fn open(disk: &MemoryDisk) -> Store {
    Store::options().open_on(Arc::new(disk.clone())).unwrap()
}

fn noted() -> NewEvent {
    NewEvent::bytes("noted", *b"note").tag("note")
}

fn append(store: &Store, stream: &str, expect: Expect) -> Append {
    store.append(stream, expect, [noted()])
}

/// A store with one durable event of a stream `a`, and a second that has only its place.
fn claimed(disk: &MemoryDisk) -> Store {
    let store = open(disk);
    append(&store, "a", Expect::NoStream).wait().unwrap();
    let receipt = append(&store, "a", Expect::Version(0)).within(LATER).wait().unwrap();
    assert_eq!((receipt.version(), receipt.durability()), (1, Durability::Accepted));
    store
}

fn refused<T: std::fmt::Debug>(result: Result<T, AppendError>) -> Conflict {
    match result {
        Err(AppendError::Conflict(conflict) | AppendError::AlreadyThere(conflict)) => conflict,
        other => panic!("{other:?}"),
    }
}

/// What it says of each stream: the last version that is durable, and the last one that is claimed.
fn heads(conflict: &Conflict) -> Vec<(&str, Option<u64>, Option<u64>)> {
    conflict.streams().map(|failed| (failed.stream(), failed.actual(), failed.claimed())).collect()
}

#[test]
fn what_is_durable_refuses_at_once_and_says_what_is_claimed() {
    type Refused = fn(&Store, Expect) -> Conflict;
    let ways: [Refused; 5] = [
        |store, expect| refused(append(store, "a", expect).wait()),
        |store, expect| refused(block_on(append(store, "a", expect))),
        |store, expect| refused(append(store, "a", expect).submit().unwrap().wait()),
        |store, expect| refused(append(store, "a", expect).within(LATER).wait()),
        |store, expect| refused(store.check("a", expect).wait()),
    ];
    for (way, expect) in ways
        .iter()
        .flat_map(|way| [Expect::NoStream, Expect::Version(7)].map(|expect| (way, expect)))
    {
        let disk = MemoryDisk::new();
        let store = claimed(&disk);
        // Where its write fails, whoever had to wait for it would be told so.
        let fails = Fault::Fail(FaultError::Io);
        disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "segment-", 0, 1, fails));
        let conflict = way(&store, expect);
        assert_eq!(heads(&conflict), [("a", Some(0), Some(1))], "{expect}");
        let text = conflict.to_string();
        assert!(text.ends_with("its last version is 0, and what is on its way goes up to 1"));
    }
}

#[test]
fn what_is_claimed_can_be_expected_and_is_one_write_with_what_expects_it() {
    let store = claimed(&MemoryDisk::new());
    let writes = store.write_stats().batches;
    assert_eq!(append(&store, "a", Expect::Version(1)).wait().unwrap().version(), 2);
    assert_eq!(store.write_stats().batches, writes + 1);
    let conflict = refused(append(&store, "a", Expect::Version(1)).wait());
    assert_eq!(heads(&conflict), [("a", Some(2), Some(2))]);
    assert!(conflict.to_string().ends_with("its last version is 2"));
}

#[test]
fn what_a_refusal_says_to_be_on_its_way_is_written_soon() {
    let store = claimed(&MemoryDisk::new());
    refused(append(&store, "a", Expect::NoStream).wait());
    within(PATIENCE, "the write", move || {
        while store.stream_head("a").unwrap() < Some(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn what_only_a_claimed_event_refuses_is_told_when_that_is_durable() {
    for expect in [Expect::Version(0), Expect::NoStream] {
        let store = open(&MemoryDisk::new());
        if expect != Expect::NoStream {
            append(&store, "a", Expect::NoStream).wait().unwrap();
        }
        let last = append(&store, "a", expect).within(LATER).wait().unwrap().version();
        let refusing = store.clone();
        let conflict =
            within(PATIENCE, "the answer", move || refused(append(&refusing, "a", expect).wait()));
        assert_eq!(heads(&conflict), [("a", Some(last), Some(last))]);
        assert_eq!(store.stream_head("a").unwrap(), Some(last));
    }
}

#[test]
fn what_a_poisoned_log_has_lost_refuses_nothing() {
    let disk = MemoryDisk::new();
    let store = claimed(&disk);
    let fails = Fault::Fail(FaultError::Io);
    disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "segment-", 0, 1, fails));
    // Only what is not durable refuses it: it waits for the write.
    let error = append(&store, "a", Expect::Version(0)).wait().unwrap_err();
    assert!(matches!(error, AppendError::Unknown { .. }), "{error}");
    assert_eq!(open(&disk.fork()).stream_head("a").unwrap(), Some(0));
}

#[test]
fn all_checks_of_a_transaction_are_of_one_moment() {
    let note = || Query::any().tags(["note"]);
    let commit = |a: Expect, b: Expect| {
        let store = claimed(&MemoryDisk::new());
        append(&store, "b", Expect::NoStream).within(LATER).wait().unwrap();
        let transaction = store.transaction().append("c", Expect::Any, [noted()]);
        let transaction = transaction.expect("a", a).expect("b", b).fail_if(note(), 0);
        let conflict = refused(transaction.commit().wait());
        let positions = conflict.conditions().map(|failed| failed.position().get());
        assert_eq!(positions.collect::<Vec<_>>(), [1]);
        conflict
    };
    // Both streams, and the condition, are refused by what is durable: nothing is waited for.
    let conflict = commit(Expect::Version(5), Expect::Version(4));
    assert_eq!(heads(&conflict), [("a", Some(0), Some(1)), ("b", None, Some(0))]);
    // One check is otherwise by what is claimed, so that all of them are told by that.
    let conflict = commit(Expect::Version(5), Expect::NoStream);
    assert_eq!(heads(&conflict), [("a", Some(1), Some(1)), ("b", Some(0), Some(0))]);
    let conflict = commit(Expect::Version(5), Expect::Exists);
    assert_eq!(heads(&conflict), [("a", Some(1), Some(1))]);
}

#[test]
fn a_condition_behind_what_is_durable_is_answered_as_of_what_is_claimed() {
    let store = claimed(&MemoryDisk::new());
    let append = append(&store, "a", Expect::NoStream).fail_if(Query::any().tags(["other"]), 2);
    assert_eq!(heads(&refused(append.wait())), [("a", Some(1), Some(1))]);
}

#[test]
fn writers_of_one_stream_that_expect_what_is_claimed_each_win_their_version() {
    const THREADS: u64 = 8;
    const EACH: u64 = 500;
    // Small segments, so that they are sealed meanwhile.
    let options = Store::options().segment_bytes(64 << 10);
    let store = options.open_on(Arc::new(MemoryDisk::new())).unwrap();
    let refusals = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut expect = Expect::NoStream;
                for _ in 0..EACH {
                    let version = loop {
                        let next = match expect {
                            Expect::Version(last) => last + 1,
                            _ => 0,
                        };
                        let number = NewEvent::bytes("numbered", next.to_le_bytes());
                        match store.append("numbers", expect, [number]).wait() {
                            Ok(receipt) => break receipt.version(),
                            Err(error) => {
                                let conflict = refused::<()>(Err(error));
                                let failed = conflict.streams().next().unwrap();
                                assert!(failed.claimed() >= failed.actual(), "{conflict}");
                                assert!(failed.actual() <= store.stream_head("numbers").unwrap());
                                expect = failed.claimed().map_or(Expect::NoStream, Expect::Version);
                                refusals.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    };
                    expect = Expect::Version(version);
                }
            });
        }
    });
    let mut read = store.read_stream("numbers").forward();
    let mut next = 0_u64;
    while let Some(batch) = read.next_batch().unwrap() {
        for event in &batch {
            assert_eq!((event.version(), event.payload()), (next, &next.to_le_bytes()[..]));
            next += 1;
        }
    }
    assert_eq!(next, THREADS * EACH);
    let writes = store.write_stats().batches;
    println!("{next} appends in {writes} writes, {} refusals", refusals.into_inner());
}
