//! The watermark: the last position that is durable. The only point at which events become visible.
//!
//! Owns that position, and who sleeps until it moves. Moved by whoever leads a batch, and by recovery before there are
//! readers; read by everybody. Calls `sleepers`.

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crossbeam_utils::CachePadded;

use super::sleepers::{Sleeper, Sleepers};
use crate::sync::{Arc as SleeperArc, AtomicU32, AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Watermark {
    /// On a cache line of its own: every reader reads it.
    position: CachePadded<AtomicU64>,
    /// Not 0 once it does not move any more.
    closed: AtomicU32,
    sleepers: CachePadded<Sleepers>,
}

impl Watermark {
    pub(crate) fn new(position: u64) -> Self {
        Self {
            position: CachePadded::new(AtomicU64::new(position)),
            closed: AtomicU32::new(0),
            sleepers: CachePadded::default(),
        }
    }

    /// The last durable position; everything up to it can be read by whoever has read this.
    pub(crate) fn get(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Publishes everything up to `position`. Whoever does it also calls [`Watermark::wake`], once it has told those who
    /// wait for what they have appended.
    pub(crate) fn advance(&self, position: u64) {
        let before = self.position.load(Ordering::Relaxed);
        assert!(position > before, "the watermark only grows");
        self.position.store(position, Ordering::Release);
    }

    /// Wakes those who sleep until the watermark moves.
    pub(crate) fn wake(&self) {
        self.sleepers.wake_all();
    }

    /// Nothing is published any more.
    pub(crate) fn close(&self) {
        self.closed.store(1, Ordering::Release);
        self.wake();
    }

    /// Whether it moves no more. Whoever sees that sees all that was published.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) != 0
    }

    /// Whether there is something behind a position, or never will be.
    fn is_past(&self, position: u64) -> bool {
        self.get() > position || self.is_closed()
    }
}

/// Who waits for the watermark: a thread, or a task, one at a time.
#[derive(Debug)]
pub(crate) struct Waiter {
    watermark: Arc<Watermark>,
    thread: Option<SleeperArc<Sleeper>>,
    task: Option<SleeperArc<Sleeper>>,
}

impl Waiter {
    pub(crate) fn new(watermark: Arc<Watermark>) -> Self {
        Self { watermark, thread: None, task: None }
    }

    /// Sleeps until the watermark is past a position, or closed, or it is that time, or for no reason.
    pub(crate) fn sleep(&mut self, position: u64, until: Option<Instant>) {
        self.sleep_unless(position, until, || false);
    }

    /// As [`Waiter::sleep`], unless there is something else to do: whoever says so wakes the sleepers then.
    pub(crate) fn sleep_unless(
        &mut self,
        position: u64,
        until: Option<Instant>,
        is_due: impl Fn() -> bool,
    ) {
        let sleeper = self.thread.get_or_insert_with(Sleeper::of_thread);
        let watermark = &self.watermark;
        let is_due = || watermark.is_past(position) || is_due();
        watermark.sleepers.sleep(sleeper, until, is_due);
    }

    /// Has the task woken once the watermark is past a position, or closed; false where it is.
    pub(crate) fn wake_later(&mut self, position: u64, waker: &Waker) -> bool {
        let watermark = &self.watermark;
        if self.task.as_ref().is_some_and(|task| !task.wakes(waker)) {
            give_up(watermark, self.task.take());
        }
        let task = self.task.get_or_insert_with(|| Sleeper::of_task(waker.clone()));
        watermark.sleepers.wake_later(task, || watermark.is_past(position))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        give_up(&self.watermark, self.thread.take());
        give_up(&self.watermark, self.task.take());
    }
}

fn give_up(watermark: &Watermark, sleeper: Option<SleeperArc<Sleeper>>) {
    if let Some(sleeper) = sleeper {
        watermark.sleepers.give_up(&sleeper);
    }
}
