//! The three stores behind one call.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use stratalog::{Expect, NewEvent, Query, Store};
use stratalog_bench::PAYLOAD_BYTES;
use tephra::{
    AppendCondition, Event, EventType, Position, QueryItem, SegmentConfig, SegmentSet, Tag, Tags,
    WriteCoordinator, WriteHandle, WriterConfig,
};
use tokio::sync::{mpsc, oneshot};
use umadb_core::db::{clone_dcb_error, process_append_request};
use umadb_core::mvcc::{Mvcc, StorageOptions};
use umadb_dcb::{DcbAppendCondition, DcbEvent, DcbQuery, DcbQueryItem, DcbResult};

use crate::Failure;

/// The stores, by their names.
pub const NAMES: [&str; 3] = ["stratalog", "tephra", "umadb"];
/// The length of tephra's segments, as in its own benchmarks.
const TEPHRA_SEGMENT_BYTES: usize = 1 << 30;
/// The most appends that UmaDB gets in one commit: as many as its server gives it.
const UMADB_BATCH: usize = 512;
const EVENT_TYPE: &str = "entry-posted";
const PAYLOAD: [u8; PAYLOAD_BYTES] = [0x5A; PAYLOAD_BYTES];

/// An append: some events with one tag, which no event behind a position may have.
#[derive(Debug, Clone, Copy)]
pub struct Unit<'a> {
    pub tag: &'a str,
    pub after: u64,
    pub events: usize,
}

/// An open store that takes conditional appends.
pub trait Appends: Send + Sync {
    /// Appends a unit, waits until it is durable, and gives the position of its last event. For a thread, which sleeps
    /// meanwhile.
    fn append(&self, unit: Unit<'_>) -> Result<u64, Failure>;

    /// The same for a task.
    fn append_async<'a>(&'a self, unit: Unit<'a>) -> Appending<'a>;

    fn close(self: Box<Self>) -> Result<(), Failure>;
}

/// What gives the position of an append's last event.
pub type Appending<'a> = Pin<Box<dyn Future<Output = Result<u64, Failure>> + Send + 'a>>;

/// Opens a new store.
pub fn open(name: &str, directory: &Path) -> Result<Box<dyn Appends>, Failure> {
    Ok(match name {
        "stratalog" => Box::new(Store::open(directory)?),
        "tephra" => {
            let segments = SegmentSet::open(directory, SegmentConfig::new(TEPHRA_SEGMENT_BYTES))?;
            let (coordinator, handle) = WriteCoordinator::start(segments, WriterConfig::default())?;
            Box::new(Tephra { coordinator, handle })
        }
        _ => {
            std::fs::create_dir_all(directory)?;
            Box::new(UmaDb::open(directory)?)
        }
    })
}

/// Of one stream for each tag, which is a term more than the other stores have.
fn stratalog_append(store: &Store, unit: Unit<'_>) -> stratalog::Append {
    let event = NewEvent::bytes(EVENT_TYPE, PAYLOAD).tag(unit.tag);
    let append = store.append(unit.tag, Expect::Any, std::iter::repeat_n(&event, unit.events));
    append.fail_if(Query::any().tags([unit.tag]), unit.after)
}

impl Appends for Store {
    fn append(&self, unit: Unit<'_>) -> Result<u64, Failure> {
        Ok(stratalog_append(self, unit).wait()?.position().get())
    }

