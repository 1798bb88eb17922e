//! What a subscription is to be of, and where its events come from.

use std::sync::Arc;

use super::consumers::Consumers;
use super::subscription::Subscription;
use crate::error::{ReadError, SubscribeError};
use crate::event::Position;
use crate::limits::SUBSCRIBER_BEHIND_DEFAULT;
use crate::query::{InvalidQuery, Query};
use crate::read::{Batch, ReadAll, ReadQuery, ReaderAll, ReaderQuery, Reads};

/// A subscription, to be narrowed and started: see [`Store::subscribe`](crate::Store::subscribe).
#[derive(Debug, Clone)]
#[must_use = "nothing is received before `start`"]
pub struct Subscribe {
    reads: Arc<Reads>,
    consumers: Arc<Consumers>,
    after: Position,
    query: Option<Query>,
    name: Box<str>,
    behind: u64,
}

impl Subscribe {
    pub(crate) fn new(reads: Arc<Reads>, consumers: Arc<Consumers>) -> Self {
        let (after, name) = (Position(0), "".into());
        Self { reads, consumers, after, query: None, name, behind: SUBSCRIBER_BEHIND_DEFAULT }
    }

    /// Begins behind this position; 0, the default, is before all events. To begin with what comes from now on, give it
    /// [`Store::head`](crate::Store::head).
    pub fn after(mut self, position: impl Into<Position>) -> Self {
        self.after = position.into();
        self
    }

    /// Only events that match, by stream, category, types and tags. What does not match is passed, and moves the
    /// subscription's position all the same. Default: all events.
    pub fn filter(mut self, query: Query) -> Self {
        self.query = Some(query);
        self
    }

    /// Under which name it is listed by [`Store::consumers`](crate::Store::consumers). Default: none. Names need not differ.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// How many events a subscriber that was caught up may have to read before it is told that it has fallen behind; those
    /// count that do not match, too. From 1 on, default [`SUBSCRIBER_BEHIND_DEFAULT`].
    pub fn falls_behind(mut self, events: u64) -> Self {
        self.behind = events.max(1);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`SubscribeError::PastHead`], where the log ends before the position that it is to begin behind;
    /// [`SubscribeError::Query`], where the filter is none.
    pub fn start(self) -> Result<Subscription, SubscribeError> {
        let (after, head) = (self.after, Position(self.reads.watermark.get()));
        if after > head {
            return Err(SubscribeError::PastHead { after, head });
        }
        let source = Source::new(&self.reads, self.query, after.0)?;
        let cursor = self.consumers.add(&self.name, None, after.0);
        Ok(Subscription::new(self.reads, source, cursor, self.behind))
    }
}

/// Where a consumer's events come from: a reader that is asked again when there may be more.
#[derive(Debug)]
pub(crate) enum Source {
    All(ReaderAll),
    Matching(ReaderQuery),
}

impl Source {
    /// Of the events behind a position that match.
    ///
    /// # Errors
    /// [`InvalidQuery`].
    pub(crate) fn new(
        reads: &Arc<Reads>,
        query: Option<Query>,
        after: u64,
    ) -> Result<Self, InvalidQuery> {
        match query.filter(|query| !query.is_all()) {
            None => Ok(Self::All(ReadAll::new(Arc::clone(reads)).after(after).forward())),
            Some(query) => {
                query.check()?;
                Ok(Self::Matching(ReadQuery::new(Arc::clone(reads), query).after(after).forward()))
            }
        }
    }

    /// The next events; none where everything that is durable was passed.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn next_batch(&mut self) -> Result<Option<Batch>, ReadError> {
        match self {
            Self::All(reader) => reader.next_batch(),
            Self::Matching(reader) => reader.next_batch(),
        }
    }

    /// The position up to which everything was returned, or does not match.
    pub(crate) fn passed(&self) -> u64 {
        match self {
            Self::All(reader) => reader.passed(),
            Self::Matching(reader) => reader.passed(),
        }
    }
}
