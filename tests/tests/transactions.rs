//! Transactions: several streams, checks, conditions and a checkpoint, all or nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stratalog::disk::{Exploration, MemoryDisk};
use stratalog::limits::{CONDITIONS_MAX, TRANSACTION_STREAMS_MAX};
use stratalog::{
    AppendError, Checkpoint, Durability, Expect, FailedCheck, NewEvent, Position, Query, Store,
    StreamConflict,
};
use stratalog_tests::block_on::block_on;
use stratalog_tests::oracle::all;

fn open(disk: &MemoryDisk) -> Store {
    Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone())).unwrap()
}

fn event(text: &str) -> NewEvent {
    NewEvent::bytes("noted", text.as_bytes()).tag(format!("text:{text:.9}"))
}

/// Position, stream, version and payload of every event.
fn log(store: &Store) -> Vec<(u64, String, u64, String)> {
    all(store.read_all().forward())
        .unwrap()
        .into_iter()
        .map(|seen| {
            let text = String::from_utf8(seen.event.payload().to_vec()).unwrap();
            (seen.position, seen.stream, seen.version, text)
        })
        .collect()
}

fn entry(position: u64, stream: &str, version: u64, text: &str) -> (u64, String, u64, String) {
    (position, stream.to_owned(), version, text.to_owned())
}

#[test]
fn events_of_several_streams_are_in_the_log_in_the_order_given() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.append("a-1", Expect::Any, [event("before")]).wait().unwrap();
    let receipt = store
        .transaction()
        .append("a-1", Expect::Version(0), [event("1"), event("2")])
        .append("b", Expect::NoStream, [event("3")])
        .append("a-1", Expect::Any, [event("4")])
        .append("c", Expect::Any, [event("5")])
        .append("b", Expect::NoStream, [event("6")])
        .expect("d", Expect::NoStream)
        .commit()
        .wait()
        .unwrap();
    let expected = [
        entry(1, "a-1", 0, "before"),
        entry(2, "a-1", 1, "1"),
        entry(3, "a-1", 2, "2"),
        entry(4, "b", 0, "3"),
        entry(5, "a-1", 3, "4"),
        entry(6, "c", 0, "5"),
        entry(7, "b", 1, "6"),
    ];
    assert_eq!(log(&store), expected);
    let parts: Vec<_> = receipt
        .parts()
        .map(|part| (part.stream(), part.versions(), part.first_position().get()))
        .collect();
    assert_eq!(
        parts,
        [("a-1", 1..3, 2), ("b", 0..1, 4), ("a-1", 3..4, 5), ("c", 0..1, 6), ("b", 1..2, 7)]
    );
    assert_eq!(receipt.first_position(), Some(Position::from(2)));
    assert_eq!(receipt.position(), Some(Position::from(7)));
    assert_eq!(receipt.version("a-1"), Some(3));
    assert_eq!(receipt.version("d"), None);
    for (id, (position, stream, ..)) in receipt.event_ids().iter().zip(&expected[1..]) {
        let found = store.find(*id).unwrap().unwrap();
        assert_eq!(
            (found.event().position().get(), found.event().stream()),
            (*position, &**stream)
        );
    }
    let ids = receipt.parts().flat_map(|part| part.event_ids().to_vec());
    assert!(ids.eq(receipt.event_ids().iter().copied()));

    store.close().unwrap();
    assert_eq!(log(&open(&disk)), expected);
}

