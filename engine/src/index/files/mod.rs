//! The files of the sealed index: a table for each segment, and runs of terms.
//!
//! Owns two kinds of file. The *table* of one segment says where each event lies in the segment's file,
//! when events were recorded and which types they have. A *run* has the postings of all terms, and the
//! ids of all events, of one segment or of several neighbouring ones; runs are merged as they grow in
//! number, tables never are. Both are written once and then only read, usually out of a memory mapping.
//!
//! | file | what it owns |
//! |---|---|
//! | `layout`, `records` | the header and sections of both kinds of file, and what they are made of |
//! | `pages` | the checksums that guard whatever is read |
//! | `table` | look-ups in a segment's table |
//! | `run`, `filter` | look-ups in a run, and the filter that spares most of those that find nothing |
//! | `postings`, `packing` | a term's ordinals, in blocks of packed gaps |
//! | `verify` | the check of a whole run |
//! | `write`, `run_writer` | how both kinds of file are written, without holding one in memory |
//! | `build`, `merge` | a table, a run out of a live index, a run out of several |
//!
//! It may call `limits`, and of the index `damage`, `term` and what is live; no I/O, no clock, no locks.
//! Whoever builds a file writes the bytes that it is given, whoever reads one brings its bytes.
//!
//! A run keeps hashes, not names, and all terms of a kind that share a hash are one entry: a list holds
//! *at least* the term's postings, and whoever reads compares the term in each frame.

mod build;
mod filter;
mod layout;
mod merge;
mod packing;
mod pages;
mod postings;
mod records;
mod run;
mod run_writer;
mod table;
#[cfg(test)]
mod tests;
mod verify;
mod write;

pub(crate) use build::{BuildError, seal_run, table_file};
pub(crate) use layout::{Stamp, TIMES_EVERY};
pub(crate) use merge::{MergeError, merge};
pub(crate) use postings::{SealedPostings, SealedRange};
pub(crate) use records::EventType;
pub(crate) use run::TermRun;
pub(crate) use table::SegmentTable;
pub(crate) use write::PIECE_BYTES;
