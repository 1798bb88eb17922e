//! The snapshots of the segment that is open, in memory.
//!
//! Owns what readers find of it until it is sealed, and how much memory that takes. Its lock is held for a look-up or an
//! insertion, never for I/O.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rkyv::util::AlignedVec;
use smallvec::SmallVec;

use crate::format::snapshot::Entry;

/// What a record takes besides its bytes: entries in two maps, a count, and what allocators add.
const RECORD_OVERHEAD: usize = 192;

/// A record that stands in the open segment.
#[derive(Debug)]
pub(crate) struct RecentRecord {
    pub entry: Entry,
    pub bytes: AlignedVec,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<Records>);

#[derive(Debug, Default)]
struct Records {
    by_hash: HashMap<u64, SmallVec<[Arc<RecentRecord>; 2]>>,
    bytes: usize,
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record.
    pub(super) fn insert(&self, record: RecentRecord) {
        let mut records = self.lock();
        records.bytes += record.bytes.len() + RECORD_OVERHEAD;
        records.by_hash.entry(record.entry.hash).or_default().push(Arc::new(record));
    }

    /// The records of a hash, in the order in which they were added.
    pub(super) fn find(&self, hash: u64) -> SmallVec<[Arc<RecentRecord>; 2]> {
        self.lock().by_hash.get(&hash).cloned().unwrap_or_default()
    }

    /// How much memory they take.
    pub(super) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Forgets all of them: they are found elsewhere, or nowhere any more.
    pub(super) fn clear(&self) {
        let records = std::mem::take(&mut *self.lock());
        // Not under the lock.
        drop(records);
    }

    /// All of them, in the order of an index.
    pub(super) fn all(&self) -> Vec<Arc<RecentRecord>> {
        let records = self.lock();
        let mut all: Vec<_> = records.by_hash.values().flatten().cloned().collect();
        drop(records);
        all.sort_unstable_by_key(|record| record.entry.order());
        all
    }
}
