//! The seam between plans and indexes: lists of postings, wherever they come from.
//!
//! Owns two traits and nothing else. The readers of queries implement them for the live index and the
//! sealed ones; `cursor` and `plan` know no other way to postings.

use std::ops::Range;

use crate::index::{IndexDamage, Term, TermHash};

/// The ordinals of the events that have a term, in one part of the log: increasing, and a superset. Terms
/// may share a hash and so a list, so whoever reads compares the term in the frame.
pub(crate) trait PostingList: Copy {
    /// Ordinals of some of the postings, from either end. Nothing is expected of it after an error.
    type Range: DoubleEndedIterator<Item = Result<u32, IndexDamage>>;

    /// How many postings there are; never zero.
    fn len(&self) -> u32;

    /// How many postings are below the ordinal.
    fn lower_bound(&self, ordinal: u32) -> Result<u32, IndexDamage>;

    /// The ordinals of these postings.
    fn range(self, postings: Range<u32>) -> Self::Range;
}

/// One part of the log with its lists: a live segment, or a run of sealed ones.
pub(crate) trait TermLists {
    /// What this part has of a term.
    type List<'a>: PostingList
    where
        Self: 'a;

    /// How many events the part has, as far as they may be read. A list may hold ordinals at or above it;
    /// they are passed over.
    fn events(&self) -> u32;

    /// The term's postings; `None` where no event of this part has the term.
    fn list(&self, hash: TermHash, term: Term<'_>) -> Result<Option<Self::List<'_>>, IndexDamage>;
}
