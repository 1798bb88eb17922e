//! stratalog as a store under test.
//!
//! Owns the translation of [`Target`] into its interface. Of the few files with `unsafe`.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use stratalog::{
    AppendError, Event as _, Folded, Policy, Query, Receipt, SnapshotOptions, Store, StreamConflict,
};

use super::{
    Acknowledged, Append, Committed, Condition, Content, Ends, Events, Expect, Pending, Refused,
};
use super::{Seen, Tags, Target};
use crate::AnyError;
use crate::workload::ledger::Ledgers;
use crate::workload::typed::{ArchivedPosted, Posted};

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Stratalog {
    store: Store,
    told: Told,
}

/// Who is told of acknowledged appends, where snapshots are taken at them.
type Told = Option<Arc<Folded<Ledgers>>>;

/// An append that was encoded.
#[derive(Debug)]
pub(crate) struct Encoded(stratalog::Append, Told);

/// An append that has its place in the log.
#[derive(Debug)]
pub(crate) struct Claimed(stratalog::Pending, Told);

#[cfg(test)]
impl Stratalog {
    /// A store without files.
    pub(crate) fn in_memory() -> Self {
        let disk = Arc::new(stratalog::disk::MemoryDisk::new());
        Self::of(Store::options().open_on(disk).unwrap())
    }
}

impl Stratalog {
    fn of(store: Store) -> Self {
        Self { store, told: None }
    }
}

impl Target for Stratalog {
    type Append = Encoded;

    fn open(directory: &Path) -> Result<Self, AnyError> {
        Ok(Self::of(Store::options().open(directory)?))
    }

    fn open_with_snapshots(
        directory: &Path,
        options: SnapshotOptions,
        every: Option<u64>,
    ) -> Result<Self, AnyError> {
        let store = Store::options().snapshots(options).open(directory)?;
        let told = |every| Arc::new(store.folded::<Ledgers>().snapshots(Policy::every(every)));
        let told = every.map(told);
        Ok(Self { store, told })
    }

    fn store(&self) -> Result<&Store, AnyError> {
        Ok(&self.store)
    }

    fn open_read_only(directory: &Path) -> Result<Self, AnyError> {
        Ok(Self::of(Store::options().open_read_only(directory)?))
    }

    fn append(
        &self,
        stream: &str,
        expect: Expect,
        condition: Option<Condition>,
        events: Events<'_>,
    ) -> Encoded {
        let append = match events {
            Events::New(events) => self.store.append(stream, expect, events),
            Events::Typed(values) => self.store.append(stream, expect, values),
        };
        let append = match condition {
            None => append,
            Some(Condition { tag, after }) => {
                let query = Query::any().tags([tag]);
                match after {
                    Some(after) => append.fail_if(query, after),
                    None => append.fail_if_exists(query),
                }
            }
        };
        Encoded(append, self.told.clone())
    }

