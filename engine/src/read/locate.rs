//! From ordinals of a run to frames: several events are located and fetched together, and then read one by one.
//!
//! Owns the order in which memory and disk are touched, so that their latencies overlap. The readers of streams and
//! of queries call it; it calls the sealed segments.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::disk::Mapping;
use crate::error::ReadError;
use crate::format::frame::Frame;
use crate::limits::RECORD_ALIGN;
use crate::log::{OpenSegment, Run, SealedSegment};

/// How many events are located before the first of them is read.
pub(super) const LOCATED_AT_ONCE: usize = 32;

/// Events of a run, each with where its frame should begin.
#[derive(Debug, Default)]
pub(super) struct Located {
    events: SmallVec<[Place; LOCATED_AT_ONCE]>,
    /// The segments that they are in, in the order of the read.
    segments: SmallVec<[(Arc<SealedSegment>, Arc<OpenSegment>); 2]>,
    /// Why those behind could not be located.
    failed: Option<ReadError>,
}

/// Where an event of a sealed segment is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    pub position: u64,
    /// Its segment among those of the events that were located together.
    pub segment: usize,
    pub offset: u64,
}

impl Located {
    pub(super) fn places(&self) -> &[Place] {
        &self.events
    }

    pub(super) fn segment(&self, place: &Place) -> (&SealedSegment, &OpenSegment) {
        let (segment, open) = &self.segments[place.segment];
        (segment, open)
    }

    /// The frame at a place, checked.
    ///
    /// # Errors
    /// [`ReadError::Damaged`].
    #[inline]
    pub(super) fn frame(&self, place: &Place) -> Result<Frame<'_>, ReadError> {
        let (segment, open) = self.segment(place);
        segment.frame(&open.log, place.offset, place.position)
    }

    /// Locates these events of a run, all in increasing or all in decreasing order, and has their frames fetched. A
    /// table that is damaged is built again. Where one cannot be located, those before it are, and
    /// [`Located::outcome`] says why.
    pub(super) fn find(&mut self, run: &Run, ordinals: &[u32]) {
        self.events.clear();
        self.segments.clear();
        self.failed = None;
        let mut positions = ordinals.iter().map(|o| run.first_position() + u64::from(*o));
        let opened = positions.try_for_each(|position| self.add(run, position));
        self.locate();
        self.failed = opened.err().or(self.failed.take());
    }

    /// Adds an event of a run, to be located with others: all in the order of the read.
    ///
    /// # Errors
    /// [`ReadError`], where its segment cannot be opened.
    pub(super) fn add(&mut self, run: &Run, position: u64) -> Result<(), ReadError> {
        let known = self.segments.last().is_some_and(|(segment, _)| {
            let content = &segment.content;
            (content.first_position..content.next_position()).contains(&position)
        });
        if !known {
            let segment = run.segment_of(position);
            self.segments.push((Arc::clone(segment), segment.open()?));
        }
        let segment = self.segments.len() - 1;
        self.events.push(Place { position, segment, offset: 0 });
        Ok(())
    }

    /// Locates what was added, and has the frames fetched.
    pub(super) fn locate(&mut self) {
        self.fetch_tables();
        if let Err((located, error)) = self.look_up() {
            self.events.truncate(located);
            self.failed = Some(error);
        }
        self.fetch_frames();
    }

    /// Whether all that was asked for could be located. To be asked once those that were are used.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(super) fn outcome(&mut self) -> Result<(), ReadError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Looks up where the frames are; on an error, how many could be.
    fn look_up(&mut self) -> Result<(), (usize, ReadError)> {
        for (number, place) in self.events.iter_mut().enumerate() {
            let failed = |error| (number, error);
            let (segment, open) = &mut self.segments[place.segment];
            let ordinal = ordinal_in(segment, place.position);
            let units = match open.table.offset(ordinal) {
                Ok(units) => units,
                Err(_) => segment
                    .with_table(|rebuilt| {
                        *open = Arc::clone(rebuilt);
                        Ok(rebuilt.table.offset(ordinal)?)
                    })
                    .map_err(failed)?,
            };
            let units = units.ok_or_else(|| failed(segment.contradicts_itself()))?;
            place.offset = u64::from(units) * RECORD_ALIGN as u64;
        }
        Ok(())
    }

    /// Has the parts of the tables that say where the events are read from the disk together, if they are not in
    /// memory: each would else be waited for by itself.
    fn fetch_tables(&self) {
        let _ = self.fetch_where_cold(|place, open, segment| {
            let at = open.table.offset_at(ordinal_in(segment, place.position));
            (open.table.file(), at, size_of::<u32>())
        });
    }

    /// Has the frames fetched: from the disk, and into the processor's cache, whose misses overlap here. Checking a
    /// frame takes so long that the next one's would begin only behind it. What is read is not looked at.
    fn fetch_frames(&self) {
        /// Most frames are shorter.
        const COLD_BYTES: usize = 1024;
        let cold = self.fetch_where_cold(|place, open, _| {
            let offset = usize::try_from(place.offset).unwrap_or(usize::MAX);
            (&open.log, offset, COLD_BYTES)
        });
        if cold {
            for place in &self.events {
                self.segments[place.segment].1.read_scattered();
            }
        }
        let log = |place: &Place| &*self.segments[place.segment].1.log;
        fetch(self.events.iter().map(|place| (log(place), place.offset)));
    }

    /// Asks for parts of files at once, if the first or the last of them is not in memory; says whether it did.
    fn fetch_where_cold(
        &self,
        part: impl for<'a> Fn(&Place, &'a OpenSegment, &SealedSegment) -> (&'a Mapping, usize, usize),
    ) -> bool {
        let (Some(first), Some(last)) = (self.events.first(), self.events.last()) else {
            return false;
        };
        if self.events.len() == 1 {
            return false;
        }
        let part = |place: &Place| {
            let (segment, open) = &self.segments[place.segment];
            part(place, open, segment)
        };
        let is_cold = |place: &Place| {
            let (map, at, bytes) = part(place);
            !map.is_cached(at, bytes)
        };
        let cold = is_cold(last) || is_cold(first);
        if cold {
            for place in &self.events {
                let (map, at, bytes) = part(place);
                map.prefetch(at, bytes);
            }
        }
        cold
    }
}

