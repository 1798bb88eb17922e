//! Positions and points in time.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where an event stands in the whole log. The first event has position 1 and there are no gaps; 0 is
/// before all events.
///
/// ```
/// use stratalog::Position;
///
/// assert!(Position::START < Position::from(1));
/// assert_eq!(u64::from(Position::from(7)), 7);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub(crate) u64);

impl Position {
    /// Before all events.
    pub const START: Self = Self(0);

    /// The position as a number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Position {
    fn from(position: u64) -> Self {
        Self(position)
    }
}

impl From<Position> for u64 {
    fn from(position: Position) -> Self {
        position.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in time: nanoseconds since the Unix epoch, UTC, from the year 1678 to 2262.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use stratalog::Timestamp;
///
/// let time = Timestamp::from_nanos(1_500_000_000);
/// assert_eq!(SystemTime::from(time), SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub(crate) i64);

impl Timestamp {
    /// The present, by the system's clock.
    pub fn now() -> Self {
        Self::from(SystemTime::now())
    }

    /// The point in time that many nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }
}

impl From<SystemTime> for Timestamp {
    /// Times outside the range become its nearest end.
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_nanos()).unwrap_or(i64::MAX)),
            Err(before) => {
                Self(i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos))
            }
        }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        let distance = Duration::from_nanos(time.0.unsigned_abs());
        if time.0 < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance }
    }
}
