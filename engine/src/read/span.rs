//! What a read is narrowed to.
//!
//! Owns the meaning of a range of positions with a limit, for the reads of the whole log and those of a query.

use crate::event::Position;

/// A range of positions, and how many of its events may be returned.
#[derive(Debug, Clone)]
pub(super) struct Span {
    /// The first position that may be returned, 1 at least.
    pub from: u64,
    /// The last.
    pub upto: u64,
    pub limit: u64,
}

impl Span {
    pub(super) fn all() -> Self {
        Self { from: 1, upto: u64::MAX, limit: u64::MAX }
    }

    pub(super) fn after(&mut self, position: Position) {
        self.from = position.0.saturating_add(1);
    }

    pub(super) fn from(&mut self, position: Position) {
        self.from = position.0.max(1);
    }

    pub(super) fn before(&mut self, position: Position) {
        self.upto = position.0.saturating_sub(1);
    }

    /// The end of the next so many places from `begin` on, at most `end`, of which the limit allows all.
    #[inline]
    pub(super) fn limited(&self, begin: u32, end: u32) -> u32 {
        end.min(begin.saturating_add(u32::try_from(self.limit).unwrap_or(u32::MAX)))
    }

    /// Whether it has this position, where the head is the last one that can be seen.
    #[inline]
    pub(super) fn contains(&self, position: u64, head: u64) -> bool {
        (self.from..=self.upto.min(head)).contains(&position)
    }
}
