//! Putting located events into a batch, from either kind of segment.

use super::batch::{Batch, MemoryRef};
use crate::commit::LiveSegment;
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
        self.push(source, offset, frame);
        Ok(())
    }

    /// Adds an event of a live segment, which is below the watermark.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], which here means that memory does not hold what was published.
    pub(super) fn push_live(
        &mut self,
        live: &LiveSegment,
        ordinal: u32,
        position: u64,
    ) -> Result<(), ReadError> {
        self.push_live_if(live, ordinal, position, |_| true).map(drop)
    }

    /// As [`Batch::push_live`], if the event is wanted; says whether it was.
    ///
    /// # Errors
    /// As [`Batch::push_live`].
    pub(super) fn push_live_if(
        &mut self,
        live: &LiveSegment,
        ordinal: u32,
        position: u64,
        wanted: impl FnOnce(&Frame<'_>) -> bool,
    ) -> Result<bool, ReadError> {
        let offset = live.offset(ordinal).unwrap_or_default();
        let damaged = |error| ReadError::Damaged {
            segment: live.number(),
            offset,
            first_position: position,
            last_position: position,
            reason: DamageReason::Format(error),
        };
        let chunk = live.chunk_at(offset).ok_or_else(|| damaged(FormatError::Short))?;
        let known = chunk.published(offset..chunk.published_end()).unwrap_or_default();
        let frame = record_at(known, 0).and_then(Frame::parse).map_err(damaged)?;
        if !wanted(&frame) {
            return Ok(false);
        }
        let source = self.source(MemoryRef::Chunk(chunk), &live.types);
        self.push(source, offset, &frame);
        Ok(true)
    }
}
