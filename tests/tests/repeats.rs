//! Repeated appends: recognised by the ids of their events, wherever those are, and whatever is expected or has happened
//! meanwhile; and everything that brings an id again and is no repetition.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use fastrand::Rng;
use stratalog::disk::{Fault, FaultError, FaultPlan, MemoryDisk, OpKind};
use stratalog::limits::ID_AHEAD_MAX;
use stratalog::{
    AppendError, Durability, EventExists, EventId, Expect, IdDifference, NewEvent, Pending, Query,
    Receipt, Store, Timestamp,
};
use stratalog_tests::block_on::block_on;

fn open(disk: &MemoryDisk) -> Store {
    Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone())).unwrap()
}

/// An id that does not say when it was made.
fn id(number: u64) -> EventId {
    let mut bytes = [0xaa; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    EventId::from_bytes(bytes)
}

/// An id of version 7 that was made at this time.
fn id_at(time: SystemTime, number: u64) -> EventId {
    let millis = Timestamp::from(time).as_nanos() / 1_000_000;
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    (bytes[6], bytes[8]) = (0x70, 0x80);
    EventId::from_bytes(bytes)
}

fn event(id: EventId) -> NewEvent {
    NewEvent::bytes("noted", id.to_bytes()).id(id).tag("all")
}

fn events(numbers: impl IntoIterator<Item = u64>) -> Vec<NewEvent> {
    numbers.into_iter().map(|number| event(id(number))).collect()
}

fn exists(outcome: Result<Receipt, AppendError>) -> EventExists {
    match outcome {
        Err(AppendError::EventIdExists(exists)) => exists,
        other => panic!("{other:?}"),
    }
}

/// Fills some segments with what nobody looks for.
fn fill(store: &Store, segments: usize) {
    for _ in 0..segments * 8 {
        let large = NewEvent::bytes("filled", vec![7; 8_000]);
        store.append("filling", Expect::Any, [large]).wait().unwrap();
    }
}

#[test]
fn a_repeated_append_gives_its_receipt_whatever_it_expects_and_wherever_it_is() {
    let all = || Query::any().tags(["all"]);
    let disk = MemoryDisk::new();
    let mut store = open(&disk);
    let mut receipts = Vec::new();
    let append = |store: &Store, number: u64| {
        let stream = format!("s-{}", number % 4);
        let head = store.stream_head(&stream).unwrap();
        let expect = match number % 4 {
            0 => Expect::Any,
            1 => head.map_or(Expect::NoStream, Expect::Version),
            2 => head.map_or(Expect::Any, |_| Expect::Exists),
            _ => head.map_or(Expect::NoStream, |_| Expect::Any),
        };
        (stream, expect, events(3 * number..3 * number + 1 + number % 3))
    };
    let mut known = Vec::new();
    for number in 0..40 {
        let head = store.head();
        let (stream, expect, events) = append(&store, number);
        let receipt = store.append(&stream, expect, &events).fail_if(all(), head).wait().unwrap();
        assert!(!receipt.is_repeated());
        known.push((stream, expect, events, head));
        receipts.push(receipt);
        if number % 10 == 9 {
            fill(&store, 3);
        }
    }
    // Sealed, merged, rebuilt or still in memory; and after a close or a kill.
    for round in 0..4 {
        let head = store.head();
        for ((stream, expect, events, after), receipt) in known.iter().zip(&receipts) {
            let again = || store.append(stream, *expect, events);
            let outcomes = [
                again().wait(),
                block_on(again().into_future()),
                again().submit().and_then(Pending::wait),
                again().fail_if(all(), *after).wait(),
                again().fail_if_exists(all()).wait(),
                again().within(Duration::from_secs(50)).wait(),
            ];
            for outcome in outcomes {
                let repeated = outcome.unwrap();
                assert_eq!(repeated, *receipt);
                assert!(repeated.is_repeated());
                assert_eq!(repeated.durability(), Durability::Durable);
            }
        }
        assert_eq!(store.head(), head);
        let image = if round == 1 { disk.fork() } else { disk.clone() };
        store.close().unwrap();
        store = open(if round == 1 { &image } else { &disk });
        if round == 2 {
            for name in disk.file_names().iter().filter(|name| name.contains("run")) {
                disk.write_file(name, b"nothing");
            }
        }
    }
}

#[test]
fn what_brings_an_id_again_and_is_no_repetition_is_an_error_of_its_own() {
    let store = open(&MemoryDisk::new());
    store.append("a", Expect::Any, events(0..3)).wait().unwrap();
    store.append("b", Expect::Any, events(10..12)).wait().unwrap();
    store.append("a", Expect::Any, events(20..22)).wait().unwrap();
    let head = store.head();
    for filled in [false, true] {
        if filled {
            fill(&store, 4);
        }
        let head = if filled { store.head() } else { head };
        let try_append = |stream: &str, expect, events: Vec<NewEvent>| {
            let found = exists(store.append(stream, expect, events).wait());
            assert_eq!(store.head(), head, "{found}");
            let place = (found.stream().to_owned(), found.version(), found.position().get());
            let there = store.find(found.id()).unwrap().unwrap();
            let there = there.event();
            let at = (there.stream().to_owned(), there.version(), there.position().get());
            assert_eq!(place, at, "{found}");
            println!("{found}");
            found.difference()
        };
        let any = Expect::Any;
        let part = |present, of| IdDifference::Part { present, of };
        // Some of them, wherever they stand.
        assert_eq!(try_append("a", any, events(0..5)), part(3, 5));
        assert_eq!(try_append("a", any, events([40, 1])), part(1, 2));
        let with_none = vec![event(id(0)), NewEvent::bytes("noted", b"".as_slice())];
        assert_eq!(try_append("a", any, with_none), part(1, 2));
        // Another place.
        assert_eq!(try_append("a", any, events([1, 0])), IdDifference::Place);
        assert_eq!(try_append("a", any, events([0, 2])), IdDifference::Place);
        assert_eq!(try_append("a", any, events([2, 20])), IdDifference::Place);
        assert_eq!(try_append("a", Expect::NoStream, events(1..3)), IdDifference::Place);
        assert_eq!(try_append("a", Expect::Version(3), events(0..3)), IdDifference::Place);
        assert_eq!(try_append("a", Expect::Version(u64::MAX), events(0..3)), IdDifference::Place);
        // Another stream.
        assert_eq!(try_append("b", any, events(0..3)), IdDifference::Stream);
        assert_eq!(try_append("a", any, events([2, 10])), IdDifference::Stream);
        // Something else.
        let other = |event_type: &str, number| {
            vec![NewEvent::bytes(event_type, id(number).to_bytes()).id(id(0))]
        };
        assert_eq!(try_append("a", any, other("noted", 1)), IdDifference::Content);
        assert_eq!(try_append("a", any, other("seen", 0)), IdDifference::Content);
        let json = || NewEvent::json("j", &1).unwrap().id(id(if filled { 51 } else { 50 }));
        store.append("j", any, [json()]).wait().unwrap();
        let head = store.head();
        let bytes = NewEvent::bytes("j", json().payload()).id(id(if filled { 51 } else { 50 }));
        let found = exists(store.append("j", any, [bytes]).wait());
        assert_eq!((found.difference(), store.head()), (IdDifference::Content, head));
        // A part of what was appended at once is there as it says.
        for (expect, numbers, version) in [
            (Expect::NoStream, 0..2, 1),
            (Expect::Version(0), 1..3, 2),
            (Expect::Exists, 2..3, 2),
            (Expect::Version(2), 20..22, 4),
        ] {
            let receipt = store.append("a", expect, events(numbers)).wait().unwrap();
            assert!(receipt.is_repeated());
            assert_eq!(receipt.version(), version);
        }
        // Nothing else is compared: the tags may have been worked out from something else by now.
        let retagged = NewEvent::bytes("noted", id(0).to_bytes()).id(id(0)).metadata(*b"again");
        assert!(store.append("a", any, [retagged]).wait().unwrap().is_repeated());
    }
}

#[test]
fn an_id_twice_in_one_append_is_an_error_of_its_own() {
    let store = open(&MemoryDisk::new());
    let error = store.append("a", Expect::Any, events([1, 2, 1])).wait().unwrap_err();
    assert!(matches!(error, AppendError::IdTwice { id: twice } if twice == id(1)), "{error}");
    let transaction = store.transaction().append("a", Expect::Any, events([1]));
    let error = transaction.append("b", Expect::Any, events([1])).commit().wait().unwrap_err();
    assert!(matches!(error, AppendError::IdTwice { .. }), "{error}");
    assert_eq!(store.head().get(), 0);
}

#[test]
fn an_append_that_is_repeated_while_it_is_in_flight_is_waited_for() {
    let store = open(&MemoryDisk::new());
    for round in 0..50 {
        let again = || store.append("a", Expect::Any, events([2 * round, 2 * round + 1]));
        let first = again().within(Duration::from_secs(50)).wait().unwrap();
        assert_eq!(first.durability(), Durability::Accepted);
        let (one, other) = (again().submit().unwrap(), again().submit().unwrap());
        let repeated =
            if round % 2 == 0 { again().wait() } else { block_on(again().into_future()) };
        let repeated = repeated.unwrap();
        assert!(repeated.is_repeated());
        assert_eq!(repeated, first);
        assert_eq!(first.durability(), Durability::Durable);
        assert_eq!(one.wait().unwrap(), first);
        assert_eq!(block_on(other).unwrap(), first);
        // Among appends of others, all of which are on their way.
        let others = |stream: &str, from: u64| {
            (from..from + 20)
                .map(|number| {
                    let event = event(id(1_000_000 + round * 1_000 + number));
                    store.append(stream, Expect::Any, [event]).submit().unwrap()
                })
                .collect::<Vec<_>>()
        };
        let before = others("b", 0);
        let error = {
            let mut mixed = events([2 * round + 1]);
            mixed.push(event(id(1_000_000 + round * 1_000 + 19)));
            exists(store.append("b", Expect::Any, mixed).wait())
        };
        assert_eq!(error.difference(), IdDifference::Stream);
        for (number, pending) in before.into_iter().chain(others("b", 0)).enumerate() {
            assert_eq!(pending.wait().unwrap().is_repeated(), number >= 20);
        }
    }
}

#[test]
fn what_a_failed_disk_left_open_is_settled_by_the_same_ids() {
    let (mut there, mut lost) = (0, 0);
    for seed in 0..60 {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let before = store.append("a", Expect::NoStream, events(0..2)).wait().unwrap();
        let fault = match seed % 3 {
            0 => Fault::Fail(FaultError::Io),
            _ => Fault::FailTorn { error: FaultError::Io, seed },
        };
        disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "segment-", 0, 1, fault));
        let again = |store: &Store| store.append("a", Expect::Version(1), events(2..4));
        let accepted = again(&store).within(Duration::from_secs(50)).wait().unwrap();
        // The repetition waits for what nobody knows the outcome of.
        let error = again(&store).wait().unwrap_err();
        let AppendError::Unknown { event_ids, .. } = &error else { panic!("{error}") };
        assert_eq!(event_ids, &[id(2), id(3)]);
        assert!(matches!(accepted.durable().wait(), Err(AppendError::Unknown { .. })));
        // From then on nothing can be appended; what is durable is known.
        assert!(matches!(again(&store).wait(), Err(AppendError::Unknown { .. })));
        let new = store.append("a", Expect::Any, events(9..10)).wait();
        assert!(matches!(new, Err(AppendError::Poisoned(_))));
        let known = store.append("a", Expect::NoStream, events(0..2)).wait().unwrap();
        assert_eq!((known.is_repeated(), &known), (true, &before));
        drop(store);

        let store = open(&disk.fork());
        let settled = again(&store).wait().unwrap();
        if settled.is_repeated() {
            there += 1;
        } else {
            lost += 1;
        }
        assert_eq!((settled.first_position().get(), settled.version()), (3, 3));
        assert_eq!(again(&store).wait().unwrap(), settled);
        assert_eq!(store.head().get(), 4);
    }
    println!("{there} were there, {lost} were lost");
    assert!(there > 0 && lost > 0);
}

