//! Event ids.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::Timestamp;

/// Names one event for ever: a UUID, of version 7 (ordered by time) unless the caller chose another.
///
/// ```
/// use stratalog::EventId;
///
/// let id: EventId = "0190a5d2-7b1c-7000-8000-000000000001".parse()?;
/// assert_eq!(id.to_string(), "0190a5d2-7b1c-7000-8000-000000000001");
/// assert_ne!(EventId::random(), EventId::random());
/// # Ok::<(), stratalog::ParseIdError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub(crate) [u8; 16]);

impl EventId {
    /// A new id: a UUID v7 (RFC 9562) of the present millisecond and 74 random bits.
    pub fn random() -> Self {
        Self::random_at(Timestamp::now())
    }

    /// As [`EventId::random`], of the millisecond of that time; of the first one where it is earlier.
    pub(crate) fn random_at(time: Timestamp) -> Self {
        let millis = u64::try_from(time.0 / 1_000_000).unwrap_or(0);
        let random = fastrand::u128(..).to_le_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[..10]);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid().into_bytes())
    }

    /// The id with these bytes, in the order of its text.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, in the order of its text.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no event id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a UUID: write 32 hexadecimal digits, with hyphens or without")]
pub struct ParseIdError {
    text: String,
}

impl FromStr for EventId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        Uuid::try_parse(text)
            .map(|uuid| Self(uuid.into_bytes()))
            .map_err(|_| ParseIdError { text: text.chars().take(64).collect() })
    }
}
