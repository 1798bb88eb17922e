//! When a snapshot is due.
//!
//! Owns the decision: a pure function of what a load found, without memory of its own. Streams differ in when exactly, by
//! their hashes, so that many that are alike do not come at once.

use std::time::Duration;

use crate::limits::SNAPSHOT_EVERY_DEFAULT;

/// When snapshots of a fold's states are taken: in each of the cases that it names. It is looked at whenever a state was
/// [loaded](crate::Folded::load), and at [appended events](crate::Folded::appended) for [`Policy::every`] alone.
///
/// ```
/// use std::time::Duration;
/// use stratalog::Policy;
///
/// let policy = Policy::every(500).or_load_time(Duration::from_millis(2));
/// # let _ = policy;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    every: Option<u64>,
    load_time: Option<Duration>,
    interval: Option<Duration>,
}

impl Default for Policy {
    /// Every [`SNAPSHOT_EVERY_DEFAULT`] events.
    fn default() -> Self {
        Self::every(SNAPSHOT_EVERY_DEFAULT)
    }
}

/// What came since the snapshot that a load began with, or since the stream's beginning.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Since {
    /// Events that were replayed.
    pub events: u64,
    /// How many events are in the state.
    pub version: u64,
    /// How long loading it took.
    pub load_time: Duration,
    /// How long ago the snapshot was taken, by the system's clock; none where there was none.
    pub age: Option<Duration>,
}

impl Policy {
    /// No snapshot is taken, but on [demand](crate::Folded::take).
    pub const fn never() -> Self {
        Self { every: None, load_time: None, interval: None }
    }

    /// One in so many events of a stream; 1 for each, 0 counts as 1. Which of them is different for each stream.
    pub const fn every(events: u64) -> Self {
        Self { every: Some(if events == 0 { 1 } else { events }), ..Self::never() }
    }

    /// Also when loading took longer than this.
    #[must_use]
    pub const fn or_load_time(mut self, time: Duration) -> Self {
        self.load_time = Some(time);
        self
    }

    /// Also when something has come since a snapshot that is older than this, or older by up to a quarter more, which is
    /// different for each stream; and where there is no snapshot.
    #[must_use]
    pub const fn or_interval(mut self, time: Duration) -> Self {
        self.interval = Some(time);
        self
    }

    /// Whether a snapshot is due of a key with this hash.
    pub(super) fn is_due(&self, hash: u64, since: &Since) -> bool {
        if since.events == 0 {
            return false;
        }
        let before = since.version - since.events;
        let old = self.interval.is_some_and(|interval| {
            let jitter = interval.mul_f64(fraction(hash) / 4.0);
            since.age.is_none_or(|age| age > interval.saturating_add(jitter))
        });
        old || self.is_passed(hash, before, since.version)
            || self.load_time.is_some_and(|time| since.load_time > time)
    }

    /// Whether a snapshot is due by the number of events, where there were so many, and are so many now.
    pub(super) fn is_passed(&self, hash: u64, before: u64, now: u64) -> bool {
        let Some(every) = self.every else { return false };
        // The events at which one is due are `every` apart, and begin anywhere.
        let shift = hash % every;
        (now.saturating_add(shift)) / every > (before.saturating_add(shift)) / every
    }
}

/// A number from 0 up to 1 that is different for each key.
#[expect(clippy::cast_precision_loss, reason = "32 bits of it")]
fn fraction(hash: u64) -> f64 {
    (hash >> 32) as f64 / (1_u64 << 32) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(events: u64, version: u64) -> Since {
        Since { events, version, load_time: Duration::ZERO, age: None }
    }

    #[test]
    fn of_the_events_of_a_stream_one_in_so_many_is_due_whatever_its_hash() {
        for hash in [0, 1, 499, 500, 12_345_678, u64::MAX] {
            let policy = Policy::every(500);
            let due = (0..5_000).filter(|n| policy.is_passed(hash, *n, n + 1)).count();
            assert_eq!(due, 10, "{hash}");
            // Of an append of many, once.
            assert!(policy.is_passed(hash, 0, 500));
        }
    }

    #[test]
    fn streams_that_are_alike_are_not_due_at_once() {
        let mut random = fastrand::Rng::with_seed(3);
        let due: Vec<usize> = (0..1_000)
            .map(|n| {
                let passed =
                    |_: &u64| Policy::every(100).is_passed(random.u64(..), n % 100, n % 100 + 1);
                (0..1_000).filter(passed).count()
            })
            .collect();
        assert!(due.iter().all(|due| *due < 50), "{due:?}");
    }

    #[test]
    fn nothing_is_due_where_nothing_came() {
        let always = Policy::every(1).or_load_time(Duration::ZERO).or_interval(Duration::ZERO);
        assert!(!always.is_due(7, &since(0, 10)));
        assert!(always.is_due(7, &since(1, 10)));
        assert!(!Policy::never().is_due(7, &since(1_000_000, 1_000_000)));
    }

    #[test]
    fn one_is_due_by_time_with_a_jitter_of_a_quarter() {
        let policy = Policy::never().or_interval(Duration::from_secs(100));
        let aged = |hash, secs| {
            let age = Some(Duration::from_secs(secs));
            policy.is_due(hash, &Since { age, ..since(1, 10) })
        };
        assert!(!aged(0, 99) && aged(0, 101));
        assert!(!aged(u64::MAX, 124) && aged(u64::MAX, 126));
        let slow = Since { load_time: Duration::from_millis(3), ..since(1, 10) };
        assert!(Policy::never().or_load_time(Duration::from_millis(2)).is_due(0, &slow));
        assert!(!Policy::never().or_load_time(Duration::from_millis(4)).is_due(0, &slow));
    }
}
