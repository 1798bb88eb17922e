//! The header of a segment file: the first bytes of its first block.

use super::FormatError;
use super::bytes::{get_array, get_i64, get_u32, get_u64, put_i64, put_u32, put_u64};
use super::checksum::{SegmentIdentity, StoreId, plain};
use super::constants::{FORMAT_VERSION, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC};
use crate::limits::{BLOCK_BYTES, RECORD_ALIGN};

/// Who a segment file is. Written once, before the manifest names the segment, and never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub identity: SegmentIdentity,
    /// The opening of the store in which it was made.
    pub epoch: u64,
    /// Nanoseconds since the Unix epoch.
    pub created_at: i64,
}

impl SegmentHeader {
    pub(crate) fn write(&self, block: &mut [u8]) {
        block[..8].copy_from_slice(&SEGMENT_MAGIC);
        put_u32(block, 8, FORMAT_VERSION);
        block[16..32].copy_from_slice(&self.identity.store.0);
        put_u64(block, 32, self.identity.segment);
        put_u64(block, 40, self.identity.salt);
        put_u64(block, 48, self.epoch);
        put_i64(block, 56, self.created_at);
        put_u32(block, 64, as_u32(BLOCK_BYTES));
        put_u32(block, 68, as_u32(RECORD_ALIGN));
        let crc = plain(&block[..SEGMENT_HEADER_BYTES]);
        put_u32(block, 12, crc);
    }

    /// # Errors
    /// [`FormatError::Magic`] also for a header that was never written.
    pub(crate) fn parse(block: &[u8]) -> Result<Self, FormatError> {
        if block.len() < SEGMENT_HEADER_BYTES {
            return Err(FormatError::Short);
        }
        if block[..8] != SEGMENT_MAGIC {
            return Err(FormatError::Magic);
        }
        if get_u32(block, 12) != plain(&block[..SEGMENT_HEADER_BYTES]) {
            return Err(FormatError::Checksum);
        }
        check_version(get_u32(block, 8))?;
        if get_u32(block, 64) != as_u32(BLOCK_BYTES) {
            return Err(FormatError::Field("block_bytes"));
        }
        if get_u32(block, 68) != as_u32(RECORD_ALIGN) {
            return Err(FormatError::Field("record_align"));
        }
        Ok(Self {
            identity: SegmentIdentity {
                store: StoreId(get_array(block, 16)),
                segment: get_u64(block, 32),
                salt: get_u64(block, 40),
            },
            epoch: get_u64(block, 48),
            created_at: get_i64(block, 56),
        })
    }
}

pub(crate) fn check_version(found: u32) -> Result<(), FormatError> {
    if found == 0 || found > FORMAT_VERSION {
        return Err(FormatError::Newer { found, known: FORMAT_VERSION });
    }
    Ok(())
}

const fn as_u32(value: usize) -> u32 {
    assert!(value <= u32::MAX as usize);
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    {
        value as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            identity: SegmentIdentity { store: StoreId([1; 16]), segment: 9, salt: 77 },
            epoch: 3,
            created_at: -5,
        }
    }

    #[test]
    fn a_header_comes_back() {
        let mut block = [0; BLOCK_BYTES];
        header().write(&mut block);
        assert_eq!(SegmentHeader::parse(&block), Ok(header()));
    }

    #[test]
    fn a_block_of_zeroes_was_never_written() {
        assert_eq!(SegmentHeader::parse(&[0; BLOCK_BYTES]), Err(FormatError::Magic));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut block = [0; BLOCK_BYTES];
        header().write(&mut block);
        for bit in 0..SEGMENT_HEADER_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::parse(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_newer_version_is_refused() {
        let mut block = [0; BLOCK_BYTES];
        header().write(&mut block);
        put_u32(&mut block, 8, FORMAT_VERSION + 1);
        let crc = plain(&block[..SEGMENT_HEADER_BYTES]);
        put_u32(&mut block, 12, crc);
        assert_eq!(
            SegmentHeader::parse(&block),
            Err(FormatError::Newer { found: FORMAT_VERSION + 1, known: FORMAT_VERSION })
        );
    }
}
