//! Projections that follow the log beside a load, on real files.

#![expect(
    clippy::unwrap_used,
    reason = "tests may, but these helpers are not seen as part of them"
)]

use std::path::Path;

use self::common::{fails, folder, json, succeeds};

mod common;

const RUN: &str = "run --dir store --json out.json --duration 0.4 --warmup 0 --no-ceiling";

/// How many events the store has.
fn events(working: &Path) -> u64 {
    let dump = succeeds(working, "dump store");
    dump.lines().filter(|line| line.starts_with("R ")).count() as u64
}

#[test]
fn each_projection_counts_each_event_once_beside_each_way_to_append() {
    for words in [
        "--projections 3 --slow 1 --writers 4 --streams 50",
        "--projections 3 --slow 3 --tasks 8 --streams 50 --typed --tags 2 --retries 20",
        "--projections 3 --slow 2 --producers 1 --inflight 64 --batch 3 --typed --snapshots every=50",
    ] {
        let folder = folder();
        let table = succeeds(folder.path(), &format!("{RUN} --verify {words}"));
        assert!(table.contains("projections: seconds to drain"), "{table}");
        assert!(table.contains("verified"), "{table}");
        let report = json(folder.path().join("out.json"));
        let figures = &report["projections"];
        let slow = figures["slow"].as_u64().unwrap();
        assert!(words.contains(&format!("--projections {} --slow {slow} ", figures["count"])));
        assert_eq!(figures["events"].as_u64().unwrap(), 3 * events(folder.path()), "{words}");
        assert!(figures["lag_events_max"].as_u64().unwrap() <= events(folder.path()));
        assert!(figures["ns_per_event_slow"].as_f64().unwrap() > 0.0);
        assert_eq!(figures["ns_per_event"].as_f64().is_some_and(|nanos| nanos > 0.0), slow < 3);
        assert!(figures["drain_seconds"].as_f64().unwrap() >= 0.0);
        assert_eq!(report["verified"], true);
    }
}

#[test]
fn what_a_store_was_filled_with_is_counted_before_the_load() {
    let folder = folder();
    succeeds(folder.path(), &format!("{RUN} --projections 1 --fill 5000 --tags 1 --writers 2"));
    let figures = &json(folder.path().join("out.json"))["projections"];
    assert_eq!(figures["events"].as_u64().unwrap(), events(folder.path()));
    assert_eq!(figures["slow"], 0);
    assert!(figures["ns_per_event"].is_number() && figures["ns_per_event_slow"].is_null());
}

#[test]
fn without_projections_there_are_no_figures_of_them() {
    let folder = folder();
    let table = succeeds(folder.path(), &format!("{RUN} --writers 2"));
    assert!(!table.contains("projections"), "{table}");
    let report = json(folder.path().join("out.json"));
    assert!(report["projections"].as_object().unwrap().values().all(serde_json::Value::is_null));
}

#[test]
fn projections_that_cannot_be_are_refused_before_anything_runs() {
    let folder = folder();
    for (words, told) in [
        ("--projections 2 --slow 3", "no more than --projections"),
        ("--slow 1", "--projections"),
        ("--projections 0", "from 1 to 16"),
        ("--projections 17", "from 1 to 16"),
        ("--projections 2 --store none", "needs a store that has some: stratalog"),
    ] {
        let error = fails(folder.path(), &format!("run --no-ceiling {words}"));
        assert!(error.contains(told), "{words}: {error}");
    }
    #[cfg(feature = "sqlite")]
    {
        let error = fails(folder.path(), "run --no-ceiling --projections 2 --store sqlite");
        assert!(error.contains("needs a store that has some: stratalog"), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
