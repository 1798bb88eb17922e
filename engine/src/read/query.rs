//! Reading what a query asks for, in the order of positions.
//!
//! Owns how a query goes through the log: part by part, each a live segment or a run of sealed ones, whose lists
//! `query` plans with. What a plan gives are candidates; each one's frame is compared before it is returned.

use std::ops::Range;
use std::sync::Arc;

use super::batch::Batch;
use super::locate::{LOCATED_AT_ONCE, Located, Place};
use super::span::Span;
use super::{Reads, Stopped, ordinal};
use crate::commit::LiveSegment;
use crate::error::ReadError;
use crate::event::Position;
use crate::format::frame::Frame;
use crate::index::{
    IndexDamage, LivePostings, LiveRange, SealedPostings, SealedRange, Term, TermHash,
};
use crate::limits::READ_BATCH_EVENTS;
use crate::log::{Catalog, OpenRun, Part, Run};
use crate::query::{Candidates, InvalidQuery, Order, PostingList, Prepared, Query, TermLists};

/// A read of the events that match a query, to be narrowed and begun.
///
/// ```
/// # use stratalog::{Expect, NewEvent, Query, Store, disk::MemoryDisk};
/// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// let opened = NewEvent::json("opened", &1)?.tag("customer:7");
/// store.append("ticket-1", Expect::NoStream, [opened]).wait()?;
/// store.append("ticket-1", Expect::Any, [NewEvent::json("closed", &2)?]).wait()?;
///
/// let of_customer = Query::any().types(["opened", "closed"]).tags(["customer:7"]);
/// let mut reader = store.query(of_customer).forward();
/// let batch = reader.next_batch()?.expect("there is one");
/// assert_eq!((batch.len(), reader.head().get()), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is read before `forward` or `backward`"]
pub struct ReadQuery {
    reads: Arc<Reads>,
    query: Result<Arc<Prepared>, InvalidQuery>,
    span: Span,
}

impl ReadQuery {
    pub(crate) fn new(reads: Arc<Reads>, query: Query) -> Self {
        let query = Prepared::new(query).map(Arc::new);
        Self { reads, query, span: Span::all() }
    }

