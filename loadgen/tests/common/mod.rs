//! How the tests run the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

pub fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn loadgen(working: &Path, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .current_dir(working)
        .args(words.split_whitespace())
        .output()
        .unwrap()
}

pub fn succeeds(working: &Path, words: &str) -> String {
    let output = loadgen(working, words);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "loadgen {words}: {out}\n{err}");
    out.into_owned()
}

pub fn fails(working: &Path, words: &str) -> String {
    let output = loadgen(working, words);
    assert!(!output.status.success(), "loadgen {words} succeeded");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn json(path: PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}
