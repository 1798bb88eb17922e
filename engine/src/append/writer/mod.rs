//! The writing side of an open store: the sequencer, and the threads that it feeds.
//!
//! Owns the sequence lock and what is waited for: the commit thread waits for batches, claims wait for
//! room. `Append` and `Pending` call [`Writer::begin`], which may lead a batch on the caller's thread; the
//! commit thread and the maintainer take their work from here, see `sources`.

mod sources;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::Guard;
use event_listener::{Event, EventListener};

use super::encode::Numbered;
use super::newest::TagTable;
use super::pending::Awaited;
use super::receipt::Placed;
use super::recognise::recognise;
use super::refuse::{refused_by_claimed, refused_by_durable};
use super::request::Request;
use super::sequencer::{Claimed, Resume, Sequenced, Sequencer};
use super::targets::ColdHead;
use crate::commit::{
    Batch, BatchSource as _, Claim, CommitEnd, Duty, Figures, Leader, Leads, LiveSegment, Outcome,
    Successor, Ticket,
};
use crate::disk::QueueWaker;
use crate::error::{AppendError, FileError, Poisoned};
use crate::event::{Position, Timestamp};
use crate::format::frame::{FramePlace, complete};
use crate::index::LiveIndex;
use crate::limits::append_bytes_max;
use crate::log::Maintainer;
use crate::read::Reads;
use crate::sync::{Mutex, MutexGuard, Signal, lock};

/// See the module.
#[derive(Debug)]
pub(crate) struct Writer {
    sequencer: Mutex<Sequencer>,
    reads: Arc<Reads>,
    maintainer: Arc<Maintainer>,
    leader: Arc<Mutex<Leader>>,
    figures: Arc<Figures>,
    /// Wakes the commit thread where it sleeps.
    work: Signal,
    /// Wakes the commit thread where it waits for the disk.
    waker: OnceLock<Arc<dyn QueueWaker>>,
    /// Rung when claims that had to wait may try again.
    room: Event,
    bytes_max: u64,
    /// How far back ids that do not say when they were made are looked for; none where everywhere.
    id_lookback: Option<Duration>,
    /// As it was a moment ago: see [`Sequencer::tags_noted_since`].
    tags_noted_since: AtomicU64,
    tag_table: Arc<TagTable>,
}

/// How many heads of a transaction's streams are looked up before those that were found are kept: when a
/// segment is sealed meanwhile, these were in vain.
const HEADS_LOOKED_UP_AT_ONCE: usize = 256;

/// What became of an attempt to begin an append.
#[derive(Debug)]
pub(crate) enum Begun {
    Done(Awaited),
    /// Try again when this is rung.
    Wait(EventListener),
    /// Try again when this batch has ended.
    After(Arc<Ticket>),
}

