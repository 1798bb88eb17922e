//! The newest position of each tag, as far as it was used lately: what most conditions need to know.
//!
//! A condition about what came lately asks whether any of its tags was used since. So the sequencer notes the position
//! of each tag that is claimed, in a table of a fixed size: sets of a few tags, each set a line of the processor's
//! cache. A tag may stand in either of two sets (Azar, Broder, Karlin and Upfal, "Balanced allocations", 1999), so that
//! hardly one is full before all are; then the tag that was used least lately makes room for another, and its set
//! remembers the newest position that it has dropped. So the answer for a tag is exact, or that of one that was dropped
//! later: never too old. Where a tag was not used behind a position, no event with it is there, durable or not; where
//! it seems so, also because two tags have the same hash, the condition is looked at exactly.
//!
//! Part of the sequencer, under its lock; only [`TagTable::near`] is for anyone. It takes no memory before there is a
//! condition, whose own thread makes the table; and nothing is noted any more when there was none for a whole segment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::index::{TermHash, TermKind};
use crate::query::Prepared;
use crate::sync::prefetch;

/// Tags in a set.
const SET_TAGS: usize = 3;
/// The fewest sets.
const SETS_MIN: u64 = 1 << 8;

/// See the module.
#[derive(Debug)]
pub(super) struct NewestTags {
    table: Arc<TagTable>,
    /// Of what is up to here, nothing was noted; none where nothing is.
    since: Option<u64>,
    /// Whether there was a condition in this segment or the one before.
    asked: [bool; 2],
}

/// The sets.
#[derive(Debug)]
pub(super) struct TagTable {
    /// A power of two.
    sets_count: u64,
    sets: OnceLock<Box<[Set]>>,
}

/// Tags whose hashes lead here. A position of 0 is that of none.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set {
    hashes: [AtomicU64; SET_TAGS],
    positions: [AtomicU64; SET_TAGS],
    /// The newest position of the tags that are not here any more.
    dropped: AtomicU64,
}

impl NewestTags {
    /// It takes so much memory, or half of that.
    pub(super) fn new(bytes: u64) -> Self {
        let sets = (bytes / size_of::<Set>() as u64).max(SETS_MIN);
        let table = TagTable { sets_count: 1 << sets.ilog2(), sets: OnceLock::new() };
        Self { table: Arc::new(table), since: None, asked: [false; 2] }
    }

    /// Where it is kept, to be fetched from.
    pub(super) fn table(&self) -> &Arc<TagTable> {
        &self.table
    }

    /// Behind which position everything is noted; `u64::MAX` where nothing is.
    pub(super) fn since(&self) -> u64 {
        self.since.unwrap_or(u64::MAX)
    }

    /// Notes that the last of some events, which have these tags, has this position.
    #[inline]
    pub(super) fn note(&mut self, tags: &[TermHash], position: u64) {
        if self.since.is_some() {
            let sets = self.table.sets();
            // Events of one append most often have the same tags.
            for same in tags.chunk_by(|one, next| one == next) {
                note(sets, same[0], position);
            }
        }
    }

    /// Somebody has conditions: from now on tags are noted. `head` is the last position that was given.
    pub(super) fn ask(&mut self, head: u64) {
        self.asked[0] = true;
        // What stands in the table from before is older than this.
        self.since.get_or_insert(head);
    }

    /// Whether it is known that no event behind a position matches.
    pub(super) fn is_older(&self, query: &Prepared, after: u64) -> bool {
        if self.since.is_none_or(|since| after < since) {
            return false;
        }
        let sets = self.table.sets();
        let is_newer = |hash: TermHash| newest(sets, hash) > after;
        !query.matches_terms(|hash, term| term.kind != TermKind::Tag || is_newer(hash))
    }

    /// A segment is full.
    pub(super) fn rolled(&mut self) {
        if self.asked == [false; 2] {
            self.since = None;
        }
        self.asked = [false, self.asked[0]];
    }
}

impl TagTable {
    /// Has the processor fetch where the tags of a query stand, which will be asked for soon. Makes the table, where
    /// this is the first query: that takes some milliseconds, for which nobody shall wait under the lock.
    pub(super) fn near(&self, query: &Prepared) {
        let sets = self.sets();
        query.each_term(|hash, term| {
            if term.kind == TermKind::Tag {
                for set in places(sets, hash) {
                    prefetch(&sets[set]);
                }
            }
        });
    }

    #[inline]
    fn sets(&self) -> &[Set] {
        self.sets.get_or_init(|| (0..self.sets_count).map(|_| Set::default()).collect())
    }
}

