//! The store: what users hold. A façade, without logic of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::append::{Append, Check, Checkpoint, Expect, Reused, ToEvent, Transaction, Writer};
use crate::commit::{CommitEnd, Committer, Figures, Leader, Watermark, WriteStats};
use crate::disk::{Access, Disk, DiskLock};
use crate::error::{AppendError, CloseError, FileError, OpenError, ReadError};
use crate::event::{EventId, Position, Timestamp, check_stream};
use crate::format::checksum::StoreId;
use crate::format::manifest::CleanEnd;
use crate::limits::INDEX_SHARE_REBUILT;
use crate::log::{Catalogs, Indexer, Maintainer, Rebuilding, names};
use crate::maintain::{Stats, Verification, check_stored_types};
use crate::options::Options;
use crate::projection::{Project, Projection, Projections, Surroundings};
use crate::query::Query;
use crate::read::{EventView, ReadAll, ReadQuery, ReadStream, ReaderStreams, Reads};
use crate::recovery::{
    Case, Found, Judgement, Recovered, TornTail, catalog_to_read, inspect, recover,
};
use crate::snapshot::{Fold, Folded, LoadError, Loaded, Room, Snapshot, Snapshots};
use crate::subscribe::{ConsumerStats, Consumers, Subscribe};

/// An open event store. Cheap to clone; clones share it, and it is closed with the last of them, or by
/// [`Store::close`].
///
/// ```
/// use std::sync::Arc;
/// use stratalog::{Expect, NewEvent, Store, disk::MemoryDisk};
///
/// let store = Store::options().open_on(Arc::new(MemoryDisk::new()))?;
/// store.append("ticket-1", Expect::NoStream, [NewEvent::json("opened", &1)?]).wait()?;
/// store.append("ticket-1", Expect::Version(0), [NewEvent::json("closed", &2)?]).wait()?;
/// assert_eq!(store.stream_head("ticket-1")?, Some(1));
/// assert_eq!(store.head().get(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    reads: Arc<Reads>,
    case: Case,
    torn: Vec<TornTail>,
    snapshots: Arc<Room>,
    consumers: Arc<Consumers>,
    projections: Arc<Projections>,
    writing: Option<Writing>,
}

/// What a store that was opened for writing has running.
#[derive(Debug)]
struct Writing {
    writer: Arc<Writer>,
    maintainer: Arc<Maintainer>,
    figures: Arc<Figures>,
    threads: Mutex<Option<Threads>>,
}

#[derive(Debug)]
struct Threads {
    committer: JoinHandle<()>,
    maintainer: JoinHandle<()>,
    indexer: Option<JoinHandle<()>>,
    /// Held until all have ended.
    _lock: Box<dyn DiskLock>,
}

