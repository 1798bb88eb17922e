//! The committer: writes batches in their order, and alone says that they are durable.
//!
//! One thread, which leads every batch. It asks a [`BatchSource`] for the next one, waits until the
//! producers have filled it, seals it with its checksum and chain, writes it with one durable write, and
//! only then moves the watermark and wakes whoever waits. There is no timer: while the device is busy,
//! the next batch gathers. After the first failure of a write nothing is written any more.

use std::sync::Arc;
use std::time::Duration;

use super::batch::Batch;
use super::live::LiveSegment;
use super::ticket::{Outcome, Ticket};
use super::watermark::Watermark;
use crate::disk::{AlignedBuf, write_all_durable_at};
use crate::error::Poisoned;
use crate::format::align_down;
use crate::format::batch::BatchHeader;
use crate::format::checksum::Chain;
use crate::format::constants::{BATCH_HEADER_BYTES, WITNESS_OFFSETS};
use crate::format::witness::Witness;
use crate::limits::{BLOCK, BLOCK_BYTES, WITNESS_IDLE};

/// What the committer is to do next.
#[derive(Debug)]
pub(crate) enum Next {
    Write(Box<Batch>),
    /// Nothing came in the time that was given.
    Idle,
    /// Everything is written, and no more will come.
    End,
}

/// Where batches come from, and who is told of them.
pub(crate) trait BatchSource: Send + Sync {
    /// Waits for a batch; no longer than `idle`, if that is given.
    fn next(&self, idle: Option<Duration>) -> Next;
    /// The batch before the next one is durable and published.
    fn durable(&self, ticket: &Ticket);
    /// Whether this segment takes appends; the others may be sealed at any time.
    fn takes_appends(&self, live: &LiveSegment) -> bool;
    /// A write failed: nothing more will be written. Everybody who waits for a batch is told.
    fn poison(&self, reason: Poisoned);
}

/// Where the log stands when the committer begins.
#[derive(Debug)]
pub(crate) struct CommitStart {
    pub epoch: u64,
    pub live: Arc<LiveSegment>,
    pub chain: Chain,
    pub durable_sequence: u64,
    /// The last block of what is written, from its first byte; zeroes behind.
    pub tail_block: AlignedBuf,
    /// The greatest witness counter in the live segment.
    pub witness_counter: u64,
}

/// Where the durable log ends when the committer has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitEnd {
    pub chain: Chain,
    pub durable_sequence: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Committer<S> {
    source: Arc<S>,
    watermark: Arc<Watermark>,
    epoch: u64,
    live: Arc<LiveSegment>,
    chain: Chain,
    durable_sequence: u64,
    /// The last, partial block that was written; the next batch begins in it, or behind it.
    tail_block: AlignedBuf,
    witness_counter: u64,
    /// What the last witness says.
    witnessed_sequence: u64,
}

impl<S: BatchSource> Committer<S> {
    pub(crate) fn new(source: Arc<S>, watermark: Arc<Watermark>, start: CommitStart) -> Self {
        Self {
            source,
            watermark,
            epoch: start.epoch,
            live: start.live,
            chain: start.chain,
            durable_sequence: start.durable_sequence,
            tail_block: start.tail_block,
            witness_counter: start.witness_counter,
            witnessed_sequence: start.durable_sequence,
        }
    }

    /// Writes batches until there are no more.
    pub(crate) fn run(mut self) -> CommitEnd {
        let _guard = PanicGuard { source: Arc::clone(&self.source), live: Arc::clone(&self.live) };
        loop {
            let unwitnessed = self.witnessed_sequence != self.durable_sequence;
            let done = match self.source.next(unwitnessed.then_some(WITNESS_IDLE)) {
                Next::Write(batch) => self.commit(*batch),
                Next::Idle => self.witness(),
                Next::End => {
                    if unwitnessed && let Err(reason) = self.witness() {
                        self.source.poison(reason);
                    }
                    break;
                }
            };
            if let Err(reason) = done {
                tracing::error!(%reason, "the log is poisoned");
                self.source.poison(reason);
                break;
            }
        }
        CommitEnd { chain: self.chain, durable_sequence: self.durable_sequence }
    }

