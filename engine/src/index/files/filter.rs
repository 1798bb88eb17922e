//! The filter of a run: which hashes are certainly not in it.
//!
//! Owns the bits of a split-block Bloom filter as the Parquet format specifies it (after Putze, Sanders
//! and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007): a hash has one block of 256
//! bits, and one bit in each of the block's eight words, so that a look-up touches one cache line. It
//! calls `records`; `run_writer` fills it, `run` and `verify` ask it.

use super::super::term::TermHash;
use super::records::low_half;

/// Bytes of a block.
pub(super) const FILTER_BLOCK_BYTES: usize = WORDS * size_of::<u32>();
/// At least so many bits a term: fewer than one absent term in a hundred is taken for a present one.
const BITS_PER_TERM: usize = 12;
const WORDS: usize = 8;
/// The odd numbers of the Parquet format. They make eight numbers of a hash's low half.
const SALTS: [u32; WORDS] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// A block in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FilterBlock([u32; WORDS]);

/// How many blocks the filter of so many terms has; never none.
pub(super) fn blocks_for(terms: u32) -> usize {
    (terms as usize * BITS_PER_TERM).div_ceil(FILTER_BLOCK_BYTES * 8).max(1)
}

/// The block of a hash among so many, by its high half: higher hashes have no lower block.
pub(super) fn block_of(hash: TermHash, blocks: usize) -> usize {
    // Both factors are below 2^32, and so is what is left of their product.
    usize::try_from(((hash.0 >> 32) * blocks as u64) >> 32).unwrap_or(usize::MAX)
}

impl FilterBlock {
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, []) = bytes.as_chunks() else { return None };
        let words: &[[u8; 4]; WORDS] = words.try_into().ok()?;
        Some(Self(words.map(u32::from_le_bytes)))
    }

    pub(super) fn to_bytes(self) -> [u8; FILTER_BLOCK_BYTES] {
        let mut bytes = [0; FILTER_BLOCK_BYTES];
        for (place, word) in bytes.chunks_mut(size_of::<u32>()).zip(self.0) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    pub(super) fn insert(&mut self, hash: TermHash) {
        for (word, bit) in self.0.iter_mut().zip(bits(hash)) {
            *word |= bit;
        }
    }

    /// Whether the hash may have been put in. One that was, is never missing.
    pub(super) fn may_contain(&self, hash: TermHash) -> bool {
        // All words are looked at, without a branch for each.
        let missing = |all, (word, bit): (&u32, u32)| all | (bit & !word);
        self.0.iter().zip(bits(hash)).fold(0, missing) == 0
    }
}

/// One bit for each word of a block.
fn bits(hash: TermHash) -> [u32; WORDS] {
    let low = low_half(hash.0);
    SALTS.map(|salt| 1 << (low.wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(hashes: &[TermHash]) -> Vec<FilterBlock> {
        let blocks = blocks_for(u32::try_from(hashes.len()).unwrap());
        let mut filter = vec![FilterBlock::default(); blocks];
        for hash in hashes {
            filter[block_of(*hash, blocks)].insert(*hash);
        }
        filter
    }

    #[test]
    fn what_was_put_in_is_never_missing_and_little_else_is_found() {
        for terms in [1, 20, 21, 22, 1000, 50_000] {
            let mut rng = fastrand::Rng::with_seed(terms);
            let hashes: Vec<_> = (0..terms).map(|_| TermHash(rng.u64(..))).collect();
            let filter = filter(&hashes);
            let found = |hash| filter[block_of(hash, filter.len())].may_contain(hash);
            assert!(hashes.iter().all(|hash| found(*hash)));
            let absent = 100_000;
            let wrong = (0..absent).filter(|_| found(TermHash(rng.u64(..)))).count();
            assert!(wrong * 50 < absent, "{wrong} of {absent} with {terms} terms");
        }
    }

    #[test]
    fn an_empty_filter_contains_nothing() {
        let filter = filter(&[]);
        assert_eq!(filter.len(), 1);
        assert!([0, 1, u64::MAX].iter().all(|hash| !filter[0].may_contain(TermHash(*hash))));
    }

    #[test]
    fn hashes_in_order_have_blocks_in_order_up_to_the_last_one() {
        for blocks in [1, 3, 1000] {
            let of = |hash| block_of(TermHash(hash), blocks);
            assert_eq!((of(0), of(u64::MAX)), (0, blocks - 1));
            let mut rng = fastrand::Rng::with_seed(blocks as u64);
            for _ in 0..1000 {
                let (a, b) = (rng.u64(..), rng.u64(..));
                assert!(of(a.min(b)) <= of(a.max(b)));
            }
        }
    }

    #[test]
    fn the_bits_of_a_hash_are_those_of_the_parquet_format() {
        let mut block = FilterBlock::default();
        block.insert(TermHash(1));
        // The top five bits of each salt.
        assert_eq!(block.0, [8, 8, 17, 20, 14, 5, 19, 11].map(|bit| 1 << bit));
        assert_eq!(FilterBlock::from_bytes(&block.to_bytes()), Some(block));
        assert_eq!(FilterBlock::from_bytes(&block.to_bytes()[1..]), None);
    }
}
