//! The figures, with the names that they have in JSON. What was not measured is null.

use std::path::Path;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::environment::Environment;
use super::states::{Loads, Projections, Snapshots};
use crate::AnyError;
use crate::ceiling::Ceiling as Measured;
use crate::clients::window::Recorded;

/// Everything about one measurement.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    pub store: Option<&'static str>,
    pub workload: Workload,
    pub environment: Environment,
    pub append: Append,
    pub condition: Condition,
    pub retry: Retry,
    pub read: Read,
    pub query: Query,
    pub loads: Loads,
    pub snapshots: Snapshots,
    pub projections: Projections,
    pub resources: Resources,
    pub ceiling: Ceiling,
    pub ratio: Ratio,
    /// Whether what was read back is what was acknowledged.
    pub verified: Option<bool>,
}

/// What was asked for, and how it went.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Workload {
    pub mode: &'static str,
    pub clients: Option<&'static str>,
    pub count: Option<usize>,
    pub inflight: Option<usize>,
    pub rate: Option<f64>,
    /// Sends of an open loop that were more than a millisecond late, and that were not made at all.
    pub late: Option<u64>,
    pub skipped: Option<u64>,
    pub payload_bytes: Option<usize>,
    /// Whether the payloads are values of a type.
    pub typed: Option<bool>,
    pub batch: Option<usize>,
    pub streams: Option<usize>,
    pub zipf: Option<f64>,
    pub expect: Option<&'static str>,
    pub readers: Option<usize>,
    /// How many tags each event has.
    pub tags: Option<usize>,
    /// The condition that each append has.
    pub condition: Option<&'static str>,
    /// How many percent of the appends are sent twice.
    pub retries_percent: Option<f64>,
    /// How many threads query tags beside the appends.
    pub queries: Option<usize>,
    /// Each how many events of a stream a snapshot is taken.
    pub snapshots_every: Option<u64>,
    /// How snapshots are kept, where that was said.
    pub snapshot_memory_bytes: Option<u64>,
    pub snapshot_rate_bytes_per_second: Option<u64>,
    /// Whether the page cache of the store's files was dropped before it was read.
    pub cold: Option<bool>,
    pub input: Option<String>,
    pub seed: Option<u64>,
    pub duration_seconds: Option<f64>,
    pub warmup_seconds: Option<f64>,
    pub max_bytes: Option<u64>,
    /// Whether `max_bytes` ended it.
    pub ended_early: Option<bool>,
    /// What a store was filled with before it was read.
    pub fill: Option<u64>,
    /// Bytes that were written to the last segment before a kill, the median of all rounds.
    pub open_tail_bytes: Option<u64>,
    /// Bytes that an opening after a kill has read, the median of all rounds.
    pub open_read_bytes: Option<u64>,
}

/// Bytes are those of payloads; conflicts are no events.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Append {
    pub events: Option<u64>,
    pub conflicts: Option<u64>,
    pub seconds: Option<f64>,
    pub events_per_second: Option<f64>,
    pub bytes_per_second: Option<f64>,
    pub latency_ns: Latency,
    pub batch_events_mean: Option<f64>,
    pub write_amplification: Option<f64>,
    pub log_bytes_per_event: Option<f64>,
}

/// Of appends, from the call, or from when it was intended, to the acknowledgement.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Latency {
    pub p50: Option<u64>,
    pub p90: Option<u64>,
    pub p99: Option<u64>,
    pub p999: Option<u64>,
    pub max: Option<u64>,
}

/// Of the appends' conditions.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Condition {
    /// How often one was judged.
    pub checked: Option<u64>,
    /// How often one did not hold; the append was tried again.
    pub conflicts: Option<u64>,
}

/// Of appends that were sent twice.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Retry {
    pub sent: Option<u64>,
    /// How many got the receipt of the first time.
    pub recognised: Option<u64>,
}

/// Bytes are those of frames for scans, and of payloads for streams.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Read {
    /// What a scan has read payloads as.
    pub payload: Option<&'static str>,
    pub events_per_second: Option<f64>,
    pub bytes_per_second: Option<f64>,
    pub stream_p50_ns: Option<u64>,
    pub open_ns: Option<u64>,
}

/// Of queries that found something: each reads all events that have a tag.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Query {
    pub per_second: Option<f64>,
    pub events_per_second: Option<f64>,
    pub p50_ns: Option<u64>,
    pub p99_ns: Option<u64>,
}

/// Of the whole process: the store and its clients.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Resources {
    pub cpu_seconds: Option<f64>,
    pub rss_peak_bytes: Option<u64>,
}

/// The mean of what was measured before and afterwards.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Ceiling {
    pub write_4k_p50_ns: Option<f64>,
    pub write_4k_per_second: Option<f64>,
    pub write_256k_qd4_bytes_per_second: Option<f64>,
    pub memory_sum_bytes_per_second: Option<f64>,
    /// Each time that it was measured: before, and afterwards.
    pub processors_round_trip_ns: Option<Vec<f64>>,
    pub stable: Option<bool>,
}

/// What the store reached of the ceiling.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Ratio {
    pub p50_to_ceiling: Option<f64>,
    pub events_to_ceiling_writes: Option<f64>,
    pub bandwidth_to_ceiling: Option<f64>,
    pub scan_to_memory_sum: Option<f64>,
}

impl Latency {
    /// The quantiles of recorded nanoseconds.
    pub(crate) fn of(latency: &Histogram<u64>) -> Self {
        let quantile =
            |quantile| (!latency.is_empty()).then(|| latency.value_at_quantile(quantile));
        Self {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: quantile(1.0),
        }
    }
}

