//! The disk seam: everything the engine does to files, behind two traits.
//!
//! [`Disk`] is one directory, [`DiskFile`] one file in it. The engine calls nothing else that reaches
//! the operating system's files, and this module knows nothing of logs, segments or events. Each call
//! says what it promises about durability; `contract` holds every backend to the same promises.
//!
//! Backends: [`PwriteDisk`] (the real file system, with blocking calls, and a ring of the kernel for
//! several durable writes at a time) and [`MemoryDisk`] (deterministic, in memory; it can crash, lose,
//! tear and fail as it is told).
//!
//! Vocabulary: a change is *volatile* when a crash of the machine may undo it, wholly or in part, and
//! *durable* when no crash can.

mod aligned;
mod check;
#[cfg(test)]
mod contract;
mod lock;
mod map;
mod memory;
mod pwrite;
mod queue;
mod uring;

use std::any::Any;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

pub use aligned::AlignedBuf;
pub(crate) use aligned::Blocks;
pub use map::Mapping;
pub use memory::{
    CrashPoint, CrashState, Exploration, Fault, FaultError, FaultPlan, MemoryDisk, OpKind, Trace,
};
pub use pwrite::{PwriteDisk, PwriteOptions, WriteMode};
pub use queue::{Completion, QueueWaker, QueuedWrite, WriteParts, WriteQueue};

/// What an opened file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading only; the backend opens it without permission to write, and refuses changes through it
    /// with [`io::ErrorKind::PermissionDenied`].
    Read,
    /// Reading and writing.
    Write,
}

/// A file in a disk's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, without the directory.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}

/// Holds a lock until dropped.
pub trait DiskLock: Send + Sync + Debug {}

/// One directory of files: flat, names without separators.
///
/// Offsets, lengths and the addresses of buffers given to [`DiskFile::write_at`],
/// [`DiskFile::write_durable_at`], [`DiskFile::read_at`] and [`DiskFile::zero`] are multiples of
/// [`BLOCK_BYTES`](crate::limits::BLOCK_BYTES) ([`AlignedBuf`] has such addresses); anything else is
/// refused with [`io::ErrorKind::InvalidInput`] before anything happens.
pub trait Disk: Send + Sync + Debug {
    /// One line for logs and reports: which backend, where, and how it writes.
    fn describe(&self) -> String;

    /// The files of the directory with their lengths, in the order of their names. Sub-directories are
    /// left out.
    ///
    /// # Errors
    /// What the operating system reports.
    fn list(&self) -> io::Result<Vec<DirEntry>>;

    /// Creates an empty file for reading and writing, owner-only (0600). The directory entry is
    /// volatile until [`Disk::sync_dir`].
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where there is one of that name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is none.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, replacing one that has the new name: atomically, so that a crash leaves the old
    /// or the new file under it, never neither. Volatile until [`Disk::sync_dir`].
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is no `from`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name. Volatile until [`Disk::sync_dir`]. Open handles and mappings stay usable.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is none.
    fn unlink(&self, name: &str) -> io::Result<()>;

    /// Makes every create, rename and unlink durable that was completed when the call began.
    ///
    /// # Errors
    /// What the operating system reports; then it is unknown which of them are durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Takes an exclusive lock on the file of that name, creating it where there is none, without
    /// waiting. `None` where another opening of the directory holds it: in another process or in this
    /// one, by the same path or through a link. Released when dropped and when the process ends.
    ///
    /// # Errors
    /// What the operating system reports; never for a lock that is merely held.
    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>>;

    /// A queue for up to `depth` durable writes in flight, for the calling thread alone; `None` where the
    /// backend makes one write after the other, or found that to be faster.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a depth of 0, and for one that no queue has; what the operating
    /// system reports, where a queue was demanded and cannot be had.
    fn write_queue(&self, depth: usize) -> io::Result<Option<Box<dyn WriteQueue>>> {
        let _ = depth;
        Ok(None)
    }
}

