//! `stratalog stats`.
//!
//! Owns how figures are printed. Calls the store's `stats`, and that of its snapshots; `main` calls it.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;
use stratalog::{Fingerprint, SnapshotStats, Stats, Store, TypeStats};

use crate::output;

/// The figures under the names that programs know them by.
#[derive(Debug, Serialize)]
struct Figures {
    events: u64,
    streams: u64,
    types: u64,
    last_position: u64,
    segments: u64,
    log_bytes: u64,
    index_bytes: u64,
    runs: u64,
    log_bytes_per_event: f64,
    event_types: Vec<TypeFigures>,
    snapshots: SnapshotFigures,
}

/// What there is of snapshots.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotFigures {
    segments: u64,
    /// Streams that have a snapshot, each counted once for each type of state.
    keys: u64,
    live_bytes: u64,
    disk_bytes: u64,
}

/// What there is of one type, in one version and layout.
#[derive(Debug, Serialize)]
struct TypeFigures {
    name: String,
    /// The version of the payload's structure; none where it has none.
    version: Option<u32>,
    /// The fingerprint of the payload's layout; none where it has none.
    fingerprint: Option<String>,
    events: u64,
}

/// So many types are shown in the table; all of them in JSON.
const TYPES_SHOWN_MAX: usize = 100;

/// Prints the figures of the store in a directory.
pub(crate) fn run(directory: &Path, json: bool) -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_read_only(directory)?;
    let figures = Figures::of(&store.stats()?, &store.snapshots().stats()?);
    let text = if json { serde_json::to_string(&figures)? } else { figures.table() };
    Ok(output::print(&text)?)
}

impl Figures {
    fn of(stats: &Stats, snapshots: &SnapshotStats) -> Self {
        Self {
            events: stats.events,
            streams: stats.streams,
            types: stats.types,
            last_position: stats.last_position,
            segments: stats.segments,
            log_bytes: stats.log_bytes,
            index_bytes: stats.index_bytes,
            runs: stats.runs,
            log_bytes_per_event: stats.log_bytes_per_event(),
            event_types: stats.event_types.iter().map(TypeFigures::of).collect(),
            snapshots: SnapshotFigures::of(snapshots),
        }
    }

    fn table(&self) -> String {
        let rows = [
            ("events", thousands(self.events)),
            ("streams", thousands(self.streams)),
            ("types", thousands(self.types)),
            ("last position", thousands(self.last_position)),
            ("segments", thousands(self.segments)),
            ("log, bytes", thousands(self.log_bytes)),
            ("index, bytes", thousands(self.index_bytes)),
            ("index, runs", thousands(self.runs)),
            ("log, bytes per event", format!("{:.1}", self.log_bytes_per_event)),
        ];
        let mut table = lines(&rows);
        if self.snapshots.has_files() {
            // Writing to a string does not fail.
            let _ = write!(table, "\n\n{}", self.snapshots.table());
        }
        if !self.event_types.is_empty() {
            table.push_str("\n\nevents, type, version, layout");
        }
        for of in self.event_types.iter().take(TYPES_SHOWN_MAX) {
            let version = of.version.map_or("-".to_owned(), |version| version.to_string());
            let fingerprint = of.fingerprint.as_deref().unwrap_or("-");
            let events = thousands(of.events);
            let _ = write!(table, "\n{events:>20} {} {version} {fingerprint}", of.name);
        }
        let more = self.event_types.len().saturating_sub(TYPES_SHOWN_MAX);
        if more > 0 {
            let _ = write!(table, "\n{more:>20} types more, shown by --json");
        }
        table
    }
}

impl SnapshotFigures {
    pub(crate) fn of(stats: &SnapshotStats) -> Self {
        Self {
            segments: stats.segments,
            keys: stats.keys,
            live_bytes: stats.live_bytes,
            disk_bytes: stats.disk_bytes,
        }
    }

    /// Whether there is a file of snapshots with something in it; not all of them are segments that were sealed.
    fn has_files(&self) -> bool {
        self.segments > 0 || self.disk_bytes > 0
    }

    pub(crate) fn table(&self) -> String {
        let rows = [
            ("segments", thousands(self.segments)),
            ("keys", thousands(self.keys)),
            ("live, bytes", thousands(self.live_bytes)),
            ("disk, bytes", thousands(self.disk_bytes)),
        ];
        format!("snapshots\n{}", lines(&rows))
    }
}

fn lines(rows: &[(&str, String)]) -> String {
    let lines: Vec<_> =
        rows.iter().map(|(name, figure)| format!("{name:<20} {figure:>20}")).collect();
    lines.join("\n")
}

impl TypeFigures {
    fn of(stats: &TypeStats) -> Self {
        let is_known = stats.fingerprint != Fingerprint::NONE;
        Self {
            name: stats.name.to_string(),
            version: (stats.version > 0).then_some(stats.version),
            fingerprint: is_known.then(|| stats.fingerprint.to_string()),
            events: stats.events,
        }
    }
}

/// A number with a comma before each three digits.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        let texts = [0, 999, 1_000, 123_456, 1_234_567].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "123,456", "1,234,567"]);
    }
}
