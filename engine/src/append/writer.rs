//! The writing side of an open store: the sequencer, and the threads that it feeds.
//!
//! Owns the sequence lock and what is waited for: the committer waits for batches, claims wait for room.
//! `Append` and `Pending` call [`Writer::begin`]; the committer and the maintainer take their work from
//! here.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_listener::{Event, EventListener};

use super::pending::{Pending, Receipt};
use super::request::Request;
use super::sequencer::{Claimed, ColdHead, Prepared, Resume, Sequenced, Sequencer, Spare};
use crate::commit::{BatchSource, LiveSegment, Next, Outcome, Ticket};
use crate::error::{AppendError, Conflict, FileError, Poisoned};
use crate::event::Position;
use crate::format::frame::{FramePlace, complete};
use crate::limits::append_bytes_max;
use crate::log::{Catalogs, Maintainer, NotPrepared, SealedSegment, SegmentSource};

/// See the module.
#[derive(Debug)]
pub(crate) struct Writer {
    sequencer: Mutex<Sequencer>,
    catalogs: Arc<Catalogs>,
    maintainer: Arc<Maintainer>,
    /// Rung when there is a batch, and when the store is closing.
    work: Condvar,
    /// Rung when claims that had to wait may try again.
    room: Event,
    bytes_max: u64,
}

/// What became of an attempt to begin an append.
#[derive(Debug)]
pub(crate) enum Begun {
    Pending(Pending),
    /// Try again when this is rung.
    Wait(EventListener),
}

impl Writer {
    pub(crate) fn new(
        resume: Resume,
        catalogs: Arc<Catalogs>,
        maintainer: Arc<Maintainer>,
        segment_bytes: u64,
    ) -> Self {
        Self {
            sequencer: Mutex::new(Sequencer::new(resume)),
            catalogs,
            maintainer,
            work: Condvar::new(),
            room: Event::new(),
            bytes_max: append_bytes_max(segment_bytes),
        }
    }

    /// The most bytes that an append may have.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Checks a request and claims its place, if that can be done without waiting.
    ///
    /// # Errors
    /// [`AppendError`]; nothing is claimed then.
    pub(crate) fn begin(&self, request: &mut Request) -> Result<Begun, AppendError> {
        // Listening before the attempt, so that what happens in between is not missed.
        let mut listener = None;
        let mut cold = None;
        loop {
            let mut sequencer = self.lock();
            let active = sequencer.active().number();
            let outcome = sequencer.sequence(request, cold);
            if sequencer.active().number() != active {
                // Nothing in the new segment is published before the committer has seen it, and that
                // takes this lock first.
                self.catalogs.push(sequencer.active());
                self.maintainer.ring();
            }
            drop(sequencer);
            match outcome {
                Sequenced::Claimed(claimed) => {
                    self.work.notify_one();
                    return Ok(Begun::Pending(fill(claimed, request)));
                }
                Sequenced::Judged { holds, last, ticket } => {
                    return Ok(Begun::Pending(judged(request, holds, last, ticket)));
                }
                Sequenced::Lookup { generation } => {
                    let last = self
                        .catalogs
                        .load()
                        .cold_head(request.stream_hash, &request.stream)
                        .map_err(|source| AppendError::Lookup {
                            stream: request.stream.clone(),
                            source,
                        })?;
                    cold = Some(ColdHead { generation, last });
                }
                Sequenced::Wait => {
                    self.maintainer.ring();
                    match listener.take() {
                        Some(listener) => return Ok(Begun::Wait(listener)),
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
                Sequenced::Poisoned(reason) => return Err(AppendError::Poisoned(reason)),
                Sequenced::Closed => return Err(AppendError::Closed),
            }
        }
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
        let (ticket, poisoned) = {
            let sequencer = self.lock();
            (sequencer.last_ticket(), sequencer.poisoned())
        };
        let outcome = ticket.map_or(Outcome::Durable, |ticket| ticket.wait());
        match poisoned.or_else(|| self.poisoned().filter(|_| outcome == Outcome::Unknown)) {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    /// Takes no appends any more; what was claimed is written still.
    pub(crate) fn close(&self) {
        self.lock().close();
        self.work.notify_all();
        self.room.notify(usize::MAX);
    }

    /// Lets go of the locks on the segments; whoever still holds a [`Pending`] keeps this, but not them.
    pub(crate) fn unlock_segments(&self) {
        self.lock().unlock_segments();
    }

    /// The segment that takes appends.
    pub(crate) fn active(&self) -> Arc<LiveSegment> {
        Arc::clone(self.lock().active())
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
            for ticket in sequencer.poison(reason) {
                ticket.finish(Outcome::Unknown);
            }
            sequencer
        })
    }
}

/// Copies a request's frames into their place.
fn fill(claimed: Claimed, request: &mut Request) -> Pending {
    let Claimed { ticket, mut claim, live, first_position, first_version, recorded_at, types } =
        claimed;
    let guard = FillGuard { ticket: &ticket, bytes: claim.bytes_mut().len() as u64, filled: false };
    let encoded = &mut request.encoded;

    let mut definitions = Vec::new();
    let start = claim.start();
    for (event_type, (number, new)) in encoded.types.iter().zip(&types) {
        if *new {
            let offset = start + definitions.len() as u64;
            event_type.encode(&live.key, offset, *number, &mut definitions);
        }
    }
    let frames_at = start + definitions.len() as u64;
    let mut begin = 0;
    for (event, number) in encoded.events.iter().zip(0_u64..) {
        let place = FramePlace {
            offset: frames_at + begin as u64,
            type_ref: types[event.event_type].0,
            position: first_position + number,
            version: first_version + number,
            recorded_at,
        };
        complete(&mut encoded.frames[begin..event.end], &live.key, &place);
        begin = event.end;
    }
    let (head, body) = claim.bytes_mut().split_at_mut(definitions.len());
    head.copy_from_slice(&definitions);
    body.copy_from_slice(&encoded.frames);
    // The committer reads the bytes once they are counted: the right to write them ends before.
    drop(claim);
    guard.filled();

    let receipt = Receipt {
        stream: request.stream.clone(),
        event_ids: std::mem::take(&mut encoded.ids),
        first_position: Position(first_position),
        first_version,
    };
    Pending::claimed(ticket, receipt)
}

/// Tells the committer if a producer fails between its claim and its fill.
struct FillGuard<'a> {
    ticket: &'a Ticket,
    bytes: u64,
    filled: bool,
}

impl FillGuard<'_> {
    fn filled(mut self) {
        self.filled = true;
        self.ticket.fill(self.bytes);
    }
}

