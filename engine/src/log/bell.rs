//! What a background thread sleeps on: it is rung when there may be something to do, and told when
//! to end.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<Called>,
    rung: Condvar,
}

/// What a thread was called for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Called {
    /// There may be something to do.
    pub rung: bool,
    /// It is to end.
    pub stop: bool,
}

impl Bell {
    /// There may be something to do.
    pub(crate) fn ring(&self) {
        self.call(|called| called.rung = true);
    }

    /// The thread is to end.
    pub(crate) fn stop(&self) {
        self.call(|called| called.stop = true);
    }

    /// Whether the thread is to end, for one that is in the middle of something.
    pub(crate) fn is_stopped(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stop
    }

    fn call(&self, call: impl FnOnce(&mut Called)) {
        call(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.rung.notify_one();
    }

    /// What it was called for since the last look.
    pub(crate) fn take(&self) -> Called {
        Self::answer(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As [`Bell::take`], but waits for a call until then, or for as long as it takes.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Called {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout =
            until.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        let quiet = |called: &mut Called| !called.rung && !called.stop;
        let waited = self.rung.wait_timeout_while(state, timeout, quiet);
        Self::answer(&mut waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    fn answer(called: &mut Called) -> Called {
        let answered = *called;
        called.rung = false;
        answered
    }
}
