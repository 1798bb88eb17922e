//! The catalog: where readers find the segments, and the runs of their terms.
//!
//! An immutable list, replaced whole when a segment is added or takes its sealed form, or when runs are merged
//! or given up, so that readers take no lock and see one consistent list.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};

use super::rebuilding::Rebuilding;
use super::run::{OpenRun, Run};
use super::sealed::SealedSegment;
use crate::commit::LiveSegment;
use crate::error::ReadError;
use crate::format::stored_types::StoredTypes;
use crate::index::{IndexDamage, LiveIndex};

/// A segment as readers see it.
#[derive(Debug, Clone)]
pub(crate) enum CatalogSegment {
    Sealed(Arc<SealedSegment>),
    Live(Arc<LiveSegment>),
}

impl CatalogSegment {
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Sealed(sealed) => sealed.number(),
            Self::Live(live) => live.number(),
        }
    }

    /// The position of its first event, whether or not it has one.
    pub(crate) fn first_position(&self) -> u64 {
        match self {
            Self::Sealed(sealed) => sealed.content.first_position,
            Self::Live(live) => live.first_position,
        }
    }
}

/// A part of the log that has terms of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    /// Some neighbouring sealed segments.
    Run(&'a Arc<Run>),
    Live(&'a Arc<LiveSegment>),
}

impl Part<'_> {
    /// The position of its first event, whether or not it has one.
    pub(crate) fn first_position(&self) -> u64 {
        match self {
            Self::Run(run) => run.first_position(),
            Self::Live(live) => live.first_position,
        }
    }
}

/// All segments, in their order.
#[derive(Debug, Clone)]
pub(crate) struct Catalog {
    /// The sealed ones come first.
    pub segments: Vec<CatalogSegment>,
    /// Every sealed segment that has an event is in one of them.
    pub runs: Vec<Arc<Run>>,
    /// The types of the sealed segments.
    pub types: Arc<StoredTypes>,
}

impl Catalog {
    /// The index of the segment that holds a position, if any does.
    pub(crate) fn find(&self, position: u64) -> Option<usize> {
        // An empty segment begins where the next one does: the last of them is the one with events.
        self.segments.partition_point(|segment| segment.first_position() <= position).checked_sub(1)
    }

    /// The position of the last event of its sealed segments; 0 where they have none.
    pub(crate) fn sealed_end(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.next_position() - 1)
    }

    /// The position behind the last event that its segments have, durable or not.
    pub(crate) fn next_position(&self) -> u64 {
        self.segments.last().map_or(1, |last| match last {
            CatalogSegment::Sealed(sealed) => sealed.content.next_position(),
            CatalogSegment::Live(live) => live.first_position + u64::from(live.index.events()),
        })
    }

    /// The segments that are not sealed, in their order.
    pub(crate) fn live(&self) -> impl DoubleEndedIterator<Item = &Arc<LiveSegment>> {
        let sealed = |segment: &CatalogSegment| matches!(segment, CatalogSegment::Sealed(_));
        self.segments[self.segments.partition_point(sealed)..].iter().filter_map(|segment| {
            match segment {
                CatalogSegment::Live(live) => Some(live),
                CatalogSegment::Sealed(_) => None,
            }
        })
    }

    /// The part that holds a position, or the last one before it; none where all begin behind it.
    pub(crate) fn part_at(&self, position: u64) -> Option<Part<'_>> {
        let live = self.live().rev().find(|live| live.first_position <= position);
        live.map(Part::Live).or_else(|| {
            let behind = self.runs.partition_point(|run| run.first_position() <= position);
            self.runs.get(behind.checked_sub(1)?).map(Part::Run)
        })
    }
}

/// The present catalog.
#[derive(Debug)]
pub(crate) struct Catalogs {
    all: ArcSwap<Catalog>,
    /// The index of the newest segment, where that is live: each append asks for it.
    newest: ArcSwapOption<LiveIndex>,
    /// Whose bell is rung when there may be a run to write or to merge.
    pub rebuilding: Arc<Rebuilding>,
}

