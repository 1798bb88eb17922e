//! Event ids of a live index: unique terms, which need no postings.
//!
//! Every event has one id, and no other has it, so that an id is not kept as the other terms are: that would
//! take a hundred bytes an event. A bucket leads to the last event whose id's hash falls into it, and each
//! event to the one before it in its bucket. The id itself is not here but in the event's frame, where
//! whoever looks compares it: what is found are candidates. A bucket is published (Release) after the link
//! behind it was written, by one writer, under the sequence lock; readers take no lock.
//!
//! It calls `paged` and `term`; the live index is its only caller.

use std::sync::atomic::{AtomicU32, Ordering};

use super::live::Words;
use super::paged::Paged;
use super::term::TermHash;
use crate::sync::prefetch;

/// A bucket for each so many bytes of the segment: about one for an event of usual size.
const SEGMENT_BYTES_PER_BUCKET: u64 = 256;
const BUCKETS_MIN: u64 = 1024;

/// No event: links are ordinals plus one.
const NONE: u32 = 0;

/// See the module.
pub(super) struct LiveIds {
    buckets: Words,
    /// The event before it in the same bucket, for each event.
    links: Words,
    mask: u32,
}

impl LiveIds {
    /// Room for the ids of a segment of so many bytes; allocates directories only.
    pub(super) fn new(segment_bytes: u64, events: u64) -> Self {
        let buckets =
            (segment_bytes / SEGMENT_BYTES_PER_BUCKET).next_power_of_two().max(BUCKETS_MIN);
        Self {
            buckets: Paged::new(buckets),
            links: Paged::new(events),
            mask: u32::try_from(buckets - 1).unwrap_or(u32::MAX),
        }
    }

    /// The length of a segment whose buckets take so many bytes.
    pub(super) const fn segment_of(buckets_bytes: u64) -> u64 {
        buckets_bytes / size_of::<AtomicU32>() as u64 * SEGMENT_BYTES_PER_BUCKET / 2
    }

    /// Enters the id of the event with this ordinal, which follows all that were entered. By the one writer.
    #[inline]
    pub(super) fn push(&self, hash: TermHash, ordinal: u32) {
        let bucket = self.buckets.slot(self.bucket(hash));
        self.links.slot(ordinal).store(bucket.load(Ordering::Relaxed), Ordering::Relaxed);
        bucket.store(ordinal + 1, Ordering::Release);
    }

    /// The events that may have this id, the last one first.
    pub(super) fn candidates(&self, hash: TermHash) -> impl Iterator<Item = u32> + '_ {
        let first = self.buckets.get(self.bucket(hash)).map_or(NONE, |b| b.load(Ordering::Acquire));
        let before = |ordinal: &u32| {
            self.links.get(*ordinal).and_then(|l| l.load(Ordering::Relaxed).checked_sub(1))
        };
        std::iter::successors(first.checked_sub(1), before)
    }

    /// Has the processor fetch where this id will be entered.
    #[inline]
    pub(super) fn near(&self, hash: TermHash) {
        if let Some(bucket) = self.buckets.get(self.bucket(hash)) {
            prefetch(bucket);
        }
    }

    #[inline]
    fn bucket(&self, hash: TermHash) -> u32 {
        let [a, b, c, d, ..] = hash.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d]) & self.mask
    }
}

/// Bytes that the links of an event take.
pub(super) const BYTES_PER_EVENT: u64 = size_of::<AtomicU32>() as u64;

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
        for (ordinal, hash) in (0..).zip(&hashes) {
            ids.push(TermHash(*hash), ordinal);
        }
        for (ordinal, hash) in (0..).zip(&hashes) {
            let found: Vec<u32> = ids.candidates(TermHash(*hash)).collect();
            assert!(found.contains(&ordinal), "{ordinal}");
            assert!(found.is_sorted_by(|one, next| one > next));
        }
    }

    #[test]
    fn an_empty_index_has_no_candidates() {
        let ids = LiveIds::new(0, 1);
        assert_eq!(ids.candidates(TermHash(7)).count(), 0);
    }
}
