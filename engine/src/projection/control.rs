//! What a running projection is to do: run, rest or end.
//!
//! Owns that word, the failure that goes with it, and how lanes that rest are woken. Each time that something else is wanted is
//! an epoch: what was said or reached in an earlier one counts no more. Lanes look at it between two parts of a batch.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::failure::ProjectionFailure;
use crate::sync::{AtomicU64, Ordering};

/// What the lanes are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Run,
    /// To rest, once each has come to the position that was agreed on.
    Pause,
    /// To rest where they are, since one of them has failed.
    Failed,
    /// To save, and to end.
    Stop,
}

/// What is wanted, since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub wanted: Wanted,
    pub epoch: u64,
}

impl Word {
    fn of_number(number: u64) -> Self {
        let wanted = match number & 3 {
            0 => Wanted::Run,
            1 => Wanted::Pause,
            2 => Wanted::Failed,
            _ => Wanted::Stop,
        };
        Self { wanted, epoch: number >> 2 }
    }

    fn number(self) -> u64 {
        self.epoch << 2 | self.wanted as u64
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Control {
    /// A [`Word`]. Changed under the lock, and looked at without.
    word: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What a lane has failed by: it is tried again, or all have stopped.
    failure: Option<Arc<ProjectionFailure>>,
    /// How often those who rest were to look at something else.
    nudges: u64,
}

impl Control {
    pub(super) fn new() -> Self {
        let word = Word { wanted: Wanted::Run, epoch: 0 };
        Self {
            word: AtomicU64::new(word.number()),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn word(&self) -> Word {
        Word::of_number(self.word.load(Ordering::Acquire))
    }

    pub(super) fn wanted(&self) -> Wanted {
        self.word().wanted
    }

    /// Has the lanes do something else, and gives the epoch that begins with that. What is to stop does nothing else any
    /// more, and what has failed only runs again or stops: then nothing changes, as where it is to pause already.
    pub(super) fn want(&self, wanted: Wanted) -> Option<u64> {
        let mut state = self.lock();
        match (self.wanted(), wanted) {
            (Wanted::Stop, _) | (Wanted::Failed | Wanted::Pause, Wanted::Pause) => return None,
            (Wanted::Failed, Wanted::Run) => state.failure = None,
            _ => {}
        }
        Some(self.set(wanted))
    }

    /// With the lock held.
    fn set(&self, wanted: Wanted) -> u64 {
        let epoch = self.word().epoch + 1;
        self.word.store(Word { wanted, epoch }.number(), Ordering::Release);
        self.changed.notify_all();
        epoch
    }

    /// A lane has failed.
    pub(super) fn failed(&self, failure: ProjectionFailure) {
        self.lock().failure = Some(Arc::new(failure));
    }

    /// What a lane has failed by is not tried again.
    pub(super) fn stands_still(&self) {
        let _state = self.lock();
        if self.wanted() != Wanted::Stop {
            self.set(Wanted::Failed);
        }
    }

    /// The lane that had failed goes on.
    pub(super) fn recovered(&self, lane: usize) {
        let mut state = self.lock();
        let is_its = state.failure.as_ref().is_some_and(|failure| failure.lane == lane);
        if is_its && self.wanted() != Wanted::Failed {
            state.failure = None;
        }
    }

    pub(super) fn failure(&self) -> Option<Arc<ProjectionFailure>> {
        self.lock().failure.clone()
    }

    /// The failure by which it stands still.
    pub(super) fn last_failure(&self) -> Option<Arc<ProjectionFailure>> {
        let state = self.lock();
        state.failure.clone().filter(|_| self.wanted() == Wanted::Failed)
    }

    /// Has those who rest look at something else.
    pub(super) fn nudge(&self) {
        self.lock().nudges += 1;
        self.changed.notify_all();
    }

    /// To be read before that is looked at for which one is nudged.
    pub(super) fn nudges(&self) -> u64 {
        self.lock().nudges
    }

    /// Rests until something else than this is wanted, or one is nudged; until then at most.
    pub(super) fn rest(&self, word: Word, nudges: u64, until: Option<Instant>) {
        let mut state = self.lock();
        while self.word() == word && state.nudges == nudges {
            let Some(until) = until else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
