//! Appending: requests, expectations, the sequence step, and waiting for the outcome.
//!
//! Owns everything between a user's call and a claimed place in the log. Calls `event` and `format` to
//! encode, `commit` for the memory and the batches, `log` for cold heads, `read` for what conditions reach back to;
//! `store` hands it to users.

mod active;
mod begin;
mod checkpoint;
mod conditions;
mod encode;
mod expect;
mod heads;
mod newest;
mod pending;
mod receipt;
mod recognise;
mod refuse;
mod repeat;
mod request;
mod reused;
mod sequencer;
mod targets;
mod transaction;
mod writer;

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use begin::{Begin, Course};
use pending::Settled;

pub use checkpoint::Checkpoint;
pub use encode::{EventEncoder, ToEvent};
pub use expect::Expect;
pub use pending::{Pending, PendingTransaction};
pub use receipt::{Durability, Durable, Receipt, ReceiptPart, TransactionReceipt};
pub(crate) use reused::Reused;
pub(crate) use sequencer::{Prepared, Resume};
pub use transaction::{Commit, CommitFuture, Transaction};
pub(crate) use writer::Writer;

use crate::error::{AppendError, ConditionKind};
use crate::event::Position;
use crate::query::Query;

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

impl Append {
    pub(crate) fn new(writer: Option<Arc<Writer>>, request: Result<Reused, AppendError>) -> Self {
        Self { begin: Begin::new(writer, request) }
    }

    /// Appends, and blocks until the events are durable.
    ///
    /// # Errors
    /// [`AppendError`]; never [`AppendError::Busy`].
    pub fn wait(mut self) -> Result<Receipt, AppendError> {
        self.begin.block()?.wait().map(Settled::receipt)
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
        self.begin.change(|request| request.within = Some(time));
        self
    }

    /// Appends only if no event behind `after` matches the query: what this append was based on has not changed. 0 is
    /// before all events: then none may match at all. It is compared with everything that has its place in the log
    /// before this append gets its own, durable or not, in one step with the expected version.
    ///
    /// An append may have up to [`CONDITIONS_MAX`](crate::limits::CONDITIONS_MAX) conditions, all of which must hold.
    /// The position is the [`head`](crate::ReaderQuery::head) that the reader has reported, up to which everything
    /// was read. A condition costs a look into the index for each of its terms; the further back `after` is, the more
    /// parts of the index.
    ///
    /// ```
    /// # use stratalog::{AppendError, Expect, NewEvent, Query, Store, disk::MemoryDisk};
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// let seat = || Query::any().types(["seat-taken"]).tags(["seat:12A"]);
    /// let mut reader = store.query(seat()).forward();
    /// assert!(reader.next_batch()?.is_none(), "nobody has it");
    /// let seen = reader.head();
    ///
    /// let taken = || [NewEvent::bytes("seat-taken", b"".as_slice()).tag("seat:12A")];
    /// store.append("flight-7", Expect::Any, taken()).fail_if(seat(), seen).wait()?;
    /// let again = store.append("flight-7", Expect::Any, taken()).fail_if(seat(), seen).wait();
    /// let Err(AppendError::Conflict(conflict)) = again else { panic!("taken twice") };
    /// assert_eq!(conflict.conditions().next().map(|failed| failed.position().get()), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Reported by the append: [`AppendError::Conflict`] where it does not hold, once what that is based on is
    /// durable; [`AppendError::Query`], [`AppendError::TooManyConditions`] and [`AppendError::AfterHead`] where it is
    /// none, before anything has happened.
    pub fn fail_if(mut self, query: Query, after: impl Into<Position>) -> Self {
        self.begin.condition(ConditionKind::FailIf, query, after.into());
        self
    }

    /// Appends only if no event matches the query. The same as [`Append::fail_if`] behind position 0, but for the
    /// error: what this append would bring about is there already, so that there is nothing to decide again.
    ///
    /// ```
    /// # use stratalog::{AppendError, Expect, NewEvent, Query, Store, disk::MemoryDisk};
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// let paid = || [NewEvent::bytes("paid", b"9.50".as_slice()).tag("request:5e1f")];
    /// let known = || Query::any().tags(["request:5e1f"]);
    /// store.append("invoice-4", Expect::Any, paid()).fail_if_exists(known()).wait()?;
    /// let again = store.append("invoice-4", Expect::Any, paid()).fail_if_exists(known()).wait();
    /// assert!(matches!(again, Err(AppendError::AlreadyThere(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Append::fail_if`], but [`AppendError::AlreadyThere`] where it does not hold.
    pub fn fail_if_exists(mut self, query: Query) -> Self {
        self.begin.condition(ConditionKind::FailIfExists, query, Position::default());
        self
    }

    /// Claims the events' places now, so that appends that are submitted one after another are in the
    /// log in this order, and returns without waiting for the disk. They commit whether the result is
    /// waited for or not; but for an append with a condition that an event which is not durable yet seems to fail, or with
    /// an id that such an event seems to have: that is decided when it is waited for.
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
        self.begin.submit().map(Pending)
    }
}

impl Check {
    pub(crate) fn new(writer: Option<Arc<Writer>>, request: Result<Reused, AppendError>) -> Self {
        Self { begin: Begin::new(writer, request) }
    }

    /// Blocks until it is known whether the stream is as expected, and gives the version of its last
    /// event, if it has one. What the answer is based on is durable.
    ///
    /// # Errors
    /// [`AppendError`].
    pub fn wait(mut self) -> Result<Option<u64>, AppendError> {
        self.begin.block()?.wait().map(Settled::version)
    }
}

impl IntoFuture for Append {
    type Output = Result<Receipt, AppendError>;
    type IntoFuture = AppendFuture;

    fn into_future(self) -> AppendFuture {
        AppendFuture(Course::new(self.begin))
    }
}

impl IntoFuture for Check {
    type Output = Result<Option<u64>, AppendError>;
    type IntoFuture = CheckFuture;

    fn into_future(self) -> CheckFuture {
        CheckFuture(Course::new(self.begin))
    }
}

/// The future of an [`Append`]. Nothing is claimed before it is polled first; from then on the append
/// commits even if the future is dropped.
#[derive(Debug)]
pub struct AppendFuture(Course);

impl Future for AppendFuture {
    type Output = Result<Receipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map_ok(Settled::receipt)
    }
}

/// The future of a [`Check`].
#[derive(Debug)]
pub struct CheckFuture(Course);

impl Future for CheckFuture {
    type Output = Result<Option<u64>, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map_ok(Settled::version)
    }
}
