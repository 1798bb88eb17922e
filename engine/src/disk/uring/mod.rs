//! Durable writes through a ring of the kernel (`io_uring`): owns [`UringQueue`].
//!
//! It calls `ring`, which has the writes and what the kernel is told, and `waker`. `PwriteDisk` makes one
//! for the commit thread, for files that are open for direct I/O. A durable write is what it is without a
//! ring, one `writev` with `RWF_DSYNC`; only several are under way at once, and one thread waits for all.
//!
//! What the ring is made of, and why:
//!
//! - One issuer, and completions run only when it asks (`SINGLE_ISSUER`, `DEFER_TASKRUN`): the thread is
//!   never interrupted by one. Kernels that do not know the flags get fewer.
//! - A write is handed to the kernel by `submit` and not with the next wait, so that the device begins
//!   while the thread prepares the next one. That is one system call for a write, as without a ring.
//! - No polled completions and no submitting kernel thread: both take a processor for themselves.
//! - No registered buffers. Registering one pins its pages, as every write does for the pages that it is
//!   made of; the memory of the log's tail is written once and then replaced, so that registering it
//!   would pin as many pages as it saves pinning, and would have to fit into `RLIMIT_MEMLOCK` besides.
//! - No registered files. What they save is one reference count of a descriptor for each write, far
//!   below what can be measured beside a device; and the ring would keep a file open, and with it the
//!   space of one that was unlinked, until another one takes its place in the table.
//!
//! A write that cannot be done without blocking is done by a worker thread of the kernel (`iou-wrk`), at
//! a price: one that extends its file is. Writes inside of the file need none, over blocks that are only
//! allocated as little as over written ones; a test holds it to that for the latter, as does the
//! benchmark `queue`.

mod ring;
#[cfg(test)]
mod tests;
mod waker;

use std::io::{self, IoSlice};
use std::sync::Arc;

use self::ring::Ring;
use self::waker::EventWaker;
use super::pwrite::PwriteFile;
use super::{Completion, QueueWaker, QueuedWrite, WriteQueue, check};

/// See the module.
#[derive(Debug)]
pub(super) struct UringQueue {
    ring: Ring,
    waker: Arc<EventWaker>,
}

impl UringQueue {
    /// A queue for the calling thread.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a depth that it cannot have, else why the kernel gives no ring.
    pub(super) fn new(depth: usize) -> io::Result<Self> {
        check::depth(depth)?;
        let waker = Arc::new(EventWaker::new()?);
        Ok(Self { ring: Ring::new(depth, Arc::clone(&waker))?, waker })
    }
}

/// Whether the kernel gives this process rings at all.
///
/// # Errors
/// [`io::ErrorKind::Unsupported`] with the reason, where it does not.
pub(super) fn available() -> io::Result<()> {
    UringQueue::new(1).map(drop).map_err(|error| {
        io::Error::new(io::ErrorKind::Unsupported, format!("io_uring cannot be had: {error}"))
    })
}

impl WriteQueue for UringQueue {
    fn submit(&mut self, write: QueuedWrite) -> io::Result<()> {
        check::buffers(&write.parts.parts().map(IoSlice::new), write.offset)?;
        PwriteFile::target(write.file.as_ref())?;
        self.ring.start(write)
    }

    fn wait(&mut self) -> io::Result<Option<Completion>> {
        loop {
            if let Some(completion) = self.ring.reap() {
                return Ok(Some(completion));
            }
            if self.waker.take() {
                return Ok(None);
            }
            if self.waker.fall_asleep() {
                let slept = self.ring.sleep();
                self.waker.get_up();
                slept?;
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }

    fn waker(&self) -> Arc<dyn QueueWaker> {
        Arc::clone(&self.waker) as Arc<dyn QueueWaker>
    }
}
