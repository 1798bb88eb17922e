//! Looking after a store: figures, and verification of everything that is stored.
//!
//! Reads through the catalog (`log`) and the disk; changes nothing. Called by `store`.

mod index;
mod stats;
mod verify;

pub use stats::Stats;
pub use verify::{Finding, Verification};
