//! A batch on its way: open while appends claim their places in it, closed when a leader takes it.
//!
//! Made and extended by the sequencer under its lock; taken by a leader, which alone writes it.

use std::sync::Arc;

use super::chunk::{ChunkRef, Claim};
use super::live::LiveSegment;
use super::stage::{Staged, Waiting};
use super::ticket::Ticket;
use crate::format::align_up;
use crate::format::constants::BATCH_HEADER_BYTES;
use crate::limits::{BATCH_BYTES_LARGE, BLOCK};

/// See the module.
#[derive(Debug)]
pub(crate) struct Batch {
    pub segment: Arc<LiveSegment>,
    pub chunk: ChunkRef,
    pub ticket: Arc<Ticket>,
    /// The bytes of the batch before in this chunk's first block, where the chunk begins inside one.
    pub prefix: Option<Claim>,
    pub header: Claim,
    pub sequence: u64,
    pub first_position: u64,
    pub events: u32,
    pub records: u32,
    /// The bytes of records that were claimed behind the header.
    pub claimed: u32,
    /// The `recorded_at` of its last event.
    pub recorded_last: i64,
    /// Whether every batch begins on a fresh block.
    pub strict: bool,
    pub waiting: Waiting,
}

impl Batch {
    /// Where in the segment it begins.
    pub(crate) fn offset(&self) -> u64 {
        self.header.start()
    }

    /// Where in the segment it ends.
    pub(crate) fn end(&self) -> u64 {
        self.offset() + self.bytes()
    }

    /// Whether the next batch begins on the next block: always in the strict mode, else behind a large
    /// one, so that both can be in flight at once.
    pub(crate) fn next_is_fresh(&self) -> bool {
        self.strict || self.bytes() >= BATCH_BYTES_LARGE
    }

    /// Where the batch behind it begins, if nothing more is claimed in it.
    pub(crate) fn next_offset(&self) -> u64 {
        if self.next_is_fresh() { align_up(self.end(), BLOCK) } else { self.end() }
    }

    /// Whether its producers have filled it.
    pub(crate) fn is_filled(&self) -> bool {
        self.ticket.is_filled(self.claimed)
    }

    /// The position of its last event.
    pub(crate) fn last_position(&self) -> u64 {
        self.first_position + u64::from(self.events) - 1
    }
}

impl Staged for Batch {
    fn ticket(&self) -> &Arc<Ticket> {
        &self.ticket
    }

    fn waiting(&self) -> Waiting {
        self.waiting
    }

    fn waiting_mut(&mut self) -> &mut Waiting {
        &mut self.waiting
    }

    fn bytes(&self) -> u64 {
        BATCH_HEADER_BYTES as u64 + u64::from(self.claimed)
    }

    fn begins_fresh(&self) -> bool {
        self.offset().is_multiple_of(BLOCK)
    }
}
