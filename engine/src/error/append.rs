//! Why an append did not happen.

use std::fmt;
use std::time::Duration;

use super::{FileError, Poisoned, ReadError};
use crate::append::Expect;
use crate::event::{EncodeError, EventId, Position};
use crate::limits::{
    APPEND_EVENTS_MAX, APPEND_TAGS_MAX, CONDITIONS_MAX, ID_AHEAD_MAX, TRANSACTION_STREAMS_MAX,
};
use crate::query::InvalidQuery;

/// A stream was not as an append expected it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConflict {
    pub(crate) stream: Box<str>,
    pub(crate) expected: Expect,
    pub(crate) actual: Option<u64>,
    pub(crate) claimed: Option<u64>,
}

impl StreamConflict {
    /// The stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// What was expected of it.
    pub fn expected(&self) -> Expect {
        self.expected
    }

    /// The version of its last durable event; none where it has none.
    pub fn actual(&self) -> Option<u64> {
        self.actual
    }

    /// The version that its last event will have when everything is durable that had a place in the log when this was
    /// judged: [`actual`](Self::actual), or more than that. The events behind `actual` are on their way, and may not be readable
    /// yet; so are those that were only [accepted](crate::Durability::Accepted).
    ///
    /// An append that depends on nothing but the stream's version, because its event is numbered say, may expect this one
    /// and gets into the same write as those before it. One that depends on the events has to read them
    /// first, up to `actual`, and expects that.
    ///
    /// ```
    /// # use stratalog::{AppendError, Expect, NewEvent, Store};
    /// # let directory = tempfile::tempdir()?;
    /// # let store = Store::open(directory.path().join("store"))?;
    /// # store.append("invoices", Expect::NoStream, [NewEvent::bytes("issued", *b"0")]).wait()?;
    /// let mut expected = Expect::NoStream;
    /// let number = loop {
    ///     let number = match expected { Expect::Version(last) => last + 1, _ => 0 };
    ///     let issued = NewEvent::bytes("issued", number.to_string());
    ///     match store.append("invoices", expected, [issued]).wait() {
    ///         Ok(_) => break number,
    ///         Err(AppendError::Conflict(conflict)) => {
    ///             let claimed = conflict.streams().next().and_then(|stream| stream.claimed());
    ///             expected = claimed.map_or(Expect::NoStream, Expect::Version);
    ///         }
    ///         Err(error) => return Err(error.into()),
    ///     }
    /// };
    /// assert_eq!(number, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn claimed(&self) -> Option<u64> {
        self.claimed
    }

    /// The version of the first event that the append did not know of: read the stream from there for
    /// the events in between.
    pub fn unseen_from(&self) -> u64 {
        match self.expected {
            Expect::Version(version) => version.saturating_add(1),
            Expect::Any | Expect::NoStream | Expect::Exists => 0,
        }
    }
}

impl fmt::Display for StreamConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {:?} was expected to have {}, but ", self.stream, self.expected)?;
        match self.actual {
            Some(version) => write!(f, "its last version is {version}")?,
            None => f.write_str("it has no events")?,
        }
        match self.claimed {
            Some(claimed) if self.claimed > self.actual => {
                write!(f, ", and what is on its way goes up to {claimed}")
            }
            _ => Ok(()),
        }
    }
}

/// What a condition of an append is for: how its failure is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConditionKind {
    /// [`Append::fail_if`](crate::Append::fail_if): what the append was based on has changed.
    FailIf,
    /// [`Append::fail_if_exists`](crate::Append::fail_if_exists): what it would bring about is there.
    FailIfExists,
}

/// A condition of an append that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConditionConflict {
    pub(crate) condition: usize,
    pub(crate) kind: ConditionKind,
    pub(crate) after: Position,
    pub(crate) position: Position,
}

impl ConditionConflict {
    /// Which of the append's conditions it is: how many were given before it, of either kind.
    pub fn condition(&self) -> usize {
        self.condition
    }

    /// What the condition is for.
    pub fn kind(&self) -> ConditionKind {
        self.kind
    }

    /// The position behind which no event was to match; 0 where none was to match at all.
    pub fn after(&self) -> Position {
        self.after
    }

    /// The position of the first event behind it that matches. It is durable: read the query from there for
    /// what the append did not know of.
    pub fn position(&self) -> Position {
        self.position
    }
}

impl fmt::Display for ConditionConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { condition, kind, after, position } = self;
        match kind {
            ConditionKind::FailIf => {
                write!(
                    f,
                    "the event at position {position} matches condition {condition}, after {after}"
                )
            }
            ConditionKind::FailIfExists => {
                write!(f, "what condition {condition} asks for is there, at position {position}")
            }
        }
    }
}

/// A check of an append that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailedCheck {
    /// Of a stream.
    Stream(StreamConflict),
    /// A condition.
    Condition(ConditionConflict),
}

impl fmt::Display for FailedCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stream(conflict) => write!(f, "{conflict}"),
            Self::Condition(conflict) => write!(f, "{conflict}"),
        }
    }
}

