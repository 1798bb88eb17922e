//! The order of the log: what is claimed, in which batch of which segment, under one short lock.
//!
//! Owns what the sequence `step` works on, the open batch and those that wait, and the segment that takes appends.
//! Called by the writer: for each append, for the committer (takes batches) and for the maintainer (gives segments,
//! takes full ones). No I/O happens under its lock and no user's code runs there.

mod step;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Instant;

pub(crate) use step::{Claimed, Sequenced};

use super::active::Active;
use super::heads::HeadCache;
use super::newest::{NewestTags, TagTable};
use super::request::Request;
use crate::commit::{
    Batch, Chunk, ChunkPool, Found, GivingWay, Leads, LiveSegment, LiveStart, Stage, Successor,
    Ticket, Waiting, Watchers,
};
use crate::disk::DiskFile;
use crate::error::{FileError, Poisoned};
use crate::format::align_up;
use crate::format::checksum::{Chain, SegmentKey};
use crate::format::constants::BATCH_HEADER_BYTES;
use crate::index::{LiveRoom, LiveWriter};
use crate::limits::{
    BATCH_BYTES_BESIDE, BATCH_BYTES_FULL, BLOCK, CLOSED_BATCHES_MAX, INDEX_SHARE_HEADS,
    INDEX_SHARE_LIVE, INDEX_SHARE_NEWEST, SEGMENT_FOOT_BYTES, SEGMENT_HEAD_BYTES,
    UNSEALED_SEGMENTS_MAX,
};

/// A segment that is created, headed and zeroed, and named in the manifest.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub key: SegmentKey,
    pub file: Arc<dyn DiskFile>,
    pub file_bytes: u64,
    /// Up to where zeroes were written; behind it, space is only reserved.
    pub zeroed_end: u64,
}

/// The next segment.
#[derive(Debug)]
pub(crate) enum Spare {
    /// The maintainer is to make one, with room for an append of this many bytes.
    Wanted {
        bytes: u64,
        small: Option<Prepared>,
    },
    Ready(Prepared),
    /// It could not be made, or not made larger. The next append that needs it asks again.
    Failed {
        error: FileError,
        small: Option<Prepared>,
    },
}

/// What recovery hands to the sequencer.
#[derive(Debug)]
pub(crate) struct Resume {
    pub live: Arc<LiveSegment>,
    pub writer: LiveWriter,
    pub next_offset: u64,
    /// Up to where zeroes were written in the live segment, as far as is known.
    pub zeroed_end: u64,
    /// Older segments that are not sealed yet, in their order.
    pub unsealed: Vec<Arc<LiveSegment>>,
    pub spare: Option<Prepared>,
    pub next_position: u64,
    pub next_sequence: u64,
    pub recorded_last: i64,
    /// Whether every batch begins on a fresh block.
    pub strict: bool,
    /// The most memory that indexes may take.
    pub index_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Running,
    Closing,
    Poisoned(Poisoned),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sequencer {
    phase: Phase,
    next_position: u64,
    next_sequence: u64,
    recorded_last: i64,
    strict: bool,
    active: Active,
    /// Older segments that are read from memory still, in their order.
    unsealed: Vec<Arc<LiveSegment>>,
    /// Counts the segments that have left `unsealed`: a head looked up before that may miss events.
    generation: u64,
    pub spare: Spare,
    /// Whether an append waits for the next segment.
    pub spare_is_waited_for: bool,
    /// Why the oldest full segment is not sealed yet, where that was tried.
    pub sealing_failed: Option<FileError>,
    stage: Stage<Batch>,
    /// The batches that are not durable yet, with their first positions, in their order.
    in_flight: VecDeque<(u64, Arc<Ticket>)>,
    heads: HeadCache,
    newest_tags: NewestTags,
    /// The most memory that indexes may take.
    index_bytes: u64,
    pool: Arc<ChunkPool>,
    watchers: Arc<Watchers>,
    giving_way: Arc<GivingWay>,
    /// Who leads a batch that is offered to the threads that wait for it.
    leads: Weak<dyn Leads>,
}

impl Sequencer {
    pub(crate) fn new(resume: Resume, pool: Arc<ChunkPool>, leads: Weak<dyn Leads>) -> Self {
        Self {
            phase: Phase::Running,
            next_position: resume.next_position,
            next_sequence: resume.next_sequence,
            recorded_last: resume.recorded_last,
            strict: resume.strict,
            active: Active::new(resume.live, resume.writer, resume.next_offset, resume.zeroed_end),
            unsealed: resume.unsealed,
            generation: 0,
            spare: resume.spare.map_or(Spare::Wanted { bytes: 0, small: None }, Spare::Ready),
            spare_is_waited_for: false,
            sealing_failed: None,
            stage: Stage::default(),
            in_flight: VecDeque::new(),
            heads: HeadCache::new(resume.index_bytes / INDEX_SHARE_HEADS),
            newest_tags: NewestTags::new(resume.index_bytes / INDEX_SHARE_NEWEST),
            index_bytes: resume.index_bytes,
            pool,
            watchers: Arc::default(),
            giving_way: Arc::default(),
            leads,
        }
    }

