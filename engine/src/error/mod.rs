//! What can go wrong: one enum per operation, each variant with its data and what to do about it.

mod append;
mod decode;
mod projection;
mod snapshot;
mod subscribe;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::event::{InvalidName, Position};
use crate::format::FormatError;
use crate::limits::{INDEX_BYTES_MIN, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use crate::query::InvalidQuery;
use crate::recovery::Refusal;
use crate::typed::{Fingerprint, Unsuited};

pub use decode::{DecodeError, DecodeReason};
pub use projection::ProjectionError;
pub use snapshot::SnapshotError;
pub use subscribe::SubscribeError;

pub use append::{
    AppendError, ConditionConflict, ConditionKind, Conflict, EventExists, FailedCheck,
    IdDifference, StreamConflict,
};

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

    pub(crate) fn is_not_found(&self) -> bool {
        self.cause.kind() == io::ErrorKind::NotFound
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
    /// A setting of [`SnapshotOptions`](crate::SnapshotOptions) is out of its bounds.
    #[error("the setting {setting} of snapshots is {value}; it must be from {least} to {most}")]
    Snapshots {
        /// The setting.
        setting: &'static str,
        /// What it was set to.
        value: u64,
        /// The least that it may be.
        least: u64,
        /// The most.
        most: u64,
    },
    /// What is stored under the name of an event cannot be read by a set that was registered with
    /// [`Options::events`](crate::Options::events).
    #[error(
        "stored events {event_type:?} of version {version} with the layout {fingerprint}: {why}"
    )]
    Events {
        /// The name of the events' type.
        event_type: Box<str>,
        /// The version of their structure; 0 where they have none.
        version: u32,
        /// The fingerprint of their layout.
        fingerprint: Fingerprint,
        /// What is wrong.
        why: Unsuited,
    },
    /// The types of a sealed segment could not be read, to compare them with registered sets. It is the segment that is
    /// damaged, as a reader of it is told.
    #[error("the stored types cannot be compared with the registered ones: {0}")]
    Types(Box<ReadError>),
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
    /// What is stored as a consumer's checkpoint is none, or one that this version does not know.
    #[error("the event at position {position} is no checkpoint of consumer {consumer:?}")]
    Checkpoint {
        /// The consumer.
        consumer: Box<str>,
        /// Where it is.
        position: Position,
    },
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
