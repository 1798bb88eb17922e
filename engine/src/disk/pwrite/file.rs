//! One file of a `PwriteDisk`: owns the calls that read, write and sync it.
//!
//! It calls the operating system. Only `PwriteDisk` makes one.

use std::any::Any;
use std::fs::File;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Directory, WriteMode};
use crate::disk::lock::{self, Claim};
use crate::disk::{AlignedBuf, DiskFile, Mapping, check};
use crate::limits::BLOCK;

/// How much is zeroed by one write: large enough to reach the device's bandwidth, small enough that a
/// commit beside it does not wait long.
const ZEROES_BYTES: usize = 1 << 20;
/// `FALLOC_FL_WRITE_ZEROES`, since Linux 6.17: zeroes a range and leaves its blocks written.
const WRITE_ZEROES: FallocateFlags = FallocateFlags::from_bits_retain(0x80);
/// The unit in which the page cache is dropped, in bytes. The kernel keeps pages in naturally aligned
/// groups of up to 2 MiB and drops a group only where the range covers all of it.
const CACHE_GROUP_BYTES: u64 = 2 << 20;

#[derive(Debug)]
pub(in crate::disk) struct PwriteFile {
    file: File,
    directory: Arc<Directory>,
    writable: bool,
    /// Declared behind `file`, and so dropped after it.
    claim: Mutex<Option<Claim>>,
}

impl PwriteFile {
    pub(super) fn new(directory: Arc<Directory>, file: File, writable: bool) -> Self {
        Self { file, directory, writable, claim: Mutex::new(None) }
    }

    fn writable(&self) -> io::Result<()> {
        check::writable(self.writable)
    }

    /// The descriptor for a ring to write to.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a file of another backend, or one that is not open for direct
    /// I/O; [`io::ErrorKind::PermissionDenied`] for one that is open for reading only.
    pub(in crate::disk) fn target(file: &dyn DiskFile) -> io::Result<BorrowedFd<'_>> {
        let file: &dyn Any = file;
        match file.downcast_ref::<Self>() {
            Some(file) if file.directory.mode() != WriteMode::Buffered => {
                file.writable()?;
                Ok(file.file.as_fd())
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a ring writes to files with direct I/O only",
            )),
        }
    }

    /// Asks the file system to write zeroes itself; false where it does not know how.
    fn zero_by_call(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        if !self.directory.writes_zeroes() {
            return Ok(false);
        }
        match retry(|| rustix::fs::fallocate(&self.file, WRITE_ZEROES, offset, bytes)) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                self.directory.give_up_writing_zeroes();
                Ok(false)
            }
            Err(error) => Err(no_room(error)),
        }
    }
}

impl DiskFile for PwriteFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        check::length(bytes)?;
        self.writable()?;
        if bytes == 0 {
            return Ok(());
        }
        let before = self.len()?;
        match retry(|| rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes)) {
            Ok(()) => Ok(()),
            // Without room reserved, the first write that finds none will say so.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) if bytes <= before => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.file.set_len(bytes),
            Err(error) => {
                // Some file systems extend the file as far as the room went, and keep it.
                if self.len()? > before {
                    self.file.set_len(before)?;
                }
                Err(no_room(error))
            }
        }
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        check::range(offset, bytes)?;
        self.writable()?;
        if bytes == 0 || self.zero_by_call(offset, bytes)? {
            return Ok(());
        }
        let zeroes = zeroes()?;
        let mut done = 0;
        while done < bytes {
            let next =
                usize::try_from(bytes - done).map_or(ZEROES_BYTES, |left| left.min(ZEROES_BYTES));
            match rustix::io::pwrite(&self.file, &zeroes[..next], offset + done) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                // The rest must begin on a block again.
                Ok(written) if written as u64 >= BLOCK => {
                    done += written as u64 - written as u64 % BLOCK;
                }
                Ok(_) => return Err(io::ErrorKind::StorageFull.into()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(no_room(error)),
            }
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        check::buffer(buf, offset)?;
        self.writable()?;
        rustix::io::pwrite(&self.file, buf, offset).map_err(no_room)
    }

    fn write_durable_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        if check::buffers(bufs, offset)? == 0 {
            self.writable()?;
            return Ok(0);
        }
        self.writable()?;
        match self.directory.mode() {
            WriteMode::Direct | WriteMode::Uring => {
                rustix::io::pwritev2(&self.file, bufs, offset, ReadWriteFlags::DSYNC)
                    .map_err(no_room)
            }
            WriteMode::Buffered => {
                let written = rustix::io::pwritev(&self.file, bufs, offset).map_err(no_room)?;
                rustix::fs::fdatasync(&self.file)?;
                Ok(written)
            }
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        check::buffer(buf, offset)?;
        if buf.is_empty() {
            return Ok(0);
        }
        if self.directory.mode() == WriteMode::Buffered {
            let start = offset - offset % CACHE_GROUP_BYTES;
            let end = (offset + buf.len() as u64).next_multiple_of(CACHE_GROUP_BYTES);
            let bytes = NonZeroU64::new(end - start);
            // After a failed sync the cache holds, as clean, what the device does not: it is not
            // believed. Pages that are still to be written stay, and are what was written.
            rustix::fs::fadvise(&self.file, start, bytes, Advice::DontNeed)?;
        }
        Ok(rustix::io::pread(&self.file, buf, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(&self.file)?)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        check::length(bytes)?;
        self.writable()?;
        self.file.set_len(bytes)
    }

    fn map(&self) -> io::Result<Mapping> {
        Mapping::of_file(&self.file)
    }

    fn try_lock(&self) -> io::Result<bool> {
        check::writable(!self.directory.read_only)?;
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        if claim.is_none() {
            *claim = Claim::take(&self.file)?;
        }
        Ok(claim.is_some())
    }

    fn unlock(&self) {
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        if claim.is_some() {
            lock::release(&self.file);
        }
        *claim = None;
    }
}

impl Drop for PwriteFile {
    fn drop(&mut self) {
        // No write is under way: each one borrows the handle until it has ended, and a queue holds it.
        if self.claim.get_mut().unwrap_or_else(PoisonError::into_inner).is_some() {
            lock::release(&self.file);
        }
    }
}

/// The zeroes that every file of the process writes, made when they are first needed.
fn zeroes() -> io::Result<&'static [u8]> {
    static ZEROES: OnceLock<AlignedBuf> = OnceLock::new();
    if let Some(zeroes) = ZEROES.get() {
        return Ok(zeroes);
    }
    let zeroes = AlignedBuf::zeroed(ZEROES_BYTES)?;
    Ok(ZEROES.get_or_init(|| zeroes))
}

/// Calls again as long as a signal interrupts.
fn retry(mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            ended => return ended,
        }
    }
}

/// A quota that is used up is, for the engine, a disk that is full.
pub(in crate::disk) fn no_room(error: Errno) -> io::Error {
    match error {
        Errno::DQUOT => io::Error::new(io::ErrorKind::StorageFull, "the disk quota is used up"),
        other => other.into(),
    }
}
