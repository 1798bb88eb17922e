//! What an append gives back: a receipt, or the way to wait for one.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use compact_str::CompactString;

use super::begin::Begin;
use super::request::EventIds;
use crate::commit::{Outcome, Ticket, WakerSlot};
use crate::error::{AppendError, Conflict, Poisoned};
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

/// Where appended events are in the log.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub(super) stream: CompactString,
    pub(super) event_ids: EventIds,
    pub(super) first_position: Position,
    pub(super) first_version: u64,
    /// Of the batch that they are in, where that was not durable yet.
    pub(super) accepted: Option<Arc<Ticket>>,
}

/// Receipts of the same events are equal, however safe those are.
impl PartialEq for Receipt {
    fn eq(&self, other: &Self) -> bool {
        self.first_position == other.first_position
            && self.first_version == other.first_version
            && self.event_ids == other.event_ids
            && self.stream == other.stream
    }
}

impl Eq for Receipt {}

impl Receipt {
    /// The stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The ids of the events, in their order. Never empty.
    pub fn event_ids(&self) -> &[EventId] {
        &self.event_ids
    }

    /// The position of the first event; the others follow without a gap.
    pub fn first_position(&self) -> Position {
        self.first_position
    }

    /// The position of the last event.
    pub fn position(&self) -> Position {
        Position(self.first_position.0 + self.event_ids.len() as u64 - 1)
    }

    /// The versions of the events in their stream.
    pub fn versions(&self) -> Range<u64> {
        self.first_version..self.first_version + self.event_ids.len() as u64
    }

    /// The version of the last event: what the next append to the stream can expect.
    pub fn version(&self) -> u64 {
        self.versions().end - 1
    }

    /// How safe they are known to be: [`Durability::Accepted`] for an append
    /// [`within`](crate::Append::within) some time, until it is durable.
    pub fn durability(&self) -> Durability {
        let outcome =
            self.accepted.as_ref().map_or(Some(Outcome::Durable), |ticket| ticket.outcome());
        match outcome {
            Some(Outcome::Durable) => Durability::Durable,
            Some(Outcome::Unknown) | None => Durability::Accepted,
        }
    }

