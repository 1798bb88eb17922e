//! Bringing a segment that was just sealed into the page cache, which its writing went past.
//!
//! The heads of its streams are what the next appends ask for, and its events are what readers a little
//! behind the tail come to. It is read a step at a time: a whole segment asked for at once keeps the
//! device from the commits beside it for as long as that takes. The maintainer calls this.

use std::time::Duration;

use super::run::Run;
use super::sealed::SealedSegment;
use crate::disk::Mapping;

/// How much is fetched in one step: what a commit may have to wait for.
pub(super) const STEP_BYTES: usize = 256 << 10;

/// A sealed segment, as far as it was fetched.
#[derive(Debug)]
pub(super) struct Warming {
    index: Mapping,
    log: Mapping,
    /// How many bytes of the index and then of the log were asked for.
    fetched: usize,
    /// How long to rest between two steps.
    rest: Duration,
}

impl Warming {
    /// Begins with a segment and the run of its terms, if they can be opened; each step `rest` after the one
    /// before.
    pub(super) fn begin(sealed: &SealedSegment, run: &Run, rest: Duration) -> Option<Self> {
        // Where they cannot be opened, whoever reads them is told why.
        let index = run.open().ok()?.terms.file().clone();
        let log = sealed.open().ok()?.log.clone();
        Some(Self { index, log, fetched: 0, rest })
    }

    /// Asks for the next part; gives how long to rest then, or nothing if it was the last.
    pub(super) fn step(&mut self) -> Option<Duration> {
        let index = self.index.len();
        match self.fetched.checked_sub(index) {
            None => self.index.prefetch(self.fetched, STEP_BYTES),
            Some(at) => self.log.prefetch(at, STEP_BYTES),
        }
        // The last step of the index is shorter.
        let end = self.fetched + STEP_BYTES;
        self.fetched = if self.fetched < index { end.min(index) } else { end };
        (self.fetched < index + self.log.len()).then_some(self.rest)
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    #[test]
    fn the_index_comes_first_and_each_part_once() {
        let mapping = |bytes| Mapping::of_bytes(vec![0; bytes]);
        let rest = Duration::from_millis(3);
        let (index, log) = (mapping(STEP_BYTES + 1), mapping(2 * STEP_BYTES));
        let mut warming = Warming { index, log, fetched: 0, rest };
        let mut reached = Vec::new();
        while warming.step() == Some(rest) {
            reached.push(warming.fetched);
        }
        let index = STEP_BYTES + 1;
        assert_eq!(reached, [STEP_BYTES, index, index + STEP_BYTES]);
        assert_eq!(warming.fetched, index + 2 * STEP_BYTES);
    }
}
