//! Several subscriptions of one store: beside appends from several threads, one that falls behind, those that come and go,
//! and what is told of each.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use fastrand::Rng;
use stratalog::disk::MemoryDisk;
use stratalog::{Message, Query, Store, SubscribeError};
use stratalog_tests::oracle::all;
use stratalog_tests::questions::{Model, Question};
use stratalog_tests::subscriptions::{
    PATIENCE, Received, append_plain, append_some, open, segments,
};
use stratalog_tests::{seed, watchdog};

#[test]
fn all_followers_receive_everything_beside_appends() {
    let name = "all_followers_receive_everything_beside_appends";
    watchdog::within(PATIENCE, name, || {
        let mut random = Rng::with_seed(seed::seed(1));
        let store = open(&MemoryDisk::new());
        append_some(&store, &mut random, 300);
        let after: Vec<u64> = (0..12).map(|_| random.u64(0..=300)).collect();
        let followers: Vec<_> = after
            .iter()
            .map(|after| {
                let mut subscription = store.subscribe().after(*after).start().unwrap();
                std::thread::spawn(move || {
                    let mut received = Received::default();
                    received.take_all(&mut subscription);
                    received
                })
            })
            .collect();
        let appenders: Vec<_> = (0..3)
            .map(|_| {
                let (store, mut random) = (store.clone(), random.fork());
                std::thread::spawn(move || append_some(&store, &mut random, 400))
            })
            .collect();
        for appender in appenders {
            appender.join().unwrap();
        }
        let events = all(store.read_all().forward()).unwrap();
        store.close().unwrap();
        for (follower, after) in followers.into_iter().zip(after) {
            let received = follower.join().unwrap();
            let after = usize::try_from(after).unwrap();
            assert!(received.events == events[after..], "one that began behind {after}");
            assert_eq!(received.caught_up.len(), 1);
        }
    });
}

#[test]
fn all_filters_hold_beside_appends() {
    let name = "all_filters_hold_beside_appends";
    watchdog::within(PATIENCE, name, || {
        let first = seed::seed(1);
        for seed in first..first + 6 {
            println!("repeat with: {}", seed::replay("subscriptions_many", name, seed));
            let mut random = Rng::with_seed(seed);
            let store = open(&MemoryDisk::new());
            append_some(&store, &mut random, 300);
            let mut model = model_of(&store);
            let questions: Vec<_> = (0..10)
                .map(|_| {
                    let items = Question::random(&mut random, &model).items;
                    Question { items, ..Question::default() }
                })
                .collect();
            let followers: Vec<_> = questions
                .iter()
                .map(|question| {
                    let mut live = store.subscribe().filter(question.query()).start().unwrap();
                    std::thread::spawn(move || {
                        let mut received = Received::default();
                        received.take_all(&mut live);
                        received
                    })
                })
                .collect();
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    let (store, mut random) = (&store, random.fork());
                    scope.spawn(move || append_some(store, &mut random, 400));
                }
            });
            model = model_of(&store);
            store.close().unwrap();
            for (follower, question) in followers.into_iter().zip(&questions) {
                let received = follower.join().unwrap();
                assert_eq!(received.positions(), model.answer(question), "{question:?}");
                received.events.iter().for_each(|seen| model.compare(seen));
            }
        }
    });
}

/// What a store holds, as it is read.
fn model_of(store: &Store) -> Model {
    let mut model = Model::default();
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch().unwrap() {
        batch.iter().for_each(|event| model.follow(event));
    }
    model
}

