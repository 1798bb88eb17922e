//! What can be wrong with a query.
//!
//! Owns the one error; `items` finds what it tells, the readers of queries report it.

use crate::event::InvalidName;
use crate::limits::{QUERY_ITEMS_MAX, QUERY_TERMS_MAX};

/// A [`Query`](crate::Query) that cannot be answered: nothing was read. Mend it; where it is too large,
/// ask for its parts one after the other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidQuery {
    /// The name of a stream, a category or a type, or a tag, is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The category has a `-`. No stream is of such a category: see [`category`](crate::category()).
    #[error(
        "no stream is of the category {category:?}: a category is what stands before the first '-' \
         of a stream's name, so it has none"
    )]
    Hyphen {
        /// What was given as a category.
        category: Box<str>,
    },
    /// One item asks for two streams, and no event belongs to both. Ask for them in two items.
    #[error("item {item} asks for the streams {first:?} and {second:?}; an event belongs to one")]
    TwoStreams {
        /// The item's number when it was narrowed, counted from 1.
        item: usize,
        /// The stream that it asks for.
        first: Box<str>,
        /// The other one.
        second: Box<str>,
    },
    /// One item asks for two categories, and no event belongs to both. Ask for them in two items.
    #[error(
        "item {item} asks for the categories {first:?} and {second:?}; an event belongs to one"
    )]
    TwoCategories {
        /// The item's number when it was narrowed, counted from 1.
        item: usize,
        /// The category that it asks for.
        first: Box<str>,
        /// The other one.
        second: Box<str>,
    },
    /// More than [`QUERY_ITEMS_MAX`] items.
    #[error("a query may have {QUERY_ITEMS_MAX} items, this one has {items}")]
    TooManyItems {
        /// How many there would have been when the bound was first passed.
        items: usize,
    },
    /// More than [`QUERY_TERMS_MAX`] different types in one item.
    #[error("an item may have {QUERY_TERMS_MAX} event types, item {item} has more")]
    TooManyTypes {
        /// The item's number when it was narrowed, counted from 1.
        item: usize,
    },
    /// More than [`QUERY_TERMS_MAX`] different tags in one item.
    #[error("an item may have {QUERY_TERMS_MAX} tags, item {item} has more")]
    TooManyTags {
        /// The item's number when it was narrowed, counted from 1.
        item: usize,
    },
}
