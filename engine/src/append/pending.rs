//! What an append gives back: a receipt, or the way to wait for one.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use event_listener::EventListener;

use super::writer::Writer;
use crate::commit::{Outcome, Ticket};
use crate::error::{AppendError, Conflict, Poisoned};
use crate::event::{EventId, Position};

/// How safe appended events are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// No crash of the process, the system or the machine loses them.
    Durable,
}

/// Where appended events are in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub(super) stream: Box<str>,
    pub(super) event_ids: Vec<EventId>,
    pub(super) first_position: Position,
    pub(super) first_version: u64,
}

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

    /// How safe they are.
    pub fn durability(&self) -> Durability {
        Durability::Durable
    }
}

/// What is decided already, and holds once the ticket's batch is durable.
#[derive(Debug)]
enum Decided {
    Appended(Receipt),
    Checked { event_ids: Vec<EventId>, verdict: Result<Option<u64>, Conflict> },
}

/// An append that is on its way: it commits whether it is waited for or not.
///
/// Wait for it by blocking with [`Pending::wait`], or by `.await`: it is a future, which needs no
/// particular runtime.
#[derive(Debug)]
#[must_use = "it says whether the events are durable"]
pub struct Pending {
    ticket: Option<Arc<Ticket>>,
    decided: Option<Decided>,
    listener: Option<EventListener>,
    writer: Option<Arc<Writer>>,
}

impl Pending {
    pub(super) fn claimed(ticket: Arc<Ticket>, receipt: Receipt) -> Self {
        let decided = Some(Decided::Appended(receipt));
        Self { ticket: Some(ticket), decided, listener: None, writer: None }
    }

    pub(super) fn judged(
        ticket: Option<Arc<Ticket>>,
        event_ids: Vec<EventId>,
        verdict: Result<Option<u64>, Conflict>,
    ) -> Self {
        let decided = Some(Decided::Checked { event_ids, verdict });
        Self { ticket, decided, listener: None, writer: None }
    }

    pub(super) fn of(mut self, writer: &Arc<Writer>) -> Self {
        self.writer = Some(Arc::clone(writer));
        self
    }

    /// Blocks until the events are durable.
    ///
    /// # Errors
    /// [`AppendError::Conflict`], or [`AppendError::Unknown`] where the log was poisoned meanwhile.
    pub fn wait(mut self) -> Result<Receipt, AppendError> {
        let outcome = self.ticket.as_ref().map_or(Outcome::Durable, |ticket| ticket.wait());
        self.appended(outcome)
    }

    /// As [`Pending::wait`], for a pure check: the version of the stream's last event.
    pub(super) fn wait_checked(mut self) -> Result<Option<u64>, AppendError> {
        let outcome = self.ticket.as_ref().map_or(Outcome::Durable, |ticket| ticket.wait());
        self.checked(outcome)
    }

    /// Polls for the outcome of the batch.
    pub(super) fn poll_outcome(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        let Some(ticket) = &self.ticket else {
            return Poll::Ready(Outcome::Durable);
        };
        loop {
            if let Some(outcome) = ticket.outcome() {
                self.listener = None;
                return Poll::Ready(outcome);
            }
            match &mut self.listener {
                None => self.listener = Some(ticket.listen()),
                Some(listener) => match Pin::new(listener).poll(context) {
                    Poll::Ready(()) => self.listener = None,
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    fn appended(&mut self, outcome: Outcome) -> Result<Receipt, AppendError> {
        match (self.take(), outcome) {
            (Decided::Appended(receipt), Outcome::Durable) => Ok(receipt),
            (Decided::Appended(receipt), Outcome::Unknown) => Err(self.unknown(receipt.event_ids)),
            (Decided::Checked { event_ids, .. }, Outcome::Unknown) => Err(self.unknown(event_ids)),
            (Decided::Checked { verdict, .. }, Outcome::Durable) => {
                let conflict = verdict.expect_err("an append that holds is claimed");
                Err(AppendError::Conflict(conflict))
            }
        }
    }

    pub(super) fn checked(&mut self, outcome: Outcome) -> Result<Option<u64>, AppendError> {
        match (self.take(), outcome) {
            (Decided::Checked { verdict, .. }, Outcome::Durable) => {
                verdict.map_err(AppendError::Conflict)
            }
            (Decided::Checked { event_ids, .. }, Outcome::Unknown) => Err(self.unknown(event_ids)),
            (Decided::Appended(_), _) => unreachable!("a check claims nothing"),
        }
    }

    fn take(&mut self) -> Decided {
        self.decided.take().expect("an outcome is taken once")
    }

    fn unknown(&self, event_ids: Vec<EventId>) -> AppendError {
        let reason = self.writer.as_ref().and_then(|writer| writer.poisoned());
        let reason =
            reason.unwrap_or(Poisoned { segment: 0, offset: 0, what: "the writer is gone".into() });
        AppendError::Unknown { event_ids, reason }
    }
}

impl Future for Pending {
    type Output = Result<Receipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_outcome(context).map(|outcome| self.appended(outcome))
    }
}
