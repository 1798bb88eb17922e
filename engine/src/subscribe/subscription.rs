//! A subscription: what it has received, and what comes next.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::beginning::Source;
use super::consumers::{ConsumerStats, Cursor, age_behind};
use super::stream::EventStream;
use crate::commit::Waiter;
use crate::error::SubscribeError;
use crate::event::Position;
use crate::read::{Batch, Reads};

/// What a subscription receives.
#[derive(Debug, Clone)]
pub enum Message {
    /// The next events, one at least, in the order of the log. Nothing of them was copied: a batch keeps alive what they are
    /// in, see [`Batch`].
    Events(Batch),
    /// Everything up to this position, which was the head of the log, was received, or is not for this subscription. It comes
    /// once after the start, and once after each [`Message::FellBehind`]; not whenever there is nothing to receive.
    CaughtUp(Position),
    /// The subscription was caught up, and has more to read now than
    /// [`falls_behind`](super::Subscribe::falls_behind) says. Nothing is lost: it goes on from where it is.
    FellBehind {
        /// How many events are before it, whether or not they match.
        events: u64,
        /// How long ago the first of them was recorded; zero where that cannot be read.
        time: Duration,
    },
}

/// A consumer of the log that catches up with it and then follows it: see [`Store::subscribe`](crate::Store::subscribe).
///
/// It ends with [`SubscribeError::Closed`], once the store was closed and everything that is durable was received. It does
/// not keep the store open. Where it is dropped, nothing of it is left; a batch that was received lives on.
#[derive(Debug)]
pub struct Subscription {
    reads: Arc<Reads>,
    source: Source,
    cursor: Arc<Cursor>,
    waiter: Waiter,
    behind: u64,
    is_caught_up: bool,
    /// The events that were received last, and when: they are being handled until something is asked for again.
    handling: Option<(usize, Instant)>,
}

impl Subscription {
    pub(super) fn new(reads: Arc<Reads>, source: Source, cursor: Arc<Cursor>, behind: u64) -> Self {
        let waiter = Waiter::new(Arc::clone(&reads.watermark));
        Self { reads, source, cursor, waiter, behind, is_caught_up: false, handling: None }
    }

    /// The next message; blocks until there is one.
    ///
    /// ```
    /// use stratalog::{Expect, Message, NewEvent, Store, SubscribeError, disk::MemoryDisk};
    ///
    /// let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// let mut live = store.subscribe().start()?;
    /// let follower = std::thread::spawn(move || {
    ///     let mut seen = Vec::new();
    ///     loop {
    ///         match live.recv() {
    ///             Ok(Message::Events(batch)) => seen.extend(batch.iter().map(|e| e.position().get())),
    ///             Ok(Message::CaughtUp(_) | Message::FellBehind { .. }) => {}
    ///             Err(SubscribeError::Closed) => return Ok(seen),
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    /// });
    /// store.append("ticket-1", Expect::NoStream, [NewEvent::json("opened", &1)?]).wait()?;
    /// store.append("ticket-1", Expect::Any, [NewEvent::json("closed", &2)?]).wait()?;
    /// store.close()?;
    /// assert_eq!(follower.join().expect("it does not panic")?, [1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`SubscribeError`]. After [`SubscribeError::Read`] a further call reads the same again.
    pub fn recv(&mut self) -> Result<Message, SubscribeError> {
        loop {
            if let Some(message) = self.try_recv()? {
                return Ok(message);
            }
            self.waiter.sleep(self.source.passed(), None);
        }
    }

    /// As [`Subscription::recv`], for no longer than `timeout`; `None` where nothing came.
    ///
    /// # Errors
    /// As [`Subscription::recv`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Message>, SubscribeError> {
        let until = Instant::now().checked_add(timeout);
        loop {
            if let Some(message) = self.try_recv()? {
                return Ok(Some(message));
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(None);
            }
            self.waiter.sleep(self.source.passed(), until);
        }
    }

    /// The next message, if there is one now.
    ///
    /// # Errors
    /// As [`Subscription::recv`].
    pub fn try_recv(&mut self) -> Result<Option<Message>, SubscribeError> {
        self.handled();
        // In this order: what was published before the end is received before it.
        let is_closed = self.reads.watermark.is_closed();
        if self.is_caught_up {
            let events = self.reads.watermark.get().saturating_sub(self.source.passed());
            if events > self.behind {
                self.is_caught_up = false;
                let time = age_behind(&self.reads, self.source.passed()).unwrap_or_default();
                return Ok(Some(Message::FellBehind { events, time }));
            }
        }
        if let Some(batch) = self.source.next_batch()? {
            self.handling = Some((batch.len(), Instant::now()));
            return Ok(Some(Message::Events(batch)));
        }
        let passed = self.source.passed();
        self.cursor.move_to(passed);
        if !self.is_caught_up {
            self.is_caught_up = true;
            return Ok(Some(Message::CaughtUp(Position(passed))));
        }
        if is_closed { Err(SubscribeError::Closed) } else { Ok(None) }
    }

    /// The next message, for a task. It may be dropped at any time: nothing is lost. Reading what is not in memory blocks the
    /// thread that polls it, as any read does.
    ///
    /// # Errors
    /// As [`Subscription::recv`].
    pub fn recv_async(&mut self) -> ReceiveFuture<'_> {
        ReceiveFuture(self)
    }

    /// As [`Subscription::recv_async`], for who implements futures. Only the last task that has polled is woken.
    pub fn poll_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Message, SubscribeError>> {
        loop {
            match self.try_recv() {
                Ok(Some(message)) => return Poll::Ready(Ok(message)),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(None) => {}
            }
            if self.waiter.wake_later(self.source.passed(), context.waker()) {
                return Poll::Pending;
            }
        }
    }

    /// As a `Stream` of the futures' crates.
    pub fn into_stream(self) -> EventStream {
        EventStream::new(self)
    }

    /// Everything up to here is behind it: received before something was asked for again, or not for it. A subscription that
    /// begins [`after`](super::Subscribe::after) it goes on where this one has left off.
    pub fn position(&self) -> Position {
        Position(self.cursor.position())
    }

    /// How far it has come.
    pub fn stats(&self) -> ConsumerStats {
        self.cursor.stats(&self.reads)
    }

    /// What was received last was handled.
    fn handled(&mut self) {
        if let Some((events, begun)) = self.handling.take() {
            self.cursor.handled(events as u64, begun.elapsed());
            self.cursor.move_to(self.source.passed());
        }
    }
}

/// Waits for the next message of a subscription: see [`Subscription::recv_async`].
#[derive(Debug)]
#[must_use = "nothing is received before it is awaited"]
pub struct ReceiveFuture<'a>(&'a mut Subscription);

impl Future for ReceiveFuture<'_> {
    type Output = Result<Message, SubscribeError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll_recv(context)
    }
}