impl Store {
    /// Opens the store in a directory, with the default [`Options`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, OpenError> {
        Options::new().open(directory)
    }

    /// The settings with which a store can be opened.
    pub fn options() -> Options {
        Options::new()
    }

    pub(crate) fn open_writer(disk: Arc<dyn Disk>, options: &Options) -> Result<Self, OpenError> {
        let lock = disk.try_lock(names::LOCK).map_err(FileError::at("locking", names::LOCK))?;
        let lock = lock.ok_or_else(|| OpenError::Locked { directory: disk.describe() })?;
        let rebuilding = Rebuilding::new(options.index_bytes_max() / INDEX_SHARE_REBUILT);
        let recovered = recover(&disk, options, &rebuilding)?;
        tracing::info!(disk = disk.describe(), case = %recovered.case, "opened a store");
        let Recovered { manifest, catalog, resume, commit, watermark, case, torn } = recovered;
        // What is listed was compared before anything was changed; where types are not listed, it is now.
        check_stored_types(options.registered(), &catalog)?;
        let catalogs = Arc::new(Catalogs::new(catalog, Arc::clone(&rebuilding)));
        let watermark = Arc::new(Watermark::new(watermark));
        let reads = Arc::new(Reads {
            disk: Arc::clone(&disk),
            store: manifest.current().store,
            catalogs: Arc::clone(&catalogs),
            watermark: Arc::clone(&watermark),
            pool: Arc::default(),
        });
        let figures = Arc::new(Figures::default());
        let commits = Some(Arc::clone(&figures));
        let snapshots = Room::open(Arc::clone(&reads), options.snapshot_options(), commits)?;
        let indexer = Indexer::new(
            Arc::clone(&disk),
            Arc::clone(&catalogs),
            Arc::clone(&watermark),
            options.segment_bytes_max(),
        );
        let maintainer =
            Maintainer::new(disk, options.clone(), manifest, Arc::clone(&figures), rebuilding);
        let maintainer = Arc::new(maintainer);
        let leader = Leader::shared(watermark, Arc::clone(&figures), commit);
        let writer = Writer::new(
            resume,
            Arc::clone(&reads),
            Arc::clone(&maintainer),
            Arc::clone(&leader),
            Arc::clone(&figures),
            options.segment_bytes_max(),
            options.id_lookback_max(),
        );
        let (source, carrier) = (Arc::clone(&writer), Arc::clone(&reads.disk));
        let failed = |error| FileError::new("starting", "a thread", error);
        let committer = std::thread::Builder::new()
            .name("stratalog-commit".into())
            .spawn(move || Committer::new(source, leader, carrier).run())
            .map_err(failed)?;
        let (background, source) = (Arc::clone(&maintainer), Arc::clone(&writer));
        let spawned = std::thread::Builder::new()
            .name("stratalog-maintain".into())
            .spawn(move || background.run(&*source));
        let maintaining = match spawned {
            Ok(maintaining) => maintaining,
            Err(error) => {
                writer.close();
                let _ = committer.join();
                return Err(failed(error).into());
            }
        };
        // There may be something to write or to merge already.
        reads.catalogs.rebuilding.bell.ring();
        let indexing = std::thread::Builder::new()
            .name("stratalog-index".into())
            .spawn(move || indexer.run())
            // Nobody waits for it: what it would do is done by readers, or not at all.
            .inspect_err(|error| tracing::warn!(%error, "there is no thread for the index"))
            .ok();
        let threads =
            Threads { committer, maintainer: maintaining, indexer: indexing, _lock: lock };
        let writing = Writing { writer, maintainer, figures, threads: Mutex::new(Some(threads)) };
        Ok(Self::of(reads, case, torn, snapshots, Some(writing)))
    }

    pub(crate) fn open_reader(disk: Arc<dyn Disk>, options: &Options) -> Result<Self, OpenError> {
        let (mut found, passed) = look_beside_a_writer(&disk, options.salvages())?;
        // Beside a writer, only what is known to be no damage is shown.
        let shown = passed.filter(|_| found.case == Case::InUse);
        let watermark = shown.unwrap_or(found.tail.end.next_position) - 1;
        let tail = &mut found.tail.segments;
        let lives = tail.iter_mut().filter_map(|segment| Some(segment.take_live()?.0)).collect();
        let rebuilding = Rebuilding::new(options.index_bytes_max() / INDEX_SHARE_REBUILT);
        let catalog = catalog_to_read(&disk, &found, lives, &rebuilding)?;
        check_stored_types(options.registered(), &catalog)?;
        let reads = Arc::new(Reads {
            store: found.manifest.store,
            disk,
            catalogs: Arc::new(Catalogs::new(catalog, rebuilding)),
            watermark: Arc::new(Watermark::new(watermark)),
            pool: Arc::default(),
        });
        let snapshots = Room::open(Arc::clone(&reads), options.snapshot_options(), None)?;
        Ok(Self::of(reads, found.case, Vec::new(), snapshots, None))
    }

    fn of(
        reads: Arc<Reads>,
        case: Case,
        torn: Vec<TornTail>,
        snapshots: Arc<Room>,
        writing: Option<Writing>,
    ) -> Self {
        let (consumers, projections) = Default::default();
        let inner = Inner { reads, case, torn, snapshots, consumers, projections, writing };
        Self { inner: Arc::new(inner) }
    }

    /// Appends events to a stream, as one unit: all of them or none. Encodes them and claims nothing
    /// yet; see [`Append`] for the ways to wait. What is wrong with the events is reported there too.
    ///
    /// ```
    /// # use stratalog::{Expect, NewEvent, Store, disk::MemoryDisk};
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// let event = NewEvent::bytes("opened", b"printer on fire".as_slice());
    /// let receipt = store.append("ticket-42", Expect::NoStream, [&event]).wait()?;
    /// assert_eq!((receipt.version(), receipt.position().get()), (0, 1));
    /// let pending = store.append("ticket-42", Expect::Version(0), [&event]).submit()?;
    /// assert_eq!(pending.wait()?.version(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn append<E: ToEvent>(
        &self,
        stream: &str,
        expect: Expect,
        events: impl IntoIterator<Item = E>,
    ) -> Append {
        let writer = self.writer();
        let request = Reused::append(stream, expect, events, writer.map(Arc::as_ref));
        Append::new(writer.cloned(), request)
    }

    /// Checks that a stream is as expected, without appending. The answer is durable: it is not taken
    /// back by a crash.
    ///
    /// ```
    /// # use stratalog::{Expect, Store, disk::MemoryDisk};
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// assert_eq!(store.check("ticket-42", Expect::NoStream).wait()?, None);
    /// assert!(store.check("ticket-42", Expect::Exists).wait().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check(&self, stream: &str, expect: Expect) -> Check {
        Check::new(self.writer().cloned(), Reused::check(stream, expect))
    }

    /// Begins a transaction: events for several streams, checks and conditions, as one unit. See [`Transaction`].
    pub fn transaction(&self) -> Transaction {
        Transaction::new(self.writer().cloned())
    }

    /// How far a consumer has come, by the transactions that have [moved it](Transaction::checkpoint); at position 0
    /// where none has. Consumers are named by up to 244 bytes.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn checkpoint(&self, consumer: &str) -> Result<Checkpoint, ReadError> {
        Checkpoint::read(&self.inner.reads, consumer)
    }

    /// Loads the state of a stream, from its newest snapshot and the events that came after it: see [`Fold`], and
    /// [`Folded::load`], with the default [`Policy`](crate::Policy).
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load<F: Fold>(&self, stream: &str) -> Result<Loaded<F>, LoadError> {
        self.folded::<F>().load(stream)
    }

    /// The newest snapshot of a stream's state that is good, without a copy. See [`Folded::latest_snapshot`].
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn latest_snapshot<F: Fold>(&self, stream: &str) -> Result<Option<Snapshot<F>>, LoadError> {
        self.folded::<F>().latest_snapshot(stream)
    }

    /// The states of a fold, and when snapshots of them are taken.
    pub fn folded<F: Fold>(&self) -> Folded<F> {
        Folded::new(Arc::clone(&self.inner.snapshots))
    }

    /// The snapshots, to be looked after.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots::new(Arc::clone(&self.inner.snapshots))
    }

    /// Reads one stream.
    pub fn read_stream(&self, stream: &str) -> ReadStream {
        ReadStream::new(Arc::clone(&self.inner.reads), stream)
    }

    /// Reads all events.
    pub fn read_all(&self) -> ReadAll {
        ReadAll::new(Arc::clone(&self.inner.reads))
    }

    /// Reads the events that match a query.
    pub fn query(&self, query: Query) -> ReadQuery {
        ReadQuery::new(Arc::clone(&self.inner.reads), query)
    }

    /// Follows the log: what is stored behind a position, and then what is appended, as it becomes durable, in one loop. Any
    /// number may do so, each at its own pace: nobody who appends waits for a subscriber, and none for another.
    ///
    /// ```
    /// # use stratalog::{Expect, NewEvent, Query, Store, disk::MemoryDisk};
    /// use stratalog::Message;
    ///
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// store.append("ticket-1", Expect::NoStream, [NewEvent::json("opened", &1)?]).wait()?;
    /// let mut live = store.subscribe().filter(Query::any().types(["opened"])).start()?;
    /// loop {
    ///     match live.recv()? {
    ///         Message::Events(batch) => assert_eq!(batch.len(), 1),
    ///         Message::CaughtUp(position) => break assert_eq!(position.get(), 1),
    ///         Message::FellBehind { events, time } => println!("{events} events behind, {time:?}"),
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subscribe(&self) -> Subscribe {
        Subscribe::new(Arc::clone(&self.inner.reads), Arc::clone(&self.inner.consumers))
    }

    /// Has a read model follow the log, with its state kept in the engine. See [`Projection`].
    pub fn project<P: Projection>(&self, projection: P) -> Project<P> {
        let inner = &self.inner;
        let around = Surroundings {
            reads: Arc::clone(&inner.reads),
            room: Arc::clone(&inner.snapshots),
            consumers: Arc::clone(&inner.consumers),
            projections: Arc::clone(&inner.projections),
        };
        Project::new(projection, around)
    }

    /// How far the subscriptions and the lanes of projections have come that there are.
    pub fn consumers(&self) -> Vec<ConsumerStats> {
        let consumers = self.inner.consumers.all();
        consumers.iter().map(|consumer| consumer.stats(&self.inner.reads)).collect()
    }

    /// Lists the streams of a category, which is what stands before the first `-` of their names.
    pub fn streams(&self, category: &str) -> ReaderStreams {
        ReaderStreams::new(Arc::clone(&self.inner.reads), category)
    }

    /// The first position that was recorded at this time or after it, by the store's own clock, which never goes
    /// back; `None` where every durable event is older. Reads from there on with
    /// [`from`](crate::ReadAll::from).
    ///
    /// ```
    /// # use stratalog::{Expect, NewEvent, Store, Timestamp, disk::MemoryDisk};
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// let before = Timestamp::now();
    /// store.append("ticket-1", Expect::NoStream, [NewEvent::json("opened", &1)?]).wait()?;
    /// assert_eq!(store.at_time(before)?.map(|position| position.get()), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn at_time(&self, time: impl Into<Timestamp>) -> Result<Option<Position>, ReadError> {
        Ok(self.inner.reads.at_time(time.into().0)?.map(Position))
    }

    /// The durable event with this id.
    ///
    /// ```
    /// # use stratalog::{Expect, NewEvent, Store, disk::MemoryDisk};
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// let opened = NewEvent::json("opened", &1)?;
    /// let receipt = store.append("ticket-1", Expect::NoStream, [opened]).wait()?;
    /// let found = store.find(receipt.event_ids()[0])?.expect("it is durable");
    /// assert_eq!(found.event().stream(), "ticket-1");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn find(&self, id: EventId) -> Result<Option<EventView>, ReadError> {
        self.inner.reads.find(id.0)
    }

    /// The position of the last durable event; 0 where there is none.
    pub fn head(&self) -> Position {
        Position(self.inner.reads.watermark.get())
    }

    /// The version of a stream's last durable event; `None` where it has none.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn stream_head(&self, stream: &str) -> Result<Option<u64>, ReadError> {
        check_stream(stream)?;
        let reads = &self.inner.reads;
        let watermark = reads.watermark.get();
        reads.catalogs.head(stream, watermark)
    }

    /// Blocks until everything that was submitted before is durable.
    ///
    /// # Errors
    /// [`AppendError::Poisoned`], where a write failed.
    pub fn flush(&self) -> Result<(), AppendError> {
        match self.writer() {
            Some(writer) => writer.flush().map_err(AppendError::Poisoned),
            None => Ok(()),
        }
    }

    /// Writes what was submitted, records that the store was closed, and lets go of its directory. Other
    /// clones of it can still read; their appends get [`AppendError::Closed`]. Dropping the last clone
    /// does the same, but has nobody to tell of an error.
    ///
    /// # Errors
    /// [`CloseError`]; the store is closed all the same.
    pub fn close(self) -> Result<(), CloseError> {
        self.inner.close()
    }

    /// Figures about the store.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn stats(&self) -> Result<Stats, ReadError> {
        Stats::gather(&self.inner.reads)
    }

    /// What was written since the store was opened; all zero where it is open for reading only.
    pub fn write_stats(&self) -> WriteStats {
        self.inner.writing.as_ref().map(|writing| writing.figures.read()).unwrap_or_default()
    }

    /// How many bytes of the log's tail are kept in memory by batches and [views](crate::EventView) alone: their segments were
    /// sealed since, and nobody else needs them. Above [`PINNED_BYTES_MAX`](crate::limits::PINNED_BYTES_MAX) a new view is a copy
    /// of its event.
    pub fn pinned_bytes(&self) -> u64 {
        self.inner.reads.pool.pinned_bytes()
    }

    /// One line on what carries the store: which backend, where, and how it writes.
    pub fn backend(&self) -> String {
        self.inner.reads.disk.describe()
    }

    /// Reads everything, past the page cache, and checks every checksum, the chain and footers; and compares the index
    /// with the log, both ways.
    /// Changes nothing. `progress` is told how many bytes were read so far, and of how many.
    ///
    /// # Errors
    /// [`ReadError::File`], where the operating system reports an error. Damage is no error here, but
    /// what the [`Verification`] lists.
    pub fn verify(&self, progress: impl FnMut(u64, u64)) -> Result<Verification, ReadError> {
        Verification::run(&self.inner.reads, progress)
    }

    /// The store's identity, chosen when it was created.
    pub fn id(&self) -> StoreId {
        self.inner.reads.store
    }

    /// Which case of recovery's decision table this opening was.
    pub fn opened_as(&self) -> Case {
        self.inner.case
    }

    /// What this opening cut off: writes that were in flight and never acknowledged.
    pub fn torn_tail(&self) -> &[TornTail] {
        &self.inner.torn
    }

    fn writer(&self) -> Option<&Arc<Writer>> {
        self.inner.writing.as_ref().map(|writing| &writing.writer)
    }
}

