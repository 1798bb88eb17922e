//! The documents name tests, files and each other: what they name is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below a folder whose names end so, but for what is built.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// What stands between single backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.starts_with("```"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

#[test]
fn every_test_that_a_document_names_exists() {
    let sources: String =
        files(&root(), ".rs").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut named = 0;
    for document in files(&root(), ".md") {
        let text = fs::read_to_string(&document).unwrap();
        // The names of tests are sentences: nothing else has so many words.
        let is_test = |name: &&str| {
            name.matches('_').count() >= 3
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        for name in quoted(&text).filter(is_test) {
            named += 1;
            let document = document.display();
            assert!(sources.contains(&format!("fn {name}(")), "{document} names {name}");
        }
    }
    assert!(named > 30, "only {named} names were found");
}

fn is_source(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "rs")
}

#[test]
fn every_file_that_a_document_links_to_exists() {
    let mut links = 0;
    for document in files(&root(), ".md") {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if link.starts_with("http") || path.is_empty() {
                continue;
            }
            links += 1;
            let target = document.parent().unwrap().join(path);
            assert!(target.exists(), "{} links to {link}", document.display());
        }
        for path in quoted(&text).filter(|name| name.contains('/') && is_source(name)) {
            links += 1;
            assert!(root().join(path).exists(), "{} names {path}", document.display());
        }
    }
    assert!(links > 10, "only {links} links were found");
}
