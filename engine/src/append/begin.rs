//! The way of a request to its place: tried, waited for, and tried again.
//!
//! Owns what an append, a check or a transaction has while it has neither a place nor a judgement. Those and their
//! futures hold it, and so does an [`Awaited`] whose outcome depends on events that are not durable yet. Calls the
//! writer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use event_listener::{EventListener, Listener};

use super::pending::{Awaited, Settled};
use super::receipt::unknown;
use super::request::Request;
use super::reused::Reused;
use super::writer::{Begun, Writer};
use crate::commit::{Outcome, Ticket, WakerSlot};
use crate::error::{AppendError, ConditionKind};
use crate::event::Position;
use crate::query::Query;

/// See the module.
#[derive(Debug)]
pub(super) struct Begin {
    /// None where the store is open for reading only.
    writer: Option<Arc<Writer>>,
    /// Taken when it has begun.
    request: Option<Result<Reused, AppendError>>,
    waits_for: WaitsFor,
}

/// What has to happen before it is worth another try.
#[derive(Debug)]
enum WaitsFor {
    Nothing,
    Room(EventListener),
    Batch(Arc<Ticket>, WakerSlot),
}

impl Begin {
    pub(super) fn new(writer: Option<Arc<Writer>>, request: Result<Reused, AppendError>) -> Self {
        Self { writer, request: Some(request), waits_for: WaitsFor::Nothing }
    }

    /// Adds to the request, where it is a good one; if that fails, it is none any more. There is no writer where the store
    /// is open for reading only.
    pub(super) fn add(
        &mut self,
        add: impl FnOnce(&mut Request, Option<&Writer>) -> Result<(), AppendError>,
    ) {
        if let Some(Ok(request)) = &mut self.request
            && let Err(error) = add(request, self.writer.as_deref())
        {
            self.request = Some(Err(error));
        }
    }

    /// Changes the request, where it is a good one.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Request)) {
        if let Some(Ok(request)) = &mut self.request {
            change(request);
        }
    }

    /// Adds a condition to the request, where it is a good one; if that fails, it is none any more.
    pub(super) fn condition(&mut self, kind: ConditionKind, query: Query, after: Position) {
        self.add(|request, writer| {
            let tags = writer.map(Writer::tag_table);
            request.conditions.get_or_insert_default().push(kind, query, after, tags)
        });
    }

    fn attempt(&mut self) -> Result<Begun, AppendError> {
        let Some(writer) = &self.writer else {
            return Err(AppendError::ReadOnly);
        };
        match &mut self.request {
            Some(Ok(request)) => {
                let begun = writer.begin(request)?;
                if let Begun::Done(_) = begun {
                    self.request = None;
                }
                Ok(begun)
            }
            failed => match failed.take() {
                Some(Err(error)) => Err(error),
                _ => Err(AppendError::Closed),
            },
        }
    }

    /// Begins, unless that would mean to wait.
    pub(super) fn submit(&mut self) -> Result<Awaited, AppendError> {
        self.change(|request| request.asked_for_segment = true);
        match self.attempt()? {
            Begun::Done(awaited) => Ok(awaited),
            Begun::Wait(_) => Err(AppendError::Busy),
            Begun::After(ticket) => {
                let waits_for = WaitsFor::Batch(ticket, WakerSlot::default());
                let (writer, request) = (self.writer.clone(), self.request.take());
                Ok(Awaited::deciding(Self { writer, request, waits_for }))
            }
        }
    }

    /// Blocks until it has begun.
    pub(super) fn block(&mut self) -> Result<Awaited, AppendError> {
        self.change(|request| request.blocks = true);
        loop {
            match std::mem::replace(&mut self.waits_for, WaitsFor::Nothing) {
                WaitsFor::Nothing => {}
                WaitsFor::Room(listener) => listener.wait(),
                WaitsFor::Batch(ticket, _) => self.batch_ended(&ticket, ticket.watch())?,
            }
            match self.attempt()? {
                Begun::Done(awaited) => return Ok(awaited),
                wait => self.wait_for(wait),
            }
        }
    }

    /// Suspends until it has begun.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Awaited, AppendError>> {
        loop {
            match &mut self.waits_for {
                WaitsFor::Nothing => {}
                WaitsFor::Room(listener) => ready!(Pin::new(listener).poll(context)),
                WaitsFor::Batch(ticket, slot) => {
                    let outcome = ready!(ticket.poll(slot, context));
                    let ticket = Arc::clone(ticket);
                    self.batch_ended(&ticket, outcome)?;
                }
            }
            self.waits_for = WaitsFor::Nothing;
            match self.attempt() {
                Ok(Begun::Done(awaited)) => return Poll::Ready(Ok(awaited)),
                Ok(wait) => self.wait_for(wait),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn wait_for(&mut self, begun: Begun) {
        self.waits_for = match begun {
            Begun::Done(_) => WaitsFor::Nothing,
            Begun::Wait(listener) => WaitsFor::Room(listener),
            Begun::After(ticket) => WaitsFor::Batch(ticket, WakerSlot::default()),
        };
    }

    /// The batch that was waited for has ended. What it was waited for is looked at again, but where it held an event
    /// of the request's ids, as it seems, and nobody knows what became of that.
    fn batch_ended(&mut self, ticket: &Ticket, outcome: Outcome) -> Result<(), AppendError> {
        let Some(Ok(request)) = &self.request else { return Ok(()) };
        let repeats = request.repeat.as_ref().is_some_and(|repeat| repeat.may_be_at().is_some());
        if outcome == Outcome::Unknown && repeats {
            return Err(unknown(Some(ticket), request.encoded.ids.to_vec()));
        }
        Ok(())
    }
}

/// A request on its way to what it comes to.
#[derive(Debug)]
pub(super) struct Course {
    begin: Begin,
    awaited: Option<Awaited>,
}

impl Course {
    pub(super) fn new(begin: Begin) -> Self {
        Self { begin, awaited: None }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Settled, AppendError>> {
        loop {
            if let Some(awaited) = &mut self.awaited {
                return awaited.poll(context);
            }
            self.awaited = Some(ready!(self.begin.poll(context))?);
        }
    }
}
