//! `SQLite` as a store under test: WAL, synchronous FULL, and a writer thread that batches.
//!
//! `SQLite` has no group commit of its own: here one thread takes all appends that wait, makes them one
//! transaction, and acknowledges them when it is committed. Readers have connections of their own.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use tokio::sync::oneshot;

use super::{
    Acknowledged, Append, Committed, Condition, Content, Ends, Events, Expect, NewEvent, Pending,
    Refused,
};
use super::{Seen, Tags, Target};
use crate::AnyError;

/// The database's file in the store's directory.
const FILE: &str = "events.sqlite";
/// How many appends may wait.
const QUEUE: usize = 65_536;
/// The most appends in one transaction.
const BATCH: usize = 4096;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS events (
        position INTEGER PRIMARY KEY,
        stream TEXT NOT NULL,
        version INTEGER NOT NULL,
        type TEXT NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX IF NOT EXISTS by_stream ON events (stream, version);
    CREATE TABLE IF NOT EXISTS tags (
        position INTEGER NOT NULL,
        place INTEGER NOT NULL,
        tag TEXT NOT NULL,
        PRIMARY KEY (position, place)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS by_tag ON tags (tag, position);";

/// What stands between the tags of an event that is read with all of them.
pub(super) const BETWEEN_TAGS: char = '\x1f';

/// The columns of an event, without its tags.
const PLAIN: &str = "SELECT position, stream, version, payload, '' FROM events";
/// The columns of an event, with its tags.
const TAGGED: &str = "SELECT position, stream, version, payload, coalesce((
    SELECT group_concat(tag, char(31) ORDER BY place) FROM tags WHERE tags.position = events.position
    ), '') FROM events";

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Sqlite(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: std::path::PathBuf,
    /// Connections for reading that nobody uses at the moment.
    idle: Mutex<Vec<Connection>>,
    figures: Arc<Figures>,
    /// Whether an event had tags when the store was opened; otherwise reading does not look for them.
    tagged: bool,
    writer: Option<Queue>,
}

#[derive(Debug)]
struct Queue {
    jobs: SyncSender<Job>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Figures {
    events: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
}

type Outcome = Result<Acknowledged, Refused>;

#[derive(Debug)]
enum Job {
    Append { append: Prepared, reply: oneshot::Sender<Outcome> },
    Stop,
}

#[derive(Debug)]
struct Prepared {
    stream: Box<str>,
    expect: Expect,
    condition: Option<Condition>,
    events: Vec<NewEvent>,
}

/// An append that was not sent yet.
#[derive(Debug)]
pub(crate) struct Unsent {
    store: Sqlite,
    append: Option<Prepared>,
}

/// An append that the writer thread has.
#[derive(Debug)]
pub(crate) struct Sent(oneshot::Receiver<Outcome>);

impl Target for Sqlite {
    type Append = Unsent;

    fn open(directory: &Path) -> Result<Self, AnyError> {
        std::fs::create_dir_all(directory)?;
        let file = directory.join(FILE);
        let connection = Connection::open(&file)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(SCHEMA)?;
        let last = "SELECT coalesce(max(position), 0) FROM events";
        let last: i64 = connection.query_row(last, [], |row| row.get(0))?;
        let (tagged, figures) = (is_tagged(&connection)?, Arc::new(Figures::default()));
        let (jobs, queue) = sync_channel(QUEUE);
        let writer = Writer {
            connection,
            next_position: last + 1,
            next_versions: HashMap::new(),
            figures: Arc::clone(&figures),
        };
        let thread =
            std::thread::Builder::new().name("sqlite".into()).spawn(move || writer.run(&queue))?;
        let writer = Some(Queue { jobs, thread: Mutex::new(Some(thread)) });
        Ok(Self(Arc::new(Inner { file, idle: Mutex::default(), figures, tagged, writer })))
    }

