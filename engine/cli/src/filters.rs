//! The conditions on events that `query` and `tail` share.
//!
//! Owns how they are given, and how they become a query of the store. `query` and `tail` call it.

use clap::Args;
use stratalog::Query;

/// Which events are printed.
#[derive(Debug, Args)]
pub(crate) struct Filters {
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
}

impl Filters {
    /// The query of all of them.
    pub(crate) fn query(&self) -> Query {
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
