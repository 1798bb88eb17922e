//! What passes from leader to leader: how the log goes on, and the steps by which a batch becomes
//! durable.
//!
//! Exactly one thread leads at a time, as the sequencer's stage says, and holds the lock around the
//! [`Leader`] meanwhile. A batch is sealed (waited for until its producers have filled it, then given its
//! header with checksum and chain), written durably, and published: only that moves the watermark. Calls
//! `format` and `disk`; called by leading appends and by the commit thread.

use std::sync::Arc;
use std::time::Instant;

use super::batch::Batch;
use super::chunk::ChunkRef;
use super::figures::Figures;
use super::live::LiveSegment;
use super::stage::Staged as _;
use super::ticket::Ticket;
use super::watermark::Watermark;
use crate::disk::{AlignedBuf, WriteParts, write_all_durable_at};
use crate::error::Poisoned;
use crate::format::align_down;
use crate::format::batch::BatchHeader;
use crate::format::checksum::Chain;
use crate::format::constants::{BATCH_HEADER_BYTES, WITNESS_OFFSETS};
use crate::format::witness::Witness;
use crate::limits::{BLOCK, BLOCK_BYTES};
use crate::sync::Mutex;

/// Where the log stands when a store is opened.
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

/// Where the durable log ends when a store is closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CommitEnd {
    pub chain: Chain,
    pub durable_sequence: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Leader {
    watermark: Arc<Watermark>,
    figures: Arc<Figures>,
    epoch: u64,
    live: Arc<LiveSegment>,
    /// The chain up to the last batch that was sealed.
    chain: Chain,
    durable_sequence: u64,
    /// The last, partial block that was sealed; the next batch begins in it, or behind it.
    tail_block: AlignedBuf,
    witness_counter: u64,
    /// What the last witness says.
    witnessed_sequence: u64,
    /// Nothing is written any more: the segments may be somebody else's by now.
    ended: bool,
}

/// A batch with its header, ready to be written.
#[derive(Debug)]
pub(crate) struct Sealed {
    segment: Arc<LiveSegment>,
    chunk: ChunkRef,
    ticket: Arc<Ticket>,
    header: BatchHeader,
    recorded_last: i64,
    last_position: u64,
    /// When it was complete in memory.
    begun: Instant,
}

