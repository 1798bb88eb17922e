//! How a projection is.

use std::sync::Arc;

use super::failure::ProjectionFailure;
use crate::error::SnapshotError;
use crate::event::Position;
use crate::subscribe::ConsumerStats;

/// What a projection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It follows the log. Where there is a failure besides, an event is being tried again.
    Running,
    /// It was told to rest, and does, or is about to.
    Paused,
    /// An event failed for the last time: it rests before it.
    Failed,
    /// It was stopped, or its store was closed.
    Stopped,
}

/// How a projection is, when it was looked at.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// Its name.
    pub name: &'static str,
    /// What it is doing.
    pub phase: Phase,
    /// Every event up to here is in its state.
    pub position: Position,
    /// What it has failed by, and has not overcome.
    pub failure: Option<Arc<ProjectionFailure>>,
    /// Why its state could not be saved last. It goes on; after a restart more is replayed.
    pub save_error: Option<SnapshotError>,
    /// How far its lanes are, in their order.
    pub lanes: Vec<ConsumerStats>,
}
