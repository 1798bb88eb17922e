//! Models of the commit path's protocols, of which loom runs every interleaving.
//!
//! They use the types of the engine itself: chunks with their pool, tickets, the stage, signals. What is
//! left out is what lies between: the sequencer's checks, the encoding, and the disk. Run with
//! `RUSTFLAGS="--cfg stratalog_loom" cargo test --release -p stratalog --lib models`.

mod leading;
mod sleeping;

use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use loom::thread;

use super::chunk::{Chunk, ChunkRef};
use super::pool::ChunkPool;
use super::ticket::{Leads, Outcome, Ticket, WakerSlot};
use super::watchers::Watchers;
use crate::error::Poisoned;
use crate::format::checksum::{SegmentIdentity, SegmentKey, StoreId};
use crate::limits::{BLOCK, CHUNK_BYTES};
use crate::sync::{AtomicU32, Ordering, Signal};

/// A piece of a chunk that loom looks at as one.
const PIECE: u64 = 1024;

/// Runs a model. The number of preemptions is bounded, as loom's authors advise: nearly all bugs need
/// no more than two or three.
fn model(check: impl Fn() + Sync + Send + 'static) {
    bounded(3, check);
}

/// The same with a bound of its own; `LOOM_MAX_PREEMPTIONS` goes before it.
fn bounded(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 50_000;
    builder.check(check);
}

#[derive(Debug)]
struct NobodyLeads;

impl Leads for NobodyLeads {
    fn lead_offered(&self) {
        unreachable!("nothing is offered in this model");
    }
}

fn ticket() -> Arc<Ticket> {
    Arc::new(Ticket::new(Weak::<NobodyLeads>::new(), Arc::default()))
}

fn poisoned() -> Poisoned {
    Poisoned { segment: 1, offset: 0, what: "a model".into() }
}

fn chunk(pool: &Arc<ChunkPool>, bytes: usize) -> ChunkRef {
    let identity = SegmentIdentity { store: StoreId([0; 16]), segment: 1, salt: 0 };
    Chunk::new(pool, &SegmentKey::new(identity), BLOCK, bytes).expect("there is memory")
}

/// Two producers fill their claims while the leader waits for them, writes what they filled, and
/// publishes it; a reader sees all of it or nothing.
#[test]
fn what_is_published_was_filled_and_what_is_read_was_published() {
    model(|| {
        let chunk = chunk(&Arc::default(), 4096);
        let ticket = ticket();
        let producers: Vec<_> = (1..=2_u8)
            .map(|byte| {
                let mut claim = Chunk::claim(&chunk, PIECE).expect("it has room");
                let ticket = Arc::clone(&ticket);
                thread::spawn(move || {
                    claim.bytes_mut().fill(byte);
                    drop(claim);
                    ticket.fill(PIECE as u32);
                })
            })
            .collect();
        let read = ChunkRef::clone(&chunk);
        let reader = thread::spawn(move || {
            if let Some(bytes) = read.published(BLOCK..BLOCK + 2 * PIECE) {
                assert_eq!((bytes[0], bytes[PIECE as usize]), (1, 2));
            }
        });
        assert!(ticket.wait_filled(2 * PIECE as u32));
        // SAFETY: both claims were dropped before they were counted, which was waited for.
        let settled = unsafe { chunk.settled(BLOCK..BLOCK + 2 * PIECE) };
        assert_eq!((settled[0], settled[PIECE as usize]), (1, 2));
        // SAFETY: as above.
        unsafe { chunk.publish(BLOCK + 2 * PIECE) };
        ticket.finish(Outcome::Durable);
        for producer in producers {
            producer.join().expect("it ends well");
        }
        reader.join().expect("it ends well");
    });
}

/// A leader that waits for a claim that nobody fills is released when the log is poisoned.
#[test]
fn a_leader_does_not_wait_for_what_was_given_up() {
    model(|| {
        let ticket = ticket();
        let given_up = Arc::clone(&ticket);
        let other = thread::spawn(move || given_up.give_up(&poisoned()));
        assert!(!ticket.wait_filled(16));
        assert_eq!(ticket.wait(), Outcome::Unknown);
        assert!(ticket.reason().is_some());
        other.join().expect("it ends well");
    });
}

/// Threads that sleep are all woken, though the leader wakes only the first.
#[test]
fn every_thread_that_waits_for_a_batch_is_woken() {
    model(|| {
        let ticket = ticket();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let ticket = Arc::clone(&ticket);
                thread::spawn(move || ticket.wait())
            })
            .collect();
        ticket.finish(Outcome::Durable);
        ticket.finish(Outcome::Unknown);
        for waiter in waiters {
            assert_eq!(waiter.join().expect("it ends well"), Outcome::Durable);
        }
    });
}

