//! The sequence step: under one short lock, an append is checked and gets its versions, positions and
//! bytes of the tail, all at once.
//!
//! Owns the order of the log. Called by `append::begin` for each append, by the committer (takes
//! batches) and by the maintainer (gives segments, takes full ones). No I/O happens under its lock and
//! no user's code runs there; what a check needs from sealed segments was looked up before.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::heads::HeadCache;
use super::request::Request;
use crate::commit::{Batch, Chunk, Claim, LiveSegment, LiveStart, Ticket};
use crate::disk::DiskFile;
use crate::error::{FileError, Poisoned};
use crate::event::Timestamp;
use crate::format::align_up;
use crate::format::checksum::{Chain, SegmentKey};
use crate::format::constants::BATCH_HEADER_BYTES;
use crate::format::definition::EventType;
use crate::index::{LiveWriter, Term};
use crate::limits::{
    BATCH_BYTES_FULL, BLOCK, CHUNK_BYTES, CLOSED_BATCHES_MAX, RECORD_ALIGN, SEGMENT_FOOT_BYTES,
    SEGMENT_HEAD_BYTES, SEGMENT_TYPES_MAX, UNSEALED_SEGMENTS_MAX,
};

/// A segment that is created, headed and zeroed, and named in the manifest.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub key: SegmentKey,
    pub file: Arc<dyn DiskFile>,
    pub file_bytes: u64,
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

/// The segment that takes appends.
#[derive(Debug)]
struct Active {
    live: Arc<LiveSegment>,
    writer: LiveWriter,
    /// The event types that have a number in it.
    types: HashMap<EventType, u32>,
    chunk: Option<Arc<Chunk>>,
    /// Where the next batch begins.
    next_offset: u64,
}

/// What recovery hands to the sequencer.
#[derive(Debug)]
pub(crate) struct Resume {
    pub live: Arc<LiveSegment>,
    pub writer: LiveWriter,
    pub next_offset: u64,
    /// Older segments that are not sealed yet, in their order.
    pub unsealed: Vec<Arc<LiveSegment>>,
    pub spare: Option<Prepared>,
    pub next_position: u64,
    pub next_sequence: u64,
    pub recorded_last: i64,
    /// Whether every batch begins on a fresh block.
    pub strict: bool,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Sequenced {
    /// It has its place; fill the claim.
    Claimed(Claimed),
    /// It is judged, once the ticket's batch is durable: the stream's last version is this.
    Judged {
        holds: bool,
        last: Option<u64>,
        ticket: Option<Arc<Ticket>>,
    },
    /// The stream's head has to be looked up in the sealed segments, as of this generation.
    Lookup {
        generation: u64,
    },
    /// Something has to happen first: a batch written, or a segment made.
    Wait,
    /// The next segment could not be made.
    NoSegment(FileError),
    Poisoned(Poisoned),
    Closed,
    NoMemory(io::Error),
}

/// A place in the log.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub ticket: Arc<Ticket>,
    pub claim: Claim,
    pub live: Arc<LiveSegment>,
    pub first_position: u64,
    pub first_version: u64,
    pub recorded_at: i64,
    /// For each of the request's types, its number in the segment, and whether it is to be defined.
    pub types: Vec<(u32, bool)>,
}

/// A cold stream's head, as looked up before the lock was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColdHead {
    pub generation: u64,
    pub last: Option<u64>,
}

/// A stream's head.
#[derive(Debug, Clone, Copy)]
struct StreamHead {
    /// The version of its last event; none where it has no events.
    last: Option<u64>,
    /// The position of that event, where it may not be durable yet.
    position: Option<u64>,
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
    /// Why the oldest full segment is not sealed yet, where that was tried.
    pub sealing_failed: Option<FileError>,
    open: Option<Batch>,
    closed: VecDeque<Batch>,
    /// The batches that are not durable yet, with their first positions, in their order.
    in_flight: VecDeque<(u64, Arc<Ticket>)>,
    heads: HeadCache,
}

