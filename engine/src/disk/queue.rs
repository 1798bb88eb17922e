//! Durable writes of one thread, several in flight at once.
//!
//! The seam through which the commit thread keeps a device busy that completes several writes at a time.
//! A backend that cannot do that offers no queue, and is written to with
//! [`DiskFile::write_durable_at`](super::DiskFile::write_durable_at), one write after the other.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use super::DiskFile;

/// Bytes that a queue is writing.
///
/// # Safety
/// From the moment that a value is in a [`QueuedWrite`] until it is dropped or taken out of a
/// [`Completion`], [`parts`](Self::parts) returns the same slices at the same addresses, also after the
/// value itself was moved, and nobody writes, moves or frees the bytes in them.
pub unsafe trait WriteParts: Send + Debug {
    /// The bytes in the order in which they are to stand in the file. Addresses and lengths are multiples
    /// of [`BLOCK_BYTES`](crate::limits::BLOCK_BYTES); either may be empty.
    fn parts(&self) -> [&[u8]; 2];
}

/// A write for a [`WriteQueue`].
#[derive(Debug)]
pub struct QueuedWrite {
    /// Where it goes. Held until the write has ended, and with it the file's lock.
    pub file: Arc<dyn DiskFile>,
    /// The offset in the file; a multiple of [`BLOCK_BYTES`](crate::limits::BLOCK_BYTES).
    pub offset: u64,
    /// What is written.
    pub parts: Box<dyn WriteParts>,
    /// The caller's own mark, which comes back with the completion.
    pub tag: u64,
}

/// A write that has ended.
#[derive(Debug)]
pub struct Completion {
    /// The write's mark.
    pub tag: u64,
    /// What was written, or not.
    pub parts: Box<dyn WriteParts>,
    /// Well: all of it is durable, with the file length that it implies. An error: any of its sectors may
    /// have been written, and any of those may be durable.
    pub result: io::Result<()>,
}

/// Durable writes, several in flight, that one thread submits and reaps; see
/// [`Disk::write_queue`](super::Disk::write_queue).
///
/// Writes may end in any order, and each may be durable in part or wholly before the others. Short writes
/// are continued by the queue. Dropping it waits until everything in flight has ended.
pub trait WriteQueue: Debug {
    /// Starts a write. At most as many as the queue was made for may be in flight.
    ///
    /// # Errors
    /// As [`DiskFile::write_durable_at`] for what it refuses before anything happens, and
    /// [`io::ErrorKind::InvalidInput`] for a file of another backend; [`io::ErrorKind::WouldBlock`] where
    /// as many are in flight as may be; else what the operating system reports, where it could not even
    /// be started. Nothing is written then, and nothing will be.
    fn submit(&mut self, write: QueuedWrite) -> io::Result<()>;

    /// Blocks until a write has ended, and returns it; or returns `None` because the queue was woken.
    /// With nothing in flight it blocks until it is woken. Where both is the case it returns the write,
    /// and `None` later: only `None` uses up a wake.
    ///
    /// # Errors
    /// What the operating system reports of the queue itself. What is in flight is unknown then.
    fn wait(&mut self) -> io::Result<Option<Completion>>;

    /// How many writes are in flight: submitted, and not returned by [`WriteQueue::wait`] yet.
    fn in_flight(&self) -> usize;

    /// What wakes [`WriteQueue::wait`] from other threads.
    fn waker(&self) -> Arc<dyn QueueWaker>;
}

/// Wakes the thread that waits for a [`WriteQueue`].
pub trait QueueWaker: Send + Sync + Debug {
    /// The present call of [`WriteQueue::wait`] returns, or the next one, where none is waiting. Several
    /// calls may count as one.
    fn wake(&self);
}
