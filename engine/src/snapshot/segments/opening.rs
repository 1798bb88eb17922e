//! Finding what there is of snapshots when a store is opened.
//!
//! Owns what becomes of the files that an earlier opening has left: of sealed segments only the names are looked at; one that
//! was open is read, and sealed as far as it is good; what a compaction has not finished is removed. An opening for reading
//! changes none of it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rkyv::util::AlignedVec;

use super::adding::ORDINAL_BITS;
use super::drops::Drops;
use super::recent::{Recent, RecentRecord};
use super::writer::SegmentWriter;
use super::{PIECE_BYTES, SealedSegment, Segments};
use crate::disk::{Access, AlignedBuf, Disk, DiskFile, read_full_at, unlink_if_there};
use crate::error::FileError;
use crate::format::FormatError;
use crate::format::checksum::{SegmentKey, StoreId};
use crate::format::snapshot::{Entry, SnapshotRecord, parse_header, records};
use crate::limits::{BLOCK, BLOCK_BYTES, SNAPSHOT_MEMORY_MAX, SNAPSHOT_SHARE_OPEN};
use crate::log::names;
use crate::snapshot::figures::Figures;
use crate::snapshot::options::SnapshotOptions;

impl Segments {
    /// Finds what there is. For a writer, what an interrupted one has left is taken away or sealed.
    ///
    /// # Errors
    /// What the operating system reports of the directory; what it reports of a file is counted, and the file left out.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        store: StoreId,
        options: SnapshotOptions,
        figures: Arc<Figures>,
        writes: bool,
    ) -> Result<Self, FileError> {
        let listing = disk.list().map_err(FileError::at("listing", "the directory"))?;
        let mut sealed = Vec::new();
        let (mut left, mut next_number) = (Vec::new(), 1);
        for entry in listing {
            let name = &entry.name;
            let Some(number) = names::number_of_snapshots(name) else { continue };
            if number >> (u64::BITS - ORDINAL_BITS) > 0 {
                // No store gets that far: somebody has named it so.
                figures.unusable_segments.add(1);
                continue;
            }
            next_number = next_number.max(number + 1);
            if let Some(number) = names::parse_snapshots(name) {
                sealed.push(Arc::new(SealedSegment::new(number, entry.bytes)));
            } else if let Some(number) = names::parse_open_snapshots(name) {
                left.push(number);
            } else if writes && names::is_unfinished_snapshots(name) {
                let _ = unlink_if_there(&*disk, name);
            }
        }
        sealed.sort_by_key(|segment: &Arc<SealedSegment>| segment.number);
        let (drops, damage) = Drops::read(&*disk, store, (next_number << ORDINAL_BITS) - 1);
        if let Some(error) = &damage {
            tracing::warn!(%error, "what says which snapshots were dropped is of no use: all are");
            figures.damaged_indexes.add(1);
            figures.failed(error);
        }
        // Nothing that is taken from now on may seem to be dropped.
        next_number = next_number.max((drops.load().last() >> ORDINAL_BITS) + 1);
        let segments = Self {
            disk,
            store,
            options,
            figures,
            sealed: ArcSwap::from_pointee(sealed),
            recent: Recent::default(),
            drops,
            writing: Mutex::default(),
            next_number: AtomicU64::new(next_number),
            compacting: Mutex::default(),
            hurried: AtomicUsize::new(0),
            is_crowded: AtomicBool::new(false),
            not_before: Mutex::default(),
        };
        for number in left {
            let name = names::open_snapshots(number);
            if segments.sealed().iter().any(|segment| segment.number == number) {
                // It was sealed, and has kept its old name in a crash.
                if writes {
                    let _ = unlink_if_there(&*segments.disk, &name);
                }
                continue;
            }
            let taken =
                if writes { segments.seal_left(number) } else { segments.show_left(number) };
            if let Err(error) = taken {
                // It stays as it is, and is tried again at the next opening.
                segments.figures.failed(&FileError::new("reading", &name, error));
            }
        }
        if damage.is_some()
            && writes
            && let Err(error) = segments.drops.write(&*segments.disk, store)
        {
            // The next opening drops all of them again.
            segments.figures.failed(&error);
        }
        if !writes {
            // Until the end of time.
            segments.lock().failed = Some((Instant::now(), Duration::MAX));
        }
        Ok(segments)
    }

    /// Seals what an interrupted writer has left of its open segment, as far as it is good.
    fn seal_left(&self, number: u64) -> io::Result<()> {
        let name = names::open_snapshots(number);
        let file = self.disk.open(&name, Access::Write)?;
        let Some(Left { key, bytes }) = self.read_left(&*file, number)? else {
            return self.disk.unlink(&name);
        };
        let mut entries: Vec<Entry> =
            Self::left(&key, &bytes).map(|(offset, record)| record.entry(offset)).collect();
        let Some(last) = entries.last() else { return self.disk.unlink(&name) };
        let records_end = last.offset + u64::from(last.bytes);
        let writer = SegmentWriter::go_on(file, key, records_end, BLOCK_BYTES)?;
        let sealed = self.finish(number, writer, &mut entries)?;
        self.push_sealed(sealed);
        Ok(())
    }

    /// Shows what the open segment of a writer has, or had when it was interrupted.
    fn show_left(&self, number: u64) -> io::Result<()> {
        let file = match self.disk.open(&names::open_snapshots(number), Access::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Sealed meanwhile, or gone.
                if let Ok(file) = self.disk.open(&names::snapshots(number), Access::Read) {
                    self.push_sealed(SealedSegment::new(number, file.len()?));
                }
                return Ok(());
            }
            other => other?,
        };
        let Some(Left { key, bytes }) = self.read_left(&*file, number)? else { return Ok(()) };
        for (offset, record) in Self::left(&key, &bytes) {
            let mut bytes = AlignedVec::with_capacity(record.bytes().len());
            bytes.extend_from_slice(record.bytes());
            self.recent.insert(RecentRecord { entry: record.entry(offset), bytes });
        }
        Ok(())
    }

    fn left<'a>(
        key: &SegmentKey,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = (u64, SnapshotRecord<'a>)> {
        records(key, BLOCK, bytes.get(BLOCK_BYTES..).unwrap_or_default())
    }

    /// Reads an open segment; none where it is not this store's, or has no header yet.
    fn read_left(&self, file: &dyn DiskFile, number: u64) -> io::Result<Option<Left>> {
        // No more than an open segment may have, whatever the options were, and its last piece.
        let bytes_max = SNAPSHOT_MEMORY_MAX / SNAPSHOT_SHARE_OPEN + PIECE_BYTES as u64;
        let bytes = file.len()?.min(bytes_max);
        let mut bytes = AlignedBuf::zeroed(usize::try_from(bytes).unwrap_or(0))?;
        let read = read_full_at(file, &mut bytes, 0)?;
        bytes[read..].fill(0);
        let identity = match parse_header(&bytes) {
            Ok(identity) if identity.store == self.store && identity.segment == number => identity,
            Ok(_) | Err(FormatError::Newer { .. }) => {
                self.figures.unusable_segments.add(1);
                return Err(io::Error::other("it is not this store's, or of a newer version"));
            }
            Err(_) => return Ok(None),
        };
        Ok(Some(Left { key: SegmentKey::new(identity), bytes }))
    }
}

/// An open segment that was read back.
struct Left {
    key: SegmentKey,
    bytes: AlignedBuf,
}
