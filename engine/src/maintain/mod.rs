//! Looking after a store: figures, and verification of everything that is stored.
//!
//! Reads through the catalog (`log`) and the disk; changes nothing. Called by `store`.

mod index;
mod stats;
mod stored_types;
mod verify;

pub use stats::{Stats, TypeStats};
pub(crate) use stored_types::check_stored_types;
pub use verify::{Finding, Verification};
