//! Subscriptions that tasks wait for: futures, streams and wakers, by hand, since the store needs no runtime.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use fastrand::Rng;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use stratalog::disk::MemoryDisk;
use stratalog::{EventStream, Message, ReadError, SubscribeError};
use stratalog_tests::block_on::block_on;
use stratalog_tests::index_files::wait_until;
use stratalog_tests::oracle::all;
use stratalog_tests::subscriptions::{PATIENCE, Received, append_plain, append_some, open};
use stratalog_tests::{seed, watchdog};

/// A waker that counts how often it is woken.
fn counting() -> (Waker, Arc<Count>) {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    (Waker::from(Arc::clone(&count)), count)
}

struct Count(AtomicUsize);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

fn next(stream: &mut EventStream) -> impl Future<Output = Option<Result<Message, SubscribeError>>> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context))
}

fn polled<F: Future>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(waker))
}

#[test]
fn a_task_receives_everything_beside_appends_and_then_the_end() {
    let name = "a_task_receives_everything_beside_appends_and_then_the_end";
    watchdog::within(PATIENCE, name, || {
        let mut random = Rng::with_seed(seed::seed(1));
        let store = open(&MemoryDisk::new());
        append_some(&store, &mut random, 300);
        let mut subscription = store.subscribe().start().unwrap();
        let follower = std::thread::spawn(move || {
            block_on(async move {
                let mut received = Received::default();
                loop {
                    match subscription.recv_async().await {
                        Ok(message) => received.take(&message),
                        Err(SubscribeError::Closed) => return received,
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        });
        // Sometimes faster than it, and sometimes slower.
        for _ in 0..100 {
            append_some(&store, &mut random, 10);
            std::thread::sleep(Duration::from_micros(random.u64(0..300)));
        }
        let events = all(store.read_all().forward()).unwrap();
        store.close().unwrap();
        let received = follower.join().unwrap();
        assert!(received.events == events);
        assert_eq!(received.caught_up.len(), 1);
    });
}

#[test]
fn a_future_that_is_dropped_midway_loses_nothing() {
    let mut random = Rng::with_seed(seed::seed(1));
    let store = open(&MemoryDisk::new());
    let mut subscription = store.subscribe().start().unwrap();
    let mut received = Received::default();
    for _ in 0..600 {
        if random.u8(0..3) == 0 {
            append_some(&store, &mut random, 1);
        }
        let (waker, _) = counting();
        let mut future = pin!(subscription.recv_async());
        // It is dropped before it was polled, while it waits, or when it is ready.
        for _ in 0..random.u8(0..3) {
            if let Poll::Ready(message) = polled(future.as_mut(), &waker) {
                received.take(&message.unwrap());
            }
        }
    }
    let events = all(store.read_all().forward()).unwrap();
    store.close().unwrap();
    received.take_all(&mut subscription);
    assert!(received.events == events && events.len() > 100);
}

#[test]
fn whoever_has_polled_last_is_woken() {
    let store = open(&MemoryDisk::new());
    let mut subscription = store.subscribe().start().unwrap();
    Received::default().catch_up(&mut subscription);
    let wakers: Vec<_> = (0..4).map(|_| counting()).collect();
    for round in 0..12 {
        let mut future = pin!(subscription.recv_async());
        for (waker, _) in &wakers[..=round % 4] {
            assert!(polled(future.as_mut(), waker).is_pending());
        }
        let last = &wakers[round % 4];
        let before = last.1.get();
        append_plain(&store, "a-1", 1);
        wait_until("the last one is woken", || last.1.get() > before);
        let received = polled(future.as_mut(), &last.0);
        assert!(matches!(received, Poll::Ready(Ok(Message::Events(_)))), "{received:?}");
    }
}

#[test]
fn a_task_that_waits_is_woken_by_the_end_of_the_store() {
    for closes in [false, true] {
        let store = open(&MemoryDisk::new());
        let mut subscription = store.subscribe().start().unwrap();
        Received::default().catch_up(&mut subscription);
        let (waker, woken) = counting();
        let mut future = pin!(subscription.recv_async());
        assert!(polled(future.as_mut(), &waker).is_pending());
        if closes {
            store.close().unwrap();
        } else {
            drop(store);
        }
        wait_until("the task is woken", || woken.get() > 0);
        let received = polled(future.as_mut(), &waker);
        assert!(matches!(received, Poll::Ready(Err(SubscribeError::Closed))), "{received:?}");
    }
}

#[test]
fn a_waker_is_let_go_of_when_its_subscription_was_dropped_and_the_log_goes_on() {
    let store = open(&MemoryDisk::new());
    let mut subscription = store.subscribe().start().unwrap();
    Received::default().catch_up(&mut subscription);
    let (waker, count) = counting();
    assert!(polled(pin!(subscription.recv_async()), &waker).is_pending());
    drop((waker, subscription));
    append_plain(&store, "a-1", 1);
    wait_until("the waker is let go of", || Arc::strong_count(&count) == 1);
}

#[test]
fn a_thread_and_a_task_wait_for_one_subscription_in_turn() {
    let name = "a_thread_and_a_task_wait_for_one_subscription_in_turn";
    watchdog::within(PATIENCE, name, || {
        let store = open(&MemoryDisk::new());
        let mut subscription = store.subscribe().start().unwrap();
        let (sender, asks) = channel();
        let appender = store.clone();
        let appender = std::thread::spawn(move || {
            while asks.recv().is_ok() {
                append_plain(&appender, "a-1", 1);
            }
        });
        let (mut received, (waker, woken)) = (Received::default(), counting());
        received.catch_up(&mut subscription);
        for round in 0..60 {
            let ask = |sender: &Sender<()>| sender.send(()).unwrap();
            if round % 3 == 0 {
                // A task that begins to wait, and goes away.
                assert!(polled(pin!(subscription.recv_async()), &waker).is_pending());
            }
            let message = if round % 2 == 0 {
                ask(&sender);
                subscription.recv().unwrap()
            } else {
                let future = subscription.recv_async();
                ask(&sender);
                block_on(future).unwrap()
            };
            received.take(&message);
        }
        assert!(received.positions().into_iter().eq(1..=60));
        assert!(woken.get() > 0, "what was told to wake was not woken");
        drop(sender);
        appender.join().unwrap();
    });
}

#[test]
fn a_stream_gives_every_message_and_ends_with_the_store() {
    let name = "a_stream_gives_every_message_and_ends_with_the_store";
    watchdog::within(PATIENCE, name, || {
        let mut random = Rng::with_seed(seed::seed(1));
        let store = open(&MemoryDisk::new());
        append_some(&store, &mut random, 700);
        let mut stream = store.subscribe().start().unwrap().into_stream();
        let follower = std::thread::spawn(move || {
            block_on(async move {
                let mut received = Received::default();
                while let Some(message) = next(&mut stream).await {
                    assert!(!stream.is_terminated());
                    received.take(&message.unwrap());
                }
                assert!(stream.is_terminated());
                assert!(next(&mut stream).await.is_none(), "more behind the end");
                received
            })
        });
        append_some(&store, &mut random, 700);
        let events = all(store.read_all().forward()).unwrap();
        store.close().unwrap();
        let received = follower.join().unwrap();
        assert!(received.events == events);
        assert_eq!(received.caught_up.len(), 1);
    });
}

#[test]
fn a_stream_ends_behind_an_error() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    append_plain(&store, "a-1", 2_000);
    store.close().unwrap();
    disk.flip_bit("segment-0000000002.log", 30_000, 5);
    let store = open(&disk);
    let mut stream = store.subscribe().name("stream").start().unwrap().into_stream();
    let mut received = Received::default();
    let error = loop {
        match block_on(next(&mut stream)).expect("the error comes before the end") {
            Ok(message) => received.take(&message),
            Err(error) => break error,
        }
    };
    let SubscribeError::Read(ReadError::Damaged { segment, first_position, .. }) = error else {
        panic!("{error}")
    };
    assert_eq!(segment, 2);
    assert!(received.positions().into_iter().eq(1..first_position));
    assert!(stream.is_terminated() && block_on(next(&mut stream)).is_none());
    // It is over, and so is no consumer any more.
    assert_eq!(store.consumers(), []);
}

#[test]
fn many_tasks_of_one_thread_receive_everything() {
    let name = "many_tasks_of_one_thread_receive_everything";
    watchdog::within(PATIENCE, name, || {
        let mut random = Rng::with_seed(seed::seed(1));
        let store = open(&MemoryDisk::new());
        let mut tasks: Vec<_> = (0..100)
            .map(|_| (store.subscribe().start().unwrap(), counting(), Received::default()))
            .collect();
        let appender = {
            let (store, mut random) = (store.clone(), random.fork());
            std::thread::spawn(move || append_some(&store, &mut random, 200))
        };
        let is_ended =
            |store: &stratalog::Store| appender.is_finished() && store.head().get() >= 200;
        // Each is polled at first, and later only when it was woken.
        let mut polled_at = vec![None; tasks.len()];
        loop {
            let mut is_idle = true;
            for ((subscription, (waker, count), received), polled_at) in
                tasks.iter_mut().zip(&mut polled_at)
            {
                let woken = count.get();
                if *polled_at == Some(woken) {
                    continue;
                }
                is_idle = false;
                *polled_at = Some(woken);
                while let Poll::Ready(message) =
                    subscription.poll_recv(&mut Context::from_waker(waker))
                {
                    received.take(&message.unwrap());
                }
            }
            let head = store.head().get();
            if is_ended(&store) && tasks.iter().all(|(_, _, received)| received.position() == head)
            {
                break;
            }
            if is_idle {
                std::thread::sleep(Duration::from_micros(random.u64(0..200)));
            }
        }
        let events = all(store.read_all().forward()).unwrap();
        assert!(tasks.iter().all(|(_, _, received)| received.events == events));
        appender.join().unwrap();
    });
}
