//! `tail --follow` beside those who write to the store.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use support::{Place, help_desk, stratalog, text};

/// How long a line or an end may take, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_mins(1);

/// A `tail --follow` that runs.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(place: &Place, words: &str) -> Self {
        let mut command = stratalog(["tail"]);
        let arguments = words.split_whitespace();
        command.arg(place.store()).arg("--follow").args(arguments);
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            // Nobody waits for lines any more where the test has failed.
            let _ = out.lines().try_for_each(|line| sender.send(line.unwrap()));
        });
        Self { child, lines }
    }

    #[track_caller]
    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line is printed")
    }

    fn take(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next()).collect()
    }

    /// What else was printed before it ended, what it said, and how it ended.
    fn ended(mut self) -> (Vec<String>, String, ExitStatus) {
        let status = wait(&mut self.child);
        let mut told = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        (self.lines.iter().collect(), told, status)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It has ended, or the test is over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a line of the store is of this line that was imported.
fn is_of(printed: &str, imported: &str) -> bool {
    let data = |line: &str| line.split_once(r#""data":"#).unwrap().1.to_owned();
    data(printed) == data(imported)
}

#[test]
fn what_another_process_appends_is_printed_while_it_runs() {
    let lines = help_desk(51, 5_000);
    let place = Place::new();
    place.import_lines(&lines[..100]).good();
    let follower = Follower::start(&place, "--lines 3");
    let mut printed = follower.take(3);
    let mut import = stratalog(["import"]);
    import.arg(place.store()).arg("-").stdin(Stdio::piped());
    let mut import = import.spawn().unwrap();
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(text(&lines[..100]).as_bytes()).unwrap();
    for part in [100..101, 101..150, 150..4_000, 4_000..4_003, 4_003..5_000] {
        stdin.write_all(text(&lines[part.clone()]).as_bytes()).unwrap();
        // The writer is at work meanwhile, and goes on only then.
        printed.extend(follower.take(part.len()));
        assert!(is_of(printed.last().unwrap(), &lines[part.end - 1]));
    }
    drop(stdin);
    assert!(import.wait().unwrap().success());
    assert_eq!(printed, place.export()[97..]);
}

#[test]
fn following_goes_on_when_the_writer_closes_the_store_or_dies_and_another_opens_it() {
    let lines = help_desk(52, 3_000);
    let place = Place::new();
    place.import_lines(&lines[..1]).good();
    let follower = Follower::start(&place, "--from 1");
    let mut printed = follower.take(1);
    for end in [2, 500, 501, 1_500] {
        place.import_lines(&lines[..end]).good();
        printed.extend(follower.take(end - printed.len()));
    }
    // One that is killed with the store open.
    let mut import = stratalog(["import"]);
    let mut import = import.arg(place.store()).arg("-").stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = import.stdin.take().unwrap();
    stdin.write_all(text(&lines[..2_000]).as_bytes()).unwrap();
    printed.extend(follower.take(500));
    import.kill().unwrap();
    import.wait().unwrap();
    assert_eq!(place.import_lines(&lines).status, 0);
    printed.extend(follower.take(1_000));
    assert_eq!(printed, place.export());
}

#[test]
fn filters_hold_for_what_is_appended_later() {
    let lines = help_desk(53, 2_000);
    let place = Place::new();
    place.import_lines(&lines[..1_000]).good();
    let wanted = |place: &Place| -> Vec<String> {
        let found = place.run("query", &["--type", "close"]).good();
        found.lines().map(str::to_owned).collect()
    };
    let before = wanted(&place);
    let follower = Follower::start(&place, "--type close --lines 2");
    assert_eq!(follower.take(2), before[before.len() - 2..]);
    place.import_lines(&lines[..1_500]).good();
    place.import_lines(&lines).good();
    let after = wanted(&place);
    assert!(after.len() > before.len());
    assert_eq!(follower.take(after.len() - before.len()), after[before.len()..]);
    // Nothing else was printed, though events came that do not match.
    assert!(follower.lines.try_recv().is_err());
}

#[test]
fn following_an_empty_store_begins_with_its_first_event() {
    let lines = help_desk(54, 3);
    let place = Place::new();
    place.import_lines(&[]).good();
    let follower = Follower::start(&place, "");
    place.import_lines(&lines).good();
    assert_eq!(follower.take(3), place.export());
}

#[test]
fn following_ends_quietly_when_its_reader_goes_away_though_nothing_is_appended() {
    let place = Place::new();
    place.import_lines(&help_desk(55, 20)).good();
    let mut child = stratalog(["tail", "--follow"]).arg(place.store()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..10 {
        out.read_line(&mut String::new()).unwrap();
    }
    drop(out);
    assert_eq!(wait(&mut child).code(), Some(0));
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(told, "");
}

#[test]
fn following_is_ended_by_a_signal() {
    let place = Place::new();
    place.import_lines(&help_desk(56, 20)).good();
    for signal in [Signal::INT, Signal::TERM] {
        let follower = Follower::start(&place, "--lines 1");
        follower.next();
        kill_process(Pid::from_child(&follower.child), signal).unwrap();
        let (printed, told, status) = follower.ended();
        assert_eq!(status.signal(), Some(signal.as_raw()));
        assert_eq!((printed, told), (Vec::new(), String::new()));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn following_ends_with_an_error_when_the_log_goes_back() {
    let lines = help_desk(57, 200);
    let place = Place::new();
    place.import_lines(&lines[..100]).good();
    copy(&place.store(), &place.path("older"));
    place.import_lines(&lines).good();
    let follower = Follower::start(&place, "--lines 1");
    follower.next();
    fs::rename(place.store(), place.path("newer")).unwrap();
    fs::rename(place.path("older"), place.store()).unwrap();
    let (printed, told, status) = follower.ended();
    assert_eq!((printed.len(), status.code()), (0, Some(1)), "{told}");
    for text in [place.store().to_str().unwrap(), "behind position 200", "ends at position 100 now"]
    {
        assert!(told.contains(text), "{text:?} is not in {told:?}");
    }
    assert!(!told.contains("--from"), "{told}");
}

#[test]
fn following_ends_with_an_error_when_another_store_is_in_its_place() {
    let place = Place::new();
    place.import_lines(&help_desk(58, 50)).good();
    let follower = Follower::start(&place, "--lines 1");
    follower.next();
    let other = Place::new();
    other.import_lines(&help_desk(59, 70)).good();
    fs::rename(place.store(), place.path("before")).unwrap();
    fs::rename(other.store(), place.store()).unwrap();
    let (printed, told, status) = follower.ended();
    assert_eq!((printed.len(), status.code()), (0, Some(1)), "{told}");
    for text in [place.store().to_str().unwrap(), "behind position 50", "another store"] {
        assert!(told.contains(text), "{text:?} is not in {told:?}");
    }
    assert!(!told.contains("--from"), "{told}");
}

#[test]
fn following_ends_with_an_error_when_the_store_is_gone() {
    let place = Place::new();
    place.import_lines(&help_desk(60, 5)).good();
    let follower = Follower::start(&place, "");
    follower.take(5);
    fs::rename(place.store(), place.path("elsewhere")).unwrap();
    let (_, told, status) = follower.ended();
    assert_eq!(status.code(), Some(1));
    assert!(told.contains("there is no store in") && told.contains("--from 6"), "{told}");
}
