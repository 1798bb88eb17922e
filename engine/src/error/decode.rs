//! What can go wrong when a stored event is read as a type.

use crate::event::{PayloadKind, Position};
use crate::typed::{Fingerprint, PayloadError};

/// A stored event cannot be read as the type that was asked for. The log is as it was; the event can be read as bytes, or by
/// a program that knows its type.
#[derive(Debug, thiserror::Error)]
#[error(
    "event {} of stream {:?} at position {} ({:?}, version {} of its structure) cannot be read: {}",
    .0.version, .0.stream, .0.position, .0.event_type, .0.schema_version, .0.reason
)]
pub struct DecodeError(Box<Undecoded>);

#[derive(Debug)]
struct Undecoded {
    position: Position,
    stream: Box<str>,
    version: u64,
    event_type: Box<str>,
    schema_version: u32,
    reason: DecodeReason,
}

/// Why an event cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeReason {
    /// The structure is of a newer version than the type: the event was written by a newer program. Use that, or skip it.
    #[error("the newest version that is known is {known}; it was written by a newer program")]
    Newer {
        /// The version of the type.
        known: u32,
    },
    /// The structure is of an older version than the type goes back to: name the version before with `from`.
    #[error("the oldest version that is read is {oldest}")]
    TooOld {
        /// The oldest version that is read.
        oldest: u32,
    },
    /// The type of this version lies otherwise than when the event was written: its structure, or that of a type in it, was
    /// changed without a new version. Give what was changed a new version, and keep the old one as it was.
    #[error("it was stored with the layout {stored}, and the type of that version has {expected}")]
    Fingerprint {
        /// The fingerprint that is stored.
        stored: Fingerprint,
        /// That of the type of that version.
        expected: Fingerprint,
    },
    /// The payload is of another kind than the type's.
    #[error("its payload is of the kind {stored:?}, and the type's is {expected:?}")]
    Kind {
        /// The kind that is stored.
        stored: PayloadKind,
        /// The type's.
        expected: PayloadKind,
    },
    /// The bytes of the payload are no value of the type.
    #[error("{0}")]
    Payload(PayloadError),
    /// The set makes several events of it, or none: read it by [`EventSet::views`](crate::EventSet::views).
    #[error("the set splits it: read it by `views`")]
    Split,
    /// The set does not know its type.
    #[error("its type is not one of the set's")]
    UnknownType,
}

impl DecodeError {
    pub(crate) fn new(
        position: Position,
        stream: &str,
        version: u64,
        event_type: &str,
        schema_version: u32,
        reason: DecodeReason,
    ) -> Self {
        let (stream, event_type) = (stream.into(), event_type.into());
        Self(Box::new(Undecoded { position, stream, version, event_type, schema_version, reason }))
    }

    /// Where the event stands in the log.
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// Its stream.
    pub fn stream(&self) -> &str {
        &self.0.stream
    }

    /// Where it stands in its stream.
    pub fn version(&self) -> u64 {
        self.0.version
    }

    /// Its type.
    pub fn event_type(&self) -> &str {
        &self.0.event_type
    }

    /// The version of its payload's structure; 0 where it has none.
    pub fn schema_version(&self) -> u32 {
        self.0.schema_version
    }

    /// Why it cannot be read.
    pub fn reason(&self) -> &DecodeReason {
        &self.0.reason
    }
}