fn ordinal_in(segment: &SealedSegment, position: u64) -> u32 {
    u32::try_from(position - segment.content.first_position).unwrap_or(u32::MAX)
}

/// Has frames that lie scattered fetched into the processor's cache.
fn fetch<'a>(frames: impl Iterator<Item = (&'a [u8], u64)> + Clone) {
    const LINE_BYTES: usize = 64;
    /// Of a longer frame, the processor sees by itself what comes next.
    const FETCHED_MAX: usize = 1024;
    let mut lengths = [0; LOCATED_AT_ONCE];
    for (length, (log, offset)) in lengths.iter_mut().zip(frames.clone()) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Some(field) = log.get(start..).and_then(|rest| rest.first_chunk()) {
            *length = u32::from_le_bytes(*field) as usize;
        }
    }
    let mut any = 0;
    for (length, (log, offset)) in lengths.iter().zip(frames) {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = log.get(start..).unwrap_or_default();
        let lines = rest[..rest.len().min(*length).min(FETCHED_MAX)].iter().step_by(LINE_BYTES);
        any = lines.fold(any, |any, byte| any | byte);
    }
    std::hint::black_box(any);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_cannot_be_there_are_not_fetched() {
        let log = [0xff; 100];
        let offsets = [0, 90, 97, 100, 101, u64::MAX - 1, u64::MAX];
        fetch(offsets.iter().map(|offset| (&log[..], *offset)));
        fetch([(&[][..], 0)].into_iter());
    }
}