    fn open_read_only(directory: &Path) -> Result<Self, AnyError> {
        let file = directory.join(FILE);
        let connection = open_to_read(&file)?;
        let tagged = is_tagged(&connection)?;
        let (idle, figures) = (Mutex::new(vec![connection]), Arc::default());
        Ok(Self(Arc::new(Inner { file, idle, figures, tagged, writer: None })))
    }

    fn append(
        &self,
        stream: &str,
        expect: Expect,
        condition: Option<Condition>,
        events: Events<'_>,
    ) -> Unsent {
        let append = Prepared { stream: stream.into(), expect, condition, events: events.to_new() };
        Unsent { store: self.clone(), append: Some(append) }
    }

    fn read_stream(&self, stream: &str, mut see: impl FnMut(Seen<'_>)) -> Result<(), AnyError> {
        self.reading(|connection| {
            let select = format!("{} WHERE stream = ? ORDER BY version", self.columns());
            let mut select = connection.prepare_cached(&select)?;
            let mut rows = select.query([stream])?;
            while let Some(row) = rows.next()? {
                see(seen(row)?);
            }
            Ok(())
        })
    }

    fn query(&self, tag: &str, mut see: impl FnMut(Seen<'_>)) -> Result<(), AnyError> {
        const SELECT: &str = "SELECT position, stream, version, payload, tag
            FROM tags JOIN events USING (position) WHERE tag = ? ORDER BY position";
        self.reading(|connection| {
            let mut select = connection.prepare_cached(SELECT)?;
            let mut rows = select.query([tag])?;
            while let Some(row) = rows.next()? {
                see(seen(row)?);
            }
            Ok(())
        })
    }

    fn read_all(
        &self,
        mut see: impl FnMut(Seen<'_>) -> Result<(), AnyError>,
    ) -> Result<(), AnyError> {
        self.reading(|connection| {
            let select = format!("{} ORDER BY position", self.columns());
            let mut select = connection.prepare_cached(&select)?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                see(seen(row)?)?;
            }
            Ok(())
        })
    }

    fn scan(&self, mut see: impl FnMut(&[u8])) -> Result<(), AnyError> {
        self.reading(|connection| {
            let mut select =
                connection.prepare_cached("SELECT payload FROM events ORDER BY position")?;
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                see(row.get_ref(0)?.as_blob()?);
            }
            Ok(())
        })
    }

    fn committed(&self) -> Committed {
        let figures = &self.0.figures;
        Committed {
            events: figures.events.load(Ordering::Relaxed),
            batches: figures.batches.load(Ordering::Relaxed),
            bytes: figures.bytes.load(Ordering::Relaxed),
        }
    }

    fn content(&self) -> Result<Content, AnyError> {
        self.reading(|connection| {
            let number =
                |select: &str| connection.query_row(select, [], |row| row.get::<_, i64>(0));
            let events = number("SELECT count(*) FROM events")?;
            // The pages of the index are among them: a row has no other way to be found.
            let bytes = number("PRAGMA page_count")? * number("PRAGMA page_size")?;
            Ok(Content { events: unsigned(events)?, log_bytes: unsigned(bytes)?, segments: 1 })
        })
    }

    fn backend(&self) -> String {
        let (version, file) = (rusqlite::version(), self.0.file.display());
        format!("SQLite {version} in {file}: WAL, synchronous FULL, a writer thread that batches")
    }

    fn check_itself(&self) -> Result<(), AnyError> {
        self.reading(|connection| {
            let verdict: String =
                connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            if verdict == "ok" { Ok(()) } else { Err(verdict.into()) }
        })
    }

    fn close(self) -> Result<(), AnyError> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let Some(writer) = &self.0.writer else { return Ok(()) };
        let thread = writer.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return Ok(()) };
        // A writer that has failed is gone already.
        let _ = writer.jobs.send(Job::Stop);
        Ok(thread.join().map_err(|_| "the writer panicked")?)
    }
}

