//! What to believe after a crash.
//!
//! `inspect` gathers facts and changes nothing; `cases` decides over the facts, purely; `apply` makes
//! the decision durable before anything is written behind it. `ahead` reads large files before their bytes
//! are asked for. Called when a store is opened. Calls `format`, `disk`, `log` and `commit`'s loader.

mod ahead;
mod apply;
mod behind;
mod cases;
mod inspect;
mod reader;
mod report;
mod structure;
mod tail;

pub(crate) use apply::{Recovered, catalog_to_read, recover};
pub use cases::Case;
pub(crate) use inspect::{Found, Judgement, inspect};
pub use report::{Refusal, TornTail};
