//! The projections of an open store that run.
//!
//! Owns that there is one of a name, and that all have stopped when the store is closed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::error::ProjectionError;
use crate::event::Position;

/// A projection, whatever it is of.
pub(super) trait Runs: Send + Sync {
    /// Stops it, and returns when it has stopped.
    fn end(&self);
}

/// See the module.
#[derive(Default)]
pub(crate) struct Projections(Mutex<All>);

#[derive(Default)]
struct All {
    is_closed: bool,
    running: Vec<(&'static str, Option<Weak<dyn Runs>>)>,
}

impl std::fmt::Debug for Projections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.lock().running.iter().map(|(name, _)| name)).finish()
    }
}

/// A name that is taken, until this is dropped.
pub(super) struct Reserved {
    name: &'static str,
    projections: Arc<Projections>,
}

impl Projections {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// [`ProjectionError::Running`]; [`ProjectionError::Stopped`], where the store was closed.
    pub(super) fn reserve(
        self: &Arc<Self>,
        name: &'static str,
    ) -> Result<Reserved, ProjectionError> {
        let mut all = self.lock();
        if all.is_closed {
            return Err(ProjectionError::Stopped { name: name.into(), position: Position(0) });
        }
        if all.running.iter().any(|(running, _)| *running == name) {
            return Err(ProjectionError::Running { name: name.into() });
        }
        all.running.push((name, None));
        Ok(Reserved { name, projections: Arc::clone(self) })
    }

    /// Stops all of them. None is started any more.
    pub(crate) fn close(&self) {
        let mut all = self.lock();
        all.is_closed = true;
        let running: Vec<_> = all.running.iter().filter_map(|(_, runs)| runs.clone()).collect();
        drop(all);
        for projection in running {
            if let Some(projection) = projection.upgrade() {
                projection.end();
            }
        }
    }
}

impl Reserved {
    /// Has the projection stopped when the store is closed; says whether it was.
    pub(super) fn runs(&self, projection: &Arc<impl Runs + 'static>) -> bool {
        let weak: Weak<dyn Runs> = Arc::downgrade(&(Arc::clone(projection) as Arc<dyn Runs>));
        let mut all = self.projections.lock();
        if let Some((_, runs)) = all.running.iter_mut().find(|(name, _)| *name == self.name) {
            *runs = Some(weak);
        }
        all.is_closed
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.projections.lock().running.retain(|(name, _)| *name != self.name);
    }
}
