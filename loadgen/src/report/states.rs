//! The figures of folded states, of their snapshots and of projections, with the names that they have in JSON.

use hdrhistogram::Histogram;
use serde::Serialize;
use stratalog::SnapshotStats;

use super::json::Latency;

/// Of snapshots, since the store was opened, and of what there is of them at the end.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Snapshots {
    pub taken: Option<u64>,
    pub skipped: Option<u64>,
    pub failed: Option<u64>,
    /// Those that waited to be taken when the load ended, and were not taken any more.
    pub waiting: Option<u64>,
    pub checked: Option<u64>,
    pub mismatched: Option<u64>,
    /// Bytes of snapshots that were written, and those that compactions have moved.
    pub written_bytes: Option<u64>,
    pub rewritten_bytes: Option<u64>,
    pub compactions: Option<u64>,
    /// Bytes of the snapshots that are kept, and of the files that they are in.
    pub live_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
    pub segments: Option<u64>,
    pub keys: Option<u64>,
    pub lag_events: Option<u64>,
}

/// Of projections that followed the log beside a load.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Projections {
    pub count: Option<usize>,
    /// How many of them did more for each event than the others.
    pub slow: Option<usize>,
    /// Events that were applied, the sum over all of them.
    pub events: Option<u64>,
    /// How many events the one that was farthest behind was behind at most, of the moments at which that was looked at.
    pub lag_events_max: Option<u64>,
    /// What one took to apply an event: the mean of those that are not slow, and of those that are.
    pub ns_per_event: Option<f64>,
    pub ns_per_event_slow: Option<f64>,
    /// How long it took after the load until all had applied everything.
    pub drain_seconds: Option<f64>,
}

/// Of states that were loaded.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Loads {
    pub stream_events: Option<u64>,
    /// How many events a load has replayed, those that came after the snapshot.
    pub events_behind: Option<u64>,
    /// The length of a state's archive.
    pub state_bytes: Option<u64>,
    /// How many loads, and how many replays of all of a stream's events, were measured.
    pub load_count: Option<u64>,
    pub replay_count: Option<u64>,
    pub load_us: Micros,
    pub replay_us: Micros,
    /// The median replay by the median load.
    pub ratio: Option<f64>,
    pub taking: Taking,
}

/// Quantiles in microseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Micros {
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

/// Of taking a snapshot of each stream, where the store was empty before.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Taking {
    /// How long all of it took, by the number of snapshots.
    pub snapshot_us_mean: Option<f64>,
    /// The process's memory before and afterwards: with pages of mapped files, and without.
    pub rss_before_bytes: Option<u64>,
    pub rss_after_bytes: Option<u64>,
    pub anonymous_before_bytes: Option<u64>,
    pub anonymous_after_bytes: Option<u64>,
}

impl Snapshots {
    /// What a store says of those that it has.
    pub(crate) fn there(stats: &SnapshotStats) -> Self {
        Self {
            live_bytes: Some(stats.live_bytes),
            disk_bytes: Some(stats.disk_bytes),
            segments: Some(stats.segments),
            keys: Some(stats.keys),
            ..Self::default()
        }
    }

    /// What a store says of those that it has, and of what it did with them.
    pub(crate) fn of(stats: &SnapshotStats) -> Self {
        Self {
            taken: Some(stats.taken),
            skipped: Some(stats.skipped),
            failed: Some(stats.failed),
            waiting: Some(stats.waiting),
            checked: Some(stats.checked),
            mismatched: Some(stats.mismatched),
            written_bytes: Some(stats.written_bytes),
            rewritten_bytes: Some(stats.rewritten_bytes),
            compactions: Some(stats.compactions),
            lag_events: Some(stats.lag_events),
            ..Self::there(stats)
        }
    }
}

impl Micros {
    /// The quantiles of recorded nanoseconds.
    pub(crate) fn of(latency: &Histogram<u64>) -> Self {
        let Latency { p50, p99, .. } = Latency::of(latency);
        let micros = |nanos: u64| nanos as f64 / 1e3;
        Self { p50: p50.map(micros), p99: p99.map(micros) }
    }
}

impl Loads {
    /// What came of loads and of replays, whose nanoseconds these are.
    pub(crate) fn of(loads: &Histogram<u64>, replays: &Histogram<u64>) -> Self {
        let (load_us, replay_us) = (Micros::of(loads), Micros::of(replays));
        Self {
            load_count: Some(loads.len()),
            replay_count: Some(replays.len()),
            ratio: replay_us.p50.zip(load_us.p50).map(|(replay, load)| replay / load),
            load_us,
            replay_us,
            ..Self::default()
        }
    }
}