#[test]
fn one_that_is_slow_falls_behind_and_comes_back_and_holds_up_nobody() {
    let name = "one_that_is_slow_falls_behind_and_comes_back_and_holds_up_nobody";
    watchdog::within(PATIENCE, name, || {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        append_plain(&store, "a-1", 50);
        let start = || store.subscribe().falls_behind(100).start().unwrap();
        let mut quick: Vec<_> = (0..3).map(|_| (start(), Received::default())).collect();
        let (mut slow, mut received) = (start(), Received::default());
        let (went_on, may_go_on) = channel();
        let (told, is_caught_up) = channel();
        let slow = std::thread::spawn(move || {
            received.catch_up(&mut slow);
            told.send(()).unwrap();
            // Everything that follows comes while this waits.
            let () = may_go_on.recv().unwrap();
            received.catch_up(&mut slow);
            (slow, received)
        });
        is_caught_up.recv().unwrap();
        for (subscription, received) in &mut quick {
            received.catch_up(subscription);
        }
        for _ in 0..60 {
            append_plain(&store, "a-1", 80);
            for (subscription, received) in &mut quick {
                let before = received.events.len();
                while received.events.len() < before + 80 {
                    received.take(&subscription.recv().unwrap());
                }
                assert_eq!(received.fell_behind, [0; 0]);
            }
        }
        let head = store.head().get();
        assert_eq!(head, 50 + 60 * 80);
        assert!(segments(&disk) > 4, "{:?}", disk.file_names());
        went_on.send(()).unwrap();
        let (mut slow, mut received) = slow.join().unwrap();
        assert_eq!(received.fell_behind, [head - 50]);
        assert_eq!(received.caught_up, [50, head]);
        assert!(received.positions().into_iter().eq(1..=head));
        // It is as quick as the others again.
        append_plain(&store, "a-1", 1);
        received.take(&slow.recv().unwrap());
        assert_eq!((received.position(), received.fell_behind.len()), (head + 1, 1));
    });
}

#[test]
fn falling_behind_is_told_of_more_events_than_the_bound_and_with_the_age_of_the_first() {
    let store = open(&MemoryDisk::new());
    // Those count that do not match, too.
    for filter in [Query::all(), Query::any().stream("b-1")] {
        let subscribe = store.subscribe().after(store.head()).filter(filter.clone());
        let mut subscription = subscribe.falls_behind(10).start().unwrap();
        Received::default().catch_up(&mut subscription);
        append_plain(&store, "a-1", 10);
        let first = subscription.try_recv().unwrap();
        assert!(!matches!(first, Some(Message::FellBehind { .. })), "{first:?}");
        while subscription.try_recv().unwrap().is_some() {}
        append_plain(&store, "a-1", 11);
        std::thread::sleep(Duration::from_millis(3));
        match subscription.recv().unwrap() {
            Message::FellBehind { events, time } => {
                assert_eq!(events, 11);
                assert!(time >= Duration::from_millis(3) && time < PATIENCE, "{time:?}");
            }
            other => panic!("{other:?}"),
        }
        // It is told once, and nothing is missing.
        append_plain(&store, "a-1", 15);
        let head = store.head().get();
        let mut received = Received::default();
        received.catch_up(&mut subscription);
        assert_eq!(received.caught_up, [head]);
        let expected = if filter == Query::all() { 26 } else { 0 };
        assert_eq!(received.events.len(), expected);
    }
}

#[test]
fn one_that_was_never_caught_up_has_not_fallen_behind() {
    let store = open(&MemoryDisk::new());
    append_plain(&store, "a-1", 2_000);
    let mut subscription = store.subscribe().falls_behind(0).start().unwrap();
    let mut received = Received::default();
    for _ in 0..3 {
        received.take(&subscription.recv().unwrap());
        append_plain(&store, "a-1", 50);
    }
    received.catch_up(&mut subscription);
    assert_eq!((received.fell_behind.len(), received.position()), (0, 2_150));
    // No bound is below one event.
    append_plain(&store, "a-1", 1);
    received.take(&subscription.recv().unwrap());
    assert_eq!(received.position(), 2_151);
}