    fn read_stream(&self, stream: &str, mut see: impl FnMut(Seen<'_>)) -> Result<(), AnyError> {
        let mut reader = self.store.read_stream(stream).forward();
        while let Some(batch) = reader.next_batch()? {
            for event in &batch {
                see(seen(event));
            }
        }
        Ok(())
    }

    fn query(&self, tag: &str, mut see: impl FnMut(Seen<'_>)) -> Result<(), AnyError> {
        let mut reader = self.store.query(Query::any().tags([tag])).forward();
        while let Some(batch) = reader.next_batch()? {
            for event in &batch {
                see(seen(event));
            }
        }
        Ok(())
    }

    fn read_all(
        &self,
        mut see: impl FnMut(Seen<'_>) -> Result<(), AnyError>,
    ) -> Result<(), AnyError> {
        let mut reader = self.store.read_all().forward();
        while let Some(batch) = reader.next_batch()? {
            for event in &batch {
                see(seen(event))?;
            }
        }
        Ok(())
    }

    fn scan(&self, mut see: impl FnMut(&[u8])) -> Result<(), AnyError> {
        let mut reader = self.store.read_all().forward();
        while let Some(batch) = reader.next_batch()? {
            for event in &batch {
                see(event.payload());
            }
        }
        Ok(())
    }

    fn scan_typed(&self, mut see: impl FnMut(&ArchivedPosted)) -> Result<(), AnyError> {
        let mut reader = self.store.read_all().forward();
        while let Some(batch) = reader.next_batch()? {
            for event in &batch {
                let value = event.get::<Posted>()?;
                see(value.ok_or_else(|| another_type(event))?);
            }
        }
        Ok(())
    }

    unsafe fn scan_unchecked(&self, mut see: impl FnMut(&ArchivedPosted)) -> Result<(), AnyError> {
        let mut reader = self.store.read_all().forward();
        while let Some(batch) = reader.next_batch()? {
            for event in &batch {
                // SAFETY: the caller's: a check has found this payload to be a value of the type, and events do not
                // change. Such stores are filled by `--typed`, which appends values.
                let value = unsafe { event.get_unchecked::<Posted>() }?;
                see(value.ok_or_else(|| another_type(event))?);
            }
        }
        Ok(())
    }

    fn committed(&self) -> Committed {
        let stats = self.store.write_stats();
        Committed { events: stats.events, batches: stats.batches, bytes: stats.batch_bytes }
    }

    fn content(&self) -> Result<Content, AnyError> {
        let stats = self.store.stats()?;
        let (events, log_bytes, segments) = (stats.events, stats.log_bytes, stats.segments);
        Ok(Content { events, log_bytes, segments })
    }

    fn backend(&self) -> String {
        self.store.backend()
    }

    fn check_itself(&self) -> Result<(), AnyError> {
        match self.store.verify(|_, _| {})?.findings.first() {
            Some(finding) => Err(finding.to_string().into()),
            None => Ok(()),
        }
    }

    fn close(self) -> Result<(), AnyError> {
        Ok(self.store.close()?)
    }
}

impl Append for Encoded {
    type Pending = Claimed;

    fn wait(self) -> Result<Acknowledged, Refused> {
        outcome(self.0.wait(), &self.1)
    }

    async fn finish(self) -> Result<Acknowledged, Refused> {
        outcome(self.0.await, &self.1)
    }

    fn try_submit(&mut self) -> Result<Option<Claimed>, Refused> {
        match self.0.try_submit() {
            Ok(pending) => Ok(Some(Claimed(pending, self.1.take()))),
            Err(AppendError::Busy) => Ok(None),
            Err(error) => Err(refused(error)),
        }
    }
}

impl Future for Claimed {
    type Output = Result<Acknowledged, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|done| outcome(done, &self.1))
    }
}

impl Pending for Claimed {
    fn wait(self) -> Result<Acknowledged, Refused> {
        outcome(self.0.wait(), &self.1)
    }
}

/// What came of an append. Telling of it is the client's work, so it counts as a part of the append.
fn outcome(outcome: Result<Receipt, AppendError>, told: &Told) -> Result<Acknowledged, Refused> {
    match outcome {
        Ok(receipt) => {
            if let Some(ledgers) = told {
                ledgers.appended(&receipt);
            }
            Ok(Acknowledged {
                version: receipt.versions().start,
                position: receipt.first_position().get(),
                repeated: receipt.is_repeated(),
            })
        }
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: AppendError) -> Refused {
    match error {
        AppendError::Conflict(conflict) | AppendError::AlreadyThere(conflict) => {
            match (conflict.streams().next(), conflict.conditions().next()) {
                (None, Some(failed)) => Refused::Condition(failed.position().get()),
                (stream, _) => Refused::Conflict(Ends {
                    durable: stream.and_then(StreamConflict::actual),
                    claimed: stream.and_then(StreamConflict::claimed),
                }),
            }
        }
        error => Refused::Failed(error.into()),
    }
}

/// The error of an event that is not of the type of typed loads.
#[cold]
fn another_type(event: stratalog::EventRef<'_>) -> AnyError {
    let (position, found) = (event.position().get(), event.event_type());
    let text = format!(
        "the event at position {position} is of the type {found:?}, and {:?} is to be read: fill the store with --typed",
        Posted::NAME
    );
    text.into()
}

fn seen(event: stratalog::EventRef<'_>) -> Seen<'_> {
    Seen {
        position: event.position().get(),
        stream: event.stream(),
        version: event.version(),
        payload: event.payload(),
        tags: Tags::Stratalog(event.tags()),
    }
}
