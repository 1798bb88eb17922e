//! Appending: requests, expectations, the sequence step, and waiting for the outcome.
//!
//! Owns everything between a user's call and a claimed place in the log. Calls `event` and `format` to
//! encode, `commit` for the memory and the batches, `log` for cold heads; `store` hands it to users.

mod active;
mod expect;
mod heads;
mod pending;
mod request;
mod sequencer;
mod writer;

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use event_listener::{EventListener, Listener};

pub use expect::Expect;
pub use pending::{Durability, Durable, Pending, Receipt};
pub(crate) use request::Request;
pub use request::{EventEncoder, ToEvent};
pub(crate) use sequencer::{Prepared, Resume};
use writer::Begun;
pub(crate) use writer::Writer;

use crate::error::AppendError;

/// An append that was encoded, and claims nothing yet. How it is waited for decides who does the work:
/// [`wait`](Append::wait) blocks, `.await` suspends, [`submit`](Append::submit) claims now and is waited
/// for later, or never.
#[derive(Debug)]
#[must_use = "nothing is appended before it is waited for or submitted"]
pub struct Append {
    begin: Begin,
}

/// A check that was not made yet. See [`Store::check`](crate::Store::check).
#[derive(Debug)]
#[must_use = "nothing is checked before it is waited for"]
pub struct Check {
    begin: Begin,
}

#[derive(Debug)]
struct Begin {
    writer: Option<Arc<Writer>>,
    request: Option<Result<Request, AppendError>>,
    waiting: Option<EventListener>,
}

impl Append {
    pub(crate) fn new(writer: Option<Arc<Writer>>, request: Result<Request, AppendError>) -> Self {
        Self { begin: Begin { writer, request: Some(request), waiting: None } }
    }

    /// Appends, and blocks until the events are durable.
    ///
    /// # Errors
    /// [`AppendError`]; never [`AppendError::Busy`].
    pub fn wait(mut self) -> Result<Receipt, AppendError> {
        self.begin.block()?.wait()
    }

    /// Does not wait for the disk: it is answered as soon as the events have their place in the log, and
    /// their write begins within this time, together with what else has come by then. At most
    /// [`WITHIN_MAX`](crate::limits::WITHIN_MAX), which stands for anything longer; zero begins the write
    /// at once. The receipt's [`durability`](Receipt::durability) is [`Durability::Accepted`], its
    /// positions are provisional, and [`Receipt::durable`] waits for the rest. What a failed write loses is
    /// reported there, and by the next append. Default: an append is answered when it is durable.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use stratalog::{Durability, Expect, NewEvent, Store, disk::MemoryDisk};
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// let event = NewEvent::bytes("measured", b"21.5".as_slice());
    /// let append = store.append("sensor-7", Expect::Any, [event]);
    /// let receipt = append.within(Duration::from_millis(50)).wait()?;
    /// assert_eq!(receipt.durability(), Durability::Accepted);
    /// receipt.durable().wait()?;
    /// assert_eq!(receipt.durability(), Durability::Durable);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn within(mut self, time: Duration) -> Self {
        if let Some(Ok(request)) = &mut self.begin.request {
            request.within = Some(time);
        }
        self
    }

    /// Claims the events' places now, so that appends that are submitted one after another are in the
    /// log in this order, and returns without waiting for the disk. They commit whether the result is
    /// waited for or not.
    ///
    /// # Errors
    /// [`AppendError`]; [`AppendError::Busy`] where it would have to wait. A conflict with events that
    /// are not durable yet is reported by the [`Pending`].
    pub fn submit(mut self) -> Result<Pending, AppendError> {
        self.try_submit()
    }

    /// As [`Append::submit`]; after [`AppendError::Busy`] it can be called again, and nothing is encoded
    /// twice. To be called no more once it has succeeded.
    ///
    /// ```
    /// # use stratalog::{AppendError, Expect, NewEvent, Store, disk::MemoryDisk};
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// # let events = || (0..100).map(|_| NewEvent::bytes("ticked", b"".as_slice()));
    /// let mut append = store.append("clock", Expect::Any, events());
    /// let pending = loop {
    ///     match append.try_submit() {
    ///         Ok(pending) => break pending,
    ///         Err(AppendError::Busy) => std::thread::yield_now(),
    ///         Err(error) => return Err(error.into()),
    ///     }
    /// };
    /// assert_eq!(pending.wait()?.version(), 99);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Append::submit`].
    pub fn try_submit(&mut self) -> Result<Pending, AppendError> {
        if let Some(Ok(request)) = &mut self.begin.request {
            request.asked_for_segment = true;
        }
        match self.begin.attempt()? {
            Begun::Pending(pending) => Ok(pending),
            Begun::Wait(_) => Err(AppendError::Busy),
        }
    }
}

