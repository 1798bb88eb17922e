//! How fast compaction goes.
//!
//! A byte rate is what it may do at most. Beside commits it looks at how long they take: while it works and while it rests. As
//! long as they take longer while it works, its rests get longer, each time twice as long, up to a bound; and shorter again
//! when they do not. Pure: the compactor tells it what happened.

use std::time::Duration;

/// The longest rest after a piece.
const REST_MAX: Duration = Duration::from_millis(500);
/// So many times as long as a piece takes, a rest may be.
const SLOWER_MAX: u32 = 64;
/// Commits that take so many times as long are disturbed.
const DISTURBED: f64 = 1.2;
/// The weight of the newest measurement of how long undisturbed commits take.
const WEIGHT: f64 = 0.25;

/// How many batches were committed, and how long that took, at one time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Commits {
    pub batches: u64,
    pub nanos: u64,
}

impl Commits {
    /// How long one took since then, in nanoseconds; none where there was none.
    #[expect(clippy::cast_precision_loss, reason = "an average")]
    fn each_since(self, before: Self) -> Option<f64> {
        let batches = self.batches - before.batches;
        (batches > 0).then(|| (self.nanos - before.nanos) as f64 / batches as f64)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second: u64,
    slower: u32,
    undisturbed: Option<f64>,
    before: Commits,
}

impl Pace {
    pub(super) fn new(bytes_per_second: u64, now: Commits) -> Self {
        Self { bytes_per_second, slower: 1, undisturbed: None, before: now }
    }

    /// A piece of so many bytes was read and written in this time; how long to rest.
    pub(super) fn worked(&mut self, bytes: u64, took: Duration, now: Commits) -> Duration {
        let each = now.each_since(std::mem::replace(&mut self.before, now));
        if let Some((each, undisturbed)) = each.zip(self.undisturbed) {
            self.slower = if each > DISTURBED * undisturbed {
                (self.slower * 2).min(SLOWER_MAX)
            } else {
                (self.slower / 2).max(1)
            };
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let at_rate = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let rest = at_rate.saturating_sub(took).max(took * (self.slower - 1));
        rest.min(REST_MAX.max(at_rate))
    }

    /// The rest is over.
    pub(super) fn rested(&mut self, now: Commits) {
        let each = now.each_since(std::mem::replace(&mut self.before, now));
        if let Some(each) = each {
            let before = self.undisturbed.unwrap_or(each);
            self.undisturbed = Some(before + WEIGHT * (each - before));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn alone_it_goes_at_its_byte_rate() {
        let mut pace = Pace::new(64 * MIB, Commits::default());
        let rest = pace.worked(MIB, MS, Commits::default());
        assert_eq!(rest.as_micros(), 14_625);
        // What took longer by itself is not made longer.
        assert_eq!(pace.worked(MIB, 20 * MS, Commits::default()), Duration::ZERO);
    }

    #[test]
    fn it_gives_way_to_commits_that_it_disturbs_and_comes_back() {
        let mut pace = Pace::new(u64::MAX, Commits::default());
        let mut now = Commits::default();
        let mut piece = |pace: &mut Pace, micros: u64| {
            now.batches += 10;
            now.nanos += 10 * micros * 1000;
            let rest = pace.worked(MIB, MS, now);
            now.batches += 10;
            now.nanos += 10 * 100 * 1000;
            pace.rested(now);
            rest
        };
        assert_eq!(piece(&mut pace, 100), Duration::ZERO);
        assert_eq!(piece(&mut pace, 115), Duration::ZERO);
        let rests: Vec<_> = (0..8).map(|_| piece(&mut pace, 200).as_millis()).collect();
        assert_eq!(rests, [1, 3, 7, 15, 31, 63, 63, 63]);
        let rests: Vec<_> = (0..7).map(|_| piece(&mut pace, 100).as_millis()).collect();
        assert_eq!(rests, [31, 15, 7, 3, 1, 0, 0]);
    }
}
