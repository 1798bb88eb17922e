//! A chunk that was read back from its segment's file, when a store is opened.
//!
//! Recovery reads the file right into the memory from which readers are served later: nothing is copied.
//! It looks at all of the bytes; readers see those that the loader has found to be good. One of the few
//! files with `unsafe`.

use std::io;
use std::ops::Range;

use super::chunk::{Chunk, ChunkRef};

/// See the module. Clones share the chunk.
#[derive(Debug, Clone)]
pub(crate) struct ReadChunk {
    /// All of it up to `end` was claimed and given up again before this was made.
    chunk: ChunkRef,
    base: u64,
    /// The offset in the file behind the last byte that can be looked at.
    end: u64,
}

impl ReadChunk {
    /// A chunk of the file's bytes from `base` on, into which `fill` puts as many as it says.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`], or what `fill` reports.
    pub(crate) fn read(
        base: u64,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Self> {
        let chunk = Chunk::read_back(base, bytes)?;
        let mut claim = Chunk::claim(&chunk, bytes as u64).ok_or(io::ErrorKind::OutOfMemory)?;
        let filled = fill(claim.bytes_mut())?.min(bytes);
        drop(claim);
        Ok(Self { chunk, base, end: base + filled as u64 })
    }

    /// The bytes of the file in this range, if all of them were read.
    pub(crate) fn bytes(&self, range: Range<u64>) -> Option<&[u8]> {
        let known = range.start >= self.base && range.start <= range.end && range.end <= self.end;
        // SAFETY: the one claim of these bytes was dropped in `read`, before there was a `Self`; and
        // claims are handed out once, so that there is no other.
        known.then(|| unsafe { self.chunk.settled(range) })
    }

    /// The offset in the file behind the last byte that was read.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Whether both are the same memory.
    pub(crate) fn is(&self, other: &Self) -> bool {
        ChunkRef::ptr_eq(&self.chunk, &other.chunk)
    }

    /// The memory, for the segment that goes on with it.
    pub(super) fn chunk(&self) -> &ChunkRef {
        &self.chunk
    }

    /// Lets readers see everything below `end`.
    pub(super) fn publish(&self, end: u64) {
        assert!(end <= self.end);
        // SAFETY: as in `bytes`, for everything from the chunk's base to `end`.
        unsafe { self.chunk.publish(end) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_can_be_looked_at_and_nothing_else() {
        let read = ReadChunk::read(8192, 8192, |memory| {
            memory[..5000].fill(7);
            Ok(5000)
        });
        let read = read.unwrap();
        assert_eq!(read.end(), 13_192);
        assert_eq!(read.bytes(8192..13_192), Some([7; 5000].as_slice()));
        assert_eq!(read.bytes(8192..13_193), None);
        assert_eq!(read.bytes(8191..8200), None);
    }

    #[test]
    fn readers_see_what_was_published() {
        let read = ReadChunk::read(0, 4096, |memory| Ok(memory.len())).unwrap();
        assert_eq!(read.chunk().published(0..16), None);
        read.publish(16);
        assert_eq!(read.chunk().published(0..16), Some([0; 16].as_slice()));
        assert_eq!(read.chunk().published(0..17), None);
    }
}
