//! Reading one stream, in the order of its versions.

use std::sync::Arc;

use super::batch::Batch;
use super::locate::{LOCATED_AT_ONCE, Located};
use super::{Reads, Stopped};
use crate::commit::LiveSegment;
use crate::error::{DamageReason, ReadError};
use crate::event::{InvalidName, check_stream};
use crate::index::{IndexDamage, SealedPostings, Term, TermHash, TermKind};
use crate::limits::READ_BATCH_EVENTS;
use crate::log::{Catalog, IndexOrRead, OpenRun, Part, Run};

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
        ReaderStream { read: self, next, backward: false, exact: true, place: 1 }
    }

    /// Reads against the order of versions, from what is durable when the first batch is asked for.
    pub fn backward(self) -> ReaderStream {
        let next = Some(self.from.unwrap_or(u64::MAX));
        ReaderStream { read: self, next, backward: true, exact: false, place: u64::MAX }
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
    /// The position to look from; going back, to look down from. What was passed has no more of what is wanted.
    place: u64,
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
        let mut batch = Batch::default();
        loop {
            let catalog = self.read.reads.catalogs.load();
            match self.fill_from(&catalog, &mut batch, watermark) {
                // What took its place is looked into instead, from where this was left.
                Err(Stopped::Distrusted) => {}
                Err(Stopped::Read(error)) if batch.is_empty() => return Err(error),
                Ok(()) | Err(Stopped::Read(_)) => break,
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// Adds what there is, part by part of the log.
    fn fill_from(
        &mut self,
        catalog: &Catalog,
        batch: &mut Batch,
        watermark: u64,
    ) -> Result<(), Stopped> {
        while !batch.is_full()
            && self.read.limit > 0
            && self.next.is_some()
            && let Some(part) = catalog.part_at(self.place)
        {
            let end = match part {
                Part::Run(run) => {
                    if !self.backward && self.place >= run.next_position() {
                        break;
                    }
                    let reads = Arc::clone(&self.read.reads);
                    let open = reads.opened(run)?;
                    let filled = self.fill_run(batch, run, &open);
                    filled.map_err(|error| reads.failed(run, Some(&open), error))?;
                    run.next_position()
                }
                Part::Live(live) => {
                    self.fill_live(batch, live, watermark)?;
                    if !self.backward && !is_passed(catalog, live, watermark) {
                        // There may be more in this segment later.
                        break;
                    }
                    live.first_position + u64::from(live.index.events())
                }
            };
            if batch.is_full() || self.read.limit == 0 {
                break;
            }
            if !self.backward {
                self.place = end;
            } else if let Some(before) = part.first_position().checked_sub(1).filter(|p| *p > 0) {
                self.place = before;
            } else {
                self.next = None;
            }
        }
        Ok(())
    }

    /// Adds what a live segment has of the stream.
    fn fill_live(
        &mut self,
        batch: &mut Batch,
        live: &LiveSegment,
        watermark: u64,
    ) -> Result<(), ReadError> {
        let term = Term::stream(self.read.stream.as_bytes());
        let Some(postings) = live.index.lookup(self.read.hash, term) else { return Ok(()) };
        let postings = postings.below(live.visible_events(watermark));
        let Some(posting) = self.begin(postings.first_version(), postings.len()) else {
            return Ok(());
        };
        let posting = posting.map_err(|Gap| ReadError::Damaged {
            segment: live.number(),
            offset: 0,
            first_position: live.first_position,
            last_position: watermark,
            reason: DamageReason::Versions,
        })?;
        let wanted = if self.backward { 0..posting + 1 } else { posting..postings.len() };
        let mut wanted = postings.range(wanted);
        while !batch.is_full() && self.read.limit > 0 {
            let ordinal = if self.backward { wanted.next_back() } else { wanted.next() };
            let Some((ordinal, version)) = ordinal.zip(self.next) else { break };
            batch.push_live(live, ordinal)?;
            self.advance(version);
        }
        Ok(())
    }

    /// Adds what a run has of the stream.
    fn fill_run(
        &mut self,
        batch: &mut Batch,
        run: &Run,
        open: &OpenRun,
    ) -> Result<(), IndexOrRead> {
        let Some(postings) = open.terms.find(self.read.hash, TermKind::Stream)? else {
            return Ok(());
        };
        let (before, had) = ((self.next, self.exact), batch.len());
        let mut located = Located::default();
        if let Some(first) = self.first_version(run, &mut located, &postings)? {
            let Some(posting) = self.begin(first, postings.len()) else { return Ok(()) };
            let taken = match posting {
                Err(Gap) => Taken::UpToSomethingElse,
                Ok(posting) if self.backward => {
                    self.take_run(batch, run, postings.backward(posting), &mut located)?
                }
                Ok(posting) => {
                    self.take_run(batch, run, postings.forward(posting), &mut located)?
                }
            };
            if let Taken::All = taken {
                return Ok(());
            }
            if batch.len() == had {
                (self.next, self.exact) = before;
            }
        }
        // Either another stream has the same hash, and where a version stands cannot be told from its number; or
        // something is missing.
        self.take_shared(batch, run, postings, located)
    }

    /// The version of the first event of a list, where all of them are of this stream: that is not known yet. Where
    /// that event's frame is damaged, others say it as well.
    fn first_version(
        &self,
        run: &Run,
        located: &mut Located,
        postings: &SealedPostings<'_>,
    ) -> Result<Option<u64>, IndexOrRead> {
        /// So many frames are looked at before the stream is given up.
        const LOOKS_MAX: u32 = 4;
        let mut failed = None;
        for look in 0..LOOKS_MAX.min(postings.len()) {
            // From both ends.
            let posting = if look % 2 == 0 { look / 2 } else { postings.len() - 1 - look / 2 };
            match self.version_at(run, located, postings, posting) {
                Ok(version) => {
                    return Ok(version.and_then(|v| v.checked_sub(u64::from(posting))));
                }
                Err(IndexOrRead::Read(error @ ReadError::Damaged { .. })) => {
                    failed = failed.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(None), |error| Err(error.into()))
    }

    /// The version of the event at this place of a list, if it is of this stream.
    fn version_at(
        &self,
        run: &Run,
        located: &mut Located,
        postings: &SealedPostings<'_>,
        posting: u32,
    ) -> Result<Option<u64>, IndexOrRead> {
        let Some(ordinal) = postings.get(posting)? else { return Ok(None) };
        located.find(run, &[ordinal]);
        located.outcome()?;
        let Some(place) = located.places().first() else { return Ok(None) };
        let frame = located.frame(place)?;
        let is_it = frame.stream_bytes() == self.read.stream.as_bytes();
        Ok(is_it.then(|| frame.version()))
    }

    /// Adds events of a run, as far as they are of this stream and of the versions that follow.
    fn take_run(
        &mut self,
        batch: &mut Batch,
        run: &Run,
        mut postings: impl Iterator<Item = Result<u32, IndexDamage>>,
        located: &mut Located,
    ) -> Result<Taken, IndexOrRead> {
        while !batch.is_full() && self.read.limit > 0 {
            let room = (READ_BATCH_EVENTS - batch.len()).min(LOCATED_AT_ONCE);
            let wanted = usize::try_from(self.read.limit).map_or(room, |limit| room.min(limit));
            let mut ordinals = [0; LOCATED_AT_ONCE];
            let mut count = 0;
            for (slot, ordinal) in ordinals.iter_mut().zip(postings.by_ref().take(wanted)) {
                *slot = ordinal?;
                count += 1;
            }
            if count == 0 {
                break;
            }
            located.find(run, &ordinals[..count]);
            for place in located.places() {
                let Some(version) = self.next else { break };
                if batch.is_full() {
                    break;
                }
                let (segment, open) = located.segment(place);
                let frame = located.frame(place)?;
                if frame.version() != version || frame.stream_bytes() != self.read.stream.as_bytes()
                {
                    return Ok(Taken::UpToSomethingElse);
                }
                let source = batch.source_sealed(open);
                batch.push_sealed(source, segment, open, place.offset, &frame)?;
                self.advance(version);
            }
            // What could not be located is behind all that could.
            located.outcome()?;
        }
        Ok(Taken::All)
    }

    /// As [`ReaderStream::fill_run`], by a look at each event of the list.
    fn take_shared(
        &mut self,
        batch: &mut Batch,
        run: &Run,
        postings: SealedPostings<'_>,
        mut located: Located,
    ) -> Result<(), IndexOrRead> {
        let (mut own, mut first) = (Vec::new(), None);
        for posting in 0..postings.len() {
            if let Some(version) = self.version_at(run, &mut located, &postings, posting)? {
                first = first.or(Some(version));
                own.extend(postings.get(posting)?);
            }
        }
        let count = u32::try_from(own.len()).unwrap_or(u32::MAX);
        let Some(posting) = first.and_then(|first| self.begin(first, count)) else { return Ok(()) };
        let gap = || {
            let position = run.first_position() + u64::from(own.first().copied().unwrap_or(0));
            let segment = run.segment_of(position);
            segment.damaged(0, Some(position), DamageReason::Versions)
        };
        let posting = posting.map_err(|Gap| gap())? as usize;
        let taken = if self.backward {
            self.take_run(batch, run, own[..=posting].iter().rev().map(|o| Ok(*o)), &mut located)?
        } else {
            self.take_run(batch, run, own[posting..].iter().map(|o| Ok(*o)), &mut located)?
        };
        match taken {
            Taken::All => Ok(()),
            Taken::UpToSomethingElse => Err(gap().into()),
        }
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

    /// Goes on behind the version that was added.
    fn advance(&mut self, version: u64) {
        self.read.limit -= 1;
        self.next = if self.backward { version.checked_sub(1) } else { Some(version + 1) };
    }
}

/// How far events were taken.
enum Taken {
    /// All that were given, or that fit.
    All,
    /// There was one of another stream, or of another version than the one that follows.
    UpToSomethingElse,
}

/// Whether everything that will ever be in a live segment could be seen: it takes no more claims, and what it took is
/// below the watermark.
fn is_passed(catalog: &Catalog, live: &LiveSegment, watermark: u64) -> bool {
    let is_last = catalog.segments.last().is_some_and(|last| last.number() == live.number());
    !is_last && live.visible_events(watermark) == live.index.events()
}

/// A version that must be in a segment that was passed, and is not.
struct Gap;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::MemoryDisk;
    use crate::log::CatalogSegment;
    use crate::{Expect, NewEvent, Store};

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
