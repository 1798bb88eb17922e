//! Looking at a projection's state while it runs.
//!
//! Owns how the lanes' states are gathered, all of one position, and what a user sees of them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use event_listener::EventListener;

use super::definition::Projection;
use super::held::Purpose;
use super::shared::{Shared, lane_of};
use crate::error::ProjectionError;
use crate::event::Position;

/// The states that lanes have given, until all are there.
#[derive(Debug)]
pub(super) struct Gathered<S>(Mutex<States<S>>);

#[derive(Debug)]
struct States<S> {
    states: Vec<Option<Arc<S>>>,
    missing: usize,
}

impl<S> Gathered<S> {
    pub(super) fn new(lanes: usize) -> Self {
        let states = (0..lanes).map(|_| None).collect();
        Self(Mutex::new(States { states, missing: lanes }))
    }

    fn lock(&self) -> MutexGuard<'_, States<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, lane: usize, state: Arc<S>) {
        let mut gathered = self.lock();
        if gathered.states[lane].replace(state).is_none() {
            gathered.missing -= 1;
        }
    }

    /// All of them, once they are there.
    fn take(&self) -> Option<Vec<Arc<S>>> {
        let mut gathered = self.lock();
        (gathered.missing == 0)
            .then(|| gathered.states.iter_mut().filter_map(Option::take).collect())
    }
}

/// A projection's state, all of it as of one position. It stays as it is, for as long as it is kept, while the projection goes
/// on: with a copy of what is kept.
pub struct View<P: Projection> {
    states: Vec<Arc<P::State>>,
    position: Position,
}

impl<P: Projection> View<P> {
    /// Every event up to here is in it, and none behind.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The state of the first lane: all of the state, where there is one lane.
    pub fn state(&self) -> &P::State {
        &self.states[0]
    }

    /// The states of all lanes, in their order.
    pub fn states(&self) -> impl ExactSizeIterator<Item = &P::State> {
        self.states.iter().map(|state| &**state)
    }

    /// The state of the lane that has the events of this [key](Projection::key).
    pub fn state_of(&self, key: impl AsRef<[u8]>) -> &P::State {
        &self.states[lane_of(key.as_ref(), self.states.len())]
    }
}

impl<P: Projection> Clone for View<P> {
    fn clone(&self) -> Self {
        Self { states: self.states.clone(), position: self.position }
    }
}

impl<P: Projection> fmt::Debug for View<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("position", &self.position).finish_non_exhaustive()
    }
}

/// A view that was asked for: block for it with [`ViewRequest::wait`], or `.await` it. It comes as soon as each lane has applied
/// what it is at, and those behind have caught up with the others.
#[must_use = "a view comes to who waits for it"]
pub struct ViewRequest<P: Projection> {
    shared: Arc<Shared<P>>,
    gathered: Arc<Gathered<P::State>>,
    position: Position,
}

impl<P: Projection> ViewRequest<P> {
    pub(super) fn new(shared: Arc<Shared<P>>) -> Self {
        let gathered = Arc::new(Gathered::new(shared.lanes.len()));
        let position = shared.cut(&Purpose::Show(Arc::clone(&gathered)));
        Self { shared, gathered, position: Position(position) }
    }

    /// Blocks until it is there.
    ///
    /// # Errors
    /// [`ProjectionError::Failed`], [`ProjectionError::Stopped`]: where a lane does not come so far.
    pub fn wait(self) -> Result<View<P>, ProjectionError> {
        loop {
            let moved = self.shared.moved.listen();
            if let Some(view) = self.look() {
                return view;
            }
            event_listener::Listener::wait(moved);
        }
    }

    fn look(&self) -> Option<Result<View<P>, ProjectionError>> {
        // In this order: what has ended gives no more.
        let ended = self.shared.ended();
        if let Some(states) = self.gathered.take() {
            return Some(Ok(View { states, position: self.position }));
        }
        ended.map(Err)
    }
}

impl<P: Projection> fmt::Debug for ViewRequest<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewRequest").field("position", &self.position).finish_non_exhaustive()
    }
}

impl<P: Projection> Drop for ViewRequest<P> {
    fn drop(&mut self) {
        for lane in &self.shared.lanes {
            lane.lock().forget(|purpose| {
                matches!(purpose, Purpose::Show(gathered) if Arc::ptr_eq(gathered, &self.gathered))
            });
        }
    }
}

impl<P: Projection> IntoFuture for ViewRequest<P> {
    type Output = Result<View<P>, ProjectionError>;
    type IntoFuture = ViewFuture<P>;

    fn into_future(self) -> ViewFuture<P> {
        ViewFuture { request: self, moved: None }
    }
}

/// A [`ViewRequest`] that is awaited.
#[derive(Debug)]
#[must_use = "a view comes to who awaits it"]
pub struct ViewFuture<P: Projection> {
    request: ViewRequest<P>,
    moved: Option<EventListener>,
}

impl<P: Projection> Future for ViewFuture<P> {
    type Output = Result<View<P>, ProjectionError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let shared = &this.request.shared;
            let moved = this.moved.get_or_insert_with(|| shared.moved.listen());
            if let Some(view) = this.request.look() {
                return Poll::Ready(view);
            }
            if Pin::new(moved).poll(context).is_pending() {
                return Poll::Pending;
            }
            this.moved = None;
        }
    }
}