/// One open file. (`Any`, so that a backend knows its own where it is given one.)
pub trait DiskFile: Any + Send + Sync + Debug {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the operating system reports.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// As [`DiskFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reserves space up to `bytes` and extends the file to it; never shortens it. What is new reads as
    /// zeroes. Volatile until [`DiskFile::sync`].
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] where there is no room; nothing that was there is lost, and the
    /// length is what it was.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Writes zeroes over `offset..offset + bytes`, so that later writes there go over blocks that have
    /// been written already. Extends the file where it must. Volatile until [`DiskFile::sync`].
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] where there is no room.
    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()>;

    /// Writes some of `buf`, from its beginning, and says how many bytes. Volatile until
    /// [`DiskFile::sync`].
    ///
    /// # Errors
    /// What the operating system reports; then any of the bytes may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Writes some of `bufs`, in order and from the beginning, and says how many bytes. What it says was
    /// written is durable when it returns, with the file length that it implies; nothing else is made
    /// durable by it. While it runs, and where it fails, any subset of the sectors may be.
    ///
    /// # Errors
    /// What the operating system reports; then any of the bytes may have been written.
    fn write_durable_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Reads some bytes into `buf`, from its beginning, and says how many; 0 at or behind the end. Goes
    /// past the operating system's page cache where the file system can.
    ///
    /// # Errors
    /// What the operating system reports.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes every change to this file durable that was completed when the call began: content and
    /// length, not its directory entry.
    ///
    /// # Errors
    /// What the operating system reports; then it is unknown what is durable, and a second call that
    /// succeeds proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file to `bytes`. Volatile until [`DiskFile::sync`].
    ///
    /// # Errors
    /// What the operating system reports.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Maps the file as it is now for reading. Only for files that are not written any more.
    ///
    /// # Errors
    /// What the operating system reports.
    fn map(&self) -> io::Result<Mapping>;

    /// Takes an exclusive lock on this file without waiting; false where another opening holds it, true
    /// again where this handle does. Held until the handle, and every write submitted through it, is
    /// gone.
    ///
    /// # Errors
    /// What the operating system reports; never for a lock that is merely held.
    fn try_lock(&self) -> io::Result<bool>;

    /// Gives back the lock, if this handle has it. For a handle that outlives its use for writing: no
    /// write may be under way.
    fn unlock(&self);
}

/// Removes a file's name, if there is such a file.
///
/// # Errors
/// As [`Disk::unlink`], but for a file that is not there.
pub fn unlink_if_there(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.unlink(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes all of `buf`, continuing after short writes. Volatile, as [`DiskFile::write_at`].
///
/// # Errors
/// As [`DiskFile::write_at`]; [`io::ErrorKind::WriteZero`] where a write makes no progress.
pub fn write_all_at(file: &dyn DiskFile, buf: &[u8], offset: u64) -> io::Result<()> {
    write_all(&[buf], offset, |bufs, at| file.write_at(bufs[0], at))
}

/// Writes all of `bufs` durably, continuing after short writes.
///
/// # Errors
/// As [`DiskFile::write_durable_at`]; [`io::ErrorKind::WriteZero`] where a write makes no progress.
pub fn write_all_durable_at(file: &dyn DiskFile, bufs: &[&[u8]], offset: u64) -> io::Result<()> {
    write_all(bufs, offset, |bufs, at| {
        let slices: Vec<IoSlice<'_>> = bufs.iter().map(|buf| IoSlice::new(buf)).collect();
        file.write_durable_at(&slices, at)
    })
}

fn write_all(
    bufs: &[&[u8]],
    mut offset: u64,
    mut write: impl FnMut(&[&[u8]], u64) -> io::Result<usize>,
) -> io::Result<()> {
    /// How often in a row a write may end inside its first block before it is given up.
    const STALLS_MAX: u32 = 8;
    let mut stalls = 0;
    let mut left: Vec<&[u8]> = bufs.iter().copied().filter(|buf| !buf.is_empty()).collect();
    while !left.is_empty() {
        let written = match write(&left, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // The rest begins on a block again: what a short write left of one is written once more.
        let whole = written - written % crate::limits::BLOCK_BYTES;
        let total: usize = left.iter().map(|buf| buf.len()).sum();
        let mut skip = if written >= total { total } else { whole };
        if skip == 0 {
            stalls += 1;
            if stalls > STALLS_MAX {
                return Err(io::ErrorKind::WriteZero.into());
            }
            continue;
        }
        stalls = 0;
        offset += skip as u64;
        while skip > 0 {
            let first = left[0].len();
            if skip >= first {
                left.remove(0);
                skip -= first;
            } else {
                left[0] = &left[0][skip..];
                skip = 0;
            }
        }
    }
    Ok(())
}

/// Reads until `buf` is full or the file ends, and says how many bytes.
///
/// # Errors
/// As [`DiskFile::read_at`].
pub fn read_full_at(file: &dyn DiskFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match file.read_at(&mut buf[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => {
                filled += read;
                // A count that is no multiple of a block is the end of the file.
                if !filled.is_multiple_of(crate::limits::BLOCK_BYTES) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads all of a file, past the operating system's page cache where the file system can.
///
/// # Errors
/// As [`Disk::open`], [`DiskFile::len`] and [`DiskFile::read_at`].
pub(crate) fn read_whole(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name, Access::Read)?;
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut buffer = AlignedBuf::zeroed(length.max(1))?;
    let read = read_full_at(&*file, &mut buffer, 0)?;
    Ok(buffer[..read.min(length)].to_vec())
}
