//! From claimed bytes to durable ones: the tail's memory, batches, who leads them, the watermark.
//!
//! Owns the memory image of the unsealed log and the only publication point. Calls `format`, `disk`, `sync`
//! and the live `index`; the sequencer (`append`) keeps its batches in a [`Stage`] and feeds the commit
//! thread through [`BatchSource`], recovery builds live segments from what it has read, readers borrow
//! published bytes.

mod append_vec;
mod batch;
mod chunk;
mod committer;
mod entering;
mod figures;
mod giving_way;
mod leader;
mod live;
mod loader;
#[cfg(test)]
#[cfg(stratalog_loom)]
mod models;
mod pool;
mod read_chunk;
mod sleepers;
mod stage;
mod ticket;
mod watchers;
mod watermark;

pub(crate) use batch::Batch;
pub(crate) use chunk::{Chunk, ChunkRef, Claim};
pub(crate) use committer::{BatchSource, Committer, Next};
pub(crate) use entering::{Gap, enter};
pub(crate) use figures::Figures;
pub use figures::WriteStats;
pub(crate) use giving_way::GivingWay;
pub(crate) use leader::{CommitEnd, CommitStart, Leader};
pub(crate) use live::{Extents, LiveSegment, LiveStart, TypeTable};
pub(crate) use loader::Loader;
pub(crate) use pool::ChunkPool;
pub(crate) use read_chunk::ReadChunk;
pub(crate) use stage::{Duty, Found, Manner, Stage, Successor, Waiting};
pub(crate) use ticket::{Leads, Outcome, Ticket, WakerSlot};
pub(crate) use watchers::Watchers;
pub(crate) use watermark::{Waiter, Watermark};
