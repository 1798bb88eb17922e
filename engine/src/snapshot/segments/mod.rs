//! The segments of snapshots: files of their own in the store's directory, to which records are only ever added.
//!
//! Owns which of them there are, what is found in them, and how records get into them. One segment is open: its records are
//! in memory until it is full, then it is sealed, with an index of its keys, and mapped when it is looked into. Compaction
//! moves what is still wanted of sealed segments into new ones. Calls `format` and `disk`; the rest of `snapshot` calls it.
//!
//! Snapshots are caches. They are written behind, without a sync before their segment is sealed: a crash may lose the last
//! ones. What fails here ends what was being done, is counted, and is tried again after a while.

mod account;
mod adding;
mod compact;
mod drops;
mod found;
mod opening;
mod recent;
mod sealed;
mod writer;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

pub(crate) use compact::{NotCompacted, Slack};
pub(crate) use found::Held;
pub(crate) use sealed::{OpenedSegment, SealedSegment};

use self::adding::{ORDINAL_BITS, OpenSegment, Writing};
use self::drops::Drops;
use self::recent::Recent;
use super::figures::Figures;
use super::options::SnapshotOptions;
use crate::disk::{Disk, unlink_if_there};
use crate::error::FileError;
use crate::format::checksum::StoreId;
use crate::log::names;

/// The open segment is written in pieces of so many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Segments {
    pub disk: Arc<dyn Disk>,
    pub store: StoreId,
    pub options: SnapshotOptions,
    pub figures: Arc<Figures>,
    /// In the order of their numbers.
    sealed: ArcSwap<Vec<Arc<SealedSegment>>>,
    recent: Recent,
    /// Changed under the lock of `writing` alone.
    drops: Drops,
    writing: Mutex<Writing>,
    next_number: AtomicU64,
    /// Held by whoever compacts.
    compacting: Mutex<()>,
    /// How many wait for that who have no time: whoever does it in the background ends it.
    hurried: AtomicUsize,
    /// There is more garbage than there may be: nothing is written until it is compacted.
    is_crowded: AtomicBool,
    /// After a failure nothing is written before then.
    not_before: Mutex<Option<Instant>>,
}

/// Why a snapshot was not written.
#[derive(Debug, Clone)]
pub(crate) enum NotWritten {
    File(FileError),
    /// After a failure, or because of garbage, nothing is written for a while; or the store is open for reading only.
    NotNow,
    /// Snapshots of the key were dropped since the state began to be loaded: it may have begun with one of them.
    Overtaken,
    /// It would take more than a segment may have.
    TooLarge {
        bytes: u64,
        bytes_max: u64,
    },
}

impl Segments {
    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How large a segment gets.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.options.segment_bytes()
    }

    /// All that are sealed.
    pub(crate) fn sealed(&self) -> Arc<Vec<Arc<SealedSegment>>> {
        self.sealed.load_full()
    }

    /// Maps a sealed segment.
    ///
    /// # Errors
    /// What the operating system reports.
    pub(crate) fn opened(&self, segment: &SealedSegment) -> Result<Arc<OpenedSegment>, FileError> {
        let opened = segment.open(&*self.disk, self.store, &self.figures);
        opened.map_err(FileError::at("mapping", &segment.name()))
    }

    /// Waits until nobody compacts: who does it in the background gives way.
    fn hurry(&self) -> MutexGuard<'_, ()> {
        self.hurried.fetch_add(1, Ordering::Relaxed);
        let compacting = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        self.hurried.fetch_sub(1, Ordering::Relaxed);
        compacting
    }

    /// Whether somebody waits who has no time.
    pub(crate) fn is_hurried(&self) -> bool {
        self.hurried.load(Ordering::Relaxed) > 0
    }

    /// Has no snapshot of a key be used that there is now: from now on, and durably.
    ///
    /// # Errors
    /// [`FileError`]; then it is not durable.
    pub(crate) fn drop_key(&self, hash: u64) -> Result<(), FileError> {
        let writing = self.lock();
        self.drops.add(hash, self.last_sequence(&writing));
        self.drops.write(&*self.disk, self.store)
    }

    /// Has no snapshot be used that there is now, durably, and removes every file, of whatever there is: also of what is of no
    /// use.
    ///
    /// # Errors
    /// [`FileError`]. They are not used all the same, but where that could not be recorded, after the next opening.
    pub(crate) fn drop_all(&self) -> Result<(), FileError> {
        let _compacting = self.hurry();
        let mut writing = self.lock();
        let drops_before = self.drops.load();
        self.drops.add_all(self.last_sequence(&writing));
        writing.open = None;
        self.sealed.store(Arc::default());
        self.recent.clear();
        self.is_crowded.store(false, Ordering::Relaxed);
        // First of all that they are not to be used: then it does not matter in which order they go.
        let recorded = self.drops.write(&*self.disk, self.store);
        if recorded.is_err() && drops_before.last() > 0 {
            return recorded;
        }
        let listing = self.disk.list().map_err(FileError::at("listing", "the directory"))?;
        for name in listing.into_iter().map(|entry| entry.name) {
            if names::number_of_snapshots(&name).is_some() {
                unlink_if_there(&*self.disk, &name).map_err(FileError::at("removing", &name))?;
            }
        }
        self.disk.sync_dir().map_err(FileError::at("syncing", "the directory"))?;
        // Where there was no room for it, there is now.
        recorded.or_else(|_| self.drops.write(&*self.disk, self.store))
    }

    /// The greatest sequence that any record can have by now.
    fn last_sequence(&self, writing: &Writing) -> u64 {
        let next = self.next_number.load(Ordering::Relaxed) << ORDINAL_BITS;
        writing.open.as_ref().map_or(next, OpenSegment::next_sequence) - 1
    }
}
