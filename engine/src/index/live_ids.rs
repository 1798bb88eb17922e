//! Event ids of a live index: unique terms, which need no postings.
//!
//! Every event has one id, and no other has it, so that an id is not kept as the other terms are: that would
//! take a hundred bytes an event. And most ids are made by the store and never looked for before their segment
//! is sealed. So the writer only notes the id's hash, event by event, as `live_tags` does with tags. Who looks
//! for an id first enters what was noted since the last look into a table, under a lock that only those who look
//! take: a bucket leads to the last event whose id's hash falls into it, and each event to the one before it in
//! its bucket. The id itself is not here but in the event's frame, where whoever looks compares it: what is found
//! are candidates. A bucket is published (Release) after the link behind it was written; finding takes no lock.
//! Few events can also be looked through by their notes, without the table.
//!
//! It calls `paged` and `term`; the live index is its only caller.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::live::Words;
use super::paged::Paged;
use super::term::TermHash;
use crate::sync::prefetch;

/// A bucket for each so many bytes of the segment: about one for an event of usual size.
const SEGMENT_BYTES_PER_BUCKET: u64 = 256;
const BUCKETS_MIN: u64 = 1024;

/// No event: links are ordinals plus one.
const NONE: u32 = 0;

/// Bytes that the note and the link of an event take.
pub(super) const BYTES_PER_EVENT: u64 =
    size_of::<AtomicU64>() as u64 + size_of::<AtomicU32>() as u64;

/// Hashes, in pages of 4 KiB.
type Notes = Paged<AtomicU64, 512>;

/// See the module.
pub(super) struct LiveIds {
    /// The hash of each event's id; its lowest bits tell the bucket.
    notes: Notes,
    /// How many were noted; published after the last one was written.
    count: AtomicU32,
    buckets_count: u64,
    events_max: u64,
    table: OnceLock<Table>,
}

/// The ids that somebody has looked for, and all that were noted before those.
struct Table {
    buckets: Words,
    /// The event before it in the same bucket, for each event.
    links: Words,
    /// How many of the notes are in it; published after they are.
    entered: AtomicU32,
    /// Held by whoever enters further ones.
    entering: Mutex<()>,
}

impl LiveIds {
    /// Room for the ids of a segment of so many bytes; allocates directories only.
    pub(super) fn new(segment_bytes: u64, events: u64) -> Self {
        let buckets =
            (segment_bytes / SEGMENT_BYTES_PER_BUCKET).next_power_of_two().max(BUCKETS_MIN);
        Self {
            notes: Paged::new(events),
            count: AtomicU32::new(0),
            buckets_count: buckets,
            events_max: events,
            table: OnceLock::new(),
        }
    }

    /// The length of a segment whose buckets take so many bytes.
    pub(super) const fn segment_of(buckets_bytes: u64) -> u64 {
        buckets_bytes / size_of::<AtomicU32>() as u64 * SEGMENT_BYTES_PER_BUCKET / 2
    }

    /// Notes the ids of the events that follow all that were noted, and says how many are noted then. By the one writer.
    #[inline]
    pub(super) fn push(&self, hashes: impl IntoIterator<Item = TermHash>) -> u32 {
        let mut count = self.count.load(Ordering::Relaxed);
        for hash in hashes {
            self.notes.slot(count).store(hash.0, Ordering::Relaxed);
            count += 1;
        }
        self.count.store(count, Ordering::Release);
        count
    }

    /// How many events were noted; each one's id is the last that is entered of it.
    #[inline]
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// The events that may have this id, the last one first.
    pub(super) fn candidates(&self, hash: TermHash) -> impl Iterator<Item = u32> + '_ {
        let table = match self.count() {
            0 => None,
            count => Some(self.entered(count)),
        };
        let bucket = table.and_then(|table| table.buckets.get(bucket_of(hash.0, self.mask())));
        let first = bucket.map_or(NONE, |bucket| bucket.load(Ordering::Acquire));
        let before = move |ordinal: &u32| {
            let link = table.and_then(|table| table.links.get(*ordinal))?;
            link.load(Ordering::Relaxed).checked_sub(1)
        };
        let is_it = move |ordinal: &u32| self.note(*ordinal) == Some(hash);
        std::iter::successors(first.checked_sub(1), before).filter(is_it)
    }

    /// The first of these events the hash of whose id is wanted. Takes no lock.
    pub(super) fn first_noted(
        &self,
        ordinals: Range<u32>,
        is_wanted: impl Fn(TermHash) -> bool,
    ) -> Option<u32> {
        ordinals.into_iter().find(|ordinal| self.note(*ordinal).is_some_and(&is_wanted))
    }

    fn note(&self, ordinal: u32) -> Option<TermHash> {
        self.notes.get(ordinal).map(|note| TermHash(note.load(Ordering::Relaxed)))
    }

    /// The table, with at least the first so many notes in it.
    fn entered(&self, count: u32) -> &Table {
        let table = self.table.get_or_init(|| Table {
            buckets: Paged::new(self.buckets_count),
            links: Paged::new(self.events_max),
            entered: AtomicU32::new(0),
            entering: Mutex::new(()),
        });
        if table.entered.load(Ordering::Acquire) < count {
            table.enter(&self.notes, self.mask(), count);
        }
        table
    }

    /// What of a note tells its bucket.
    #[inline]
    fn mask(&self) -> u32 {
        u32::try_from(self.buckets_count - 1).unwrap_or(u32::MAX)
    }
}

