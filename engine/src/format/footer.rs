//! The footer of a sealed segment, and the figures that the manifest repeats.

use super::FormatError;
use super::bytes::{get_array, get_i64, get_u32, get_u64, put_i64, put_u32, put_u64};
use super::checksum::{Chain, SegmentKey};
use super::constants::{FOOTER_BYTES, FOOTER_MAGIC, FORMAT_VERSION};
use super::segment::check_version;
use crate::limits::{BLOCK, SEGMENT_BYTES_MAX, SEGMENT_HEAD_BYTES};

/// What a finished segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentContent {
    /// Where its last batch ends; where its first begins, if it has none.
    pub data_end: u64,
    pub first_position: u64,
    pub events: u64,
    /// The sequence number of its first batch (of the next one, if it has none).
    pub first_sequence: u64,
    pub batches: u64,
    /// The chain at its end: the hash of the whole, and of everything before it.
    pub chain: Chain,
    /// The greatest `recorded_at` up to its end; nanoseconds since the Unix epoch.
    pub recorded_last: i64,
}

impl SegmentContent {
    pub(crate) fn next_position(&self) -> u64 {
        self.first_position + self.events
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.first_sequence + self.batches
    }

    /// Where the footer stands: on the next block.
    pub(crate) fn footer_offset(&self) -> u64 {
        super::align_up(self.data_end, BLOCK)
    }

    /// The length of the sealed file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.footer_offset() + BLOCK
    }

    /// 64 bytes, shared by the footer and the manifest.
    pub(crate) fn write(&self, out: &mut [u8]) {
        put_u64(out, 0, self.data_end);
        put_u64(out, 8, self.first_position);
        put_u64(out, 16, self.events);
        put_u64(out, 24, self.first_sequence);
        put_u64(out, 32, self.batches);
        put_i64(out, 40, self.recorded_last);
        out[48..64].copy_from_slice(&self.chain.0);
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let content = Self {
            data_end: get_u64(bytes, 0),
            first_position: get_u64(bytes, 8),
            events: get_u64(bytes, 16),
            first_sequence: get_u64(bytes, 24),
            batches: get_u64(bytes, 32),
            recorded_last: get_i64(bytes, 40),
            chain: Chain(get_array(bytes, 48)),
        };
        let bounded = (SEGMENT_HEAD_BYTES..=SEGMENT_BYTES_MAX).contains(&content.data_end)
            && u32::try_from(content.events).is_ok()
            && content.batches <= content.events
            && content.first_position.checked_add(content.events).is_some()
            && content.first_sequence.checked_add(content.batches).is_some();
        if bounded { Ok(content) } else { Err(FormatError::Field("content")) }
    }
}

/// Writes the footer block of a segment into `block`, a block of zeroes.
pub(crate) fn write(key: &SegmentKey, content: &SegmentContent, block: &mut [u8]) {
    block[..8].copy_from_slice(&FOOTER_MAGIC);
    put_u32(block, 8, FORMAT_VERSION);
    put_u64(block, 16, key.identity.segment);
    content.write(&mut block[24..88]);
    let crc = checksum(key, content.footer_offset(), block);
    put_u32(block, 12, crc);
}

/// Reads the footer that stands at `offset`.
///
/// # Errors
/// [`FormatError`], where this segment has none there.
pub(crate) fn parse(
    key: &SegmentKey,
    offset: u64,
    block: &[u8],
) -> Result<SegmentContent, FormatError> {
    if block.len() < FOOTER_BYTES {
        return Err(FormatError::Short);
    }
    if block[..8] != FOOTER_MAGIC {
        return Err(FormatError::Magic);
    }
    if get_u32(block, 12) != checksum(key, offset, block) {
        return Err(FormatError::Checksum);
    }
    check_version(get_u32(block, 8))?;
    if get_u64(block, 16) != key.identity.segment {
        return Err(FormatError::Field("segment"));
    }
    let content = SegmentContent::parse(&block[24..88])?;
    if content.footer_offset() != offset {
        return Err(FormatError::Field("data_end"));
    }
    Ok(content)
}

fn checksum(key: &SegmentKey, offset: u64, block: &[u8]) -> u32 {
    key.checksum(offset, [&block[..12], &block[16..FOOTER_BYTES]])
}

#[cfg(test)]
mod tests {
    use super::super::checksum::{SegmentIdentity, StoreId};
    use super::*;

    #[test]
    fn a_footer_comes_back_only_where_it_was_written() {
        let key = SegmentKey::new(SegmentIdentity { store: StoreId([1; 16]), segment: 2, salt: 3 });
        let content = SegmentContent {
            data_end: 20_016,
            first_position: 5,
            events: 6,
            first_sequence: 7,
            batches: 3,
            chain: Chain([9; 16]),
            recorded_last: 123,
        };
        let mut block = [0; 4096];
        write(&key, &content, &mut block);
        assert_eq!(parse(&key, 20_480, &block), Ok(content));
        assert_eq!(parse(&key, 24_576, &block), Err(FormatError::Checksum));
        for bit in 0..FOOTER_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&key, 20_480, &block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
