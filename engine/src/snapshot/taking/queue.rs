//! The snapshots that wait to be taken.
//!
//! Owns their bound, in number and in bytes, and that there is one of a key at a time. What is one too many is skipped:
//! whoever offers it never waits. What was asked for by somebody who waits is taken after what is under way of its key.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::key::Key;
use super::slot::Slot;
use super::{Folding, Ready};
use crate::limits::SNAPSHOT_JOBS_MAX;

/// A snapshot to be taken.
#[derive(Debug)]
pub(super) struct Job {
    pub key: Key,
    pub folding: Folding,
    /// The version of the stream at which it was due, where it was by events.
    pub due_at: Option<u64>,
    /// The state, where it is there already.
    pub ready: Option<Ready>,
    /// Who waits for it.
    pub slots: Vec<Arc<Slot>>,
}

impl Job {
    pub(super) fn bytes(&self) -> u64 {
        self.ready.as_ref().map_or(0, |ready| ready.payload.len() as u64)
    }
}

/// What became of an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    Queued,
    /// One of the key is on its way.
    UnderWay,
    /// There is no room.
    Full,
    Closed,
}

/// What a thread of the pool is to do.
#[derive(Debug)]
pub(super) enum Next {
    Job(Box<Job>),
    /// There was nothing for a while.
    Idle,
    Stop,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    jobs: VecDeque<Box<Job>>,
    /// Of those that wait, and of those that are being taken.
    bytes: u64,
    /// The hashes of those that wait or are being taken, each with what is to be done next.
    under_way: HashMap<u64, Option<Box<Job>>>,
    stopped: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Whether one of this hash could be added.
    pub(super) fn could_take(&self, hash: u64) -> Offered {
        let state = self.lock();
        if state.stopped {
            Offered::Closed
        } else if state.under_way.contains_key(&hash) {
            Offered::UnderWay
        } else if state.jobs.len() >= SNAPSHOT_JOBS_MAX {
            Offered::Full
        } else {
            Offered::Queued
        }
    }

    pub(super) fn offer(&self, job: Box<Job>, bytes_max: u64) -> Offered {
        let mut state = self.lock();
        if state.stopped {
            return Offered::Closed;
        }
        if state.jobs.len() >= SNAPSHOT_JOBS_MAX || state.bytes + job.bytes() > bytes_max {
            return Offered::Full;
        }
        let hash = job.key.hash();
        if let Some(after) = state.under_way.get_mut(&hash) {
            if job.slots.is_empty() {
                return Offered::UnderWay;
            }
            match after {
                Some(after) => after.slots.extend(job.slots),
                None => *after = Some(job),
            }
            return Offered::Queued;
        }
        state.under_way.insert(hash, None);
        state.push(job);
        drop(state);
        self.rung.notify_one();
        Offered::Queued
    }

    /// What is to be done next; waits no longer than this for it.
    pub(super) fn next(&self, patience: Duration) -> Next {
        let state = self.lock();
        let nothing = |state: &mut QueueState| state.jobs.is_empty() && !state.stopped;
        let waited = self.rung.wait_timeout_while(state, patience, nothing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return Next::Stop;
        }
        match state.jobs.pop_front() {
            Some(job) => Next::Job(job),
            None => Next::Idle,
        }
    }

    /// The one of this hash, of so many bytes, was taken.
    pub(super) fn done(&self, hash: u64, bytes: u64) {
        let mut state = self.lock();
        state.bytes -= bytes.min(state.bytes);
        match state.under_way.remove(&hash).flatten() {
            Some(after) if !state.stopped => {
                state.under_way.insert(hash, None);
                state.push(after);
                drop(state);
                self.rung.notify_one();
            }
            // Dropped with the rest, once they have ended.
            after => state.jobs.extend(after),
        }
    }

    /// Nothing is taken any more.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.rung.notify_all();
    }

    /// What was not taken when it was stopped.
    pub(super) fn left(&self) -> impl Iterator<Item = Box<Job>> + use<> {
        let mut state = self.lock();
        let under_way = std::mem::take(&mut state.under_way);
        state.bytes = 0;
        std::mem::take(&mut state.jobs).into_iter().chain(under_way.into_values().flatten())
    }
}

impl QueueState {
    fn push(&mut self, job: Box<Job>) {
        self.bytes += job.bytes();
        self.jobs.push_back(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(stream: &str, bytes: usize, waits: bool) -> Box<Job> {
        Box::new(Job {
            key: Key::new(stream, "state"),
            folding: Folding::NONE,
            due_at: None,
            ready: (bytes > 0).then(|| Ready::of_bytes(vec![0; bytes])),
            slots: if waits { vec![Arc::default()] } else { Vec::new() },
        })
    }

    fn taken(queue: &Queue) -> Option<Box<Job>> {
        match queue.next(Duration::ZERO) {
            Next::Job(job) => Some(job),
            Next::Idle | Next::Stop => None,
        }
    }

    #[test]
    fn what_is_too_much_is_skipped_and_nobody_waits() {
        let queue = Queue::default();
        assert_eq!(queue.offer(job("a", 60, false), 100), Offered::Queued);
        assert_eq!(queue.offer(job("b", 60, false), 100), Offered::Full);
        assert_eq!(queue.offer(job("b", 40, false), 100), Offered::Queued);
        let first = taken(&queue).unwrap();
        // It is in memory until it was taken.
        assert_eq!(queue.offer(job("c", 60, false), 100), Offered::Full);
        queue.done(first.key.hash(), first.bytes());
        for n in queue.len()..SNAPSHOT_JOBS_MAX {
            assert_eq!(queue.offer(job(&format!("s{n}"), 0, false), 100), Offered::Queued);
        }
        assert_eq!(queue.offer(job("c", 0, true), 100), Offered::Full);
    }

    #[test]
    fn one_of_a_key_is_under_way_and_one_more_follows_for_those_who_wait() {
        let queue = Queue::default();
        assert_eq!(queue.offer(job("a", 1, false), 100), Offered::Queued);
        assert_eq!(queue.offer(job("a", 1, false), 100), Offered::UnderWay);
        let first = taken(&queue).unwrap();
        assert_eq!(queue.offer(job("a", 1, false), 100), Offered::UnderWay);
        assert_eq!(queue.offer(job("a", 0, true), 100), Offered::Queued);
        assert_eq!(queue.offer(job("a", 0, true), 100), Offered::Queued);
        assert!(taken(&queue).is_none(), "it would be taken beside the first");
        queue.done(first.key.hash(), first.bytes());
        let second = taken(&queue).unwrap();
        assert_eq!(second.slots.len(), 2);
        queue.done(second.key.hash(), second.bytes());
        assert_eq!(queue.offer(job("a", 1, false), 100), Offered::Queued);
    }

    #[test]
    fn what_is_left_when_it_is_stopped_is_given_back() {
        let queue = Queue::default();
        queue.offer(job("a", 1, false), 100);
        let under_way = taken(&queue).unwrap();
        queue.offer(job("a", 0, true), 100);
        queue.offer(job("b", 0, true), 100);
        queue.stop();
        queue.done(under_way.key.hash(), under_way.bytes());
        assert_eq!(queue.left().count(), 2);
        assert_eq!(queue.offer(job("c", 0, true), 100), Offered::Closed);
    }
}
