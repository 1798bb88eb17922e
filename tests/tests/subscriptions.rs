//! One subscription: catching up and following, filters, where it begins, how it waits and how it ends. Several of one
//! store are in `subscriptions_many.rs`, tasks and streams in `subscriptions_async.rs`, memory and damage in
//! `subscriptions_segments.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::time::{ClockId, clock_gettime};
use stratalog::disk::MemoryDisk;
use stratalog::{Expect, Message, NewEvent, Query, SubscribeError, Subscription};
use stratalog_tests::oracle::all;
use stratalog_tests::questions::{Item, Model, Question};
use stratalog_tests::subscriptions::{
    PATIENCE, Received, append_noted, append_plain, append_some, open, segments,
};
use stratalog_tests::{seed, watchdog};

/// Runs a test with some seeds, each of which is printed, so that the last is that of a failure.
fn with_seeds(test: &'static str, seeds: u64, run: impl Fn(&mut Rng) + Send + 'static) {
    watchdog::within(PATIENCE, test, move || {
        let first = seed::seed(1);
        for seed in first..first + seeds {
            println!("repeat with: {}", seed::replay("subscriptions", test, seed));
            run(&mut Rng::with_seed(seed));
        }
    });
}

#[test]
fn whoever_follows_beside_appends_receives_every_event_once_and_in_order() {
    let name = "whoever_follows_beside_appends_receives_every_event_once_and_in_order";
    with_seeds(name, 6, |random| {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        append_some(&store, random, 400);
        let mut subscription = store.subscribe().start().unwrap();
        let (received, before) = std::thread::scope(|scope| {
            let follower = scope.spawn(move || {
                let mut received = Received::default();
                received.take_all(&mut subscription);
                received
            });
            let appenders: Vec<_> = (0..3)
                .map(|_| {
                    let (store, mut random) = (store.clone(), random.fork());
                    scope.spawn(move || append_some(&store, &mut random, 600))
                })
                .collect();
            for appender in appenders {
                appender.join().unwrap();
            }
            let before = all(store.read_all().forward()).unwrap();
            store.close().unwrap();
            (follower.join().unwrap(), before)
        });
        assert!(segments(&disk) > 4, "{:?}", disk.file_names());
        assert!(received.positions().into_iter().eq(1..=before.len() as u64));
        assert!(received.events == before);
        let [caught_up] = received.caught_up[..] else { panic!("{:?}", received.caught_up) };
        assert!((400..=before.len() as u64).contains(&caught_up), "{caught_up}");
        assert_eq!(received.fell_behind, [0; 0]);
    });
}

#[test]
fn being_caught_up_is_told_at_the_position_up_to_which_everything_was_received() {
    with_seeds(
        "being_caught_up_is_told_at_the_position_up_to_which_everything_was_received",
        4,
        |random| {
            let store = open(&MemoryDisk::new());
            let appender = {
                let (store, mut random) = (store.clone(), random.fork());
                std::thread::spawn(move || append_some(&store, &mut random, 1_500))
            };
            // As often as it is possible beside the appends.
            while !appender.is_finished() {
                let mut subscription = store.subscribe().start().unwrap();
                let mut received = Received::default();
                received.catch_up(&mut subscription);
                assert_eq!(received.caught_up, [received.events.len() as u64]);
                assert_eq!(subscription.position().get(), received.caught_up[0]);
            }
            appender.join().unwrap();
        },
    );
}

#[test]
fn a_subscription_begins_behind_any_position() {
    with_seeds("a_subscription_begins_behind_any_position", 2, |random| {
        let store = open(&MemoryDisk::new());
        append_some(&store, random, 900);
        let events = all(store.read_all().forward()).unwrap();
        let head = events.len();
        for after in [0, 1, head - 1, head].into_iter().chain((0..20).map(|_| random.usize(..head)))
        {
            let mut subscription = store.subscribe().after(after as u64).start().unwrap();
            assert_eq!(subscription.position().get(), after as u64);
            let mut received = Received::default();
            received.catch_up(&mut subscription);
            assert!(received.events == events[after..], "after {after}");
            assert_eq!(received.caught_up, [head as u64], "after {after}");
        }
    });
}

