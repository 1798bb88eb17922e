//! CRC-32 (IEEE) over what is stored *and where*, and the chain of batches.
//!
//! Every checksum of a segment's content begins with the segment's identity and the offset at which the
//! bytes stand, so that a stale, misplaced or foreign block never passes.

use crc32fast::Hasher;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::bytes::{get_u32, put_u64};

/// Identifies a store for ever: random, chosen when it is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub(crate) [u8; 16]);

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// One life of one segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentIdentity {
    pub store: StoreId,
    pub segment: u64,
    /// Random in each life of the file.
    pub salt: u64,
}

/// A segment's identity, ready to be checksummed with.
#[derive(Debug, Clone)]
pub(crate) struct SegmentKey {
    pub identity: SegmentIdentity,
    seeded: Hasher,
}

impl SegmentKey {
    pub(crate) fn new(identity: SegmentIdentity) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&identity.store.0);
        put_u64(&mut bytes, 16, identity.segment);
        put_u64(&mut bytes, 24, identity.salt);
        let mut seeded = Hasher::new();
        seeded.update(&xxh3_64(&bytes).to_le_bytes());
        Self { identity, seeded }
    }

    /// The checksum of `parts`, one after the other, standing at `offset`.
    #[inline]
    pub(crate) fn checksum(&self, offset: u64, parts: [&[u8]; 2]) -> u32 {
        let mut hasher = self.seeded.clone();
        hasher.update(&offset.to_le_bytes());
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    }

    /// The checksum of a record: its length field and everything behind its checksum field.
    #[inline]
    pub(crate) fn record(&self, offset: u64, record: &[u8]) -> u32 {
        self.checksum(offset, [&record[..4], &record[8..]])
    }

    /// Whether a record's stored checksum is the one it should have at `offset`.
    #[inline]
    pub(crate) fn record_is_good(&self, offset: u64, record: &[u8]) -> bool {
        get_u32(record, 4) == self.record(offset, record)
    }
}

/// What every batch of a store adds to: equal chains mean equal histories.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Chain(pub [u8; 16]);

impl Chain {
    /// The chain before a store's first batch.
    pub(crate) fn origin(store: StoreId) -> Self {
        Self(xxh3_128(&store.0).to_le_bytes())
    }

    /// The chain after a batch with this `header` (without its checksum and its own chain).
    pub(crate) fn after(self, header: &[u8]) -> Self {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&self.0);
        hasher.update(header);
        Self(hasher.digest128().to_le_bytes())
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(segment: u64, salt: u64) -> SegmentKey {
        SegmentKey::new(SegmentIdentity { store: StoreId([7; 16]), segment, salt })
    }

    #[test]
    fn crc_is_the_ieee_polynomial() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32fast::hash(b""), 0);
    }

    #[test]
    fn a_checksum_depends_on_segment_salt_and_offset() {
        let base = key(1, 2).checksum(4096, [b"abc", b"def"]);
        assert_eq!(base, key(1, 2).checksum(4096, [b"abcd", b"ef"]));
        assert_ne!(base, key(2, 2).checksum(4096, [b"abc", b"def"]));
        assert_ne!(base, key(1, 3).checksum(4096, [b"abc", b"def"]));
        assert_ne!(base, key(1, 2).checksum(8192, [b"abc", b"def"]));
    }

    #[test]
    fn chains_differ_by_history() {
        let origin = Chain::origin(StoreId([7; 16]));
        assert_ne!(origin.after(b"a").after(b"b"), origin.after(b"b").after(b"a"));
        assert_ne!(origin, Chain::origin(StoreId([8; 16])));
    }
}
