//! The figures as a table.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};

use super::json::Report;
use super::states::{Loads, Projections, Snapshots};

/// A table of a figure's name, its value and a remark.
#[derive(Debug)]
struct Rows(Table);

impl Rows {
    fn new() -> Self {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        Self(table)
    }

    /// Adds a figure, if it was measured.
    fn add(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.0.add_row([name, &value]);
        }
    }

    fn text(mut self) -> String {
        if let Some(column) = self.0.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        self.0.to_string()
    }
}

/// Everything that was measured, with the environment.
pub(crate) fn report(report: &Report) -> String {
    let Report { append, read, query, .. } = report;
    let (ceiling, ratio) = (&report.ceiling, &report.ratio);
    let mut rows = Rows::new();
    rows.add("events", append.events.map(whole));
    rows.add("conditions judged", report.condition.checked.map(whole));
    rows.add("conditions that did not hold", report.condition.conflicts.map(whole));
    rows.add("appends sent twice", report.retry.sent.map(whole));
    rows.add("of those recognised", report.retry.recognised.map(whole));
    rows.add("conflicts", append.conflicts.filter(|&conflicts| conflicts > 0).map(whole));
    rows.add("seconds", append.seconds.map(|seconds| format!("{seconds:.2}")));
    rows.add("events/s", append.events_per_second.map(rounded));
    rows.add("payload MB/s", append.bytes_per_second.map(megabytes));
    let latency = &append.latency_ns;
    rows.add("p50 µs", latency.p50.map(micros));
    rows.add("p90 µs", latency.p90.map(micros));
    rows.add("p99 µs", latency.p99.map(micros));
    rows.add("p99.9 µs", latency.p999.map(micros));
    rows.add("max µs", latency.max.map(micros));
    rows.add("late sends", report.workload.late.map(whole));
    rows.add("skipped sends", report.workload.skipped.map(whole));
    rows.add("events in a batch, mean", append.batch_events_mean.map(tenths));
    rows.add("write amplification", append.write_amplification.map(hundredths));
    rows.add("log bytes for an event", append.log_bytes_per_event.map(tenths));
    let types = read.payload.filter(|payload| *payload != "bytes");
    rows.add("read: payloads as", types.map(str::to_owned));
    rows.add("read: events/s", read.events_per_second.map(rounded));
    rows.add("read: MB/s", read.bytes_per_second.map(megabytes));
    rows.add("read: p50 of a stream, µs", read.stream_p50_ns.map(micros));
    rows.add("queries/s", query.per_second.map(rounded));
    rows.add("query: events/s", query.events_per_second.map(rounded));
    rows.add("query: p50 µs", query.p50_ns.map(micros));
    rows.add("query: p99 µs", query.p99_ns.map(micros));
    let cold = report.workload.cold.filter(|&cold| cold);
    rows.add("page cache dropped before", cold.map(|_| "yes".into()));
    rows.add("open after a kill, ms", read.open_ns.map(|nanos| hundredths(nanos as f64 / 1e6)));
    let megabytes_of = |bytes: Option<u64>| bytes.map(|bytes| megabytes(bytes as f64));
    rows.add("tail before a kill, MB", megabytes_of(report.workload.open_tail_bytes));
    rows.add("read by an opening, MB", megabytes_of(report.workload.open_read_bytes));
    add_loads(&mut rows, &report.loads);
    add_snapshots(&mut rows, &report.snapshots);
    add_projections(&mut rows, &report.projections);
    rows.add("CPU seconds", report.resources.cpu_seconds.map(hundredths));
    let seconds_per_event =
        report.resources.cpu_seconds.zip(append.events).filter(|(_, events)| *events > 0);
    rows.add(
        "CPU seconds for a million events",
        seconds_per_event.map(|(seconds, events)| hundredths(seconds * 1e6 / events as f64)),
    );
    rows.add("peak memory, MiB", report.resources.rss_peak_bytes.map(|bytes| whole(bytes >> 20)));
    rows.add("ceiling: 4 KiB write p50 µs", ceiling.write_4k_p50_ns.map(|ns| tenths(ns / 1e3)));
    rows.add("ceiling: 4 KiB writes/s", ceiling.write_4k_per_second.map(rounded));
    rows.add("ceiling: 256 KiB x 4, MB/s", ceiling.write_256k_qd4_bytes_per_second.map(megabytes));
    rows.add("ceiling: memory sum, MB/s", ceiling.memory_sum_bytes_per_second.map(megabytes));
    let round_trips = ceiling.processors_round_trip_ns.iter().flatten().copied().map(rounded);
    let round_trips =
        Some(round_trips.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty());
    rows.add("ceiling: processors' round trip ns", round_trips);
    rows.add("p50 / ceiling's p50", ratio.p50_to_ceiling.map(hundredths));
    rows.add("events/s / ceiling's writes/s", ratio.events_to_ceiling_writes.map(hundredths));
    rows.add("payload MB/s / ceiling's MB/s", ratio.bandwidth_to_ceiling.map(thousandths));
    rows.add("scan / memory sum", ratio.scan_to_memory_sum.map(thousandths));
    rows.add("verified", report.verified.map(|good| if good { "yes" } else { "NO" }.into()));
    let mut text = format!("{}\n{}", report.environment.describe(), rows.text());
    if report.workload.ended_early == Some(true) {
        let bytes = report.workload.max_bytes.unwrap_or_default();
        text.extend(["\nEnded early: --max-bytes ", &bytes.to_string(), " was reached."]);
    }
    if ceiling.stable == Some(false) {
        text.push_str(UNSTABLE);
    }
    text
}

