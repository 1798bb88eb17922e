//! `tail`: the last events and those from a position on. Following is tested in `tail_follow.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod support;

use std::fs;

use support::{Place, Run, help_desk};

/// A place with a store, and its export.
fn filled(count: usize) -> (Place, Vec<String>) {
    let place = Place::new();
    place.import_lines(&help_desk(41, count)).good();
    let all = place.export();
    assert_eq!(all.len(), count);
    (place, all)
}

fn run(place: &Place, subcommand: &str, words: &str) -> Run {
    place.run(subcommand, &words.split_whitespace().collect::<Vec<_>>())
}

#[track_caller]
fn lines(place: &Place, subcommand: &str, words: &str) -> Vec<String> {
    run(place, subcommand, words).good().lines().map(str::to_owned).collect()
}

#[test]
fn the_last_lines_of_an_export_are_printed() {
    let (place, all) = filled(3_000);
    assert_eq!(lines(&place, "tail", ""), all[2_990..]);
    assert_eq!(lines(&place, "tail", "--lines 1"), all[2_999..]);
    assert_eq!(lines(&place, "tail", "-n 1200"), all[1_800..]);
    assert_eq!(lines(&place, "tail", "--lines 3001"), all);
    assert_eq!(lines(&place, "tail", "--lines 0"), [""; 0]);
}

#[test]
fn the_lines_of_an_export_from_a_position_on_are_printed() {
    let (place, all) = filled(3_000);
    assert_eq!(lines(&place, "tail", "--from 2901"), all[2_900..]);
    assert_eq!(lines(&place, "tail", "--from 1"), all);
    assert_eq!(lines(&place, "tail", "--from 0"), all);
    assert_eq!(lines(&place, "tail", "--from 3000"), all[2_999..]);
    // Where an earlier run has ended.
    assert_eq!(lines(&place, "tail", "--from 3001"), [""; 0]);
}

#[test]
fn filters_are_those_of_query() {
    let (place, all) = filled(3_000);
    let before = all.len();
    for filter in [
        "--type open",
        "--type open --type close",
        "--stream ticket-7",
        "--category ticket --type assign",
        "--stream absent",
        "--tag absent",
    ] {
        let wanted = lines(&place, "query", filter);
        assert_eq!(lines(&place, "tail", &format!("{filter} --from 0")), wanted, "{filter}");
        let last = wanted.len().saturating_sub(7);
        assert_eq!(
            lines(&place, "tail", &format!("{filter} --lines 7")),
            wanted[last..],
            "{filter}"
        );
        let behind = lines(&place, "tail", &format!("{filter} --from 1501"));
        let is_behind = |line: &&String| all[before / 2..].contains(line);
        assert!(behind.iter().eq(wanted.iter().filter(is_behind)), "{filter}");
    }
}

#[test]
fn nothing_is_printed_of_an_empty_store() {
    let place = Place::new();
    place.import_lines(&[]).good();
    assert_eq!(lines(&place, "tail", ""), [""; 0]);
    assert_eq!(lines(&place, "tail", "--from 1"), [""; 0]);
}

#[test]
fn what_is_wrong_with_what_is_asked_for_is_told() {
    let place = Place::new();
    for words in ["", "--from 1", "--follow"] {
        run(&place, "tail", words).bad(&["there is no store in", place.store().to_str().unwrap()]);
    }
    place.import_lines(&help_desk(42, 10)).good();
    for words in ["--from 12", "--from 12 --follow", "--from 18446744073709551615"] {
        let store = place.store();
        let texts = [store.to_str().unwrap(), "ends at position 10", "begin at 11 at most"];
        run(&place, "tail", words).bad(&texts);
    }
    for words in ["--follow", "--from 3"] {
        let mut arguments = vec!["--type", ""];
        arguments.extend(words.split_whitespace());
        place.run("tail", &arguments).bad(&["event type", "must not be empty"]);
    }
    let both = run(&place, "tail", "--from 3 --lines 3");
    assert_eq!(both.status, 2);
    assert!(both.stderr.contains("--from") && both.stderr.contains("--lines"), "{}", both.stderr);
}

#[test]
fn damage_is_told_with_where_to_go_on_behind_it() {
    let (place, all) = filled(20_000);
    let path = place.store().join("segment-0000000002.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[500_000] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let run = run(&place, "tail", "--from 0");
    let printed: Vec<_> = run.stdout.lines().map(str::to_owned).collect();
    assert_eq!(printed, all[..printed.len()]);
    let ended = format!("ended behind position {};", printed.len());
    let told = run.bad(&[place.store().to_str().unwrap(), &ended, "segment 2 is damaged"]);
    let (_, next) = told.split_once("give --from ").unwrap();
    let next: usize = next.split_once(':').unwrap().0.parse().unwrap();
    assert!(next > printed.len() && next < all.len());
    assert_eq!(lines(&place, "tail", &format!("--from {next}")), all[next - 1..]);
}
