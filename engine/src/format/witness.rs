//! A witness: what was durable at some moment, recorded apart from the batches.
//!
//! Two slots, written in turn, so that the older one stands while the newer is written. A damaged slot
//! proves nothing and is passed over; a good one is evidence that a later tear cannot explain away.

use super::bytes::{get_array, get_u32, get_u64, put_u32, put_u64};
use super::checksum::{Chain, SegmentKey};
use super::constants::{WITNESS_BYTES, WITNESS_MAGIC};

/// The durable end of the log in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Witness {
    /// Grows with each witness of a segment; its lowest bit chooses the slot.
    pub counter: u64,
    pub epoch: u64,
    pub durable_sequence: u64,
    pub durable_position: u64,
    /// Where the last durable batch ends.
    pub data_end: u64,
    pub chain: Chain,
}

impl Witness {
    pub(crate) fn write(&self, key: &SegmentKey, offset: u64, block: &mut [u8]) {
        block[..8].copy_from_slice(&WITNESS_MAGIC);
        put_u64(block, 16, self.counter);
        put_u64(block, 24, self.epoch);
        put_u64(block, 32, self.durable_sequence);
        put_u64(block, 40, self.durable_position);
        put_u64(block, 48, self.data_end);
        block[56..72].copy_from_slice(&self.chain.0);
        let crc = checksum(key, offset, block);
        put_u32(block, 8, crc);
    }

    pub(crate) fn parse(key: &SegmentKey, offset: u64, block: &[u8]) -> Option<Self> {
        let good = block.len() >= WITNESS_BYTES
            && block[..8] == WITNESS_MAGIC
            && get_u32(block, 8) == checksum(key, offset, block);
        good.then(|| Self {
            counter: get_u64(block, 16),
            epoch: get_u64(block, 24),
            durable_sequence: get_u64(block, 32),
            durable_position: get_u64(block, 40),
            data_end: get_u64(block, 48),
            chain: Chain(get_array(block, 56)),
        })
    }
}

fn checksum(key: &SegmentKey, offset: u64, block: &[u8]) -> u32 {
    key.checksum(offset, [&block[..8], &block[12..WITNESS_BYTES]])
}

#[cfg(test)]
mod tests {
    use super::super::checksum::{SegmentIdentity, StoreId};
    use super::*;

    #[test]
    fn a_witness_speaks_only_from_its_own_slot() {
        let key = SegmentKey::new(SegmentIdentity { store: StoreId([1; 16]), segment: 2, salt: 3 });
        let witness = Witness {
            counter: 4,
            epoch: 1,
            durable_sequence: 9,
            durable_position: 20,
            data_end: 13_000,
            chain: Chain([9; 16]),
        };
        let mut block = [0; 4096];
        witness.write(&key, 4096, &mut block);
        assert_eq!(Witness::parse(&key, 4096, &block), Some(witness));
        assert_eq!(Witness::parse(&key, 8192, &block), None);
        for bit in 0..WITNESS_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            // The four bytes between checksum and counter are reserved and covered too.
            assert_eq!(Witness::parse(&key, 4096, &block), None, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