    /// Of the first event that matches, from a position on and before another.
    pub(super) fn first_of(reads: Arc<Reads>, query: Arc<Prepared>, from: u64, end: u64) -> Self {
        let span = Span { from, upto: end.saturating_sub(1), limit: 1 };
        Self { reads, query: Ok(query), span }
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

    /// Begins with the first event that matches. What becomes durable while it is read is returned as well.
    pub fn forward(self) -> ReaderQuery {
        let next = self.span.from;
        ReaderQuery { next, order: Order::Forward, head: self.reads.watermark.get(), read: self }
    }

    /// Begins with the last event that matches and is durable now, and goes back.
    pub fn backward(self) -> ReaderQuery {
        let head = self.reads.watermark.get();
        let next = head.min(self.span.upto);
        ReaderQuery { next, order: Order::Backward, head, read: self }
    }
}

/// Reads the events that match a query, a [`Batch`] at a time.
#[derive(Debug, Clone)]
pub struct ReaderQuery {
    read: ReadQuery,
    /// The next position to look at.
    next: u64,
    order: Order,
    head: u64,
}

impl ReaderQuery {
    /// The next events; `None` where there are no more. Forwards, there may be more later.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::Query`], where the query is none. What was read before the damage is returned
    /// first; a further call reports the same error again. To go on, read from behind the damage.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, ReadError> {
        let query = self.read.query.clone()?;
        let mut batch = Batch::default();
        loop {
            // In this order: the catalog has every segment up to the watermark.
            if self.order == Order::Forward {
                self.head = self.read.reads.watermark.get();
            }
            let catalog = self.read.reads.catalogs.load();
            match self.fill_from(&catalog, &query, &mut batch) {
                // What took its place is looked into instead, from where this was left.
                Err(Stopped::Distrusted) => {}
                Err(Stopped::Read(error)) if batch.is_empty() => return Err(error),
                Ok(()) | Err(Stopped::Read(_)) => break,
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// The head of the log, that is, the position of the last durable event, that was seen when the last batch was
    /// read; before that, when the read was begun. Up to it everything that matches was returned, where there was
    /// no more: also where nothing was found at all.
    pub fn head(&self) -> Position {
        Position(self.head)
    }

    /// The position up to which everything that matches was returned, forwards.
    pub(crate) fn passed(&self) -> u64 {
        self.next - 1
    }

    /// Adds what matches, part by part of the log.
    fn fill_from(
        &mut self,
        catalog: &Catalog,
        query: &Prepared,
        batch: &mut Batch,
    ) -> Result<(), Stopped> {
        while self.wants_more(batch)
            && let Some(part) = catalog.part_at(self.next)
        {
            match part {
                Part::Run(_) => self.fill_runs(catalog, query, batch)?,
                Part::Live(live) => {
                    let (first, visible) = (live.first_position, live.visible_events(self.head));
                    let end = first + u64::from(visible);
                    if self.order == Order::Forward && self.next >= end {
                        break;
                    }
                    self.fill_live(live, query, batch)?;
                    if self.room(batch) == 0 {
                        break;
                    }
                    // Nothing else in this part matches.
                    self.next = if self.order == Order::Forward { end } else { first - 1 };
                }
            }
        }
        Ok(())
    }

    /// Whether the batch has room, and something in the range that was asked for was not looked at yet.
    fn wants_more(&self, batch: &Batch) -> bool {
        self.room(batch) > 0 && self.is_asked_for(self.next)
    }

    /// How many events more may be added, as far as it matters for what is located together.
    fn room(&self, batch: &Batch) -> usize {
        if batch.is_full() {
            return 0;
        }
        let room = (READ_BATCH_EVENTS - batch.len()).min(LOCATED_AT_ONCE);
        usize::try_from(self.read.span.limit).map_or(room, |limit| room.min(limit))
    }

    /// Whether a position is in the range that was asked for, and was durable when the head was seen.
    fn is_asked_for(&self, position: u64) -> bool {
        self.read.span.contains(position, self.head)
    }

    fn fill_live(
        &mut self,
        live: &LiveSegment,
        query: &Prepared,
        batch: &mut Batch,
    ) -> Result<(), ReadError> {
        let lists = LiveLists { live, visible: live.visible_events(self.head) };
        let first = live.first_position;
        let from = ordinal(self.next, first);
        let candidates = Candidates::new(query, &lists, self.order, from);
        // Lists in memory are not damaged.
        for ordinal in candidates.into_iter().flatten().map_while(Result::ok) {
            let position = first + u64::from(ordinal);
            if self.room(batch) == 0 || !self.is_asked_for(position) {
                break;
            }
            let is_wanted = |frame: &Frame<'_>| {
                let event_type = live.types.get(frame.type_ref());
                event_type.is_some_and(|known| matches(query, frame, &known.name))
            };
            if batch.push_live_if(live, ordinal, is_wanted)? {
                self.read.span.limit -= 1;
            }
            self.pass(position);
        }
        Ok(())
    }

    /// Adds what matches in the runs from here on. Candidates are located together, also where they are of several
    /// runs, so that a disk that has to be waited for is waited for once.
    fn fill_runs(
        &mut self,
        catalog: &Catalog,
        query: &Prepared,
        batch: &mut Batch,
    ) -> Result<(), Stopped> {
        let (mut located, mut resume) = (Located::default(), self.next);
        let gathered = loop {
            let asked_for = self.is_asked_for(resume);
            let Some(Part::Run(run)) = catalog.part_at(resume).filter(|_| asked_for) else {
                break Ok(());
            };
            match self.fill_run(run, query, &mut located, batch, resume) {
                Ok(next) => resume = next,
                Err(error) => break Err(error),
            }
            if self.room(batch) == 0 {
                break Ok(());
            }
        };
        // What is before that which could not be looked into; it is met again where this was left.
        self.take_located(&mut located, query, batch)?;
        gathered?;
        if !batch.is_full() {
            self.next = resume;
        }
        Ok(())
    }

    /// Has a run's candidates located, and adds what matches of them and of those before, as often as enough were
    /// gathered; gives the position at which to go on.
    fn fill_run(
        &mut self,
        run: &Arc<Run>,
        query: &Prepared,
        located: &mut Located,
        batch: &mut Batch,
        from: u64,
    ) -> Result<u64, Stopped> {
        let reads = Arc::clone(&self.read.reads);
        let open = reads.opened(run)?;
        let failed = |damage: IndexDamage| reads.failed(run, Some(&open), damage.into());
        let first = run.first_position();
        let from = ordinal(from, first);
        let candidates = Candidates::new(query, &*open, self.order, from).map_err(failed)?;
        for ordinal in candidates {
            let position = first + u64::from(ordinal.map_err(failed)?);
            if !self.is_asked_for(position) {
                return Ok(position);
            }
            located.add(run, position)?;
            if located.places().len() >= self.room(batch) {
                self.take_located(located, query, batch)?;
                if self.room(batch) == 0 {
                    return Ok(self.next);
                }
            }
        }
        // Nothing else in this run matches. What was sealed a moment ago may reach beyond the head that was seen: that
        // is for the next look.
        let end = run.next_position().min(self.head + 1);
        Ok(if self.order == Order::Forward { end } else { first - 1 })
    }

    /// Locates what was gathered, and adds what matches of it until the batch is full.
    fn take_located(
        &mut self,
        located: &mut Located,
        query: &Prepared,
        batch: &mut Batch,
    ) -> Result<(), ReadError> {
        let mut located = std::mem::take(located);
        located.locate();
        for place in located.places() {
            if batch.is_full() {
                return Ok(());
            }
            self.take(&located, place, query, batch)?;
        }
        // What could not be located is behind all that could.
        located.outcome()
    }

    /// Adds a located event, if it matches.
    fn take(
        &mut self,
        located: &Located,
        place: &Place,
        query: &Prepared,
        batch: &mut Batch,
    ) -> Result<(), ReadError> {
        let (segment, open) = located.segment(place);
        let frame = located.frame(place)?;
        let event_type = open.types.get(frame.type_ref());
        // Of a type that is not defined: reported below.
        if event_type.is_none_or(|known| matches(query, &frame, &known.name)) {
            let source = batch.source_sealed(open);
            batch.push_sealed(source, segment, open, place.offset, &frame)?;
            self.read.span.limit -= 1;
        }
        self.pass(place.position);
        Ok(())
    }

    /// Goes on behind a position that was looked at.
    fn pass(&mut self, position: u64) {
        // Position 0 is before all events, so that going back ends there.
        self.next = if self.order == Order::Backward { position - 1 } else { position + 1 };
    }
}

pub(super) fn matches(query: &Prepared, frame: &Frame<'_>, event_type: &str) -> bool {
    query.matches(frame.stream(), event_type, frame.tags())
}

/// The lists of a live segment, of so many of its events.
pub(super) struct LiveLists<'a> {
    pub live: &'a LiveSegment,
    pub visible: u32,
}

impl TermLists for LiveLists<'_> {
    type List<'a>
        = LivePostings<'a>
    where
        Self: 'a;

