//! A projection that runs, as its user holds it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, ThreadId};

use event_listener::Listener as _;

use super::control::{Wanted, Word};
use super::definition::Projection;
use super::held::Purpose;
use super::registry::Runs;
use super::shared::Shared;
use super::status::{Phase, ProjectionStatus};
use super::view::ViewRequest;
use super::wait::WaitFor;
use crate::error::ProjectionError;
use crate::event::Position;

/// A projection that runs. It is stopped when this is dropped, and when the store is closed; what its state reflects is saved
/// then.
pub struct Projected<P: Projection>(Arc<Running<P>>);

/// What the user and the store share.
pub(super) struct Running<P: Projection> {
    shared: Arc<Shared<P>>,
    lanes: Vec<ThreadId>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<P: Projection> Runs for Running<P> {
    fn end(&self) {
        self.shared.control.want(Wanted::Stop);
        self.shared.wake();
        self.shared.moved.notify(usize::MAX);
        if self.lanes.contains(&std::thread::current().id()) {
            // What it applies has dropped the store, or the projection itself: nobody waits for himself.
            return;
        }
        // Held to the end: whoever stops it at the same time returns when it has stopped.
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(name = P::NAME, "a lane of a projection panicked");
            }
        }
        self.shared.moved.notify(usize::MAX);
        drop(self.shared.with_reserved(Option::take));
    }
}

impl<P: Projection> Running<P> {
    pub(super) fn new(shared: Arc<Shared<P>>, threads: Vec<JoinHandle<()>>) -> Self {
        let lanes = threads.iter().map(|thread| thread.thread().id()).collect();
        Self { shared, lanes, threads: Mutex::new(threads) }
    }

    /// Has it stopped when the store is closed; at once, where it was.
    pub(super) fn register(self: &Arc<Self>) {
        let is_closed = self.shared.with_reserved(|reserved| {
            reserved.as_ref().is_some_and(|reserved| reserved.runs(self))
        });
        if is_closed {
            self.end();
        }
    }
}

impl<P: Projection> Projected<P> {
    pub(super) fn new(running: Arc<Running<P>>) -> Self {
        Self(running)
    }

    fn shared(&self) -> &Arc<Shared<P>> {
        &self.0.shared
    }

    /// Every event up to here is in its state, in the states of all lanes.
    pub fn position(&self) -> Position {
        Position(self.shared().reached())
    }

    /// Waits until every event up to a position is in its state, by blocking or by `.await`: with the position of a receipt,
    /// one reads what one has written.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn doc<P: stratalog::Projection>(projection: stratalog::Projected<P>, receipt: stratalog::Receipt)
    /// #     -> Result<(), Box<dyn std::error::Error>> {
    /// projection.wait_for(receipt.position()).timeout(Duration::from_secs(1)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for(&self, position: impl Into<Position>) -> WaitFor<P> {
        WaitFor::new(Arc::clone(self.shared()), position.into())
    }

    /// The state, as of one position in all lanes: that of the lane that is farthest now. Nothing is held up by who looks at
    /// it, for however long: the projection goes on with a copy of the state of that lane then.
    pub fn view(&self) -> ViewRequest<P> {
        ViewRequest::new(Arc::clone(self.shared()))
    }

    /// How it is.
    pub fn status(&self) -> ProjectionStatus {
        let shared = self.shared();
        ProjectionStatus {
            name: P::NAME,
            phase: match shared.control.wanted() {
                Wanted::Run => Phase::Running,
                Wanted::Pause => Phase::Paused,
                Wanted::Failed => Phase::Failed,
                Wanted::Stop => Phase::Stopped,
            },
            position: self.position(),
            failure: shared.control.failure(),
            save_error: shared.save_error(),
            lanes: shared.lanes.iter().map(|lane| lane.cursor.stats(&shared.reads)).collect(),
        }
    }

    /// Has it rest, with all lanes at one position, and returns when they do; with that position. What it reflects is saved.
    ///
    /// # Errors
    /// [`ProjectionError::Failed`], [`ProjectionError::Stopped`]; [`ProjectionError::Resumed`], where somebody had it go on
    /// meanwhile.
    pub fn pause(&self) -> Result<Position, ProjectionError> {
        let shared = self.shared();
        let paused = shared.control.want(Wanted::Pause);
        if let Some(epoch) = paused {
            shared.cut(&Purpose::Park(epoch));
        }
        let epoch = paused.unwrap_or_else(|| shared.control.word().epoch);
        loop {
            let moved = shared.moved.listen();
            if let Some(ended) = shared.ended() {
                return Err(ended);
            }
            if shared.control.word() != (Word { wanted: Wanted::Pause, epoch }) {
                return Err(ProjectionError::Resumed { name: P::NAME.into() });
            }
            if shared.lanes.iter().all(|lane| lane.lock().rests == Some(epoch)) {
                return Ok(self.position());
            }
            moved.wait();
        }
    }

    /// Has it go on, after it was paused, or has failed: then the event is tried again.
    ///
    /// # Errors
    /// [`ProjectionError::Stopped`].
    pub fn resume(&self) -> Result<(), ProjectionError> {
        let shared = self.shared();
        let is_still = matches!(shared.control.wanted(), Wanted::Pause | Wanted::Failed);
        if is_still && shared.control.want(Wanted::Run).is_some() {
            shared.wake();
            shared.moved.notify(usize::MAX);
        }
        match shared.ended() {
            Some(stopped @ ProjectionError::Stopped { .. }) => Err(stopped),
            _ => Ok(()),
        }
    }

    /// Stops it, and saves what it reflects; gives that position. Events that are on their way to it are for the next start.
    ///
    /// # Errors
    /// [`ProjectionError::Failed`], where it stood still because an event had failed; [`ProjectionError::Snapshot`], where what
    /// it reflects could not be saved, so that the next start replays more. It is stopped all the same.
    pub fn stop(self) -> Result<Position, ProjectionError> {
        let failure = self.shared().control.last_failure();
        self.0.end();
        if let Some(failure) = failure {
            return Err(failure.into());
        }
        match self.shared().save_error() {
            Some(error) => Err(error.into()),
            None => Ok(self.position()),
        }
    }
}

impl<P: Projection> Drop for Projected<P> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<P: Projection> fmt::Debug for Projected<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Projected")
            .field("name", &P::NAME)
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}