#[test]
fn one_that_begins_behind_the_head_receives_what_comes() {
    let store = open(&MemoryDisk::new());
    append_plain(&store, "a-1", 3);
    let mut subscription = store.subscribe().after(store.head()).start().unwrap();
    assert!(matches!(subscription.try_recv(), Ok(Some(Message::CaughtUp(at))) if at.get() == 3));
    assert!(matches!(subscription.try_recv(), Ok(None)));
    append_plain(&store, "a-1", 2);
    let Ok(Some(Message::Events(batch))) = subscription.try_recv() else { panic!("no events") };
    assert!(batch.iter().map(|event| event.position().get()).eq(4..=5));
    // It is being handled.
    assert_eq!(subscription.position().get(), 3);
    assert!(matches!(subscription.try_recv(), Ok(None)));
    assert_eq!(subscription.position().get(), 5);
}

#[test]
fn an_empty_store_is_caught_up_with_at_once() {
    let store = open(&MemoryDisk::new());
    let mut subscription = store.subscribe().start().unwrap();
    assert!(matches!(subscription.recv(), Ok(Message::CaughtUp(at)) if at.get() == 0));
    assert!(matches!(subscription.try_recv(), Ok(None)));
}

#[test]
fn a_beginning_past_the_head_is_an_error_and_changes_nothing() {
    let store = open(&MemoryDisk::new());
    append_plain(&store, "a-1", 3);
    for after in [4, u64::MAX] {
        match store.subscribe().after(after).name("early").start() {
            Err(SubscribeError::PastHead { after: told, head }) => {
                assert_eq!((told.get(), head.get()), (after, 3));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.consumers(), []);
    append_plain(&store, "a-1", 1);
    store.subscribe().after(4).start().unwrap();
}

#[test]
fn a_filter_that_is_none_is_an_error_at_the_start() {
    let store = open(&MemoryDisk::new());
    for wrong in [Query::any().types([""]), Query::any().tags(["a\nb"]), Query::any().stream("")] {
        let started = store.subscribe().filter(wrong).start();
        assert!(matches!(started, Err(SubscribeError::Query(_))), "{started:?}");
    }
    assert_eq!(store.consumers(), []);
}

/// Questions of each kind, and some of any shape.
fn questions(random: &mut Rng, model: &Model) -> Vec<Question> {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let stream = Item { stream: Some("order-1".into()), ..Item::default() };
    let category = Item { category: Some("seat".into()), ..Item::default() };
    let types = Item { types: names(&["freed", "paid"]), ..Item::default() };
    let tag = Item { tags: names(&["seat:2"]), ..Item::default() };
    let both = Item { types: names(&["taken"]), tags: names(&["all"]), ..Item::default() };
    let none = Item { tags: names(&["absent"]), ..Item::default() };
    let several = Question {
        items: Some(vec![stream.clone(), tag.clone(), both.clone()]),
        ..Question::default()
    };
    let nothing = Question { items: Some(Vec::new()), ..Question::default() };
    let single = [stream, category, types, tag, both, none].map(Question::of);
    let mut questions: Vec<_> = single.into_iter().chain([several, nothing]).collect();
    questions.extend((0..12).map(|_| Question {
        items: Question::random(random, model).items,
        after: random.bool().then(|| random.u64(0..=model.head())),
        ..Question::default()
    }));
    questions
}

#[test]
fn a_filter_gives_what_a_look_through_everything_gives() {
    with_seeds("a_filter_gives_what_a_look_through_everything_gives", 3, |random| {
        let disk = MemoryDisk::new();
        let (store, mut model) = (open(&disk), Model::default());
        append_noted(&store, &mut model, random, 900);
        let questions = questions(random, &model);
        let mut followers: Vec<_> = questions
            .iter()
            .map(|question| {
                let subscribe = store.subscribe().after(question.after.unwrap_or(0));
                let subscription = subscribe.filter(question.query()).start().unwrap();
                (question, subscription, Received::default())
            })
            .collect();
        for (question, subscription, received) in &mut followers {
            received.catch_up(subscription);
            assert_eq!(received.positions(), model.answer(question), "{question:?}");
            // Also where nothing matches.
            assert_eq!(received.caught_up, [model.head()], "{question:?}");
            assert_eq!(subscription.position().get(), model.head(), "{question:?}");
        }
        // Now live, over the ends of some segments, with looks at any moment.
        for _ in 0..40 {
            append_noted(&store, &mut model, random, 20);
            for (_, subscription, received) in &mut followers {
                for _ in 0..random.usize(0..3) {
                    if let Some(message) = subscription.try_recv().unwrap() {
                        received.take(&message);
                    }
                }
            }
        }
        assert!(segments(&disk) > 4, "{:?}", disk.file_names());
        store.close().unwrap();
        for (question, mut subscription, mut received) in followers {
            received.take_all(&mut subscription);
            assert_eq!(received.positions(), model.answer(question), "{question:?}");
            received.events.iter().for_each(|seen| model.compare(seen));
            assert_eq!(subscription.position().get(), model.head(), "{question:?}");
        }
    });
}

#[test]
fn the_position_moves_over_what_does_not_match() {
    let store = open(&MemoryDisk::new());
    append_plain(&store, "a-1", 10);
    let filter = Query::any().stream("b-1");
    let mut subscription = store.subscribe().filter(filter).start().unwrap();
    assert!(matches!(subscription.recv(), Ok(Message::CaughtUp(at)) if at.get() == 10));
    for round in 1..=5 {
        append_plain(&store, "a-1", 700);
        let nothing = subscription.recv_timeout(Duration::from_millis(5)).unwrap();
        assert!(nothing.is_none(), "{nothing:?}");
        assert_eq!(subscription.position().get(), 10 + round * 700);
    }
    append_plain(&store, "b-1", 1);
    let Ok(Message::Events(batch)) = subscription.recv() else { panic!("no events") };
    assert_eq!(batch.len(), 1);
}

#[test]
fn what_is_durable_is_received_before_the_end_and_then_always_the_end() {
    for is_told in [false, true] {
        let store = open(&MemoryDisk::new());
        append_plain(&store, "a-1", 900);
        let (mut subscription, mut received) =
            (store.subscribe().start().unwrap(), Received::default());
        if is_told {
            received.catch_up(&mut subscription);
            append_plain(&store, "a-1", 900);
        }
        let head = store.head().get();
        store.close().unwrap();
        received.take_all(&mut subscription);
        assert!(received.positions().into_iter().eq(1..=head));
        assert_eq!(received.caught_up.len(), 1);
        assert_eq!(subscription.position().get(), head);
        for _ in 0..3 {
            assert!(matches!(subscription.recv(), Err(SubscribeError::Closed)));
            assert!(matches!(subscription.try_recv(), Err(SubscribeError::Closed)));
            let waited = subscription.recv_timeout(Duration::from_mins(10));
            assert!(matches!(waited, Err(SubscribeError::Closed)), "{waited:?}");
        }
    }
}

#[test]
fn what_is_written_by_the_close_itself_is_received_before_the_end() {
    let name = "what_is_written_by_the_close_itself_is_received_before_the_end";
    watchdog::within(PATIENCE, name, || {
        for _ in 0..20 {
            let store = open(&MemoryDisk::new());
            let mut subscription = store.subscribe().start().unwrap();
            let mut received = Received::default();
            received.catch_up(&mut subscription);
            let follower = std::thread::spawn(move || {
                received.take_all(&mut subscription);
                received
            });
            for _ in 0..10 {
                let event = NewEvent::bytes("noted", vec![7; 100]);
                let append = store.append("a-1", Expect::Any, [event]);
                // It need not be durable before.
                append.within(Duration::from_mins(1)).wait().unwrap();
            }
            store.close().unwrap();
            assert!(follower.join().unwrap().positions().into_iter().eq(1..=10));
        }
    });
}

#[test]
fn one_that_sleeps_is_woken_by_the_end_of_the_store() {
    let name = "one_that_sleeps_is_woken_by_the_end_of_the_store";
    watchdog::within(PATIENCE, name, || {
        for round in 0..20 {
            let store = open(&MemoryDisk::new());
            let mut subscription = store.subscribe().start().unwrap();
            let (sender, is_caught_up) = channel();
            let follower = std::thread::spawn(move || {
                Received::default().catch_up(&mut subscription);
                sender.send(()).unwrap();
                subscription.recv()
            });
            is_caught_up.recv().unwrap();
            // Asleep, most of the times.
            std::thread::sleep(Duration::from_millis(round / 2));
            if round % 2 == 0 {
                store.close().unwrap();
            } else {
                drop(store);
            }
            assert!(matches!(follower.join().unwrap(), Err(SubscribeError::Closed)));
        }
    });
}

#[test]
fn a_subscription_does_not_keep_the_store_open() {
    for closes in [false, true] {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        append_plain(&store, "a-1", 5);
        let mut subscription = store.subscribe().start().unwrap();
        if closes {
            store.close().unwrap();
        } else {
            drop(store);
        }
        let again = open(&disk);
        append_plain(&again, "a-1", 5);
        // It is of the store that was closed, and what comes now is received by its successor.
        let mut received = Received::default();
        received.take_all(&mut subscription);
        assert_eq!(received.positions(), [1, 2, 3, 4, 5]);
        let mut successor = again.subscribe().after(subscription.position()).start().unwrap();
        received = Received::default();
        received.catch_up(&mut successor);
        assert_eq!(received.positions(), [6, 7, 8, 9, 10]);
    }
}

#[test]
fn a_timeout_gives_what_there_is_or_comes_before_it_ends() {
    let name = "a_timeout_gives_what_there_is_or_comes_before_it_ends";
    watchdog::within(PATIENCE, name, || {
        let store = open(&MemoryDisk::new());
        let mut subscription = store.subscribe().start().unwrap();
        let told = subscription.recv_timeout(Duration::ZERO);
        assert!(matches!(told, Ok(Some(Message::CaughtUp(_)))), "{told:?}");
        assert!(matches!(subscription.recv_timeout(Duration::ZERO), Ok(None)));
        // One that ends after the end of time is none.
        for timeout in [Duration::from_hours(1), Duration::MAX] {
            let appender = store.clone();
            let appender = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                append_plain(&appender, "a-1", 1);
            });
            let came = subscription.recv_timeout(timeout);
            assert!(matches!(came, Ok(Some(Message::Events(_)))), "{came:?}");
            appender.join().unwrap();
        }
    });
}