impl Query {
    /// What came of queries that were made in so many seconds.
    pub(crate) fn of(recorded: &Recorded, seconds: f64) -> Self {
        let latency = Latency::of(&recorded.latency);
        let per_second = |count: u64| (seconds > 0.0).then(|| count as f64 / seconds);
        Self {
            per_second: per_second(recorded.latency.len()),
            events_per_second: per_second(recorded.counted.events),
            p50_ns: latency.p50,
            p99_ns: latency.p99,
        }
    }
}

impl Report {
    /// Takes the ceiling up, and the ratios to it.
    pub(crate) fn compare(&mut self, ceiling: &Measured) {
        self.ceiling = Ceiling {
            write_4k_p50_ns: Some(ceiling.write_4k_p50_ns),
            write_4k_per_second: Some(ceiling.write_4k_per_second),
            write_256k_qd4_bytes_per_second: Some(ceiling.write_256k_bytes_per_second),
            memory_sum_bytes_per_second: ceiling.memory_sum_bytes_per_second,
            processors_round_trip_ns: Some(ceiling.processors_round_trip_ns.clone()),
            stable: Some(ceiling.stable),
        };
        let (append, over) = (&self.append, |figure: Option<f64>, by| figure.map(|one| one / by));
        let p50 = append.latency_ns.p50.map(|nanos| nanos as f64);
        let scan = self.read.bytes_per_second.filter(|_| self.workload.mode == "scan");
        self.ratio = Ratio {
            p50_to_ceiling: over(p50, ceiling.write_4k_p50_ns),
            events_to_ceiling_writes: over(append.events_per_second, ceiling.write_4k_per_second),
            bandwidth_to_ceiling: over(
                append.bytes_per_second,
                ceiling.write_256k_bytes_per_second,
            ),
            scan_to_memory_sum: scan
                .zip(ceiling.memory_sum_bytes_per_second)
                .map(|(scan, memory)| scan / memory),
        };
    }

    /// Writes it to a file as one JSON object.
    pub(crate) fn write(&self, path: &Path) -> Result<(), AnyError> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_null_under_its_name() {
        let json = serde_json::to_value(Report::default()).unwrap();
        for name in [
            "/store",
            "/append/events",
            "/append/conflicts",
            "/condition/checked",
            "/condition/conflicts",
            "/retry/sent",
            "/retry/recognised",
            "/append/seconds",
            "/append/events_per_second",
            "/append/bytes_per_second",
            "/append/latency_ns/p50",
            "/append/latency_ns/p90",
            "/append/latency_ns/p99",
            "/append/latency_ns/p999",
            "/append/latency_ns/max",
            "/append/batch_events_mean",
            "/append/write_amplification",
            "/append/log_bytes_per_event",
            "/read/payload",
            "/read/events_per_second",
            "/read/bytes_per_second",
            "/read/stream_p50_ns",
            "/read/open_ns",
            "/query/per_second",
            "/query/events_per_second",
            "/query/p50_ns",
            "/query/p99_ns",
            "/loads/load_us/p50",
            "/loads/load_us/p99",
            "/loads/replay_us/p50",
            "/loads/ratio",
            "/loads/events_behind",
            "/loads/state_bytes",
            "/loads/taking/snapshot_us_mean",
            "/snapshots/taken",
            "/snapshots/skipped",
            "/snapshots/failed",
            "/snapshots/written_bytes",
            "/snapshots/rewritten_bytes",
            "/snapshots/live_bytes",
            "/snapshots/disk_bytes",
            "/projections/count",
            "/projections/slow",
            "/projections/events",
            "/projections/lag_events_max",
            "/projections/ns_per_event",
            "/projections/ns_per_event_slow",
            "/projections/drain_seconds",
            "/resources/cpu_seconds",
            "/resources/rss_peak_bytes",
            "/ceiling/write_4k_p50_ns",
            "/ceiling/write_4k_per_second",
            "/ceiling/write_256k_qd4_bytes_per_second",
            "/ceiling/memory_sum_bytes_per_second",
            "/ceiling/processors_round_trip_ns",
            "/ceiling/stable",
            "/ratio/p50_to_ceiling",
            "/ratio/events_to_ceiling_writes",
            "/ratio/bandwidth_to_ceiling",
            "/ratio/scan_to_memory_sum",
            "/verified",
        ] {
            assert_eq!(json.pointer(name), Some(&serde_json::Value::Null), "{name}");
        }
        assert!(json["workload"].is_object() && json["environment"].is_object());
    }

    #[test]
    fn ratios_are_of_the_ceiling() {
        let mut report = Report::default();
        report.workload.mode = "scan";
        report.append.events_per_second = Some(30_000.0);
        report.append.bytes_per_second = Some(5e8);
        report.append.latency_ns.p50 = Some(150_000);
        report.read.bytes_per_second = Some(1e10);
        report.compare(&Measured {
            write_4k_p50_ns: 100_000.0,
            write_4k_per_second: 10_000.0,
            write_256k_bytes_per_second: 1e9,
            memory_sum_bytes_per_second: Some(2e10),
            processors_round_trip_ns: Vec::new(),
            stable: true,
            disk: String::new(),
        });
        let ratio = &report.ratio;
        let ratios = [
            (ratio.p50_to_ceiling, 1.5),
            (ratio.events_to_ceiling_writes, 3.0),
            (ratio.bandwidth_to_ceiling, 0.5),
            (ratio.scan_to_memory_sum, 0.5),
        ];
        for (ratio, expected) in ratios {
            assert!((ratio.unwrap() - expected).abs() < 1e-9, "{ratio:?}, not {expected}");
        }
    }
}
