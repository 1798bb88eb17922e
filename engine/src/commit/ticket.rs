//! A ticket: what the appends of one batch share, to be filled, waited for, and told how it ended.
//!
//! The sequencer makes one for each batch. Producers count what they have filled; the leader waits for
//! the last of them. Appends wait for the end: threads sleep on one word, so that one system call wakes
//! them all, and tasks leave a waker. A thread that sleeps can be offered the lead of the batch it waits
//! for. Calls `sync` only.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};

use super::giving_way::GivingWay;
use super::watchers::Watchers;
use crate::error::Poisoned;
use crate::limits::{APPEND_BYTES_MAX, BATCH_BYTES_FULL};
use crate::sync::{Mutex, Ordering, WaitWord, lock, yield_now};

const PENDING: u32 = 0;
/// One of the threads that wait is to lead the batch.
const OFFERED: u32 = 1;
const DURABLE: u32 = 2;
const UNKNOWN: u32 = 3;
const STATE: u32 = 3;
/// Set beside a state that is not the last: threads sleep.
const SLEEPERS: u32 = 4;
/// Set beside a last state: one thread was woken, and is to wake the others.
const RELAY: u32 = 8;

/// Set beside a state that is not the last: its write has begun.
const WRITTEN: u32 = 16;

/// Set beside the count of filled bytes: the leader sleeps.
const LEADER_SLEEPS: u32 = 1 << 31;
/// Set beside the count of filled bytes: the batch will not be written.
const GIVEN_UP: u32 = 1 << 30;

const _: () = assert!(APPEND_BYTES_MAX + (BATCH_BYTES_FULL as u64) < GIVEN_UP as u64);

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Durable,
    /// The log was poisoned before the batch was known to be durable.
    Unknown,
}

/// Who can lead a batch on the thread of an append.
pub(crate) trait Leads: Send + Sync + Debug {
    /// Leads the batch that was offered: writes it, and returns when it has ended.
    fn lead_offered(&self);
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Bytes of claims that have been filled, with [`LEADER_SLEEPS`] and [`GIVEN_UP`].
    filled: WaitWord,
    /// One of the states, and [`SLEEPERS`], [`WRITTEN`] or [`RELAY`].
    state: WaitWord,
    watchers: Arc<Watchers>,
    /// For those who are to give way.
    giving_way: Option<Arc<GivingWay>>,
    /// Of the tasks that wait. Taken once, after the last change of the state.
    wakers: Mutex<Vec<Waker>>,
    /// Why the outcome is unknown.
    reason: OnceLock<Poisoned>,
    /// Weak: who keeps a receipt keeps its ticket, and shall not keep a closed store with it.
    leads: Weak<dyn Leads>,
}

/// Where a task's waker stands in its ticket.
#[derive(Debug, Default)]
pub(crate) struct WakerSlot(Option<usize>);

impl Ticket {
    pub(crate) fn new(leads: Weak<dyn Leads>, watchers: Arc<Watchers>) -> Self {
        Self {
            filled: WaitWord::new(0),
            state: WaitWord::new(PENDING),
            watchers,
            giving_way: None,
            wakers: Mutex::new(Vec::new()),
            reason: OnceLock::new(),
            leads,
        }
    }

    /// The threads that wait for it give way to others before they sleep.
    pub(crate) fn gives_way(mut self, giving_way: &Arc<GivingWay>) -> Self {
        self.giving_way = Some(Arc::clone(giving_way));
        self
    }

    /// A producer has filled its claim of `bytes`, and no longer holds it.
    pub(crate) fn fill(&self, bytes: u32) {
        // Release: the leader, who reads the count, sees what was filled.
        if self.filled.fetch_add(bytes, Ordering::AcqRel) & LEADER_SLEEPS != 0 {
            self.filled.wake_one();
        }
    }

    /// Whether `bytes` of claims have been filled.
    pub(crate) fn is_filled(&self, bytes: u32) -> bool {
        self.filled.load(Ordering::Acquire) == bytes
    }

    /// Waits until `bytes` of claims have been filled; false where the batch was given up.
    pub(crate) fn wait_filled(&self, bytes: u32) -> bool {
        /// Filling is a copy of some hundred bytes: the producer is either about to finish or preempted.
        const YIELDS: u32 = 16;
        let mut tries = 0;
        loop {
            let filled = self.filled.load(Ordering::Acquire);
            if filled & GIVEN_UP != 0 {
                return false;
            }
            if filled & !LEADER_SLEEPS == bytes {
                return true;
            }
            if tries < YIELDS {
                tries += 1;
                yield_now();
            } else if filled & LEADER_SLEEPS == 0 {
                self.filled.fetch_or(LEADER_SLEEPS, Ordering::AcqRel);
            } else {
                self.filled.sleep(filled, None);
            }
        }
    }