impl Drop for FillGuard<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.ticket.give_up(self.bytes);
        }
    }
}

fn judged(
    request: &mut Request,
    holds: bool,
    last: Option<u64>,
    ticket: Option<Arc<Ticket>>,
) -> Pending {
    let event_ids = std::mem::take(&mut request.encoded.ids);
    let verdict = if holds {
        Ok(last)
    } else {
        let stream = request.stream.clone();
        Err(Conflict { stream, expected: request.expect, actual: last })
    };
    Pending::judged(ticket, event_ids, verdict)
}

impl BatchSource for Writer {
    fn next(&self, idle: Option<Duration>) -> Next {
        let mut sequencer = self.lock();
        loop {
            if sequencer.poisoned().is_some() {
                return Next::End;
            }
            if let Some(batch) = sequencer.take_batch() {
                drop(sequencer);
                // A closed batch has left the queue, or an open one made way for the next.
                self.room.notify(usize::MAX);
                return Next::Write(Box::new(batch));
            }
            if sequencer.is_closing() {
                return Next::End;
            }
            let Some(idle) = idle else {
                sequencer = self.work.wait(sequencer).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.work.wait_timeout(sequencer, idle);
            let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            sequencer = guard;
            if timeout.timed_out() {
                return Next::Idle;
            }
        }
    }

    fn durable(&self, ticket: &Ticket) {
        let mut sequencer = self.lock();
        sequencer.batch_is_durable(ticket);
        let full = sequencer.oldest_unsealed().is_some();
        drop(sequencer);
        if full {
            self.maintainer.ring();
        }
    }

    fn takes_appends(&self, live: &LiveSegment) -> bool {
        self.lock().active().number() == live.number()
    }

    fn poison(&self, reason: Poisoned) {
        let tickets = self.lock().poison(reason);
        for ticket in tickets {
            ticket.finish(Outcome::Unknown);
        }
        self.room.notify(usize::MAX);
        self.maintainer.ring();
    }
}

impl SegmentSource for Writer {
    fn wanted(&self) -> Option<(u64, Option<Prepared>)> {
        let mut sequencer = self.lock();
        match &mut sequencer.spare {
            Spare::Wanted { bytes, small } => Some((*bytes, small.take())),
            Spare::Ready(_) | Spare::Failed { .. } => None,
        }
    }

    fn prepared(&self, result: Result<Prepared, NotPrepared>) {
        self.lock().spare = match result {
            Ok(prepared) => Spare::Ready(prepared),
            Err(NotPrepared { error, small }) => Spare::Failed { error, small },
        };
        self.room.notify(usize::MAX);
    }

    fn full(&self) -> Option<Arc<LiveSegment>> {
        let sequencer = self.lock();
        let oldest = sequencer.oldest_unsealed()?;
        oldest.is_settled().then_some(oldest)
    }

    fn sealed(&self, live: &LiveSegment, sealed: SealedSegment) {
        // In this order: whoever looks into the sealed segments as of the new generation finds it.
        self.catalogs.seal(&Arc::new(sealed));
        self.lock().let_go(live);
        self.room.notify(usize::MAX);
    }

    fn abandoned(&self) {
        let active = self.active();
        self.poison(Poisoned {
            segment: active.number(),
            offset: active.content().data_end,
            what: "the maintainer panicked".into(),
        });
    }

    fn sealing_failed(&self, error: FileError) {
        self.lock().sealing_failed = Some(error);
        self.room.notify(usize::MAX);
    }
}