impl Sequencer {
    pub(crate) fn new(resume: Resume) -> Self {
        let types = resume.live.types.iter().cloned().zip(0..).collect();
        Self {
            phase: Phase::Running,
            next_position: resume.next_position,
            next_sequence: resume.next_sequence,
            recorded_last: resume.recorded_last,
            strict: resume.strict,
            active: Active {
                live: resume.live,
                writer: resume.writer,
                types,
                chunk: None,
                next_offset: resume.next_offset,
            },
            unsealed: resume.unsealed,
            generation: 0,
            spare: resume.spare.map_or(Spare::Wanted { bytes: 0, small: None }, Spare::Ready),
            sealing_failed: None,
            open: None,
            closed: VecDeque::new(),
            in_flight: VecDeque::new(),
            heads: HeadCache::default(),
        }
    }

    /// Checks a request and gives it its place.
    pub(crate) fn sequence(&mut self, request: &mut Request, cold: Option<ColdHead>) -> Sequenced {
        match &self.phase {
            Phase::Running => {}
            Phase::Closing => return Sequenced::Closed,
            Phase::Poisoned(reason) => return Sequenced::Poisoned(reason.clone()),
        }
        let Some(StreamHead { last, position }) = self.head(request, cold) else {
            return Sequenced::Lookup { generation: self.generation };
        };
        let holds = request.expect.holds(last);
        if !holds || request.is_check() {
            if position.is_none() {
                self.heads.put(&request.stream, last);
            }
            let ticket = position.and_then(|position| self.ticket_of(position));
            return Sequenced::Judged { holds, last, ticket };
        }
        match self.place(request) {
            Ok(Some(types)) => self.claim(request, last.map_or(0, |last| last + 1), types),
            Ok(None) => Sequenced::Wait,
            Err(refused) => refused,
        }
    }

    /// The head of the request's stream, claimed events included. `None` where the sealed segments have
    /// to be asked.
    fn head(&self, request: &Request, cold: Option<ColdHead>) -> Option<StreamHead> {
        let term = Term::stream(request.stream.as_bytes());
        let hash = request.stream_hash;
        let newest_first = std::iter::once(&self.active.live).chain(self.unsealed.iter().rev());
        for live in newest_first {
            if let Some(postings) = live.index.lookup(hash, term) {
                let count = postings.len();
                let last = postings.first_version() + u64::from(count) - 1;
                let ordinal = postings.get(count - 1).map(u64::from);
                let position = ordinal.map(|ordinal| live.first_position + ordinal);
                return Some(StreamHead { last: Some(last), position });
            }
        }
        if let Some(cached) = self.heads.get(&request.stream) {
            return Some(StreamHead { last: cached.last, position: None });
        }
        let cold = cold.filter(|cold| cold.generation == self.generation)?;
        Some(StreamHead { last: cold.last, position: None })
    }

    /// The ticket of the batch that holds this position, where it is not durable yet.
    fn ticket_of(&self, position: u64) -> Option<Arc<Ticket>> {
        let behind = self.in_flight.partition_point(|(first, _)| *first <= position);
        let (_, ticket) = self.in_flight.get(behind.checked_sub(1)?)?;
        Some(Arc::clone(ticket))
    }

    /// Makes sure that the open batch has room for the request, and numbers its types. `None` where
    /// something has to happen first.
    fn place(&mut self, request: &mut Request) -> Result<Option<Vec<(u32, bool)>>, Sequenced> {
        loop {
            let Some((types, definitions)) = self.number(&request.encoded.types) else {
                // The segment has as many types as it may: the request goes into the next one.
                if !self.close_open() || !self.roll(request)? {
                    return Ok(None);
                }
                continue;
            };
            let bytes = (request.encoded.frames.len() + definitions) as u64;
            if let Some(open) = &self.open {
                let full = open.claimed > 0 && open.claimed + bytes > BATCH_BYTES_FULL as u64;
                let fits = !full
                    && open.end() + bytes <= self.active.data_limit()
                    && open.end() + bytes <= open.chunk.end();
                if fits {
                    return Ok(Some(types));
                }
                if !self.close_open() {
                    return Ok(None);
                }
            }
            let need = BATCH_HEADER_BYTES as u64 + bytes;
            if self.active.next_offset + need > self.active.data_limit() {
                if !self.roll(request)? {
                    return Ok(None);
                }
                continue;
            }
            self.open_batch(need).map_err(Sequenced::NoMemory)?;
        }
    }

