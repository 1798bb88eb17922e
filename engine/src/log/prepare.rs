//! Making a segment before it is needed.

use std::io;
use std::sync::Arc;

use super::manifest::ManifestFile;
use super::names;
use crate::append::Prepared;
use crate::disk::{AlignedBuf, Disk, DiskFile, unlink_if_there, write_all_at};
use crate::error::FileError;
use crate::event::Timestamp;
use crate::format::checksum::{SegmentIdentity, SegmentKey};
use crate::format::manifest::{SegmentEntry, SegmentState};
use crate::format::segment::SegmentHeader;
use crate::limits::{BLOCK, BLOCK_BYTES};

/// How much is zeroed in one step: large enough for the device's bandwidth, small enough that a commit
/// beside it does not wait long.
pub(super) const STEP_BYTES: u64 = 1 << 20;

/// A segment that is being made: created, its space reserved, and zeroed as far as it says.
///
/// It is headed, synced, its directory entry made durable, and then named in the manifest by
/// [`Making::finish`]. Only then may anything in it be acknowledged. What is not zeroed by then reads as
/// zeroes all the same, but writing there costs the file system more.
#[derive(Debug)]
pub(crate) struct Making {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    number: u64,
    file_bytes: u64,
    zeroed_end: u64,
}

impl Making {
    /// Creates the file and reserves its space.
    ///
    /// # Errors
    /// [`FileError`]; what was made so far is removed again, as far as possible, and never matters.
    pub(super) fn begin(
        disk: &Arc<dyn Disk>,
        manifest: &mut ManifestFile,
        file_bytes: u64,
    ) -> Result<Self, FileError> {
        manifest.settle()?;
        let number = manifest.current().segments.last().map_or(1, |last| last.number + 1);
        let name = names::segment(number);
        let made = unlink_if_there(&**disk, &name)
            .and_then(|()| disk.create(&name))
            .and_then(|file| file.allocate(file_bytes).map(|()| file));
        let file = made.map_err(FileError::at("creating", &name)).inspect_err(|_| {
            // Its space may be what sealing and closing need now.
            let _ = disk.unlink(&name);
        })?;
        Ok(Self { disk: Arc::clone(disk), file, number, file_bytes, zeroed_end: BLOCK })
    }

    /// The length of the segment.
    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// How many bytes are not zeroed yet.
    pub(super) fn left(&self) -> u64 {
        self.file_bytes - self.zeroed_end
    }

    /// Zeroes the next part, and says how many bytes that were.
    ///
    /// # Errors
    /// As [`Making::begin`].
    pub(super) fn zero_step(&mut self) -> Result<u64, FileError> {
        let bytes = self.left().min(STEP_BYTES);
        let zeroed = self.file.zero(self.zeroed_end, bytes);
        zeroed.map_err(|error| self.failed(error))?;
        self.zeroed_end += bytes;
        Ok(bytes)
    }

    /// Completes it.
    ///
    /// # Errors
    /// As [`Making::begin`].
    pub(super) fn finish(self, manifest: &mut ManifestFile) -> Result<Prepared, FileError> {
        let current = manifest.current();
        let salt = fastrand::u64(..);
        let identity = SegmentIdentity { store: current.store, segment: self.number, salt };
        let header =
            SegmentHeader { identity, epoch: current.epoch, created_at: Timestamp::now().0 };
        self.head(&header).map_err(|error| self.failed(error))?;
        let Self { file, number, file_bytes, zeroed_end, .. } = self;
        manifest.replace(|next| {
            let state = SegmentState::Prepared;
            next.segments.push(SegmentEntry { number, salt, file_bytes, state });
        })?;
        Ok(Prepared { key: SegmentKey::new(identity), file, file_bytes, zeroed_end })
    }

    fn head(&self, header: &SegmentHeader) -> io::Result<()> {
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
        header.write(&mut block);
        write_all_at(&*self.file, &block, 0)?;
        self.file.sync()?;
        self.disk.sync_dir()?;
        if !self.file.try_lock()? {
            return Err(io::Error::other(
                "a file that was just created is locked by somebody else",
            ));
        }
        Ok(())
    }

    /// Removes what was made so far, as far as possible; it never matters.
    pub(super) fn discard(&self) {
        let _ = self.disk.unlink(&names::segment(self.number));
    }

    fn failed(&self, error: io::Error) -> FileError {
        let name = names::segment(self.number);
        self.discard();
        FileError::new("creating", &name, error)
    }
}

/// Makes a segment at once, all of it zeroed.
///
/// # Errors
/// As [`Making::begin`].
pub(crate) fn prepare(
    disk: &Arc<dyn Disk>,
    manifest: &mut ManifestFile,
    file_bytes: u64,
) -> Result<Prepared, FileError> {
    let mut making = Making::begin(disk, manifest, file_bytes)?;
    while making.left() > 0 {
        making.zero_step()?;
    }
    making.finish(manifest)
}

/// Gives a prepared segment more room, for an append that needs it.
///
/// # Errors
/// [`FileError`]; the segment is as it was.
pub(crate) fn grow(
    manifest: &mut ManifestFile,
    prepared: &mut Prepared,
    file_bytes: u64,
) -> Result<(), FileError> {
    let number = prepared.key.identity.segment;
    let (file, before) = (&prepared.file, prepared.file_bytes);
    let grown = file
        .allocate(file_bytes)
        .and_then(|()| file.zero(before, file_bytes - before))
        .and_then(|()| file.sync());
    grown.map_err(FileError::at("growing", &names::segment(number)))?;
    manifest.replace(|next| {
        for segment in next.segments.iter_mut().filter(|segment| segment.number == number) {
            segment.file_bytes = file_bytes;
        }
    })?;
    if prepared.zeroed_end == before {
        prepared.zeroed_end = file_bytes;
    }
    prepared.file_bytes = file_bytes;
    Ok(())
}
