//! What can go wrong: one enum per operation, each variant with its data and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::append::Expect;
use crate::event::{EncodeError, EventId, InvalidName, Position};
use crate::format::FormatError;
use crate::limits::{
    APPEND_EVENTS_MAX, APPEND_TAGS_MAX, CONDITIONS_MAX, INDEX_BYTES_MIN, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN,
};
use crate::query::InvalidQuery;
use crate::recovery::Refusal;

/// What a file was being used for when the operating system reported an error.
#[derive(Debug, thiserror::Error, Clone)]
#[error("{action} {file} failed: {cause}")]
pub struct FileError {
    /// The file's name in the store's directory.
    pub file: String,
    /// What was being done.
    pub action: &'static str,
    /// What the operating system said. Told in the message, so it is no `source`.
    pub cause: Arc<io::Error>,
}

impl FileError {
    pub(crate) fn new(action: &'static str, file: &str, cause: io::Error) -> Self {
        Self { file: file.into(), action, cause: Arc::new(cause) }
    }

    /// Adds what was being done to an error of the operating system.
    pub(crate) fn at(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::new(action, file, cause)
    }

    pub(crate) fn is_no_space(&self) -> bool {
        matches!(self.cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// A store could not be opened; no byte of it was changed, unless a variant says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another opening of the directory, in this or another process, writes to it. Close that one, or
    /// open this one for reading only.
    #[error("the store in {directory} is open for writing elsewhere")]
    Locked {
        /// The directory.
        directory: String,
    },
    /// There is no store in the directory. Only openings for reading report this.
    #[error("there is no store in {directory}")]
    NotFound {
        /// The directory.
        directory: String,
    },
    /// What is stored contradicts itself in a way that no crash explains. The report says what and
    /// where. Copy the directory before anything else; then restore it from a backup.
    #[error("the store is damaged and was not opened: {0}")]
    Refused(Box<Refusal>),
    /// An option is out of its bounds.
    #[error(
        "segment_bytes is {bytes}; it must be a multiple of 4,096 from {SEGMENT_BYTES_MIN} to \
         {SEGMENT_BYTES_MAX}"
    )]
    SegmentBytes {
        /// What it was set to.
        bytes: u64,
    },
    /// [`Options::index_bytes`](crate::Options::index_bytes) is below its bound.
    #[error("index_bytes is {bytes}; it must be at least {INDEX_BYTES_MIN}")]
    IndexBytes {
        /// What it was set to.
        bytes: u64,
    },
    /// The directory could not be reached or made.
    #[error("the directory {} cannot be used: {cause}", path.display())]
    Directory {
        /// The path that was given.
        path: PathBuf,
        /// What the operating system said. Told in the message, so it is no `source`.
        cause: io::Error,
    },
    /// The operating system reported an error. Opening again is safe: recovery comes to the same end.
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<Refusal> for OpenError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// A stream was not as an append expected it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConflict {
    pub(crate) stream: Box<str>,
    pub(crate) expected: Expect,
    pub(crate) actual: Option<u64>,
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

    /// The version of its last event, which is durable; none where it has no event.
    pub fn actual(&self) -> Option<u64> {
        self.actual
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
            Some(version) => write!(f, "its last version is {version}"),
            None => f.write_str("it has no events"),
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
/// written, and everything that this is based on is durable.
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

/// An append or a check did not succeed. Unless it is [`AppendError::Unknown`], nothing of it is in the
/// log nor ever will be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// An event, a name or a tag is not valid. Mend it.
    #[error(transparent)]
    Invalid(#[from] EncodeError),
    /// An append without events. Use [`Store::check`](crate::Store::check) for a pure check.
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
    /// A write or a sync failed before it was known whether these events are durable. Open the store
    /// again and look for them by their ids.
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

/// Why the writer stopped for good: the first failure of a write or a sync of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at offset {offset} of segment {segment}")]
pub struct Poisoned {
    /// The segment.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// What failed.
    pub what: String,
}

/// A read failed. Everything else stays readable.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Stored bytes are damaged: the events in the range of positions cannot be read. Go on behind them
    /// with [`after`](crate::ReadAll::after), and restore the segment from a backup.
    #[error(
        "segment {segment} is damaged at offset {offset} (positions {first_position} to \
         {last_position}): {reason}"
    )]
    Damaged {
        /// The segment.
        segment: u64,
        /// The offset in its file.
        offset: u64,
        /// The first position that is affected.
        first_position: u64,
        /// The last.
        last_position: u64,
        /// What is wrong.
        reason: DamageReason,
    },
    /// The name of a stream is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The query asks for something that no event can have, or for too much.
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    /// The operating system reported an error.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What is wrong with a damaged part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DamageReason {
    /// A record or a batch is not readable.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// A good frame stands where another belongs.
    #[error("the event there has position {found}")]
    Misplaced {
        /// The position that was found.
        found: u64,
    },
    /// An event's type is not defined in its segment.
    #[error("the event there has a type that its segment does not define")]
    UndefinedType,
    /// The file ends before its content.
    #[error("the file ends there")]
    Ends,
    /// The batches do not follow one another.
    #[error("the chain of batches is broken")]
    Chain,
    /// A stream's versions are not dense.
    #[error("the versions of a stream have a gap")]
    Versions,
    /// The header is not that of this segment.
    #[error("the file is not this segment")]
    Foreign,
    /// What the segment's footer or the manifest says of it is not what it holds.
    #[error("its content is not what was recorded when it was sealed")]
    Content,
}

/// The store could not be closed cleanly. What was acknowledged is safe; the next opening recovers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// A write or a sync had failed.
    #[error("the log had failed: {0}")]
    Poisoned(Poisoned),
    /// The clean end could not be recorded.
    #[error(transparent)]
    File(#[from] FileError),
}