    /// Numbers types in the active segment; also says how many bytes the new definitions take.
    #[expect(clippy::cast_possible_truncation, reason = "within SEGMENT_TYPES_MAX")]
    fn number(&self, types: &[EventType]) -> Option<(Vec<(u32, bool)>, usize)> {
        let mut next = self.active.types.len();
        let mut bytes = 0;
        let numbered = types
            .iter()
            .map(|event_type| {
                if let Some(number) = self.active.types.get(event_type) {
                    return (*number, false);
                }
                next += 1;
                bytes += event_type.encoded_bytes();
                ((next - 1) as u32, true)
            })
            .collect();
        (next <= SEGMENT_TYPES_MAX).then_some((numbered, bytes))
    }

    /// Closes the open batch; false where too many wait already.
    fn close_open(&mut self) -> bool {
        if self.open.is_none() {
            return true;
        }
        if self.closed.len() >= CLOSED_BATCHES_MAX {
            return false;
        }
        let batch = self.open.take();
        self.closed.extend(batch);
        true
    }

    /// Goes on in the next segment, which has room for the request; false where that is not ready yet.
    fn roll(&mut self, request: &mut Request) -> Result<bool, Sequenced> {
        assert!(self.open.is_none(), "a batch is in one segment");
        if self.unsealed.len() >= UNSEALED_SEGMENTS_MAX {
            return match self.sealing_failed.take() {
                // Reported once, as below.
                Some(error) => Err(Sequenced::NoSegment(error)),
                None => Ok(false),
            };
        }
        // In a new segment every type has to be defined.
        let needed = BATCH_HEADER_BYTES as u64 + request.encoded.bytes();
        let needed = align_up(needed + SEGMENT_HEAD_BYTES + SEGMENT_FOOT_BYTES, BLOCK);
        let wanted = |small| Spare::Wanted { bytes: needed, small };
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
                let start = LiveStart {
                    first_position: self.next_position,
                    first_sequence: self.next_sequence,
                    chain: Chain::default(),
                    recorded_last: self.recorded_last,
                };
                let (live, writer) =
                    LiveSegment::new(prepared.key, prepared.file, prepared.file_bytes, &start);
                let active = Active {
                    live,
                    writer,
                    types: HashMap::new(),
                    chunk: None,
                    next_offset: SEGMENT_HEAD_BYTES,
                };
                let full = std::mem::replace(&mut self.active, active);
                self.unsealed.push(full.live);
                Ok(true)
            }
        }
    }

    /// Opens a batch that has room for `need` bytes.
    fn open_batch(&mut self, need: u64) -> io::Result<()> {
        let active = &mut self.active;
        let offset = active.next_offset;
        let fitting = active.chunk.take().filter(|chunk| offset + need <= chunk.end());
        let (chunk, prefix) = if let Some(chunk) = fitting {
            // Behind a large batch the rest of its last block stays free.
            let gap = offset - chunk.claimed();
            drop(chunk.claim(gap));
            (chunk, None)
        } else {
            let base = crate::format::align_down(offset, BLOCK);
            let room = active.live.file_bytes - SEGMENT_FOOT_BYTES - base;
            let bytes = (CHUNK_BYTES as u64).min(room).max(align_up(offset + need - base, BLOCK));
            let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
            let chunk = active.live.add_chunk(offset, bytes)?;
            let prefix = (offset > base).then(|| chunk.claim(offset - base)).flatten();
            (chunk, prefix)
        };
        let header = chunk
            .claim(BATCH_HEADER_BYTES as u64)
            .expect("the chunk was chosen to have room for it");
        assert_eq!(header.start(), offset, "claims of a chunk are dense");
        let ticket = Arc::new(Ticket::default());
        self.in_flight.push_back((self.next_position, Arc::clone(&ticket)));
        self.open = Some(Batch {
            segment: Arc::clone(&active.live),
            chunk: Arc::clone(&chunk),
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
        });
        active.chunk = Some(chunk);
        self.next_sequence += 1;
        Ok(())
    }

    /// Takes versions, positions and bytes of the open batch, which has room.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an append has at most APPEND_EVENTS_MAX events"
    )]
    fn claim(
        &mut self,
        request: &Request,
        first_version: u64,
        types: Vec<(u32, bool)>,
    ) -> Sequenced {
        let term = Term::stream(request.stream.as_bytes());
        let encoded = &request.encoded;
        let batch = self.open.as_mut().expect("a batch was opened for the request");
        let active = &mut self.active;
        let mut defined = 0;
        for (event_type, (number, new)) in encoded.types.iter().zip(&types) {
            if *new {
                active.types.insert(event_type.clone(), *number);
                active.live.types.push(event_type.clone());
                defined += event_type.encoded_bytes();
                batch.records += 1;
            }
        }
        let bytes = (encoded.frames.len() + defined) as u64;
        let claim = batch.chunk.claim(bytes).expect("the batch was found to have room");
        assert_eq!(claim.start(), batch.end(), "claims of a batch are dense");

        let frames_at = claim.start() + defined as u64;
        let mut start = 0;
        for (version, event) in (first_version..).zip(&encoded.events) {
            let units = (frames_at + start as u64) / RECORD_ALIGN as u64;
            let ordinal = active.writer.push_event(units as u32);
            active.writer.insert(request.stream_hash, term, ordinal, version);
            start = event.end;
        }
        // What is cached of the stream is outdated when this segment is sealed and let go.
        self.heads.forget(&request.stream);

        let events = encoded.events.len() as u32;
        let recorded_at = Timestamp::now().0.max(self.recorded_last);
        let first_position = self.next_position;
        batch.events += events;
        batch.records += events;
        batch.claimed += bytes;
        batch.recorded_last = recorded_at;
        active.next_offset = batch.next_offset();
        self.recorded_last = recorded_at;
        self.next_position += u64::from(events);
        Sequenced::Claimed(Claimed {
            ticket: Arc::clone(&batch.ticket),
            claim,
            live: Arc::clone(&active.live),
            first_position,
            first_version,
            recorded_at,
            types,
        })
    }

    /// The next batch to write: the oldest closed one, else the open one, closed now.
    pub(crate) fn take_batch(&mut self) -> Option<Batch> {
        self.closed.pop_front().or_else(|| self.open.take())
    }

    /// The oldest batch on its way has become durable.
    pub(crate) fn batch_is_durable(&mut self, ticket: &Ticket) {
        let oldest = self.in_flight.pop_front();
        assert!(
            oldest.is_none_or(|(_, oldest)| std::ptr::eq(&raw const *oldest, ticket)),
            "batches become durable in their order"
        );
    }

    /// The ticket of the last batch that has claims, if it is not durable yet.
    pub(crate) fn last_ticket(&self) -> Option<Arc<Ticket>> {
        self.in_flight.back().map(|(_, ticket)| Arc::clone(ticket))
    }

    /// The oldest segment that takes no more appends and is not let go yet.
    pub(crate) fn oldest_unsealed(&self) -> Option<Arc<LiveSegment>> {
        self.unsealed.first().cloned()
    }

    /// The oldest unsealed segment was sealed, and readers find it there now.
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
        self.open = None;
        self.closed.clear();
        self.in_flight.drain(..).map(|(_, ticket)| ticket).collect()
    }
}

impl Active {
    /// Where its batches must end, so that the footer has room.
    fn data_limit(&self) -> u64 {
        self.live.file_bytes - SEGMENT_FOOT_BYTES
    }
}
