//! From a query to the ordinals that may match it, in one part of the log.
//!
//! Owns the choice of lists. Each item starts from its rarest condition, the *driver*; the types of an
//! item are one condition, whose postings are those of all of them. The other conditions are *probed*:
//! each of the driver's ordinals is looked for in their lists, the rarest first, and where a list has a
//! later one, the driver is taken there, as in Demaine, López-Ortiz and Munro, "Adaptive set intersections,
//! unions, and differences" (2000). Or they are left to whoever reads the frame. The items are merged.
//!
//! A frame that does not match costs a look-up of its offset, its checksum and, where memory has it not, a
//! page that nothing else needs. A probe costs the steps to the next posting or a search, half a microsecond
//! or so, and where memory has the list not, a page for the thousands of postings in it. Neither is worth
//! anything where nothing is left out, so:
//!
//! - a driver of up to [`SMALL`] ordinals is taken as it is: its frames cost less than planning further;
//! - a list is not probed that has nearly all events: it would leave out hardly any;
//! - a list far longer than the driver ([`PROBED_TIMES_MAX`]) takes a search for each ordinal, each in
//!   another block, which costs about what the frame does. It is probed only where the driver is itself
//!   [`LONG`], so that what the list leaves out is many frames, and their pages.
//!
//! Calls `cursor` and `lists`; the readers of queries are its callers.

use std::iter::FusedIterator;

use smallvec::{SmallVec, smallvec};

use super::Prepared;
use super::cursor::{Cursor, END, Key, ListCursor, Merge, Order, ordinal};
use super::lists::{PostingList, TermLists};
use super::prepared::PreparedItem;
use crate::index::IndexDamage;

/// A driver of at most so many postings is not narrowed further.
const SMALL: u64 = 32;
/// A list at most so many times as long as the driver is probed.
const PROBED_TIMES_MAX: u64 = 64;
/// Longer lists are probed, too, where the driver has at least so many postings.
const LONG: u64 = 1024;
/// A list that is probed leaves out at least one in so many events.
const LEFT_OUT_MIN: u64 = 8;

/// The ordinals of one part of the log whose events may match a query: each once, in the order of the read,
/// and none missing that matches. Nothing is read before it is asked for; after an error nothing follows.
pub(crate) struct Candidates<P: PostingList> {
    items: Merge<ItemCursor<P>>,
    /// What comes next is not before this.
    next: Key,
}

/// The ordinals that may match one item.
enum ItemCursor<P: PostingList> {
    /// All up to the last key.
    Every { last: Key },
    /// Those of the driver that the probed conditions have as well, up to the last key.
    Joined { driver: Union<P>, probed: Vec<Union<P>>, last: Key },
}

/// A condition as a cursor: the postings of any of its terms.
type Union<P> = Merge<ListCursor<P>>;

/// A condition as its lists, never none.
struct Condition<P> {
    lists: SmallVec<[P; 1]>,
    /// How many there are in all of them together.
    postings: u64,
}

/// The conditions of an item.
type Conditions<P> = SmallVec<[Condition<P>; 4]>;

/// What all cursors of a plan need to know.
#[derive(Clone, Copy)]
struct Bounds {
    order: Order,
    events: u32,
    last: Key,
}

impl<P: PostingList> Candidates<P> {
    /// The candidates from an ordinal on, itself included: forwards up to the last, backwards down to 0. An
    /// ordinal beyond the part's events is the same as behind its last one.
    pub(crate) fn new<'a, L: TermLists<List<'a> = P>>(
        query: &Prepared,
        lists: &'a L,
        order: Order,
        from: u32,
    ) -> Result<Self, IndexDamage> {
        let events = lists.events();
        let Some((first, last)) = order.keys(events) else {
            return Ok(Self { items: Merge::new(SmallVec::new()), next: END });
        };
        let bounds = Bounds { order, events, last };
        let every = || smallvec![ItemCursor::Every { last }];
        let items = match query.items() {
            None => every(),
            Some(items) => {
                let mut cursors = SmallVec::new();
                for item in items {
                    if item.is_unconditional() {
                        // There is nothing that the others could add.
                        cursors = every();
                        break;
                    }
                    if let Some(conditions) = conditions(&item, lists)? {
                        cursors.push(ItemCursor::of(conditions, bounds));
                    }
                }
                cursors
            }
        };
        Ok(Self { items: Merge::new(items), next: order.key(from).max(first) })
    }
}

