//! What is stored of an event's payload, and why it may not be read as a type.

use super::fingerprint::Fingerprint;
use crate::event::PayloadKind;

/// A payload as it is stored, with what is stored of its type.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct Stored<'a> {
    pub(crate) kind: PayloadKind,
    /// 0 where it has none.
    pub(crate) version: u32,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) payload: &'a [u8],
}

impl Stored<'_> {
    /// The version of the structure. JSON that says none is of the first: it names its fields, so that reading it as such
    /// fails where it is not.
    #[inline]
    pub(crate) fn version(&self) -> u32 {
        match self.kind {
            PayloadKind::Json => self.version.max(1),
            _ => self.version,
        }
    }
}

/// Why a stored payload cannot be read as a type. The caller knows of which event.
#[derive(Debug)]
#[doc(hidden)]
pub enum Unreadable {
    /// It is of a newer version than the reader knows.
    Newer { known: u32 },
    /// It is of an older version than the reader's chain goes back to.
    TooOld { oldest: u32 },
    /// It has another layout than the reader's type of that version.
    Fingerprint { expected: Fingerprint },
    /// It is no payload of this kind.
    Kind { expected: PayloadKind },
    /// Its bytes are no value of the type.
    Payload(PayloadError),
}

/// Bytes that are no value of a type, or a value that cannot be written as bytes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayloadError {
    /// As an archive: what rkyv says.
    #[error("rkyv says of the archived value: {0}")]
    Archive(#[source] Box<rkyv::rancor::BoxedError>),
    /// As JSON: what `serde_json` says.
    #[error("serde_json says of the value: {0}")]
    Json(#[source] serde_json::Error),
}

impl From<rkyv::rancor::BoxedError> for PayloadError {
    #[cold]
    fn from(error: rkyv::rancor::BoxedError) -> Self {
        Self::Archive(Box::new(error))
    }
}
