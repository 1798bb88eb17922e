//! A live segment: one whose events are read from memory, since it is being written, or not yet sealed
//! and indexed.
//!
//! Made by the sequencer when the log rolls and by recovery when a store is opened; extended under the
//! sequence lock; read by anybody without a lock. It is let go when its sealed form has taken its place
//! in the catalog; readers that hold a chunk keep that chunk.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::append_vec::AppendVec;
use super::chunk::{Chunk, ChunkRef};
use super::pool::ChunkPool;
use crate::disk::DiskFile;
use crate::format::checksum::{Chain, SegmentKey};
use crate::format::constants::FRAME_HEADER_BYTES;
use crate::format::definition::EventType;
use crate::format::extent::Extent;
use crate::format::footer::SegmentContent;
use crate::format::frame::Frame;
use crate::format::frame::FrameSummary;
use crate::format::scan::record_at;
use crate::index::{LiveIndex, LiveRoom, LiveWriter, TermKind};
use crate::limits::SEGMENT_HEAD_BYTES;
use crate::sync::prefetch_all;

/// The event types of a segment, by their number in it.
pub(crate) type TypeTable = AppendVec<EventType>;

/// A chunk and where its first record can stand.
#[derive(Debug)]
struct Placed {
    /// Below it stand bytes of the chunk before, repeated to fill the block.
    start: u64,
    chunk: ChunkRef,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LiveSegment {
    pub key: SegmentKey,
    pub file: Arc<dyn DiskFile>,
    /// The length of the file.
    pub file_bytes: u64,
    /// The position of its first event, whether or not it has one yet.
    pub first_position: u64,
    /// When the last event before that one was recorded.
    pub recorded_before: i64,
    pub index: Arc<LiveIndex>,
    pub types: Arc<TypeTable>,
    chunks: AppendVec<Placed>,
    /// What is durable. Written by the committer alone, read by the sealer.
    content: Mutex<SegmentContent>,
}

/// Where events lie that follow one another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extents<'a>(&'a [AtomicU64]);

impl Extents<'_> {
    pub(crate) fn len(self) -> usize {
        self.0.len()
    }

    /// Those of the first events, which begin before this offset.
    #[inline]
    pub(crate) fn before(self, offset: u64) -> Self {
        Self(&self.0[..self.0.partition_point(|word| extent(word).offset() < offset)])
    }

    pub(crate) fn last(self) -> Option<Extent> {
        self.0.last().map(extent)
    }
}

impl<'a> IntoIterator for Extents<'a> {
    type Item = Extent;
    type IntoIter = std::iter::Map<std::slice::Iter<'a, AtomicU64>, fn(&AtomicU64) -> Extent>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(extent)
    }
}

#[inline]
fn extent(word: &AtomicU64) -> Extent {
    Extent::of_word(word.load(Ordering::Relaxed))
}

/// Where a live segment begins in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiveStart {
    pub first_position: u64,
    pub first_sequence: u64,
    pub chain: Chain,
    pub recorded_last: i64,
}

impl LiveSegment {
    pub(crate) fn new(
        key: SegmentKey,
        file: Arc<dyn DiskFile>,
        file_bytes: u64,
        room: LiveRoom,
        start: &LiveStart,
    ) -> (Arc<Self>, LiveWriter) {
        let (writer, index) = LiveIndex::new(room);
        let segment = Self {
            key,
            file,
            file_bytes,
            first_position: start.first_position,
            recorded_before: start.recorded_last,
            index,
            types: Arc::default(),
            chunks: AppendVec::default(),
            content: Mutex::new(SegmentContent {
                data_end: SEGMENT_HEAD_BYTES,
                first_position: start.first_position,
                events: 0,
                first_sequence: start.first_sequence,
                batches: 0,
                chain: start.chain,
                recorded_last: start.recorded_last,
            }),
        };
        (Arc::new(segment), writer)
    }

    pub(crate) fn number(&self) -> u64 {
        self.key.identity.segment
    }

    /// Adds memory for the records from `start` on. Called under the sequence lock.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`].
    pub(crate) fn add_chunk(
        &self,
        pool: &Arc<ChunkPool>,
        start: u64,
        bytes: usize,
    ) -> io::Result<ChunkRef> {
        let base = crate::format::align_down(start, crate::limits::BLOCK);
        let chunk = Chunk::new(pool, &self.key, base, bytes)?;
        chunk.is_held();
        self.chunks.push(Placed { start, chunk: ChunkRef::clone(&chunk) });
        Ok(chunk)
    }

