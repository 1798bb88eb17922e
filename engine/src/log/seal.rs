//! Sealing a full segment: footer, manifest, length, index.
//!
//! Each step is durable before the next begins, and each can be done again: a crash in between leaves a
//! segment that is sealed once more, or whose index is built again, when the store is opened.

use std::io;
use std::sync::Arc;

use super::indexing::stamp_of;
use super::manifest::ManifestFile;
use super::names;
use super::sealed::SealedSegment;
use crate::commit::LiveSegment;
use crate::disk::{AlignedBuf, Disk, unlink_if_there, write_all_at, write_all_durable_at};
use crate::error::FileError;
use crate::format::footer;
use crate::format::manifest::SegmentState;
use crate::index::{EventType, seal as seal_index};
use crate::limits::BLOCK_BYTES;

/// Seals a segment of which everything is durable, and gives the form in which it is read from now on.
///
/// # Errors
/// [`FileError`]; then the segment goes on being read from memory, and sealing it can be tried again.
pub(crate) fn seal(
    disk: &Arc<dyn Disk>,
    manifest: &mut ManifestFile,
    live: &LiveSegment,
) -> Result<SealedSegment, FileError> {
    let content = live.content();
    let name = names::segment(live.number());
    let footer = || -> io::Result<()> {
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
        footer::write(&live.key, &content, &mut block);
        write_all_durable_at(&*live.file, &[&block], content.footer_offset())
    };
    footer().map_err(FileError::at("sealing", &name))?;

    let file_bytes = content.file_bytes();
    let recorded = manifest.current().segments.iter().any(|segment| {
        segment.number == live.number() && segment.state == SegmentState::Sealed(content)
    });
    if !recorded {
        manifest.replace(|next| {
            for segment in &mut next.segments {
                if segment.number == live.number() {
                    segment.state = SegmentState::Sealed(content);
                    segment.file_bytes = file_bytes;
                }
            }
        })?;
    }
    let cut = live.file.truncate(file_bytes).and_then(|()| live.file.sync());
    cut.map_err(FileError::at("cutting", &name))?;

    let name = names::index(live.number());
    write_index(disk, live, &name).map_err(FileError::at("writing", &name))?;
    Ok(SealedSegment::new(Arc::clone(disk), live.key.clone(), content))
}

fn write_index(disk: &Arc<dyn Disk>, live: &LiveSegment, name: &str) -> io::Result<()> {
    let types: Vec<EventType<'_>> = live
        .types
        .iter()
        .map(|event_type| EventType {
            schema_version: event_type.schema_version,
            fingerprint: event_type.fingerprint,
            name: &event_type.name,
        })
        .collect();
    let bytes = seal_index(&live.index, &stamp_of(&live.key, &live.content()), &types)
        .map_err(io::Error::other)?;
    write_index_file(disk, live.number(), &bytes, name)
}

/// Puts an index file in place, whole.
///
/// # Errors
/// The operating system's.
pub(crate) fn write_index_file(
    disk: &Arc<dyn Disk>,
    number: u64,
    bytes: &[u8],
    name: &str,
) -> io::Result<()> {
    let next = names::index_next(number);
    unlink_if_there(&**disk, &next)?;
    let mut buffer = AlignedBuf::zeroed(bytes.len().next_multiple_of(BLOCK_BYTES))?;
    buffer[..bytes.len()].copy_from_slice(bytes);
    let file = disk.create(&next)?;
    let written = write_all_at(&*file, &buffer, 0).and_then(|()| file.sync());
    if let Err(error) = written {
        // Its space may be what sealing and closing need now.
        let _ = disk.unlink(&next);
        return Err(error);
    }
    disk.rename(&next, name)?;
    disk.sync_dir()
}
