//! Helpers of the whole-store tests: scripts of appends that can be recognised again, the oracle that
//! judges what an opened store holds, questions with their obvious answers, the meaning of appends, what a subscription
//! receives, read models and what they must come to, seeds, a watchdog, and waiting for a future.
//!
//! The tests themselves are in `tests/`, one file for each kind of question.

pub mod accounts;
pub mod block_on;
pub mod index_files;
pub mod oracle;
pub mod projections;
pub mod questions;
pub mod script;
pub mod seed;
pub mod snapshots;
pub mod specification;
pub mod subscriptions;
pub mod watchdog;
