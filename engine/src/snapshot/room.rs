//! Everything about the snapshots of an open store, and its threads.
//!
//! Owns when threads begin and end: none before the first snapshot is taken. `store` makes it and closes it; `folded` and
//! `handle` are how users reach it.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use super::compactor::Compactor;
use super::figures::Figures;
use super::fold::Fold;
use super::options::SnapshotOptions;
use super::segments::{NotWritten, Segments};
use super::taking::Takers;
use crate::commit;
use crate::error::{FileError, SnapshotError};
use crate::read::Reads;
use crate::sync::let_others_go_first;

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    pub(super) reads: Arc<Reads>,
    pub(super) segments: Segments,
    pub(super) takers: Takers,
    pub(super) compactor: Compactor,
    /// Whether the store was opened for writing.
    pub(super) writes: bool,
    /// Held by whoever changes something on his own thread; true once the store is closed.
    closed: RwLock<bool>,
    /// What is done on users' own threads is to end.
    closing: AtomicBool,
    has_threads: AtomicBool,
    /// Which fold has each name.
    folds: RwLock<HashMap<&'static str, (TypeId, &'static str)>>,
    /// None once it is closed.
    threads: Mutex<Option<Threads>>,
}

#[derive(Debug, Default)]
struct Threads {
    compactor: Option<JoinHandle<()>>,
    takers: Vec<JoinHandle<()>>,
}

impl Room {
    /// Finds what there is of snapshots. Where `commits` is given, the store is open for writing.
    ///
    /// # Errors
    /// [`FileError`], where the directory cannot be listed.
    pub(crate) fn open(
        reads: Arc<Reads>,
        options: SnapshotOptions,
        commits: Option<Arc<commit::Figures>>,
    ) -> Result<Arc<Self>, FileError> {
        let figures = Arc::new(Figures::default());
        let writes = commits.is_some();
        let disk = Arc::clone(&reads.disk);
        let segments = Segments::open(disk, reads.store, options, figures, writes)?;
        Ok(Arc::new(Self {
            reads,
            segments,
            takers: Takers::default(),
            compactor: Compactor::new(commits.unwrap_or_default()),
            writes,
            closed: RwLock::new(!writes),
            closing: AtomicBool::new(false),
            has_threads: AtomicBool::new(false),
            folds: RwLock::default(),
            threads: Mutex::new(Some(Threads::default())),
        }))
    }

    /// Notes that a fold is used, under its name.
    ///
    /// # Errors
    /// The name of another fold's type that has the same name: each would go on from the other's snapshots.
    pub(super) fn register<F: Fold>(&self) -> Result<(), &'static str> {
        let (id, type_name) = (TypeId::of::<F>(), std::any::type_name::<F>());
        let known = self.folds.read().unwrap_or_else(PoisonError::into_inner).get(F::NAME).copied();
        let (known, other) = known.unwrap_or_else(|| {
            let mut folds = self.folds.write().unwrap_or_else(PoisonError::into_inner);
            *folds.entry(F::NAME).or_insert((id, type_name))
        });
        if known == id { Ok(()) } else { Err(other) }
    }

    /// For a change on the caller's thread: the store is not closed before this is dropped.
    ///
    /// # Errors
    /// [`SnapshotError::ReadOnly`], where the store is open for reading only, or closed.
    pub(super) fn change(&self) -> Result<RwLockReadGuard<'_, bool>, SnapshotError> {
        let closed = self.closed.read().unwrap_or_else(PoisonError::into_inner);
        if *closed || self.closing.load(Ordering::Relaxed) {
            return Err(SnapshotError::ReadOnly);
        }
        Ok(closed)
    }

    /// Whether the store is being closed, for who is in the middle of something.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Has the threads begin, where they have not.
    pub(super) fn start(self: &Arc<Self>) {
        if self.has_threads.load(Ordering::Acquire) {
            return;
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(threads) = threads.as_mut() else { return };
        match self.spawn(threads) {
            Ok(()) => self.has_threads.store(true, Ordering::Release),
            Err(error) => {
                // The next one tries it again.
                let error = FileError::new("starting", "a thread of snapshots", error);
                self.segments.figures.failed(&error);
                self.give_up_waiting(&error.into());
            }
        }
    }

    /// Has those threads begin that have not: the compactor, and as many others as can be had, one at least.
    fn spawn(self: &Arc<Self>, threads: &mut Threads) -> std::io::Result<()> {
        let spawn = |name: &str, run: fn(&Self)| {
            let room = Arc::clone(self);
            std::thread::Builder::new().name(name.into()).spawn(move || {
                let_others_go_first();
                run(&room);
            })
        };
        if threads.compactor.is_none() {
            // There may be garbage of earlier openings.
            self.compactor.ring();
            threads.compactor = Some(spawn("stratalog-compact", |room| room.compactor.run(room))?);
        }
        while threads.takers.len() < self.segments.options.threads {
            match spawn("stratalog-snap", Self::take_all) {
                Ok(taker) => threads.takers.push(taker),
                Err(error) if threads.takers.is_empty() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "there are fewer threads for snapshots");
                    break;
                }
            }
        }
        Ok(())
    }

    /// Ends the threads, and seals what was taken. What waits is not taken.
    pub(crate) fn close(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = threads.take() else { return };
        self.closing.store(true, Ordering::Relaxed);
        self.takers.stop();
        self.compactor.stop();
        for thread in running.takers.into_iter().chain(running.compactor) {
            if thread.thread().id() == std::thread::current().id() {
                // A waker on it has dropped the store.
                continue;
            }
            if thread.join().is_err() {
                // Snapshots are caches, so that nothing is lost by it.
                tracing::error!("a thread of the snapshots panicked");
            }
        }
        self.give_up_waiting(&SnapshotError::ReadOnly);
        *self.closed.write().unwrap_or_else(PoisonError::into_inner) = true;
        if let Err(NotWritten::File(error)) = self.segments.seal() {
            // It was counted; the next opening looks at what is there.
            tracing::debug!(%error, "snapshots were not sealed");
        }
    }
}
