//! The catalog: where readers find the segments.
//!
//! An immutable list, replaced whole when a segment is added or takes its sealed form, so that readers
//! take no lock and see one consistent list.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::sealed::SealedSegment;
use crate::commit::LiveSegment;
use crate::index::{LiveIndex, TermHash};

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
pub(crate) struct Catalogs(ArcSwap<Catalog>);

impl Catalogs {
    pub(crate) fn new(catalog: Catalog) -> Self {
        Self(ArcSwap::from_pointee(catalog))
    }

    pub(crate) fn load(&self) -> Arc<Catalog> {
        self.0.load_full()
    }

    /// Takes a step towards what the segment that takes appends knows of a term: see
    /// [`LiveIndex::near_bucket`] and the steps after it.
    #[inline]
    pub(crate) fn near(&self, step: impl Fn(&LiveIndex, TermHash), hash: TermHash) {
        if let Some(CatalogSegment::Live(live)) = self.0.load().segments.last() {
            step(&live.index, hash);
        }
    }

    /// Adds the segment that takes appends from now on, before anything in it is published.
    pub(crate) fn push(&self, live: &Arc<LiveSegment>) {
        self.change(|segments| segments.push(CatalogSegment::Live(Arc::clone(live))));
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
        self.0.rcu(|catalog| {
            let mut next = Catalog::clone(catalog);
            change(&mut next.segments);
            next
        });
    }
}