/// Why an append did not happen, though nothing is wrong with it: all of its checks that failed. Nothing was
/// written, and everything that this is based on is durable; only [`StreamConflict::claimed`] speaks of more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Never empty.
    failed: Box<[FailedCheck]>,
}

impl Conflict {
    /// Of the checks that failed, of which there is at least one.
    pub(crate) fn new(failed: impl IntoIterator<Item = FailedCheck>) -> Self {
        Self { failed: failed.into_iter().collect() }
    }

    /// All checks that failed: streams first, then conditions, each in the order in which they were given.
    pub fn failed(&self) -> &[FailedCheck] {
        &self.failed
    }

    /// The streams that were not as expected.
    pub fn streams(&self) -> impl Iterator<Item = &StreamConflict> {
        self.failed.iter().filter_map(|check| match check {
            FailedCheck::Stream(conflict) => Some(conflict),
            FailedCheck::Condition(_) => None,
        })
    }

    /// The conditions that do not hold.
    pub fn conditions(&self) -> impl Iterator<Item = &ConditionConflict> {
        self.failed.iter().filter_map(|check| match check {
            FailedCheck::Condition(conflict) => Some(conflict),
            FailedCheck::Stream(_) => None,
        })
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, check) in self.failed.iter().enumerate() {
            let between = if number > 0 { "; " } else { "" };
            write!(f, "{between}{check}")?;
        }
        Ok(())
    }
}

/// How an append differs from what is in the log with one of its ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdDifference {
    /// Some of its ids are there, and others are not, or are those that the store has given them.
    Part {
        /// How many are there.
        present: usize,
        /// How many events it has.
        of: usize,
    },
    /// The event is in another stream.
    Stream,
    /// The event has another type or payload.
    Content,
    /// All of its events are there, but not next to each other in this order, or not at the versions that it expects.
    Place,
}

impl fmt::Display for IdDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Part { present, of } => {
                write!(f, "{present} of the {of} events of this append are in the log")
            }
            Self::Stream => f.write_str("this append has it for another stream"),
            Self::Content => f.write_str("this append has it with another type or payload"),
            Self::Place => f.write_str("this append has its events elsewhere or in another order"),
        }
    }
}

/// An event that is in the log with an id that an append brings again, which does not repeat the append that it came
/// with. It is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventExists {
    pub(crate) id: EventId,
    pub(crate) stream: Box<str>,
    pub(crate) version: u64,
    pub(crate) position: Position,
    pub(crate) difference: IdDifference,
}

impl EventExists {
    /// The id.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// The stream of the event in the log.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The version of the event in the log.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The position of the event in the log.
    pub fn position(&self) -> Position {
        self.position
    }

    /// How the append differs from what is there.
    pub fn difference(&self) -> IdDifference {
        self.difference
    }
}

impl fmt::Display for EventExists {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, stream, version, position, difference } = self;
        write!(
            f,
            "event {id} is in the log, at position {position} as version {version} of stream {stream:?}, but {difference}"
        )
    }
}

