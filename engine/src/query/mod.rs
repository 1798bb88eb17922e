//! Queries: which events are asked for, and where in a part of the log they may be.
//!
//! Owns the question, what can be wrong with it, and the plan that answers it from lists of postings. A
//! plan gives *candidates*, in order: a list may hold more than its term's postings, since terms share
//! hashes, and a plan leaves a list aside where reading it costs more than it saves. So whoever reads a
//! candidate's frame asks [`Prepared::matches`] before it shows the event.
//!
//! | file | what it owns |
//! |---|---|
//! | `items` | the question: items, their conditions, and which events match |
//! | `invalid` | what can be wrong with it |
//! | `prepared` | a question with the hashes of its terms, made once for a read |
//! | `lists` | the seam: lists of postings, wherever they come from |
//! | `cursor` | going through lists in either direction, and through several as one |
//! | `plan` | which lists are gone through, and the candidates |
//!
//! It may call `event`'s rules for names, the terms of `index` and `limits`: no I/O, no clock, no locks.
//! `read` brings the lists and checks the frames.

mod cursor;
mod invalid;
mod items;
mod lists;
mod plan;
mod prepared;
#[cfg(test)]
mod tests;

pub(crate) use cursor::Order;
pub use invalid::InvalidQuery;
pub use items::Query;
pub(crate) use lists::{PostingList, TermLists};
pub(crate) use plan::Candidates;
pub(crate) use prepared::Prepared;
