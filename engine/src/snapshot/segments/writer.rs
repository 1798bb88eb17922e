//! A segment of snapshots as a file that is being written, from its header to its footer.
//!
//! Owns how records become blocks. Whoever has one writes it alone: the open segment's, and the compactor's. Nothing of it
//! is durable before [`SegmentWriter::finish`] has returned: until then the file has a name that says so.

use std::io;
use std::sync::Arc;

use crate::disk::{AlignedBuf, Disk, DiskFile, unlink_if_there, write_all_at};
use crate::event::Timestamp;
use crate::format::checksum::{SegmentIdentity, SegmentKey, StoreId};
use crate::format::constants::SNAPSHOT_PAGE_ENTRIES;
use crate::format::snapshot::{Entry, SnapshotsFooter, write_header, write_page};
use crate::limits::{BLOCK, BLOCK_BYTES};

/// See the module.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    file: Arc<dyn DiskFile>,
    pub key: SegmentKey,
    /// What is not written yet, from a block of the file on.
    buffer: AlignedBuf,
    buffer_at: u64,
    filled: usize,
}

impl SegmentWriter {
    /// Creates the file `name`, in the place of what an interrupted writer may have left there. It is written in pieces of
    /// `piece_bytes`.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn create(
        disk: &dyn Disk,
        store: StoreId,
        number: u64,
        name: &str,
        piece_bytes: usize,
    ) -> io::Result<Self> {
        let mut buffer = AlignedBuf::zeroed(piece_bytes)?;
        let identity = SegmentIdentity { store, segment: number, salt: fastrand::u64(..) };
        write_header(&identity, Timestamp::now().0, &mut buffer);
        unlink_if_there(disk, name)?;
        let file = disk.create(name)?;
        let key = SegmentKey::new(identity);
        Ok(Self { file, key, buffer, buffer_at: 0, filled: BLOCK_BYTES })
    }

    /// Goes on with a file whose records end at `records_end`: what is behind them is cut off, and written anew.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn go_on(
        file: Arc<dyn DiskFile>,
        key: SegmentKey,
        records_end: u64,
        piece_bytes: usize,
    ) -> io::Result<Self> {
        let mut buffer = AlignedBuf::zeroed(piece_bytes)?;
        let buffer_at = crate::format::align_down(records_end, BLOCK);
        let filled = usize::try_from(records_end - buffer_at).unwrap_or(0);
        crate::disk::read_full_at(&*file, &mut buffer[..BLOCK_BYTES], buffer_at)?;
        buffer[filled..].fill(0);
        // The block that the last record ends in is written again, and stays until then.
        file.truncate(crate::format::align_up(records_end, BLOCK))?;
        Ok(Self { file, key, buffer, buffer_at, filled })
    }

    /// Where the next record will stand.
    pub(super) fn end(&self) -> u64 {
        self.buffer_at + self.filled as u64
    }

    /// Writes behind what there is. What does not fill a piece stays in memory.
    ///
    /// # Errors
    /// The operating system's; then it is unknown what the file has.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.buffer.len() - self.filled;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer[self.filled..][..now.len()].copy_from_slice(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == self.buffer.len() {
                write_all_at(&*self.file, &self.buffer, self.buffer_at)?;
                self.buffer_at += self.filled as u64;
                self.filled = 0;
                self.buffer.fill(0);
            }
        }
        Ok(())
    }

    /// Writes what is still in memory, but does not sync.
    ///
    /// # Errors
    /// As [`SegmentWriter::push`].
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let bytes = self.filled.next_multiple_of(BLOCK_BYTES);
        write_all_at(&*self.file, &self.buffer[..bytes], self.buffer_at)
    }

    /// As [`SegmentWriter::flush`], and makes what was written durable.
    ///
    /// # Errors
    /// As [`SegmentWriter::push`].
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync()
    }

    /// Writes the index of these entries and the footer, and makes all of it durable but for the file's name. Gives the
    /// footer.
    ///
    /// # Errors
    /// As [`SegmentWriter::push`].
    pub(super) fn finish(mut self, entries: &mut [Entry]) -> io::Result<SnapshotsFooter> {
        entries.sort_unstable_by_key(Entry::order);
        let sequences = || entries.iter().map(|entry| entry.sequence);
        let footer = SnapshotsFooter {
            records_end: self.end(),
            entries: entries.len() as u64,
            first_sequence: sequences().min().unwrap_or(0),
            last_sequence: sequences().max().unwrap_or(0),
        };
        let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
        let pad = usize::try_from(footer.index_at() - footer.records_end).unwrap_or(0);
        self.push(&block[..pad])?;
        for page in entries.chunks(SNAPSHOT_PAGE_ENTRIES) {
            write_page(&self.key, self.end(), page, &mut block);
            self.push(&block)?;
        }
        block.fill(0);
        footer.write(&self.key, &mut block);
        self.push(&block)?;
        self.sync()?;
        Ok(footer)
    }
}
