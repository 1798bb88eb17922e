//! Reading one stream, in the order of its versions.

use std::sync::Arc;

use super::Reads;
use super::batch::Batch;
use crate::error::{DamageReason, ReadError};
use crate::event::{InvalidName, check_stream};
use crate::index::{IndexDamage, Term, TermHash};
use crate::limits::{READ_BATCH_EVENTS, RECORD_ALIGN};
use crate::log::{Catalog, CatalogSegment, IndexOrRead, OpenSegment, SealedSegment};

/// A read of one stream, to be narrowed and begun.
#[derive(Debug, Clone)]
#[must_use = "nothing is read before `forward` or `backward`"]
pub struct ReadStream {
    reads: Arc<Reads>,
    stream: Box<str>,
    name: Result<(), InvalidName>,
    hash: TermHash,
    from: Option<u64>,
    limit: u64,
}

impl ReadStream {
    pub(crate) fn new(reads: Arc<Reads>, stream: &str) -> Self {
        Self {
            reads,
            stream: stream.into(),
            name: check_stream(stream),
            hash: Term::stream(stream.as_bytes()).xxh3_64(),
            from: None,
            limit: u64::MAX,
        }
    }

    /// Begins with this version. Default: 0 forwards, the last one backwards.
    pub fn from(mut self, version: u64) -> Self {
        self.from = Some(version);
        self
    }

    /// At most this many events; 0 gives none. Default: no limit.
    pub fn limit(mut self, events: u64) -> Self {
        self.limit = events;
        self
    }

    /// Reads in the order of versions. What becomes durable meanwhile is returned as well.
    pub fn forward(self) -> ReaderStream {
        let next = Some(self.from.unwrap_or(0));
        ReaderStream { read: self, next, backward: false, exact: true, segment: 0 }
    }

    /// Reads against the order of versions, from what is durable when the first batch is asked for.
    pub fn backward(self) -> ReaderStream {
        let next = Some(self.from.unwrap_or(u64::MAX));
        ReaderStream { read: self, next, backward: true, exact: false, segment: u64::MAX }
    }
}

/// Reads one stream, a [`Batch`] at a time.
#[derive(Debug, Clone)]
pub struct ReaderStream {
    read: ReadStream,
    /// The next version; going back, at most that. `None` behind version 0.
    next: Option<u64>,
    backward: bool,
    /// Whether `next` is a version that must be there, since one beside it was found.
    exact: bool,
    /// The number of the segment to look into next; what was passed has no more of what is wanted.
    segment: u64,
}