impl Catalogs {
    pub(crate) fn new(catalog: Catalog, rebuilding: Arc<Rebuilding>) -> Self {
        let newest = match catalog.segments.last() {
            Some(CatalogSegment::Live(live)) => Some(Arc::clone(&live.index)),
            Some(CatalogSegment::Sealed(_)) | None => None,
        };
        let (all, newest) = (ArcSwap::from_pointee(catalog), ArcSwapOption::new(newest));
        Self { all, newest, rebuilding }
    }

    pub(crate) fn load(&self) -> Arc<Catalog> {
        self.all.load_full()
    }

    /// As [`Catalogs::load`], for a short look: no other thread's count is touched.
    #[inline]
    pub(crate) fn look(&self) -> Guard<Arc<Catalog>> {
        self.all.load()
    }

    /// The index of the segment that takes appends, if there is one; it may be another's by now.
    #[inline]
    pub(crate) fn newest(&self) -> Guard<Option<Arc<LiveIndex>>> {
        self.newest.load()
    }

    /// Adds the segment that takes appends from now on, before anything in it is published.
    pub(crate) fn push(&self, live: &Arc<LiveSegment>) {
        self.change(|catalog| catalog.segments.push(CatalogSegment::Live(Arc::clone(live))));
        self.newest.store(Some(Arc::clone(&live.index)));
    }

    /// Puts the sealed form in the place of the live one, and its run behind the others, if it has one; `types` are those of
    /// all sealed segments then.
    pub(crate) fn seal(
        &self,
        sealed: &Arc<SealedSegment>,
        run: Option<Run>,
        types: &Arc<StoredTypes>,
    ) {
        let run = run.map(Arc::new);
        self.change(|catalog| {
            let number = sealed.number();
            let place = catalog.segments.iter_mut().find(|segment| segment.number() == number);
            *place.expect("a segment is in the catalog from its roll on") =
                CatalogSegment::Sealed(Arc::clone(sealed));
            catalog.runs.extend(run.clone());
            catalog.types = Arc::clone(types);
        });
        self.rebuilding.bell.ring();
    }

    /// Puts one run into the place of those that it was merged from. False where one of them is not there any
    /// more.
    pub(super) fn merge(&self, from: &[Arc<Run>], into: &Arc<Run>) -> bool {
        self.replace_runs(from, std::slice::from_ref(into))
    }

    /// A run, opened as `open` where it could be, turned out to be of no use as it is: it is built again, segment by
    /// segment. Whoever looks into the catalog next finds what takes its place.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], where it was built from the log: that contradicts itself.
    pub(crate) fn distrust(
        &self,
        run: &Arc<Run>,
        open: Option<&Arc<OpenRun>>,
        damage: &IndexDamage,
    ) -> Result<(), ReadError> {
        if run.is_single() {
            return run.distrust(open, damage);
        }
        let single: Vec<_> = run.split().map(Arc::new).collect();
        if self.replace_runs(std::slice::from_ref(run), &single) {
            tracing::warn!(name = run.name(), %damage, "a file of the index is built again");
            self.rebuilding.give_up(run.name());
        }
        Ok(())
    }

    fn replace_runs(&self, from: &[Arc<Run>], into: &[Arc<Run>]) -> bool {
        let mut replaced = false;
        self.change(|catalog| {
            let is_from = |(run, other): (&Arc<Run>, &Arc<Run>)| Arc::ptr_eq(run, other);
            let at = catalog.runs.windows(from.len()).position(|w| w.iter().zip(from).all(is_from));
            replaced = at.is_some();
            if let Some(at) = at {
                catalog.runs.splice(at..at + from.len(), into.iter().cloned());
            }
        });
        replaced
    }

    fn change(&self, mut change: impl FnMut(&mut Catalog)) {
        self.all.rcu(|catalog| {
            let mut next = Catalog::clone(catalog);
            change(&mut next);
            next
        });
    }
}