    /// Adds memory that holds the records from `start` on already. Called by the loader.
    pub(super) fn add_filled_chunk(&self, start: u64, chunk: ChunkRef) {
        chunk.is_held();
        self.chunks.push(Placed { start, chunk });
    }

    /// The chunk that holds the record at `offset`.
    pub(crate) fn chunk_at(&self, offset: u64) -> Option<&ChunkRef> {
        let (mut low, mut high) = (0, self.chunks.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.chunks.get(middle)?.start <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        self.chunks.get(low.checked_sub(1)?).map(|placed| &placed.chunk)
    }

    /// How many of its events are at or below the position `watermark`.
    pub(crate) fn visible_events(&self, watermark: u64) -> u32 {
        let visible = (watermark + 1).saturating_sub(self.first_position);
        u32::try_from(visible).unwrap_or(u32::MAX).min(self.index.events())
    }

    /// How many of its first so many events, all of which are published, are of each type, by the types' numbers.
    pub(crate) fn events_of_types(&self, events: u32) -> Vec<u64> {
        let mut of_types = vec![0; self.types.len() as usize];
        // Nothing ends it early: each type of an event that is published was defined before.
        let _ = self.each_record(events, |record| {
            *of_types.get_mut(FrameSummary::of(record)?.type_ref as usize)? += 1;
            Some(())
        });
        of_types
    }

    /// Gives the bytes of each of the first so many events from where its frame begins, in their order; nothing where
    /// one of them is not published, or `each` gives nothing for it.
    pub(crate) fn each_record<'a>(
        &'a self,
        events: u32,
        mut each: impl FnMut(&'a [u8]) -> Option<()>,
    ) -> Option<()> {
        /// What lies so many events ahead is fetched into the processor's cache.
        const AHEAD: u32 = 16;
        let mut chunk: Option<&ChunkRef> = None;
        for ordinal in 0..events {
            let offset = self.offset(ordinal)?;
            if let Some((chunk, ahead)) = chunk.zip(self.offset(ordinal + AHEAD))
                && let Some(head) = chunk.published(ahead..ahead + FRAME_HEADER_BYTES as u64)
                && let Some(head) = head.first_chunk::<FRAME_HEADER_BYTES>()
            {
                prefetch_all(head);
            }
            // Most are in the chunk of the one before.
            let known = |chunk: &&'a ChunkRef| offset < chunk.published_end();
            let chunk = match chunk.filter(known) {
                Some(chunk) => chunk,
                None => *chunk.insert(self.chunk_at(offset)?),
            };
            each(chunk.published(offset..chunk.published_end())?)?;
        }
        Some(())
    }

    /// The frame of the event with this ordinal, once it is published.
    pub(crate) fn frame(&self, ordinal: u32) -> Option<Frame<'_>> {
        let offset = self.offset(ordinal)?;
        let chunk = self.chunk_at(offset)?;
        let known = chunk.published(offset..chunk.published_end())?;
        record_at(known, 0).and_then(Frame::parse).ok()
    }

    /// Where the event with this ordinal stands; `None` where there is none.
    pub(crate) fn offset(&self, ordinal: u32) -> Option<u64> {
        self.index.extent(ordinal).map(|word| Extent::of_word(word).offset())
    }

    /// The streams that have events in it, each with the version of its last one. For a segment that takes
    /// no more claims.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (Box<str>, u64)> {
        self.index.terms(u32::MAX).filter(|term| term.term.kind == TermKind::Stream).filter_map(
            |term| {
                let stream = std::str::from_utf8(term.term.bytes).ok()?;
                let count = u64::from(term.postings.len());
                Some((stream.into(), term.postings.first_version() + count - 1))
            },
        )
    }

    /// Where these events lie, as far as there are any: some of them after the others.
    #[inline]
    pub(crate) fn extents(&self, ordinals: Range<u32>) -> impl Iterator<Item = Extents<'_>> {
        self.index.extents(ordinals).map(Extents)
    }

    /// What is durable of it.
    pub(crate) fn content(&self) -> SegmentContent {
        *self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether everything that was claimed in it is durable. Asked of segments that take no more claims.
    pub(crate) fn is_settled(&self) -> bool {
        self.content().events == u64::from(self.index.events())
    }

    /// Records what has become durable. Called by the committer and by recovery.
    pub(crate) fn set_content(&self, content: SegmentContent) {
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = content;
    }
}

impl Drop for LiveSegment {
    fn drop(&mut self) {
        for placed in self.chunks.iter() {
            placed.chunk.is_let_go();
        }
    }
}
