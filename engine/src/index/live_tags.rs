//! The tags of a live index: noted when an event is claimed, and made findable when somebody looks.
//!
//! Tags are most often many and rare: entering one into a hash table waits for memory three times, under the sequence
//! lock, and for most of them nobody asks before their segment is sealed. So the writer only notes them, one behind the
//! other, by hash and ordinal; sealing sorts the notes, which is what it needs anyway. A reader who looks for a tag
//! first enters what was noted since the last look into a table, under a lock that only such readers take; then it
//! finds the postings there as those of every other term, without a lock.
//!
//! No names are kept, as in sealed runs: the postings of a hash are a superset of a tag's, and whoever reads compares
//! the tag in the frame. It calls `paged`, `live_terms` and `live_postings`; the live index is its only caller.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::live::{Words, words_of};
use super::live_postings::{self, LivePostings, partition_from_end};
use super::live_terms::{LiveEntry, LiveTerms};
use super::paged::Paged;
use super::term::{Term, TermHash};

/// Hashes to a page.
const HASHES_PER_PAGE: usize = 512;
/// What a noted tag takes.
pub(super) const BYTES_PER_TAG: u64 = (size_of::<AtomicU64>() + size_of::<AtomicU32>()) as u64;
/// What stands in the table for a name.
const NAMELESS: Term<'static> = Term::tag(&[]);

/// See the module.
pub(super) struct LiveTags {
    hashes: Paged<AtomicU64, HASHES_PER_PAGE>,
    ordinals: Words,
    /// How many were noted; published after the last one was written.
    count: AtomicU32,
    tags_max: u64,
    table: OnceLock<Table>,
}

/// The tags that somebody has looked for, or for any noted before.
struct Table {
    terms: LiveTerms,
    words: Words,
    /// How many of the notes are in it; published after they are.
    entered: AtomicU32,
    /// Held by the reader that enters further ones: how many words are used.
    entering: Mutex<u32>,
    bytes: AtomicU64,
}

impl LiveTags {
    /// Room for so many tags; allocates directories only.
    pub(super) fn new(tags: u64) -> Self {
        Self {
            hashes: Paged::new(tags),
            ordinals: Paged::new(tags),
            count: AtomicU32::new(0),
            tags_max: tags,
            table: OnceLock::new(),
        }
    }

    /// Notes a tag of an event, none of which is before one that was noted. By the one writer.
    #[inline]
    pub(super) fn push(&self, hash: TermHash, ordinal: u32) {
        let number = self.count.load(Ordering::Relaxed);
        self.hashes.slot(number).store(hash.0, Ordering::Relaxed);
        self.ordinals.slot(number).store(ordinal, Ordering::Relaxed);
        self.count.store(number + 1, Ordering::Release);
    }

    /// The postings of all tags with this hash.
    pub(super) fn lookup(&self, hash: TermHash) -> Option<LivePostings<'_>> {
        let count = self.count.load(Ordering::Acquire);
        if count == 0 {
            return None;
        }
        let table = self.table.get_or_init(|| Table::new(self.tags_max, count));
        if table.entered.load(Ordering::Acquire) < count {
            table.enter(self, count);
        }
        table.terms.find(hash, NAMELESS).map(|(_, entry)| LivePostings::new(&table.words, entry))
    }

    /// The notes of the first so many events, in their order.
    pub(super) fn below(&self, ordinal: u32) -> impl Iterator<Item = (TermHash, u32)> + '_ {
        (0..self.count.load(Ordering::Acquire))
            .map_while(|number| self.note(number))
            .take_while(move |(_, of)| *of < ordinal)
    }

    /// The last event that has a tag of this hash. So many notes are compared one by one before they are entered, all at
    /// once: entering each by itself would wait for memory each time.
    pub(super) fn last(&self, hash: TermHash) -> Option<u32> {
        const COMPARED_MAX: u32 = 64;
        let count = self.count.load(Ordering::Acquire);
        if count == 0 {
            return None;
        }
        let table = self.table.get_or_init(|| Table::new(self.tags_max, count));
        let mut entered = table.entered.load(Ordering::Acquire);
        if count.saturating_sub(entered) > COMPARED_MAX {
            table.enter(self, count);
            entered = count;
        }
        let noted = (entered..count).rev().filter_map(|number| self.note(number));
        let latest = noted.into_iter().find(|(noted, _)| *noted == hash);
        latest
            .map(|(_, ordinal)| ordinal)
            .or_else(|| table.terms.find(hash, NAMELESS).map(|(_, entry)| table.last(entry)))
    }

    /// The first step towards [`LiveTags::last`], and the second a while later: has the processor fetch what it begins
    /// with.
    pub(super) fn near_bucket(&self, hash: TermHash) {
        self.table.get().inspect(|table| table.terms.near_bucket(hash));
    }

    /// See [`LiveTags::near_bucket`].
    pub(super) fn near_term(&self, hash: TermHash) {
        self.table.get().inspect(|table| table.terms.near_term(hash));
    }

    /// Whether the event has a tag of this hash. Looked for among the last notes first, and without the table: this is
    /// asked under the sequence lock, about events that were claimed a moment ago.
    pub(super) fn has(&self, ordinal: u32, hash: TermHash) -> bool {
        let count = self.count.load(Ordering::Acquire);
        let is_before = |number: u32| self.note(number).is_none_or(|(_, of)| of < ordinal);
        let first = partition_from_end(count, is_before);
        (first..count)
            .map_while(|number| self.note(number))
            .take_while(|(_, of)| *of == ordinal)
            .any(|(noted, _)| noted == hash)
    }

    /// How much memory they take.
    pub(super) fn bytes(&self) -> u64 {
        let table = self.table.get().map_or(0, |table| table.bytes.load(Ordering::Relaxed));
        u64::from(self.count.load(Ordering::Relaxed)) * BYTES_PER_TAG + table
    }

    fn note(&self, number: u32) -> Option<(TermHash, u32)> {
        let hash = self.hashes.get(number)?.load(Ordering::Relaxed);
        Some((TermHash(hash), self.ordinals.get(number)?.load(Ordering::Relaxed)))
    }
}

