//! The watermark: the last position that is durable. The only point at which events become visible.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the module. Moved by the committer alone, and by recovery before there are readers.
#[derive(Debug, Default)]
pub(crate) struct Watermark(AtomicU64);

impl Watermark {
    pub(crate) fn new(position: u64) -> Self {
        Self(AtomicU64::new(position))
    }

    /// The last durable position; everything up to it can be read by whoever has read this.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Publishes everything up to `position`.
    pub(crate) fn advance(&self, position: u64) {
        let before = self.0.load(Ordering::Relaxed);
        assert!(position > before, "the watermark only grows");
        self.0.store(position, Ordering::Release);
    }
}
