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

    /// When it was made, in nanoseconds since the Unix epoch, where it says so: a UUID of version 7 does.
    pub(crate) fn made_at(&self) -> Option<i64> {
        let bytes = &self.0;
        let is_v7 = bytes[6] >> 4 == 7 && bytes[8] >> 6 == 0b10;
        let millis = bytes[..6].iter().fold(0_i64, |millis, byte| millis << 8 | i64::from(*byte));
        is_v7.then(|| millis.saturating_mul(1_000_000))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_version_7_says_when_it_was_made_and_no_other_does() {
        let millis = 1_700_000_000_123;
        let id = EventId::random_at(Timestamp(millis * 1_000_000 + 456));
        assert_eq!(id.made_at(), Some(millis * 1_000_000));
        let with = |at: usize, byte: u8| {
            let mut bytes = id.to_bytes();
            bytes[at] = byte;
            EventId(bytes).made_at()
        };
        assert_eq!(with(6, 0x40), None);
        assert_eq!(with(8, 0xc0), None);
        assert_eq!(EventId([0xff; 16]).made_at(), None);
        assert!(with(0, 0xff).is_some_and(|made| made > millis * 1_000_000));
    }
}
