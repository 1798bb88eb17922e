//! `stratalog query`.
//!
//! Owns what is asked for. Calls the store's queries, with `filters`, and `events` to print; `main` calls it.

use std::error::Error;
use std::path::Path;

use clap::Args;
use stratalog::{Store, Timestamp};

use crate::events::{self, Extent};
use crate::filters::Filters;
use crate::time;

/// Which events are printed, and in which order.
#[derive(Debug, Args)]
pub(crate) struct Conditions {
    #[command(flatten)]
    filters: Filters,
    /// Prints events from the first on that was recorded then or later: an RFC 3339 timestamp, or a date,
    /// which begins at midnight UTC.
    #[arg(long, value_name = "TIME", value_parser = time::parse_since)]
    since: Option<Timestamp>,
    /// Prints so many events at most.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Begins with the last event.
    #[arg(long)]
    backward: bool,
}

/// Prints the events of the store in a directory that meet all conditions.
pub(crate) fn run(directory: &Path, conditions: &Conditions) -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_read_only(directory)?;
    let mut read = store.query(conditions.filters.query());
    let mut limit = conditions.limit;
    if let Some(time) = conditions.since {
        match store.at_time(time)? {
            Some(position) => read = read.from(position),
            // Everything is older.
            None => limit = Some(0),
        }
    }
    if let Some(events) = limit {
        read = read.limit(events);
    }
    let mut reader = if conditions.backward { read.backward() } else { read.forward() };
    events::print(Extent::Unknown, 0, || reader.next_batch())?;
    Ok(())
}