/// Inspects a store for reading. A writer beside us may be in the middle of something: what contradicts
/// itself only for a moment is looked at again. Also says from which position on the log seemed to be
/// damaged at the look before.
fn look_beside_a_writer(
    disk: &Arc<dyn Disk>,
    salvage: bool,
) -> Result<(Found, Option<u64>), OpenError> {
    /// How often the same must be seen to be believed.
    const SAME_LOOKS: u32 = 3;
    const LOOKS_MAX: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(10);
    let (mut passed, mut before, mut same) = (None, String::new(), 1);
    for look in 1.. {
        let judgement = passed.map_or(Judgement::Strict, Judgement::Passed);
        let error = match inspect(&**disk, Access::Read, judgement) {
            Ok(Some(found)) => return Ok((found, passed)),
            Ok(None) => return Err(OpenError::NotFound { directory: disk.describe() }),
            Err(error) => error,
        };
        if let OpenError::Refused(refusal) = &error {
            passed = refusal.first_lost.or(passed);
        }
        let now = error.to_string();
        same = if now == before { same + 1 } else { 1 };
        if same < SAME_LOOKS && look < LOOKS_MAX {
            before = now;
            std::thread::sleep(PAUSE);
            continue;
        }
        if salvage && let Some(found) = inspect(&**disk, Access::Read, Judgement::Salvage)? {
            return Ok((found, None));
        }
        return Err(error);
    }
    unreachable!("the last look returns")
}