#[test]
fn ids_that_the_store_has_made_are_recognised_when_they_come_again() {
    let store = open(&MemoryDisk::new());
    let new = || NewEvent::bytes("noted", b"x".as_slice());
    let receipt = store.append("a", Expect::Any, [new(), new()]).wait().unwrap();
    fill(&store, 3);
    let again = receipt.event_ids().iter().map(|id| new().id(*id));
    assert_eq!(store.append("a", Expect::NoStream, again).wait().unwrap(), receipt);
}

#[test]
fn a_repeated_transaction_gives_its_receipt() {
    let disk = MemoryDisk::new();
    let mut store = open(&disk);
    store.append("a", Expect::Any, events([100])).wait().unwrap();
    let checkpoint = store.checkpoint("worker").unwrap().moved_to(1);
    let again = |store: &Store| {
        store
            .transaction()
            .append("a", Expect::Version(0), events(0..2))
            .checkpoint(&checkpoint)
            .append("b", Expect::NoStream, events(2..3))
            .append("a", Expect::Any, events(3..4))
            .expect("c", Expect::NoStream)
            .fail_if_exists(Query::any().tags(["none"]))
            .commit()
    };
    let accepted = store.transaction().append("c", Expect::Any, events([101]));
    let receipt = again(&store).wait().unwrap();
    assert!(!receipt.is_repeated());
    accepted.commit().wait().unwrap();
    for round in 0..3 {
        let repeated = again(&store).wait().unwrap();
        assert!(repeated.is_repeated());
        assert_eq!(repeated, receipt, "{round}");
        fill(&store, 3);
        store.close().unwrap();
        store = open(&disk);
    }
    // The checkpoint is a part of it.
    let other = store
        .transaction()
        .append("a", Expect::Version(0), events(0..2))
        .checkpoint(&store.checkpoint("other").unwrap().moved_to(1))
        .append("b", Expect::NoStream, events(2..3))
        .append("a", Expect::Any, events(3..4));
    let Err(AppendError::EventIdExists(found)) = other.commit().wait() else { panic!("other") };
    assert_eq!(found.difference(), IdDifference::Part { present: 4, of: 5 });
    assert_eq!(found.id(), id(0));
    let without = store.transaction().append("a", Expect::Version(0), events(0..2)).append(
        "b",
        Expect::NoStream,
        events(2..3),
    );
    let Err(AppendError::EventIdExists(found)) = without.commit().wait() else { panic!("without") };
    assert_eq!(found.difference(), IdDifference::Place);
    // An append of some of its events, which are next to each other.
    let part = store.append("b", Expect::Any, events(2..3)).wait().unwrap();
    assert_eq!((part.is_repeated(), part.first_position().get()), (true, 5));
}