    fn events(&self) -> u32 {
        self.visible
    }

    fn list(
        &self,
        hash: TermHash,
        term: Term<'_>,
    ) -> Result<Option<LivePostings<'_>>, IndexDamage> {
        let postings = self.live.index.lookup(hash, term);
        Ok(postings.map(|list| list.below(self.visible)).filter(|list| list.len() > 0))
    }
}

impl<'l> PostingList for LivePostings<'l> {
    type Range = LiveResults<'l>;

    fn len(&self) -> u32 {
        LivePostings::len(self)
    }

    fn lower_bound(&self, ordinal: u32) -> Result<u32, IndexDamage> {
        Ok(self.visible(ordinal))
    }

    fn range(self, postings: Range<u32>) -> Self::Range {
        LivePostings::range(self, postings).map(Ok)
    }
}

type LiveResults<'a> = std::iter::Map<LiveRange<'a>, fn(u32) -> Result<u32, IndexDamage>>;

impl TermLists for OpenRun {
    type List<'a> = SealedPostings<'a>;

    fn events(&self) -> u32 {
        self.terms.events()
    }

    fn list(
        &self,
        hash: TermHash,
        term: Term<'_>,
    ) -> Result<Option<SealedPostings<'_>>, IndexDamage> {
        self.terms.find(hash, term.kind)
    }
}

impl<'l> PostingList for SealedPostings<'l> {
    type Range = SealedRange<'l>;

    fn len(&self) -> u32 {
        SealedPostings::len(self)
    }

    fn lower_bound(&self, ordinal: u32) -> Result<u32, IndexDamage> {
        SealedPostings::lower_bound(self, ordinal)
    }

