//! The way from a place in the log to its outcome.
//!
//! Owns what is decided and holds once a batch is durable, and what is waited for until then. Appends, checks and
//! transactions wait here, each for what it comes to.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::begin::Begin;
use super::encode::EventIds;
use super::receipt::{Placed, Receipt, TransactionReceipt, unknown};
use crate::commit::{Outcome, Ticket, WakerSlot};
use crate::error::{AppendError, Conflict};

/// What a request has come to.
#[derive(Debug)]
pub(super) enum Settled {
    Appended(Placed),
    /// There was nothing to append, and all checks held: the version of the last event of its first stream.
    Checked(Option<u64>),
}

impl Settled {
    /// Of an append.
    pub(super) fn receipt(self) -> Receipt {
        match self {
            Self::Appended(placed) => Receipt(placed),
            Self::Checked(_) => unreachable!("an append has events"),
        }
    }

    /// Of a check.
    pub(super) fn version(self) -> Option<u64> {
        match self {
            Self::Checked(last) => last,
            Self::Appended(_) => unreachable!("a check has no events"),
        }
    }

    /// Of a transaction.
    pub(super) fn transaction(self) -> TransactionReceipt {
        match self {
            Self::Appended(placed) => TransactionReceipt(placed),
            Self::Checked(_) => TransactionReceipt(Placed::nothing()),
        }
    }
}

/// What is decided already, and holds once the ticket's batch is durable.
#[derive(Debug)]
enum Decided {
    Appended(Placed),
    Judged { event_ids: EventIds, verdict: Result<Option<u64>, Conflict> },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Awaited {
    /// What has to be durable before it is answered; nothing for what was accepted.
    ticket: Option<Arc<Ticket>>,
    decided: Option<Decided>,
    slot: WakerSlot,
    /// The way to a decision, where that depends on events that are not durable yet.
    deciding: Option<Box<Begin>>,
}

impl Awaited {
    /// Events with a place in the log; with `accepted`, it is answered at once.
    pub(super) fn claimed(ticket: Arc<Ticket>, mut placed: Placed, accepted: bool) -> Self {
        let waits_for = if accepted {
            placed.accepted = Some(ticket);
            None
        } else {
            Some(ticket)
        };
        Self::new(waits_for, Decided::Appended(placed))
    }

    /// Events that were there before, and are durable.
    pub(super) fn repeated(placed: Placed) -> Self {
        Self::new(None, Decided::Appended(placed))
    }

    pub(super) fn judged(
        ticket: Option<Arc<Ticket>>,
        event_ids: EventIds,
        verdict: Result<Option<u64>, Conflict>,
    ) -> Self {
        Self::new(ticket, Decided::Judged { event_ids, verdict })
    }

    /// What is not decided yet.
    pub(super) fn deciding(begin: Begin) -> Self {
        let deciding = Some(Box::new(begin));
        Self { ticket: None, decided: None, slot: WakerSlot::default(), deciding }
    }

    fn new(ticket: Option<Arc<Ticket>>, decided: Decided) -> Self {
        Self { ticket, decided: Some(decided), slot: WakerSlot::default(), deciding: None }
    }

    /// Blocks until it is settled.
    ///
    /// # Errors
    /// [`AppendError`].
    pub(super) fn wait(mut self) -> Result<Settled, AppendError> {
        while let Some(mut begin) = self.deciding.take() {
            self = begin.block()?;
        }
        let outcome = match (&self.ticket, &self.decided) {
            (None, _) => Outcome::Durable,
            (Some(ticket), Some(Decided::Judged { .. })) => ticket.watch(),
            (Some(ticket), _) => ticket.wait(),
        };
        self.settle(outcome)
    }

    /// Polls until it is settled.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Settled, AppendError>> {
        while let Some(begin) = &mut self.deciding {
            *self = std::task::ready!(begin.poll(context))?;
        }
        let outcome = match &self.ticket {
            Some(ticket) => std::task::ready!(ticket.poll(&mut self.slot, context)),
            None => Outcome::Durable,
        };
        Poll::Ready(self.settle(outcome))
    }

    fn settle(&mut self, outcome: Outcome) -> Result<Settled, AppendError> {
        match (self.decided.take().expect("an outcome is taken once"), outcome) {
            (Decided::Appended(placed), Outcome::Durable) => Ok(Settled::Appended(placed)),
            (Decided::Judged { verdict, .. }, Outcome::Durable) => {
                Ok(Settled::Checked(verdict.map_err(AppendError::from)?))
            }
            (
                Decided::Appended(Placed { event_ids, .. }) | Decided::Judged { event_ids, .. },
                Outcome::Unknown,
            ) => Err(unknown(self.ticket.as_deref(), event_ids.into_vec())),
        }
    }
}

/// An append that is on its way: it commits whether it is waited for or not.
///
/// Wait for it by blocking with [`Pending::wait`], or by `.await`: it is a future, which needs no
/// particular runtime. Its waker is called on the thread that commits, as are those of [`Durable`](crate::Durable),
/// [`AppendFuture`](crate::AppendFuture) and the others: a waker that blocks, or
/// that polls and appends right there, holds up all commits. Those of runtimes only queue the task.
#[derive(Debug)]
#[must_use = "it says whether the events are durable"]
pub struct Pending(pub(super) Awaited);

impl Pending {
    /// Blocks until the events are durable.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] or [`AppendError::AlreadyThere`]; [`AppendError::Unknown`] where the log was poisoned
    /// meanwhile. An append with conditions, or with ids of the caller's, may be decided only now, with any
    /// [`AppendError`] but `Busy`.
    pub fn wait(self) -> Result<Receipt, AppendError> {
        self.0.wait().map(Settled::receipt)
    }
}

impl Future for Pending {
    type Output = Result<Receipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map_ok(Settled::receipt)
    }
}

/// As [`Pending`], of a transaction.
#[derive(Debug)]
#[must_use = "it says whether the events are durable"]
pub struct PendingTransaction(pub(super) Awaited);

impl PendingTransaction {
    /// As [`Pending::wait`].
    ///
    /// # Errors
    /// As [`Pending::wait`].
    pub fn wait(self) -> Result<TransactionReceipt, AppendError> {
        self.0.wait().map(Settled::transaction)
    }
}

impl Future for PendingTransaction {
    type Output = Result<TransactionReceipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map_ok(Settled::transaction)
    }
}