impl Leader {
    pub(crate) fn shared(
        watermark: Arc<Watermark>,
        figures: Arc<Figures>,
        start: CommitStart,
    ) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            watermark,
            figures,
            epoch: start.epoch,
            live: start.live,
            chain: start.chain,
            durable_sequence: start.durable_sequence,
            tail_block: start.tail_block,
            witness_counter: start.witness_counter,
            witnessed_sequence: start.durable_sequence,
            ended: false,
        }))
    }

    /// Seals a batch, writes it, and publishes it; the ticket is for the caller to finish.
    ///
    /// # Errors
    /// Why nothing may be written any more.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<Arc<Ticket>, Poisoned> {
        if self.ended {
            // Of a thread that was to lead, and was not scheduled before the log was poisoned and closed.
            return Err(Poisoned {
                segment: batch.segment.number(),
                offset: batch.offset(),
                what: "the store was closed before the write began".into(),
            });
        }
        let sealed = self.seal(batch)?;
        let (whole, rest) = sealed.blocks();
        let tail = if rest.is_empty() { &[][..] } else { &self.tail_block[..BLOCK_BYTES] };
        let first_block = align_down(sealed.offset(), BLOCK);
        write_all_durable_at(&*sealed.segment.file, &[whole, tail], first_block)
            .map_err(|error| sealed.failed(&error))?;
        Ok(self.publish(sealed))
    }

    /// Waits until a batch is filled, and completes it. Batches are sealed in their order.
    ///
    /// # Errors
    /// The batch was given up.
    pub(crate) fn seal(&mut self, mut batch: Batch) -> Result<Sealed, Poisoned> {
        if !batch.ticket.wait_filled(batch.claimed) {
            return Err(batch.ticket.reason().cloned().unwrap_or_else(|| Poisoned {
                segment: batch.segment.number(),
                offset: batch.offset(),
                what: "a batch was given up".into(),
            }));
        }
        if let Some(mut prefix) = batch.prefix.take() {
            let bytes = prefix.bytes_mut();
            bytes.copy_from_slice(&self.tail_block[..bytes.len()]);
        }
        batch.ticket.write_begins();
        let header = self.header(&mut batch);
        self.chain = header.chain;
        let last_position = batch.last_position();
        let Batch { segment, chunk, ticket, recorded_last, header: claim, .. } = batch;
        drop(claim);
        let begun = Instant::now();
        let sealed = Sealed { segment, chunk, ticket, header, recorded_last, last_position, begun };
        let (_, rest) = sealed.blocks();
        self.tail_block[..rest.len()].copy_from_slice(rest);
        self.tail_block[rest.len()..].fill(0);
        Ok(sealed)
    }

    /// Completes the batch's header, in place.
    #[expect(clippy::cast_possible_truncation, reason = "a batch is in one segment, below 4 GiB")]
    fn header(&self, batch: &mut Batch) -> BatchHeader {
        let content_at = batch.offset() + BATCH_HEADER_BYTES as u64;
        let in_flight = batch.sequence - self.durable_sequence;
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
            window: in_flight as u16,
            next_is_fresh: batch.next_is_fresh(),
            content_crc: 0,
            chain: Chain::default(),
        };
        // SAFETY: the producers have dropped their claims of the content before they counted them as
        // filled, which was waited for.
        let content = unsafe { batch.chunk.settled(content_at..batch.end()) };
        header.seal(&batch.segment.key, self.chain, content, batch.header.bytes_mut());
        header
    }

    /// Lets everybody see a batch that is durable, as every one before it is. The ticket is for the caller
    /// to finish.
    pub(crate) fn publish(&mut self, sealed: Sealed) -> Arc<Ticket> {
        let Sealed { segment, chunk, ticket, header, recorded_last, last_position, begun } = sealed;
        assert_eq!(header.sequence, self.durable_sequence + 1, "batches are published in order");
        self.durable_sequence = header.sequence;
        if !Arc::ptr_eq(&self.live, &segment) {
            self.live = Arc::clone(&segment);
            self.witness_counter = 0;
        }
        let mut content = segment.content();
        content.data_end = header.end();
        content.events += u64::from(header.events);
        content.batches += 1;
        content.chain = header.chain;
        content.recorded_last = recorded_last;
        segment.set_content(content);
        // SAFETY: all claims of the batch were dropped before it was sealed; batches are published in
        // their order, so everything below is settled.
        unsafe { chunk.publish(header.end()) };
        self.watermark.advance(last_position);
        self.figures.batches.add(1);
        self.figures.events.add(u64::from(header.events));
        let blocks = header.end().next_multiple_of(BLOCK) - align_down(header.offset, BLOCK);
        self.figures.batch_bytes.add(blocks);
        let nanos = begun.elapsed().as_nanos();
        self.figures.batch_nanos.add(u64::try_from(nanos).unwrap_or(u64::MAX));
        ticket
    }

    /// Whether batches became durable that no witness tells of.
    pub(crate) fn is_unwitnessed(&self) -> bool {
        self.witnessed_sequence != self.durable_sequence
    }

    /// The segment of the last batch that was published.
    pub(crate) fn live(&self) -> &Arc<LiveSegment> {
        &self.live
    }

    /// What it publishes with.
    pub(crate) fn watermark(&self) -> &Arc<Watermark> {
        &self.watermark
    }

    /// Where the durable log ends.
    pub(crate) fn end(&self) -> CommitEnd {
        CommitEnd { chain: self.chain, durable_sequence: self.durable_sequence }
    }

    /// As [`Leader::end`]; nobody leads from now on.
    pub(crate) fn end_leading(&mut self) -> CommitEnd {
        self.ended = true;
        self.end()
    }

    /// Nothing is to be witnessed: the segment takes no more appends, and its footer will say more; or the
    /// log is poisoned, and nothing is written any more.
    pub(crate) fn skip_witness(&mut self) {
        self.witnessed_sequence = self.durable_sequence;
    }

    /// Records the durable end apart from the batches. Nothing is in flight.
    ///
    /// # Errors
    /// Why nothing may be written any more.
    pub(crate) fn witness(&mut self) -> Result<(), Poisoned> {
        self.witnessed_sequence = self.durable_sequence;
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

impl Sealed {
    fn offset(&self) -> u64 {
        self.header.offset
    }

    /// Its number in the log.
    pub(crate) fn sequence(&self) -> u64 {
        self.header.sequence
    }

    /// Whether the batch behind it shares no block with it.
    pub(crate) fn next_is_fresh(&self) -> bool {
        self.header.next_is_fresh
    }

    /// The segment that it is in.
    pub(crate) fn segment(&self) -> &LiveSegment {
        &self.segment
    }

    /// Where its first block stands in the segment.
    pub(crate) fn first_block(&self) -> u64 {
        align_down(self.offset(), BLOCK)
    }

    /// The whole blocks that it fills, from the beginning of its first one, and the rest of its last.
    fn blocks(&self) -> (&[u8], &[u8]) {
        let last_block = align_down(self.header.end(), BLOCK);
        // SAFETY: the header's claim and the prefix's were dropped when it was sealed, the producers
        // have dropped theirs before they counted them as filled, and what stands before in the first
        // block was settled with the batches before this one.
        unsafe {
            (
                self.chunk.settled(self.first_block()..last_block),
                self.chunk.settled(last_block..self.header.end()),
            )
        }
    }

    /// What is to be written for it, apart from it: `tail` gets the rest of its last block.
    pub(crate) fn parts(&self, mut tail: AlignedBuf) -> BatchParts {
        let (whole, rest) = self.blocks();
        tail[..rest.len()].copy_from_slice(rest);
        tail[rest.len()..].fill(0);
        let whole = self.first_block()..self.first_block() + whole.len() as u64;
        let tail_bytes = if rest.is_empty() { 0 } else { BLOCK_BYTES };
        BatchParts { chunk: ChunkRef::clone(&self.chunk), whole, tail, tail_bytes }
    }

    /// The log is poisoned, because its write failed.
    pub(crate) fn failed(&self, error: &std::io::Error) -> Poisoned {
        Poisoned {
            segment: self.segment.number(),
            offset: self.offset(),
            what: format!("a write failed ({error})"),
        }
    }
}

/// The bytes of a batch on their way to the disk.
#[derive(Debug)]
pub(crate) struct BatchParts {
    chunk: ChunkRef,
    /// Whole blocks of the chunk.
    whole: std::ops::Range<u64>,
    /// A copy of the rest of the last block, so that claims can go on behind it.
    tail: AlignedBuf,
    tail_bytes: usize,
}

// SAFETY: the bytes in `whole` were settled when this was made from a sealed batch, and settled bytes are
// not written any more while the chunk lives, which is held here; `tail` is owned memory on the heap,
// and written only by `Sealed::parts`, before this exists. Both keep their address when this is moved.
unsafe impl WriteParts for BatchParts {
    fn parts(&self) -> [&[u8]; 2] {
        // SAFETY: as above.
        let whole = unsafe { self.chunk.settled(self.whole.clone()) };
        [whole, &self.tail[..self.tail_bytes]]
    }
}