#[test]
fn streams_that_went_into_sealed_segments_are_found_by_a_transaction() {
    // More than are looked up at once.
    const STREAMS: usize = 600;
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let name = |stream: usize| format!("stream-{stream}");
    for round in 0..3 {
        // Each round fills several segments, and every stream is in one of them only.
        let large = "x".repeat(1_000);
        for stream in 0..STREAMS {
            store.append(&name(stream), Expect::Any, [event(&large)]).wait().unwrap();
        }
        store.flush().unwrap();
        let expect = (0..STREAMS).map(|stream| store.stream_head(&name(stream)).unwrap());
        let heads: Vec<u64> = expect.map(Option::unwrap).collect();
        let mut transaction = store.transaction();
        for (stream, head) in heads.iter().enumerate() {
            let (name, expect) = (name(stream), Expect::Version(*head));
            transaction = match stream % 4 {
                0 => transaction.append(&name, expect, [event("t")]),
                _ => transaction.expect(&name, expect),
            };
        }
        let receipt = transaction.commit().wait().unwrap();
        for (stream, head) in heads.iter().enumerate() {
            let expected = (stream % 4 == 0).then_some(head + 1);
            assert_eq!(receipt.version(&name(stream)), expected, "{round}");
        }
        let wrong = store.transaction().append("new", Expect::NoStream, [event("n")]);
        let wrong = (0..STREAMS).fold(wrong, |wrong, stream| {
            // All of those to which something was appended.
            wrong.expect(&name(stream), Expect::Version(heads[stream]))
        });
        let Err(AppendError::Conflict(conflict)) = wrong.commit().wait() else {
            panic!("no conflict")
        };
        let failed: Vec<&str> = conflict.streams().map(StreamConflict::stream).collect();
        let moved: Vec<String> = (0..STREAMS).filter(|stream| stream % 4 == 0).map(name).collect();
        assert_eq!(failed, moved);
    }
    assert_eq!(store.stream_head("new").unwrap(), None);
    assert!(store.verify(|_, _| {}).unwrap().is_clean());
}

#[test]
fn all_failed_checks_are_reported_and_nothing_of_it_happens() {
    let store = open(&MemoryDisk::new());
    for stream in ["a", "b"] {
        store.append(stream, Expect::Any, [event(stream)]).wait().unwrap();
    }
    let of = |text: &str| Query::any().tags([format!("text:{text}")]);
    let error = store
        .transaction()
        .append("a", Expect::NoStream, [event("1")])
        .append("b", Expect::Version(0), [event("2")])
        .expect("c", Expect::Exists)
        .append("d", Expect::Version(4), [event("3")])
        .fail_if(of("a"), 1)
        .fail_if(of("b"), 1)
        .fail_if_exists(of("c"))
        .commit()
        .wait()
        .unwrap_err();
    let AppendError::Conflict(conflict) = &error else { panic!("{error}") };
    let streams: Vec<_> =
        conflict.streams().map(|f| (f.stream(), f.expected(), f.actual())).collect();
    assert_eq!(
        streams,
        [
            ("a", Expect::NoStream, Some(0)),
            ("c", Expect::Exists, None),
            ("d", Expect::Version(4), None)
        ]
    );
    let conditions: Vec<_> =
        conflict.conditions().map(|f| (f.condition(), f.position().get())).collect();
    assert_eq!(conditions, [(1, 2)]);
    assert!(matches!(conflict.failed()[3], FailedCheck::Condition(_)));
    println!("{error}");
    assert_eq!(store.head().get(), 2);
    let error = store
        .transaction()
        .append("e", Expect::Any, [event("1")])
        .expect("a", Expect::NoStream)
        .fail_if_exists(of("b"))
        .commit()
        .wait()
        .unwrap_err();
    assert!(matches!(&error, AppendError::AlreadyThere(c) if c.failed().len() == 2), "{error}");
    assert_eq!(store.head().get(), 2);
}

#[test]
fn what_an_answer_is_based_on_is_durable_before_it_is_given() {
    let store = open(&MemoryDisk::new());
    let long = Duration::from_secs(50);
    store.append("a", Expect::Any, [event("a")]).within(long).wait().unwrap();
    // A transaction that only checks passes because of what is not durable yet.
    let checked = store.transaction().expect("a", Expect::Version(0)).expect("b", Expect::NoStream);
    let receipt = checked.commit().wait().unwrap();
    assert_eq!(store.head().get(), 1);
    assert_eq!((receipt.position(), receipt.event_ids().len()), (None, 0));
    assert_eq!(receipt.parts().count(), 0);

    store.append("b", Expect::Any, [event("b")]).within(long).wait().unwrap();
    let both = store.transaction().append("c", Expect::Any, [event("c")]);
    let both = both.expect("a", Expect::NoStream).expect("b", Expect::NoStream);
    let error = block_on(both.commit().into_future()).unwrap_err();
    assert!(matches!(&error, AppendError::Conflict(c) if c.failed().len() == 2), "{error}");
    assert_eq!(store.head().get(), 2);
    let only = store.transaction().fail_if(Query::any().types(["noted"]), 2).commit();
    assert!(only.wait().is_ok());
}

