//! Putting located events into a batch, from either kind of segment.

use std::ops::Range;

use super::batch::{Batch, MemoryRef};
use crate::commit::{ChunkRef, LiveSegment};
use crate::error::{DamageReason, ReadError};
use crate::format::FormatError;
use crate::format::frame::Frame;
use crate::format::scan::record_at;
use crate::limits::{READ_BATCH_BYTES, READ_BATCH_EVENTS};
use crate::log::{OpenSegment, SealedSegment};

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
        self.push(source, offset, frame).map_err(|error| {
            sealed.damaged(offset, Some(frame.position()), DamageReason::Format(error))
        })
    }

    /// Adds an event of a live segment, which is below the watermark.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], which here means that memory does not hold what was published.
    pub(super) fn push_live(&mut self, live: &LiveSegment, ordinal: u32) -> Result<(), ReadError> {
        self.push_live_if(live, ordinal, |_| true).map(drop)
    }

    /// Adds events of a live segment that follow one another, all below the watermark, until the batch is full; says how
    /// many. They are not looked at. What an error is about is behind those.
    ///
    /// # Errors
    /// As [`Batch::push_live`].
    pub(super) fn push_live_run(
        &mut self,
        live: &LiveSegment,
        ordinals: Range<u32>,
    ) -> (u32, Result<(), ReadError>) {
        let Range { start: begin, end: last } = ordinals;
        let mut ordinal = begin;
        while ordinal < last && !self.is_full() {
            let offset = live.offset(ordinal).unwrap_or_default();
            let Some(chunk) = live.chunk_at(offset).filter(|chunk| offset < chunk.published_end())
            else {
                let damaged = live_damage(live, ordinal, FormatError::Short);
                return (ordinal - begin, Err(damaged));
            };
            let source = self.source(MemoryRef::Chunk(chunk), &live.types);
            ordinal += self.push_run_of(live, chunk, source, ordinal..last);
        }
        (ordinal - begin, Ok(()))
    }

    /// Adds those of the events that are in one chunk, where the first of them is, until the batch is full.
    fn push_run_of(
        &mut self,
        live: &LiveSegment,
        chunk: &ChunkRef,
        source: u32,
        ordinals: Range<u32>,
    ) -> u32 {
        let Range { start, end } = ordinals;
        let room = READ_BATCH_EVENTS.saturating_sub(self.entries.len());
        let ordinals =
            start..end.min(start.saturating_add(u32::try_from(room).unwrap_or(u32::MAX)));
        self.reserve(ordinals.len());
        let first = live.offset(start).unwrap_or_default();
        // What begins behind it is in another chunk, or it was enough before.
        let bytes_max = READ_BATCH_BYTES.saturating_sub(self.bytes) as u64;
        let limit = chunk.published_end().min(first.saturating_add(bytes_max + 1));
        let (mut events, mut behind) = (0, first);
        for extents in live.extents(ordinals) {
            let wanted = extents.before(limit);
            let Some(last) = wanted.last() else { break };
            self.push_unread(source, wanted);
            (events, behind) = (events + wanted.len(), last.frame().end);
            if wanted.len() < extents.len() {
                break;
            }
        }
        self.bytes += to_usize(behind - first);
        u32::try_from(events).unwrap_or(u32::MAX)
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
        self.push(source, offset, &frame).map_err(damaged)?;
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

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
