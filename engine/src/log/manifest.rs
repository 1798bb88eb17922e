//! The manifest's file: read whole, replaced whole.
//!
//! A replacement is written into a second file, synced, renamed over the first, and the directory is
//! synced: a crash leaves the old or the new one. The second file is made and its space reserved right
//! after the replacement before, so that a full disk cannot keep a store from recording that a segment
//! is sealed or that it was closed.

use std::io;
use std::sync::Arc;

use super::names;
use crate::disk::{
    Access, AlignedBuf, Disk, DiskFile, read_full_at, unlink_if_there, write_all_at,
};
use crate::error::FileError;
use crate::format::FormatError;
use crate::format::manifest::Manifest;
use crate::limits::{BLOCK, BLOCK_BYTES};

/// How many more segments a reserved file has room for than the manifest has when it is reserved.
const SEGMENTS_AHEAD: usize = 8;

/// The manifest as it is on the disk, and the only way to change it.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    disk: Arc<dyn Disk>,
    current: Manifest,
    /// [`names::MANIFEST_NEXT`], with space reserved; none where that failed.
    reserved: Option<Arc<dyn DiskFile>>,
    /// Whether a replacement failed when it might have taken place already.
    in_doubt: bool,
}

impl ManifestFile {
    pub(crate) fn new(disk: Arc<dyn Disk>, current: Manifest) -> Self {
        let mut file = Self { disk, current, reserved: None, in_doubt: false };
        file.reserve();
        file
    }

    /// What is on the disk.
    pub(crate) fn current(&self) -> &Manifest {
        &self.current
    }

    /// Makes sure that what is on the disk is [`ManifestFile::current`]. To be called before a file is
    /// touched that a replacement in doubt may have named.
    ///
    /// # Errors
    /// As [`ManifestFile::replace`].
    pub(crate) fn settle(&mut self) -> Result<(), FileError> {
        if self.in_doubt { self.replace(|_| {}) } else { Ok(()) }
    }

    /// Changes the manifest; the change is durable when this returns.
    ///
    /// # Errors
    /// [`FileError`]; then the old or the new one is on the disk, and `current` is still the old one.
    pub(crate) fn replace(&mut self, change: impl FnOnce(&mut Manifest)) -> Result<(), FileError> {
        let mut next = self.current.clone();
        change(&mut next);
        next.generation += 1;
        if let Err(error) = self.write(&next) {
            // The next one must differ from the one that may be there.
            self.current.generation = next.generation;
            return Err(FileError::new("replacing", names::MANIFEST, error));
        }
        self.current = next;
        self.reserve();
        Ok(())
    }

    fn write(&mut self, next: &Manifest) -> io::Result<()> {
        let bytes = next.encoded_bytes();
        let mut block =
            AlignedBuf::zeroed(usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?)?;
        next.encode(&mut block);
        let file = match self.reserved.take() {
            Some(file) => file,
            None => self.create(bytes)?,
        };
        write_all_at(&*file, &block, 0)?;
        file.sync()?;
        self.in_doubt = true;
        self.disk.rename(names::MANIFEST_NEXT, names::MANIFEST)?;
        self.disk.sync_dir()?;
        self.in_doubt = false;
        Ok(())
    }

    fn create(&self, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        unlink_if_there(&*self.disk, names::MANIFEST_NEXT)?;
        let file = self.disk.create(names::MANIFEST_NEXT)?;
        file.allocate(bytes)?;
        Ok(file)
    }

    /// Makes room for the next replacement, as far as there is any.
    fn reserve(&mut self) {
        // Few types are new in a segment, so the rest of a block does.
        let bytes = self.current.encoded_bytes_with(SEGMENTS_AHEAD) + BLOCK;
        self.reserved = self.create(bytes).ok();
    }
}

/// Reads the manifest; `None` where there is none.
///
/// # Errors
/// The operating system's, or what is wrong with the bytes.
pub(crate) fn read_manifest(disk: &dyn Disk) -> io::Result<Option<Result<Manifest, FormatError>>> {
    let file = match disk.open(names::MANIFEST, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // A file that is longer than what its first block says has room that was reserved.
    let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
    let read = read_full_at(&*file, &mut block, 0)?;
    let used = match Manifest::used_bytes(&block[..read.min(BLOCK_BYTES)]) {
        Ok(used) => used.min(file.len()?),
        Err(error) => return Ok(Some(Err(error))),
    };
    let length = usize::try_from(used).map_err(io::Error::other)?;
    let mut buffer = AlignedBuf::zeroed(length)?;
    let read = read_full_at(&*file, &mut buffer, 0)?;
    Ok(Some(Manifest::parse(&buffer[..read.min(length)])))
}