#[test]
fn consumers_are_listed_with_how_far_they_are_for_as_long_as_there_are_any() {
    let store = open(&MemoryDisk::new());
    append_plain(&store, "a-1", 100);
    let mut first = store.subscribe().name("mail").start().unwrap();
    let second = store.subscribe().after(40).start().unwrap();
    std::thread::sleep(Duration::from_millis(2));
    let [mail, unnamed] = &store.consumers()[..] else { panic!("not two") };
    assert_eq!(
        (&*mail.name, mail.lane, mail.position.get(), mail.lag_events),
        ("mail", None, 0, 100)
    );
    assert_eq!((&*unnamed.name, unnamed.position.get(), unnamed.lag_events), ("", 40, 60));
    let lag = mail.lag.unwrap();
    assert!(lag >= Duration::from_millis(2) && lag < PATIENCE, "{mail:?}");
    assert_eq!((mail.events, mail.nanos_per_event.to_bits()), (0, 0));
    // What was received is behind it once it asks for more.
    let Ok(Message::Events(batch)) = first.recv() else { panic!("no events") };
    let events = batch.len() as u64;
    assert_eq!(first.stats().events, 0);
    std::thread::sleep(Duration::from_millis(events / 10));
    assert!(matches!(first.recv(), Ok(Message::CaughtUp(_))));
    drop(second);
    let [mail] = &store.consumers()[..] else { panic!("not one") };
    assert_eq!((mail.position.get(), mail.lag_events, mail.lag), (100, 0, Some(Duration::ZERO)));
    assert_eq!((events, mail.events), (100, 100));
    // A tenth of a millisecond for each at least, and no more than the test has taken.
    assert!(mail.nanos_per_event >= 100_000.0, "{mail:?}");
    assert!(mail.nanos_per_event < 1e9 * PATIENCE.as_secs_f64() / 100.0, "{mail:?}");
    assert_eq!(*mail, first.stats());
    append_plain(&store, "a-1", 7);
    assert_eq!(first.stats().lag_events, 7);
    drop(first);
    assert_eq!(store.consumers(), []);
}

#[test]
fn those_that_come_and_go_beside_appends_leave_nothing_behind() {
    let name = "those_that_come_and_go_beside_appends_leave_nothing_behind";
    watchdog::within(PATIENCE, name, || {
        let mut random = Rng::with_seed(seed::seed(1));
        let (disk, is_over) = (Arc::new(MemoryDisk::new()), AtomicBool::new(false));
        let store = Store::options().segment_bytes(64 << 10).open_on(disk.clone()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (store, is_over, mut random) = (&store, &is_over, random.fork());
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        let after = random.u64(0..=store.head().get());
                        let mut subscription = store.subscribe().after(after).start().unwrap();
                        // It is dropped in the middle of a batch, or after it has slept.
                        let mut kept = None;
                        for _ in 0..random.u8(0..8) {
                            let timeout = Duration::from_micros(random.u64(0..300));
                            kept = subscription.recv_timeout(timeout).unwrap();
                        }
                        drop(subscription);
                        if let Some(Message::Events(batch)) = kept {
                            let first = batch.get(0).unwrap().position().get();
                            let positions = batch.iter().map(|event| event.position().get());
                            assert!(positions.eq(first..first + batch.len() as u64));
                        }
                    }
                });
            }
            let mut last = store.subscribe().start().unwrap();
            append_some(&store, &mut random, 2_500);
            is_over.store(true, Ordering::Relaxed);
            let mut received = Received::default();
            received.catch_up(&mut last);
            assert_eq!(received.events.len() as u64, store.head().get());
        });
        assert_eq!(store.consumers(), []);
        store.close().unwrap();
        assert_eq!(Arc::strong_count(&disk), 1, "something of the store is left");
    });
}

#[test]
fn a_slow_one_that_falls_behind_again_and_again_receives_everything() {
    let name = "a_slow_one_that_falls_behind_again_and_again_receives_everything";
    watchdog::within(PATIENCE, name, || {
        let mut random = Rng::with_seed(seed::seed(1));
        let store = open(&MemoryDisk::new());
        let mut subscription = store.subscribe().falls_behind(5).start().unwrap();
        let slow = std::thread::spawn(move || {
            let mut received = Received::default();
            loop {
                match subscription.recv() {
                    Ok(message) => received.take(&message),
                    Err(SubscribeError::Closed) => return received,
                    Err(error) => panic!("{error}"),
                }
                // Long enough for some appends.
                std::thread::sleep(Duration::from_micros(500));
            }
        });
        for _ in 0..30 {
            append_some(&store, &mut random, 60);
            std::thread::sleep(Duration::from_micros(random.u64(0..3_000)));
        }
        let head = store.head().get();
        store.close().unwrap();
        let received = slow.join().unwrap();
        assert!(received.positions().into_iter().eq(1..=head));
        assert_eq!(received.caught_up.len(), received.fell_behind.len() + 1);
        println!("fell behind {} times", received.fell_behind.len());
    });
}