#[test]
fn every_way_to_wait_for_a_transaction_comes_to_the_same() {
    let store = open(&MemoryDisk::new());
    let begin = || {
        let begun = store.transaction().append("a", Expect::Any, [event("1")]);
        begun.append("b", Expect::Any, [event("2")])
    };
    let versions = |receipt: &stratalog::TransactionReceipt| {
        (receipt.version("a").unwrap(), receipt.version("b").unwrap())
    };
    assert_eq!(versions(&begin().commit().wait().unwrap()), (0, 0));
    assert_eq!(versions(&block_on(begin().commit().into_future()).unwrap()), (1, 1));
    let (one, other) = (begin().commit().submit().unwrap(), begin().commit().submit().unwrap());
    assert_eq!(versions(&block_on(other).unwrap()), (3, 3));
    assert_eq!(versions(&one.wait().unwrap()), (2, 2));
    let accepted = begin().within(Duration::from_secs(50)).commit().wait().unwrap();
    assert_eq!(accepted.durability(), Durability::Accepted);
    store.flush().unwrap();
    accepted.durable().wait().unwrap();
    assert_eq!((accepted.durability(), versions(&accepted)), (Durability::Durable, (4, 4)));
}

#[test]
fn whatever_is_wrong_with_a_transaction_is_an_error_of_its_own_and_nothing_is_appended() {
    let store = open(&MemoryDisk::new());
    let begin = || store.transaction().append("a", Expect::Any, [event("1")]);
    let error = begin().expect("a", Expect::NoStream).expect("a", Expect::Exists).commit();
    let error = error.wait().unwrap_err();
    let AppendError::Contradiction { stream, expected, also } = &error else { panic!("{error}") };
    assert_eq!((&**stream, *expected, *also), ("a", Expect::NoStream, Expect::Exists));
    println!("{error}");
    let versions = begin().append("b", Expect::Version(1), [event("2")]);
    let versions = versions.append("b", Expect::Version(2), [event("3")]);
    assert!(matches!(versions.commit().submit(), Err(AppendError::Contradiction { .. })));

    let empty = store.transaction().commit().wait();
    assert!(matches!(empty, Err(AppendError::EmptyTransaction)), "{empty:?}");
    let none: [NewEvent; 0] = [];
    let empty = begin().append("b", Expect::Any, none).commit().wait().unwrap_err();
    assert!(matches!(&empty, AppendError::Empty { stream } if &**stream == "b"), "{empty}");
    let reserved = begin().append("$checkpoint-a", Expect::Any, [event("1")]).commit().wait();
    assert!(matches!(reserved, Err(AppendError::Invalid(_))), "{reserved:?}");
    let after = begin().fail_if(Query::all(), 1).commit().wait();
    assert!(matches!(after, Err(AppendError::AfterHead { condition: 0, .. })), "{after:?}");
    let query = begin().fail_if_exists(Query::any().tags([""])).commit().wait();
    assert!(matches!(query, Err(AppendError::Query { condition: 0, .. })), "{query:?}");
    let many = (0..=CONDITIONS_MAX).fold(begin(), |begun, _| begun.fail_if(Query::all(), 0));
    let many = many.commit().wait();
    assert!(matches!(many, Err(AppendError::TooManyConditions)), "{many:?}");
    let nameless = begin().expect("", Expect::Any).commit().wait();
    assert!(matches!(nameless, Err(AppendError::Invalid(_))), "{nameless:?}");

    let with = |streams: usize| {
        (0..streams).fold(store.transaction(), |transaction, stream| {
            transaction.expect(&format!("s-{stream}"), Expect::NoStream)
        })
    };
    let many = with(TRANSACTION_STREAMS_MAX + 1).commit().wait();
    assert!(matches!(many, Err(AppendError::TooManyStreams)), "{many:?}");
    assert!(with(TRANSACTION_STREAMS_MAX).commit().wait().is_ok());

    // What is too much for one append is too much for a transaction.
    let part = || [NewEvent::bytes("noted", vec![0; 10_000])];
    let many = store.transaction().append("a", Expect::Any, part());
    let many = many.append("b", Expect::Any, part()).commit().wait().unwrap_err();
    assert!(matches!(&many, AppendError::TooLarge { stream, .. } if &**stream == "b"), "{many}");

    assert_eq!(store.head().get(), 0);
    drop(begin().commit());
    assert_eq!(store.head().get(), 0);
    assert_eq!(begin().commit().wait().unwrap().version("a"), Some(0));
}

