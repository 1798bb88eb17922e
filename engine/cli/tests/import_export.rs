//! What goes in comes out: fields, order, equal lines, and the parts of it that can be asked for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use support::{Place, help_desk, stratalog, text};

const FULL: &str = concat!(
    r#"{"position":1,"stream":"ticket-ü \"1\"","version":0,"type":"öpened","#,
    r#""timestamp":"1969-12-31T23:59:59.123456789Z","#,
    r#""id":"0190a5d2-7b1c-7000-8000-000000000001","#,
    r#""correlation_id":"0190a5d2-7b1c-7000-8000-000000000002","#,
    r#""causation_id":"0190a5d2-7b1c-7000-8000-000000000003","#,
    r#""tags":["z","a","a b"],"metadata":{ "by" : [1.0, null] },"#,
    r#""data":{"z":1e400,"a":"\u00fc\/","z":[ ]}}"#
);
const BYTES: &str = concat!(
    r#"{"position":2,"stream":"s","version":0,"type":"t","timestamp":"2010-01-13T08:40:25.000001Z","#,
    r#""id":"0190a5d2-7b1c-7000-8000-000000000004","metadata_base64":"/wA=","data_base64":"AAEC"}"#
);

#[test]
fn every_field_comes_out_to_the_letter_and_goes_in_again() {
    let lines = [FULL.to_owned(), BYTES.to_owned()];
    let place = Place::new();
    assert_eq!(place.import_lines(&lines).good(), "2 lines: 2 appended, 0 there already\n");
    assert_eq!(place.export(), lines);
    assert_eq!(place.import_lines(&lines).good(), "2 lines: 0 appended, 2 there already\n");
    place.assert_clean();
}

/// As a store has them whose events are Rust types: archived, and JSON with a version.
const ARCHIVED: &str = concat!(
    r#"{"position":1,"stream":"s","version":0,"type":"t","timestamp":"2010-01-13T08:40:25.000Z","#,
    r#""id":"0190a5d2-7b1c-7000-8000-000000000005","schema_version":3,"#,
    r#""fingerprint":"0190a5d27b1c70008000000000000005","data_base64":"AAEC"}"#
);
const VERSIONED: &str = concat!(
    r#"{"position":2,"stream":"s","version":1,"type":"t","timestamp":"2010-01-13T08:40:25.000Z","#,
    r#""id":"0190a5d2-7b1c-7000-8000-000000000006","schema_version":2,"data":{"a":1}}"#
);

#[test]
fn archived_payloads_keep_their_version_and_fingerprint() {
    let lines = [ARCHIVED.to_owned(), VERSIONED.to_owned()];
    let place = Place::new();
    assert_eq!(place.import_lines(&lines).good(), "2 lines: 2 appended, 0 there already\n");
    assert_eq!(place.export(), lines);
    assert_eq!(place.import_lines(&lines).good(), "2 lines: 0 appended, 2 there already\n");
    let stats = place.run::<&str>("stats", &[]).good();
    assert!(stats.contains(" t 2 -"), "{stats}");
    assert!(stats.contains(" t 3 0190a5d27b1c70008000000000000005"), "{stats}");
    place.assert_clean();
    let other = [ARCHIVED.replace(r#"sion":3,"#, r#"sion":4,"#), VERSIONED.to_owned()];
    assert_ne!(place.import_lines(&other).status, 0);
}

#[test]
fn an_export_imports_into_another_store_as_the_same_events() {
    let (place, other) = (Place::new(), Place::new());
    place.import_lines(&help_desk(1, 3_000)).good();
    let exported = place.export();
    other.import_lines(&exported).good();
    assert_eq!(other.export(), exported);
}

#[test]
fn equal_lines_all_count_and_a_second_import_adds_nothing() {
    let lines = help_desk(2, 5_000);
    assert!(lines.windows(2).any(|pair| pair[0] == pair[1]));
    let place = Place::new();
    assert_eq!(place.import_lines(&lines).good(), "5,000 lines: 5,000 appended, 0 there already\n");
    place.assert_has(&lines);
    let before = place.export();
    assert_eq!(place.import_lines(&lines).good(), "5,000 lines: 0 appended, 5,000 there already\n");
    assert_eq!(place.export(), before);
}

#[test]
fn stdin_is_read_and_its_last_line_needs_no_line_break() {
    let lines = help_desk(3, 100);
    let place = Place::new();
    let mut command = stratalog(["import"]);
    let mut child = command.arg(place.store()).arg("-").stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(text(&lines).trim_end().as_bytes()).unwrap();
    drop(input);
    let run: support::Run = child.wait_with_output().unwrap().into();
    assert_eq!(run.good(), "100 lines: 100 appended, 0 there already\n");
    place.assert_has(&lines);
}

#[test]
fn an_empty_input_is_good_and_makes_an_empty_store() {
    let place = Place::new();
    assert_eq!(place.import_lines(&[]).good(), "0 lines: 0 appended, 0 there already\n");
    place.assert_has(&[]);
}

#[test]
fn a_stream_and_a_position_narrow_an_export() {
    let place = Place::new();
    place.import_lines(&help_desk(4, 2_000)).good();
    let all = place.export();
    let export = |arguments: &[&str]| {
        let out = place.run("export", arguments).good();
        out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let of_stream = |line: &&String| line.contains(r#""stream":"ticket-7","#);
    let expected: Vec<_> = all.iter().filter(of_stream).cloned().collect();
    assert!(expected.len() > 1);
    assert_eq!(export(&["--stream", "ticket-7"]), expected);
    assert_eq!(export(&["--from", "0"]), all);
    assert_eq!(export(&["--from", "1"]), all);
    assert_eq!(export(&["--from", "1500"]), all[1_499..]);
    assert_eq!(export(&["--from", "2001"]), [""; 0]);
    let expected: Vec<_> = all[999..].iter().filter(of_stream).cloned().collect();
    assert_eq!(export(&["--stream", "ticket-7", "--from", "1000"]), expected);
    assert_eq!(export(&["--stream", "nobody"]), [""; 0]);
}

#[test]
fn an_export_whose_reader_goes_away_ends_quietly() {
    let place = Place::new();
    place.import_lines(&help_desk(5, 20_000)).good();
    let mut child = stratalog(["export"]).arg(place.store()).spawn().unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    drop(out);
    let run: support::Run = child.wait_with_output().unwrap().into();
    assert_eq!(run.good(), "");
    assert!(first.starts_with(r#"{"position":1,"#));
}
