//! `stratalog snapshots`.
//!
//! Owns how snapshots are listed, and how it is told what was found, moved and dropped. Calls the store's `snapshots`;
//! `main` calls it.

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};
use serde::Serialize;
use stratalog::export::timestamp;
use stratalog::limits::{SNAPSHOTS_KEPT_DEFAULT, SNAPSHOTS_KEPT_MAX};
use stratalog::{
    Fingerprint, OpenError, SnapshotInfo, SnapshotOptions, SnapshotVerification, Store,
};

use crate::output::{self, closed_is_fine};
use crate::progress::{Progress, Unit};
use crate::stats::{SnapshotFigures, thousands};

const OUTPUT_BUFFER_BYTES: usize = 1 << 18;

/// What is done with the snapshots of a store.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Prints the snapshots that are kept, one a line, those of the same stream and state together, the newest first.
    ///
    /// The fields, with tabs between them, are the stream, or the projection with its lane, the name of its state, the version and the fingerprint of
    /// the state's structure, the version of the stream and the position that the snapshot reflects, when it was
    /// taken, and how many bytes the state has; the last line has totals. Damaged ones are left out: `verify` finds
    /// them. So are those that a program has taken a moment ago and not yet written to a file.
    List {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        kept: Kept,
        /// Prints JSON Lines, an object for each snapshot, and no totals.
        #[arg(long)]
        json: bool,
    },
    /// Checks all sealed files of snapshots, and changes nothing.
    ///
    /// Reads them from the disk, past the page cache: every snapshot, the index of each file, and whether the log has
    /// the events that the snapshots reflect. Those that are no longer kept, and wait to be removed, are checked and
    /// counted as well. Exit status 1 where something is not as it should be. Snapshots are caches, so that damage
    /// costs time only: what is damaged is never used, and events are replayed in its place.
    Verify {
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Removes what is of no use any more, and prints what there is then.
    ///
    /// That is what newer snapshots have taken the place of, and what was dropped. A program that writes to the store
    /// does it by itself, in the background. Opens the store for writing, and fails where another process has it open
    /// for writing.
    Compact {
        #[command(flatten)]
        kept: Kept,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Drops all snapshots, or those of one stream, and prints how many there were.
    ///
    /// No event is lost by it: states are folded from the first event on, until new snapshots are taken. With `--all`
    /// the files are removed as well, damaged ones among them; with `--stream` a compaction makes their space free.
    /// Opens the store for writing, and fails where another process has it open for writing.
    Drop {
        #[command(flatten)]
        victims: Victims,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Which snapshots are listed.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Prints snapshots of this stream only.
    #[arg(long, value_name = "S")]
    stream: Option<String>,
    /// Prints snapshots of states of this name only.
    #[arg(long, value_name = "NAME")]
    state: Option<String>,
}

/// How many snapshots are kept. The store does not record it: each program that opens it says so for itself.
#[derive(Debug, Args)]
pub(crate) struct Kept {
    /// How many snapshots of each state of a stream are kept, the newest ones: as the programs that write to the store
    /// have set it.
    #[arg(
        long,
        value_name = "N",
        default_value_t = SNAPSHOTS_KEPT_DEFAULT,
        value_parser = RangedU64ValueParser::<usize>::new().range(1..=SNAPSHOTS_KEPT_MAX as u64)
    )]
    kept: usize,
}

/// Which snapshots are dropped.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Victims {
    /// Drops all snapshots.
    #[arg(long)]
    all: bool,
    /// Drops the snapshots of this stream, of whatever state.
    #[arg(long, value_name = "S")]
    stream: Option<String>,
}

/// A snapshot under the names that programs know its fields by.
#[derive(Debug, Serialize)]
struct Line<'a> {
    stream: &'a str,
    state: &'a str,
    state_version: u32,
    /// None where the state's layout has none.
    fingerprint: Option<String>,
    version: u64,
    position: u64,
    taken_at: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Verified<'a> {
    clean: bool,
    snapshots: u64,
    bytes: u64,
    findings: &'a [String],
}

#[derive(Debug, Serialize)]
struct Compacted {
    moved_bytes: u64,
    freed_bytes: u64,
    snapshots: SnapshotFigures,
}

#[derive(Debug, Serialize)]
struct Dropped {
    dropped: u64,
}

/// Does it with the snapshots of the store in a directory. False where a verification found something.
pub(crate) fn run(directory: &Path, action: &Action) -> Result<bool, Box<dyn Error>> {
    match action {
        Action::List { selection, kept, json } => list(directory, selection, kept, *json)?,
        Action::Verify { json } => return verify(directory, *json),
        Action::Compact { kept, json } => compact(directory, kept, *json)?,
        Action::Drop { victims, json } => drop_snapshots(directory, victims, *json)?,
    }
    Ok(true)
}

