//! A ticket: what the appends of one batch share, to be filled, waited for, and told how it ended.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use event_listener::{Event, EventListener};

const PENDING: u8 = 0;
const DURABLE: u8 = 1;
const UNKNOWN: u8 = 2;

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Durable,
    /// The log was poisoned before the batch was known to be durable.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    /// Bytes of claims that have been filled, or given up by a producer that failed.
    filled: AtomicU64,
    /// A producer gave up between its claim and its fill.
    broken: AtomicU8,
    outcome: AtomicU8,
    settled: Event,
    done: Event,
}

impl Ticket {
    /// A producer has filled its claim of `bytes`, and no longer holds it.
    pub(crate) fn fill(&self, bytes: u64) {
        self.filled.fetch_add(bytes, Ordering::Release);
        self.settled.notify(1);
    }

    /// A producer could not fill its claim: the batch must not be written.
    pub(crate) fn give_up(&self, bytes: u64) {
        self.broken.store(1, Ordering::Relaxed);
        self.fill(bytes);
    }

    /// Waits until `bytes` of claims have been filled; false where a producer gave up.
    pub(crate) fn wait_filled(&self, bytes: u64) -> bool {
        /// Filling is a copy of some hundred bytes: the producer is either about to finish or preempted.
        const YIELDS: u32 = 16;
        let mut tries = 0;
        while self.filled.load(Ordering::Acquire) != bytes {
            if tries < YIELDS {
                tries += 1;
                std::thread::yield_now();
                continue;
            }
            let listener = self.settled.listen();
            if self.filled.load(Ordering::Acquire) != bytes {
                event_listener::Listener::wait(listener);
            }
        }
        self.broken.load(Ordering::Relaxed) == 0
    }

    /// Tells everybody who waits how the batch ended. The first word counts.
    pub(crate) fn finish(&self, outcome: Outcome) {
        let code = match outcome {
            Outcome::Durable => DURABLE,
            Outcome::Unknown => UNKNOWN,
        };
        let told =
            self.outcome.compare_exchange(PENDING, code, Ordering::Release, Ordering::Relaxed);
        if told.is_ok() {
            self.done.notify(usize::MAX);
        }
    }

    /// How the batch ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.outcome.load(Ordering::Acquire) {
            PENDING => None,
            DURABLE => Some(Outcome::Durable),
            _ => Some(Outcome::Unknown),
        }
    }

    /// Blocks until the batch has ended.
    pub(crate) fn wait(&self) -> Outcome {
        loop {
            if let Some(outcome) = self.outcome() {
                return outcome;
            }
            let listener = self.listen();
            if self.outcome().is_none() {
                event_listener::Listener::wait(listener);
            }
        }
    }

    /// Listens for the end; look at [`Ticket::outcome`] once more before waiting.
    pub(crate) fn listen(&self) -> EventListener {
        self.done.listen()
    }
}
