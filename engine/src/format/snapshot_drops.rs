//! What says which snapshots are not to be used: a small file, replaced whole.

use super::FormatError;
use super::bytes::{get_array, get_u32, get_u64, put_u32, put_u64};
use super::checksum::{StoreId, plain};
use super::constants::{DROP_BYTES, DROPS_HEADER_BYTES, DROPS_MAGIC, FORMAT_VERSION};
use super::segment::check_version;

/// Which snapshots are not to be used, though they may be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StoredDrops {
    /// Those of any key, up to this sequence; 0 for none.
    pub all: u64,
    /// Those of keys with this hash, up to this sequence; in the order of the hashes.
    pub keys: Vec<(u64, u64)>,
}

impl StoredDrops {
    /// The file that says so.
    pub(crate) fn write(&self, store: StoreId) -> Vec<u8> {
        let mut bytes = vec![0; DROPS_HEADER_BYTES];
        for (hash, sequence) in &self.keys {
            bytes.extend_from_slice(&hash.to_le_bytes());
            bytes.extend_from_slice(&sequence.to_le_bytes());
        }
        bytes[..8].copy_from_slice(&DROPS_MAGIC);
        put_u32(&mut bytes, 8, FORMAT_VERSION);
        bytes[16..32].copy_from_slice(&store.0);
        put_u64(&mut bytes, 32, self.all);
        put_u64(&mut bytes, 40, self.keys.len() as u64);
        let crc = plain(&bytes);
        put_u32(&mut bytes, 12, crc);
        bytes
    }

    /// Parses such a file of this store.
    ///
    /// # Errors
    /// [`FormatError`].
    pub(crate) fn parse(store: StoreId, bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() < DROPS_HEADER_BYTES {
            return Err(FormatError::Short);
        }
        if bytes[..8] != DROPS_MAGIC {
            return Err(FormatError::Magic);
        }
        // What is not so long is not so much either; the checksum is of all of it.
        let count = usize::try_from(get_u64(bytes, 40)).map_err(|_| FormatError::Short)?;
        let length = count.checked_mul(DROP_BYTES).and_then(|n| n.checked_add(DROPS_HEADER_BYTES));
        let bytes = length.and_then(|length| bytes.get(..length)).ok_or(FormatError::Short)?;
        if get_u32(bytes, 12) != plain(bytes) {
            return Err(FormatError::Checksum);
        }
        check_version(get_u32(bytes, 8))?;
        if StoreId(get_array(bytes, 16)) != store {
            return Err(FormatError::Field("store"));
        }
        let keys = bytes[DROPS_HEADER_BYTES..].chunks_exact(DROP_BYTES);
        let keys = keys.map(|key| (get_u64(key, 0), get_u64(key, 8))).collect();
        Ok(Self { all: get_u64(bytes, 32), keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::BLOCK_BYTES;

    #[test]
    fn what_was_dropped_comes_back_and_every_flipped_bit_of_it_is_noticed() {
        let store = StoreId([3; 16]);
        for keys in [vec![], vec![(1, 2)], vec![(5, 9), (6, 8), (u64::MAX, 1)]] {
            let drops = StoredDrops { all: 77, keys };
            let mut bytes = drops.write(store);
            assert_eq!(StoredDrops::parse(store, &bytes), Ok(drops.clone()));
            assert!(StoredDrops::parse(StoreId([4; 16]), &bytes).is_err());
            assert!(StoredDrops::parse(store, &bytes[..bytes.len() - 1]).is_err());
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(StoredDrops::parse(store, &bytes).is_err(), "bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            // As it is read: whole blocks.
            bytes.resize(BLOCK_BYTES, 0);
            assert_eq!(StoredDrops::parse(store, &bytes), Ok(drops));
        }
    }
}
