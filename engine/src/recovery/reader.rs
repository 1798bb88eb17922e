//! Reading a segment from its beginning to its end, past the page cache, a window at a time.

use std::io;
use std::sync::Arc;

use crate::disk::{AlignedBuf, DiskFile, read_full_at};
use crate::format::{align_down, align_up};
use crate::limits::{BLOCK, BLOCK_BYTES};

/// How much is read at once, where not more is asked for.
const WINDOW_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    file: Arc<dyn DiskFile>,
    bytes: u64,
    window: AlignedBuf,
    /// What `window` holds: bytes of the file from `start` on.
    start: u64,
    filled: usize,
}

impl SegmentReader {
    pub(crate) fn new(file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let bytes = file.len()?;
        let length = align_up(bytes, BLOCK).min(WINDOW_BYTES as u64);
        let length = usize::try_from(length).unwrap_or(WINDOW_BYTES).max(BLOCK_BYTES);
        Ok(Self { file, bytes, window: AlignedBuf::zeroed(length)?, start: 0, filled: 0 })
    }

    /// The length of the file.
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    /// The bytes from `offset` on: `length` of them, or fewer where the file ends before.
    pub(crate) fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let end = offset.saturating_add(length as u64).min(self.bytes);
        let offset = offset.min(end);
        if offset < self.start || end > self.start + self.filled as u64 {
            self.fill(offset, end)?;
        }
        let held = self.filled as u64 + self.start;
        let from = usize::try_from(offset - self.start).map_err(io::Error::other)?;
        let to = usize::try_from(end.min(held) - self.start).map_err(io::Error::other)?;
        Ok(&self.window[from.min(to)..to])
    }

    fn fill(&mut self, offset: u64, end: u64) -> io::Result<()> {
        let start = align_down(offset, BLOCK);
        let needed = usize::try_from(align_up(end - start, BLOCK)).map_err(io::Error::other)?;
        if needed > self.window.len() {
            self.window = AlignedBuf::zeroed(needed)?;
        }
        self.filled = 0;
        self.start = start;
        self.filled = read_full_at(&*self.file, &mut self.window, start)?;
        Ok(())
    }
}
