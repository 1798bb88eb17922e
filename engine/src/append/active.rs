//! The segment that takes appends, as the sequencer fills it.
//!
//! Owns the segment's index writer, the numbers of its event types, and the memory that its batches are
//! claimed in. Part of the sequencer, under its lock; calls `commit` for memory and `index` for terms.

use std::io;
use std::sync::Arc;

use hashbrown::HashTable;

use super::encode::{EncodedEvent, Numbered};
use super::request::Request;
use super::targets::StreamHead;
use crate::commit::{Chunk, ChunkPool, ChunkRef, Claim, LiveSegment};
use crate::format::definition::EventType;
use crate::format::{align_down, align_up};
use crate::index::{LiveWriter, Term};
use crate::limits::{BLOCK, CHUNK_BYTES, SEGMENT_FOOT_BYTES, SEGMENT_TYPES_MAX};

/// See the module.
#[derive(Debug)]
pub(super) struct Active {
    pub live: Arc<LiveSegment>,
    pub writer: LiveWriter,
    /// The numbers of the event types in it, by the types' hashes.
    types: HashTable<u32>,
    chunk: Option<ChunkRef>,
    /// Where the next batch begins.
    pub next_offset: u64,
    /// Up to where zeroes were written.
    pub zeroed_end: u64,
}

impl Active {
    pub(super) fn new(
        live: Arc<LiveSegment>,
        writer: LiveWriter,
        next_offset: u64,
        zeroed_end: u64,
    ) -> Self {
        let (types, chunk) = (HashTable::new(), None);
        let mut active = Self { live, writer, types, chunk, next_offset, zeroed_end };
        for (event_type, number) in active.live.types.iter().zip(0..) {
            let rehash = |known: &u32| hash_of(&active.live, *known);
            active.types.insert_unique(event_type.xxh3(), number, rehash);
        }
        active
    }

    /// Numbers an append's types, and says how many bytes the definitions of new ones take; nothing where
    /// that would be more types than a segment may have.
    #[expect(clippy::cast_possible_truncation, reason = "within SEGMENT_TYPES_MAX")]
    pub(super) fn number_types(&self, types: &mut [Numbered]) -> Option<usize> {
        let mut next = self.types.len();
        let mut bytes = 0;
        for wanted in types {
            if let Some(known) = self.number(wanted) {
                (wanted.number, wanted.is_new) = (known, false);
                continue;
            }
            (wanted.number, wanted.is_new) = (next as u32, true);
            next += 1;
            bytes += wanted.event_type.encoded_bytes();
        }
        (next <= SEGMENT_TYPES_MAX).then_some(bytes)
    }

    /// The number of an event type in this segment, if it is defined there.
    fn number(&self, wanted: &Numbered) -> Option<u32> {
        let is_wanted = |known: &u32| self.live.types.get(*known) == Some(&wanted.event_type);
        self.types.find(wanted.hash, is_wanted).copied()
    }

    /// Defines a new type, which has its number.
    pub(super) fn define(&mut self, defines: &Numbered) {
        let number = self.live.types.push(defines.event_type.clone());
        assert_eq!(number, defines.number, "types are numbered in the order of their definitions");
        let live = &self.live;
        self.types.insert_unique(defines.hash, number, |known| hash_of(live, *known));
    }

    /// Enters an append's events, whose frames begin at this offset, and notes their versions in it. The heads of its
    /// streams are those before it, and those behind it from then on.
    #[expect(clippy::cast_possible_truncation, reason = "segments are below 4 GiB")]
    pub(super) fn enter(&mut self, request: &mut Request, frames_at: u64) {
        let encoded = &request.encoded;
        let writer = &mut self.writer;
        let mut events = &encoded.events[..];
        let (mut start, mut tags_start) = (0, 0);
        for part in &mut request.parts {
            let target = &mut request.targets[part.target];
            let StreamHead { events: first_version, term, .. } = target.head;
            part.first_version = first_version;
            let (run, behind) = events.split_at(part.events as usize);
            events = behind;
            let extent = |event: &EncodedEvent| {
                let start = std::mem::replace(&mut start, event.end);
                event.extent.moved_to(frames_at + start as u64).word()
            };
            let ordinals = writer.push_events(run.iter().map(extent));
            let mut rest = ordinals.clone();
            let id = term.unwrap_or_else(|| {
                let first = rest.next().expect("a part has events");
                let stream = Term::stream(target.name.as_bytes());
                writer.create(target.hash, stream, first, first_version)
            });
            writer.append(id, rest);
            if let Some((hash, category)) = target.category() {
                writer.enter_category(hash, category, ordinals.clone());
                if first_version == 0 {
                    let streams = Term::streams_of(category);
                    writer.enter(streams.xxh3_64(), streams, ordinals.start..ordinals.start + 1);
                }
            }
            let mut rest = ordinals.clone();
            for same in run.chunk_by(|one, next| one.event_type == next.event_type) {
                let numbered = &encoded.types()[same[0].event_type];
                let end = rest.start + same.len() as u32;
                let name = numbered.event_type.name.as_bytes();
                writer.enter_type(numbered.number, name, rest.start..end);
                rest.start = end;
            }
            for (event, ordinal) in run.iter().zip(ordinals) {
                for tag in &encoded.tags[tags_start..event.tags_end] {
                    writer.enter_tag(*tag, ordinal);
                }
                tags_start = event.tags_end;
            }
            writer.enter_ids(run.iter().map(|event| event.id_hash));
            let events = first_version + u64::from(part.events);
            target.head = StreamHead { events, term: Some(id), position: None };
        }
    }

    /// The chunk for a batch of `need` bytes that begins at the next offset, which is the next that can be
    /// claimed in it; and, where the chunk is new, the claim of what stands in its first block before.
    pub(super) fn memory_for(
        &mut self,
        need: u64,
        pool: &Arc<ChunkPool>,
    ) -> io::Result<(ChunkRef, Option<Claim>)> {
        let offset = self.next_offset;
        let fitting = self.chunk.take().filter(|chunk| offset + need <= chunk.end());
        let (chunk, prefix) = if let Some(chunk) = fitting {
            // Behind a large batch the rest of its last block stays free.
            let gap = offset - chunk.claimed();
            if let Some(mut gap) = Chunk::claim(&chunk, gap) {
                gap.bytes_mut().fill(0);
            }
            (chunk, None)
        } else {
            let base = align_down(offset, BLOCK);
            let room = self.data_limit() - base;
            let bytes = (CHUNK_BYTES as u64).min(room).max(align_up(offset + need - base, BLOCK));
            let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
            let chunk = self.live.add_chunk(pool, offset, bytes)?;
            let prefix = (offset > base).then(|| Chunk::claim(&chunk, offset - base)).flatten();
            (chunk, prefix)
        };
        self.chunk = Some(ChunkRef::clone(&chunk));
        Ok((chunk, prefix))
    }

    /// Where its batches must end, so that the footer has room.
    pub(super) fn data_limit(&self) -> u64 {
        self.live.file_bytes - SEGMENT_FOOT_BYTES
    }
}

/// The hash of an event type that is defined in a segment.
fn hash_of(live: &LiveSegment, number: u32) -> u64 {
    live.types.get(number).map_or(0, EventType::xxh3)
}