/// An append, a transaction or a check did not succeed. Unless it is [`AppendError::Unknown`], nothing of it is in the
/// log nor ever will be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// An event, a name or a tag is not valid. Mend it.
    #[error(transparent)]
    Invalid(#[from] EncodeError),
    /// An append without events, or a call of a transaction without. Use [`Store::check`](crate::Store::check) for a pure check.
    #[error("an append to stream {stream:?} has no events")]
    Empty {
        /// The stream.
        stream: Box<str>,
    },
    /// More than [`APPEND_EVENTS_MAX`] events. Split the append.
    #[error("an append to stream {stream:?} has more than {APPEND_EVENTS_MAX} events")]
    TooManyEvents {
        /// The stream.
        stream: Box<str>,
    },
    /// More than [`APPEND_TAGS_MAX`] tags, those of all events together. Split the append.
    #[error("the events of an append to stream {stream:?} have more than {APPEND_TAGS_MAX} tags")]
    TooManyTags {
        /// The stream.
        stream: Box<str>,
    },
    /// More bytes than an append may have: see
    /// [`append_bytes_max`](crate::limits::append_bytes_max). Split the append, or open the store with
    /// larger segments.
    #[error("an append to stream {stream:?} takes {bytes} bytes or more; it may take {bytes_max}")]
    TooLarge {
        /// The stream.
        stream: Box<str>,
        /// What the append takes, as far as it was encoded.
        bytes: u64,
        /// What it may take.
        bytes_max: u64,
    },
    /// A transaction that has no events and checks nothing.
    #[error("a transaction has no events and checks nothing")]
    EmptyTransaction,
    /// More than [`TRANSACTION_STREAMS_MAX`] streams. Split the transaction.
    #[error("a transaction is about more than {TRANSACTION_STREAMS_MAX} streams")]
    TooManyStreams,
    /// A transaction expects of a stream what cannot be true at once; all expectations are about the stream as it is
    /// before the transaction. Mend it.
    #[error("stream {stream:?} is expected to have {expected}, and to have {also}")]
    Contradiction {
        /// The stream.
        stream: Box<str>,
        /// What was expected first.
        expected: Expect,
        /// What was expected as well.
        also: Expect,
    },
    /// A transaction has a checkpoint as it was read. Give it one that was
    /// [moved](crate::Checkpoint::moved_to).
    #[error("the checkpoint of consumer {consumer:?} was never moved")]
    CheckpointNotMoved {
        /// The consumer.
        consumer: Box<str>,
    },
    /// A transaction moves the checkpoint of a consumer twice. Mend it.
    #[error("the checkpoint of consumer {consumer:?} is moved twice")]
    CheckpointTwice {
        /// The consumer.
        consumer: Box<str>,
    },
    /// A checkpoint is to be behind everything that can have been read. Take a position that a read has reported.
    #[error(
        "the checkpoint of consumer {consumer:?} was to be at position {position}; the last one is {head}"
    )]
    CheckpointAfterHead {
        /// The consumer.
        consumer: Box<str>,
        /// The position that was given.
        position: Position,
        /// The position of the last durable event.
        head: Position,
    },
    /// Two events of the append have the same id. Give each its own.
    #[error("two events of an append have the id {id}")]
    IdTwice {
        /// The id.
        id: EventId,
    },
    /// An id says that it was made later than the store's clock could know of, by more than [`ID_AHEAD_MAX`]. Correct
    /// the clock that made it, or choose ids of another version than 7.
    #[error(
        "event id {id} says that it was made {ahead:?} from now; it may be {ID_AHEAD_MAX:?} ahead of the store's clock"
    )]
    IdAhead {
        /// The id.
        id: EventId,
        /// By how much.
        ahead: Duration,
    },
    /// An event with an id of the append is in the log, and the append does not repeat the one that it came with. What
    /// was meant is for the caller to say: nothing was appended.
    #[error("{0}")]
    EventIdExists(EventExists),
    /// A stream is not as expected, or a condition does not hold. Read what came in between, decide again, append
    /// again.
    #[error("{0}")]
    Conflict(Conflict),
    /// What the append would bring about is there already, as a condition by
    /// [`Append::fail_if_exists`](crate::Append::fail_if_exists) says; other checks may have failed as well. There is
    /// nothing to append.
    #[error("{0}")]
    AlreadyThere(Conflict),
    /// A condition's query asks for something that no event can have, or for too much. Mend it.
    #[error("condition {condition}: {source}")]
    Query {
        /// Which condition, in the order in which they were given.
        condition: usize,
        /// What is wrong.
        source: InvalidQuery,
    },
    /// More than [`CONDITIONS_MAX`] conditions. Join queries with [`Query::or`](crate::Query::or), where they have the
    /// same position.
    #[error("an append has more than {CONDITIONS_MAX} conditions")]
    TooManyConditions,
    /// A condition is about events after a position that does not exist yet, so that nothing was read up to there.
    /// Take the head that a read has reported.
    #[error("condition {condition} is about events after position {after}; the last one is {head}")]
    AfterHead {
        /// Which condition.
        condition: usize,
        /// The position that was given.
        after: Position,
        /// The last position that was given to an event.
        head: Position,
    },
    /// As much is on its way as the bounds allow; only [`Append::submit`](crate::Append::submit)
    /// reports this. Wait for what was submitted, then submit again.
    #[error("too many appends are on their way")]
    Busy,
    /// The file system has no room for another segment. Free some and append again; reading and closing
    /// go on meanwhile.
    #[error("there is no room for another segment: {0}")]
    NoSpace(FileError),
    /// The next segment could not be made, for another reason than space. Append again to try again.
    #[error("the next segment could not be made: {0}")]
    Segment(FileError),
    /// A write or a sync failed before it was known whether these events are durable. Open the store again, and repeat
    /// the append [with the same ids](crate::NewEvent::id): if it has happened, it gives its receipt.
    #[error("the outcome is unknown: {reason}")]
    Unknown {
        /// The ids of the append's events.
        event_ids: Vec<EventId>,
        /// The failure that poisoned the writer.
        reason: Poisoned,
    },
    /// A write or a sync had failed before. Nothing was tried; open the store again.
    #[error("the log takes no appends any more: {0}")]
    Poisoned(Poisoned),
    /// The store was closed.
    #[error("the store was closed")]
    Closed,
    /// The store was opened for reading only.
    #[error("the store was opened for reading only")]
    ReadOnly,
    /// What a condition asks for could not be looked up.
    #[error("condition {condition} could not be looked up")]
    Condition {
        /// Which condition.
        condition: usize,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// Whether ids of the append are in the log could not be looked up.
    #[error("whether ids of an append are in the log could not be looked up")]
    Ids {
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The stream's last version could not be looked up.
    #[error("the last version of stream {stream:?} could not be looked up")]
    Lookup {
        /// The stream.
        stream: Box<str>,
        /// Why.
        #[source]
        source: ReadError,
    },
}

impl From<Conflict> for AppendError {
    fn from(conflict: Conflict) -> Self {
        let is_there = |failed: &ConditionConflict| failed.kind == ConditionKind::FailIfExists;
        if conflict.conditions().any(is_there) {
            Self::AlreadyThere(conflict)
        } else {
            Self::Conflict(conflict)
        }
    }
}
