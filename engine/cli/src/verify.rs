//! `stratalog verify`.
//!
//! Owns how what was found is printed. Calls the store's `verify`; `main` calls it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use stratalog::{Finding, OpenError, Position, Refusal, Store};

use crate::output;
use crate::progress::{Progress, Unit};
use crate::stats::thousands;

#[derive(Debug, Serialize)]
struct Report {
    clean: bool,
    events: u64,
    bytes: u64,
    findings: Vec<Found>,
}

/// A finding. What a refused opening does not know is null.
#[derive(Debug, Serialize)]
struct Found {
    file: String,
    offset: Option<u64>,
    first_position: Option<u64>,
    last_position: Option<u64>,
    what: String,
}

/// Verifies the store in a directory, prints what was found, and says whether it is clean.
pub(crate) fn run(directory: &Path, json: bool) -> Result<bool, Box<dyn Error>> {
    let report = report(directory)?;
    let text = if json { serde_json::to_string(&report)? } else { report.text() };
    output::print(&text)?;
    Ok(report.clean)
}

fn report(directory: &Path) -> Result<Report, Box<dyn Error>> {
    let store = match Store::options().open_read_only(directory) {
        Ok(store) => store,
        // What is damaged so much that it is not even opened is what one verifies for.
        Err(OpenError::Refused(refusal)) => {
            let findings = vec![Found::from(&*refusal)];
            return Ok(Report { clean: false, events: 0, bytes: 0, findings });
        }
        Err(error) => return Err(error.into()),
    };
    let mut progress: Option<Progress> = None;
    let verification = store.verify(|done, total| {
        progress.get_or_insert_with(|| Progress::new(Unit::Bytes, Some(total))).set(done);
    })?;
    Ok(Report {
        clean: verification.is_clean(),
        events: verification.events,
        bytes: verification.bytes,
        findings: verification.findings.iter().map(Found::from).collect(),
    })
}

impl Report {
    fn text(&self) -> String {
        let read = format!(
            "{} events are good, {} bytes were read",
            thousands(self.events),
            thousands(self.bytes)
        );
        if self.clean {
            return format!("clean: {read}");
        }
        let mut lines: Vec<_> = self.findings.iter().map(Found::text).collect();
        let advice = format!(
            "not clean: {read}; copy the directory before anything else, then restore what is damaged \
             from a backup"
        );
        lines.push(advice);
        lines.join("\n")
    }
}

impl Found {
    fn text(&self) -> String {
        let Self { file, offset, first_position, last_position, what } = self;
        let mut text = format!("{file}: {what}");
        if let Some(offset) = offset {
            let _ = write!(text, ", at offset {offset}");
        }
        match (first_position, last_position) {
            (Some(first), Some(last)) => {
                let _ = write!(text, " (positions {first} to {last})");
            }
            (Some(first), None) => {
                let _ = write!(text, " (positions from {first} on)");
            }
            _ => {}
        }
        text
    }
}

impl From<&Finding> for Found {
    fn from(finding: &Finding) -> Self {
        Self {
            file: finding.file().into(),
            offset: Some(finding.offset()),
            first_position: Some(finding.first_position()),
            last_position: Some(finding.last_position()),
            what: finding.what().to_owned(),
        }
    }
}

impl From<&Refusal> for Found {
    fn from(refusal: &Refusal) -> Self {
        Self {
            file: refusal.file().into(),
            offset: refusal.offset(),
            first_position: refusal.first_lost().map(Position::get),
            last_position: refusal.last_lost().map(Position::get),
            what: refusal.case().to_string(),
        }
    }
}
