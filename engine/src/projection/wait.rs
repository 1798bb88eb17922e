//! Waiting until a projection has come to a position: reading one's own writes.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use event_listener::{EventListener, Listener as _};

use super::definition::Projection;
use super::shared::{Awaited, Shared};
use crate::error::ProjectionError;
use crate::event::Position;

/// That a projection comes to a position: block for it with [`WaitFor::wait`], or `.await` it. See
/// [`Projected::wait_for`](super::Projected::wait_for).
#[must_use = "nobody waits before `wait`, or before it is awaited"]
pub struct WaitFor<P: Projection> {
    shared: Arc<Shared<P>>,
    position: Position,
    timeout: Option<Duration>,
}

impl<P: Projection> WaitFor<P> {
    pub(super) fn new(shared: Arc<Shared<P>>, position: Position) -> Self {
        Self { shared, position, timeout: None }
    }

    /// Waits no longer than this; from when it is waited for. Default: as long as it takes.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Blocks until every event up to the position is in the state of the projection, and gives how far it has come.
    ///
    /// # Errors
    /// [`ProjectionError::TimedOut`]; [`ProjectionError::Failed`] and [`ProjectionError::Stopped`], where it has not come so
    /// far and does not go on.
    pub fn wait(self) -> Result<Position, ProjectionError> {
        let until = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        if let Some(outcome) = self.look(until) {
            return outcome;
        }
        let _awaited = self.shared.awaited();
        loop {
            let moved = self.shared.moved.listen();
            if let Some(outcome) = self.look(until) {
                return outcome;
            }
            match until {
                Some(until) => drop(moved.wait_deadline(until)),
                None => moved.wait(),
            }
        }
    }

    fn look(&self, until: Option<Instant>) -> Option<Result<Position, ProjectionError>> {
        // In this order: what has ended comes no further.
        let ended = self.shared.ended();
        let reached = Position(self.shared.reached());
        if reached >= self.position {
            return Some(Ok(reached));
        }
        if let Some(ended) = ended {
            return Some(Err(ended));
        }
        until.filter(|until| Instant::now() >= *until).map(|_| {
            let (name, position) = (P::NAME.into(), self.position);
            Err(ProjectionError::TimedOut { name, position, reached })
        })
    }
}

impl<P: Projection> fmt::Debug for WaitFor<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFor")
            .field("position", &self.position)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl<P: Projection> IntoFuture for WaitFor<P> {
    type Output = Result<Position, ProjectionError>;
    type IntoFuture = WaitForFuture<P>;

    fn into_future(self) -> WaitForFuture<P> {
        let until = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        WaitForFuture { waits: self, until, moved: None, awaited: None }
    }
}

/// A [`WaitFor`] that is awaited. Its time is kept by a thread of the projection, so that it needs no runtime.
#[derive(Debug)]
#[must_use = "nobody waits before it is awaited"]
pub struct WaitForFuture<P: Projection> {
    waits: WaitFor<P>,
    until: Option<Instant>,
    moved: Option<EventListener>,
    awaited: Option<Awaited<P>>,
}

impl<P: Projection> Future for WaitForFuture<P> {
    type Output = Result<Position, ProjectionError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let shared = &this.waits.shared;
            let moved = this.moved.get_or_insert_with(|| shared.moved.listen());
            if let Some(until) = this.until {
                shared.alarm.set(until, || shared.wake());
            }
            if let Some(outcome) = this.waits.look(this.until) {
                return Poll::Ready(outcome);
            }
            this.awaited.get_or_insert_with(|| shared.awaited());
            if Pin::new(moved).poll(context).is_pending() {
                return Poll::Pending;
            }
            this.moved = None;
        }
    }
}
