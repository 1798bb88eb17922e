//! The real file system: owns [`PwriteDisk`].
//!
//! It calls the operating system through `rustix` and `std::fs`, in calls that block; durable writes of
//! one thread may go through a ring instead (`uring`), several at a time, where that is faster.
//!
//! Every name is resolved in the
//! directory that was opened first, so that renaming or replacing a parent changes nothing. A file has
//! one descriptor: durable writes ask for durability by the call (`RWF_DSYNC`), not by a second
//! descriptor opened for it, so that the lock on a file and the writes to it end together.

mod choice;
mod file;
mod open;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use self::choice::Choice;
pub(super) use self::file::{PwriteFile, no_room};
use super::lock::{Claim, FileLock};
use super::uring::{self, UringQueue};
use super::{Access, DirEntry, Disk, DiskFile, DiskLock, WriteQueue, check};

/// Owner-only.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// The file that is written where a file system has no nameless ones; see [`open`]. Never listed.
const PROBE_NAME: &str = "probe.tmp";

/// How a [`PwriteDisk`] reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Past the page cache (`O_DIRECT`); a durable write is one call with `RWF_DSYNC`.
    Direct,
    /// As [`WriteMode::Direct`], and several durable writes at a time go through a ring of the kernel
    /// (`io_uring`). Nothing but the commit path has several.
    Uring,
    /// Through the page cache; a durable write is a write and an `fdatasync`, and a read drops what the
    /// cache has of the range first, so that it is the device that answers.
    Buffered,
}

/// How to open a [`PwriteDisk`]; see [`PwriteDisk::options`].
#[derive(Debug, Clone, Default)]
pub struct PwriteOptions {
    mode: Option<WriteMode>,
    read_only: bool,
}

impl PwriteOptions {
    /// Forces how files are read and written. Default: [`WriteMode::Direct`] where a trial write of one
    /// block shows that the file system can, else [`WriteMode::Buffered`]. When a queue of writes is
    /// first wanted ([`Disk::write_queue`]), a trial of some milliseconds turns the first into
    /// [`WriteMode::Uring`] where that is faster; forced, it stays as it is.
    #[must_use]
    pub fn mode(mut self, mode: WriteMode) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Creates nothing and refuses every change with [`io::ErrorKind::PermissionDenied`]. Default:
    /// false.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Opens the directory; creates it (0700) with the parents that are missing, each of which is
    /// durable when this returns.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where a read-only directory does not exist,
    /// [`io::ErrorKind::Unsupported`] where [`WriteMode::Direct`] or [`WriteMode::Uring`] was forced and
    /// the file system or the kernel has no such thing, else what the operating system reports.
    pub fn open(self, dir: impl AsRef<Path>) -> io::Result<PwriteDisk> {
        PwriteDisk::open_as(dir.as_ref(), &self)
    }
}

/// A directory of the real file system. Clones share it.
///
/// ```no_run
/// use stratalog::disk::{AlignedBuf, Disk, PwriteDisk, write_all_durable_at};
///
/// let disk = PwriteDisk::open("data/events")?;
/// let file = disk.create("log")?;
/// disk.sync_dir()?;
/// let mut block = AlignedBuf::zeroed(4096)?;
/// block[..5].copy_from_slice(b"hello");
/// write_all_durable_at(file.as_ref(), &[&block], 0)?;
/// assert_eq!(disk.list()?[0].bytes, 4096);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PwriteDisk(Arc<Directory>);

/// What the disk and its files share.
#[derive(Debug)]
struct Directory {
    /// Canonical; for messages only, since names are resolved in `fd`.
    path: PathBuf,
    fd: OwnedFd,
    read_only: bool,
    /// Empty until a file has shown whether the file system takes direct I/O: where nothing may be
    /// written, or could be, when the directory was opened.
    mode: OnceLock<WriteMode>,
    /// Whether `mode` was asked for, rather than found.
    forced: bool,
    /// Whether a queue is a ring; empty until one is wanted, and where `mode` was forced.
    choice: OnceLock<Choice>,
    /// Whether the file system writes zeroes itself when asked; true until it refuses once.
    writes_zeroes: AtomicBool,
}

