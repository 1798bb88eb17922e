//! What a snapshot that was asked for has come to.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::SnapshotError;

/// What it is: the version of the stream that its newest snapshot reflects now; none where it has no events.
pub(super) type Outcome = Result<Option<u64>, SnapshotError>;

/// See the module. Shared by whoever waits and the thread that takes it.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    state: Mutex<SlotState>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct SlotState {
    outcome: Option<Outcome>,
    waker: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn finish(&self, outcome: Outcome) {
        let mut state = self.lock();
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state);
        self.done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A snapshot that was asked for. It is taken whether this is waited for or not: by blocking, with [`Taking::wait`], or by
/// `.await`.
#[derive(Debug)]
#[must_use = "what it comes to is told to who waits for it"]
pub struct Taking(Arc<Slot>);

impl Taking {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        Self(slot)
    }

    /// One that has ended already.
    pub(crate) fn ended(outcome: Outcome) -> Self {
        let slot = Slot::default();
        slot.finish(outcome);
        Self(Arc::new(slot))
    }

    /// Blocks until it was taken, and says which version of the stream it reflects: all events that were durable when it was
    /// asked for are in it, and maybe later ones. `None` where the stream has none.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn wait(self) -> Result<Option<u64>, SnapshotError> {
        let mut state = self.0.lock();
        loop {
            match state.outcome.take() {
                Some(outcome) => return outcome,
                None => state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Future for Taking {
    type Output = Result<Option<u64>, SnapshotError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        if let Some(outcome) = state.outcome.take() {
            return Poll::Ready(outcome);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
