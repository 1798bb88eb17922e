//! Snapshots of folded states, on real files: taken beside a load, and loaded.

#![expect(
    clippy::unwrap_used,
    reason = "tests may, but these helpers are not seen as part of them"
)]

use std::path::Path;

use serde_json::Value;

use self::common::{fails, folder, json, succeeds};

mod common;

/// The bytes of the files of snapshots in a store, and how many they are.
fn snapshot_files(store: &Path) -> (u64, u64) {
    let files = std::fs::read_dir(store).unwrap().map(Result::unwrap);
    let snapshots =
        files.filter(|file| file.file_name().to_string_lossy().starts_with("snapshots-"));
    let lengths = snapshots.map(|file| file.metadata().unwrap().len());
    lengths.fold((0, 0), |(bytes, files), length| (bytes + length, files + 1))
}

#[track_caller]
fn number(report: &Value, name: &str) -> u64 {
    let value = report.pointer(name).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{name} is no number: {report:#}"))
}

/// Runs with these words, and holds the figures against the store's directory.
fn assert_taken(words: &str) -> Value {
    let folder = folder();
    let run =
        "run --typed --dir store --verify --json out.json --duration 0.4 --warmup 0 --no-ceiling";
    let table = succeeds(folder.path(), &format!("{run} {words}"));
    assert!(table.contains("snapshots: taken") && table.contains("verified"), "{table}");
    let report = json(folder.path().join("out.json"));
    let snapshots = |name: &str| number(&report, &format!("/snapshots/{name}"));
    assert!(snapshots("taken") > 0, "{report:#}");
    assert_eq!((snapshots("failed"), snapshots("mismatched")), (0, 0));
    let (bytes, files) = snapshot_files(&folder.path().join("store"));
    assert_eq!((snapshots("disk_bytes"), snapshots("segments")), (bytes, files));
    let keys = snapshots("keys");
    assert!(keys > 0 && keys <= number(&report, "/workload/streams"));
    // No more than two of each are kept, of 4 KiB and what goes with it.
    assert!(snapshots("live_bytes") >= keys * 4096 && snapshots("live_bytes") <= 2 * keys * 4400);
    assert!(snapshots("live_bytes") <= snapshots("disk_bytes"));
    assert!(snapshots("written_bytes") >= snapshots("taken") * 4096);
    report
}

#[test]
fn snapshots_are_taken_beside_each_way_to_append_and_are_right() {
    for words in [
        "--writers 4 --streams 50 --snapshots every=5",
        "--tasks 8 --streams 50 --snapshots every=20 --tags 2 --retries 20",
        "--producers 1 --inflight 64 --streams 50 --snapshots every=100 --batch 3",
        // What events are changes nothing of how long a state is.
        "--writers 4 --streams 50 --snapshots every=5 --payload 48 --expect any",
    ] {
        let report = assert_taken(words);
        let due = words.split("every=").nth(1).unwrap().split(' ').next().unwrap();
        assert_eq!(report["workload"]["snapshots_every"].to_string(), due);
    }
}

#[test]
fn each_second_and_the_end_have_a_line_in_the_log_of_snapshots() {
    let folder = folder();
    let run = "run --typed --snapshots every=10 --snapshot-memory 4 --snapshot-rate 8 --writers 4 --streams 500 \
               --snapshot-log log.csv --duration 1.3 --warmup 0 --json out.json --no-ceiling";
    succeeds(folder.path(), run);
    let report = json(folder.path().join("out.json"));
    assert_eq!(number(&report, "/workload/snapshot_memory_bytes"), 4 << 20);
    assert_eq!(number(&report, "/workload/snapshot_rate_bytes_per_second"), 8 << 20);
    let log = std::fs::read_to_string(folder.path().join("log.csv")).unwrap();
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 3, "{log}");
    let columns = &lines[0];
    let value = |line: usize, name: &str| -> f64 {
        let column = columns.iter().position(|column| *column == name).unwrap();
        lines[line][column].parse().unwrap()
    };
    for name in ["seconds", "events", "taken"] {
        assert!(value(1, name) > 0.0 && value(1, name) < value(2, name), "{name}: {log}");
    }
    for name in ["append_p50_us", "append_p99_us", "live_bytes", "disk_bytes"] {
        assert!(value(1, name) > 0.0 && value(2, name) > 0.0, "{name}: {log}");
    }
    assert!(value(1, "append_p50_us") <= value(1, "append_p99_us"), "{log}");
}

