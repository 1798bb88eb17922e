//! A chunk of the tail's memory: the image of a part of the segment's file, filled in place by many
//! producers, written to the disk by the committer, and read by everybody below what is published.
//!
//! Called by the sequencer (claims), by producers (fill) and by the committer (settle, publish); readers
//! borrow published bytes. One of the few files with `unsafe`.
//!
//! What makes it sound: claims are handed out by moving one cursor, so no two overlap, and only a claim
//! writes to its bytes. The memory was zeroed when it was allocated, so it is always initialised; it may
//! have been another chunk's before, so that a claim holds any bytes until it is filled. Shared slices
//! are only made of bytes whose claims are gone: readers' below `published`, which moves forward only
//! after the claims below it were filled and given up. The memory goes back to the pool with the last
//! reference to the chunk, which every claim and every reader has.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::pool::{ChunkPool, Memory};
use crate::format::checksum::SegmentKey;
use crate::limits::BLOCK;
use crate::sync::{Arc as ChunkArc, AtomicU64, Ordering};

/// What is shared between those who claim, write and read a chunk.
pub(crate) type ChunkRef = ChunkArc<Chunk>;

/// See the module.
pub(crate) struct Chunk {
    /// Taken out when it is dropped, and not before.
    memory: Option<Memory>,
    pool: Arc<ChunkPool>,
    /// The segment whose bytes it holds; none where they were read back, which nobody adds to.
    key: Option<SegmentKey>,
    /// The offset in the file of the first byte; a multiple of [`BLOCK`].
    base: u64,
    /// Everything below, from `base` on, has been claimed. Only grows.
    claimed: AtomicU64,
    /// Everything below, from `base` on, is durable and may be read. Only grows, never past `claimed`.
    published: AtomicU64,
}

impl std::fmt::Debug for Chunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunk").field("base", &self.base).finish_non_exhaustive()
    }
}

/// The exclusive right to write some bytes of a chunk.
#[derive(Debug)]
pub(crate) struct Claim {
    chunk: ChunkRef,
    range: Range<u64>,
}

impl Chunk {
    /// Memory for the file's bytes from `base` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`].
    pub(crate) fn new(
        pool: &Arc<ChunkPool>,
        key: &SegmentKey,
        base: u64,
        bytes: usize,
    ) -> io::Result<ChunkRef> {
        Self::of(Arc::clone(pool), Some(key.clone()), base, bytes)
    }

    /// Memory for bytes that are read back from the file.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`].
    pub(crate) fn read_back(base: u64, bytes: usize) -> io::Result<ChunkRef> {
        Self::of(Arc::default(), None, base, bytes)
    }

    fn of(
        pool: Arc<ChunkPool>,
        key: Option<SegmentKey>,
        base: u64,
        bytes: usize,
    ) -> io::Result<ChunkRef> {
        assert!(base.is_multiple_of(BLOCK) && bytes > 0);
        Ok(ChunkRef::new(Self {
            memory: Some(pool.take(bytes)?),
            pool,
            key,
            base,
            claimed: AtomicU64::new(base),
            published: AtomicU64::new(base),
        }))
    }