impl Inner {
    fn close(&self) -> Result<(), CloseError> {
        // What they have come to is saved among the snapshots.
        self.projections.close();
        let closed = self.close_log();
        // Only now: whoever follows the log sees all of it.
        self.reads.watermark.close();
        closed
    }

    fn close_log(&self) -> Result<(), CloseError> {
        let Some(writing) = &self.writing else { return Ok(()) };
        // Held to the end: whoever closes it at the same time returns when it is closed.
        let mut running = writing.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(threads) = running.take() else { return Ok(()) };
        self.snapshots.close();
        writing.writer.close();
        let committed = threads.committer.join();
        // After a failure an append may lead still.
        let end = writing.writer.end_leading();
        self.reads.catalogs.rebuilding.bell.stop();
        writing.maintainer.stop();
        let maintained = threads.maintainer.join();
        if threads.indexer.is_some_and(|indexer| indexer.join().is_err()) {
            // The index is a cache, so that nothing is lost by it.
            tracing::error!("the thread of the index panicked");
        }
        let ended = match (committed, maintained, writing.writer.poisoned()) {
            (_, _, Some(reason)) => Err(CloseError::Poisoned(reason)),
            (Ok(()), Ok(()), None) => writing.record_end(&end, self.reads.watermark.get()),
            _ => {
                let source = std::io::Error::other("a thread of the store panicked");
                Err(FileError::new("closing", "the log", source).into())
            }
        };
        writing.writer.unlock_segments();
        ended
    }
}

