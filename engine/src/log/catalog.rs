//! The catalog: where readers find the segments.
//!
//! An immutable list, replaced whole when a segment is added or takes its sealed form, so that readers
//! take no lock and see one consistent list.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption, Guard};

use super::sealed::SealedSegment;
use crate::commit::LiveSegment;
use crate::index::LiveIndex;

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

/// All segments, in their order.
#[derive(Debug, Default, Clone)]
pub(crate) struct Catalog {
    pub segments: Vec<CatalogSegment>,
}

impl Catalog {
    /// The index of the segment that holds a position, if any does.
    pub(crate) fn find(&self, position: u64) -> Option<usize> {
        // An empty segment begins where the next one does: the last of them is the one with events.
        self.segments.partition_point(|segment| segment.first_position() <= position).checked_sub(1)
    }

    /// The index of the segment with this number, or of the first one behind it.
    pub(crate) fn index_of(&self, number: u64) -> usize {
        self.segments.partition_point(|segment| segment.number() < number)
    }
}

/// The present catalog.
#[derive(Debug)]
pub(crate) struct Catalogs {
    all: ArcSwap<Catalog>,
    /// The index of the newest segment, where that is live: each append asks for it.
    newest: ArcSwapOption<LiveIndex>,
}

impl Catalogs {
    pub(crate) fn new(catalog: Catalog) -> Self {
        let newest = match catalog.segments.last() {
            Some(CatalogSegment::Live(live)) => Some(Arc::clone(&live.index)),
            Some(CatalogSegment::Sealed(_)) | None => None,
        };
        Self { all: ArcSwap::from_pointee(catalog), newest: ArcSwapOption::new(newest) }
    }

    pub(crate) fn load(&self) -> Arc<Catalog> {
        self.all.load_full()
    }

    /// The index of the segment that takes appends, if there is one; it may be another's by now.
    #[inline]
    pub(crate) fn newest(&self) -> Guard<Option<Arc<LiveIndex>>> {
        self.newest.load()
    }

    /// Adds the segment that takes appends from now on, before anything in it is published.
    pub(crate) fn push(&self, live: &Arc<LiveSegment>) {
        self.change(|segments| segments.push(CatalogSegment::Live(Arc::clone(live))));
        self.newest.store(Some(Arc::clone(&live.index)));
    }

    /// Puts the sealed form in the place of the live one.
    pub(crate) fn seal(&self, sealed: &Arc<SealedSegment>) {
        self.change(|segments| {
            let place = segments.iter_mut().find(|segment| segment.number() == sealed.number());
            *place.expect("a segment is in the catalog from its roll on") =
                CatalogSegment::Sealed(Arc::clone(sealed));
        });
    }

    fn change(&self, change: impl Fn(&mut Vec<CatalogSegment>)) {
        self.all.rcu(|catalog| {
            let mut next = Catalog::clone(catalog);
            change(&mut next.segments);
            next
        });
    }
}
