//! `stratalog tail`.
//!
//! Owns where printing begins, how far it is, and how a store is followed that another process writes to. Calls the
//! store's queries, with `filters`, `events` to print, and `changes` to know when to look again; `main` calls it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use stratalog::{OpenError, Query, ReadError, Store, StoreId};

use crate::changes::Changes;
use crate::events::{self, Extent, PrintError};
use crate::filters::Filters;
use crate::output::{self, OutputError, Reader};

/// How long there is nothing done between two looks at what is followed; longer where a look takes longer.
const PAUSE: Duration = Duration::from_millis(100);
/// How long something must be wrong with what is followed before it is believed: a writer that opens the store, or closes
/// it, changes several files, and they are looked at in the middle of it now and then.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which events are printed, and whether that goes on.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// Prints events at this position and behind it, in the place of the last ones.
    #[arg(long, value_name = "P", conflicts_with = "lines")]
    from: Option<u64>,
    /// Begins with the last N events.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    lines: u64,
    /// Goes on with what is appended, until it is interrupted.
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    filters: Filters,
}

/// Why not everything could be printed that was asked for.
#[derive(Debug, thiserror::Error)]
enum TailError {
    #[error(
        "the log in {} ends at position {head}, before --from {from}: it is another store's, or an older copy; find out \
         which, and begin at {} at most",
        directory.display(),
        head.saturating_add(1)
    )]
    PastHead { directory: PathBuf, from: u64, head: u64 },
    #[error(
        "printing the events of {} ended behind position {passed}; to go on, give --from {next}",
        directory.display()
    )]
    Ended { directory: PathBuf, passed: u64, next: u64, source: LookError },
    #[error("printing the events of {} ended behind position {passed}", directory.display())]
    Replaced { directory: PathBuf, passed: u64, source: LookError },
}

/// What can be wrong with a store when it is looked at.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "there is another store now, {now}, in the place of {before}; find out why, and begin anew with it"
    )]
    OtherStore { before: StoreId, now: StoreId },
    #[error(
        "the log ends at position {head} now: the store was restored from an older copy; find out which, and begin behind \
         what the two have in common"
    )]
    WentBack { head: u64 },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl From<PrintError> for LookError {
    fn from(error: PrintError) -> Self {
        match error {
            PrintError::Read(error) => error.into(),
            PrintError::Output(error) => error.into(),
        }
    }
}

/// Prints the events of the store in a directory, from a position on or the last of them, and those that follow.
pub(crate) fn run(directory: &Path, wanted: &Wanted) -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_read_only(directory)?;
    let query = wanted.filters.query();
    let head = store.head().get();
    let passed = match wanted.from {
        Some(from) if from.saturating_sub(1) > head => {
            return Err(TailError::PastHead { directory: directory.into(), from, head }.into());
        }
        Some(from) => from.saturating_sub(1),
        None => before_last(&store, &query, wanted.lines)?,
    };
    let mut tail = Tail { directory, query, store: store.id(), passed };
    let reader = tail.print(&store).map_err(|error| tail.ended(error))?;
    // What it has mapped is not needed while nothing happens.
    drop(store);
    if wanted.follow && reader == Reader::There {
        tail.follow().map_err(|error| tail.ended(error))?;
    }
    Ok(())
}

/// The position before the first of so many events that match, the last ones.
fn before_last(store: &Store, query: &Query, lines: u64) -> Result<u64, ReadError> {
    let mut before = store.head().get();
    // They are looked for and printed in two goes, so that no number of them takes memory.
    let mut reader = store.query(query.clone()).limit(lines).backward();
    while let Some(batch) = reader.next_batch()? {
        before = batch.iter().next_back().map_or(before, |event| event.position().get() - 1);
    }
    Ok(before)
}

/// Printing, and how far it is.
struct Tail<'a> {
    directory: &'a Path,
    query: Query,
    store: StoreId,
    /// Everything up to here was printed, or does not match.
    passed: u64,
}

impl Tail<'_> {
    /// Prints what is behind that which was printed, and has it written out. Says whether somebody still reads it.
    fn print(&mut self, store: &Store) -> Result<Reader, LookError> {
        let mut events = store.query(self.query.clone()).after(self.passed).forward();
        let passed = &mut self.passed;
        let reader = events::print(Extent::Unknown, 0, || {
            let batch = events.next_batch()?;
            // It is printed whatever comes behind it.
            if let Some(last) = batch.as_ref().and_then(|batch| batch.iter().next_back()) {
                *passed = last.position().get();
            }
            Ok(batch)
        })?;
        self.passed = events.head().get();
        Ok(reader)
    }

    /// Prints what is appended, until nobody reads it any more.
    ///
    /// A store that is open for reading shows the log as it was when it was opened, so it is opened again whenever a file
    /// has changed: a store that nobody writes to costs a listing of its directory, however long its log is.
    fn follow(&mut self) -> Result<(), LookError> {
        let (mut changes, mut pause, mut wrong_since) = (Changes::new(self.directory), PAUSE, None);
        while output::pause(pause) == Reader::There {
            let begun = Instant::now();
            if changes.may_be() || wrong_since.is_some() {
                match self.look() {
                    Ok(Reader::There) => wrong_since = None,
                    Ok(Reader::Gone) => break,
                    Err(error @ LookError::Output(_)) => return Err(error),
                    Err(error) if wrong_since.get_or_insert(begun).elapsed() > PATIENCE => {
                        return Err(error);
                    }
                    Err(_) => {}
                }
            }
            // Where files are many, or the tail of the log is long, looking takes half of the time and no more.
            pause = PAUSE.max(begun.elapsed());
        }
        Ok(())
    }

    fn look(&mut self) -> Result<Reader, LookError> {
        let store = Store::options().open_read_only(self.directory)?;
        if store.id() != self.store {
            return Err(LookError::OtherStore { before: self.store, now: store.id() });
        }
        let head = store.head().get();
        if head < self.passed {
            return Err(LookError::WentBack { head });
        }
        self.print(&store)
    }

    /// The error that is told, with where it was met and where to go on.
    fn ended(&self, error: LookError) -> Box<dyn Error> {
        let (directory, passed) = (self.directory.into(), self.passed);
        let last = match &error {
            // How much was written out is not known.
            LookError::Output(_) => return error.into(),
            // There is nothing that the positions could be of.
            LookError::OtherStore { .. } | LookError::WentBack { .. } => {
                return TailError::Replaced { directory, passed, source: error }.into();
            }
            // Behind the damage: before its end there is nothing that can be printed.
            LookError::Read(ReadError::Damaged { last_position, .. }) => *last_position,
            _ => passed,
        };
        TailError::Ended { directory, passed, next: last + 1, source: error }.into()
    }
}
