//! The terms of a live index, and how one is found.
//!
//! Owns the terms in the order of their creation and the hash table over them. The table grows with the
//! terms, so that few of them take little of the processor's cache, and never stops to copy itself:
//! it is a split-ordered list (Shalev and Shavit, "Split-Ordered Lists: Lock-Free Extensible Hash Tables",
//! 2006). All terms hang in one list, in the order of their hashes' bits read backwards. A bucket is a
//! short cut into the list, to where the hashes that end with the bucket's number begin; when the number
//! of buckets doubles, each becomes two, and the new one is threaded into the list when it is first used.
//!
//! There is one writer, under the sequence lock, and nothing is ever taken out; so a link is published by
//! one store (Release) and followed by a load (Acquire), and there is no compare-and-swap. A reader that
//! knows an older number of buckets begins further ahead in the same list and finds the same terms.
//!
//! It calls `paged`, `term` and `sync`; the live index is its only caller.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use smallvec::SmallVec;

use super::live::Words;
use super::live_postings;
use super::paged::Paged;
use super::term::{Term, TermHash, TermKind};
use crate::sync::{prefetch, prefetch_all};

/// A name of at most so many bytes stands in its entry.
pub(super) const INLINE_BYTES: usize = 24;
/// Terms to a page.
const TERMS_PER_PAGE: usize = 256;
/// How many buckets there are at first: a page of them.
const BUCKETS_AT_FIRST: u32 = 1024;
/// There are at least so many buckets to a term, up to the table's bound: most that hold a term hold one.
const BUCKETS_PER_TERM: u32 = 2;
/// The most terms that a table may have: a link's highest bit says what it leads to.
pub(super) const TERMS_MAX: u64 = BUCKET as u64 - 1;

/// What follows in the list: a term's number plus one; a bucket's number with the bit [`BUCKET`]; or
/// [`END`]. Zero, which no link in the list is, stands in a bucket that is not threaded in yet.
type Link = u32;

const UNTHREADED: Link = 0;
const BUCKET: Link = 1 << 31;
/// Nothing follows. The list begins with bucket 0, to which therefore nothing leads.
const END: Link = BUCKET;

/// One term. What does not change is written before the term is published.
pub(super) struct LiveEntry {
    pub(super) hash: TermHash,
    /// Inline where it is short, as names are: it is compared at each look-up.
    pub(super) bytes: SmallVec<[u8; INLINE_BYTES]>,
    pub(super) first_version: u64,
    /// The tail chunk of the postings and their count, in one word so that a reader sees a pair that
    /// belongs together; see `live_postings`.
    pub(super) state: AtomicU64,
    pub(super) first_ordinal: u32,
    next: AtomicU32,
    pub(super) kind: TermKind,
}

/// See the module.
pub(super) struct LiveTerms {
    entries: Paged<OnceLock<LiveEntry>, TERMS_PER_PAGE>,
    /// Published after the entry is written.
    count: AtomicU32,
    /// For each bucket, what follows it in the list.
    buckets: Words,
    /// The number of buckets less one; it has only ones.
    mask: AtomicU32,
    mask_max: u32,
}

/// A place in the list where something can be put in.
#[derive(Clone, Copy)]
enum Place {
    Behind(u32),
    BehindBucket(u32),
}

impl LiveTerms {
    /// Room for `terms` terms, at most [`TERMS_MAX`], of which so many are expected; allocates directories, and
    /// the buckets of those that are expected.
    pub(super) fn new(terms: u64, expected: u64) -> Self {
        assert!(terms <= TERMS_MAX, "{terms} terms");
        let buckets = terms.next_power_of_two().max(u64::from(BUCKETS_AT_FIRST));
        let at_first = expected.min(terms) * u64::from(BUCKETS_PER_TERM);
        let at_first = at_first.next_power_of_two().clamp(BUCKETS_AT_FIRST.into(), buckets);
        let mask = u32::try_from(at_first - 1).unwrap_or(u32::MAX);
        let table = Self {
            entries: Paged::new(terms),
            count: AtomicU32::new(0),
            buckets: Paged::new(buckets),
            mask: AtomicU32::new(mask),
            mask_max: u32::try_from(buckets - 1).unwrap_or(u32::MAX),
        };
        table.thread_all(mask);
        table
    }