impl<P: PostingList> Iterator for Candidates<P> {
    type Item = Result<u32, IndexDamage>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == END {
            return None;
        }
        let found = self.items.seek(self.next);
        self.next = match &found {
            Ok(key) if *key != END => key + 1,
            _ => END,
        };
        match found {
            Ok(END) => None,
            Ok(key) => Some(Ok(ordinal(key))),
            Err(damage) => Some(Err(damage)),
        }
    }
}

impl<P: PostingList> FusedIterator for Candidates<P> {}

/// The conditions of an item, rarest first; `None` where no event meets one of them.
fn conditions<'a, L: TermLists>(
    item: &PreparedItem<'_>,
    lists: &'a L,
) -> Result<Option<Conditions<L::List<'a>>>, IndexDamage> {
    let mut conditions = Conditions::new();
    for (hash, term) in item.all_of() {
        let Some(list) = lists.list(hash, term)? else { return Ok(None) };
        conditions.push(Condition { lists: smallvec![list], postings: u64::from(list.len()) });
    }
    let mut any_of = item.any_of().peekable();
    if any_of.peek().is_some() {
        let mut types = Condition { lists: SmallVec::new(), postings: 0 };
        for (hash, term) in any_of {
            if let Some(list) = lists.list(hash, term)? {
                types.postings += u64::from(list.len());
                types.lists.push(list);
            }
        }
        if types.lists.is_empty() {
            return Ok(None);
        }
        conditions.push(types);
    }
    conditions.sort_by_key(|condition| condition.postings);
    Ok(Some(conditions))
}

impl<P: PostingList> ItemCursor<P> {
    /// Takes the conditions rarest first. Without one, nothing is left out.
    fn of(conditions: Conditions<P>, bounds: Bounds) -> Self {
        let last = bounds.last;
        let mut conditions = conditions.into_iter();
        let Some(driver) = conditions.next() else { return Self::Every { last } };
        let postings = driver.postings;
        let probed = conditions
            .filter(|condition| is_probed(condition.postings, postings, bounds.events))
            .map(|condition| condition.union(bounds))
            .collect();
        Self::Joined { driver: driver.union(bounds), probed, last }
    }
}

/// Whether looking for a driver's postings in a longer condition is worth it; see the module.
fn is_probed(postings: u64, driver_postings: u64, events: u32) -> bool {
    let events = u64::from(events);
    driver_postings > SMALL
        && postings <= events - events / LEFT_OUT_MIN
        && (driver_postings >= LONG || postings <= driver_postings * PROBED_TIMES_MAX)
}

impl<P: PostingList> Condition<P> {
    fn union(self, bounds: Bounds) -> Union<P> {
        let Bounds { order, events, .. } = bounds;
        let lists = self.lists.into_iter();
        Merge::new(lists.map(|list| ListCursor::new(list, order, events)).collect())
    }
}

impl<P: PostingList> Cursor for ItemCursor<P> {
    #[inline]
    fn seek(&mut self, at_least: Key) -> Result<Key, IndexDamage> {
        match self {
            Self::Every { last } => Ok(if at_least <= *last { at_least } else { END }),
            Self::Joined { driver, probed, last } => {
                let mut candidate = driver.seek(at_least)?;
                'candidate: while candidate <= *last {
                    for condition in &mut *probed {
                        let found = condition.seek(candidate)?;
                        if found != candidate {
                            if found > *last {
                                return Ok(END);
                            }
                            candidate = driver.seek(found)?;
                            continue 'candidate;
                        }
                    }
                    return Ok(candidate);
                }
                Ok(END)
            }
        }
    }
}
