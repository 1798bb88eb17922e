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
    /// None where there is no time for it.
    log: Option<Mapping>,
    /// How many bytes of the index and then of the log were asked for.
    fetched: usize,
    /// How long to rest between two steps.
    rest: Duration,
}

impl Warming {
    /// Begins with a segment and the run of its terms, if they can be opened and there is time for as much as the index:
    /// `rests` says how long to rest between two steps for so many bytes, or that there is none.
    pub(super) fn begin(
        sealed: &SealedSegment,
        run: &Run,
        rests: impl Fn(usize) -> Option<Duration>,
    ) -> Option<Self> {
        // Where they cannot be opened, whoever reads them is told why.
        let index = run.open().ok()?.terms.file().clone();
        let log_bytes = usize::try_from(sealed.content.data_end).unwrap_or(usize::MAX);
        Self::of(index, log_bytes, || Some(sealed.open().ok()?.log.clone()), rests)
    }

    /// As [`Warming::begin`]; `log` opens the log, which is done only where there is time for it.
    fn of(
        index: Mapping,
        log_bytes: usize,
        log: impl FnOnce() -> Option<Mapping>,
        rests: impl Fn(usize) -> Option<Duration>,
    ) -> Option<Self> {
        let (rest, log) = match rests(index.len().saturating_add(log_bytes)) {
            Some(rest) => (rest, Some(log()?)),
            None => (rests(index.len())?, None),
        };
        Some(Self { index, log, fetched: 0, rest })
    }

    /// Asks for the next part; gives how long to rest then, or nothing if it was the last.
    pub(super) fn step(&mut self) -> Option<Duration> {
        let index = self.index.len();
        match (self.fetched.checked_sub(index), &self.log) {
            (None, _) => self.index.prefetch(self.fetched, STEP_BYTES),
            (Some(at), Some(log)) => log.prefetch(at, STEP_BYTES),
            (Some(_), None) => {}
        }
        // The last step of the index is shorter.
        let end = self.fetched + STEP_BYTES;
        self.fetched = if self.fetched < index { end.min(index) } else { end };
        let all = index + self.log.as_ref().map_or(0, |log| log.len());
        (self.fetched < all).then_some(self.rest)
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_millis(3);

    fn mapping(bytes: usize) -> Mapping {
        Mapping::of_bytes(vec![0; bytes])
    }

    /// How far each step of it comes.
    fn steps(mut warming: Warming) -> Vec<usize> {
        let mut reached = Vec::new();
        loop {
            let rest = warming.step();
            reached.push(warming.fetched);
            if rest.is_none() {
                return reached;
            }
            assert_eq!(rest, Some(REST));
        }
    }

    #[test]
    fn the_index_comes_first_and_each_part_once() {
        let index = STEP_BYTES + 1;
        let log = || Some(mapping(2 * STEP_BYTES));
        let warming = Warming::of(mapping(index), 2 * STEP_BYTES, log, |_| Some(REST)).unwrap();
        assert_eq!(steps(warming), [STEP_BYTES, index, index + STEP_BYTES, index + 2 * STEP_BYTES]);
    }

    #[test]
    fn where_there_is_no_time_for_the_log_the_index_alone_is_brought_back() {
        let begin = |most| {
            let log = || unreachable!("it is not opened");
            let rests = |bytes| (bytes <= most).then_some(REST);
            Warming::of(mapping(STEP_BYTES + 1), 2 * STEP_BYTES, log, rests)
        };
        assert_eq!(steps(begin(2 * STEP_BYTES).unwrap()), [STEP_BYTES, STEP_BYTES + 1]);
        assert!(begin(STEP_BYTES).is_none());
    }
}