    /// Where it is kept where each tag was used last.
    pub(super) fn tag_table(&self) -> &Arc<TagTable> {
        self.newest_tags.table()
    }

    /// Behind which position it is known where each tag was used last; conditions that reach further back have to be
    /// looked at first.
    pub(crate) fn tags_noted_since(&self) -> u64 {
        self.newest_tags.since()
    }

    /// Makes sure that the open batch has room for the request, and numbers its types. False where
    /// something has to happen first.
    fn place(&mut self, request: &mut Request) -> Result<bool, Sequenced> {
        loop {
            let Some(definitions) = self.active.number_types(request.encoded.types_mut()) else {
                // The segment has as many types as it may: the request goes into the next one.
                if !self.close_open() || !self.roll(request)? {
                    return Ok(false);
                }
                continue;
            };
            if self.active.writer.is_full() {
                // Nor does it take more where its index would take too much memory.
                if !self.close_open() || !self.roll(request)? {
                    return Ok(false);
                }
                continue;
            }
            let bytes = (request.encoded.frames.len() + definitions) as u64;
            if let Some(open) = &self.stage.open {
                let full =
                    open.claimed > 0 && u64::from(open.claimed) + bytes > BATCH_BYTES_FULL as u64;
                let fits = !full
                    && open.end() + bytes <= self.active.data_limit()
                    && open.end() + bytes <= open.chunk.end();
                if fits {
                    return Ok(true);
                }
                if !self.close_open() {
                    return Ok(false);
                }
            }
            let need = BATCH_HEADER_BYTES as u64 + bytes;
            if self.active.next_offset + need > self.active.data_limit() {
                if !self.roll(request)? {
                    return Ok(false);
                }
                continue;
            }
            self.open_batch(need).map_err(Sequenced::NoMemory)?;
        }
    }

    /// Closes the open batch; false where too many wait already.
    fn close_open(&mut self) -> bool {
        if self.stage.open.is_none() {
            return true;
        }
        if self.stage.closed() >= CLOSED_BATCHES_MAX {
            return false;
        }
        self.stage.close();
        true
    }