/// All threads send all appends, each in its own order: each is there once, and all are told the same.
#[test]
fn an_append_that_many_threads_repeat_happens_once() {
    const UNITS: u64 = 400;
    for several_at_once in [false, true] {
        let disk = if several_at_once { MemoryDisk::with_queue(3) } else { MemoryDisk::new() };
        let store = open(&disk);
        let firsts: Vec<AtomicU64> = (0..UNITS).map(|_| AtomicU64::new(0)).collect();
        let new = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for seed in 0..4 {
                let (store, firsts, new) = (&store, &firsts, &new);
                scope.spawn(move || {
                    let mut random = Rng::with_seed(seed);
                    // Nearly in the same order, so that most are in flight.
                    let mut order: Vec<usize> = (0..firsts.len()).collect();
                    for at in 0..order.len() {
                        let other = (at + random.usize(0..8)).min(order.len() - 1);
                        order.swap(at, other);
                    }
                    for (first, unit) in order.into_iter().map(|unit| (&firsts[unit], unit as u64))
                    {
                        let events = events(4 * unit..4 * unit + 1 + unit % 4);
                        let append = store.append(&format!("s-{}", unit % 5), Expect::Any, events);
                        let receipt = if random.bool() { append.wait() } else { block_on(append) };
                        let receipt = receipt.unwrap();
                        new.fetch_add(u64::from(!receipt.is_repeated()), Ordering::Relaxed);
                        let position = receipt.first_position().get();
                        let told = first.swap(position, Ordering::Relaxed);
                        assert!(told == 0 || told == position, "{told}, {position}");
                    }
                });
            }
        });
        assert_eq!(new.into_inner(), UNITS);
        assert_eq!(store.head().get(), (0..UNITS).map(|unit| 1 + unit % 4).sum::<u64>());
    }
}