impl Writer {
    pub(crate) fn new(
        resume: Resume,
        reads: Arc<Reads>,
        maintainer: Arc<Maintainer>,
        leader: Arc<Mutex<Leader>>,
        figures: Arc<Figures>,
        segment_bytes: u64,
        id_lookback: Option<Duration>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let sequencer = Sequencer::new(resume, Arc::clone(&reads.pool), this.clone());
            Self {
                tag_table: Arc::clone(sequencer.tag_table()),
                sequencer: Mutex::new(sequencer),
                reads,
                maintainer,
                leader,
                figures,
                work: Signal::default(),
                waker: OnceLock::new(),
                room: Event::new(),
                bytes_max: append_bytes_max(segment_bytes),
                id_lookback,
                tags_noted_since: AtomicU64::new(u64::MAX),
            }
        })
    }

    /// Where the sequence step will most likely look up an append's stream.
    #[inline]
    pub(super) fn newest_index(&self) -> Guard<Option<Arc<LiveIndex>>> {
        self.reads.catalogs.newest()
    }

    /// Where the sequence step will look for tags.
    pub(super) fn tag_table(&self) -> &TagTable {
        &self.tag_table
    }

    /// The position of the last durable event.
    pub(super) fn head(&self) -> Position {
        Position(self.reads.watermark.get())
    }

    /// The most bytes that an append may have.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Checks a request and claims its place, if that can be done without waiting; and leads its batch,
    /// where it blocks and nobody leads.
    ///
    /// # Errors
    /// [`AppendError`]; nothing is claimed then.
    pub(crate) fn begin(&self, request: &mut Request) -> Result<Begun, AppendError> {
        // Listening before the attempt, so that what happens in between is not missed.
        let mut listener = None;
        if request.repeat.is_some()
            && let Some(repeated) = self.look_for_ids(request)?
        {
            return Ok(Begun::Done(repeated));
        }
        if let Some(conditions) = &mut request.conditions
            && conditions.reach_back_to(self.tags_noted_since.load(Ordering::Relaxed))
        {
            conditions.look(&self.reads)?;
        }
        loop {
            let now = request.recorded_at.take().unwrap_or_else(|| Timestamp::now().0);
            let mut sequencer = self.lock();
            let active = sequencer.active().number();
            let outcome = sequencer.sequence(request, now);
            if sequencer.active().number() != active {
                // Nothing in the new segment is published before its first batch is led, and that takes
                // this lock first.
                self.reads.catalogs.push(sequencer.active());
                self.maintainer.ring();
            }
            if request.conditions.is_some() {
                self.tags_noted_since.store(sequencer.tags_noted_since(), Ordering::Relaxed);
            }
            // Whoever has to wait wants everything before it to be written; and where there is no place behind
            // the open batch, that was closed, and nobody is to write it yet.
            let waits = matches!(
                &outcome,
                Sequenced::Wait
                    | Sequenced::After(_)
                    | Sequenced::NoSegment(_)
                    | Sequenced::NoMemory(_)
            );
            let urged = waits && sequencer.urge();
            drop(sequencer);
            if urged {
                self.work.give();
            }
            match outcome {
                Sequenced::Claimed(claimed) => return Ok(Begun::Done(self.fill(claimed, request))),
                Sequenced::Judged { holds, upto, ticket } => {
                    return Ok(Begun::Done(self.judged(request, holds, upto, ticket)));
                }
                Sequenced::Lookup { generation } => self.look_up_heads(request, generation)?,
                Sequenced::LookForIds => {
                    if let Some(repeated) = self.look_for_ids(request)? {
                        return Ok(Begun::Done(repeated));
                    }
                }
                Sequenced::Look => {
                    if let Some(conditions) = &mut request.conditions {
                        conditions.look(&self.reads)?;
                    }
                }
                Sequenced::After(ticket) => return Ok(Begun::After(ticket)),
                Sequenced::Refused(error) => return Err(error),
                Sequenced::Wait => {
                    self.maintainer.ring();
                    match listener.take() {
                        Some(listener) => {
                            self.figures.waits.add(1);
                            return Ok(Begun::Wait(listener));
                        }
                        None => listener = Some(self.room.listen()),
                    }
                }
                Sequenced::NoSegment(error) if error.is_no_space() => {
                    return Err(AppendError::NoSpace(error));
                }
                Sequenced::NoSegment(error) => return Err(AppendError::Segment(error)),
                Sequenced::NoMemory(error) => {
                    let error = FileError::new("finding memory for", "the tail", error);
                    return Err(AppendError::Segment(error));
                }
                Sequenced::Poisoned { reason, is_known: true } => {
                    return Err(AppendError::Poisoned(reason));
                }
                Sequenced::Poisoned { reason, is_known: false } => {
                    let event_ids = request.encoded.ids.to_vec();
                    return Err(AppendError::Unknown { event_ids, reason });
                }
                Sequenced::Closed => return Err(AppendError::Closed),
            }
        }
    }

    /// Looks for the ids that the caller has chosen, if there are any; gives what the append has come to, if that is
    /// in the log already.
    fn look_for_ids(&self, request: &mut Request) -> Result<Option<Awaited>, AppendError> {
        let Some(repeat) = &mut request.repeat else { return Ok(None) };
        let random_since = self.id_lookback.map_or(i64::MIN, |lookback| {
            let lookback = i64::try_from(lookback.as_nanos()).unwrap_or(i64::MAX);
            Timestamp::now().0.saturating_sub(lookback)
        });
        let found = repeat.look(&self.reads, random_since)?;
        if found.is_empty() {
            return Ok(None);
        }
        Ok(Some(Awaited::repeated(recognise(request, &self.reads, found)?)))
    }

    /// Looks up the heads of the request's streams that are in sealed segments alone, as of this generation.
    fn look_up_heads(&self, request: &mut Request, generation: u64) -> Result<(), AppendError> {
        let missing = request.targets.iter_mut().filter(|target| target.is_missing);
        for target in missing.take(HEADS_LOOKED_UP_AT_ONCE) {
            let last = self.reads.catalogs.cold_head(target.hash, &target.name);
            let last = last.map_err(|source| AppendError::Lookup {
                stream: target.name.as_str().into(),
                source,
            })?;
            target.cold = Some(ColdHead { generation, last });
        }
        Ok(())
    }

    /// What a request comes to that claims nothing, and was judged by what is up to a position. That is waited for,
    /// unless what is durable is enough to refuse it.
    fn judged(
        &self,
        request: &mut Request,
        holds: bool,
        upto: u64,
        ticket: Option<Arc<Ticket>>,
    ) -> Awaited {
        let event_ids = std::mem::take(&mut request.encoded.ids);
        if ticket.is_some() {
            let refused = if holds { None } else { refused_by_durable(request, &self.reads, upto) };
            // Whoever waits for the answer wants everything before it to be written; and so does who is told at once
            // that there is something on its way.
            if self.lock().urge() {
                self.work.give();
            }
            if let Some(conflict) = refused {
                return Awaited::judged(None, event_ids, Err(conflict));
            }
        }
        let last = request.targets.iter().next().and_then(|target| target.head.last());
        let verdict = if holds { Ok(last) } else { Err(refused_by_claimed(request)) };
        Awaited::judged(ticket, event_ids, verdict)
    }

    /// Fills a claim, and does what is to be done then.
    fn fill(&self, claimed: Claimed, request: &mut Request) -> Awaited {
        let Claimed { ticket, claim, first_position, recorded_at, duty } = claimed;
        let unfilled = UnfilledGuard { writer: self, filled: false };
        let bytes = fill(claim, request, first_position, recorded_at);
        unfilled.filled();
        ticket.fill(bytes);
        match duty {
            Duty::Nothing => {}
            Duty::Lead(batch) => self.lead(*batch),
            Duty::Signal => self.work.give(),
            Duty::Nudge => {
                if let Some(waker) = self.waker.get() {
                    waker.wake();
                }
            }
        }
        let placed = Placed::of(request, first_position, false);
        Awaited::claimed(ticket, placed, request.within.is_some())
    }

    /// Leads a batch on this thread: writes it, and hands the lead on.
    fn lead(&self, batch: Batch) {
        let unwinding = LeadGuard { writer: self };
        let committed = lock(&self.leader).commit(batch);
        match committed {
            Ok(ticket) => {
                self.figures.batches_led_by_callers.add(1);
                let mut sequencer = self.lock();
                sequencer.batch_is_durable(&ticket);
                let full = sequencer.oldest_unsealed().is_some();
                let successor = sequencer.led();
                let closing = sequencer.is_closing();
                drop(sequencer);
                // Whoever leads next begins before those who wait for this batch are woken.
                match successor {
                    Successor::Waiter(next) => next.offer(),
                    Successor::CommitThread => self.work.give(),
                    Successor::Nobody { signal } => {
                        if signal || closing {
                            self.work.give();
                        }
                    }
                }
                ticket.finish(Outcome::Durable);
                self.reads.watermark.wake();
                self.room.notify(usize::MAX);
                if full {
                    self.maintainer.ring();
                }
            }
            Err(reason) => {
                tracing::error!(%reason, "the log is poisoned");
                self.poison(reason);
            }
        }
        std::mem::forget(unwinding);
    }

    /// Why the writer was poisoned; for those whose outcome is unknown.
    pub(crate) fn poisoned(&self) -> Option<Poisoned> {
        self.lock().poisoned()
    }

    /// Waits until everything that was claimed before is durable.
    ///
    /// # Errors
    /// Why the writer was poisoned, now or before.
    pub(crate) fn flush(&self) -> Result<(), Poisoned> {
        let (ticket, poisoned, urged) = {
            let mut sequencer = self.lock();
            (sequencer.last_ticket(), sequencer.poisoned(), sequencer.urge())
        };
        if urged {
            self.work.give();
        }
        let outcome = ticket.map_or(Outcome::Durable, |ticket| ticket.wait());
        match poisoned.or_else(|| self.poisoned().filter(|_| outcome == Outcome::Unknown)) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    /// Takes no appends any more; what was claimed is written still.
    pub(crate) fn close(&self) {
        self.lock().close();
        self.work.give();
        self.room.notify(usize::MAX);
    }

    /// Waits until no append leads a batch, and lets none lead from now on. To be called when the commit
    /// thread has ended.
    pub(crate) fn end_leading(&self) -> CommitEnd {
        lock(&self.leader).end_leading()
    }

    /// Lets go of the locks on the segments, after the last write.
    pub(crate) fn unlock_segments(&self) {
        self.lock().unlock_segments();
    }

    /// The segment that takes appends.
    pub(crate) fn active(&self) -> Arc<LiveSegment> {
        Arc::clone(self.lock().active())
    }

    /// Poisons the log for a reason that is no file's.
    fn abandon(&self, what: &str) {
        let active = self.active();
        self.poison(Poisoned {
            segment: active.number(),
            offset: active.content().data_end,
            what: what.into(),
        });
    }

    fn notify_room(&self) {
        self.room.notify(usize::MAX);
    }

    fn lock(&self) -> MutexGuard<'_, Sequencer> {
        self.sequencer.lock().unwrap_or_else(|broken| {
            // A panic under the lock may have left half a claim: nothing is appended behind it.
            let mut sequencer = broken.into_inner();
            let reason = Poisoned {
                segment: sequencer.active().number(),
                offset: sequencer.active().content().data_end,
                what: "a thread panicked while it claimed a place".into(),
            };
            for ticket in sequencer.poison(reason.clone()) {
                ticket.give_up(&reason);
            }
            sequencer
        })
    }
}

