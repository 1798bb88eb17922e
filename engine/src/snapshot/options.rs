//! Settings of snapshots.

use crate::error::OpenError;
use crate::limits::{
    SNAPSHOT_CHECKS_DEFAULT, SNAPSHOT_COMPACTION_RATE_DEFAULT, SNAPSHOT_MEMORY_DEFAULT,
    SNAPSHOT_MEMORY_MAX, SNAPSHOT_MEMORY_MIN, SNAPSHOT_SHARE_COMPACTION, SNAPSHOT_SHARE_OPEN,
    SNAPSHOT_SHARE_QUEUE, SNAPSHOT_THREADS_MAX, SNAPSHOTS_KEPT_DEFAULT, SNAPSHOTS_KEPT_MAX,
};

/// How snapshots are kept, for [`Options::snapshots`](crate::Options::snapshots). May differ between openings.
///
/// ```
/// use stratalog::{SnapshotOptions, Store, disk::MemoryDisk};
///
/// let snapshots = SnapshotOptions::new().memory_bytes(16 << 20).kept(1);
/// let store = Store::options().snapshots(snapshots).open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotOptions {
    memory_bytes: u64,
    pub(super) kept: usize,
    pub(super) threads: usize,
    pub(super) compaction_rate: u64,
    pub(super) checks: u32,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        Self {
            memory_bytes: SNAPSHOT_MEMORY_DEFAULT,
            kept: SNAPSHOTS_KEPT_DEFAULT,
            threads: 1,
            compaction_rate: SNAPSHOT_COMPACTION_RATE_DEFAULT,
            checks: SNAPSHOT_CHECKS_DEFAULT,
        }
    }
}

impl SnapshotOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How much memory snapshots may take, in bytes: those that wait to be written, and those of the segment that is not
    /// sealed yet. A segment of snapshots has a quarter of it, and one snapshot at most half a segment. From
    /// [`SNAPSHOT_MEMORY_MIN`] to [`SNAPSHOT_MEMORY_MAX`], default [`SNAPSHOT_MEMORY_DEFAULT`]. It holds however many
    /// streams there are. States while they are folded are their fold's, and not counted; mapped files are the page
    /// cache's.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// How many snapshots of a stream are kept, the last ones: from 1 to [`SNAPSHOTS_KEPT_MAX`], default
    /// [`SNAPSHOTS_KEPT_DEFAULT`].
    #[must_use]
    pub fn kept(mut self, snapshots: usize) -> Self {
        self.kept = snapshots;
        self
    }

    /// How many threads take snapshots, each with a lower priority than the program's own: from 1 to
    /// [`SNAPSHOT_THREADS_MAX`], default 1. There are none before the first snapshot is taken.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// How many bytes a second compaction in the background reads, at most; at least 1 MiB, default
    /// [`SNAPSHOT_COMPACTION_RATE_DEFAULT`](crate::limits::SNAPSHOT_COMPACTION_RATE_DEFAULT). It goes slower while it
    /// makes commits slower. Where it does not keep up, snapshots are skipped.
    #[must_use]
    pub fn compaction_rate(mut self, bytes_per_second: u64) -> Self {
        self.compaction_rate = bytes_per_second;
        self
    }

    /// One of how many snapshots is compared with what the stream's events come to from the first one on, when it is taken:
    /// 0 for none, 1 for each, default [`SNAPSHOT_CHECKS_DEFAULT`](crate::limits::SNAPSHOT_CHECKS_DEFAULT). So a fold whose
    /// code has changed without a new version of its state is noticed.
    #[must_use]
    pub fn checks(mut self, one_in: u32) -> Self {
        self.checks = one_in;
        self
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        /// Less would be no rate at which anything ends.
        const RATE_MIN: u64 = 1 << 20;
        let refused =
            |setting, value, least, most| Err(OpenError::Snapshots { setting, value, least, most });
        let Self { memory_bytes, kept, threads, compaction_rate, .. } = *self;
        if !(SNAPSHOT_MEMORY_MIN..=SNAPSHOT_MEMORY_MAX).contains(&memory_bytes) {
            return refused("memory_bytes", memory_bytes, SNAPSHOT_MEMORY_MIN, SNAPSHOT_MEMORY_MAX);
        }
        if !(1..=SNAPSHOTS_KEPT_MAX).contains(&kept) {
            return refused("kept", kept as u64, 1, SNAPSHOTS_KEPT_MAX as u64);
        }
        if !(1..=SNAPSHOT_THREADS_MAX).contains(&threads) {
            return refused("threads", threads as u64, 1, SNAPSHOT_THREADS_MAX as u64);
        }
        if compaction_rate < RATE_MIN {
            return refused("compaction_rate", compaction_rate, RATE_MIN, u64::MAX);
        }
        Ok(())
    }

    /// How large a segment gets.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.memory_bytes / SNAPSHOT_SHARE_OPEN
    }

    /// How many bytes of snapshots may wait to be written.
    pub(super) fn queue_bytes(&self) -> u64 {
        self.memory_bytes / SNAPSHOT_SHARE_QUEUE
    }

    /// How much may be known of the snapshots that are moved.
    pub(super) fn compaction_bytes(&self) -> u64 {
        self.memory_bytes / SNAPSHOT_SHARE_COMPACTION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_their_bounds_are_refused() {
        let good = SnapshotOptions::new();
        good.check().unwrap();
        for bad in [
            good.memory_bytes(SNAPSHOT_MEMORY_MIN - 1),
            good.memory_bytes(SNAPSHOT_MEMORY_MAX + 1),
            good.kept(0),
            good.kept(SNAPSHOTS_KEPT_MAX + 1),
            good.threads(0),
            good.threads(SNAPSHOT_THREADS_MAX + 1),
            good.compaction_rate(0),
        ] {
            assert!(matches!(bad.check(), Err(OpenError::Snapshots { .. })), "{bad:?}");
        }
    }
}
