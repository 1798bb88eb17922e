//! Why a projection has failed.

use std::any::Any;
use std::error::Error;
use std::sync::Arc;

use crate::error::{DecodeError, ReadError};
use crate::event::Position;

/// A projection could not apply an event, or not read it. While it is tried again, [`Projected::status`] shows it; where
/// that does not help, the projection has stopped: the lane of the event before it, its other lanes where they were then. Other
/// projections go on.
///
/// Mend what is wrong, and [resume](super::Projected::resume) it; or start it anew with what was mended.
///
/// [`Projected::status`]: super::Projected::status
#[derive(Debug, Clone, thiserror::Error)]
#[error("projection {projection:?} (lane {lane}) failed at position {position}{}: {cause}; tried {attempts} times", on(.stream.as_ref()))]
#[non_exhaustive]
pub struct ProjectionFailure {
    /// The projection's name.
    pub projection: Box<str>,
    /// The number of its lane, from 0 on.
    pub lane: usize,
    /// The position of the event; that from which on nothing could be read, where that is what failed.
    pub position: Position,
    /// The stream of the event, if it could be read, and its type.
    pub stream: Option<(Box<str>, Box<str>)>,
    /// How often it was tried.
    pub attempts: u32,
    /// What is wrong.
    pub cause: FailureCause,
}

/// What a projection fails by.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum FailureCause {
    /// [`Projection::apply`](super::Projection::apply) gave an error.
    #[error("{0}")]
    Failed(Arc<dyn Error + Send + Sync>),
    /// The projection's code panicked, and said this.
    #[error("it panicked: {0}")]
    Panicked(Box<str>),
    /// The event is of a type, a version or a layout that the projection's events do not know.
    #[error("{0}")]
    Decode(Arc<DecodeError>),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<DecodeError> for FailureCause {
    fn from(error: DecodeError) -> Self {
        Self::Decode(Arc::new(error))
    }
}

impl FailureCause {
    /// What the code said that has panicked, or what is wrong.
    pub(super) fn into_message(self) -> Box<str> {
        match self {
            Self::Panicked(message) => message,
            cause => cause.to_string().into(),
        }
    }

    pub(super) fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("(nothing that can be shown)");
        Self::Panicked(message.into())
    }
}

fn on(stream: Option<&(Box<str>, Box<str>)>) -> String {
    match stream {
        Some((stream, event_type)) => format!(" (a {event_type:?} of stream {stream:?})"),
        None => String::new(),
    }
}