/// The two sets that a tag may stand in.
#[inline]
fn places(sets: &[Set], hash: TermHash) -> [usize; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "these bits are wanted")]
    let halves = [hash.0 as usize, (hash.0 >> 32) as usize];
    halves.map(|half| half & (sets.len() - 1))
}

#[inline]
fn note(sets: &[Set], hash: TermHash, position: u64) {
    let places = places(sets, hash);
    for set in places {
        let set = &sets[set];
        if let Some(tag) = set.find(hash.0) {
            set.positions[tag].store(position, Ordering::Relaxed);
            return;
        }
    }
    let [one, other] = places.map(|set| sets[set].oldest());
    let (set, (tag, oldest)) = if one.1 <= other.1 { (places[0], one) } else { (places[1], other) };
    let set = &sets[set];
    let dropped = set.dropped.load(Ordering::Relaxed).max(oldest);
    set.dropped.store(dropped, Ordering::Relaxed);
    set.hashes[tag].store(hash.0, Ordering::Relaxed);
    set.positions[tag].store(position, Ordering::Relaxed);
}

/// The position of the newest event with a tag, or a newer one.
#[inline]
fn newest(sets: &[Set], hash: TermHash) -> u64 {
    let mut dropped = 0;
    for set in places(sets, hash) {
        let set = &sets[set];
        if let Some(tag) = set.find(hash.0) {
            return set.position(tag);
        }
        dropped = set.dropped.load(Ordering::Relaxed).max(dropped);
    }
    dropped
}

impl Set {
    #[inline]
    fn position(&self, tag: usize) -> u64 {
        self.positions[tag].load(Ordering::Relaxed)
    }

    #[inline]
    fn find(&self, hash: u64) -> Option<usize> {
        let is_it = |tag: &usize| self.hashes[*tag].load(Ordering::Relaxed) == hash;
        (0..SET_TAGS).find(|tag| is_it(tag) && self.position(*tag) > 0)
    }

    /// The tag that was used least lately, or none's place, and its position.
    #[inline]
    fn oldest(&self) -> (usize, u64) {
        let oldest = (0..SET_TAGS).min_by_key(|tag| self.position(*tag)).unwrap_or(0);
        (oldest, self.position(oldest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Term;
    use crate::query::Query;

    fn hash(tag: &str) -> TermHash {
        Term::tag(tag.as_bytes()).xxh3_64()
    }

    fn prepared(query: Query) -> Prepared {
        Prepared::new(query).unwrap()
    }

    #[test]
    fn what_is_known_to_be_older_is_and_what_is_not_known_is_not_said() {
        let mut newest = NewestTags::new(0);
        let a = prepared(Query::any().types(["t"]).tags(["a"]));
        // Nothing was noted before somebody asked.
        newest.note(&[hash("a")], 4);
        assert!(!newest.is_older(&a, 10));
        newest.ask(10);
        assert!(!newest.is_older(&a, 9));
        assert!(newest.is_older(&a, 10));
        newest.note(&[hash("a"), hash("b")], 12);
        for (after, older) in [(9, false), (10, false), (11, false), (12, true)] {
            assert_eq!(newest.is_older(&a, after), older, "{after}");
        }
        let both = prepared(Query::any().tags(["a", "c"]));
        assert!(newest.is_older(&both, 10), "c was not noted");
        let either = prepared(Query::any().tags(["c"]).or(Query::any().tags(["b"])));
        assert!(!newest.is_older(&either, 11));
        for tagless in [Query::all(), Query::any(), Query::any().types(["t"])] {
            assert!(!newest.is_older(&prepared(tagless), 12));
        }
        assert!(newest.is_older(&prepared(Query::none()), 12));
    }

    #[test]
    fn tags_that_were_dropped_are_never_taken_for_older() {
        let mut newest = NewestTags::new(0);
        let mut last = std::collections::HashMap::new();
        let mut random = fastrand::Rng::with_seed(5);
        newest.ask(0);
        let mut known = 0;
        for position in 1..20_000_u64 {
            let tag = format!("tag-{}", random.u32(..20_000));
            newest.note(&[hash(&tag)], position);
            last.insert(tag, position);
            let tag = format!("tag-{}", random.u32(..20_000));
            let after = random.u64(..=position);
            if newest.is_older(&prepared(Query::any().tags([&tag])), after) {
                known += 1;
                assert!(last.get(&tag).is_none_or(|last| *last <= after));
            }
        }
        assert!(known > 1_000);
    }

    #[test]
    fn it_is_given_up_when_nobody_has_asked_for_a_segment() {
        let mut newest = NewestTags::new(0);
        newest.ask(0);
        newest.rolled();
        newest.rolled();
        assert!(newest.since.is_some());
        newest.rolled();
        assert!(newest.since.is_none());
    }
}