    /// Waits until the events are durable: by blocking, with [`Durable::wait`], or by `.await`.
    pub fn durable(&self) -> Durable {
        let ticket = self.accepted.clone();
        Durable { ticket, event_ids: self.event_ids.clone(), slot: WakerSlot::default() }
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

/// What is decided already, and holds once the ticket's batch is durable.
#[derive(Debug)]
enum Decided {
    Appended(Receipt),
    Checked { event_ids: EventIds, verdict: Result<Option<u64>, Conflict> },
}

/// An append that is on its way: it commits whether it is waited for or not.
///
/// Wait for it by blocking with [`Pending::wait`], or by `.await`: it is a future, which needs no
/// particular runtime. Its waker is called on the thread that commits, as are those of [`Durable`],
/// [`AppendFuture`](crate::AppendFuture) and [`CheckFuture`](crate::CheckFuture): a waker that blocks, or
/// that polls and appends right there, holds up all commits. Those of runtimes only queue the task.
#[derive(Debug)]
#[must_use = "it says whether the events are durable"]
pub struct Pending {
    /// What has to be durable before it is answered; nothing for what was accepted.
    ticket: Option<Arc<Ticket>>,
    decided: Option<Decided>,
    slot: WakerSlot,
    /// The way to a decision, where that depends on events that are not durable yet.
    deciding: Option<Box<Begin>>,
}

impl Pending {
    /// An append with a place in the log; with `accepted`, it is answered at once.
    pub(super) fn claimed(ticket: Arc<Ticket>, mut receipt: Receipt, accepted: bool) -> Self {
        let waits_for = if accepted {
            receipt.accepted = Some(ticket);
            None
        } else {
            Some(ticket)
        };
        let decided = Some(Decided::Appended(receipt));
        Self { ticket: waits_for, decided, slot: WakerSlot::default(), deciding: None }
    }

    /// An append that is not decided yet.
    pub(super) fn deciding(begin: Begin) -> Self {
        let deciding = Some(Box::new(begin));
        Self { ticket: None, decided: None, slot: WakerSlot::default(), deciding }
    }

    pub(super) fn judged(
        ticket: Option<Arc<Ticket>>,
        event_ids: EventIds,
        verdict: Result<Option<u64>, Conflict>,
    ) -> Self {
        let decided = Some(Decided::Checked { event_ids, verdict });
        Self { ticket, decided, slot: WakerSlot::default(), deciding: None }
    }

    /// Blocks until the events are durable.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] or [`AppendError::AlreadyThere`]; [`AppendError::Unknown`] where the log was poisoned
    /// meanwhile. An append with conditions may be decided only now, with any [`AppendError`] but `Busy`.
    pub fn wait(mut self) -> Result<Receipt, AppendError> {
        let outcome = self.wait_outcome()?;
        self.appended(outcome)
    }

    /// As [`Pending::wait`], for a pure check: the version of the stream's last event.
    pub(super) fn wait_checked(mut self) -> Result<Option<u64>, AppendError> {
        let outcome = self.wait_outcome()?;
        self.checked(outcome)
    }

    /// Blocks for the outcome of the batch.
    fn wait_outcome(&mut self) -> Result<Outcome, AppendError> {
        while let Some(mut begin) = self.deciding.take() {
            *self = begin.block()?;
        }
        Ok(self.ticket.as_ref().map_or(Outcome::Durable, |ticket| ticket.wait()))
    }

    /// Polls for the outcome of the batch.
    pub(super) fn poll_outcome(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Outcome, AppendError>> {
        while let Some(begin) = &mut self.deciding {
            *self = std::task::ready!(begin.poll(context))?;
        }
        match &self.ticket {
            Some(ticket) => ticket.poll(&mut self.slot, context).map(Ok),
            None => Poll::Ready(Ok(Outcome::Durable)),
        }
    }

    fn appended(&mut self, outcome: Outcome) -> Result<Receipt, AppendError> {
        match (self.take(), outcome) {
            (Decided::Appended(receipt), Outcome::Durable) => Ok(receipt),
            (
                Decided::Appended(Receipt { event_ids, .. }) | Decided::Checked { event_ids, .. },
                Outcome::Unknown,
            ) => Err(unknown(self.ticket.as_deref(), event_ids.into_vec())),
            (Decided::Checked { verdict, .. }, Outcome::Durable) => {
                Err(verdict.expect_err("an append that holds is claimed").into())
            }
        }
    }

    pub(super) fn checked(&mut self, outcome: Outcome) -> Result<Option<u64>, AppendError> {
        match (self.take(), outcome) {
            (Decided::Checked { verdict, .. }, Outcome::Durable) => {
                verdict.map_err(AppendError::from)
            }
            (Decided::Checked { event_ids, .. }, Outcome::Unknown) => {
                Err(unknown(self.ticket.as_deref(), event_ids.into_vec()))
            }
            (Decided::Appended(_), _) => unreachable!("a check claims nothing"),
        }
    }

    fn take(&mut self) -> Decided {
        self.decided.take().expect("an outcome is taken once")
    }
}

impl Future for Pending {
    type Output = Result<Receipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_outcome(context).map(|outcome| self.appended(outcome?))
    }
}

/// The error of appends of which nobody knows what became of them.
fn unknown(ticket: Option<&Ticket>, event_ids: Vec<EventId>) -> AppendError {
    let reason = ticket.and_then(Ticket::reason).cloned();
    let reason =
        reason.unwrap_or(Poisoned { segment: 0, offset: 0, what: "the writer is gone".into() });
    AppendError::Unknown { event_ids, reason }
}
