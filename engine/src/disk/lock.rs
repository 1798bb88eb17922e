//! Which files this process has locked: owns the registry beside the operating system's locks.
//!
//! A lock of the operating system keeps other processes away, but what it means between two openings in
//! one process differs between file systems (a network file system may lock for the process as a
//! whole). The registry makes it the same everywhere. It knows files by device and inode, so that a path
//! through a link finds the same entry. Backends with real files call it; it calls nothing.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};

use super::DiskLock;

/// Device and inode of every file that this process holds a lock on.
static HELD: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// An entry of the registry; dropping it takes the entry out.
#[derive(Debug)]
pub(super) struct Claim {
    key: (u64, u64),
}

impl Claim {
    /// Locks `file` for this process and within it, without waiting; `None` where another opening holds
    /// the lock. The caller unlocks or closes the file before it drops the claim, so that whoever finds
    /// the entry gone finds the lock free too.
    ///
    /// # Errors
    /// What the operating system reports, but not that the lock is held.
    pub(super) fn take(file: &File) -> io::Result<Option<Self>> {
        let metadata = file.metadata()?;
        let key = (metadata.dev(), metadata.ino());
        if !HELD.lock().unwrap_or_else(PoisonError::into_inner).insert(key) {
            return Ok(None);
        }
        let claim = Self { key };
        match file.try_lock() {
            Ok(()) => Ok(Some(claim)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        HELD.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// A locked file that is open for its lock only.
#[derive(Debug)]
pub(super) struct FileLock {
    file: File,
    /// Declared behind `file`, and so dropped after it.
    claim: Claim,
}

impl FileLock {
    pub(super) fn new(file: File, claim: Claim) -> Self {
        Self { file, claim }
    }

    /// Whether it is on the file with this device and inode.
    pub(super) fn is_for(&self, dev: u64, ino: u64) -> bool {
        self.claim.key == (dev, ino)
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        release(&self.file);
    }
}

impl DiskLock for FileLock {}

/// Unlocks at once rather than with the last descriptor: a child process that is just being started
/// has a copy of it, and would hold the lock for as long as that takes.
pub(super) fn release(file: &File) {
    if let Err(error) = file.unlock() {
        // Closing the descriptor, which is next, releases the lock as well.
        tracing::debug!(%error, "unlocking failed");
    }
}