impl ReaderStream {
    /// The next events; `None` where there are no more. Forwards, there may be more later.
    ///
    /// # Errors
    /// [`ReadError`]. What was read before the damage is returned first; a further call reports the same
    /// error again. To go on, read from a version behind the damage.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, ReadError> {
        self.read.name.clone()?;
        let watermark = self.read.reads.watermark.get();
        let catalog = self.read.reads.catalogs.load();
        let mut batch = Batch::default();
        while let Some(index) = self.segment_index(&catalog)
            && !batch.is_full()
            && self.read.limit > 0
            && self.next.is_some()
        {
            let segment = &catalog.segments[index];
            match self.fill(&mut batch, segment, watermark) {
                // There may be more in this segment later.
                Ok(()) if !self.backward && !is_passed(&catalog, index, watermark) => break,
                Ok(()) if batch.is_full() || self.read.limit == 0 => {}
                Ok(()) if self.backward => match segment.number().checked_sub(1) {
                    Some(number) => self.segment = number,
                    None => self.next = None,
                },
                Ok(()) => self.segment = segment.number() + 1,
                Err(error) if batch.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// The segment to look into next.
    fn segment_index(&self, catalog: &Catalog) -> Option<usize> {
        let index = catalog.index_of(self.segment);
        if !self.backward {
            return (index < catalog.segments.len()).then_some(index);
        }
        match catalog.segments.get(index) {
            Some(segment) if segment.number() == self.segment => Some(index),
            _ => index.checked_sub(1),
        }
    }

    /// Adds what this segment has of the stream.
    fn fill(
        &mut self,
        batch: &mut Batch,
        segment: &CatalogSegment,
        watermark: u64,
    ) -> Result<(), ReadError> {
        match segment {
            CatalogSegment::Live(live) => {
                let term = Term::stream(self.read.stream.as_bytes());
                let Some(postings) = live.index.lookup(self.read.hash, term) else {
                    return Ok(());
                };
                let postings = postings.below(live.visible_events(watermark));
                let Some(posting) = self.begin(postings.first_version(), postings.len()) else {
                    return Ok(());
                };
                let gap = ReadError::Damaged {
                    segment: live.number(),
                    offset: 0,
                    first_position: live.first_position,
                    last_position: watermark,
                    reason: DamageReason::Versions,
                };
                let posting = posting.map_err(|Gap| gap)?;
                let push = |batch: &mut Batch, ordinal: u32, _| {
                    batch.push_live(live, ordinal, live.first_position + u64::from(ordinal))
                };
                if self.backward {
                    self.take(batch, postings.backward(posting), push)
                } else {
                    self.take(batch, postings.forward(posting), push)
                }
            }
            CatalogSegment::Sealed(sealed) if sealed.content.events == 0 => Ok(()),
            CatalogSegment::Sealed(sealed) => {
                sealed.with_index(|open| self.fill_sealed(batch, sealed, open))
            }
        }
    }

    fn fill_sealed(
        &mut self,
        batch: &mut Batch,
        sealed: &SealedSegment,
        open: &OpenSegment,
    ) -> Result<(), IndexOrRead> {
        let Some(postings) = sealed.stream_postings(open, self.read.hash, &self.read.stream)?
        else {
            return Ok(());
        };
        let Some(posting) = self.begin(postings.first_version(), postings.len()) else {
            return Ok(());
        };
        let posting = posting.map_err(|Gap| sealed.damaged(0, None, DamageReason::Versions))?;
        if self.backward {
            self.take_sealed(batch, sealed, open, postings.backward(posting))
        } else {
            self.take_sealed(batch, sealed, open, postings.forward(posting))
        }
    }

    /// As [`ReaderStream::take`], of a sealed segment: a few events at a time are located and fetched
    /// into the processor's cache, and then checked one by one.
    fn take_sealed(
        &mut self,
        batch: &mut Batch,
        sealed: &SealedSegment,
        open: &OpenSegment,
        mut postings: impl Iterator<Item = Result<u32, IndexDamage>>,
    ) -> Result<(), IndexOrRead> {
        let log: &[u8] = &open.log;
        let mut located = [Located::default(); LOCATED_AT_ONCE];
        while !batch.is_full() && self.read.limit > 0 {
            let room = (READ_BATCH_EVENTS - batch.len()).min(LOCATED_AT_ONCE);
            let wanted = usize::try_from(self.read.limit).map_or(room, |limit| room.min(limit));
            let mut count = 0;
            for (place, ordinal) in located.iter_mut().zip(postings.by_ref().take(wanted)) {
                place.ordinal = ordinal?;
                count += 1;
            }
            let located = &mut located[..count];
            if located.is_empty() {
                break;
            }
            for place in &mut *located {
                let Some(units) = open.index.offset(place.ordinal)? else {
                    return Err(sealed.damaged(0, None, DamageReason::Content).into());
                };
                place.offset = u64::from(units) * RECORD_ALIGN as u64;
            }
            fetch(log, located);
            let source = batch.source_sealed(open);
            for place in &*located {
                let Some(version) = self.next else { break };
                if batch.is_full() {
                    break;
                }
                let position = sealed.content.first_position + u64::from(place.ordinal);
                let frame = sealed.frame(log, place.offset, position)?;
                if frame.version() != version || frame.stream_bytes() != self.read.stream.as_bytes()
                {
                    let reason = DamageReason::Versions;
                    return Err(sealed.damaged(place.offset, Some(position), reason).into());
                }
                batch.push_sealed(source, sealed, open, place.offset, &frame)?;
                self.advance(version);
            }
        }
        Ok(())
    }

    /// Which posting of a segment to begin with, where that has `count` of them, of versions from
    /// `first` on; `None` where it has nothing that is wanted.
    fn begin(&mut self, first: u64, count: u32) -> Option<Result<u32, Gap>> {
        let last = first + u64::from(count.checked_sub(1)?);
        if self.backward && !self.exact {
            self.next = self.next.map(|next| next.min(last));
        }
        self.exact = true;
        let next = self.next?;
        if next < first || next > last {
            // Towards the segments that were looked into before, nothing may be missing.
            let missing = if self.backward { next > last } else { next < first };
            return missing.then_some(Err(Gap));
        }
        Some(Ok(u32::try_from(next - first).unwrap_or(u32::MAX)))
    }

    /// Adds postings, given in the direction of the read, as far as they are wanted.
    fn take<T, E>(
        &mut self,
        batch: &mut Batch,
        postings: impl Iterator<Item = T>,
        mut push: impl FnMut(&mut Batch, T, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        for posting in postings {
            let Some(version) = self.next else { break };
            if batch.is_full() || self.read.limit == 0 {
                break;
            }
            push(batch, posting, version)?;
            self.advance(version);
        }
        Ok(())
    }

    /// Goes on behind the version that was added.
    fn advance(&mut self, version: u64) {
        self.read.limit -= 1;
        self.next = if self.backward { version.checked_sub(1) } else { Some(version + 1) };
    }
}

/// How many events of a sealed segment are located before the first of them is checked.
const LOCATED_AT_ONCE: usize = 32;

/// An event of a sealed segment, and where its frame should begin.
#[derive(Debug, Clone, Copy, Default)]
struct Located {
    ordinal: u32,
    offset: u64,
}

/// Has frames that lie scattered fetched into the processor's cache, whose misses overlap here: checking a
/// frame takes so long that the next one's would begin only behind it. What is read is not looked at.
fn fetch(log: &[u8], located: &[Located]) {
    const LINE_BYTES: usize = 64;
    /// Of a longer frame, the processor sees by itself what comes next.
    const FETCHED_MAX: usize = 1024;
    let mut lengths = [0; LOCATED_AT_ONCE];
    for (length, place) in lengths.iter_mut().zip(located) {
        let start = usize::try_from(place.offset).unwrap_or(usize::MAX);
        if let Some(field) = log.get(start..).and_then(|rest| rest.first_chunk()) {
            *length = u32::from_le_bytes(*field) as usize;
        }
    }
    let mut any = 0;
    for (length, place) in lengths.iter().zip(located) {
        let start = usize::try_from(place.offset).unwrap_or(usize::MAX);
        let rest = log.get(start..).unwrap_or_default();
        let lines = rest[..rest.len().min(*length).min(FETCHED_MAX)].iter().step_by(LINE_BYTES);
        any = lines.fold(any, |any, byte| any | byte);
    }
    std::hint::black_box(any);
}

/// Whether everything that will ever be in a segment could be seen: it takes no more claims, and what it
/// took is below the watermark.
fn is_passed(catalog: &Catalog, index: usize, watermark: u64) -> bool {
    match &catalog.segments[index] {
        CatalogSegment::Sealed(_) => true,
        CatalogSegment::Live(live) => {
            index + 1 < catalog.segments.len()
                && live.visible_events(watermark) == live.index.events()
        }
    }
}

/// A version that must be in a segment that was passed, and is not.
struct Gap;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::MemoryDisk;
    use crate::{Expect, NewEvent, Store};

    #[test]
    fn frames_that_cannot_be_there_are_not_fetched() {
        let log = [0xff; 100];
        let offsets = [0, 90, 97, 100, 101, u64::MAX - 1, u64::MAX];
        fetch(&log, &offsets.map(|offset| Located { ordinal: 0, offset }));
        fetch(&[], &[Located::default()]);
    }

    #[test]
    fn a_stream_is_whole_however_many_of_its_events_a_sealed_segment_has() {
        let at_once = LOCATED_AT_ONCE as u64;
        for events in [1, at_once - 1, at_once, at_once + 1, 2 * at_once, 700] {
            let disk = Arc::new(MemoryDisk::new());
            let store = Store::options().segment_bytes(1 << 20).open_on(disk).unwrap();
            for number in 0..events {
                let event = NewEvent::bytes("counted", number.to_le_bytes().to_vec());
                store.append("a", Expect::Any, [event]).wait().unwrap();
            }
            // What fills the segment, so that it is sealed.
            let filler = NewEvent::bytes("filler", vec![1; 16 << 10]);
            let first = || store.read_stream("a").reads.catalogs.load().segments.first().cloned();
            while !matches!(first(), Some(CatalogSegment::Sealed(_))) {
                store.append("b", Expect::Any, [&filler]).wait().unwrap();
            }
            let versions = |mut reader: ReaderStream| {
                let mut versions = Vec::new();
                while let Some(batch) = reader.next_batch().unwrap() {
                    versions.extend(batch.iter().map(|event| event.version()));
                }
                versions
            };
            let stream = || store.read_stream("a");
            let all: Vec<_> = (0..events).collect();
            assert_eq!(versions(stream().forward()), all);
            assert!(versions(stream().backward()).into_iter().rev().eq(0..events));
            let limit = at_once + 3;
            assert_eq!(versions(stream().limit(limit).forward()).len() as u64, limit.min(events));
            assert_eq!(versions(stream().from(events / 2).forward()), all[all.len() / 2..]);
        }
    }
}