    fn commit(&mut self, mut batch: Batch) -> Result<(), Poisoned> {
        let offset = batch.offset();
        let failed = |what: String| Poisoned { segment: batch.segment.number(), offset, what };
        if !batch.ticket.wait_filled(batch.claimed) {
            return Err(failed("a producer failed between its claim and its fill".into()));
        }
        if let Some(mut prefix) = batch.prefix.take() {
            let bytes = prefix.bytes_mut();
            bytes.copy_from_slice(&self.tail_block[..bytes.len()]);
        }
        let chain = self.seal(&mut batch);
        let Batch { segment, chunk, ticket, header, .. } = batch;
        let (end, bytes) = (header.start() + BATCH_HEADER_BYTES as u64 + batch.claimed, header);
        drop(bytes);

        let first_block = align_down(offset, BLOCK);
        let last_block = align_down(end, BLOCK);
        // SAFETY: the header's claim and the prefix's are dropped above, the producers have dropped
        // theirs before they counted them as filled, and what stands before in the first block was
        // settled with the batches before this one.
        let (whole, rest) =
            unsafe { (chunk.settled(first_block..last_block), chunk.settled(last_block..end)) };
        self.tail_block.fill(0);
        self.tail_block[..rest.len()].copy_from_slice(rest);
        let tail = if rest.is_empty() { &[][..] } else { &self.tail_block[..BLOCK_BYTES] };
        if let Err(error) = write_all_durable_at(&*segment.file, &[whole, tail], first_block) {
            return Err(Poisoned {
                segment: segment.number(),
                offset,
                what: format!("a write failed ({error})"),
            });
        }

        self.chain = chain;
        self.durable_sequence = batch.sequence;
        if !Arc::ptr_eq(&self.live, &segment) {
            self.live = Arc::clone(&segment);
            self.witness_counter = 0;
        }
        let mut content = segment.content();
        content.data_end = end;
        content.events += u64::from(batch.events);
        content.batches += 1;
        content.chain = chain;
        content.recorded_last = batch.recorded_last;
        segment.set_content(content);
        // SAFETY: as above; batches are published in their order, so everything below is settled.
        unsafe { chunk.publish(end) };
        self.watermark.advance(batch.first_position + u64::from(batch.events) - 1);
        self.source.durable(&ticket);
        ticket.finish(Outcome::Durable);
        Ok(())
    }

    /// Completes the batch's header, in place.
    #[expect(clippy::cast_possible_truncation, reason = "a batch is in one segment, below 4 GiB")]
    fn seal(&self, batch: &mut Batch) -> Chain {
        let content_at = batch.offset() + BATCH_HEADER_BYTES as u64;
        let mut header = BatchHeader {
            epoch: self.epoch,
            sequence: batch.sequence,
            offset: batch.offset(),
            first_position: batch.first_position,
            durable_sequence: self.durable_sequence,
            durable_position: self.watermark.get(),
            bytes: batch.bytes() as u32,
            events: batch.events,
            records: batch.records,
            window: 1,
            next_is_fresh: batch.next_is_fresh(),
            content_crc: 0,
            chain: Chain::default(),
        };
        // SAFETY: the producers have dropped their claims of the content before they counted them as
        // filled, which was waited for.
        let content = unsafe { batch.chunk.settled(content_at..batch.end()) };
        header.seal(&batch.segment.key, self.chain, content, batch.header.bytes_mut());
        header.chain
    }

    /// Records the durable end apart from the batches.
    fn witness(&mut self) -> Result<(), Poisoned> {
        self.witnessed_sequence = self.durable_sequence;
        if !self.source.takes_appends(&self.live) {
            // Its footer will say more, and a sealed file is not written to.
            return Ok(());
        }
        self.witness_counter += 1;
        let live = &self.live;
        let content = live.content();
        let witness = Witness {
            counter: self.witness_counter,
            epoch: self.epoch,
            durable_sequence: self.durable_sequence,
            durable_position: self.watermark.get(),
            data_end: content.data_end,
            chain: content.chain,
        };
        let offset = WITNESS_OFFSETS[usize::from(!self.witness_counter.is_multiple_of(2))];
        let failed = |error| Poisoned {
            segment: live.number(),
            offset,
            what: format!("the write of a witness failed ({error})"),
        };
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES).map_err(failed)?;
        witness.write(&live.key, offset, &mut block);
        write_all_durable_at(&*live.file, &[&block], offset).map_err(failed)
    }
}

/// Poisons the log if the committer panics, so that nobody waits for ever.
struct PanicGuard<S: BatchSource> {
    source: Arc<S>,
    live: Arc<LiveSegment>,
}

impl<S: BatchSource> Drop for PanicGuard<S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.source.poison(Poisoned {
                segment: self.live.number(),
                offset: self.live.content().data_end,
                what: "the committer panicked".into(),
            });
        }
    }
}
