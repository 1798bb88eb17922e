//! What recovery tells: the exact report of a refusal, and what was set aside.

use std::fmt;

use super::cases::Case;
use crate::event::Position;

/// Why a store was not opened. Nothing of it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub(crate) case: Case,
    pub(crate) file: String,
    pub(crate) segment: Option<u64>,
    pub(crate) offset: Option<u64>,
    pub(crate) first_lost: Option<u64>,
    pub(crate) last_lost: Option<u64>,
    pub(crate) evidence: Option<String>,
}

impl Refusal {
    pub(crate) fn new(case: Case, file: impl Into<String>) -> Self {
        Self {
            case,
            file: file.into(),
            segment: None,
            offset: None,
            first_lost: None,
            last_lost: None,
            evidence: None,
        }
    }

    /// Which row of the decision table it is.
    pub fn case(&self) -> Case {
        self.case
    }

    /// The file that is missing or damaged.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The segment, where it is about one.
    pub fn segment(&self) -> Option<u64> {
        self.segment
    }

    /// Where in the file the damage begins, if that is known.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// The first position that cannot be read, if that is known.
    pub fn first_lost(&self) -> Option<Position> {
        self.first_lost.map(Position)
    }

    /// The last position that is known to have been durable and cannot be reached.
    pub fn last_lost(&self) -> Option<Position> {
        self.last_lost.map(Position)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.case)?;
        if let Some(offset) = self.offset {
            write!(f, ", from offset {offset} on")?;
        }
        match (self.first_lost, self.last_lost) {
            (Some(first), Some(last)) if last >= first => {
                write!(f, ", positions {first} to {last}")?;
            }
            (Some(first), _) => write!(f, ", positions from {first} on")?,
            _ => {}
        }
        if let Some(evidence) = &self.evidence {
            write!(f, " ({evidence})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

/// What recovery cut off: writes that were in flight when the store was last used, and that were never
/// acknowledged. Their bytes were kept aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) kept_in: String,
}

impl TornTail {
    /// The segment.
    pub fn segment(&self) -> u64 {
        self.segment
    }

    /// Where in it the valid batches end.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes were cut off, up to the last that was not zero.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file in the store's directory that has them now. It is never read; delete it at will.
    pub fn kept_in(&self) -> &str {
        &self.kept_in
    }
}
