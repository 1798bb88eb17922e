//! Heads of streams that are in no unsealed segment: those of the segments that were sealed last, and
//! those that were looked up lately.
//!
//! An entry is good only while its stream has no event in an unsealed segment, where heads are looked for
//! first. When such a segment is let go, the heads of all of its streams were put here before; so what is
//! found here is never older than the last event.
//!
//! Names are not kept but their XXH3-128 with a seed of this process, 24 bytes for an entry with its head.
//! Two names that share it would have to be found by chance among 2^128, since nobody knows the seed. Two
//! generations: what is put goes to the younger one; when that is full, the older one is dropped. Each has at
//! most half of the memory that the cache was given.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// A stream's head, as it was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CachedHead {
    /// The version of its last event; none where it has no events.
    pub last: Option<u64>,
}

/// See the module. A head is the version of a stream's last event, or that it has none.
#[derive(Debug)]
pub(crate) struct HeadCache {
    seed: u64,
    /// The most entries of a generation.
    entries_max: usize,
    young: HashTable<Entry>,
    old: HashTable<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: [u64; 2],
    /// How many events the stream has.
    events: u64,
}

/// What a table takes for each of its buckets, whose number is a power of two.
const BUCKET_BYTES: u64 = size_of::<Entry>() as u64 + 1;

impl HeadCache {
    /// A cache that takes at most so much memory.
    pub(crate) fn new(bytes: u64) -> Self {
        let buckets = (bytes / 2 / BUCKET_BYTES).max(2);
        let buckets = usize::try_from(1_u64 << buckets.ilog2()).unwrap_or(usize::MAX);
        let (young, old) = (HashTable::new(), HashTable::new());
        // A table grows when seven eighths of its buckets are taken.
        Self { seed: fastrand::u64(..), entries_max: buckets / 8 * 7, young, old }
    }

    pub(crate) fn get(&self, stream: &str) -> Option<CachedHead> {
        if self.young.is_empty() && self.old.is_empty() {
            return None;
        }
        let key = self.key(stream);
        let find = |table: &HashTable<Entry>| {
            table.find(key[0], |entry| entry.key == key).map(|entry| entry.events)
        };
        let events = find(&self.young).or_else(|| find(&self.old))?;
        Some(CachedHead { last: events.checked_sub(1) })
    }

    pub(crate) fn put(&mut self, stream: &str, last: Option<u64>) {
        let key = self.key(stream);
        let events = last.map_or(0, |last| last + 1);
        if let Some(entry) = self.young.find_mut(key[0], |entry| entry.key == key) {
            entry.events = events;
            return;
        }
        if self.young.len() >= self.entries_max {
            // Its memory is used again.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.insert_unique(key[0], Entry { key, events }, |entry| entry.key[0]);
    }

    fn key(&self, stream: &str) -> [u64; 2] {
        let hash = xxh3_128_with_seed(stream.as_bytes(), self.seed);
        #[expect(clippy::cast_possible_truncation, reason = "its two halves")]
        [hash as u64, (hash >> 64) as u64]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 1 << 20;

    #[test]
    fn the_cache_stays_within_its_memory() {
        let mut cache = HeadCache::new(BYTES);
        let last = BYTES / 4;
        for stream in 0..=last {
            cache.put(&stream.to_string(), Some(stream));
        }
        let buckets = [&cache.young, &cache.old].map(|table| {
            // What a table of this capacity has: see `HeadCache::new`.
            (table.capacity() * 8 / 7).next_power_of_two() as u64
        });
        assert!(buckets[0] + buckets[1] > 0);
        assert!((buckets[0] + buckets[1]) * BUCKET_BYTES <= BYTES);
        assert_eq!(cache.get(&last.to_string()), Some(CachedHead { last: Some(last) }));
        assert_eq!(cache.get("0"), None);
    }

    #[test]
    fn a_stream_without_events_is_known_as_such() {
        let mut cache = HeadCache::new(BYTES);
        cache.put("none", None);
        cache.put("one", Some(0));
        assert_eq!(cache.get("none"), Some(CachedHead { last: None }));
        assert_eq!(cache.get("one"), Some(CachedHead { last: Some(0) }));
        assert_eq!(cache.get("two"), None);
    }

    #[test]
    fn what_was_put_last_is_found_whatever_is_dropped() {
        let mut cache = HeadCache::new(BYTES);
        cache.put("stream", Some(5));
        for other in 0..cache.entries_max {
            cache.put(&other.to_string(), None);
        }
        cache.put("stream", Some(6));
        for other in 0..4 * cache.entries_max {
            assert_ne!(cache.get("stream"), Some(CachedHead { last: Some(5) }));
            cache.put(&other.to_string(), None);
        }
        assert_eq!(cache.get("stream"), None);
    }
}
