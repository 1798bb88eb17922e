//! Threads that wait to be told of something in a batch in which they have nothing themselves.
//!
//! Owns how they are woken: one after the other, in the order in which they came, and few while a batch is being
//! written. They are many where many threads append to one stream, and all but one have lost against the batch that
//! they are told of. What they do next is most often to try again, and to lose against the next one. Woken all at once,
//! as those who wait for events of their own are, they take the processors for longer than a write lasts, and the next
//! write waits for them. While nothing is being written, nobody is kept waiting.
//!
//! A thread that was woken and whose batch has ended wakes the next one, unless enough were woken since the last batch
//! ended and another is being written: then the end of that one goes on. One whose batch has not ended wakes the next
//! one too, and sleeps again behind all others. Calls `sync` only; the tickets call it.

use crate::limits::WATCHERS_WOKEN_MAX;
use crate::sync::{AtomicU32, Ordering, WaitWord};

/// See the module.
#[derive(Debug)]
pub(crate) struct Watchers {
    /// How many batches have ended; they sleep on it.
    ended: WaitWord,
    asleep: AtomicU32,
    /// How many batches are being written.
    writing: AtomicU32,
    /// How many were woken since a batch ended, and how many may be.
    woken: AtomicU32,
    woken_max: u32,
}

impl Default for Watchers {
    fn default() -> Self {
        Self::waking(WATCHERS_WOKEN_MAX)
    }
}

impl Watchers {
    /// So many are woken while a batch is being written.
    pub(super) fn waking(woken_max: u32) -> Self {
        Self {
            ended: WaitWord::new(0),
            asleep: AtomicU32::new(0),
            writing: AtomicU32::new(0),
            woken: AtomicU32::new(0),
            woken_max,
        }
    }

    /// Blocks until there is an outcome.
    pub(super) fn wait<T>(&self, outcome: impl Fn() -> Option<T>) -> T {
        // Before it looks: whoever ends a batch behind this finds it here, and whoever has before is seen to have.
        self.asleep.fetch_add(1, Ordering::AcqRel);
        let mut passed = None;
        let outcome = loop {
            let ended = self.ended.load(Ordering::Acquire);
            if let Some(outcome) = outcome() {
                break outcome;
            }
            // It was woken in the place of another, unless nothing has ended since.
            if passed.replace(ended).is_some_and(|before| before != ended) {
                self.ended.wake_one();
            }
            self.ended.sleep(ended, None);
        };
        let others = self.asleep.fetch_sub(1, Ordering::AcqRel) - 1;
        if others > 0 && self.goes_on() {
            self.ended.wake_one();
        }
        outcome
    }

    /// Whether another one is to be woken now.
    fn goes_on(&self) -> bool {
        self.woken.fetch_add(1, Ordering::Relaxed) + 1 < self.woken_max
            || newest(&self.writing) == 0
    }

    /// A batch is being written.
    pub(super) fn write_begins(&self) {
        self.writing.fetch_add(1, Ordering::AcqRel);
    }

    /// A batch has ended, and its outcome can be seen; `written` where its write had begun.
    pub(super) fn batch_ends(&self, written: bool) {
        if written {
            self.writing.fetch_sub(1, Ordering::AcqRel);
        }
        self.woken.store(0, Ordering::Relaxed);
        self.ended.fetch_add(1, Ordering::AcqRel);
        if newest(&self.asleep) > 0 {
            self.ended.wake_one();
        }
    }
}

/// The last value that was written, which a load need not give.
fn newest(count: &AtomicU32) -> u32 {
    count.fetch_add(0, Ordering::AcqRel)
}