fn add_loads(rows: &mut Rows, loads: &Loads) {
    rows.add("loads: events of a stream", loads.stream_events.map(whole));
    rows.add("loads: events after the snapshot", loads.events_behind.map(whole));
    rows.add("loads: bytes of a state", loads.state_bytes.map(whole));
    rows.add("loads", loads.load_count.map(whole));
    rows.add("load: p50 µs", loads.load_us.p50.map(tenths));
    rows.add("load: p99 µs", loads.load_us.p99.map(tenths));
    rows.add("replays of all events", loads.replay_count.map(whole));
    rows.add("replay: p50 µs", loads.replay_us.p50.map(tenths));
    rows.add("replay / load", loads.ratio.map(hundredths));
    let taking = &loads.taking;
    let mebibytes = |bytes: Option<u64>| bytes.map(|bytes| whole(bytes >> 20));
    rows.add("taking: µs for a snapshot, mean", taking.snapshot_us_mean.map(tenths));
    rows.add("taking: memory before, MiB", mebibytes(taking.rss_before_bytes));
    rows.add("taking: memory afterwards, MiB", mebibytes(taking.rss_after_bytes));
    rows.add("of that without files: before, MiB", mebibytes(taking.anonymous_before_bytes));
    rows.add("of that without files: afterwards, MiB", mebibytes(taking.anonymous_after_bytes));
}

fn add_snapshots(rows: &mut Rows, snapshots: &Snapshots) {
    let megabytes_of = |bytes: Option<u64>| bytes.map(|bytes| megabytes(bytes as f64));
    rows.add("snapshots: taken", snapshots.taken.map(whole));
    rows.add("snapshots: skipped", snapshots.skipped.map(whole));
    rows.add("snapshots: failed", snapshots.failed.map(whole));
    rows.add("snapshots: waiting at the end", snapshots.waiting.map(whole));
    rows.add("snapshots: checked", snapshots.checked.map(whole));
    let mismatched = snapshots.mismatched.filter(|&mismatched| mismatched > 0);
    rows.add("snapshots: MISMATCHED", mismatched.map(whole));
    rows.add("snapshots: events behind, the last", snapshots.lag_events.map(whole));
    rows.add("snapshots: streams", snapshots.keys.map(whole));
    rows.add("snapshots: files", snapshots.segments.map(whole));
    rows.add("snapshots: MB on disk", megabytes_of(snapshots.disk_bytes));
    rows.add("snapshots: MB of them wanted", megabytes_of(snapshots.live_bytes));
    rows.add("snapshots: MB written", megabytes_of(snapshots.written_bytes));
    rows.add("snapshots: MB moved by compaction", megabytes_of(snapshots.rewritten_bytes));
    rows.add("snapshots: compactions", snapshots.compactions.map(whole));
}