/// Those who look on are all woken, each by the one before or by the end of the next batch, though only one is while that
/// is being written; also where one of them is in the way who looks on at the next batch.
#[test]
fn every_thread_that_looks_on_is_woken() {
    for watched in [[0, 0], [0, 1], [1, 0]] {
        bounded(2, move || {
            let watchers = Arc::new(Watchers::waking(1));
            let ticket = || {
                let leads = Weak::<NobodyLeads>::new();
                Arc::new(Ticket::new(leads, Arc::clone(&watchers)))
            };
            let tickets = [ticket(), ticket()];
            let threads = watched.map(|number| {
                let ticket = Arc::clone(&tickets[number]);
                thread::spawn(move || ticket.watch())
            });
            for ticket in &tickets {
                ticket.write_begins();
                ticket.finish(Outcome::Durable);
            }
            for thread in threads {
                assert_eq!(thread.join().expect("it ends well"), Outcome::Durable);
            }
        });
    }
}

/// Where nothing is being written, nobody waits for the end of another batch.
#[test]
fn those_who_look_on_wake_each_other_where_nothing_is_written() {
    bounded(2, || {
        let ticket =
            Arc::new(Ticket::new(Weak::<NobodyLeads>::new(), Arc::new(Watchers::waking(1))));
        let threads = [(), ()].map(|()| {
            let ticket = Arc::clone(&ticket);
            thread::spawn(move || ticket.watch())
        });
        ticket.write_begins();
        ticket.give_up(&poisoned());
        for thread in threads {
            assert_eq!(thread.join().expect("it ends well"), Outcome::Unknown);
        }
    });
}

/// A batch that is given up just as its write begins is not taken for one that is being written for ever.
#[test]
fn those_who_look_on_are_woken_though_the_log_is_poisoned_as_a_write_begins() {
    bounded(2, || {
        let watchers = Arc::new(Watchers::waking(1));
        let ticket = Arc::new(Ticket::new(Weak::<NobodyLeads>::new(), Arc::clone(&watchers)));
        let threads = [(), ()].map(|()| {
            let ticket = Arc::clone(&ticket);
            thread::spawn(move || ticket.watch())
        });
        let leads = Arc::clone(&ticket);
        let leader = thread::spawn(move || {
            leads.write_begins();
            leads.finish(Outcome::Durable);
        });
        ticket.give_up(&poisoned());
        for thread in threads {
            thread.join().expect("it ends well");
        }
        leader.join().expect("it ends well");
    });
}

struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, StdOrdering::SeqCst);
    }
}

/// A task that was told to wait is woken, or sees the end when it looks.
#[test]
fn a_task_that_is_told_to_wait_is_woken() {
    model(|| {
        let ticket = ticket();
        let finisher = Arc::clone(&ticket);
        let other = thread::spawn(move || finisher.finish(Outcome::Durable));
        let counter = Arc::new(Counter(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&counter));
        let mut slot = WakerSlot::default();
        let first = ticket.poll(&mut slot, &mut Context::from_waker(&waker));
        other.join().expect("it ends well");
        match first {
            Poll::Ready(outcome) => assert_eq!(outcome, Outcome::Durable),
            Poll::Pending => assert_eq!(counter.0.load(StdOrdering::SeqCst), 1),
        }
        assert!(ticket.poll(&mut slot, &mut Context::from_waker(&waker)).is_ready());
    });
}

/// A signal is not lost, and what was written before it is seen behind it.
#[test]
fn a_signal_is_not_lost() {
    model(|| {
        let signal = Arc::new(Signal::default());
        let work = Arc::new(AtomicU32::new(0));
        let (gives, adds) = (Arc::clone(&signal), Arc::clone(&work));
        let other = thread::spawn(move || {
            for _ in 0..2 {
                adds.fetch_add(1, Ordering::Relaxed);
                gives.give();
            }
        });
        while work.load(Ordering::Relaxed) < 2 {
            signal.wait(None);
        }
        other.join().expect("it ends well");
    });
}

/// The memory of a chunk goes to the next one only when no reader has it any more.
#[test]
fn a_chunk_is_retired_when_its_last_reader_lets_go() {
    model(|| {
        let pool = Arc::<ChunkPool>::default();
        let first = chunk(&pool, CHUNK_BYTES);
        let mut claim = Chunk::claim(&first, PIECE).expect("it has room");
        claim.bytes_mut().fill(7);
        drop(claim);
        // SAFETY: the only claim was filled and dropped.
        unsafe { first.publish(BLOCK + PIECE) };
        let read = ChunkRef::clone(&first);
        let reader = thread::spawn(move || {
            let bytes = read.published(BLOCK..BLOCK + PIECE).expect("it is published");
            assert_eq!(bytes[0], 7);
        });
        drop(first);
        let next = chunk(&pool, CHUNK_BYTES);
        let mut claim = Chunk::claim(&next, PIECE).expect("it has room");
        claim.bytes_mut().fill(8);
        drop(claim);
        reader.join().expect("it ends well");
    });
}