    /// Threads all buckets up to a number that has only ones into the list, which is empty: so a term that is new
    /// finds its place without a look at any other.
    fn thread_all(&self, mask: u32) {
        let bits = mask.count_ones();
        // Their order is that of their numbers' bits read backwards.
        let bucket = |place: u32| place.reverse_bits().checked_shr(u32::BITS - bits).unwrap_or(0);
        for place in 0..mask {
            let next = BUCKET | bucket(place + 1);
            self.buckets.slot(bucket(place)).store(next, Ordering::Relaxed);
        }
        self.buckets.slot(bucket(mask)).store(END, Ordering::Relaxed);
    }

    /// How many terms there are.
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn get(&self, id: u32) -> Option<&LiveEntry> {
        self.entries.get(id).and_then(OnceLock::get)
    }

    /// The term with its number, if it is there.
    #[inline]
    pub(super) fn find(&self, hash: TermHash, term: Term<'_>) -> Option<(u32, &LiveEntry)> {
        let mut bucket = self.bucket(hash);
        let mut link = self.follows(bucket);
        // One that is not threaded in yet is found from the one that it is to be split from.
        while link == UNTHREADED {
            bucket = parent(bucket);
            link = self.follows(bucket);
        }
        let wanted = order_of(hash);
        loop {
            if link & BUCKET != 0 {
                if link == END || order_of_bucket(link & !BUCKET) > wanted {
                    return None;
                }
                link = self.follows(link & !BUCKET);
                continue;
            }
            let entry = self.get(link.checked_sub(1)?)?;
            if entry.hash == hash && entry.kind == term.kind && *entry.bytes == *term.bytes {
                return Some((link - 1, entry));
            }
            if order_of(entry.hash) > wanted {
                return None;
            }
            link = entry.next.load(Ordering::Acquire);
        }
    }

    /// As [`LiveTerms::find`], by the one writer, which makes the next look-up shorter.
    #[inline]
    pub(super) fn find_threading(
        &self,
        hash: TermHash,
        term: Term<'_>,
    ) -> Option<(u32, &LiveEntry)> {
        let bucket = self.bucket(hash);
        if self.follows(bucket) == UNTHREADED {
            self.thread(bucket);
        }
        self.find(hash, term)
    }

    /// Adds a term that is not there, and gives its number. By the one writer.
    pub(super) fn add(
        &self,
        hash: TermHash,
        term: Term<'_>,
        first_ordinal: u32,
        first_version: u64,
    ) -> u32 {
        let id = self.count.load(Ordering::Relaxed);
        self.grow(id);
        let bucket = self.bucket(hash);
        if self.follows(bucket) == UNTHREADED {
            self.thread(bucket);
        }
        let place = self.last_below(Place::BehindBucket(bucket), order_of(hash));
        let entry = LiveEntry {
            hash,
            bytes: SmallVec::from_slice(term.bytes),
            first_version,
            state: AtomicU64::new(live_postings::STATE_OF_ONE),
            first_ordinal,
            next: AtomicU32::new(self.next_of(place).load(Ordering::Relaxed)),
            kind: term.kind,
        };
        let fresh = self.entries.slot(id).set(entry).is_ok();
        assert!(fresh, "term {id} was written before");
        self.count.store(id + 1, Ordering::Release);
        self.next_of(place).store(id + 1, Ordering::Release);
        id
    }

    /// First step towards a term that will be looked up soon: has the processor fetch its bucket.
    #[inline]
    pub(super) fn near_bucket(&self, hash: TermHash) {
        if let Some(bucket) = self.buckets.get(self.bucket(hash)) {
            prefetch(bucket);
        }
    }

    /// Second step, a while after the first: has the processor fetch the term that its bucket leads to, if
    /// it leads to one.
    #[inline]
    pub(super) fn near_term(&self, hash: TermHash) {
        let link = self.follows(self.bucket(hash));
        if let Some(slot) = link.checked_sub(1).and_then(|id| self.entries.get(id)) {
            prefetch_all(slot);
        }
    }