    /// How many bytes of chunks, all together, are in memory for readers only.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.pool.pinned_bytes()
    }

    /// A segment holds it from now on.
    pub(super) fn is_held(&self) {
        self.pool.holds(self.memory().blocks.len() as u64);
    }

    /// The segment that held it has gone.
    pub(super) fn is_let_go(&self) {
        self.pool.lets_go(self.memory().blocks.len() as u64);
    }

    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("it is taken out when the chunk is dropped")
    }

    /// The identity of the segment that it takes appends for.
    pub(crate) fn key(&self) -> &SegmentKey {
        self.key.as_ref().expect("nobody adds to what was read back")
    }

    /// The offset in the file of its first byte.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// The offset in the file behind its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.memory().blocks.len() as u64
    }

    /// The offset in the file from which on nothing is claimed yet.
    pub(crate) fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Claims the next `bytes`; `None` where the chunk has not so many left.
    pub(crate) fn claim(this: &ChunkRef, bytes: u64) -> Option<Claim> {
        let start = this
            .claimed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |claimed| {
                claimed.checked_add(bytes).filter(|end| *end <= this.end())
            })
            .ok()?;
        Some(Claim { chunk: ChunkRef::clone(this), range: start..start + bytes })
    }

    /// The offset in the file up to which readers may read.
    pub(crate) fn published_end(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Durable bytes; `None` where some of the range is not published, or not in this chunk.
    pub(crate) fn published(&self, range: Range<u64>) -> Option<&[u8]> {
        let known = range.start >= self.base
            && range.start <= range.end
            && range.end <= self.published.load(Ordering::Acquire);
        // SAFETY: below `published` every claim has been given up before the release store that this
        // load has read, so nobody writes there any more.
        known.then(|| unsafe { self.slice(range) })
    }

    /// Bytes whose claims were all filled and given up.
    ///
    /// # Safety
    /// No claim that overlaps the range exists, and every one that did was dropped before, in the order
    /// of happens-before.
    pub(crate) unsafe fn settled(&self, range: Range<u64>) -> &[u8] {
        assert!(range.start >= self.base && range.start <= range.end);
        assert!(range.end <= self.claimed());
        // SAFETY: nobody writes there, by the contract; the range is inside the memory, as `claimed`
        // never passes its end.
        unsafe { self.slice(range) }
    }

    /// Lets readers see everything below `end`.
    ///
    /// # Safety
    /// As [`Chunk::settled`], for all bytes from the chunk's base to `end`.
    pub(crate) unsafe fn publish(&self, end: u64) {
        assert!(end <= self.claimed() && end >= self.published.load(Ordering::Relaxed));
        self.published.store(end, Ordering::Release);
    }

    /// # Safety
    /// The range is inside the memory, and nobody writes there while the slice lives.
    unsafe fn slice(&self, range: Range<u64>) -> &[u8] {
        let start = to_usize(range.start - self.base);
        let length = to_usize(range.end - range.start);
        self.memory().watched.read(start..start + length);
        let memory = self.memory().blocks.start();
        // SAFETY: inside the allocation, initialised, unwritten by the contract.
        unsafe { std::slice::from_raw_parts(memory.as_ptr().add(start), length) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.give(memory);
        }
    }
}

impl Claim {
    /// The chunk.
    pub(crate) fn chunk(&self) -> &Chunk {
        &self.chunk
    }

    /// The offset in the file of its first byte.
    pub(crate) fn start(&self) -> u64 {
        self.range.start
    }

    /// The claimed bytes. They hold anything until they are written, and all of them must be.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let start = to_usize(self.range.start - self.chunk.base);
        let length = to_usize(self.range.end - self.range.start);
        self.chunk.memory().watched.write(start..start + length);
        let memory = self.chunk.memory().blocks.start();
        // SAFETY: inside the allocation and initialised; no other claim overlaps this one, `&mut self`
        // makes this slice the only one of this claim, and shared slices are not made of claimed bytes
        // before the claim is dropped.
        unsafe { std::slice::from_raw_parts_mut(memory.as_ptr().add(start), length) }
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a chunk's bytes are in memory, so their number fits")
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;
    use crate::format::checksum::{SegmentIdentity, StoreId};

    fn chunk(base: u64, bytes: usize) -> ChunkRef {
        let identity = SegmentIdentity { store: StoreId([0; 16]), segment: 1, salt: 0 };
        Chunk::new(&Arc::default(), &SegmentKey::new(identity), base, bytes).unwrap()
    }

    #[test]
    fn claims_are_disjoint_and_end_with_the_chunk() {
        let chunk = chunk(8192, 4096);
        let first = Chunk::claim(&chunk, 4000).unwrap();
        let second = Chunk::claim(&chunk, 96).unwrap();
        assert_eq!((first.start(), second.start()), (8192, 12_192));
        assert!(Chunk::claim(&chunk, 1).is_none());
        assert!(Chunk::claim(&chunk, u64::MAX).is_none());
    }

    #[test]
    fn only_published_bytes_can_be_read() {
        let chunk = chunk(4096, 4096);
        let mut claim = Chunk::claim(&chunk, 16).unwrap();
        claim.bytes_mut().fill(7);
        drop(claim);
        assert!(chunk.published(4096..4112).is_none());
        // SAFETY: the only claim was filled and dropped.
        unsafe { chunk.publish(4112) };
        assert_eq!(chunk.published(4096..4112), Some([7; 16].as_slice()));
        assert!(chunk.published(4096..4113).is_none());
        assert!(chunk.published(0..16).is_none());
    }
}
