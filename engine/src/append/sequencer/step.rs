//! The sequence step: under one short lock, an append is checked and gets its versions, positions and
//! bytes of the tail, all at once.
//!
//! Owns the order of the checks: whether it is there already, then its streams, then its conditions. What they need
//! from sealed segments was looked up before; what is missing is said, and the writer comes again.

use std::io;
use std::sync::Arc;

use super::{Phase, Sequencer};
use crate::append::conditions::Latest;
use crate::append::expect::Expect;
use crate::append::request::Request;
use crate::append::targets::{StreamHead, Target};
use crate::commit::{Batch, Chunk, Claim, Duty, Ticket};
use crate::error::{AppendError, FileError, Poisoned};
use crate::index::Term;

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Sequenced {
    /// It has its place; fill the claim. The request says the versions.
    Claimed(Claimed),
    /// It is judged by what is up to this position, once the ticket's batch is durable. The request says which checks
    /// failed.
    Judged {
        holds: bool,
        upto: u64,
        ticket: Option<Arc<Ticket>>,
    },
    /// Heads of its streams have to be looked up in the sealed segments, as of this generation.
    Lookup {
        generation: u64,
    },
    /// What has come since its ids were looked for has to be looked at as well.
    LookForIds,
    /// What has come since the conditions were looked at has to be looked at as well.
    Look,
    /// What has to be durable before it can be judged.
    After(Arc<Ticket>),
    /// Something is wrong with it.
    Refused(AppendError),
    /// Something has to happen first: a batch written, or a segment made.
    Wait,
    /// The next segment could not be made.
    NoSegment(FileError),
    /// Nothing is appended any more. Whether it is known that it has not happened.
    Poisoned {
        reason: Poisoned,
        is_known: bool,
    },
    Closed,
    NoMemory(io::Error),
}

/// A place in the log.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub ticket: Arc<Ticket>,
    pub claim: Claim,
    pub first_position: u64,
    pub recorded_at: i64,
    /// What is to be done when the claim is filled.
    pub duty: Duty<Batch>,
}

impl Sequencer {
    /// Checks a request and gives it its place; `now` in nanoseconds since the Unix epoch.
    pub(crate) fn sequence(&mut self, request: &mut Request, now: i64) -> Sequenced {
        if self.phase != Phase::Running {
            return self.sequence_late(request);
        }
        let recorded_at = now.max(self.recorded_last);
        if let Some(repeat) = &mut request.repeat {
            match repeat.compare(&self.active.live, self.next_position, recorded_at) {
                Ok(Latest::Known) => {}
                Ok(Latest::Look) => return Sequenced::LookForIds,
                Ok(Latest::Wait(position)) => {
                    return self.after(position).unwrap_or(Sequenced::LookForIds);
                }
                Err(refused) => return Sequenced::Refused(refused),
            }
        }
        if !self.find_heads(request) {
            return Sequenced::Lookup { generation: self.generation };
        }
        let as_expected = request.targets.iter().all(Target::is_as_expected);
        let mut holds = as_expected;
        if let Some(conditions) = &mut request.conditions {
            if let Err(refused) = conditions.check_positions(self.next_position - 1) {
                return Sequenced::Refused(refused);
            }
            let active = &*self.active.live;
            match conditions.compare(active, &mut self.newest_tags, self.next_position) {
                Latest::Known => holds &= conditions.failed().next().is_none(),
                Latest::Look => return Sequenced::Look,
                Latest::Wait(position) => return self.after(position).unwrap_or(Sequenced::Look),
            }
        }
        if !holds || request.is_check() {
            let ticket = self.judged_with(request);
            return Sequenced::Judged { holds, upto: self.next_position - 1, ticket };
        }
        let segment = self.active.live.number();
        match self.place(request) {
            Ok(true) => {
                if segment != self.active.live.number() {
                    // The streams' numbers are those of the segment that they were found in.
                    request.targets.iter_mut().for_each(|target| target.head.term = None);
                }
                self.claim(request, recorded_at)
            }
            Ok(false) => Sequenced::Wait,
            Err(refused) => refused,
        }
    }

    /// What becomes of a request where nothing is appended any more. One that repeats what is in flight, as it seems, is
    /// told of that.
    #[cold]
    fn sequence_late(&self, request: &Request) -> Sequenced {
        let in_flight = request.repeat.as_ref().and_then(|repeat| repeat.may_be_at());
        match (&self.phase, in_flight) {
            (Phase::Poisoned(reason), _) => {
                let (reason, is_known) = (reason.clone(), in_flight.is_none());
                Sequenced::Poisoned { reason, is_known }
            }
            (_, None) => Sequenced::Closed,
            (_, Some(position)) => self.after(position).unwrap_or(Sequenced::LookForIds),
        }
    }

