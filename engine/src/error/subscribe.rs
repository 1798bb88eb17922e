//! What can go wrong with a subscription.

use super::ReadError;
use crate::event::Position;
use crate::query::InvalidQuery;

/// A subscription could not be started, or has ended, or could not read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The store was closed, and everything that is durable was received. Open it again, and begin after the last position.
    #[error("the store was closed")]
    Closed,
    /// The log ends before the position behind which the subscription was to begin: it is another store's, or the store was
    /// restored from an older copy, and what the consumer has seen since then is not in it. Find out which; then let the
    /// consumer begin anew, or after the head.
    #[error("the subscription was to begin after position {after}, and the log ends at {head}")]
    PastHead {
        /// Where it was to begin.
        after: Position,
        /// The position of the log's last durable event.
        head: Position,
    },
    /// The filter asks for something that no event can have, or for too much.
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    /// Events could not be read. To go on behind damage, begin another subscription after the last position that the error
    /// names.
    #[error(transparent)]
    Read(#[from] ReadError),
}