    /// What [`LiveTerms::near_term`] had fetched.
    #[inline]
    pub(super) fn nearest(&self, hash: TermHash) -> Option<&LiveEntry> {
        self.get(self.follows(self.bucket(hash)).checked_sub(1)?)
    }

    /// Doubles the number of buckets, where `terms` are too many for them.
    fn grow(&self, terms: u32) {
        let mask = self.mask.load(Ordering::Relaxed);
        if terms >= mask / BUCKETS_PER_TERM && mask < self.mask_max {
            self.mask.store(mask * 2 + 1, Ordering::Relaxed);
        }
    }

    /// Threads a bucket into the list, behind everything that belongs to earlier ones.
    #[cold]
    fn thread(&self, bucket: u32) {
        let from = parent(bucket);
        // Never deeper than the number has bits.
        if self.follows(from) == UNTHREADED {
            self.thread(from);
        }
        let place = self.last_below(Place::BehindBucket(from), order_of_bucket(bucket));
        let next = self.next_of(place).load(Ordering::Relaxed);
        self.buckets.slot(bucket).store(next, Ordering::Release);
        self.next_of(place).store(BUCKET | bucket, Ordering::Release);
    }

    /// The last place from `place` on behind which everything is above `order`.
    fn last_below(&self, mut place: Place, order: u64) -> Place {
        loop {
            let link = self.next_of(place).load(Ordering::Relaxed);
            let (next, its_order) = if link == END {
                return place;
            } else if link & BUCKET != 0 {
                let bucket = link & !BUCKET;
                (Place::BehindBucket(bucket), order_of_bucket(bucket))
            } else {
                (Place::Behind(link - 1), order_of(self.written(link - 1).hash))
            };
            if its_order > order {
                return place;
            }
            place = next;
        }
    }

    fn next_of(&self, place: Place) -> &AtomicU32 {
        match place {
            Place::Behind(id) => &self.written(id).next,
            Place::BehindBucket(bucket) => self.buckets.slot(bucket),
        }
    }

    pub(super) fn written(&self, id: u32) -> &LiveEntry {
        self.get(id).expect("a term that was given a number is written")
    }

    #[inline]
    fn follows(&self, bucket: u32) -> Link {
        self.buckets.get(bucket).map_or(UNTHREADED, |link| link.load(Ordering::Acquire))
    }

    #[inline]
    fn bucket(&self, hash: TermHash) -> u32 {
        let [a, b, c, d, ..] = hash.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d]) & self.mask.load(Ordering::Relaxed)
    }
}

/// Where a hash stands in the list. The lowest bit tells it from a bucket that it would share its place
/// with.
#[inline]
const fn order_of(hash: TermHash) -> u64 {
    hash.0.reverse_bits() | 1
}

/// Where a bucket stands in the list: before every hash that ends with its number.
#[inline]
fn order_of_bucket(bucket: u32) -> u64 {
    u64::from(bucket).reverse_bits()
}

