//! Verification of snapshots: everything is read from the disk, past the page cache, and compared with what it should be.
//!
//! Owns what is a finding. States are not folded again: that is done when they are taken, for some of them.

use std::sync::Arc;

use super::handle::SnapshotInfo;
use super::room::Room;
use super::segments::SealedSegment;
use crate::disk::read_whole;
use crate::error::{FileError, ReadError, SnapshotError};
use crate::format::FormatError;
use crate::format::checksum::SegmentKey;
use crate::format::snapshot::{
    Entry, SnapshotRecord, SnapshotsFooter, check_page, checked_record, page_entries, parse_header,
    records,
};
use crate::limits::{BLOCK, BLOCK_BYTES};

/// What a verification of snapshots found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotVerification {
    /// Snapshots that are good: their bytes, their place in the index, and the event in the log that they reflect. States are
    /// not folded again.
    pub snapshots: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is not as it should be, a line each. None of it is ever used.
    pub findings: Vec<String>,
}

impl SnapshotVerification {
    pub(super) fn run(room: &Room, mut progress: impl FnMut(u64)) -> Result<Self, SnapshotError> {
        let mut found = Self::default();
        for segment in room.segments.sealed().iter() {
            let name = segment.name();
            let bytes = read_whole(&*room.segments.disk, &name);
            let bytes = match bytes.map_err(FileError::at("reading", &name)) {
                // Compacted meanwhile, here or by the writer beside us.
                Err(error) if error.is_not_found() && !room.is_listed(segment) => continue,
                other => other?,
            };
            found.bytes += bytes.len() as u64;
            match parse_header(&bytes) {
                Ok(identity) if identity.store != room.segments.store => {
                    found.findings.push(format!("{name}: it is of the store {}", identity.store));
                }
                Ok(identity) if identity.segment != segment.number => {
                    let number = identity.segment;
                    found.findings.push(format!("{name}: it is the segment {number}"));
                }
                Ok(identity) => found.check(room, &name, &SegmentKey::new(identity), &bytes)?,
                Err(error) => found.findings.push(format!("{name}: its header: {error}")),
            }
            progress(found.bytes);
        }
        Ok(found)
    }

    fn check(
        &mut self,
        room: &Room,
        name: &str,
        key: &SegmentKey,
        bytes: &[u8],
    ) -> Result<(), SnapshotError> {
        let footer_at = bytes.len().saturating_sub(BLOCK_BYTES);
        let footer = SnapshotsFooter::parse(key, bytes.len() as u64, &bytes[footer_at..]);
        let index =
            match footer.and_then(|footer| index_of(key, &footer, bytes).map(|i| (footer, i))) {
                Ok((footer, mut index)) => {
                    let ordered = index.is_sorted_by_key(Entry::order);
                    index.sort_unstable_by_key(|entry| entry.offset);
                    let ends = index.iter().map(|entry| entry.offset + u64::from(entry.bytes));
                    let begins = index.iter().map(|entry| entry.offset).chain([footer.records_end]);
                    if !ordered || !std::iter::once(BLOCK).chain(ends).eq(begins) {
                        let what = "its index is not that of its snapshots";
                        self.findings.push(format!("{name}: {what}"));
                    }
                    index
                }
                Err(error) => {
                    self.findings.push(format!("{name}: its footer or its index: {error}"));
                    // As they are found without.
                    let all = records(key, BLOCK, bytes.get(BLOCK_BYTES..).unwrap_or_default());
                    all.map(|(offset, record)| record.entry(offset)).collect()
                }
            };
        for entry in index {
            let at = usize::try_from(entry.offset).unwrap_or(usize::MAX);
            match checked_record(key, entry.offset, bytes.get(at..).unwrap_or_default()) {
                Ok(record) if record.entry(entry.offset) == entry => {
                    self.check_record(room, name, entry.offset, &record)?;
                }
                Ok(_) => {
                    let what = format!("its index says something else of offset {at}");
                    self.findings.push(format!("{name}: {what}"));
                }
                Err(error) => {
                    self.findings.push(format!("{name}: the snapshot at offset {at}: {error}"));
                }
            }
        }
        Ok(())
    }

    fn check_record(
        &mut self,
        room: &Room,
        name: &str,
        offset: u64,
        record: &SnapshotRecord<'_>,
    ) -> Result<(), SnapshotError> {
        let info = SnapshotInfo::of(record);
        if !room.writes && info.position.get() > room.reads.watermark.get() {
            // Taken by the writer beside us, of events that are not shown here.
            return Ok(());
        }
        let stream = (!info.is_of_projection).then_some(&*info.stream);
        let what = match room.stamp_at(info.position.get(), stream) {
            Ok(found) if found == Some(record.stamp()) => {
                self.snapshots += 1;
                return Ok(());
            }
            Ok(_) => "the log has another event there, or none".into(),
            Err(ReadError::File(error)) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        self.findings.push(format!(
            "{name}: the snapshot of {} {:?} at position {} (offset {offset}): {what}",
            if info.is_of_projection { "projection" } else { "stream" },
            info.stream,
            info.position,
        ));
        Ok(())
    }
}

/// The entries that a file's index has, all of them.
fn index_of(
    key: &SegmentKey,
    footer: &SnapshotsFooter,
    bytes: &[u8],
) -> Result<Vec<Entry>, FormatError> {
    let begin = usize::try_from(footer.index_at()).map_err(|_| FormatError::Short)?;
    let pages = usize::try_from(footer.pages()).map_err(|_| FormatError::Short)?;
    let index = bytes.get(begin..).ok_or(FormatError::Short)?;
    let mut entries = Vec::new();
    for (number, page) in index.chunks_exact(BLOCK_BYTES).take(pages).enumerate() {
        check_page(key, footer.index_at() + number as u64 * BLOCK, page)?;
        entries.extend(page_entries(page));
    }
    Ok(entries)
}

impl Room {
    /// Whether a segment should be there: a reader does not know.
    fn is_listed(&self, segment: &Arc<SealedSegment>) -> bool {
        self.writes && self.segments.sealed().iter().any(|other| Arc::ptr_eq(other, segment))
    }
}
