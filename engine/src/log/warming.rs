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
        let log = sealed.open().ok()?.log.clone();
        Self::of(index, log, rests)
    }

    fn of(index: Mapping, log: Mapping, rests: impl Fn(usize) -> Option<Duration>) -> Option<Self> {
        if let Some(rest) = rests(index.len() + log.len()) {
            return Some(Self { index, log: Some(log), fetched: 0, rest });
        }
        let rest = rests(index.len())?;
        Some(Self { index, log: None, fetched: 0, rest })
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
        let (index, log) = (mapping(STEP_BYTES + 1), mapping(2 * STEP_BYTES));
        let warming = Warming::of(index, log, |_| Some(REST)).unwrap();
        let index = STEP_BYTES + 1;
        assert_eq!(steps(warming), [STEP_BYTES, index, index + STEP_BYTES, index + 2 * STEP_BYTES]);
    }

    #[test]
    fn where_there_is_no_time_for_the_log_the_index_alone_is_brought_back() {
        let parts = || (mapping(STEP_BYTES + 1), mapping(2 * STEP_BYTES));
        let (index, log) = parts();
        let enough_for = |most| move |bytes| (bytes <= most).then_some(REST);
        let warming = Warming::of(index, log, enough_for(2 * STEP_BYTES)).unwrap();
        assert_eq!(steps(warming), [STEP_BYTES, STEP_BYTES + 1]);
        let (index, log) = parts();
        assert!(Warming::of(index, log, enough_for(STEP_BYTES)).is_none());
    }
}
