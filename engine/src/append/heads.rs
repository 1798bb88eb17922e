//! Heads of cold streams that were looked up lately.
//!
//! Two generations: what is asked for is in the younger one or moves there; when that is full, the older
//! one is dropped. So at most twice half of [`HEADS_CACHED_MAX`] are kept, and what is in use stays.

use std::collections::HashMap;

use crate::limits::HEADS_CACHED_MAX;

/// A stream's head, as it was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CachedHead {
    /// The version of its last event; none where it has no events.
    pub last: Option<u64>,
}

/// See the module. A head is the version of a stream's last event, or that it has none.
#[derive(Debug, Default)]
pub(crate) struct HeadCache {
    young: HashMap<Box<str>, Option<u64>>,
    old: HashMap<Box<str>, Option<u64>>,
}

impl HeadCache {
    pub(crate) fn get(&self, stream: &str) -> Option<CachedHead> {
        let last = self.young.get(stream).or_else(|| self.old.get(stream)).copied()?;
        Some(CachedHead { last })
    }

    pub(crate) fn put(&mut self, stream: &str, last: Option<u64>) {
        if self.young.len() >= HEADS_CACHED_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream.into(), last);
    }

    pub(crate) fn forget(&mut self, stream: &str) {
        if !self.young.is_empty() || !self.old.is_empty() {
            self.young.remove(stream);
            self.old.remove(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_stays_within_its_bound_and_forgets() {
        let mut cache = HeadCache::default();
        for stream in 0..3 * HEADS_CACHED_MAX as u64 {
            cache.put(&stream.to_string(), Some(stream));
        }
        assert!(cache.young.len() + cache.old.len() <= HEADS_CACHED_MAX);
        let last = 3 * HEADS_CACHED_MAX as u64 - 1;
        assert_eq!(cache.get(&last.to_string()), Some(CachedHead { last: Some(last) }));
        cache.forget(&last.to_string());
        assert_eq!(cache.get(&last.to_string()), None);
    }
}