fn list(
    directory: &Path,
    selection: &Selection,
    kept: &Kept,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let store = Store::options().snapshots(kept.options()).open_read_only(directory)?;
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    let (mut snapshots, mut bytes, mut written) = (0, 0, Ok(()));
    let listed = store.snapshots().each(|snapshot| {
        if selection.has(snapshot) {
            snapshots += 1;
            bytes += snapshot.bytes;
            written = Line::of(snapshot).write(&mut out, json);
        }
        if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    if listed.is_ok() && !json {
        let (snapshots, bytes) = (thousands(snapshots), thousands(bytes));
        written = written.and_then(|()| writeln!(out, "{snapshots} snapshots, {bytes} bytes"));
    }
    let written = written.and_then(|()| out.flush());
    // What is left in the buffer after a failure cannot be written either, and is not tried again.
    let _ = out.into_parts();
    closed_is_fine(written)?;
    Ok(listed?)
}

impl Kept {
    fn options(&self) -> SnapshotOptions {
        SnapshotOptions::new().kept(self.kept)
    }
}

impl Selection {
    fn has(&self, snapshot: &SnapshotInfo) -> bool {
        self.stream.as_ref().is_none_or(|stream| *stream == snapshot.stream)
            && self.state.as_ref().is_none_or(|state| *state == snapshot.state)
    }
}

impl<'a> Line<'a> {
    fn of(snapshot: &'a SnapshotInfo) -> Self {
        let is_known = snapshot.fingerprint != Fingerprint::NONE;
        Self {
            stream: &snapshot.stream,
            state: &snapshot.state,
            state_version: snapshot.state_version,
            fingerprint: is_known.then(|| snapshot.fingerprint.to_string()),
            version: snapshot.version,
            position: snapshot.position.get(),
            taken_at: timestamp(snapshot.taken_at),
            bytes: snapshot.bytes,
        }
    }

    fn write(&self, out: &mut impl Write, json: bool) -> io::Result<()> {
        if json {
            serde_json::to_writer(&mut *out, self)?;
            return writeln!(out);
        }
        // Names have no control characters, so that a tab ends them.
        let Self { stream, state, state_version, version, position, taken_at, bytes, .. } = self;
        let fingerprint = self.fingerprint.as_deref().unwrap_or("-");
        writeln!(
            out,
            "{stream}\t{state}\t{state_version}\t{fingerprint}\t{version}\t{position}\t{taken_at}\t{bytes}"
        )
    }
}

fn verify(directory: &Path, json: bool) -> Result<bool, Box<dyn Error>> {
    let store = Store::options().open_read_only(directory)?;
    let mut progress = Progress::new(Unit::Bytes, None);
    let found = store.snapshots().verify(|done| progress.set(done))?;
    drop(progress);
    let verified = Verified::of(&found);
    output::print(&if json { serde_json::to_string(&verified)? } else { verified.text() })?;
    Ok(verified.clean)
}

impl<'a> Verified<'a> {
    fn of(found: &'a SnapshotVerification) -> Self {
        let findings = &found.findings[..];
        let clean = findings.is_empty();
        Self { clean, snapshots: found.snapshots, bytes: found.bytes, findings }
    }

    fn text(&self) -> String {
        let read = format!(
            "{} snapshots are good, {} bytes were read",
            thousands(self.snapshots),
            thousands(self.bytes)
        );
        if self.clean {
            return format!("clean: {read}");
        }
        let advice = "what is damaged is never used, events are replayed in its place";
        format!("{}\nnot clean: {read}; {advice}", self.findings.join("\n"))
    }
}

fn compact(directory: &Path, kept: &Kept, json: bool) -> Result<(), Box<dyn Error>> {
    let store = open_for_writing(directory, kept.options())?;
    let snapshots = store.snapshots();
    let did = snapshots.compact()?;
    let compacted = Compacted {
        moved_bytes: did.moved_bytes,
        freed_bytes: did.freed_bytes,
        snapshots: SnapshotFigures::of(&snapshots.stats()?),
    };
    store.close()?;
    let text = if json { serde_json::to_string(&compacted)? } else { compacted.text() };
    Ok(output::print(&text)?)
}

impl Compacted {
    fn text(&self) -> String {
        let (moved, freed) = (thousands(self.moved_bytes), thousands(self.freed_bytes));
        format!("{moved} bytes were moved, {freed} bytes were freed\n\n{}", self.snapshots.table())
    }
}

fn drop_snapshots(directory: &Path, victims: &Victims, json: bool) -> Result<(), Box<dyn Error>> {
    let store = open_for_writing(directory, SnapshotOptions::new())?;
    let snapshots = store.snapshots();
    let mut dropped = 0;
    snapshots.each(|snapshot| {
        let is_victim = victims.stream.as_ref().is_none_or(|stream| *stream == snapshot.stream);
        dropped += u64::from(is_victim);
        ControlFlow::Continue(())
    })?;
    match &victims.stream {
        Some(stream) => {
            snapshots.drop_stream(stream)?;
        }
        None => snapshots.drop_all()?,
    }
    store.close()?;
    let text = if json {
        serde_json::to_string(&Dropped { dropped })?
    } else {
        format!("{} snapshots were dropped", thousands(dropped))
    };
    Ok(output::print(&text)?)
}

fn open_for_writing(directory: &Path, snapshots: SnapshotOptions) -> Result<Store, OpenError> {
    // An opening for writing makes a store where there is none, and one for reading says so.
    drop(Store::options().open_read_only(directory)?);
    Store::options().snapshots(snapshots).open(directory)
}
