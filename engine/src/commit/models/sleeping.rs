//! Models of consumers that sleep until the watermark moves, as they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
use std::task::{Wake, Waker};
use std::time::Instant;

use loom::thread;

use super::{bounded, chunk, model};
use crate::commit::chunk::{Chunk, ChunkRef};
use crate::commit::watermark::{Waiter, Watermark};
use crate::limits::BLOCK;
use crate::sync::{AtomicU32, Ordering};

fn publish(watermark: &Watermark, position: u64) {
    watermark.advance(position);
    watermark.wake();
}

/// Sleeps until the watermark is past a position or closed.
fn wait(waiter: &mut Waiter, watermark: &Watermark, position: u64) {
    while watermark.get() <= position && !watermark.is_closed() {
        waiter.sleep(position, None);
    }
}

/// Who sleeps is woken by what is published, however the two meet; twice.
#[test]
fn a_consumer_that_sleeps_is_woken_by_what_is_published() {
    model(|| {
        let watermark = Arc::new(Watermark::new(0));
        let published = Arc::clone(&watermark);
        let publisher = thread::spawn(move || {
            publish(&published, 1);
            publish(&published, 2);
        });
        let mut waiter = Waiter::new(Arc::clone(&watermark));
        wait(&mut waiter, &watermark, 0);
        wait(&mut waiter, &watermark, 1);
        assert_eq!(watermark.get(), 2);
        publisher.join().expect("it ends well");
    });
}

/// Of several threads the first that is woken wakes the others: nobody is left asleep.
#[test]
fn all_consumers_that_sleep_are_woken() {
    bounded(2, || {
        let watermark = Arc::new(Watermark::new(0));
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                let watermark = Arc::clone(&watermark);
                thread::spawn(move || {
                    let mut waiter = Waiter::new(Arc::clone(&watermark));
                    wait(&mut waiter, &watermark, 0);
                })
            })
            .collect();
        publish(&watermark, 1);
        for consumer in consumers {
            consumer.join().expect("it ends well");
        }
    });
}

/// A consumer that is busy, and still listed from an earlier sleep, is not left with others to wake.
#[test]
fn nobody_waits_for_a_consumer_that_is_busy() {
    bounded(2, || {
        let watermark = Arc::new(Watermark::new(0));
        let done = Arc::new(AtomicU32::new(0));
        let (others, seen) = (Arc::clone(&watermark), Arc::clone(&done));
        let sleeper = thread::spawn(move || {
            let mut waiter = Waiter::new(Arc::clone(&others));
            wait(&mut waiter, &others, 0);
            seen.store(1, Ordering::Release);
        });
        let published = Arc::clone(&watermark);
        let publisher = thread::spawn(move || publish(&published, 1));
        // It sleeps for no time, and is busy for as long as the other one sleeps.
        let mut waiter = Waiter::new(Arc::clone(&watermark));
        waiter.sleep(0, Some(Instant::now()));
        while done.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        drop(waiter);
        sleeper.join().expect("it ends well");
        publisher.join().expect("it ends well");
    });
}

/// Closing wakes those who sleep, as publishing does.
#[test]
fn closing_wakes_those_who_sleep() {
    model(|| {
        let watermark = Arc::new(Watermark::new(0));
        let closed = Arc::clone(&watermark);
        let closer = thread::spawn(move || {
            publish(&closed, 1);
            closed.close();
        });
        let mut waiter = Waiter::new(Arc::clone(&watermark));
        let mut position = 0;
        while !watermark.is_closed() || watermark.get() > position {
            wait(&mut waiter, &watermark, position);
            position = watermark.get();
        }
        // What was published before it was closed is seen by who sees that it was closed.
        assert_eq!(position, 1);
        closer.join().expect("it ends well");
    });
}

struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, StdOrdering::SeqCst);
    }
}

/// A task either sees that it need not wait, or is woken; also where it comes again with another waker.
#[test]
fn a_task_is_woken_by_what_is_published() {
    model(|| {
        let watermark = Arc::new(Watermark::new(0));
        let published = Arc::clone(&watermark);
        let publisher = thread::spawn(move || publish(&published, 1));
        let wakers = [(); 2].map(|()| Arc::new(Woken(AtomicUsize::new(0))));
        let mut waiter = Waiter::new(Arc::clone(&watermark));
        let mut waits = true;
        for woken in &wakers {
            waits = waits && waiter.wake_later(0, &Waker::from(Arc::clone(woken)));
        }
        publisher.join().expect("it ends well");
        let woken = wakers[1].0.load(StdOrdering::SeqCst);
        assert!(!waits || woken > 0, "nobody wakes it");
        assert_eq!(watermark.get(), 1);
    });
}

/// A consumer reads a chunk of the tail that is retired, and whose memory goes to the next chunk, while it does: the memory
/// does not go before the reader has gone.
#[test]
fn a_chunk_that_is_retired_under_a_reader_is_the_readers_until_it_goes() {
    model(|| {
        let pool = Arc::default();
        let watermark = Arc::new(Watermark::new(0));
        let tail = chunk(&pool, crate::limits::CHUNK_BYTES);
        let mut claim = Chunk::claim(&tail, 1024).expect("it has room");
        let (read, known) = (ChunkRef::clone(&tail), Arc::clone(&watermark));
        let reader = thread::spawn(move || {
            let mut waiter = Waiter::new(Arc::clone(&known));
            wait(&mut waiter, &known, 0);
            let bytes = read.published(BLOCK..BLOCK + 1024).expect("the watermark says so");
            assert_eq!(bytes[0], 7);
            drop(read);
        });
        claim.bytes_mut().fill(7);
        drop(claim);
        // SAFETY: the only claim was filled and dropped.
        unsafe { tail.publish(BLOCK + 1024) };
        publish(&watermark, 1);
        // It is sealed, and the catalog lets it go; another one is begun.
        drop(tail);
        let next = chunk(&pool, crate::limits::CHUNK_BYTES);
        let mut claim = Chunk::claim(&next, 1024).expect("it has room");
        claim.bytes_mut().fill(9);
        reader.join().expect("it ends well");
    });
}
