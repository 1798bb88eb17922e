//! A query with the hashes of its terms.
//!
//! Owns what is computed once for a read, however many parts of the log that goes through. The readers of
//! queries hold it and `plan` takes the hashes from it.

use smallvec::SmallVec;

use super::items::Item;
use super::{InvalidQuery, Query};
use crate::index::{Term, TermHash};

/// A query that was found right.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    query: Query,
    /// For each item, the hashes of the terms all of which it wants, then of those of which it wants one.
    hashes: SmallVec<[SmallVec<[TermHash; 4]>; 1]>,
}

/// An item, with its terms and their hashes in two groups.
pub(super) struct PreparedItem<'a> {
    item: &'a Item,
    hashes: &'a [TermHash],
}

impl Prepared {
    /// Checks the query and hashes its terms.
    pub(crate) fn new(query: Query) -> Result<Self, InvalidQuery> {
        query.check()?;
        let items = query.items().unwrap_or_default().iter();
        let hashes = items
            .map(|item| item.all_of().chain(item.any_of()).map(|term| term.xxh3_64()).collect());
        let hashes = hashes.collect();
        Ok(Self { query, hashes })
    }

    /// See [`Query::matches`]. Each event that is returned must pass it.
    #[inline]
    pub(crate) fn matches<'t>(
        &self,
        stream: &str,
        event_type: &str,
        tags: impl Iterator<Item = &'t str> + Clone,
    ) -> bool {
        self.query.matches(stream, event_type, tags)
    }

    /// Whether an event matches, as far as its terms tell: a term of a tag stands for all tags that share its hash.
    pub(crate) fn matches_terms(&self, mut has: impl FnMut(TermHash, Term<'_>) -> bool) -> bool {
        let Some(mut items) = self.items() else { return true };
        items.any(|item| {
            item.all_of().all(|(hash, term)| has(hash, term)) && {
                let mut any_of = item.any_of().peekable();
                any_of.peek().is_none() || any_of.any(|(hash, term)| has(hash, term))
            }
        })
    }

    /// How many items it has, one where every event is asked for.
    pub(crate) fn items_count(&self) -> usize {
        self.items().map_or(1, Iterator::count)
    }

    /// Gives each term that it asks for.
    pub(crate) fn each_term(&self, mut each: impl FnMut(TermHash, Term<'_>)) {
        for item in self.items().into_iter().flatten() {
            item.all_of().chain(item.any_of()).for_each(|(hash, term)| each(hash, term));
        }
    }

    /// The items that some event could match; `None` where every event is asked for.
    pub(super) fn items(&self) -> Option<impl Iterator<Item = PreparedItem<'_>>> {
        let items = self.query.items()?.iter().zip(&self.hashes);
        let items = items.map(|(item, hashes)| PreparedItem { item, hashes });
        Some(items.filter(|prepared| !prepared.item.is_contradiction()))
    }
}

impl PreparedItem<'_> {
    /// Whether every event matches it.
    pub(super) fn is_unconditional(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The terms all of which an event must have.
    pub(super) fn all_of(&self) -> impl Iterator<Item = (TermHash, Term<'_>)> {
        self.hashes.iter().copied().zip(self.item.all_of())
    }

    /// The terms of which an event must have one, where there are any.
    pub(super) fn any_of(&self) -> impl Iterator<Item = (TermHash, Term<'_>)> {
        let behind = self.item.all_of().count();
        self.hashes.iter().skip(behind).copied().zip(self.item.any_of())
    }
}
