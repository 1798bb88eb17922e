//! From claimed bytes to durable ones: the tail's memory, batches, the committer, the watermark.
//!
//! Owns the memory image of the unsealed log and the only publication point. Calls `format`, `disk` and
//! the live `index`; the sequencer (`append`) feeds it through [`BatchSource`], recovery builds live
//! segments from what it has read, readers borrow published bytes.

mod append_vec;
mod batch;
mod chunk;
mod committer;
mod live;
mod loader;
mod ticket;
mod watermark;

pub(crate) use batch::Batch;
pub(crate) use chunk::{Chunk, Claim};
pub(crate) use committer::{BatchSource, CommitEnd, CommitStart, Committer, Next};
pub(crate) use live::{LiveSegment, LiveStart, TypeTable};
pub(crate) use loader::{LoadError, Loader};
pub(crate) use ticket::{Outcome, Ticket};
pub(crate) use watermark::Watermark;