#[test]
fn large_appends_are_recognised_and_compared_among_many_at_once() {
    const EACH: u64 = 500;
    let disk = MemoryDisk::new();
    let store = Store::options().segment_bytes(1 << 20).open_on(Arc::new(disk)).unwrap();
    let large = |unit: u64| events(unit * EACH..(unit + 1) * EACH);
    let new: u64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    let units = (0..24).map(|unit| (unit + thread * 2) % 24);
                    let outcomes = units.map(|unit| {
                        store.append("large", Expect::Any, large(unit)).wait().unwrap()
                    });
                    outcomes.filter(|receipt| !receipt.is_repeated()).count() as u64
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(new, 24);
    assert_eq!(store.head().get(), 24 * EACH);
}

// --- ids that say when they were made, and how far back the others are looked for

#[test]
fn an_id_from_the_future_is_refused_and_one_from_the_past_found() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let now = SystemTime::now();
    let minute = Duration::from_mins(1);
    let ahead = id_at(now + ID_AHEAD_MAX + minute, 1);
    let error = store.append("a", Expect::Any, [event(ahead)]).wait().unwrap_err();
    let AppendError::IdAhead { id, ahead: by } = &error else { panic!("{error}") };
    assert_eq!(*id, ahead);
    assert!(*by > ID_AHEAD_MAX && *by < ID_AHEAD_MAX + 2 * minute, "{error}");
    println!("{error}");
    assert_eq!(store.head().get(), 0);
    let ids = [now, now + ID_AHEAD_MAX - minute, now - minute, SystemTime::UNIX_EPOCH];
    let ids: Vec<EventId> = (2..).zip(ids).map(|(number, time)| id_at(time, number)).collect();
    for id in &ids {
        store.append("a", Expect::Any, [event(*id)]).wait().unwrap();
    }
    fill(&store, 4);
    for id in &ids {
        assert!(store.append("a", Expect::Any, [event(*id)]).wait().unwrap().is_repeated());
    }
}

