//! What can go wrong with a projection.

use std::sync::Arc;

use super::{FileError, ReadError, SnapshotError};
use crate::event::Position;
use crate::limits::PROJECTION_LANES_MAX;
use crate::projection::ProjectionFailure;
use crate::query::InvalidQuery;

/// A projection could not be started, or does not come to what was asked for.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectionError {
    /// One of this name is running. Stop that one, or give this one another [`NAME`](crate::Projection::NAME).
    #[error("a projection named {name:?} is running already")]
    Running {
        /// The name.
        name: Box<str>,
    },
    /// It cannot have so many lanes.
    #[error("{lanes} lanes; there may be 1 to {PROJECTION_LANES_MAX}")]
    Lanes {
        /// How many were asked for.
        lanes: usize,
    },
    /// What was saved of it reflects an event behind the end of the log: the store was restored from an older copy, and what
    /// the projection has seen since then is not in it. Nothing was changed. Find out which of them is right; to build the
    /// state anew from what the log has, start it with [`rebuild`](crate::Project::rebuild).
    #[error(
        "projection {name:?} (lane {lane}) was saved at position {position}, and the log ends at {head}"
    )]
    PastHead {
        /// Its name.
        name: Box<str>,
        /// The lane.
        lane: usize,
        /// What it reflects.
        position: Position,
        /// The position of the log's last durable event.
        head: Position,
    },
    /// Its query asks for something that no event can have, or for too much.
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    /// What it begins with could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was saved of it could not be dropped, to build it anew; or what it reflects could not be saved when it was stopped.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A thread could not be started.
    #[error(transparent)]
    Thread(#[from] FileError),
    /// It has failed, and stands still.
    #[error(transparent)]
    Failed(#[from] Arc<ProjectionFailure>),
    /// It was stopped, or its store was closed.
    #[error("projection {name:?} was stopped at position {position}")]
    Stopped {
        /// Its name.
        name: Box<str>,
        /// How far it had come.
        position: Position,
    },
    /// Somebody had it go on before it rested.
    #[error("projection {name:?} was resumed before it rested")]
    Resumed {
        /// Its name.
        name: Box<str>,
    },
    /// It has not come so far in time. It goes on.
    #[error("projection {name:?} has come to position {reached} in time, and not to {position}")]
    TimedOut {
        /// Its name.
        name: Box<str>,
        /// What was waited for.
        position: Position,
        /// How far it had come.
        reached: Position,
    },
}