#[test]
fn a_stream_is_loaded_from_its_snapshot_and_replayed() {
    let folder = folder();
    let read = "read --dir store --mode loads --stream-events 3000 --behind 20 --duration 0.3 --no-ceiling";
    for is_filled in [false, true] {
        let table = succeeds(folder.path(), &format!("{read} --json out.json"));
        assert!(table.contains("load: p50") && table.contains("replay / load"), "{table}");
        let report = json(folder.path().join("out.json"));
        assert_eq!(number(&report, "/loads/stream_events"), 3000);
        assert_eq!(number(&report, "/loads/events_behind"), 20);
        assert!(number(&report, "/loads/state_bytes").abs_diff(4096) < 64);
        assert_eq!(number(&report, "/snapshots/keys"), 1);
        let figure = |name: &str| report.pointer(name).and_then(Value::as_f64).unwrap();
        let ratio = figure("/loads/replay_us/p50") / figure("/loads/load_us/p50");
        assert!((figure("/loads/ratio") - ratio).abs() < 1e-6 && ratio > 1.0, "{report:#}");
        assert!(figure("/loads/load_us/p50") <= figure("/loads/load_us/p99"));
        for name in ["/loads/taking/snapshot_us_mean", "/snapshots/taken"] {
            assert_eq!(report.pointer(name).unwrap().is_null(), is_filled, "{name}");
        }
    }
    let error = fails(folder.path(), &format!("{read} --streams 7"));
    assert!(error.contains("1 streams of this store have a snapshot"), "{error}");
}

#[test]
fn many_streams_have_a_snapshot_each_and_are_loaded_at_random() {
    let folder = folder();
    let read = "read --dir store --mode loads --streams 2000 --snapshot-memory 8 --duration 0.3 --no-ceiling";
    for (words, behind) in [("", 0), ("--dir other --stream-events 9 --behind 3", 3)] {
        let words =
            if words.is_empty() { read.to_owned() } else { read.replace("--dir store", words) };
        succeeds(folder.path(), &format!("{words} --json out.json"));
        let report = json(folder.path().join("out.json"));
        assert_eq!(number(&report, "/loads/events_behind"), behind);
        assert_eq!(number(&report, "/snapshots/keys"), 2000);
        assert_eq!(number(&report, "/snapshots/taken"), 2000);
        for name in ["rss_before_bytes", "rss_after_bytes", "anonymous_after_bytes"] {
            assert!(number(&report, &format!("/loads/taking/{name}")) > 1 << 20, "{name}");
        }
        assert!(report["loads"]["taking"]["snapshot_us_mean"].as_f64().unwrap() > 0.0);
        let store = if behind == 0 { "store" } else { "other" };
        let (bytes, _) = snapshot_files(&folder.path().join(store));
        assert_eq!(number(&report, "/snapshots/disk_bytes"), bytes);
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = folder();
    for (words, told) in [
        ("run --snapshots every=10", "--typed"),
        ("run --typed --snapshots 10", "it must be every=N"),
        ("run --typed --snapshots every=10 --store none", "only stratalog folds events"),
        ("run --typed --snapshot-rate 10", "are for --snapshots"),
        ("read --mode loads --store none", "only stratalog folds events"),
        ("read --mode scan --behind 3", "are for --mode loads"),
        ("read --mode streams --snapshot-memory 8", "are for --mode loads"),
        ("read --mode loads --fill 10", "say what is filled"),
        ("read --mode loads --stream-events 10 --behind 10", "less than --stream-events"),
    ] {
        let error = fails(folder.path(), &format!("{words} --no-ceiling"));
        assert!(error.contains(told), "{words}: {error}");
    }
    #[cfg(feature = "sqlite")]
    {
        let words = "run --typed --snapshots every=10 --store sqlite --no-ceiling";
        assert!(fails(folder.path(), words).contains("only stratalog folds events"));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
