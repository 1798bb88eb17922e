//! The three stores behind one call.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use stratalog::{Expect, NewEvent, Query, Store};
use stratalog_bench::PAYLOAD_BYTES;
use tephra::{
    AppendCondition, Event, EventType, Position, QueryItem, SegmentConfig, SegmentSet, Tag, Tags,
    WriteCoordinator, WriteHandle, WriterConfig,
};
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
#[derive(Debug)]
pub struct Unit<'a> {
    pub tag: &'a str,
    pub after: u64,
    pub events: usize,
}

/// An open store that takes conditional appends.
pub trait Appends: Send + Sync {
    /// Appends a unit, waits until it is durable, and gives the position of its last event.
    fn append(&self, unit: &Unit<'_>) -> Result<u64, Failure>;

    fn close(self: Box<Self>) -> Result<(), Failure>;
}

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

impl Appends for Store {
    fn append(&self, unit: &Unit<'_>) -> Result<u64, Failure> {
        let event = NewEvent::bytes(EVENT_TYPE, PAYLOAD).tag(unit.tag);
        let events = std::iter::repeat_n(&event, unit.events);
        // Of one stream for each tag, which is a term more than the other stores have.
        let append = self.append(unit.tag, Expect::Any, events);
        let receipt = append.fail_if(Query::any().tags([unit.tag]), unit.after).wait()?;
        Ok(receipt.position().get())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok((*self).close()?)
    }
}

struct Tephra {
    coordinator: WriteCoordinator,
    handle: WriteHandle,
}

impl Appends for Tephra {
    fn append(&self, unit: &Unit<'_>) -> Result<u64, Failure> {
        let tags = Tags::new([Tag::new(unit.tag)?])?;
        let event_type = EventType::new(EVENT_TYPE)?;
        let event = || Event::new(&event_type, &tags, &PAYLOAD);
        let events = (0..unit.events).map(|_| event()).collect::<Result<Vec<_>, _>>()?;
        let query = tephra::Query::item(QueryItem::with_tags(tags.clone()));
        let condition = AppendCondition::new(query).after(Position::new(unit.after));
        Ok(self.handle.append(events, Some(condition))?.last.get())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.coordinator.shutdown();
        Ok(())
    }
}

/// UmaDB with a thread that commits what has come meanwhile in one go, as its server has.
struct UmaDb {
    jobs: SyncSender<Job>,
    writer: JoinHandle<DcbResult<()>>,
}

struct Job {
    events: Vec<DcbEvent>,
    condition: DcbAppendCondition,
    reply: SyncSender<DcbResult<u64>>,
}

impl UmaDb {
    fn open(directory: &Path) -> Result<Self, Failure> {
        let mvcc = Arc::new(Mvcc::new(false, StorageOptions::default().db_path(directory))?);
        let (jobs, queue) = sync_channel(UMADB_BATCH);
        Ok(Self { jobs, writer: std::thread::spawn(move || commit(&mvcc, &queue)) })
    }
}

fn commit(mvcc: &Mvcc, queue: &Receiver<Job>) -> DcbResult<()> {
    while let Ok(first) = queue.recv() {
        let mut writer = mvcc.writer()?;
        let jobs = std::iter::once(first).chain(queue.try_iter()).take(UMADB_BATCH);
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
    fn append(&self, unit: &Unit<'_>) -> Result<u64, Failure> {
        let event = || DcbEvent::new().event_type(EVENT_TYPE).data(PAYLOAD).tags([unit.tag]);
        let query = DcbQuery::new().item(DcbQueryItem::new().tags([unit.tag]));
        let (reply, outcome) = sync_channel(1);
        self.jobs.send(Job {
            events: (0..unit.events).map(|_| event()).collect(),
            condition: DcbAppendCondition::new(query).after(Some(unit.after)),
            reply,
        })?;
        Ok(outcome.recv()??)
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        drop(self.jobs);
        Ok(self.writer.join().map_err(|_| "the writer panicked")??)
    }
}
