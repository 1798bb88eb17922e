//! What stops an import, what it says then, and what is in the store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod support;

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use support::{Place, help_desk, stratalog, text};

#[test]
fn an_import_of_the_whole_goes_on_after_one_of_a_part() {
    let lines = help_desk(11, 4_000);
    let place = Place::new();
    place.import_lines(&lines[..2_000]).good();
    assert_eq!(
        place.import_lines(&lines).good(),
        "4,000 lines: 2,000 appended, 2,000 there already\n"
    );
    place.assert_has(&lines);
}

#[test]
fn a_line_that_was_changed_stops_the_import_and_is_named_with_its_field() {
    let lines = help_desk(12, 1_000);
    for (field, from, to) in [
        ("`timestamp`", ":25.000Z", ":26.000Z"),
        ("`type`", r#""type":""#, r#""type":"re-"#),
        ("`data`", r#""effort": "#, r#""effort":"#),
        ("`tags`", r#""data":"#, r#""tags":["new"],"data":"#),
        ("`metadata`", r#""data":"#, r#""metadata":1,"data":"#),
        ("`id`", r#""data":"#, r#""id":"0190a5d2-7b1c-7000-8000-000000000001","data":"#),
    ] {
        let place = Place::new();
        place.import_lines(&lines[..700]).good();
        let before = place.export();
        let mut changed = lines.clone();
        changed[399] = changed[399].replacen(from, to, 1);
        assert_ne!(changed[399], lines[399]);
        let run = place.import_lines(&changed);
        assert_eq!(run.stdout, "399 lines: 0 appended, 399 there already\n");
        run.bad(&["line 400 ", field, "version", "stream \"ticket-", "position 400"]);
        assert_eq!(place.export(), before, "{field}");
    }
}

#[test]
fn a_broken_line_names_its_number_and_stops_before_its_append() {
    let lines = help_desk(13, 1_000);
    let must = r#""stream":"s","type":"t","timestamp":"2010-01-13T08:40:25.000Z""#;
    let with = |fields: &str| format!("{{{must},{fields}}}");
    for (broken, says) in [
        ("{".to_owned(), "EOF"),
        ("nonsense".to_owned(), "no JSON object"),
        ("[]".to_owned(), "no JSON object"),
        (String::new(), "it is blank"),
        ("  \t".to_owned(), "it is blank"),
        (format!("{{{must}}}"), "neither `data` nor `data_base64`"),
        (with(r#""data":1"#).replace(r#""stream":"s","#, ""), "missing field `stream`"),
        (with(r#""data":1"#).replace(r#""type":"t","#, ""), "missing field `type`"),
        (r#"{"stream":"s","type":"t","data":1}"#.to_owned(), "missing field `timestamp`"),
        (with(r#""data":1,"colour":2"#), "unknown field `colour`"),
        (with(r#""data":1,"data":2"#), "duplicate field `data`"),
        (with(r#""data":1"#).replace("2010-01-13T", "yesterday "), "`timestamp` is \"yesterday"),
        (with(r#""data":1"#).replace("2010", "3010"), "1678 to 2262"),
        (with(r#""data":1,"id":"17""#), "`id` is no id"),
        (with(r#""data":1,"metadata_base64":"!""#), "`metadata_base64` is no base64"),
        (with(r#""data":1,"version":1"#), "version 0 there"),
        (with(r#""data":1"#).replace(r#""stream":"s""#, r#""stream":"""#), "must not be empty"),
        (with(r#""data":1"#).replace(r#""stream":"s""#, r#""stream":"$s""#), "reserved"),
        (with(r#""data":1"#).replace(r#""type":"t""#, r#""type":"""#), "must not be empty"),
        (with(r#""data":1,"tags":["\u0000"]"#), "control character"),
        (with(&format!(r#""data":1,"metadata":"{}""#, "m".repeat(70_000))), "metadata may have"),
        (with(&format!(r#""data":"{}""#, "d".repeat(17 << 20))), "bytes or more"),
        (with(&format!(r#""data":"{}""#, "d".repeat(32 << 20))), "more than 33554432 bytes"),
    ] {
        let place = Place::new();
        let mut all = lines.clone();
        all[600] = broken;
        let run = place.import_lines(&all);
        assert_eq!(run.stdout, "600 lines: 600 appended, 0 there already\n", "{}", run.stderr);
        run.bad(&["line 601 ", says]);
        support::assert_are(&place.export(), &lines[..600]);
    }
}

#[test]
fn what_is_no_utf8_is_a_broken_line() {
    let place = Place::new();
    let file = place.path("input.jsonl");
    std::fs::write(&file, b"{\"stream\":\"\xff\"}\n").unwrap();
    place.import(&file).bad(&["line 1 ", "not UTF-8 from byte 12"]);
}

#[test]
fn a_mended_line_lets_the_import_go_on() {
    let lines = help_desk(14, 1_000);
    let place = Place::new();
    let mut all = lines.clone();
    all[600].truncate(20);
    place.import_lines(&all).bad(&["line 601 "]);
    assert_eq!(place.import_lines(&lines).good(), "1,000 lines: 400 appended, 600 there already\n");
    place.assert_has(&lines);
}

#[test]
fn an_input_that_is_not_there_makes_no_store() {
    let place = Place::new();
    place
        .import(&place.path("nothing.jsonl"))
        .bad(&["nothing.jsonl cannot be read", "No such file"]);
    let directory = place.path("directory");
    std::fs::create_dir(&directory).unwrap();
    place.import(&directory).bad(&["directory cannot be read"]);
    assert!(!place.store().exists());
}

#[test]
fn a_store_that_another_import_writes_to_is_refused() {
    let place = Place::new();
    let lines = help_desk(15, 10);
    let mut command = stratalog(["import"]);
    let mut other = command.arg(place.store()).arg("-").stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = other.stdin.take().unwrap();
    stdin.write_all(text(&lines[..1]).as_bytes()).unwrap();
    // What it has appended shows that it holds the store; it does so until its input ends.
    while place.run::<&str>("export", &[]).stdout.is_empty() {
        assert!(other.try_wait().unwrap().is_none(), "it ended before its input");
        std::thread::sleep(Duration::from_millis(5));
    }
    place.import_lines(&lines).bad(&["open for writing elsewhere"]);
    drop(stdin);
    assert!(other.wait().unwrap().success());
    place.assert_has(&lines[..1]);
}
