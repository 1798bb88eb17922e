//! What an append gives back: where its events are, and how safe they are.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use compact_str::CompactString;

use super::encode::EventIds;
use super::request::{Part, Request};
use crate::commit::{Outcome, Ticket, WakerSlot};
use crate::error::{AppendError, Poisoned};
use crate::event::{EventId, Position};

/// How safe appended events are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// No crash of the process, the system or the machine loses them.
    Durable,
    /// They have their place in the log, which is provisional: a crash, or a failed write, may lose them
    /// still. [`Receipt::durable`] waits until they are durable.
    Accepted,
}

/// Where the events of a request are in the log.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub event_ids: EventIds,
    /// Meaningless where there are no events.
    first_position: u64,
    /// Without events only where there are none at all.
    first: PlacedPart,
    others: Box<[PlacedPart]>,
    /// Whether they were there before.
    is_repeated: bool,
    /// Of the batch that they are in, where that was not durable yet.
    pub accepted: Option<Arc<Ticket>>,
}

/// Neighbouring ones that are in the same stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct PlacedPart {
    stream: CompactString,
    first_version: u64,
    events: u32,
}

impl PlacedPart {
    fn of(part: &Part, stream: CompactString) -> Self {
        Self { stream, first_version: part.first_version, events: part.events }
    }

    fn versions(&self) -> Range<u64> {
        self.first_version..self.first_version + u64::from(self.events)
    }
}

impl Placed {
    /// Of a request whose events are there from this position on, with the versions that it says. They are taken out
    /// of it.
    pub(super) fn of(request: &mut Request, first_position: u64, is_repeated: bool) -> Self {
        let event_ids = std::mem::take(&mut request.encoded.ids);
        let (first, others) = match &*request.parts {
            [only] => {
                let stream = std::mem::take(&mut request.targets[only.target].name);
                (PlacedPart::of(only, stream), Box::default())
            }
            parts => {
                let name = |part: &Part| request.targets[part.target].name.clone();
                let mut parts = parts.iter().map(|part| PlacedPart::of(part, name(part)));
                (parts.next().unwrap_or_default(), parts.collect())
            }
        };
        Self { event_ids, first_position, first, others, is_repeated, accepted: None }
    }

    /// Of a request without events, all of whose checks held.
    pub(super) fn nothing() -> Self {
        Self {
            event_ids: EventIds::new(),
            first_position: 0,
            first: PlacedPart::default(),
            others: Box::default(),
            is_repeated: false,
            accepted: None,
        }
    }

    fn positions(&self) -> Range<u64> {
        self.first_position..self.first_position + self.event_ids.len() as u64
    }

    fn durability(&self) -> Durability {
        let outcome =
            self.accepted.as_ref().map_or(Some(Outcome::Durable), |ticket| ticket.outcome());
        match outcome {
            Some(Outcome::Durable) => Durability::Durable,
            Some(Outcome::Unknown) | None => Durability::Accepted,
        }
    }

    fn durable(&self) -> Durable {
        let ticket = self.accepted.clone();
        Durable { ticket, event_ids: self.event_ids.clone(), slot: WakerSlot::default() }
    }
}

/// Placed alike are the same events, however safe those are.
impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        self.first_position == other.first_position
            && self.event_ids == other.event_ids
            && self.first == other.first
            && self.others == other.others
    }
}

/// Where appended events are in the log. Receipts of the same events are equal, however safe those are.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt(pub(super) Placed);

impl Eq for Receipt {}

impl Receipt {
    /// The stream.
    pub fn stream(&self) -> &str {
        &self.0.first.stream
    }

    /// The ids of the events, in their order. Never empty.
    pub fn event_ids(&self) -> &[EventId] {
        &self.0.event_ids
    }

    /// The position of the first event; the others follow without a gap.
    pub fn first_position(&self) -> Position {
        Position(self.0.first_position)
    }

    /// The position of the last event.
    pub fn position(&self) -> Position {
        Position(self.0.positions().end - 1)
    }

    /// The versions of the events in their stream.
    pub fn versions(&self) -> Range<u64> {
        self.0.first.versions()
    }

    /// The version of the last event: what the next append to the stream can expect.
    pub fn version(&self) -> u64 {
        self.versions().end - 1
    }

    /// Whether the events were in the log already, by an earlier append with the same ids: then this is what that
    /// append's receipt said.
    pub fn is_repeated(&self) -> bool {
        self.0.is_repeated
    }

    /// How safe they are known to be: [`Durability::Accepted`] for an append
    /// [`within`](crate::Append::within) some time, until it is durable.
    pub fn durability(&self) -> Durability {
        self.0.durability()
    }

