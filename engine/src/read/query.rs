//! Reading what a query asks for, in the order of positions.
//!
//! Owns how a query goes through the log: part by part, each a live segment or a run of sealed ones, whose lists
//! `query` plans with. What a plan gives are candidates; each one's frame is compared before it is returned.

use std::ops::Range;
use std::sync::Arc;

use super::batch::Batch;
use super::locate::{LOCATED_AT_ONCE, Located, Place};
use super::{Reads, Stopped};
use crate::commit::LiveSegment;
use crate::error::ReadError;
use crate::event::Position;
use crate::format::frame::Frame;
use crate::index::{
    IndexDamage, LivePostings, LiveRange, SealedPostings, SealedRange, Term, TermHash,
};
use crate::limits::READ_BATCH_EVENTS;
use crate::log::{Catalog, IndexOrRead, OpenRun, Part, Run};
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
    /// The first position that may be returned.
    from: u64,
    /// The last.
    upto: u64,
    limit: u64,
}

impl ReadQuery {
    pub(crate) fn new(reads: Arc<Reads>, query: Query) -> Self {
        let query = Prepared::new(query).map(Arc::new);
        Self { reads, query, from: 1, upto: u64::MAX, limit: u64::MAX }
    }

    /// Only events behind this position; 0, the default, is before all.
    pub fn after(mut self, position: impl Into<Position>) -> Self {
        self.from = position.into().0.saturating_add(1);
        self
    }

    /// Only events from this position on, itself included.
    pub fn from(mut self, position: impl Into<Position>) -> Self {
        self.from = position.into().0.max(1);
        self
    }

    /// Only events before this position.
    pub fn before(mut self, position: impl Into<Position>) -> Self {
        self.upto = position.into().0.saturating_sub(1);
        self
    }

    /// At most this many events; 0 gives none. Default: no limit.
    pub fn limit(mut self, events: u64) -> Self {
        self.limit = events;
        self
    }

    /// Begins with the first event that matches. What becomes durable while it is read is returned as well.
    pub fn forward(self) -> ReaderQuery {
        let next = self.from;
        ReaderQuery {
            next,
            order: Order::Forward,
            head: self.reads.watermark.get(),
            is_dense: false,
            read: self,
        }
    }

