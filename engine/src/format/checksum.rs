//! CRC-32 (IEEE) over what is stored *and where*, and the chain of batches.
//!
//! Every checksum of a segment's content begins with the segment's identity and the offset at which the
//! bytes stand, so that a stale, misplaced or foreign block never passes.

use crc32fast::Hasher;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::bytes::{get_u32, put_u64};

/// The IEEE polynomial, its bits reversed as CRC-32 has them.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// Bytes that [`SegmentKey::record`] takes in one go: an offset, and a record's first 16 bytes but for its
/// checksum.
const AHEAD_BYTES: usize = 20;

/// What a byte adds to a CRC after so many bytes of zero behind it.
static AHEAD: [[u32; 256]; AHEAD_BYTES] = {
    let mut table = [[0; 256]; AHEAD_BYTES];
    let mut place = 0;
    while place < 256 * AHEAD_BYTES {
        let (behind, byte) = (place / 256, place % 256);
        table[behind][byte] = if let Some(before) = behind.checked_sub(1) {
            let crc = table[before][byte];
            crc >> 8 ^ table[0][(crc & 0xff) as usize]
        } else {
            #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
            let mut crc = byte as u32;
            let mut bits = 0;
            while bits < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
                bits += 1;
            }
            crc
        };
        place += 1;
    }
    table
};

/// The plain checksum of a structure that has it in its bytes 12 to 16: of all the others.
pub(crate) fn plain(structure: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&structure[..12]);
    hasher.update(&structure[16..]);
    hasher.finalize()
}

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
    /// The CRC that `seeded` stands at.
    seed: u32,
}

impl SegmentKey {
    pub(crate) fn new(identity: SegmentIdentity) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&identity.store.0);
        put_u64(&mut bytes, 16, identity.segment);
        put_u64(&mut bytes, 24, identity.salt);
        let mut seeded = Hasher::new();
        seeded.update(&xxh3_64(&bytes).to_le_bytes());
        let seed = seeded.clone().finalize();
        Self { identity, seeded, seed }
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
    ///
    /// The same as [`SegmentKey::checksum`] of these two parts, which spends a fifth of its time on the few
    /// bytes of the first: this is done for each event that is written or read. What is left for the
    /// hasher is a multiple of 16 bytes, as it likes best.
    ///
    /// # Panics
    /// Where the record has fewer than 16 bytes: it has not the length of any header.
    #[inline]
    pub(crate) fn record(&self, offset: u64, record: &[u8]) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "each half of it is taken")]
        let (low, high) = (offset as u32, (offset >> 32) as u32);
        let mut ahead = crc_part(!self.seed ^ low, 16)
            ^ crc_part(get_u32(record, 0), 8)
            ^ crc_part(get_u32(record, 8), 4)
            ^ crc_part(get_u32(record, 12), 0);
        if high != 0 {
            ahead ^= crc_part(high, 12);
        }
        let mut hasher = Hasher::new_with_initial(!ahead);
        hasher.update(&record[16..]);
        hasher.finalize()
    }

    /// Whether a record's stored checksum is the one it should have at `offset`.
    #[inline]
    pub(crate) fn record_is_good(&self, offset: u64, record: &[u8]) -> bool {
        get_u32(record, 4) == self.record(offset, record)
    }
}

/// What four bytes add to a CRC, so many bytes before the end. A CRC is linear, so that each byte's part is
/// looked up by itself ("slicing": Kounavis and Berry, 2005); zeroes add nothing.
#[inline]
fn crc_part(word: u32, behind: usize) -> u32 {
    let [first, second, third, fourth] = word.to_le_bytes();
    AHEAD[behind + 3][usize::from(first)]
        ^ AHEAD[behind + 2][usize::from(second)]
        ^ AHEAD[behind + 1][usize::from(third)]
        ^ AHEAD[behind][usize::from(fourth)]
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
    fn a_record_is_checksummed_as_its_parts_are_one_after_the_other() {
        let mut random = fastrand::Rng::with_seed(5);
        for bits in 0..64 {
            let key = key(random.u64(..), random.u64(..));
            let offset = random.u64(..) >> bits;
            let mut record = vec![0; random.usize(16..700)];
            random.fill(&mut record);
            let parts = [&record[..4], &record[8..]];
            assert_eq!(key.record(offset, &record), key.checksum(offset, parts));
        }
    }

    #[test]
    fn chains_differ_by_history() {
        let origin = Chain::origin(StoreId([7; 16]));
        assert_ne!(origin.after(b"a").after(b"b"), origin.after(b"b").after(b"a"));
        assert_ne!(origin, Chain::origin(StoreId([8; 16])));
    }
}
