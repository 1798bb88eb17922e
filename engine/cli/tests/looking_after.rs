//! `stats`, `verify`, and how refusals and wrong usage end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod support;

use std::fs;

use serde_json::Value;
use support::{Place, help_desk, stratalog};

fn json(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1);
    serde_json::from_str(text).unwrap()
}

/// Flips a bit in the middle of a file's content.
fn flip_bit(place: &Place, file: &str) {
    let path = place.store().join(file);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&path, bytes).unwrap();
}

fn listing(place: &Place) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(place.store()).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn stats_counts_events_streams_and_types() {
    let lines = help_desk(31, 5_000);
    let place = Place::new();
    place.import_lines(&lines).good();
    let stats = json(&place.run("stats", &["--json"]).good());
    let mut keys: Vec<_> = stats.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "event_types",
        "events",
        "index_bytes",
        "last_position",
        "log_bytes",
        "log_bytes_per_event",
        "runs",
        "segments",
        "snapshots",
        "streams",
        "types",
    ];
    assert_eq!(keys, expected);
    let streams: std::collections::HashSet<_> =
        lines.iter().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!(stats["events"], 5_000);
    assert_eq!(stats["last_position"], 5_000);
    assert_eq!(stats["streams"], streams.len());
    assert_eq!(stats["types"], 6);
    assert!(stats["segments"].as_u64().unwrap() >= 2);
    assert!(stats["index_bytes"].as_u64().unwrap() > 0);
    let each = stats["log_bytes"].as_f64().unwrap() / 5_000.0;
    assert!((stats["log_bytes_per_event"].as_f64().unwrap() - each).abs() < 1e-6);

    let table = place.run::<&str>("stats", &[]).good();
    assert!(table.lines().next().unwrap().ends_with(" 5,000"), "{table}");
    let types = stats["event_types"].as_array().unwrap();
    assert_eq!(types.len(), 6);
    let events: u64 = types.iter().map(|of| of["events"].as_u64().unwrap()).sum();
    assert_eq!(events, 5_000);
    assert!(types.iter().all(|of| of["version"].is_null() && of["fingerprint"].is_null()));
    let first = types[0]["name"].as_str().unwrap();
    assert!(table.contains(&format!(" {first} - -")), "{table}");
}

#[test]
fn an_empty_store_has_figures_and_is_clean() {
    let place = Place::new();
    place.import_lines(&[]).good();
    let stats = json(&place.run("stats", &["--json"]).good());
    for key in ["events", "streams", "types", "last_position", "segments"] {
        assert_eq!(stats[key], 0, "{key}");
    }
    place.assert_clean();
}

#[test]
fn a_clean_store_is_verified_without_changing_it() {
    let place = Place::new();
    place.import_lines(&help_desk(32, 5_000)).good();
    let before = listing(&place);
    let report = json(&place.run("verify", &["--json"]).good());
    assert_eq!(report["clean"], true);
    assert_eq!(report["events"], 5_000);
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    assert!(report["bytes"].as_u64().unwrap() > 1 << 20);
    assert!(listing(&place) == before, "verifying changed a file");
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_is_found_and_its_file_is_named() {
    const SEALED: &str = "segment-0000000001.log";
    let lines = help_desk(33, 8_000);
    let place = Place::new();
    place.import_lines(&lines).good();
    flip_bit(&place, SEALED);
    let before = listing(&place);

    let run = place.run("verify", &["--json"]);
    assert_eq!(run.status, 1);
    let report = json(&run.stdout);
    assert_eq!(report["clean"], false);
    let finding = &report["findings"][0];
    assert_eq!(finding["file"], SEALED);
    assert_eq!(finding["first_position"], 1);
    assert!(finding["offset"].as_u64().unwrap() > 0);
    assert!(finding["last_position"].as_u64().unwrap() < 8_000);
    assert!(finding["what"].as_str().unwrap().contains("checksum"), "{finding}");

    let run = place.run::<&str>("verify", &[]);
    assert_eq!(run.status, 1);
    assert!(run.stdout.contains(SEALED) && run.stdout.contains("not clean"), "{}", run.stdout);

    // What stands before the damage is exported first, and the rest can be.
    let run = place.run::<&str>("export", &[]);
    let exported: Vec<_> = run.stdout.lines().map(str::to_owned).collect();
    assert!(!exported.is_empty() && exported.len() < 8_000);
    support::assert_begin(&exported, &lines);
    run.bad(&["segment 1 is damaged"]);
    assert!(listing(&place) == before, "looking at the damage changed a file");
}

#[test]
fn a_flipped_bit_in_an_index_is_found_and_its_file_is_named() {
    for file in ["segment-0000000001.table", "terms-0000000001-0000000001.index"] {
        let place = Place::new();
        place.import_lines(&help_desk(34, 8_000)).good();
        flip_bit(&place, file);
        let run = place.run("verify", &["--json"]);
        assert_eq!(run.status, 1);
        assert_eq!(json(&run.stdout)["findings"][0]["file"], file);
    }
}

#[test]
fn a_store_that_is_refused_is_not_clean_and_is_left_alone() {
    let place = Place::new();
    place.import_lines(&help_desk(35, 8_000)).good();
    fs::remove_file(place.store().join("segment-0000000001.log")).unwrap();
    let before = listing(&place);
    let run = place.run("verify", &["--json"]);
    assert_eq!(run.status, 1);
    let report = json(&run.stdout);
    assert_eq!(report["clean"], false);
    assert_eq!(report["findings"][0]["file"], "segment-0000000001.log");
    for subcommand in ["export", "query", "stats"] {
        place.run::<&str>(subcommand, &[]).bad(&["segment-0000000001.log", "missing"]);
    }
    place.import_lines(&help_desk(35, 8_000)).bad(&["segment-0000000001.log", "missing"]);
    let after: Vec<_> = listing(&place);
    assert!(after == before, "a refused opening changed a file");
}

#[test]
fn a_store_that_is_not_there_is_told_and_not_made() {
    let place = Place::new();
    for subcommand in ["export", "query", "stats", "verify"] {
        let run = place.run::<&str>(subcommand, &[]);
        assert_eq!(run.stdout, "");
        run.bad(&["there is no store in", "store"]);
        assert!(!place.store().exists());
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["import", "store"],
        &["export"],
        &["export", "store", "--from", "x"],
        &["query"],
        &["query", "store", "--limit", "x"],
        &["query", "store", "--since", "yesterday"],
        &["stats", "store", "--yaml"],
    ] {
        let output = stratalog(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = stratalog(["stats", "store"]).env("STRATALOG_LOG", "loud").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    for arguments in [["--help"], ["--version"]] {
        assert_eq!(stratalog(arguments).output().unwrap().status.code(), Some(0));
    }
}