fn add_projections(rows: &mut Rows, projections: &Projections) {
    let count = |number: Option<usize>| number.map(|number| number.to_string());
    rows.add("projections", count(projections.count));
    rows.add("projections: slow", count(projections.slow));
    rows.add("projections: events, all together", projections.events.map(whole));
    rows.add("projections: events behind, at most", projections.lag_events_max.map(whole));
    rows.add("projections: ns for an event", projections.ns_per_event.map(rounded));
    rows.add("projections: ns, the slow ones", projections.ns_per_event_slow.map(rounded));
    let drained = projections.drain_seconds.map(|seconds| format!("{seconds:.3}"));
    rows.add("projections: seconds to drain", drained);
}

const UNSTABLE: &str = "\nThe ceiling is NOT STABLE: it moved by more than a fifth between before and \
                        afterwards, so the ratios say little.";

/// One line of the tour.
#[derive(Debug)]
pub(crate) struct Line {
    pub name: &'static str,
    pub report: Report,
}

/// The tour: one line for each part.
pub(crate) fn tour(lines: &[Line]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header([
        "",
        "events/s",
        "MB/s",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "batch",
        "p50 / ceiling",
        "events / write",
        "MB/s / ceiling",
        "stable",
        "verified",
    ]);
    for line in lines {
        table.add_row(tour_row(line));
    }
    for column in 1..12 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.to_string()
}

fn tour_row(Line { name, report }: &Line) -> Vec<String> {
    let Report { append, read, ceiling, ratio, .. } = report;
    let yes = |good| if good { "yes" } else { "NO" }.to_owned();
    let p50 = append.latency_ns.p50.or(read.stream_p50_ns).or(read.open_ns);
    [
        Some((*name).to_owned()),
        append.events_per_second.or(read.events_per_second).map(rounded),
        append.bytes_per_second.or(read.bytes_per_second).map(megabytes),
        p50.map(micros),
        append.latency_ns.p99.map(micros),
        append.latency_ns.p999.map(micros),
        append.batch_events_mean.map(tenths),
        ratio.p50_to_ceiling.map(hundredths),
        ratio.events_to_ceiling_writes.map(hundredths),
        ratio.bandwidth_to_ceiling.or(ratio.scan_to_memory_sum).map(thousandths),
        ceiling.stable.map(yes),
        report.verified.map(yes),
    ]
    .map(Option::unwrap_or_default)
    .into()
}

/// A whole number, in groups of three digits.
pub(crate) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure above 0")]
pub(crate) fn rounded(number: f64) -> String {
    whole(number.round() as u64)
}

fn micros(nanos: u64) -> String {
    if nanos < 100_000 { tenths(nanos as f64 / 1e3) } else { rounded(nanos as f64 / 1e3) }
}

pub(crate) fn megabytes(bytes: f64) -> String {
    if bytes < 1e8 { tenths(bytes / 1e6) } else { rounded(bytes / 1e6) }
}

fn tenths(number: f64) -> String {
    format!("{number:.1}")
}

fn hundredths(number: f64) -> String {
    format!("{number:.2}")
}

fn thousandths(number: f64) -> String {
    format!("{number:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(whole(0), "0");
        assert_eq!(whole(999), "999");
        assert_eq!(whole(1_000), "1,000");
        assert_eq!(rounded(1_234_567.6), "1,234,568");
        assert_eq!(micros(97_400), "97.4");
        assert_eq!(micros(1_234_000), "1,234");
    }

    #[test]
    fn what_was_not_measured_is_not_in_the_table() {
        let mut measured = Report::default();
        measured.append.events_per_second = Some(12_345.0);
        measured.query.per_second = Some(2_345.0);
        measured.query.p50_ns = Some(97_400);
        measured.workload.cold = Some(true);
        measured.ceiling.stable = Some(false);
        measured.workload.ended_early = Some(true);
        let text = report(&measured);
        assert!(text.contains("12,345") && text.contains("NOT STABLE"));
        assert!(text.contains("2,345") && text.contains("97.4"));
        assert!(text.contains("page cache dropped"));
        assert!(text.contains("Ended early"));
        assert!(!text.contains("p99") && !text.contains("verified"));
        assert!(!text.contains("snapshots") && !text.contains("load"));
        assert!(!text.contains("projections"));
    }
}