    fn range(self, postings: Range<u32>) -> Self::Range {
        SealedPostings::range(self, postings)
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use crate::limits::MERGED_AT_ONCE;
    use crate::log::{CatalogSegment, IndexOrRead};
    use crate::{Expect, NewEvent, Store};

    /// A store whose first segment is sealed, and how many events that has.
    fn sealed(disk: &MemoryDisk) -> (Store, u64) {
        let store = Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone()));
        let store = store.unwrap();
        loop {
            let event = NewEvent::bytes("t", vec![1; 1024]).tag("a");
            store.append("a-1", Expect::Any, [event]).wait().unwrap();
            let catalog = store.query(Query::all()).reads.catalogs.load();
            if let Some(CatalogSegment::Sealed(sealed)) = catalog.segments.first() {
                return (store, sealed.content.events);
            }
        }
    }

    #[test]
    fn what_was_sealed_beyond_the_head_that_was_seen_comes_with_the_next_look() {
        let (store, sealed) = sealed(&MemoryDisk::new());
        for query in [Query::all(), Query::any().tags(["a"])] {
            let mut reader = store.query(query).forward();
            let query = reader.read.query.clone().unwrap();
            let catalog = reader.read.reads.catalogs.load();
            // As if the segment had been sealed between the look at the head and the look into the catalog.
            reader.head = sealed - 3;
            let mut batch = Batch::default();
            reader.fill_from(&catalog, &query, &mut batch).unwrap();
            assert_eq!(batch.len() as u64, sealed - 3);
            let rest = reader.next_batch().unwrap().unwrap();
            assert_eq!(rest.get(0).unwrap().position().get(), sealed - 2);
            assert_eq!(batch.len() + rest.len(), usize::try_from(store.head().get()).unwrap());
        }
    }

    #[test]
    fn what_matches_before_damage_comes_first_and_the_damage_again_and_again() {
        let disk = MemoryDisk::new();
        let open = || Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone()));
        let store = open().unwrap();
        let mut asked_for = Vec::new();
        // A few candidates in each of several runs, of which there are too few to be merged meanwhile.
        for number in 0..300 {
            let event = NewEvent::bytes("t", format!("{number:_>1024}").into_bytes());
            let event = if number % 20 == 0 { event.tag("rare") } else { event };
            let done = store.append("a-1", Expect::Any, [event]).wait().unwrap();
            if number % 20 == 0 {
                asked_for.push(done.position().get());
            }
        }
        store.close().unwrap();
        let victim = asked_for[asked_for.len() / 2];
        let payload = format!("{:_>1024}", victim - 1);
        let is_there = |name: &String| {
            let bytes = disk.read_file(name);
            bytes.windows(payload.len()).position(|window| window == payload.as_bytes())
        };
        let mut files = disk.file_names().into_iter();
        let (at, log) = files.find_map(|name| Some((is_there(&name)?, name))).unwrap();
        disk.flip_bit(&log, at as u64, 0);

        let store = open().unwrap();
        let runs = store.query(Query::all()).reads.catalogs.load().runs.len();
        assert!((3..MERGED_AT_ONCE).contains(&runs), "{runs} runs");
        let read = |reader: &mut ReaderQuery| {
            let (mut found, mut failed) = (Vec::new(), 0);
            while failed < 2 {
                match reader.next_batch() {
                    Ok(Some(batch)) if failed == 0 => {
                        found.extend(batch.iter().map(|event| event.position().get()));
                    }
                    Ok(None) if failed == 0 => break,
                    Err(ReadError::Damaged { first_position, .. }) => {
                        assert_eq!(first_position, victim);
                        failed += 1;
                    }
                    other => panic!("behind {failed} errors: {other:?}"),
                }
            }
            (found, failed)
        };
        let query = || store.query(Query::any().tags(["rare"]));
        let (before, behind) = asked_for.split_at(asked_for.len() / 2);
        let behind = &behind[1..];
        let backward = |positions: &[u64]| positions.iter().rev().copied().collect::<Vec<_>>();
        assert_eq!(read(&mut query().forward()), (before.to_vec(), 2));
        assert_eq!(read(&mut query().backward()), (backward(behind), 2));
        assert_eq!(read(&mut query().after(victim).forward()), (behind.to_vec(), 0));
        assert_eq!(read(&mut query().before(victim).backward()), (backward(before), 0));
    }

    #[test]
    fn a_file_that_two_readers_find_damaged_is_built_again_once() {
        let disk = MemoryDisk::new();
        sealed(&disk).0.close().unwrap();
        // For reading only, so that no indexer is quicker.
        let store = Store::options().open_read_only_on(Arc::new(disk)).unwrap();
        let reads = store.query(Query::all()).reads;
        let run = Arc::clone(&reads.catalogs.load().runs[0]);
        let opened = run.open().unwrap();
        let damage = || IndexOrRead::Index(IndexDamage::ChecksumTable);
        let first = reads.failed(&run, Some(&opened), damage());
        assert!(matches!(first, Stopped::Distrusted));
        let built = run.open().unwrap();
        assert!(!Arc::ptr_eq(&built, &opened));
        // The other reader comes late, and has the damaged one still.
        let second = reads.failed(&run, Some(&opened), damage());
        assert!(matches!(second, Stopped::Distrusted));
        // What was built from the log is not damaged, unless the log is.
        assert!(Arc::ptr_eq(&run.open().unwrap(), &built));
        let third = reads.failed(&run, Some(&built), damage());
        assert!(matches!(third, Stopped::Read(ReadError::Damaged { .. })));
    }
}