#[test]
fn other_ids_are_looked_for_as_far_back_as_the_option_says() {
    let disk = MemoryDisk::new();
    let options = Store::options().segment_bytes(64 << 10).id_lookback(Duration::from_millis(50));
    let store = options.open_on(Arc::new(disk.clone())).unwrap();
    let made = id_at(SystemTime::now(), 1);
    store.append("a", Expect::Any, events([1])).wait().unwrap();
    store.append("b", Expect::Any, [event(made)]).wait().unwrap();
    fill(&store, 4);
    std::thread::sleep(Duration::from_millis(60));
    store.append("c", Expect::Any, events([2])).wait().unwrap();
    let again = |stream: &str, event: NewEvent| {
        let receipt = store.append(stream, Expect::Any, [event]).wait().unwrap();
        receipt.is_repeated()
    };
    assert!(again("c", event(id(2))));
    assert!(again("b", event(made)), "one that says when it was made is found however old it is");
    assert!(!again("a", event(id(1))));
    assert!(again("a", event(id(1))), "it is there again");
    // One of both kinds is found as a whole.
    let mixed = [event(id(3)), event(id_at(SystemTime::now(), 4))];
    store.append("d", Expect::Any, &mixed).wait().unwrap();
    fill(&store, 4);
    std::thread::sleep(Duration::from_millis(60));
    assert!(store.append("d", Expect::Any, &mixed).wait().unwrap().is_repeated());
    drop(store);
    // Nothing is forgotten.
    let store = open(&disk);
    assert!(store.append("a", Expect::NoStream, events([1])).wait().is_err());
}