    /// Offers the lead to one of the threads that wait, or to the next one that comes to wait.
    pub(crate) fn offer(&self) {
        loop {
            let state = self.state.load(Ordering::Acquire);
            if state & STATE != PENDING {
                return;
            }
            if self.state.exchange(state, state | OFFERED) {
                if state & SLEEPERS != 0 {
                    self.state.wake_one();
                }
                return;
            }
        }
    }

    /// Its write begins. By its leader, once; the outcome may have been told already, where the log was poisoned meanwhile.
    pub(crate) fn write_begins(&self) {
        // Counted before the end can take it back.
        self.watchers.write_begins();
        loop {
            let state = self.state.load(Ordering::Acquire);
            if matches!(state & STATE, DURABLE | UNKNOWN) {
                self.watchers.batch_ends(true);
                return;
            }
            if self.state.exchange(state, state | WRITTEN) {
                return;
            }
        }
    }

    /// Tells everybody who waits how the batch ended. The first word counts.
    pub(crate) fn finish(&self, outcome: Outcome) {
        let code = match outcome {
            Outcome::Durable => DURABLE,
            Outcome::Unknown => UNKNOWN,
        };
        let before = loop {
            let state = self.state.load(Ordering::Acquire);
            if matches!(state & STATE, DURABLE | UNKNOWN) {
                return;
            }
            let relay = if state & SLEEPERS == 0 { 0 } else { RELAY };
            if self.state.exchange(state, code | relay) {
                break state;
            }
        };
        // Waking many threads takes as long as a write: one is woken here, and wakes the others while the
        // leader goes on.
        if before & SLEEPERS != 0 {
            self.state.wake_one();
        }
        self.watchers.batch_ends(before & WRITTEN != 0);
        // A task that has left its waker before this is woken; one that comes later sees the state.
        let wakers = std::mem::take(&mut *lock(&self.wakers));
        for waker in wakers {
            waker.wake();
        }
    }

    /// Tells everybody that the outcome is unknown, and why.
    pub(crate) fn give_up(&self, reason: &Poisoned) {
        let _ = self.reason.set(reason.clone());
        self.finish(Outcome::Unknown);
        // The leader may wait for a claim that will not be filled.
        if self.filled.fetch_or(GIVEN_UP, Ordering::AcqRel) & LEADER_SLEEPS != 0 {
            self.filled.wake_one();
        }
    }

    /// Why the outcome is unknown.
    pub(crate) fn reason(&self) -> Option<&Poisoned> {
        self.reason.get()
    }

    /// How the batch ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.state.load(Ordering::Acquire) & STATE {
            DURABLE => Some(Outcome::Durable),
            UNKNOWN => Some(Outcome::Unknown),
            _ => None,
        }
    }

    /// Blocks until the batch has ended; leads it, where that is offered.
    pub(crate) fn wait(&self) -> Outcome {
        let mut giving_way = self.giving_way.as_deref();
        loop {
            let state = self.state.load(Ordering::Acquire);
            match state & STATE {
                DURABLE | UNKNOWN if state & RELAY != 0 => {
                    if self.state.exchange(state, state & !RELAY) {
                        self.state.wake_all();
                    }
                }
                DURABLE => return Outcome::Durable,
                UNKNOWN => return Outcome::Unknown,
                OFFERED => {
                    // A lead is offered by the writer that this leads to, so that is there.
                    if self.state.exchange(state, state & !STATE)
                        && let Some(leads) = self.leads.upgrade()
                    {
                        leads.lead_offered();
                    }
                }
                _ if let Some(giving_way) = giving_way.take() => {
                    giving_way.give_way(|| self.state.load(Ordering::Acquire) & STATE != PENDING);
                }
                _ if state & SLEEPERS == 0 => {
                    self.state.exchange(state, state | SLEEPERS);
                }
                _ => self.state.sleep(state, None),
            }
        }
    }

    /// Blocks until the batch has ended, for a thread that has nothing in it but is to be told of something in it. It does not
    /// lead; see `watchers`.
    pub(crate) fn watch(&self) -> Outcome {
        self.outcome().unwrap_or_else(|| self.watchers.wait(|| self.outcome()))
    }

    /// Leaves a waker, unless the batch has ended. A slot belongs to one ticket.
    pub(crate) fn poll(&self, slot: &mut WakerSlot, context: &mut Context<'_>) -> Poll<Outcome> {
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        let mut wakers = lock(&self.wakers);
        if let Some(outcome) = self.outcome() {
            return Poll::Ready(outcome);
        }
        if let Some(waker) = slot.0.and_then(|slot| wakers.get_mut(slot)) {
            waker.clone_from(context.waker());
        } else {
            slot.0 = Some(wakers.len());
            wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}
