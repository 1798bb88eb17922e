//! Folded states: what the events of a stream come to.
//!
//! Owns [`Fold`] and how a state is loaded. Calls `read` for the events and `typed` for what they are; `store` hands it to
//! users. It never writes to the log, and nothing of the log depends on it.

mod fold;
mod load;

pub use fold::{Fold, Unknown};
pub(crate) use load::load;
pub use load::{LoadError, Loaded};