impl Sqlite {
    /// What is selected of events.
    fn columns(&self) -> &'static str {
        if self.0.tagged { TAGGED } else { PLAIN }
    }

    fn reading<R>(
        &self,
        read: impl FnOnce(&Connection) -> Result<R, AnyError>,
    ) -> Result<R, AnyError> {
        let idle = || self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let connection = match taken {
            Some(connection) => connection,
            None => open_to_read(&self.0.file)?,
        };
        let outcome = read(&connection);
        idle().push(connection);
        outcome
    }
}

impl Append for Unsent {
    type Pending = Sent;

    fn wait(mut self) -> Outcome {
        self.send()?.wait()
    }

    async fn finish(mut self) -> Outcome {
        self.send()?.await
    }

    fn try_submit(&mut self) -> Result<Option<Sent>, Refused> {
        let Some(append) = self.append.take() else { return Err(gone()) };
        let Some(writer) = &self.store.0.writer else { return Err(gone()) };
        let (reply, pending) = oneshot::channel();
        match writer.jobs.try_send(Job::Append { append, reply }) {
            Ok(()) => Ok(Some(Sent(pending))),
            Err(TrySendError::Full(Job::Append { append, .. })) => {
                self.append = Some(append);
                Ok(None)
            }
            Err(_) => Err(gone()),
        }
    }
}

impl Unsent {
    /// Sends it, waiting for room in the queue, which is longer than there are clients that wait.
    fn send(&mut self) -> Result<Sent, Refused> {
        let Some(append) = self.append.take() else { return Err(gone()) };
        let Some(writer) = &self.store.0.writer else { return Err(gone()) };
        let (reply, pending) = oneshot::channel();
        writer.jobs.send(Job::Append { append, reply }).map_err(|_| gone())?;
        Ok(Sent(pending))
    }
}

impl Future for Sent {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.0).poll(context).map(|reply| reply.unwrap_or_else(|_| Err(gone())))
    }
}

impl Pending for Sent {
    fn wait(self) -> Outcome {
        self.0.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }
}

fn gone() -> Refused {
    Refused::Failed("the store takes no appends (any more)".into())
}