/// The processor time of the thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// Asserts that the thread sleeps while it waits, and how long it waits at least.
fn assert_sleeps(subscription: &mut Subscription, wait: impl FnOnce(&mut Subscription)) {
    const SLEEP: Duration = Duration::from_millis(300);
    let (begun, before) = (Instant::now(), processor_time());
    wait(subscription);
    assert!(begun.elapsed() >= SLEEP, "{:?}", begun.elapsed());
    let taken = processor_time().checked_sub(before).unwrap();
    assert!(taken < Duration::from_millis(50), "{taken:?} of processor time");
}

#[test]
fn one_that_has_nothing_to_receive_sleeps() {
    let store = open(&MemoryDisk::new());
    append_plain(&store, "a-1", 5);
    let mut subscription = store.subscribe().start().unwrap();
    Received::default().catch_up(&mut subscription);
    assert_sleeps(&mut subscription, |subscription| {
        assert!(matches!(subscription.recv_timeout(Duration::from_millis(300)), Ok(None)));
    });
    let mut appender = None;
    assert_sleeps(&mut subscription, |subscription| {
        appender = Some(std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            append_plain(&store, "a-1", 1);
        }));
        assert!(matches!(subscription.recv(), Ok(Message::Events(_))));
    });
    appender.unwrap().join().unwrap();
}
