//! Sealing a full segment: footer, manifest, length, and the two files of its index.
//!
//! Each step is durable before the next begins, and each can be done again: a crash in between leaves a
//! segment that is sealed once more, or whose index is built again, when the store is opened.

use std::io;
use std::sync::Arc;

use super::indexing::build_from_live;
use super::manifest::ManifestFile;
use super::names;
use super::rebuilding::Rebuilding;
use super::sealed::SealedSegment;
use crate::commit::LiveSegment;
use crate::disk::{AlignedBuf, Disk, unlink_if_there, write_all_at, write_all_durable_at};
use crate::error::FileError;
use crate::format::footer;
use crate::format::manifest::SegmentState;
use crate::format::stored_types::StoredTypes;
use crate::limits::BLOCK_BYTES;

/// Seals a segment of which everything is durable, and gives the form in which it is read from now on, and the types of all
/// sealed segments.
///
/// # Errors
/// [`FileError`]; then the segment goes on being read from memory, and sealing it can be tried again.
pub(crate) fn seal(
    disk: &Arc<dyn Disk>,
    manifest: &mut ManifestFile,
    live: &LiveSegment,
    rebuilding: &Arc<Rebuilding>,
) -> Result<(SealedSegment, StoredTypes), FileError> {
    let content = live.content();
    let name = names::segment(live.number());
    let built = build_from_live(live).map_err(FileError::at("indexing", &name))?;
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
            next.types.add(live.types.iter().zip(built.events_of_types.iter().copied()));
        })?;
    }
    let cut = live.file.truncate(file_bytes).and_then(|()| live.file.sync());
    cut.map_err(FileError::at("cutting", &name))?;

    let sealed = SealedSegment::new(Arc::clone(disk), live.key.clone(), content, true, rebuilding);
    let table = names::table(live.number());
    write_index_file(&**disk, &built.table, &table).map_err(FileError::at("writing", &table))?;
    if content.events > 0 {
        let run = names::run(live.number(), live.number());
        write_index_file(&**disk, &built.run, &run).map_err(FileError::at("writing", &run))?;
    }
    disk.sync_dir().map_err(FileError::at("syncing", "the directory"))?;
    Ok((sealed, manifest.current().types.clone()))
}

/// Puts a file in place, whole: of the index, or of what is beside it. It is durable once the directory is synced.
///
/// # Errors
/// The operating system's.
pub(crate) fn write_index_file(disk: &dyn Disk, bytes: &[u8], name: &str) -> io::Result<()> {
    let next = names::next(name);
    unlink_if_there(disk, &next)?;
    let mut buffer = AlignedBuf::zeroed(bytes.len().next_multiple_of(BLOCK_BYTES))?;
    buffer[..bytes.len()].copy_from_slice(bytes);
    let file = disk.create(&next)?;
    let written = write_all_at(&*file, &buffer, 0).and_then(|()| file.sync());
    if let Err(error) = written {
        // Its space may be what sealing and closing need now.
        let _ = disk.unlink(&next);
        return Err(error);
    }
    disk.rename(&next, name)
}
