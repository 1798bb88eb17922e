//! Putting located events into a batch, from either kind of segment.

use std::ops::Range;

use super::batch::{Batch, MemoryRef};
use crate::commit::{ChunkRef, LiveSegment};
use crate::error::{DamageReason, ReadError};
use crate::format::FormatError;
use crate::format::constants::FRAME_HEADER_BYTES;
use crate::format::frame::Frame;
use crate::format::scan::record_at;
use crate::limits::{READ_BATCH_BYTES, READ_BATCH_EVENTS};
use crate::log::{OpenSegment, SealedSegment};
use crate::sync::prefetch_all;

impl Batch {
    /// Whether a reader ends the batch here.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= READ_BATCH_EVENTS || self.bytes >= READ_BATCH_BYTES
    }

    /// The number of a sealed segment among what the batch's events are in.
    pub(super) fn source_sealed(&mut self, open: &OpenSegment) -> u32 {
        self.source(MemoryRef::Mapped(&open.log), &open.types)
    }

    /// Adds an event of a sealed segment, which is `source`, whose frame was checked.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], where its type is not defined.
    #[inline]
    pub(super) fn push_sealed(
        &mut self,
        source: u32,
        sealed: &SealedSegment,
        open: &OpenSegment,
        offset: u64,
        frame: &Frame<'_>,
    ) -> Result<(), ReadError> {
        // The types of a segment are dense from 0.
        if frame.type_ref() >= open.types.len() {
            let position = Some(frame.position());
            return Err(sealed.damaged(offset, position, DamageReason::UndefinedType));
        }
        self.push(source, offset, frame);
        Ok(())
    }

    /// Adds an event of a live segment, which is below the watermark.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], which here means that memory does not hold what was published.
    pub(super) fn push_live(&mut self, live: &LiveSegment, ordinal: u32) -> Result<(), ReadError> {
        self.push_live_if(live, ordinal, |_| true).map(drop)
    }

    /// Adds events of a live segment that follow one another, all below the watermark, until the batch is full; says how
    /// many. What an error is about is behind those.
    ///
    /// # Errors
    /// As [`Batch::push_live`].
    pub(super) fn push_live_run(
        &mut self,
        live: &LiveSegment,
        ordinals: Range<u32>,
    ) -> (u32, Result<(), ReadError>) {
        /// The header of the frame so many events ahead is fetched into the processor's cache.
        const AHEAD: u32 = 12;
        let Range { start: begin, end: last } = ordinals;
        // The chunk of the event before: most are in the same one.
        let mut known: Option<(&ChunkRef, u64, u32)> = None;
        for ordinal in begin..last {
            if self.is_full() {
                return (ordinal - begin, Ok(()));
            }
            let damaged = |error| live_damage(live, ordinal, error);
            let Some(offset) = live.offset(ordinal) else {
                return (ordinal - begin, Err(damaged(FormatError::Short)));
            };
            let (chunk, end, source) = match known {
                Some(known) if offset < known.1 => known,
                _ => {
                    let Some(chunk) = live.chunk_at(offset) else {
                        return (ordinal - begin, Err(damaged(FormatError::Short)));
                    };
                    let source = self.source(MemoryRef::Chunk(chunk), &live.types);
                    *known.insert((chunk, chunk.published_end(), source))
                }
            };
            if let Some(ahead) = live.offset(ordinal + AHEAD)
                && let Some(header) = chunk.published(ahead..ahead + FRAME_HEADER_BYTES as u64)
                && let Some(header) = header.first_chunk::<FRAME_HEADER_BYTES>()
            {
                prefetch_all(header);
            }
            let bytes = chunk.published(offset..end).unwrap_or_default();
            match record_at(bytes, 0).and_then(Frame::settled) {
                Ok(frame) => self.push(source, offset, &frame),
                Err(error) => return (ordinal - begin, Err(damaged(error))),
            }
        }
        (last.saturating_sub(begin), Ok(()))
    }

    /// As [`Batch::push_live`], if the event is wanted; says whether it was.
    ///
    /// # Errors
    /// As [`Batch::push_live`].
    pub(super) fn push_live_if(
        &mut self,
        live: &LiveSegment,
        ordinal: u32,
        wanted: impl FnOnce(&Frame<'_>) -> bool,
    ) -> Result<bool, ReadError> {
        let offset = live.offset(ordinal).unwrap_or_default();
        let damaged = |error| live_damage(live, ordinal, error);
        let chunk = live.chunk_at(offset).ok_or_else(|| damaged(FormatError::Short))?;
        let known = chunk.published(offset..chunk.published_end()).unwrap_or_default();
        let frame = record_at(known, 0).and_then(Frame::settled).map_err(damaged)?;
        if !wanted(&frame) {
            return Ok(false);
        }
        let source = self.source(MemoryRef::Chunk(chunk), &live.types);
        self.push(source, offset, &frame);
        Ok(true)
    }
}

#[cold]
fn live_damage(live: &LiveSegment, ordinal: u32, error: FormatError) -> ReadError {
    let position = live.first_position + u64::from(ordinal);
    ReadError::Damaged {
        segment: live.number(),
        offset: live.offset(ordinal).unwrap_or_default(),
        first_position: position,
        last_position: position,
        reason: DamageReason::Format(error),
    }
}
