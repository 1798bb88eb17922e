//! Building again what was lost of the index: how much of it may be in memory, and who is told.
//!
//! Where many files of the index were lost at once, each is built when it is first asked for, one at a time, and again
//! each time while there is no room to keep it: that costs time, and no more memory than an open store was given. The
//! indexer is rung, and writes them one after the other. Shared by all segments and runs of a store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::bell::Bell;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rebuilding {
    bytes_max: u64,
    held: AtomicU64,
    /// Held while something is built: that takes more memory than what is built.
    building: Mutex<()>,
    /// The names of merged runs that were given up, whose files are to be removed.
    given_up: Mutex<Vec<String>>,
    /// Rung when there may be a file to write, or runs to merge.
    pub bell: Bell,
}

impl Rebuilding {
    /// What is built may take so many bytes.
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        let (held, building, given_up, bell) = Default::default();
        Arc::new(Self { bytes_max, held, building, given_up, bell })
    }

    /// A merged run is of no use any more: an opening would prefer its file to what replaced it.
    pub(super) fn give_up(&self, name: String) {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        self.bell.ring();
    }

    /// What was given up since the last look.
    pub(super) fn take_given_up(&self) -> Vec<String> {
        std::mem::take(&mut self.given_up.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Builds something, when nothing else is being built.
    pub(super) fn build<T>(&self, build: impl FnOnce() -> T) -> T {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        build()
    }

    /// Takes so many bytes, if they fit; they are given back with what is returned.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let bytes = bytes as u64;
        let within = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        // Nothing else is published by it.
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).ok()?;
        Some(Held { rebuilding: Arc::clone(self), bytes })
    }
}

/// A part of what may be kept.
#[derive(Debug)]
pub(super) struct Held {
    rebuilding: Arc<Rebuilding>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.rebuilding.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more() {
        let rebuilding = Rebuilding::new(100);
        let first = rebuilding.take(60).unwrap();
        assert!(rebuilding.take(41).is_none());
        let second = rebuilding.take(40).unwrap();
        drop(first);
        assert!(rebuilding.take(61).is_none());
        assert!(rebuilding.take(60).is_some());
        drop(second);
        assert!(rebuilding.take(usize::MAX).is_none());
        assert!(rebuilding.take(100).is_some());
    }
}