/// Copies a request's frames into their place, and says how many bytes that were.
#[expect(clippy::cast_possible_truncation, reason = "at most APPEND_BYTES_MAX and the definitions")]
fn fill(mut claim: Claim, request: &mut Request, first_position: u64, recorded_at: i64) -> u32 {
    let encoded = &mut request.encoded;
    let mut definitions = Vec::new();
    let start = claim.start();
    for defines in encoded.types().iter().filter(|numbered| numbered.is_new) {
        let offset = start + definitions.len() as u64;
        let Numbered { event_type, number, .. } = defines;
        event_type.encode(claim.chunk().key(), offset, *number, &mut definitions);
    }
    let frames_at = start + definitions.len() as u64;
    let (mut begin, mut index) = (0, 0);
    for part in &request.parts {
        for version in part.first_version..part.first_version + u64::from(part.events) {
            let event = encoded.events[index];
            let place = FramePlace {
                offset: frames_at + begin as u64,
                type_ref: encoded.types()[event.event_type].number,
                position: first_position + index as u64,
                version,
                recorded_at,
            };
            complete(&mut encoded.frames[begin..event.end], claim.chunk().key(), &place);
            (begin, index) = (event.end, index + 1);
        }
    }
    let (head, body) = claim.bytes_mut().split_at_mut(definitions.len());
    head.copy_from_slice(&definitions);
    body.copy_from_slice(&encoded.frames);
    // The leader reads the bytes once they are counted: the right to write them ends here, before.
    (definitions.len() + encoded.frames.len()) as u32
}

/// Poisons the log if a producer panics between its claim and its fill: its bytes are missing.
struct UnfilledGuard<'a> {
    writer: &'a Writer,
    filled: bool,
}

impl UnfilledGuard<'_> {
    fn filled(mut self) {
        self.filled = true;
    }
}

impl Drop for UnfilledGuard<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.writer.abandon("an append failed between its claim and its fill");
        }
    }
}

/// Poisons the log if a leading append panics, so that nobody waits for ever.
struct LeadGuard<'a> {
    writer: &'a Writer,
}

impl Drop for LeadGuard<'_> {
    fn drop(&mut self) {
        self.writer.abandon("a thread panicked while it led a batch");
    }
}

impl Leads for Writer {
    fn lead_offered(&self) {
        let batch = self.lock().take_offered();
        if let Some(batch) = batch {
            self.lead(batch);
        }
    }
}