    /// Goes on in the next segment, which has room for the request; false where that is not ready yet.
    fn roll(&mut self, request: &mut Request) -> Result<bool, Sequenced> {
        assert!(self.stage.open.is_none(), "a batch is in one segment");
        if self.unsealed.len() >= UNSEALED_SEGMENTS_MAX {
            return match self.sealing_failed.take() {
                // Reported once, and only to who had it tried again, as below.
                Some(error) if std::mem::replace(&mut request.asked_for_segment, true) => {
                    Err(Sequenced::NoSegment(error))
                }
                _ => Ok(false),
            };
        }
        // In a new segment every type has to be defined.
        let needed = BATCH_HEADER_BYTES as u64 + request.encoded.bytes();
        let needed = align_up(needed + SEGMENT_HEAD_BYTES + SEGMENT_FOOT_BYTES, BLOCK);
        let wanted = |small| Spare::Wanted { bytes: needed, small };
        self.spare_is_waited_for = true;
        match std::mem::replace(&mut self.spare, wanted(None)) {
            Spare::Wanted { bytes, small } => {
                self.spare = Spare::Wanted { bytes: bytes.max(needed), small };
                request.asked_for_segment = true;
                Ok(false)
            }
            // Reported once; whoever comes next asks for another try.
            Spare::Failed { error, small } => {
                self.spare = wanted(small);
                // It may be long ago that this failed: whoever can wait has it tried again first.
                if std::mem::replace(&mut request.asked_for_segment, true) {
                    Err(Sequenced::NoSegment(error))
                } else {
                    Ok(false)
                }
            }
            Spare::Ready(prepared) if prepared.file_bytes < needed => {
                self.spare = wanted(Some(prepared));
                request.asked_for_segment = true;
                Ok(false)
            }
            Spare::Ready(prepared) => {
                self.spare = Spare::Wanted { bytes: 0, small: None };
                self.spare_is_waited_for = false;
                let start = LiveStart {
                    first_position: self.next_position,
                    first_sequence: self.next_sequence,
                    chain: Chain::default(),
                    recorded_last: self.recorded_last,
                };
                let room =
                    LiveRoom::bounded(prepared.file_bytes, self.index_bytes / INDEX_SHARE_LIVE)
                        // Most likely the next segment has about as many as this one.
                        .expecting(self.active.live.index.terms_count());
                let (live, writer) = LiveSegment::new(
                    prepared.key,
                    prepared.file,
                    prepared.file_bytes,
                    room,
                    &start,
                );
                let active = Active::new(live, writer, SEGMENT_HEAD_BYTES, prepared.zeroed_end);
                let full = std::mem::replace(&mut self.active, active);
                self.unsealed.push(full.live);
                self.newest_tags.rolled();
                Ok(true)
            }
        }
    }

    /// Opens a batch that has room for `need` bytes.
    fn open_batch(&mut self, need: u64) -> io::Result<()> {
        let active = &mut self.active;
        let offset = active.next_offset;
        let (chunk, prefix) = active.memory_for(need, &self.pool)?;
        let header = Chunk::claim(&chunk, BATCH_HEADER_BYTES as u64)
            .expect("the chunk was chosen to have room for it");
        assert_eq!(header.start(), offset, "claims of a chunk are dense");
        let mut ticket = Ticket::new(Weak::clone(&self.leads), Arc::clone(&self.watchers));
        if GivingWay::pays(self.stage.threads()) {
            ticket = ticket.gives_way(&self.giving_way);
        }
        let ticket = Arc::new(ticket);
        self.in_flight.push_back((self.next_position, Arc::clone(&ticket)));
        self.stage.open = Some(Batch {
            segment: Arc::clone(&active.live),
            chunk,
            ticket,
            prefix,
            header,
            sequence: self.next_sequence,
            first_position: self.next_position,
            events: 0,
            records: 0,
            claimed: 0,
            recorded_last: self.recorded_last,
            strict: self.strict,
            waiting: Waiting::default(),
        });
        self.next_sequence += 1;
        Ok(())
    }

    /// See [`Stage::next`].
    pub(crate) fn next_batch(&mut self, led: bool) -> Found<Batch> {
        let all = self.phase == Phase::Closing;
        self.stage.next(led, all, Instant::now())
    }