fn open_to_read(file: &Path) -> Result<Connection, AnyError> {
    Ok(Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

fn is_tagged(connection: &Connection) -> Result<bool, AnyError> {
    Ok(connection.query_row("SELECT EXISTS (SELECT 1 FROM tags)", [], |row| row.get(0))?)
}

fn seen<'a>(row: &'a rusqlite::Row<'_>) -> Result<Seen<'a>, AnyError> {
    Ok(Seen {
        position: unsigned(row.get(0)?)?,
        stream: row.get_ref(1)?.as_str()?,
        version: unsigned(row.get(2)?)?,
        payload: row.get_ref(3)?.as_blob()?,
        tags: Tags::Joined(row.get_ref(4)?.as_str()?),
    })
}

fn unsigned(number: i64) -> Result<u64, AnyError> {
    Ok(u64::try_from(number)?)
}

/// The thread that writes.
#[derive(Debug)]
struct Writer {
    connection: Connection,
    next_position: i64,
    /// The next versions of the streams that were appended to.
    next_versions: HashMap<Box<str>, i64>,
    figures: Arc<Figures>,
}

impl Writer {
    /// Writes what is sent until it is told to stop, or a transaction fails: then who waits learns it
    /// from the replies that never come.
    fn run(mut self, queue: &Receiver<Job>) {
        let mut replies = Vec::new();
        while let Ok(first) = queue.recv() {
            let jobs = std::iter::once(first).chain(queue.try_iter()).take(BATCH);
            let outcome = self.transact(jobs, &mut replies);
            match outcome {
                Ok(stop) => {
                    for (reply, outcome) in replies.drain(..) {
                        // Who does not wait any more need not be told.
                        let _: Result<(), Outcome> = oneshot::Sender::send(reply, outcome);
                    }
                    if stop {
                        return;
                    }
                }
                Err(error) => {
                    eprintln!("SQLite failed: {error}");
                    return;
                }
            }
        }
    }

    /// Makes one transaction of these appends; the replies are to be sent once it is committed, which it
    /// is then. Says whether to stop.
    fn transact(
        &mut self,
        jobs: impl Iterator<Item = Job>,
        replies: &mut Vec<(oneshot::Sender<Outcome>, Outcome)>,
    ) -> Result<bool, AnyError> {
        let (mut events, mut bytes, mut stop) = (0, 0, false);
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        for job in jobs {
            let Job::Append { append, reply } = job else {
                stop = true;
                break;
            };
            let outcome = self.append(&append)?;
            if outcome.is_ok() {
                events += append.events.len() as u64;
                bytes += append.events.iter().map(|one| one.payload().len() as u64).sum::<u64>();
            }
            replies.push((reply, outcome));
        }
        self.connection.execute_batch("COMMIT")?;
        self.figures.events.fetch_add(events, Ordering::Relaxed);
        self.figures.batches.fetch_add(u64::from(events > 0), Ordering::Relaxed);
        self.figures.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(stop)
    }

    /// Checks an append and inserts its events.
    fn append(&mut self, append: &Prepared) -> Result<Outcome, AnyError> {
        const INSERT: &str = "INSERT INTO events VALUES (?, ?, ?, ?, ?)";
        const INSERT_TAG: &str = "INSERT INTO tags VALUES (?, ?, ?)";
        let first = self.next_version(&append.stream)?;
        let last = u64::try_from(first - 1).ok();
        let holds = match append.expect {
            Expect::Any => true,
            Expect::NoStream => last.is_none(),
            Expect::Exists => last.is_some(),
            Expect::Version(version) => last == Some(version),
        };
        if !holds {
            return Ok(Err(Refused::Conflict(Ends { durable: last, claimed: last })));
        }
        if let Some(Condition { tag, after }) = append.condition {
            const FIRST: &str = "SELECT min(position) FROM tags WHERE tag = ? AND position > ?";
            let mut select = self.connection.prepare_cached(FIRST)?;
            let after = i64::try_from(after.unwrap_or_default())?;
            let first: Option<i64> = select.query_row(params![&*tag, after], |row| row.get(0))?;
            if let Some(first) = first {
                return Ok(Err(Refused::Condition(unsigned(first)?)));
            }
        }
        let mut insert = self.connection.prepare_cached(INSERT)?;
        let mut insert_tag = self.connection.prepare_cached(INSERT_TAG)?;
        let (mut position, mut version) = (self.next_position, first);
        for event in &append.events {
            let (name, payload) = (event.event_type(), event.payload());
            insert.execute(params![position, &*append.stream, version, name, payload])?;
            for (place, tag) in (0_i64..).zip(event.iter_tags()) {
                insert_tag.execute(params![position, place, tag])?;
            }
            (position, version) = (position + 1, version + 1);
        }
        if let Some(next) = self.next_versions.get_mut(&*append.stream) {
            *next = version;
        }
        let acknowledged = Acknowledged {
            version: unsigned(first)?,
            position: unsigned(self.next_position)?,
            repeated: false,
        };
        self.next_position = position;
        Ok(Ok(acknowledged))
    }

    fn next_version(&mut self, stream: &str) -> Result<i64, AnyError> {
        const LAST: &str =
            "SELECT version FROM events WHERE stream = ? ORDER BY version DESC LIMIT 1";
        if let Some(&next) = self.next_versions.get(stream) {
            return Ok(next);
        }
        let mut select = self.connection.prepare_cached(LAST)?;
        let last: Option<i64> = select.query_row([stream], |row| row.get(0)).optional()?;
        let next = last.map_or(0, |last| last + 1);
        self.next_versions.insert(stream.into(), next);
        Ok(next)
    }
}