impl PwriteDisk {
    /// Opens the directory `dir` for reading and writing; creates it (0700) with the parents that are
    /// missing. Chooses the [`WriteMode`] by a trial write.
    ///
    /// # Errors
    /// As [`PwriteOptions::open`].
    pub fn open(dir: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().open(dir)
    }

    /// Opens the directory `dir`, which must exist, for reading only.
    ///
    /// # Errors
    /// As [`PwriteOptions::open`].
    pub fn open_read_only(dir: impl AsRef<Path>) -> io::Result<Self> {
        Self::options().read_only(true).open(dir)
    }

    /// Options to open a directory with.
    pub fn options() -> PwriteOptions {
        PwriteOptions::default()
    }

    /// The directory, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// How files are read and written; `None` until the first file is opened, where the directory was
    /// opened for reading only or had no room for a trial write.
    pub fn mode(&self) -> Option<WriteMode> {
        let ring = self.0.choice.get().is_some_and(Choice::is_ring);
        if ring { Some(WriteMode::Uring) } else { self.0.mode.get().copied() }
    }

    fn open_as(dir: &Path, options: &PwriteOptions) -> io::Result<Self> {
        if !options.read_only {
            open::create_durably(dir)?;
        }
        let path = dir.canonicalize()?;
        let fd = open::directory(&path)?;
        let mode = match (options.mode, options.read_only) {
            (Some(WriteMode::Buffered), _) => Some(WriteMode::Buffered),
            (forced, true) => forced,
            (None, false) => open::probe(&fd)?,
            (Some(direct @ (WriteMode::Direct | WriteMode::Uring)), false) => {
                if open::probe(&fd)? == Some(WriteMode::Buffered) {
                    return Err(io::Error::new(
                        io::ErrorKind::Unsupported,
                        "the file system has no direct I/O",
                    ));
                }
                if direct == WriteMode::Uring {
                    uring::available()?;
                }
                Some(direct)
            }
        };
        let forced = options.mode.is_some();
        let directory = Directory {
            path,
            fd,
            read_only: options.read_only,
            mode: mode.map_or_else(OnceLock::new, OnceLock::from),
            forced,
            choice: OnceLock::new(),
            writes_zeroes: AtomicBool::new(true),
        };
        tracing::info!(dir = %directory.path.display(), mode = ?mode, forced, "directory opened");
        Ok(Self(Arc::new(directory)))
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.0.open_file(name, flags)?;
        Ok(Arc::new(PwriteFile::new(Arc::clone(&self.0), file, flags.contains(OFlags::RDWR))))
    }
}

impl Directory {
    fn mode(&self) -> WriteMode {
        self.mode.get().copied().unwrap_or(WriteMode::Buffered)
    }

    fn writable(&self) -> io::Result<()> {
        check::writable(!self.read_only)
    }

    fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        match self.mode.get() {
            Some(WriteMode::Direct | WriteMode::Uring) => {
                self.open_plain(name, flags | OFlags::DIRECT)
            }
            Some(WriteMode::Buffered) => self.open_plain(name, flags),
            None => self.open_trying(name, flags),
        }
    }

    fn open_plain(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let fd = rustix::fs::openat(&self.fd, name, flags | OFlags::CLOEXEC, FILE_MODE)?;
        Ok(fd.into())
    }

    /// Opens a file and finds out by it how this file system is to be read.
    fn open_trying(&self, name: &str, flags: OFlags) -> io::Result<File> {
        if flags.contains(OFlags::CREATE) {
            // A file system that refuses direct I/O may do so after it has created the file.
            self.open_plain(name, flags)?;
        }
        let flags = flags.difference(OFlags::CREATE | OFlags::EXCL);
        let mode = match self.open_plain(name, flags | OFlags::DIRECT) {
            Ok(file) if open::reads_directly(&file)? => WriteMode::Direct,
            Ok(_) => WriteMode::Buffered,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => WriteMode::Buffered,
            Err(error) => return Err(error),
        };
        tracing::info!(dir = %self.path.display(), ?mode, "tried by opening a file");
        match self.mode.get_or_init(|| mode) {
            WriteMode::Direct | WriteMode::Uring => self.open_plain(name, flags | OFlags::DIRECT),
            WriteMode::Buffered => self.open_plain(name, flags),
        }
    }

    fn stat(&self, name: impl rustix::path::Arg) -> io::Result<Stat> {
        Ok(rustix::fs::statat(&self.fd, name, AtFlags::empty())?)
    }
}