impl Writing {
    /// Records that the log was closed, and where it ends.
    fn record_end(&self, end: &CommitEnd, last_position: u64) -> Result<(), CloseError> {
        let active = self.writer.active();
        let clean_end = CleanEnd {
            segment: active.number(),
            data_end: active.content().data_end,
            last_sequence: end.durable_sequence,
            last_position,
            chain: end.chain,
        };
        self.maintainer
            .with_manifest(|manifest| manifest.replace(|next| next.clean_end = Some(clean_end)))?;
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "a store was dropped and could not be closed cleanly");
        }
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::NewEvent;
    use crate::disk::MemoryDisk;

    #[test]
    fn nobody_leads_once_leading_has_ended() {
        let disk = MemoryDisk::new();
        let store = Store::options().open_on(Arc::new(disk.clone())).unwrap();
        let append = || store.append("s", Expect::Any, [NewEvent::bytes("t", b"".as_slice())]);
        append().wait().unwrap();
        // As after a poisoned log was closed, while the thread of an append was not scheduled.
        store.inner.writing.as_ref().unwrap().writer.end_leading();
        assert!(matches!(append().wait(), Err(AppendError::Unknown { .. })));
        assert!(matches!(append().wait(), Err(AppendError::Poisoned(_))));
        assert!(store.close().is_err());
        let store = Store::options().open_on(Arc::new(disk)).unwrap();
        assert_eq!(store.head().get(), 1);
    }

    #[test]
    fn what_is_kept_of_an_append_does_not_keep_a_closed_store() {
        let store = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
        let append = || store.append("s", Expect::Any, [NewEvent::bytes("t", b"".as_slice())]);
        let pending = append().submit().unwrap();
        let receipt = append().within(Duration::from_mins(1)).wait().unwrap();
        let writer = Arc::downgrade(&store.inner.writing.as_ref().unwrap().writer);
        store.close().unwrap();
        assert!(writer.upgrade().is_none());
        receipt.durable().wait().unwrap();
        assert_eq!(pending.wait().unwrap().version(), 0);
    }
}
