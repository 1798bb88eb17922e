//! Reading a segment, past the page cache.
//!
//! What is read in order, batches and what stands behind them, comes in pieces, which [`Ahead`] has read
//! before they are asked for where that pays. What is looked at here and there is read when it is asked
//! for. The memory of a piece with batches becomes the live segment's: no byte of it is copied.

use std::io;
use std::sync::Arc;

use super::ahead::{Ahead, PIECE, Piece, Use};
use crate::commit::ReadChunk;
use crate::disk::{AlignedBuf, DiskFile, read_full_at};
use crate::format::batch::BatchHeader;
use crate::format::{align_down, align_up};
use crate::limits::{BLOCK, BLOCK_BYTES};

/// How much is read at once of what is looked at here and there, where not more is asked for.
const WINDOW_BYTES: u64 = 64 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    number: u64,
    file: Arc<dyn DiskFile>,
    bytes: u64,
    /// Where the reading in order is.
    piece: Option<Piece>,
    window: AlignedBuf,
    /// What `window` holds: bytes of the file from `start` on.
    start: u64,
    filled: usize,
}

impl SegmentReader {
    pub(crate) fn new(number: u64, file: Arc<dyn DiskFile>) -> io::Result<Self> {
        let bytes = file.len()?;
        let window = AlignedBuf::zeroed(BLOCK_BYTES)?;
        Ok(Self { number, file, bytes, piece: None, window, start: 0, filled: 0 })
    }

    /// Goes on, in order, to the piece that holds `offset`; `None` where the file ends before.
    pub(super) fn piece(
        &mut self,
        ahead: &mut Ahead,
        offset: u64,
        used_as: Use,
    ) -> io::Result<Option<&Piece>> {
        let serves = |piece: &Piece| piece.holds(offset) && piece.serves(used_as);
        if !self.piece.as_ref().is_some_and(serves) {
            if let Some(done) = self.piece.take() {
                ahead.reuse(done);
            }
            if offset >= self.bytes {
                return Ok(None);
            }
            let start = align_down(offset, PIECE);
            let piece = match ahead.take(self.number, start, used_as) {
                Some(piece) => piece?,
                None => Piece::read(&*self.file, start, self.bytes, used_as, None)?,
            };
            self.piece = Some(piece);
        }
        Ok(self.piece.as_ref().filter(|piece| piece.holds(offset)))
    }

    /// The memory that holds a whole batch; `None` where the file ends before.
    pub(super) fn batch(
        &mut self,
        ahead: &mut Ahead,
        header: &BatchHeader,
    ) -> io::Result<Option<ReadChunk>> {
        let (offset, end) = (header.offset, header.end());
        if end > self.bytes {
            return Ok(None);
        }
        let piece = self.piece(ahead, offset, Use::Batches)?;
        let Some(chunk) = piece.and_then(Piece::chunk) else { return Ok(None) };
        if end <= chunk.end() {
            return Ok(Some(chunk.clone()));
        }
        // It goes on in the next piece: it gets memory of its own.
        let base = align_down(offset, BLOCK);
        let length = usize::try_from(align_up(end, BLOCK) - base).map_err(io::Error::other)?;
        let gathered = ReadChunk::read(base, length, |memory| {
            let mut at = base;
            while at < end {
                let Some(piece) = self.piece(ahead, at, Use::Batches)? else { break };
                let bytes = piece.from(at);
                let filled = usize::try_from(at - base).map_err(io::Error::other)?;
                let taken = bytes.len().min(length - filled);
                memory[filled..filled + taken].copy_from_slice(&bytes[..taken]);
                at += taken as u64;
            }
            usize::try_from(at - base).map_err(io::Error::other)
        })?;
        Ok((gathered.end() >= end).then_some(gathered))
    }

    /// The bytes from `offset` on: `length` of them, or fewer where the file ends before.
    pub(crate) fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let end = offset.saturating_add(length as u64).min(self.bytes);
        let offset = offset.min(end);
        let in_piece = self.piece.as_ref().is_some_and(|piece| piece.holds_all(offset, end));
        if !in_piece && (offset < self.start || end > self.start + self.filled as u64) {
            self.fill(offset, end)?;
        }
        if let Some(piece) = self.piece.as_ref().filter(|_| in_piece) {
            let bytes = piece.from(offset);
            return Ok(&bytes[..bytes.len().min(length)]);
        }
        let held = self.filled as u64 + self.start;
        let from = usize::try_from(offset - self.start).map_err(io::Error::other)?;
        let to = usize::try_from(end.min(held) - self.start).map_err(io::Error::other)?;
        Ok(&self.window[from.min(to)..to])
    }

    fn fill(&mut self, offset: u64, end: u64) -> io::Result<()> {
        let start = align_down(offset, BLOCK);
        let ahead = align_up(self.bytes.min(start + WINDOW_BYTES), BLOCK);
        let upto = align_up(end, BLOCK).max(ahead);
        let wanted = usize::try_from(upto - start).map_err(io::Error::other)?;
        if wanted > self.window.len() {
            self.window = AlignedBuf::zeroed(wanted)?;
        }
        self.filled = 0;
        self.start = start;
        self.filled = read_full_at(&*self.file, &mut self.window[..wanted], start)?;
        Ok(())
    }

    /// Lets go of what was read in order.
    pub(super) fn rest(&mut self) {
        self.piece = None;
    }
}
