//! What the snapshots of a store count of themselves.

use std::sync::{Mutex, PoisonError};

use super::SnapshotError;
use crate::error::FileError;
use crate::sync::Count;

/// What was done with snapshots since a store was opened, and what there is of them.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SnapshotStats {
    /// Snapshots that were taken.
    pub taken: u64,
    /// Snapshots that were due and were not taken, because too many were waiting, there was too much garbage, writing had
    /// failed a moment ago, or the store was closed.
    pub skipped: u64,
    /// Snapshots that were due while another one of the same stream was on its way.
    pub under_way: u64,
    /// Snapshots that could not be taken, because the stream could not be folded or the file not be written.
    pub failed: u64,
    /// States that were loaded.
    pub loads: u64,
    /// Those of them that began with a snapshot.
    pub loads_from_snapshots: u64,
    /// Events that were replayed by them, all together.
    pub events_replayed: u64,
    /// Snapshots that were not used because their bytes, or their file, were damaged.
    pub damaged: u64,
    /// Snapshots that were not used because the log has another event where they say that they were taken, or none.
    pub foreign: u64,
    /// Snapshots that were not used because the state's type has another layout now, or does not go back to their version.
    pub outdated: u64,
    /// Snapshots that were not used because a newer program has taken them.
    pub newer: u64,
    /// Snapshots that were compared with what the events come to from the first one on.
    pub checked: u64,
    /// Those of them that differed, and were dropped.
    pub mismatched: u64,
    /// Snapshots that wait to be taken.
    pub waiting: u64,
    /// How many events had come to its stream between when the last snapshot was due and when it was taken.
    pub lag_events: u64,
    /// Compactions that were done.
    pub compactions: u64,
    /// Bytes that they have moved.
    pub rewritten_bytes: u64,
    /// Bytes of snapshots that were written, those that were moved left out.
    pub written_bytes: u64,
    /// Sealed files of snapshots.
    pub segments: u64,
    /// Those of them that are of no use: of another store, of a newer version of the format, or with a damaged header.
    pub unusable_segments: u64,
    /// Those whose index was damaged, so that they were scanned.
    pub damaged_indexes: u64,
    /// Streams that have a snapshot, each counted once for each type of state.
    pub keys: u64,
    /// Bytes of the snapshots that are kept, and of what says that others were dropped, as long as those are there.
    pub live_bytes: u64,
    /// Bytes of the files, those of no use among them. What is more than `live_bytes` is garbage, and what files need
    /// besides.
    pub disk_bytes: u64,
    /// What failed last, in taking, writing or compacting.
    pub last_error: Option<SnapshotError>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub taken: Count,
    pub skipped: Count,
    pub under_way: Count,
    pub failed: Count,
    pub loads: Count,
    pub loads_from_snapshots: Count,
    pub events_replayed: Count,
    pub damaged: Count,
    pub foreign: Count,
    pub outdated: Count,
    pub newer: Count,
    pub checked: Count,
    pub mismatched: Count,
    pub lag_events: Count,
    pub compactions: Count,
    pub rewritten_bytes: Count,
    pub written_bytes: Count,
    pub unusable_segments: Count,
    pub damaged_indexes: Count,
    segments: Count,
    keys: Count,
    live_bytes: Count,
    disk_bytes: Count,
    last_error: Mutex<Option<SnapshotError>>,
}

impl Figures {
    /// A file could not be read or written.
    pub(super) fn failed(&self, error: &FileError) {
        tracing::warn!(%error, "snapshots are incomplete, and events are replayed instead");
        self.note(SnapshotError::File(error.clone()));
    }

    /// Something has failed in the background.
    pub(super) fn note(&self, error: SnapshotError) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// What there is, by a look at all of it.
    pub(super) fn accounted(&self, live_bytes: u64, disk_bytes: u64, segments: u64, keys: u64) {
        self.live_bytes.set(live_bytes);
        self.disk_bytes.set(disk_bytes);
        self.segments.set(segments);
        self.keys.set(keys);
    }

    /// What was wanted when that was last looked at.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes.get()
    }

    pub(super) fn read(&self, waiting: u64) -> SnapshotStats {
        SnapshotStats {
            taken: self.taken.get(),
            skipped: self.skipped.get(),
            under_way: self.under_way.get(),
            failed: self.failed.get(),
            loads: self.loads.get(),
            loads_from_snapshots: self.loads_from_snapshots.get(),
            events_replayed: self.events_replayed.get(),
            damaged: self.damaged.get(),
            foreign: self.foreign.get(),
            outdated: self.outdated.get(),
            newer: self.newer.get(),
            checked: self.checked.get(),
            mismatched: self.mismatched.get(),
            waiting,
            lag_events: self.lag_events.get(),
            compactions: self.compactions.get(),
            rewritten_bytes: self.rewritten_bytes.get(),
            written_bytes: self.written_bytes.get(),
            segments: self.segments.get(),
            unusable_segments: self.unusable_segments.get(),
            damaged_indexes: self.damaged_indexes.get(),
            keys: self.keys.get(),
            live_bytes: self.live_bytes.get(),
            disk_bytes: self.disk_bytes.get(),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
