//! What the tests of the command share: running it, making input, and comparing what comes out.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::value::RawValue;
use tempfile::TempDir;

/// The command, with its output caught.
pub fn stratalog<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stratalog"));
    command.args(arguments).env_remove("STRATALOG_LOG").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How a run of the command ended.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().expect("it ended by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// The stdout of a run that must have been good, without a word on stderr.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "it printed {}", self.beginning());
        self.stdout
    }

    /// As much of stdout as one wants to see in a message.
    fn beginning(&self) -> String {
        self.stdout.chars().take(400).collect()
    }

    /// The stderr of a run that must have failed with status 1, and has all of these texts.
    #[track_caller]
    pub fn bad(self, texts: &[&str]) -> String {
        assert_eq!(self.status, 1, "{}; it printed {}", self.stderr, self.beginning());
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not in {:?}", self.stderr);
        }
        self.stderr
    }
}

/// A directory for one test: a store, and files beside it.
#[derive(Debug)]
pub struct Place {
    directory: TempDir,
}

impl Place {
    pub fn new() -> Self {
        fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { directory: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub fn write(&self, name: &str, lines: &[String]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text(lines)).unwrap();
        path
    }

    /// Runs a subcommand on the store, with these arguments behind its directory.
    pub fn run<S: AsRef<OsStr>>(&self, subcommand: &str, arguments: &[S]) -> Run {
        let mut command = stratalog([subcommand]);
        command.arg(self.store()).args(arguments);
        command.output().unwrap().into()
    }

    pub fn import(&self, file: &Path) -> Run {
        self.run("import", &[file])
    }

    /// Imports lines that are written to a file first.
    pub fn import_lines(&self, lines: &[String]) -> Run {
        let file = self.write("input.jsonl", lines);
        self.import(&file)
    }

    pub fn export(&self) -> Vec<String> {
        self.run::<&str>("export", &[]).good().lines().map(str::to_owned).collect()
    }

    /// As [`Place::export`], of a store that a writer works on, or was killed in. A segment may have
    /// been sealed whose index is not written yet; that is told as a warning.
    pub fn export_midway(&self) -> Vec<String> {
        let mut run = self.run::<&str>("export", &[]);
        run.stderr.clear();
        run.good().lines().map(str::to_owned).collect()
    }

    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.run::<&str>("verify", &[]).good().starts_with("clean: "));
    }

    /// Asserts that the store has exactly these lines, and is clean.
    #[track_caller]
    pub fn assert_has(&self, lines: &[String]) {
        assert_are(&self.export(), lines);
        self.assert_clean();
    }
}

pub fn text(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// Lines like those of a help desk: tickets that go through a few steps, in time order, with lines among
/// them that are equal.
pub fn help_desk(seed: u64, count: usize) -> Vec<String> {
    const STEPS: [&str; 6] = ["open", "assign", "wait", "take over", "résolve", "close"];
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lines: Vec<String> = Vec::with_capacity(count);
    let mut minute = 0;
    while lines.len() < count {
        if random.u8(..) < 5
            && let Some(last) = lines.last()
        {
            lines.push(last.clone());
            continue;
        }
        minute += random.u32(0..2);
        let (day, hour, rest) = (minute / 1440 % 28 + 1, minute / 60 % 24, minute % 60);
        let month = minute / (1440 * 28) % 12 + 1;
        let note = "x".repeat(random.usize(..300));
        lines.push(format!(
            concat!(
                r#"{{"stream":"ticket-{}","type":"{}","timestamp":"2020-{:02}-{:02}T{:02}:{:02}:25.000Z","#,
                r#""data":{{"by":"agent {}", "effort": {}.50,"note":"{}"}}}}"#
            ),
            random.usize(..=count / 4),
            STEPS[random.usize(..STEPS.len())],
            month,
            day,
            hour,
            rest,
            random.u8(1..9),
            random.u8(..),
            note,
        ));
    }
    lines
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    position: Option<u64>,
    version: Option<u64>,
    id: Option<String>,
    stream: String,
    r#type: String,
    timestamp: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Asserts that exported lines have the fields of the imported ones, in their order, to the letter, and
/// dense positions and versions.
#[track_caller]
pub fn assert_are(exported: &[String], imported: &[String]) {
    assert_eq!(exported.len(), imported.len(), "the numbers of lines differ");
    assert_begin(exported, imported);
}

/// As [`assert_are`], where not all of the lines need to have been exported.
#[track_caller]
pub fn assert_begin(exported: &[String], imported: &[String]) {
    assert!(exported.len() <= imported.len(), "there are more lines than were imported");
    let mut versions = std::collections::HashMap::new();
    let mut ids = std::collections::HashSet::new();
    for (position, (out, given)) in (1..).zip(exported.iter().zip(imported)) {
        let out: Line<'_> = serde_json::from_str(out).unwrap();
        let given: Line<'_> = serde_json::from_str(given).unwrap();
        assert_eq!(out.position, Some(position));
        assert_eq!(out.stream, given.stream, "position {position}");
        assert_eq!(out.r#type, given.r#type, "position {position}");
        assert_eq!(out.timestamp, given.timestamp, "position {position}");
        assert_eq!(out.data.get(), given.data.get(), "position {position}");
        let version: &mut u64 = versions.entry(out.stream).or_default();
        assert_eq!(out.version, Some(*version), "position {position}");
        *version += 1;
        assert!(ids.insert(out.id.unwrap()), "position {position} has the id of another");
    }
}
