//! Reading the whole log, in the order of positions.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::batch::Batch;
use super::span::Span;
use super::{Reads, ordinal};
use crate::error::ReadError;
use crate::event::Position;
use crate::limits::{READ_BATCH_EVENTS, RECORD_ALIGN};
use crate::log::{CatalogSegment, IndexOrRead, OpenSegment, SealedSegment};

/// A read of all events, to be narrowed and begun.
#[derive(Debug, Clone)]
#[must_use = "nothing is read before `forward` or `backward`"]
pub struct ReadAll {
    reads: Arc<Reads>,
    span: Span,
}

impl ReadAll {
    pub(crate) fn new(reads: Arc<Reads>) -> Self {
        Self { reads, span: Span::all() }
    }

    /// Only events behind this position; 0, the default, is before all.
    pub fn after(mut self, position: impl Into<Position>) -> Self {
        self.span.after(position.into());
        self
    }

    /// Only events from this position on, itself included.
    pub fn from(mut self, position: impl Into<Position>) -> Self {
        self.span.from(position.into());
        self
    }

    /// Only events before this position.
    pub fn before(mut self, position: impl Into<Position>) -> Self {
        self.span.before(position.into());
        self
    }

    /// At most this many events; 0 gives none. Default: no limit.
    pub fn limit(mut self, events: u64) -> Self {
        self.span.limit = events;
        self
    }

    /// Begins with the first event. What becomes durable while it is read is returned as well.
    pub fn forward(self) -> ReaderAll {
        let next = self.span.from;
        ReaderAll { read: self, next, backward: false, prefetched: None }
    }

    /// Begins with the last event that is durable now, and goes back.
    pub fn backward(self) -> ReaderAll {
        let next = self.reads.watermark.get().min(self.span.upto);
        ReaderAll { read: self, next, backward: true, prefetched: None }
    }
}

/// Reads all events, a [`Batch`] at a time.
#[derive(Debug, Clone)]
pub struct ReaderAll {
    read: ReadAll,
    next: u64,
    backward: bool,
    /// The segment and the window of it that were fetched ahead last.
    prefetched: Option<(u64, u64)>,
}

/// How much of a sealed segment is fetched at once where it is read in order.
const PREFETCH_BYTES: u64 = 2 << 20;

impl ReaderAll {
    /// The next events; `None` where there are no more. Forwards, there may be more later.
    ///
    /// # Errors
    /// [`ReadError`]. What was read before the damage is returned first; a further call reports the same
    /// error again. To go on, read from behind the damage.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, ReadError> {
        let upto = self.read.reads.watermark.get().min(self.read.span.upto);
        let catalog = self.read.reads.catalogs.load();
        let mut batch = Batch::default();
        while self.wants(&batch, self.read.span.from..=upto) {
            let Some(index) = catalog.find(self.next) else { break };
            let before = self.next;
            match self.fill(&mut batch, &catalog.segments[index], upto) {
                Ok(()) if self.next == before => break,
                Ok(()) => {}
                Err(error) if batch.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// The position up to which everything was returned, forwards.
    pub(crate) fn passed(&self) -> u64 {
        self.next - 1
    }

    /// Adds what this segment has of the events that are wanted.
    fn fill(
        &mut self,
        batch: &mut Batch,
        segment: &CatalogSegment,
        upto: u64,
    ) -> Result<(), ReadError> {
        let first = segment.first_position();
        match segment {
            CatalogSegment::Live(live) => {
                let visible = live.visible_events(upto);
                if !self.backward {
                    let begin = ordinal(self.next, first);
                    let end = self.read.span.limited(begin, visible);
                    let (events, read) = batch.push_live_run(live, begin..end);
                    self.next += u64::from(events);
                    self.read.span.limit -= u64::from(events);
                    return read;
                }
                let end = first + u64::from(visible);
                while self.wants(batch, first..=end.saturating_sub(1)) {
                    batch.push_live(live, ordinal(self.next, first))?;
                    self.advance();
                }
                Ok(())
            }
            CatalogSegment::Sealed(sealed) => sealed.with_table(|open| {
                let last = upto.min(sealed.content.next_position().saturating_sub(1));
                if !self.wants(batch, first..=last) {
                    return Ok(());
                }
                let room = READ_BATCH_EVENTS - batch.len();
                let wanted =
                    to_u32(room).min(u32::try_from(self.read.span.limit).unwrap_or(u32::MAX));
                let next = ordinal(self.next, first);
                if self.backward {
                    let start = (next + 1).saturating_sub(wanted);
                    let start = start.max(ordinal(self.read.span.from.max(first), first));
                    let offsets = open.table.offsets(start..next + 1)?;
                    self.fill_sealed(batch, sealed, open, offsets.rev())
                } else {
                    let end = (ordinal(last, first) + 1).min(next.saturating_add(wanted));
                    let offsets = open.table.offsets(next..end)?;
                    self.fill_sealed(batch, sealed, open, offsets)
                }
            }),
        }
    }

    /// Adds the events at these offsets, all of which are wanted, and of which the first is that at
    /// `next`, until the batch has enough bytes.
    fn fill_sealed(
        &mut self,
        batch: &mut Batch,
        sealed: &SealedSegment,
        open: &OpenSegment,
        offsets: impl ExactSizeIterator<Item = u32>,
    ) -> Result<(), IndexOrRead> {
        let log: &[u8] = &open.log;
        let source = batch.source_sealed(open);
        batch.reserve(offsets.len());
        for units in offsets {
            let offset = u64::from(units) * RECORD_ALIGN as u64;
            self.prefetch(open, offset, sealed.number());
            let frame = sealed.frame(log, offset, self.next)?;
            batch.push_sealed(source, sealed, open, offset, &frame)?;
            self.advance();
            if batch.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// Has what follows in the direction of the read fetched, a window ahead of it.
    #[inline]
    fn prefetch(&mut self, open: &OpenSegment, offset: u64, segment: u64) {
        let window = offset / PREFETCH_BYTES;
        if self.prefetched != Some((segment, window)) {
            self.prefetch_window(open, segment, window);
        }
    }

    #[cold]
    fn prefetch_window(&mut self, open: &OpenSegment, segment: u64, window: u64) {
        let fetch = |window: u64| {
            if let (Ok(start), Ok(bytes)) =
                (usize::try_from(window * PREFETCH_BYTES), usize::try_from(PREFETCH_BYTES))
            {
                open.log.prefetch(start, bytes);
            }
        };
        let behind = if self.backward { window.checked_add(1) } else { window.checked_sub(1) };
        let ahead = if self.backward { window.checked_sub(1) } else { window.checked_add(1) };
        // Who comes from the window behind had this one fetched there.
        if behind.is_none_or(|behind| self.prefetched != Some((segment, behind))) {
            fetch(window);
        }
        if let Some(ahead) = ahead {
            fetch(ahead);
        }
        self.prefetched = Some((segment, window));
    }

    /// Whether the next event belongs into this batch, if it is in the range.
    fn wants(&self, batch: &Batch, range: RangeInclusive<u64>) -> bool {
        !batch.is_full()
            && self.read.span.limit > 0
            && self.read.span.contains(self.next, u64::MAX)
            && range.contains(&self.next)
    }

    #[inline]
    fn advance(&mut self) {
        self.read.span.limit -= 1;
        // Position 0 is before all events, so that going back ends there.
        self.next = if self.backward { self.next - 1 } else { self.next + 1 };
    }
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
