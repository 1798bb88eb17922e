//! Opening a directory: owns its durable creation and the trial of direct I/O.
//!
//! It calls the operating system. Only `PwriteDisk` calls it.

use std::fs::{DirBuilder, File};
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{FILE_MODE, PROBE_NAME, WriteMode};
use crate::disk::AlignedBuf;
use crate::limits::BLOCK_BYTES;

/// Opens a directory, not what may have become of its name.
pub(super) fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Creates `dir` with the parents that are missing, one after the other from the top, each entry durable
/// before anything is put below it: after a power cut there is no store whose directory is gone.
pub(super) fn create_durably(dir: &Path) -> io::Result<()> {
    let dir = std::path::absolute(dir)?;
    let mut missing: Vec<&Path> = Vec::new();
    let mut there: &Path = &dir;
    while !there.exists() {
        missing.push(there);
        match there.parent() {
            Some(parent) => there = parent,
            None => break,
        }
    }
    // Whoever created this one may have been killed before the next line, by which it becomes durable.
    // That is for good measure: of a directory that has long been there, the parent may be closed to us.
    if let Some(parent) = canonical_parent(there)
        && let Err(error) = sync(&parent)
    {
        tracing::debug!(dir = %parent.display(), %error, "could not sync the parent directory");
    }
    for path in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => {}
            // Someone else was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error),
        }
        if let Some(parent) = path.parent() {
            sync(parent)?;
        }
    }
    Ok(())
}

/// The directory that holds the entry of `path` itself, which need not be the one its path says where
/// that is a link.
fn canonical_parent(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()?.parent().map(Path::to_path_buf)
}

fn sync(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::fsync(directory(dir)?)?)
}

/// Writes one block past the page cache, to see whether that can be done here. `None` where it cannot be
/// known, because there is no room for the block: then the first file to be opened shows it.
pub(super) fn probe(dir: &OwnedFd) -> io::Result<Option<WriteMode>> {
    verdict(nameless(dir).and_then(|file| write_block(&file)))
}

/// As [`probe`], with a file that has a name.
#[cfg(test)]
pub(super) fn probe_named(dir: &OwnedFd) -> io::Result<Option<WriteMode>> {
    verdict(named(dir).and_then(|file| write_block(&file)))
}

fn verdict(written: Result<(), Errno>) -> io::Result<Option<WriteMode>> {
    match written {
        Ok(()) => Ok(Some(WriteMode::Direct)),
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(Some(WriteMode::Buffered)),
        Err(Errno::NOSPC | Errno::DQUOT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The flags of a file to probe with.
const PROBE: OFlags = OFlags::RDWR.union(OFlags::DIRECT).union(OFlags::CLOEXEC);

/// Opens a file without a name for direct I/O.
pub(super) fn nameless(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(dir, ".", PROBE | OFlags::TMPFILE, FILE_MODE) {
        // A file system without nameless files says so in one of these ways; it may mean direct I/O
        // just as well, which the named file will show.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => named(dir),
        opened => opened,
    }
}

/// Opens a file with a name, and takes the name away. What an earlier process left of it is taken over
/// and removed with it.
fn named(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = PROBE | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat(dir, PROBE_NAME, flags, FILE_MODE);
    // Also where it could not be opened: some file systems create it before they refuse.
    match rustix::fs::unlinkat(dir, PROBE_NAME, AtFlags::empty()) {
        // Another process probes at the same time.
        Ok(()) | Err(Errno::NOENT) => opened,
        Err(error) => opened.and(Err(error)),
    }
}

fn write_block(file: &OwnedFd) -> Result<(), Errno> {
    let block = AlignedBuf::zeroed(BLOCK_BYTES).map_err(|_| Errno::NOMEM)?;
    match rustix::io::pwritev2(file, &[IoSlice::new(&block)], 0, ReadWriteFlags::DSYNC)? {
        BLOCK_BYTES => Ok(()),
        // A short write of a single block can only mean that there is no room for it.
        _ => Err(Errno::NOSPC),
    }
}

/// Whether a file that was opened for direct I/O can also be read so.
pub(super) fn reads_directly(file: &File) -> io::Result<bool> {
    let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
    match rustix::io::pread(file, &mut *block, 0) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        // What else is wrong with the file is for its reader to meet.
        Ok(_) | Err(_) => Ok(true),
    }
}
