//! The way of a request to its place: tried, waited for, and tried again.
//!
//! Owns what an append or a check has while it has neither a place nor a judgement. Appends, checks and their futures
//! hold it, and so does a [`Pending`] whose outcome depends on events that are not durable yet. Calls the writer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use event_listener::{EventListener, Listener};

use super::pending::Pending;
use super::request::Request;
use super::writer::{Begun, Writer};
use crate::commit::{Ticket, WakerSlot};
use crate::error::{AppendError, ConditionKind};
use crate::event::Position;
use crate::query::Query;

/// See the module.
#[derive(Debug)]
pub(super) struct Begin {
    /// None where the store is open for reading only.
    writer: Option<Arc<Writer>>,
    /// Taken when it has begun.
    request: Option<Result<Request, AppendError>>,
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
    pub(super) fn new(writer: Option<Arc<Writer>>, request: Result<Request, AppendError>) -> Self {
        Self { writer, request: Some(request), waits_for: WaitsFor::Nothing }
    }

    /// Changes the request, where it is a good one.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Request)) {
        if let Some(Ok(request)) = &mut self.request {
            change(request);
        }
    }

    /// Adds a condition to the request, where it is a good one; if that fails, it is none any more.
    pub(super) fn condition(&mut self, kind: ConditionKind, query: Query, after: Position) {
        let tags = self.writer.as_ref().map(|writer| writer.tag_table());
        if let Some(Ok(request)) = &mut self.request
            && let Err(error) =
                request.conditions.get_or_insert_default().push(kind, query, after, tags)
        {
            self.request = Some(Err(error));
        }
    }

    fn attempt(&mut self) -> Result<Begun, AppendError> {
        let Some(writer) = &self.writer else {
            return Err(AppendError::ReadOnly);
        };
        match &mut self.request {
            Some(Ok(request)) => {
                let begun = writer.begin(request)?;
                if let Begun::Pending(_) = begun {
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
    pub(super) fn submit(&mut self) -> Result<Pending, AppendError> {
        self.change(|request| request.asked_for_segment = true);
        match self.attempt()? {
            Begun::Pending(pending) => Ok(pending),
            Begun::Wait(_) => Err(AppendError::Busy),
            Begun::After(ticket) => {
                let waits_for = WaitsFor::Batch(ticket, WakerSlot::default());
                let (writer, request) = (self.writer.clone(), self.request.take());
                Ok(Pending::deciding(Self { writer, request, waits_for }))
            }
        }
    }

    /// Blocks until it has begun.
    pub(super) fn block(&mut self) -> Result<Pending, AppendError> {
        self.change(|request| request.blocks = true);
        loop {
            match std::mem::replace(&mut self.waits_for, WaitsFor::Nothing) {
                WaitsFor::Nothing => {}
                WaitsFor::Room(listener) => listener.wait(),
                // However it ended: what it was waited for is looked at again.
                WaitsFor::Batch(ticket, _) => drop(ticket.wait()),
            }
            match self.attempt()? {
                Begun::Pending(pending) => return Ok(pending),
                wait => self.wait_for(wait),
            }
        }
    }

    /// Suspends until it has begun.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Pending, AppendError>> {
        loop {
            match &mut self.waits_for {
                WaitsFor::Nothing => {}
                WaitsFor::Room(listener) => ready!(Pin::new(listener).poll(context)),
                WaitsFor::Batch(ticket, slot) => drop(ready!(ticket.poll(slot, context))),
            }
            self.waits_for = WaitsFor::Nothing;
            match self.attempt() {
                Ok(Begun::Pending(pending)) => return Poll::Ready(Ok(pending)),
                Ok(wait) => self.wait_for(wait),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn wait_for(&mut self, begun: Begun) {
        self.waits_for = match begun {
            Begun::Pending(_) => WaitsFor::Nothing,
            Begun::Wait(listener) => WaitsFor::Room(listener),
            Begun::After(ticket) => WaitsFor::Batch(ticket, WakerSlot::default()),
        };
    }
}