    /// Finds the heads of the request's streams, claimed events included. False where the sealed segments have to be
    /// asked.
    #[inline]
    fn find_heads(&mut self, request: &mut Request) -> bool {
        let several = request.targets.len() > 1;
        let mut all = true;
        for target in request.targets.iter_mut() {
            let head = self.head(target);
            target.is_missing = head.is_none();
            all &= head.is_some();
            // What was looked up is good until a segment is let go. Where there is more to look up, that may be so soon
            // that it would be in vain again and again: so it is kept where that is noted.
            if several
                && let (Some(cold), Some(_)) = (target.cold.take(), head)
                && cold.generation == self.generation
            {
                self.heads.put(&target.name, cold.last);
            }
            target.head = head.unwrap_or_default();
        }
        all
    }

    /// The head of a stream. `None` where the sealed segments have to be asked.
    fn head(&self, target: &Target) -> Option<StreamHead> {
        let (hash, term) = (target.hash, Term::stream(target.name.as_bytes()));
        if let Some(id) = self.active.writer.find(hash, term) {
            let events = self.active.writer.head(id).next_version();
            return Some(StreamHead { events, position: None, term: Some(id) });
        }
        for live in self.unsealed.iter().rev() {
            if let Some(postings) = live.index.lookup(hash, term) {
                let count = postings.len();
                let events = postings.first_version() + u64::from(count);
                let ordinal = postings.get(count - 1).map(u64::from);
                let position = ordinal.map(|ordinal| live.first_position + ordinal);
                return Some(StreamHead { events, position, term: None });
            }
        }
        let last = if let Some(cached) = self.heads.get(&target.name) {
            cached.last
        } else {
            target.cold.filter(|cold| cold.generation == self.generation)?.last
        };
        Some(StreamHead { events: last.map_or(0, |last| last + 1), position: None, term: None })
    }

    /// What has to be durable before a request is answered that claims nothing: the last events of the streams of which
    /// its answer says something, also that they are as expected. Heads that were looked up are kept.
    fn judged_with(&mut self, request: &Request) -> Option<Arc<Ticket>> {
        let mut based_on = None;
        for target in request.targets.iter() {
            let head = &target.head;
            let position = head.term.map_or(head.position, |id| {
                let ordinal = self.active.writer.last_ordinal(id);
                Some(self.active.live.first_position + u64::from(ordinal))
            });
            if position.is_none() {
                self.heads.put(&target.name, head.last());
            }
            if target.expect != Expect::Any || request.is_check() {
                based_on = based_on.max(position);
            }
        }
        self.ticket_of(based_on?)
    }

    /// That something has to wait for an event to be durable; none where it is.
    fn after(&self, position: u64) -> Option<Sequenced> {
        self.ticket_of(position).map(Sequenced::After)
    }

    /// The ticket of the batch that holds this position, where it is not durable yet.
    fn ticket_of(&self, position: u64) -> Option<Arc<Ticket>> {
        let behind = self.in_flight.partition_point(|(first, _)| *first <= position);
        let (_, ticket) = self.in_flight.get(behind.checked_sub(1)?)?;
        Some(Arc::clone(ticket))
    }

    /// Takes versions, positions and bytes of the open batch, which has room.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "an append has at most APPEND_EVENTS_MAX events and APPEND_BYTES_MAX bytes"
    )]
    #[inline]
    fn claim(&mut self, request: &mut Request, recorded_at: i64) -> Sequenced {
        let batch = self.stage.open.as_mut().expect("a batch was opened for the request");
        let active = &mut self.active;
        let mut defined = 0;
        for defines in request.encoded.types().iter().filter(|numbered| numbered.is_new) {
            active.define(defines);
            defined += defines.event_type.encoded_bytes();
            batch.records += 1;
        }
        let bytes = request.encoded.frames.len() + defined;
        let claim =
            Chunk::claim(&batch.chunk, bytes as u64).expect("the batch was found to have room");
        assert_eq!(claim.start(), batch.end(), "claims of a batch are dense");

        active.enter(request, claim.start() + defined as u64);

        let encoded = &request.encoded;
        let events = encoded.events.len() as u32;
        let first_position = self.next_position;
        batch.events += events;
        batch.records += events;
        batch.claimed += bytes as u32;
        batch.recorded_last = recorded_at;
        active.next_offset = batch.next_offset();
        self.recorded_last = recorded_at;
        self.next_position += u64::from(events);
        self.newest_tags.note(&encoded.tags, self.next_position - 1);
        let ticket = Arc::clone(&batch.ticket);
        let duty = self.stage.claimed(request.manner());
        Sequenced::Claimed(Claimed { ticket, claim, first_position, recorded_at, duty })
    }
}