impl Table {
    fn new(tags: u64, expected: u32) -> Self {
        Self {
            terms: LiveTerms::new(tags, expected.into()),
            words: Paged::new(words_of(tags)),
            entered: AtomicU32::new(0),
            entering: Mutex::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Enters the notes up to this number.
    #[cold]
    fn enter(&self, tags: &LiveTags, count: u32) {
        /// So many are fetched into the processor's cache at once, and then entered.
        const AT_ONCE: u32 = 32;
        let mut words_used = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.entered.load(Ordering::Relaxed);
        for start in (first..count).step_by(AT_ONCE as usize) {
            let group = start..count.min(start + AT_ONCE);
            let notes = || group.clone().map_while(|number| tags.note(number));
            notes().for_each(|(hash, _)| self.terms.near_bucket(hash));
            notes().for_each(|(hash, _)| self.terms.near_term(hash));
            for (hash, ordinal) in notes() {
                match self.terms.find_threading(hash, NAMELESS) {
                    // Two tags of an event that share a hash are one posting.
                    Some((_, entry)) if self.last(entry) == ordinal => {}
                    Some((_, entry)) => {
                        *words_used = live_postings::append(
                            &self.words,
                            entry,
                            *words_used,
                            ordinal..ordinal + 1,
                        );
                    }
                    None => drop(self.terms.add(hash, NAMELESS, ordinal, 0)),
                }
            }
        }
        let terms = u64::from(self.terms.count()) * super::live::TERM_BYTES;
        let words = u64::from(*words_used) * super::live::WORD_BYTES;
        self.bytes.store(terms + words, Ordering::Relaxed);
        self.entered.store(count.max(first), Ordering::Release);
    }

    fn last(&self, entry: &LiveEntry) -> u32 {
        let postings = LivePostings::new(&self.words, entry);
        postings.get(postings.len() - 1).unwrap_or(entry.first_ordinal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_as_far_as_they_were_noted_whenever_somebody_looks() {
        let tags = LiveTags::new(20_000);
        let mut random = fastrand::Rng::with_seed(4);
        let mut model = std::collections::BTreeMap::<u64, Vec<u32>>::new();
        assert!(tags.lookup(TermHash(1)).is_none());
        for ordinal in 0..5_000 {
            for _ in 0..random.usize(0..4) {
                let most = random.u64(1..3_000);
                let hash = random.u64(0..most);
                tags.push(TermHash(hash), ordinal);
                let ordinals = model.entry(hash).or_default();
                if ordinals.last() != Some(&ordinal) {
                    ordinals.push(ordinal);
                }
            }
            if random.u8(0..50) == 0 {
                let hash = random.u64(0..3_000);
                let found = tags.lookup(TermHash(hash)).map(|list| list.forward(0).collect());
                assert_eq!(found, model.get(&hash).cloned(), "{hash}");
            }
        }
        for (hash, ordinals) in &model {
            assert!(tags.lookup(TermHash(*hash)).unwrap().forward(0).eq(ordinals.iter().copied()));
        }
        assert!(tags.below(100).all(|(_, ordinal)| ordinal < 100));
        for (hash, ordinals) in &model {
            for ordinal in [0, 1, 17, 2_500, 4_998, 4_999, 5_000] {
                assert_eq!(tags.has(ordinal, TermHash(*hash)), ordinals.contains(&ordinal));
            }
        }
        assert!(tags.bytes() > 0);
    }

    #[test]
    fn readers_that_look_at_once_each_find_what_was_noted_before() {
        const TAGS: u32 = 30_000;
        let tags = LiveTags::new(TAGS.into());
        let done = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for seed in 0..3 {
                let (tags, done) = (&tags, &done);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    loop {
                        let seen = done.load(Ordering::Acquire);
                        let hash = random.u32(..500);
                        let found = tags.lookup(TermHash(hash.into()));
                        let found = found.map_or(0, |list| list.visible(seen));
                        assert_eq!(found, seen.saturating_sub(hash).div_ceil(500));
                        if seen == TAGS {
                            break;
                        }
                    }
                });
            }
            for ordinal in 0..TAGS {
                tags.push(TermHash((ordinal % 500).into()), ordinal);
                done.store(ordinal + 1, Ordering::Release);
            }
        });
    }
}
