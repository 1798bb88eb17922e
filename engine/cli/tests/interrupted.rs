//! Imports that are killed, and exports beside them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod support;

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Duration;

use support::{Place, help_desk, stratalog, text};

fn start_import(place: &Place, input: &str, stdin: Stdio) -> Child {
    let mut command = stratalog(["import"]);
    command.arg(place.store()).arg(input).current_dir(place.path("")).stdin(stdin).spawn().unwrap()
}

/// What was appended is the beginning of the input, and a further import adds the rest.
#[track_caller]
fn assert_resumes(place: &Place, lines: &[String]) -> usize {
    let before =
        if place.store().join("manifest").exists() { place.export_midway() } else { Vec::new() };
    support::assert_begin(&before, lines);
    // The index that a killed import did not come to write is made again meanwhile, with a warning.
    assert_eq!(place.import_lines(lines).status, 0);
    let after = place.export();
    assert_eq!(after[..before.len()], before);
    place.assert_has(lines);
    before.len()
}

#[test]
fn an_import_that_is_killed_at_any_moment_resumes() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let lines = help_desk(21, 20_000);
    let mut reached = Vec::new();
    for _ in 0..12 {
        let place = Place::new();
        place.write("killed.jsonl", &lines);
        let mut child = start_import(&place, "killed.jsonl", Stdio::null());
        std::thread::sleep(Duration::from_micros(random.u64(..200_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        reached.push(assert_resumes(&place, &lines));
    }
    println!("events that the killed imports had appended: {reached:?}");
}

#[test]
fn an_import_that_is_killed_again_and_again_comes_to_the_same_end() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let lines = help_desk(22, 20_000);
    let place = Place::new();
    let mut fed = 0;
    while fed < lines.len() {
        let mut child = start_import(&place, "-", Stdio::piped());
        let mut stdin = child.stdin.take().unwrap();
        // Each time it is fed all that was fed before and somewhat more, the last line cut in two.
        fed = (fed + random.usize(1..5_000)).min(lines.len());
        let mut input = text(&lines[..fed]);
        input.truncate(input.len() - random.usize(1..20));
        stdin.write_all(input.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(random.u64(..30)));
        child.kill().unwrap();
        child.wait().unwrap();
        if place.store().join("manifest").exists() {
            support::assert_begin(&place.export_midway(), &lines[..fed]);
        }
    }
    assert_resumes(&place, &lines);
}

#[test]
fn what_was_appended_before_a_kill_in_the_middle_is_there() {
    let lines = help_desk(23, 10_000);
    let place = Place::new();
    let mut child = start_import(&place, "-", Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text(&lines[..6_000]).as_bytes()).unwrap();
    // Appends commit without being waited for: the input has not ended, and nobody asks for a flush.
    while place.run::<&str>("export", &[]).stdout.lines().count() < 6_000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before its input");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(assert_resumes(&place, &lines), 6_000);
}

#[test]
fn an_export_beside_a_running_import_is_a_beginning_of_it() {
    let lines = help_desk(24, 60_000);
    let place = Place::new();
    place.import_lines(&lines[..10]).good();
    let mut child = start_import(&place, "-", Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    // Fed slowly, so that there is something to see beside it.
    let parts: Vec<_> = lines.chunks(500).map(text).collect();
    let feeder = std::thread::spawn(move || {
        for part in parts {
            stdin.write_all(part.as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let mut seen = Vec::new();
    while child.try_wait().unwrap().is_none() {
        let exported = place.export_midway();
        support::assert_begin(&exported, &lines);
        assert!(Some(&exported.len()) >= seen.last(), "events went away");
        seen.push(exported.len());
        assert_eq!(place.run("stats", &["--json"]).status, 0);
        assert_eq!(place.run::<&str>("verify", &[]).status, 0);
    }
    feeder.join().unwrap();
    println!("events that were seen: {seen:?}");
    assert!(
        seen.iter().any(|events| (11..60_000).contains(events)),
        "nothing was seen in the middle"
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
    place.assert_has(&lines);
}