    /// Waits until the events are durable: by blocking, with [`Durable::wait`], or by `.await`.
    pub fn durable(&self) -> Durable {
        self.0.durable()
    }
}

/// Where the events of a transaction are in the log, all next to each other. Receipts of the same events are equal,
/// however safe those are.
#[derive(Debug, Clone, PartialEq)]
pub struct TransactionReceipt(pub(super) Placed);

impl Eq for TransactionReceipt {}

/// The events of one of the calls of [`Transaction::append`](crate::Transaction::append).
#[derive(Debug, Clone, Copy)]
pub struct ReceiptPart<'a> {
    part: &'a PlacedPart,
    first_position: u64,
    event_ids: &'a [EventId],
}

impl TransactionReceipt {
    /// The ids of all events, in their order; empty where the transaction only checked.
    pub fn event_ids(&self) -> &[EventId] {
        &self.0.event_ids
    }

    /// The position of the first event; the others follow without a gap. None where the transaction only checked.
    pub fn first_position(&self) -> Option<Position> {
        self.0.positions().next().map(Position)
    }

    /// The position of the last event.
    pub fn position(&self) -> Option<Position> {
        self.0.positions().next_back().map(Position)
    }

    /// What was appended, by stream: one part for each call that added events, in the order of the calls.
    pub fn parts(&self) -> impl Iterator<Item = ReceiptPart<'_>> {
        let mut before = 0;
        let parts = std::iter::once(&self.0.first).chain(&self.0.others);
        parts.filter(|part| part.events > 0).map(move |part| {
            let events = before..before + part.events as usize;
            before = events.end;
            let first_position = self.0.first_position + events.start as u64;
            ReceiptPart { part, first_position, event_ids: &self.0.event_ids[events] }
        })
    }

    /// The version of the last event of a stream, where some were appended to it.
    pub fn version(&self, stream: &str) -> Option<u64> {
        self.parts().filter(|part| part.stream() == stream).map(|part| part.version()).last()
    }

    /// As [`Receipt::is_repeated`].
    pub fn is_repeated(&self) -> bool {
        self.0.is_repeated
    }

    /// As [`Receipt::durability`].
    pub fn durability(&self) -> Durability {
        self.0.durability()
    }

    /// As [`Receipt::durable`].
    pub fn durable(&self) -> Durable {
        self.0.durable()
    }
}

impl<'a> ReceiptPart<'a> {
    /// The stream.
    pub fn stream(&self) -> &'a str {
        &self.part.stream
    }

    /// The ids of its events, in their order. Never empty.
    pub fn event_ids(&self) -> &'a [EventId] {
        self.event_ids
    }

    /// The position of its first event; the others follow without a gap.
    pub fn first_position(&self) -> Position {
        Position(self.first_position)
    }

    /// The position of its last event.
    pub fn position(&self) -> Position {
        Position(self.first_position + u64::from(self.part.events) - 1)
    }

    /// The versions of the events in their stream.
    pub fn versions(&self) -> Range<u64> {
        self.part.versions()
    }

    /// The version of the last event.
    pub fn version(&self) -> u64 {
        self.versions().end - 1
    }
}

/// The way to wait until accepted events are durable. See [`Receipt::durable`].
#[derive(Debug)]
#[must_use = "it says whether the events are durable"]
pub struct Durable {
    ticket: Option<Arc<Ticket>>,
    event_ids: EventIds,
    slot: WakerSlot,
}

impl Durable {
    /// Blocks until the events are durable.
    ///
    /// # Errors
    /// [`AppendError::Unknown`], where the log was poisoned before.
    pub fn wait(self) -> Result<(), AppendError> {
        let outcome = self.ticket.as_ref().map_or(Outcome::Durable, |ticket| ticket.wait());
        self.ended(outcome)
    }

    fn ended(&self, outcome: Outcome) -> Result<(), AppendError> {
        match outcome {
            Outcome::Durable => Ok(()),
            Outcome::Unknown => Err(unknown(self.ticket.as_deref(), self.event_ids.to_vec())),
        }
    }
}

impl Future for Durable {
    type Output = Result<(), AppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let outcome = match &this.ticket {
            Some(ticket) => std::task::ready!(ticket.poll(&mut this.slot, context)),
            None => Outcome::Durable,
        };
        Poll::Ready(this.ended(outcome))
    }
}

/// The error of appends of which nobody knows what became of them.
pub(super) fn unknown(ticket: Option<&Ticket>, event_ids: Vec<EventId>) -> AppendError {
    let reason = ticket.and_then(Ticket::reason).cloned();
    let reason =
        reason.unwrap_or(Poisoned { segment: 0, offset: 0, what: "the writer is gone".into() });
    AppendError::Unknown { event_ids, reason }
}