    /// Begins with the last event that matches and is durable now, and goes back.
    pub fn backward(self) -> ReaderQuery {
        let head = self.reads.watermark.get();
        let next = head.min(self.upto);
        ReaderQuery { next, order: Order::Backward, head, is_dense: false, read: self }
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
    /// Whether the run that was read last had more candidates than are located together.
    is_dense: bool,
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
            let first = part.first_position();
            let end = match part {
                // What was sealed a moment ago may reach beyond the head that was seen: that is for the next look.
                Part::Run(run) => run.next_position().min(self.head + 1),
                Part::Live(live) => first + u64::from(live.visible_events(self.head)),
            };
            if self.order == Order::Forward && self.next >= end {
                break;
            }
            match part {
                Part::Run(_) if !self.is_dense => {
                    if !self.fill_sparse(catalog, query, batch)? {
                        break;
                    }
                    continue;
                }
                Part::Run(run) => {
                    let reads = Arc::clone(&self.read.reads);
                    let open = reads.opened(run)?;
                    let filled = self.fill_run(run, &open, query, batch);
                    filled.map_err(|error| reads.failed(run, Some(&open), error))?;
                }
                Part::Live(live) => self.fill_live(live, query, batch)?,
            }
            if batch.is_full() || self.read.limit == 0 {
                break;
            }
            // Nothing else in this part matches.
            self.is_dense = false;
            self.next = if self.order == Order::Forward { end } else { first - 1 };
        }
        Ok(())
    }

    /// Whether the batch has room, and something in the range that was asked for was not looked at yet.
    fn wants_more(&self, batch: &Batch) -> bool {
        !batch.is_full()
            && self.read.limit > 0
            && (self.read.from.max(1)..=self.read.upto.min(self.head)).contains(&self.next)
    }

    /// Whether an event of the part, in the order of the read, is in the range that was asked for.
    fn is_asked_for(&self, position: u64) -> bool {
        (self.read.from..=self.read.upto.min(self.head)).contains(&position)
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
            if batch.is_full() || self.read.limit == 0 || !self.is_asked_for(position) {
                break;
            }
            let is_wanted = |frame: &Frame<'_>| {
                let event_type = live.types.get(frame.type_ref());
                event_type.is_some_and(|known| matches(query, frame, &known.name))
            };
            if batch.push_live_if(live, ordinal, position, is_wanted)? {
                self.read.limit -= 1;
            }
            self.pass(position);
        }
        Ok(())
    }

    /// Adds what matches in one or several runs, the candidates of which are few: they are located together, so that a
    /// disk that has to be waited for is waited for once. Says whether it got anywhere.
    fn fill_sparse(
        &mut self,
        catalog: &Catalog,
        query: &Prepared,
        batch: &mut Batch,
    ) -> Result<bool, Stopped> {
        let room = (READ_BATCH_EVENTS - batch.len()).min(LOCATED_AT_ONCE);
        let wanted = usize::try_from(self.read.limit).map_or(room, |limit| room.min(limit));
        let (mut located, mut resume) = (Located::default(), self.next);
        while located.places().len() < wanted
            && self.is_asked_for(resume)
            && let Some(Part::Run(run)) = catalog.part_at(resume)
        {
            let (first, end) = (run.first_position(), run.next_position().min(self.head + 1));
            if self.order == Order::Forward && resume >= end {
                break;
            }
            match self.gather(run, query, resume, wanted, &mut located) {
                Ok(Some(next)) => {
                    self.is_dense =
                        located.places().len() == LOCATED_AT_ONCE && resume == self.next;
                    resume = next;
                    break;
                }
                Ok(None) => resume = if self.order == Order::Forward { end } else { first - 1 },
                Err(error) if located.places().is_empty() => return Err(error),
                // It is met again, before anything else, when the rest is asked for.
                Err(_) => break,
            }
        }
        let begun_at = self.next;
        located.locate();
        for place in located.places() {
            if batch.is_full() {
                return Ok(true);
            }
            self.take(&located, place, query, batch)?;
        }
        located.outcome()?;
        // Where a run failed in the middle, it is behind the last one that was looked at.
        self.next = match self.order {
            Order::Forward => resume.max(self.next),
            Order::Backward => resume.min(self.next),
        };
        Ok(self.next != begun_at)
    }

    /// Adds candidates of a run to what is located together, up to so many; gives the position of the first one that
    /// was not added, if there is one.
    fn gather(
        &self,
        run: &Arc<Run>,
        query: &Prepared,
        from: u64,
        wanted: usize,
        located: &mut Located,
    ) -> Result<Option<u64>, Stopped> {
        let reads = &self.read.reads;
        let open = reads.opened(run)?;
        let failed = |damage: IndexDamage| reads.failed(run, Some(&open), damage.into());
        let from = ordinal(from, run.first_position());
        let candidates = Candidates::new(query, &*open, self.order, from).map_err(failed)?;
        for ordinal in candidates {
            let position = run.first_position() + u64::from(ordinal.map_err(failed)?);
            if located.places().len() == wanted || !self.is_asked_for(position) {
                return Ok(Some(position));
            }
            located.add(run, position)?;
        }
        Ok(None)
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
            self.read.limit -= 1;
        }
        self.pass(place.position);
        Ok(())
    }

    fn fill_run(
        &mut self,
        run: &Run,
        open: &OpenRun,
        query: &Prepared,
        batch: &mut Batch,
    ) -> Result<(), IndexOrRead> {
        let from = ordinal(self.next, run.first_position());
        let mut candidates = Candidates::new(query, open, self.order, from)?;
        let mut located = Located::default();
        let mut ordinals = [0; LOCATED_AT_ONCE];
        while !batch.is_full() && self.read.limit > 0 {
            let room = (READ_BATCH_EVENTS - batch.len()).min(LOCATED_AT_ONCE);
            let wanted = usize::try_from(self.read.limit).map_or(room, |limit| room.min(limit));
            let mut count = 0;
            for (slot, ordinal) in ordinals.iter_mut().zip(candidates.by_ref().take(wanted)) {
                *slot = ordinal?;
                if !self.is_asked_for(run.first_position() + u64::from(*slot)) {
                    break;
                }
                count += 1;
            }
            if count == 0 {
                break;
            }
            located.find(run, &ordinals[..count]);
            for place in located.places() {
                if batch.is_full() {
                    break;
                }
                self.take(&located, place, query, batch)?;
            }
            // What could not be located is behind all that could.
            located.outcome()?;
        }
        Ok(())
    }

    /// Goes on behind a position that was looked at.
    fn pass(&mut self, position: u64) {
        // Position 0 is before all events, so that going back ends there.
        self.next = if self.order == Order::Backward { position - 1 } else { position + 1 };
    }
}

fn matches(query: &Prepared, frame: &Frame<'_>, event_type: &str) -> bool {
    query.matches(frame.stream(), event_type, frame.tags())
}

fn ordinal(position: u64, first: u64) -> u32 {
    u32::try_from(position.saturating_sub(first)).unwrap_or(u32::MAX)
}

/// The lists of a live segment, as far as it is durable.
struct LiveLists<'a> {
    live: &'a LiveSegment,
    visible: u32,
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
    use crate::log::CatalogSegment;
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