/// The bucket from which this one is split: its number without the highest bit that is set.
const fn parent(bucket: u32) -> u32 {
    match bucket.checked_ilog2() {
        Some(highest) => bucket & !(1 << highest),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> [u8; 4] {
        number.to_le_bytes()
    }

    /// A table of numbers whose hashes are as given.
    fn table(hashes: &[u64]) -> LiveTerms {
        let terms = LiveTerms::new(1 << 20, 0);
        for (number, hash) in (0..).zip(hashes) {
            let bytes = name(number);
            assert!(terms.find_threading(TermHash(*hash), Term::stream(&bytes)).is_none());
            assert_eq!(terms.add(TermHash(*hash), Term::stream(&bytes), number, 0), number);
        }
        terms
    }

    fn number(terms: &LiveTerms, hash: u64, number: u32) -> Option<u32> {
        terms.find(TermHash(hash), Term::stream(&name(number))).map(|(id, _)| id)
    }

    #[test]
    fn every_term_is_found_while_the_table_grows() {
        let mut random = fastrand::Rng::with_seed(7);
        let hashes: Vec<u64> = (0..20_000).map(|_| random.u64(..)).collect();
        let terms = table(&hashes);
        assert!(terms.mask.load(Ordering::Relaxed) > 2 * 20_000);
        for (id, hash) in (0..).zip(&hashes) {
            assert_eq!(number(&terms, *hash, id), Some(id));
            assert_eq!(number(&terms, hash ^ 1 << 40, id), None);
        }
        assert_eq!(terms.count(), 20_000);
    }

    #[test]
    fn whatever_number_of_terms_is_expected_all_are_found_and_in_order() {
        let mut random = fastrand::Rng::with_seed(12);
        let hashes: Vec<u64> = (0..5_000).map(|_| random.u64(..)).collect();
        for expected in [0, 1, 511, 512, 513, 5_000, 1 << 20, u64::MAX >> 2] {
            let terms = LiveTerms::new(1 << 20, expected);
            for (number, hash) in (0..).zip(&hashes) {
                let bytes = name(number);
                assert!(terms.find_threading(TermHash(*hash), Term::stream(&bytes)).is_none());
                terms.add(TermHash(*hash), Term::stream(&bytes), number, 0);
            }
            for (id, hash) in (0..).zip(&hashes) {
                assert_eq!(number(&terms, *hash, id), Some(id));
            }
            assert_eq!(terms_in_order(&terms), 5_000);
        }
    }

    #[test]
    fn terms_that_share_a_hash_or_its_lower_bits_are_told_apart() {
        let hashes = [0, u64::MAX, 0, 1 << 63, 1 << 62, 0, 5, 5 | 1 << 63, 1 << 31, 1 << 32, 5];
        let terms = table(&hashes);
        for (id, hash) in (0..).zip(&hashes) {
            assert_eq!(number(&terms, *hash, id), Some(id));
            assert_eq!(number(&terms, *hash, 1000), None);
        }
        let other = Term { kind: TermKind::Stream, bytes: b"none" };
        assert!(terms.find(TermHash(7), other).is_none());
    }

    #[test]
    fn the_list_is_in_order_and_holds_every_term_once() {
        let mut random = fastrand::Rng::with_seed(8);
        let hashes: Vec<u64> = (0..5_000).map(|_| random.u64(..) % 4_000).collect();
        let terms = table(&hashes);
        assert_eq!(terms_in_order(&terms), 5_000);
    }

    /// How many terms there are in the list, which is in order.
    fn terms_in_order(terms: &LiveTerms) -> u32 {
        let (mut seen, mut last) = (0, 0);
        let mut link = terms.follows(0);
        while link != END {
            let order = if link & BUCKET != 0 {
                let bucket = link & !BUCKET;
                link = terms.follows(bucket);
                order_of_bucket(bucket)
            } else {
                let entry = terms.written(link - 1);
                seen += 1;
                link = entry.next.load(Ordering::Relaxed);
                order_of(entry.hash)
            };
            assert!(order >= last);
            last = order;
        }
        seen
    }

    #[test]
    fn a_reader_with_an_older_number_of_buckets_finds_what_is_new() {
        let mut random = fastrand::Rng::with_seed(9);
        let hashes: Vec<u64> = (0..10_000).map(|_| random.u64(..)).collect();
        let terms = table(&hashes);
        let grown = terms.mask.load(Ordering::Relaxed);
        for mask in [1023, 2047, grown] {
            terms.mask.store(mask, Ordering::Relaxed);
            for (id, hash) in (0..).zip(&hashes) {
                assert_eq!(number(&terms, *hash, id), Some(id));
            }
        }
    }

    #[test]
    fn readers_find_whatever_was_published_before() {
        let hashes: Vec<u64> = {
            let mut random = fastrand::Rng::with_seed(10);
            (0..30_000).map(|_| random.u64(..)).collect()
        };
        let terms = LiveTerms::new(1 << 20, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (id, hash) in (0..).zip(&hashes) {
                    terms.add(TermHash(*hash), Term::stream(&name(id)), id, 0);
                }
            });
            let mut random = fastrand::Rng::with_seed(11);
            loop {
                let count = terms.count();
                // The last one is counted before it is linked.
                for _ in 0..count.min(100) {
                    let id = random.u32(..count.max(2) - 1);
                    assert_eq!(number(&terms, hashes[id as usize], id), Some(id));
                }
                if count == 30_000 {
                    break;
                }
            }
        });
    }
}