#[test]
fn a_transaction_survives_a_crash_whole_or_not_at_all() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.append("a", Expect::Any, [event("before")]).wait().unwrap();
    disk.start_recording();
    let mut acknowledged = 1;
    for unit in 1..=4_u64 {
        let large = "x".repeat(3_000);
        let transaction =
            store.transaction().append("a", Expect::Version(2 * unit - 2), [event("1")]);
        let transaction = transaction.append("b", Expect::Any, [event(&large), event("2")]);
        let transaction = transaction.append("a", Expect::Any, [event("3")]);
        acknowledged += transaction.commit().wait().unwrap().event_ids().len() as u64;
        disk.mark(acknowledged);
    }
    let trace = disk.trace();
    let (mut states, mut seen) = (0, std::collections::BTreeSet::new());
    for point in trace.crash_points() {
        for state in point.states(&Exploration::quick()) {
            if !seen.insert((state.fingerprint(), state.marks().to_vec())) {
                continue;
            }
            let store = open(&state.disk());
            let head = store.head().get();
            let known = state.marks().last().copied().unwrap_or(1);
            assert!(head >= known, "{head} after {known} at {point}");
            assert_eq!(head % 4, 1, "a part of a transaction at {point}");
            let units = (head - 1) / 4;
            assert_eq!(store.stream_head("a").unwrap(), Some(2 * units));
            assert_eq!(store.stream_head("b").unwrap(), (2 * units).checked_sub(1));
            states += 1;
        }
    }
    println!("{states} states");
    assert!(states > 20, "{states}");
}

// --- checkpoints

fn position(checkpoint: &Checkpoint) -> u64 {
    checkpoint.position().get()
}

#[test]
fn a_checkpoint_is_kept_and_moves_with_what_it_stands_for() {
    let disk = MemoryDisk::new();
    let mut store = open(&disk);
    let first = store.checkpoint("mailer").unwrap();
    assert_eq!((first.consumer(), position(&first)), ("mailer", 0));
    store.append("a", Expect::Any, [event("1"), event("2"), event("3")]).wait().unwrap();
    let mut checkpoint = first.clone();
    for upto in [2, 3, 1, 3] {
        let moved = checkpoint.moved_to(upto);
        let transaction = store.transaction().append("sent", Expect::Any, [event("sent")]);
        transaction.checkpoint(&moved).commit().wait().unwrap();
        assert_eq!(store.checkpoint("mailer").unwrap(), moved);
        checkpoint = moved;
        store.close().unwrap();
        store = open(&disk);
        assert_eq!(store.checkpoint("mailer").unwrap(), checkpoint);
    }
    // Somebody else had read it before.
    let late = store.transaction().append("sent", Expect::Any, [event("twice")]);
    let error = late.checkpoint(&first.moved_to(3)).commit().wait().unwrap_err();
    assert!(matches!(error, AppendError::Conflict(_)), "{error}");
    assert_eq!(store.stream_head("sent").unwrap(), Some(3));
    assert_eq!(position(&store.checkpoint("other").unwrap()), 0);
    let streams: Vec<_> = store.streams("$checkpoint").map(Result::unwrap).collect();
    assert_eq!(streams, [Box::from("$checkpoint-mailer")]);
}

