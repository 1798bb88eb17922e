//! `stratalog query`.
//!
//! Owns what is asked for, and how it becomes a query of the store. Calls the store's queries, and
//! `events` to print; `main` calls it.

use std::error::Error;
use std::path::Path;

use clap::Args;
use stratalog::{Query, Store, Timestamp};

use crate::events::{self, Extent};
use crate::time;

/// Which events are printed, and in which order.
#[derive(Debug, Args)]
pub(crate) struct Conditions {
    /// Prints events of this type only; given several times, of any of these types.
    #[arg(long = "type", value_name = "T")]
    types: Vec<String>,
    /// Prints events with this tag only; given several times, with all of these tags.
    #[arg(long = "tag", value_name = "T")]
    tags: Vec<String>,
    /// Prints events of this stream only.
    #[arg(long, value_name = "S")]
    stream: Option<String>,
    /// Prints events of streams of this category only: what stands before the first `-` of their names.
    #[arg(long, value_name = "C")]
    category: Option<String>,
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

impl Conditions {
    /// The query of everything but time, number and order.
    fn query(&self) -> Query {
        let mut query = Query::any().types(&self.types).tags(&self.tags);
        if let Some(stream) = &self.stream {
            query = query.stream(stream);
        }
        if let Some(category) = &self.category {
            query = query.category(category);
        }
        query
    }
}

/// Prints the events of the store in a directory that meet all conditions.
pub(crate) fn run(directory: &Path, conditions: &Conditions) -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_read_only(directory)?;
    let mut read = store.query(conditions.query());
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
    events::print(Extent::Unknown, 0, || reader.next_batch())
}
