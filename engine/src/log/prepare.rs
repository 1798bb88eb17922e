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

/// Makes the next segment: created, its space reserved and zeroed, headed, synced, its directory entry
/// durable, and then named in the manifest. Only then may anything in it be acknowledged.
///
/// # Errors
/// [`FileError`]; what was made so far is removed again, as far as possible, and never matters.
pub(crate) fn prepare(
    disk: &Arc<dyn Disk>,
    manifest: &mut ManifestFile,
    file_bytes: u64,
) -> Result<Prepared, FileError> {
    manifest.settle()?;
    let current = manifest.current();
    let number = current.segments.last().map_or(1, |last| last.number + 1);
    let salt = fastrand::u64(..);
    let identity = SegmentIdentity { store: current.store, segment: number, salt };
    let header = SegmentHeader { identity, epoch: current.epoch, created_at: Timestamp::now().0 };
    let name = names::segment(number);
    let made = create(&**disk, &name, &header, file_bytes);
    let file = made.map_err(FileError::at("creating", &name)).inspect_err(|_| {
        // Its space may be what sealing and closing need now.
        let _ = disk.unlink(&name);
    })?;
    manifest.replace(|next| {
        let state = SegmentState::Prepared;
        next.segments.push(SegmentEntry { number, salt, file_bytes, state });
    })?;
    Ok(Prepared { key: SegmentKey::new(identity), file, file_bytes })
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
    prepared.file_bytes = file_bytes;
    Ok(())
}

fn create(
    disk: &dyn Disk,
    name: &str,
    header: &SegmentHeader,
    file_bytes: u64,
) -> io::Result<Arc<dyn DiskFile>> {
    unlink_if_there(disk, name)?;
    let file = disk.create(name)?;
    file.allocate(file_bytes)?;
    file.zero(BLOCK, file_bytes - BLOCK)?;
    let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
    header.write(&mut block);
    write_all_at(&*file, &block, 0)?;
    file.sync()?;
    disk.sync_dir()?;
    if !file.try_lock()? {
        return Err(io::Error::other("a file that was just created is locked by somebody else"));
    }
    Ok(file)
}