impl Disk for PwriteDisk {
    fn describe(&self) -> String {
        let how = match self.mode() {
            Some(WriteMode::Direct) => "O_DIRECT, durable by RWF_DSYNC",
            Some(WriteMode::Uring) => "O_DIRECT, durable by RWF_DSYNC, several by io_uring",
            Some(WriteMode::Buffered) => "buffered, durable by fdatasync",
            None => "mode not tried yet",
        };
        let only = if self.0.read_only { ", read only" } else { "" };
        let choice = self.0.choice.get().map_or_else(String::new, |found| format!(" ({found})"));
        format!("pwrite in {}: {how}{choice}{only}", self.0.path.display())
    }

    fn list(&self) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.0.fd)? {
            let entry = entry?;
            // A name that is no UTF-8 is none that the engine has given.
            let Some(name) = own_name(entry.file_name()) else { continue };
            let stat = match self.0.stat(entry.file_name()) {
                Ok(stat) => stat,
                // Removed since it was read, or a link that leads nowhere.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                let bytes = u64::try_from(stat.st_size).unwrap_or(0);
                entries.push(DirEntry { name: name.to_owned(), bytes });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        check::name(name)?;
        self.0.writable()?;
        self.open_file(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        check::name(name)?;
        match access {
            Access::Read => self.open_file(name, OFlags::RDONLY),
            Access::Write => {
                self.0.writable()?;
                self.open_file(name, OFlags::RDWR)
            }
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check::name(from)?;
        check::name(to)?;
        self.0.writable()?;
        Ok(rustix::fs::renameat(&self.0.fd, from, &self.0.fd, to)?)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        check::name(name)?;
        self.0.writable()?;
        Ok(rustix::fs::unlinkat(&self.0.fd, name, AtFlags::empty())?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0.fd)?)
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>> {
        /// How often the file may be replaced between opening and locking it before that is an error.
        const REPLACED_MAX: u32 = 16;
        check::name(name)?;
        self.0.writable()?;
        for _ in 0..REPLACED_MAX {
            let file = self.0.open_plain(name, OFlags::RDWR | OFlags::CREATE)?;
            let Some(claim) = Claim::take(&file)? else { return Ok(None) };
            let lock = FileLock::new(file, claim);
            // A lock on a file that has lost its name would keep nobody away.
            match self.0.stat(name) {
                Ok(stat) if lock.is_for(stat.st_dev, stat.st_ino) => {
                    return Ok(Some(Box::new(lock)));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the lock file is replaced again and again"))
    }

    fn write_queue(&self, depth: usize) -> io::Result<Option<Box<dyn WriteQueue>>> {
        check::depth(depth)?;
        let ring = || -> io::Result<Option<Box<dyn WriteQueue>>> {
            Ok(Some(Box::new(UringQueue::new(depth)?)))
        };
        match self.0.mode.get() {
            _ if self.0.read_only => Ok(None),
            Some(WriteMode::Uring) => ring(),
            Some(WriteMode::Direct)
                if !self.0.forced
                    && self.0.choice.get_or_init(|| Choice::try_in(&self.0)).is_ring() =>
            {
                ring().or_else(|error| {
                    tracing::warn!(%error, "one write after the other, since there is no other ring");
                    Ok(None)
                })
            }
            Some(WriteMode::Direct | WriteMode::Buffered) | None => Ok(None),
        }
    }
}

/// The name of an entry that may be a file of the engine.
fn own_name(name: &CStr) -> Option<&str> {
    name.to_str().ok().filter(|name| check::name(name).is_ok() && *name != PROBE_NAME)
}

impl Directory {
    fn writes_zeroes(&self) -> bool {
        self.writes_zeroes.load(Ordering::Relaxed)
    }

    fn give_up_writing_zeroes(&self) {
        // Relaxed: a thread that sees the old value asks once more and is refused once more.
        self.writes_zeroes.store(false, Ordering::Relaxed);
    }
}