    fn append_async<'a>(&'a self, unit: Unit<'a>) -> Appending<'a> {
        Box::pin(async move { Ok(stratalog_append(self, unit).await?.position().get()) })
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok((*self).close()?)
    }
}

struct Tephra {
    coordinator: WriteCoordinator,
    handle: WriteHandle,
}

/// The events of a unit, and its condition.
fn tephra_append(unit: Unit<'_>) -> Result<(Vec<Event>, AppendCondition), Failure> {
    let tags = Tags::new([Tag::new(unit.tag)?])?;
    let event_type = EventType::new(EVENT_TYPE)?;
    let event = || Event::new(&event_type, &tags, &PAYLOAD);
    let events = (0..unit.events).map(|_| event()).collect::<Result<Vec<_>, _>>()?;
    let query = tephra::Query::item(QueryItem::with_tags(tags.clone()));
    Ok((events, AppendCondition::new(query).after(Position::new(unit.after))))
}

impl Appends for Tephra {
    fn append(&self, unit: Unit<'_>) -> Result<u64, Failure> {
        let (events, condition) = tephra_append(unit)?;
        Ok(self.handle.append(events, Some(condition))?.last.get())
    }

    fn append_async<'a>(&'a self, unit: Unit<'a>) -> Appending<'a> {
        Box::pin(async move {
            let (events, condition) = tephra_append(unit)?;
            Ok(self.handle.append_async(events, Some(condition)).await?.last.get())
        })
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.coordinator.shutdown();
        Ok(())
    }
}

/// UmaDB with a thread that commits what has come meanwhile in one go, as its server has.
struct UmaDb {
    jobs: mpsc::Sender<Job>,
    writer: JoinHandle<DcbResult<()>>,
}

struct Job {
    events: Vec<DcbEvent>,
    condition: DcbAppendCondition,
    reply: oneshot::Sender<DcbResult<u64>>,
}

impl UmaDb {
    fn open(directory: &Path) -> Result<Self, Failure> {
        let mvcc = Arc::new(Mvcc::new(false, StorageOptions::default().db_path(directory))?);
        let (jobs, queue) = mpsc::channel(UMADB_BATCH);
        Ok(Self { jobs, writer: std::thread::spawn(move || commit(&mvcc, queue)) })
    }

    fn job(unit: Unit<'_>) -> (Job, oneshot::Receiver<DcbResult<u64>>) {
        let event = || DcbEvent::new().event_type(EVENT_TYPE).data(PAYLOAD).tags([unit.tag]);
        let events = (0..unit.events).map(|_| event()).collect();
        let query = DcbQuery::new().item(DcbQueryItem::new().tags([unit.tag]));
        let condition = DcbAppendCondition::new(query).after(Some(unit.after));
        let (reply, outcome) = oneshot::channel();
        (Job { events, condition, reply }, outcome)
    }
}

fn commit(mvcc: &Mvcc, mut queue: mpsc::Receiver<Job>) -> DcbResult<()> {
    while let Some(first) = queue.blocking_recv() {
        let mut writer = mvcc.writer()?;
        let rest = std::iter::from_fn(|| queue.try_recv().ok());
        let jobs = std::iter::once(first).chain(rest).take(UMADB_BATCH);
        let mut outcomes = Vec::new();
        for Job { events, condition, reply } in jobs {
            let outcome =
                process_append_request(events, Some(condition), None, mvcc, &mut writer, None);
            outcomes.push((reply, outcome));
        }
        let committed = mvcc.commit(&mut writer);
        for (reply, outcome) in outcomes {
            let failed = committed.as_ref().err().map(clone_dcb_error);
            // Who asked may have given up.
            let _ = reply.send(failed.map_or(outcome, Err));
        }
        committed?;
    }
    Ok(())
}

impl Appends for UmaDb {
    fn append(&self, unit: Unit<'_>) -> Result<u64, Failure> {
        let (job, outcome) = Self::job(unit);
        self.jobs.blocking_send(job)?;
        Ok(outcome.blocking_recv()??)
    }

    fn append_async<'a>(&'a self, unit: Unit<'a>) -> Appending<'a> {
        Box::pin(async move {
            let (job, outcome) = Self::job(unit);
            self.jobs.send(job).await?;
            Ok(outcome.await??)
        })
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        drop(self.jobs);
        Ok(self.writer.join().map_err(|_| "the writer panicked")??)
    }
}