    /// See [`Stage::next_beside`].
    pub(crate) fn next_beside(&mut self, fresh_follows: bool) -> Option<Batch> {
        // Where space is only reserved, each write costs the file system much, whatever its length.
        let zeroed = self.active.next_offset <= self.active.zeroed_end;
        let bytes_min = if zeroed { BATCH_BYTES_BESIDE } else { BATCH_BYTES_FULL as u64 };
        self.stage.next_beside(fresh_follows, bytes_min)
    }

    /// See [`Stage::take_offered`].
    pub(crate) fn take_offered(&mut self) -> Option<Batch> {
        self.stage.take_offered()
    }

    /// See [`Stage::is_witnessing`].
    pub(crate) fn is_witnessing(&self) -> bool {
        self.stage.is_witnessing()
    }

    /// See [`Stage::take_idle`].
    pub(crate) fn take_idle(&mut self) -> bool {
        self.phase == Phase::Running && self.stage.take_idle()
    }

    /// See [`Stage::led`].
    pub(crate) fn led(&mut self) -> Successor {
        self.stage.led()
    }

    /// Whether a thread of an append leads.
    pub(crate) fn is_led_by_caller(&self) -> bool {
        self.stage.is_led_by_caller()
    }

    /// See [`Stage::urge`].
    pub(crate) fn urge(&mut self) -> bool {
        self.stage.urge()
    }

    /// A batch has become durable, as every one before it has. Whoever led one of those may not have come
    /// to say so yet.
    pub(crate) fn batch_is_durable(&mut self, ticket: &Ticket) {
        let is_it = |(_, known): &(u64, Arc<Ticket>)| std::ptr::eq(&raw const **known, ticket);
        if let Some(at) = self.in_flight.iter().position(is_it) {
            self.in_flight.drain(..=at);
        }
    }

    /// The ticket of the last batch that has claims, if it is not durable yet.
    pub(crate) fn last_ticket(&self) -> Option<Arc<Ticket>> {
        self.in_flight.back().map(|(_, ticket)| Arc::clone(ticket))
    }

    /// The oldest segment that takes no more appends and is not let go yet.
    pub(crate) fn oldest_unsealed(&self) -> Option<Arc<LiveSegment>> {
        self.unsealed.first().cloned()
    }

    /// Remembers heads of streams of the oldest unsealed segment, which is to be let go.
    pub(crate) fn remember(&mut self, heads: &[(Box<str>, u64)]) {
        for (stream, last) in heads {
            self.heads.put(stream, Some(*last));
        }
    }

    /// The oldest unsealed segment was sealed, and readers find it there now; the heads of all its streams
    /// were remembered.
    pub(crate) fn let_go(&mut self, segment: &LiveSegment) {
        assert_eq!(self.unsealed[0].number(), segment.number());
        self.unsealed.remove(0);
        self.sealing_failed = None;
        self.generation += 1;
    }

    /// Lets go of the locks on its segments, after the last write.
    pub(crate) fn unlock_segments(&self) {
        for live in self.unsealed.iter().chain([&self.active.live]) {
            live.file.unlock();
        }
        if let Spare::Ready(prepared) = &self.spare {
            prepared.file.unlock();
        }
    }

    pub(crate) fn active(&self) -> &Arc<LiveSegment> {
        &self.active.live
    }

    pub(crate) fn close(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Closing;
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.phase != Phase::Running
    }

    pub(crate) fn poisoned(&self) -> Option<Poisoned> {
        match &self.phase {
            Phase::Poisoned(reason) => Some(reason.clone()),
            Phase::Running | Phase::Closing => None,
        }
    }

    /// Takes no appends any more. The tickets of all batches that are not durable are returned, to be
    /// told; the first reason is kept.
    pub(crate) fn poison(&mut self, reason: Poisoned) -> Vec<Arc<Ticket>> {
        if self.poisoned().is_none() {
            self.phase = Phase::Poisoned(reason);
        }
        self.stage.clear();
        self.in_flight.drain(..).map(|(_, ticket)| ticket).collect()
    }
}
