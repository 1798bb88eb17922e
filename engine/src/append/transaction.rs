//! Transactions: what is appended to several streams, and checked of others, as one unit.
//!
//! Owns how a request is put together call by call. Calls `request` for it; `store` hands it to users.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::begin::{Begin, Course};
use super::checkpoint::Checkpoint;
use super::encode::ToEvent;
use super::expect::Expect;
use super::pending::{PendingTransaction, Settled};
use super::receipt::TransactionReceipt;
use super::reused::Reused;
use super::writer::Writer;
use crate::error::{AppendError, ConditionKind};
use crate::event::Position;
use crate::query::Query;

/// Events for any number of streams, and checks, that happen together or not at all. Encodes what it is given and
/// claims nothing; [`commit`](Transaction::commit) ends it.
///
/// Its events are next to each other in the log, in the order of the calls, and no reader sees some of them without the
/// others. All of its checks are about the streams and the log as they are before it, whatever it appends itself: to
/// append to a stream again, further events are given with [`Expect::Any`], or with the same expectation. Each check
/// that fails is reported, not just the first.
///
/// At most [`TRANSACTION_STREAMS_MAX`](crate::limits::TRANSACTION_STREAMS_MAX) streams; its events are together what
/// [one append](crate::Store::append) may have.
///
/// ```
/// # use stratalog::{AppendError, Expect, NewEvent, Query, Store, disk::MemoryDisk};
/// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// # let event = |name: &str| NewEvent::bytes(name, b"".as_slice());
/// let receipt = store
///     .transaction()
///     .append("order-7", Expect::NoStream, [event("placed")])
///     .append("stock-cups", Expect::Any, [event("reserved")])
///     .append("order-7", Expect::Any, [event("confirmed")])
///     .expect("customer-4", Expect::NoStream)
///     .fail_if_exists(Query::any().tags(["request:5e1f"]))
///     .commit()
///     .wait()?;
/// let parts: Vec<_> = receipt.parts().map(|part| (part.stream(), part.version())).collect();
/// assert_eq!(parts, [("order-7", 0), ("stock-cups", 0), ("order-7", 1)]);
///
/// let again = store
///     .transaction()
///     .append("order-7", Expect::NoStream, [event("placed")])
///     .expect("stock-cups", Expect::Version(5))
///     .commit()
///     .wait();
/// let Err(AppendError::Conflict(conflict)) = again else { panic!("placed twice") };
/// assert_eq!(conflict.streams().count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing happens before it is committed and waited for"]
pub struct Transaction {
    begin: Begin,
}

impl Transaction {
    pub(crate) fn new(writer: Option<Arc<Writer>>) -> Self {
        Self { begin: Begin::new(writer, Ok(Reused::empty())) }
    }

    /// Appends events to a stream, behind those that were given before, for whatever stream.
    ///
    /// # Errors
    /// Reported by the commit: what [`Store::append`](crate::Store::append) reports, and
    /// [`AppendError::Contradiction`] where another call expects what rules this out.
    pub fn append<E: ToEvent>(
        mut self,
        stream: &str,
        expect: Expect,
        events: impl IntoIterator<Item = E>,
    ) -> Self {
        self.begin.add(|request, writer| request.add(stream, expect, events, writer));
        self
    }

    /// Only checks that a stream is as expected, which may be one of the store's own.
    ///
    /// # Errors
    /// Reported by the commit: [`AppendError::Invalid`] and [`AppendError::Contradiction`].
    pub fn expect(mut self, stream: &str, expect: Expect) -> Self {
        self.begin.add(|request, _| request.expect(stream, expect));
        self
    }

    /// As [`Append::fail_if`](crate::Append::fail_if): happens only if no event behind `after` matches the query.
    ///
    /// # Errors
    /// As there.
    pub fn fail_if(mut self, query: Query, after: impl Into<Position>) -> Self {
        self.begin.condition(ConditionKind::FailIf, query, after.into());
        self
    }

    /// As [`Append::fail_if_exists`](crate::Append::fail_if_exists): happens only if no event matches the query.
    ///
    /// # Errors
    /// As there.
    pub fn fail_if_exists(mut self, query: Query) -> Self {
        self.begin.condition(ConditionKind::FailIfExists, query, Position::default());
        self
    }