impl Check {
    pub(crate) fn new(writer: Option<Arc<Writer>>, request: Result<Request, AppendError>) -> Self {
        Self { begin: Begin { writer, request: Some(request), waiting: None } }
    }

    /// Blocks until it is known whether the stream is as expected, and gives the version of its last
    /// event, if it has one. What the answer is based on is durable.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn wait(mut self) -> Result<Option<u64>, AppendError> {
        self.begin.block()?.wait_checked()
    }
}

impl Begin {
    fn attempt(&mut self) -> Result<Begun, AppendError> {
        let Some(writer) = &self.writer else {
            return Err(AppendError::ReadOnly);
        };
        match &mut self.request {
            Some(Ok(request)) => match writer.begin(request)? {
                Begun::Pending(pending) => {
                    self.request = None;
                    Ok(Begun::Pending(pending))
                }
                wait @ Begun::Wait(_) => Ok(wait),
            },
            failed => match failed.take() {
                Some(Err(error)) => Err(error),
                _ => Err(AppendError::Closed),
            },
        }
    }

    fn block(&mut self) -> Result<Pending, AppendError> {
        if let Some(Ok(request)) = &mut self.request {
            request.blocks = true;
        }
        loop {
            match self.attempt()? {
                Begun::Pending(pending) => return Ok(pending),
                Begun::Wait(listener) => listener.wait(),
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Pending, AppendError>> {
        loop {
            if let Some(listener) = &mut self.waiting {
                std::task::ready!(Pin::new(listener).poll(context));
                self.waiting = None;
            }
            match self.attempt() {
                Ok(Begun::Pending(pending)) => return Poll::Ready(Ok(pending)),
                Ok(Begun::Wait(listener)) => self.waiting = Some(listener),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl IntoFuture for Append {
    type Output = Result<Receipt, AppendError>;
    type IntoFuture = AppendFuture;

    fn into_future(self) -> AppendFuture {
        AppendFuture { begin: self.begin, pending: None }
    }
}

impl IntoFuture for Check {
    type Output = Result<Option<u64>, AppendError>;
    type IntoFuture = CheckFuture;

    fn into_future(self) -> CheckFuture {
        CheckFuture { begin: self.begin, pending: None }
    }
}

/// The future of an [`Append`]. Nothing is claimed before it is polled first; from then on the append
/// commits even if the future is dropped.
#[derive(Debug)]
pub struct AppendFuture {
    begin: Begin,
    pending: Option<Pending>,
}

impl Future for AppendFuture {
    type Output = Result<Receipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(pending) = &mut self.pending {
                return Pin::new(pending).poll(context);
            }
            let pending = std::task::ready!(self.begin.poll(context))?;
            self.pending = Some(pending);
        }
    }
}

/// The future of a [`Check`].
#[derive(Debug)]
pub struct CheckFuture {
    begin: Begin,
    pending: Option<Pending>,
}

impl Future for CheckFuture {
    type Output = Result<Option<u64>, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(pending) = &mut self.pending {
                let outcome = std::task::ready!(pending.poll_outcome(context));
                return Poll::Ready(pending.checked(outcome));
            }
            let pending = std::task::ready!(self.begin.poll(context))?;
            self.pending = Some(pending);
        }
    }
}