#[test]
fn whatever_is_wrong_with_a_checkpoint_is_an_error_of_its_own() {
    let store = open(&MemoryDisk::new());
    store.append("a", Expect::Any, [event("1")]).wait().unwrap();
    let first = store.checkpoint("mailer").unwrap();
    let commit =
        |checkpoint: &Checkpoint| store.transaction().checkpoint(checkpoint).commit().wait();
    let error = commit(&first.moved_to(2)).unwrap_err();
    let AppendError::CheckpointAfterHead { consumer, position, head } = &error else {
        panic!("{error}")
    };
    assert_eq!((&**consumer, position.get(), head.get()), ("mailer", 2, 1));
    let error = commit(&first).unwrap_err();
    assert!(matches!(error, AppendError::CheckpointNotMoved { .. }), "{error}");
    let (one, other) = (first.moved_to(1), first.moved_to(0));
    let twice = store.transaction().checkpoint(&one).checkpoint(&other).commit().wait();
    assert!(matches!(twice, Err(AppendError::CheckpointTwice { .. })), "{twice:?}");
    // What has no room for it is refused as ever.
    let mut bytes = 16_300;
    let full = loop {
        let large = NewEvent::bytes("noted", vec![0; bytes]);
        let full = store.transaction().append("full", Expect::Any, [large]).checkpoint(&one);
        match full.commit().submit() {
            Ok(_) => break bytes,
            Err(AppendError::TooLarge { .. }) => bytes -= 1,
            Err(other) => panic!("{other}"),
        }
    };
    assert!((15_000..16_300).contains(&full), "{full}");
    store.flush().unwrap();
    assert_eq!(store.stream_head("full").unwrap(), Some(0));
    assert!(store.checkpoint("").is_err());
    assert!(store.checkpoint(&"x".repeat(244)).is_ok());
    assert!(store.checkpoint(&"x".repeat(245)).is_err());
    assert_eq!(store.head().get(), 3);
    commit(&one.moved_to(1)).unwrap();
}

/// Several runners of the same consumer, which die and begin again at random: each event is dealt with once.
#[test]
fn each_event_is_dealt_with_once_however_many_consumers_run_and_die() {
    const EVENTS: u64 = 250;
    let mut disk = MemoryDisk::new();
    let store = open(&disk);
    for number in 0..EVENTS {
        let work = NewEvent::bytes("work", number.to_string());
        store.append("work", Expect::Any, [work]).wait().unwrap();
    }
    store.close().unwrap();
    let (conflicts, mut random) = (AtomicU64::new(0), fastrand::Rng::with_seed(5));
    loop {
        let store = open(&disk);
        let done = position(&store.checkpoint("worker").unwrap()) >= EVENTS;
        if done {
            break;
        }
        let image = std::thread::scope(|scope| {
            for seed in 0..3 {
                let (store, conflicts) = (&store, &conflicts);
                scope.spawn(move || run_consumer(store, seed, conflicts));
            }
            std::thread::sleep(Duration::from_micros(random.u64(0..3_000)));
            // As it is at this moment: the process is killed.
            disk.fork()
        });
        drop(store);
        disk = image;
    }
    let store = open(&disk);
    let done: Vec<String> =
        log(&store).into_iter().filter(|e| e.1 == "done").map(|e| e.3).collect();
    assert!(done.iter().map(|text| text.parse::<u64>().unwrap()).eq(0..EVENTS), "{done:?}");
    println!("{} conflicts", conflicts.into_inner());
}

fn run_consumer(store: &Store, seed: u64, conflicts: &AtomicU64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut checkpoint = store.checkpoint("worker").unwrap();
    let mut reader = store.read_stream("work").from(position(&checkpoint)).forward();
    while let Some(batch) = reader.next_batch().unwrap() {
        for work in &batch {
            if random.u8(0..40) == 0 {
                return;
            }
            let moved = checkpoint.moved_to(work.position());
            let done = NewEvent::bytes("done", work.payload()).caused_by(work);
            let transaction = store.transaction().append("done", Expect::Any, [done]);
            match transaction.checkpoint(&moved).commit().wait() {
                Ok(_) => checkpoint = moved,
                Err(AppendError::Conflict(_)) => {
                    conflicts.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}