    /// Moves the checkpoint of a consumer: what it appends because of what it has read, and how far it has read, are
    /// one unit then, so that each event is dealt with once whenever the process dies. Fails with a
    /// [`Conflict`](AppendError::Conflict) where somebody has moved it meanwhile.
    ///
    /// Checkpoints are events too, of the type and the category `$checkpoint`: a consumer that reads everything sees
    /// them, and had better not move its checkpoint only because of those.
    ///
    /// ```
    /// # use stratalog::{Expect, NewEvent, Query, Store, disk::MemoryDisk};
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// # let placed = NewEvent::bytes("placed", b"".as_slice());
    /// # store.append("order-7", Expect::Any, [placed]).wait()?;
    /// let mut checkpoint = store.checkpoint("invoicing")?;
    /// let placed = Query::any().types(["placed"]);
    /// let mut reader = store.query(placed).after(checkpoint.position()).forward();
    /// while let Some(batch) = reader.next_batch()? {
    ///     for event in &batch {
    ///         let invoice = NewEvent::bytes("invoiced", event.stream()).caused_by(event);
    ///         let moved = checkpoint.moved_to(event.position());
    ///         let transaction = store.transaction().append("invoices", Expect::Any, [invoice]);
    ///         transaction.checkpoint(&moved).commit().wait()?;
    ///         checkpoint = moved;
    ///     }
    /// }
    /// assert_eq!(store.checkpoint("invoicing")?, checkpoint);
    /// assert_eq!(store.stream_head("invoices")?, Some(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Reported by the commit: [`AppendError::CheckpointAfterHead`], [`AppendError::CheckpointNotMoved`],
    /// [`AppendError::CheckpointTwice`].
    pub fn checkpoint(mut self, moved: &Checkpoint) -> Self {
        self.begin.add(|request, writer| moved.add_to(request, writer));
        self
    }

    /// As [`Append::within`](crate::Append::within).
    pub fn within(mut self, time: Duration) -> Self {
        self.begin.change(|request| request.within = Some(time));
        self
    }

    /// Nothing is added any more. How it is waited for decides who does the work, as with an
    /// [`Append`](crate::Append). One without events only checks; what its answer is based on is durable.
    pub fn commit(mut self) -> Commit {
        self.begin.add(|request, _| {
            if request.targets.len() == 0 && request.conditions.is_none() {
                return Err(AppendError::EmptyTransaction);
            }
            // It may have taken a while to put it together.
            request.recorded_at = None;
            request.complete()
        });
        Commit { begin: self.begin }
    }
}

/// A [`Transaction`] to which nothing is added any more, and that claims nothing yet. As an
/// [`Append`](crate::Append), it is waited for by [`wait`](Commit::wait), `.await` or [`submit`](Commit::submit).
#[derive(Debug)]
#[must_use = "nothing happens before it is waited for or submitted"]
pub struct Commit {
    begin: Begin,
}

impl Commit {
    /// Blocks until the events are durable.
    ///
    /// # Errors
    /// [`AppendError`]; never [`AppendError::Busy`].
    pub fn wait(mut self) -> Result<TransactionReceipt, AppendError> {
        self.begin.block()?.wait().map(Settled::transaction)
    }

    /// As [`Append::submit`](crate::Append::submit).
    ///
    /// # Errors
    /// As there.
    pub fn submit(mut self) -> Result<PendingTransaction, AppendError> {
        self.try_submit()
    }

    /// As [`Append::try_submit`](crate::Append::try_submit).
    ///
    /// # Errors
    /// As there.
    pub fn try_submit(&mut self) -> Result<PendingTransaction, AppendError> {
        self.begin.submit().map(PendingTransaction)
    }
}

impl IntoFuture for Commit {
    type Output = Result<TransactionReceipt, AppendError>;
    type IntoFuture = CommitFuture;

    fn into_future(self) -> CommitFuture {
        CommitFuture(Course::new(self.begin))
    }
}

/// The future of a [`Commit`]. Nothing is claimed before it is polled first; from then on the transaction commits even
/// if the future is dropped.
#[derive(Debug)]
pub struct CommitFuture(Course);

impl Future for CommitFuture {
    type Output = Result<TransactionReceipt, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map_ok(Settled::transaction)
    }
}