impl Table {
    /// Enters the notes up to this number.
    #[cold]
    fn enter(&self, notes: &Notes, mask: u32, count: u32) {
        /// So far ahead what will be touched is fetched into the processor's cache.
        const AHEAD: u32 = 16;
        let entering = self.entering.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket_at = |ordinal: u32| {
            let note = notes.get(ordinal)?;
            self.buckets.get(bucket_of(note.load(Ordering::Relaxed), mask))
        };
        let first = self.entered.load(Ordering::Relaxed);
        for ordinal in first..count {
            if ordinal + AHEAD < count
                && let Some(later) = bucket_at(ordinal + AHEAD)
            {
                prefetch(later);
            }
            let note = notes.slot(ordinal).load(Ordering::Relaxed);
            let bucket = self.buckets.slot(bucket_of(note, mask));
            self.links.slot(ordinal).store(bucket.load(Ordering::Relaxed), Ordering::Relaxed);
            bucket.store(ordinal + 1, Ordering::Release);
        }
        self.entered.store(count.max(first), Ordering::Release);
        drop(entering);
    }
}

/// The bucket of a hash.
#[inline]
fn bucket_of(hash: u64, mask: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "its lowest bits are wanted")]
    let low = hash as u32;
    low & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_among_the_candidates_of_its_hash_the_last_one_first() {
        let ids = LiveIds::new(1 << 20, 20_000);
        let mut random = fastrand::Rng::with_seed(3);
        // Every tenth shares its hash with another.
        let hashes: Vec<u64> =
            (0..20_000_u64).map(|n| if n % 10 == 0 { n % 100 } else { random.u64(..) }).collect();
        for hash in &hashes {
            ids.push([TermHash(*hash)]);
        }
        for (ordinal, hash) in (0..).zip(&hashes) {
            let found: Vec<u32> = ids.candidates(TermHash(*hash)).collect();
            assert!(found.contains(&ordinal), "{ordinal}");
            assert!(found.is_sorted_by(|one, next| one > next));
        }
    }

    #[test]
    fn few_events_are_looked_through_by_their_notes() {
        let ids = LiveIds::new(1 << 20, 100);
        let hash = |number: u32| TermHash(u64::from(number) | 7 << 32);
        for ordinal in 0..100 {
            ids.push([hash(ordinal % 50)]);
        }
        assert_eq!(ids.first_noted(0..100, |note| note == hash(20)), Some(20));
        assert_eq!(ids.first_noted(21..100, |note| note == hash(20)), Some(70));
        assert_eq!(ids.first_noted(71..100, |note| note == hash(20)), None);
        assert_eq!(ids.first_noted(0..100, |note| note == TermHash(20)), None);
    }

    #[test]
    fn readers_that_look_at_once_each_find_what_was_noted_before() {
        const IDS: u32 = 30_000;
        let ids = LiveIds::new(1 << 16, IDS.into());
        let done = AtomicU32::new(0);
        let hash = |ordinal: u32| TermHash(u64::from(ordinal).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        std::thread::scope(|scope| {
            for seed in 0..3 {
                let (ids, done) = (&ids, &done);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    loop {
                        let seen = done.load(Ordering::Acquire);
                        if let Some(last) = seen.checked_sub(1) {
                            let ordinal = random.u32(..=last);
                            let found: Vec<u32> = ids.candidates(hash(ordinal)).collect();
                            assert!(found.contains(&ordinal), "{ordinal} of {seen}");
                            assert!(found.is_sorted_by(|one, next| one > next));
                        }
                        if seen == IDS {
                            break;
                        }
                    }
                });
            }
            for ordinal in 0..IDS {
                ids.push([hash(ordinal)]);
                done.store(ordinal + 1, Ordering::Release);
            }
        });
    }

    #[test]
    fn an_empty_index_has_no_candidates() {
        let ids = LiveIds::new(0, 1);
        assert_eq!(ids.candidates(TermHash(7)).count(), 0);
    }
}
