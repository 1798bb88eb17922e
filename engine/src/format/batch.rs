//! The header that begins every batch.

use super::FormatError;
use super::align_up;
use super::bytes::{get_array, get_u16, get_u32, get_u64, put_u16, put_u32, put_u64};
use super::checksum::{Chain, SegmentKey};
use super::constants::{
    BATCH_CHAIN_OFFSET, BATCH_FLAG_NEXT_FRESH, BATCH_HEADER_BYTES, BATCH_MAGIC, FRAME_HEADER_BYTES,
};
use crate::limits::{BLOCK, RECORD_ALIGN, SEGMENT_BYTES_MAX};

/// What a batch says of itself. Its own checksum covers its length, so that the length can be trusted
/// before the content is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// The opening of the store that wrote it; grows with each.
    pub epoch: u64,
    /// Dense over the whole store, from 1.
    pub sequence: u64,
    /// Where in the segment it stands.
    pub offset: u64,
    pub first_position: u64,
    /// The last batch that was durable when this one was closed; 0 for none.
    pub durable_sequence: u64,
    /// The last position of that batch.
    pub durable_position: u64,
    /// Of the whole batch with this header; a multiple of [`RECORD_ALIGN`].
    pub bytes: u32,
    /// Never 0.
    pub events: u32,
    /// Events and type definitions.
    pub records: u32,
    /// How many batches might be in flight when this one was closed, itself counted.
    pub window: u16,
    /// Whether the next batch begins on the next block, or right behind this one.
    pub next_is_fresh: bool,
    pub content_crc: u32,
    /// The chain up to and with this batch.
    pub chain: Chain,
}

impl BatchHeader {
    pub(crate) fn end(&self) -> u64 {
        self.offset + u64::from(self.bytes)
    }

    /// Where the batch behind it begins, if it is in the same segment.
    pub(crate) fn next_offset(&self) -> u64 {
        if self.next_is_fresh { align_up(self.end(), BLOCK) } else { self.end() }
    }

    /// Completes this header for `content`, behind `previous`, and writes it.
    pub(crate) fn seal(
        &mut self,
        key: &SegmentKey,
        previous: Chain,
        content: &[u8],
        out: &mut [u8],
    ) {
        assert_eq!(content.len() + BATCH_HEADER_BYTES, self.bytes as usize);
        assert!(self.events > 0 && self.records >= self.events);
        self.content_crc = content_checksum(key, self.offset, content);
        out[..4].copy_from_slice(&BATCH_MAGIC);
        put_u64(out, 8, self.epoch);
        put_u64(out, 16, self.sequence);
        put_u64(out, 24, self.offset);
        put_u64(out, 32, self.first_position);
        put_u64(out, 40, self.durable_sequence);
        put_u64(out, 48, self.durable_position);
        put_u32(out, 56, self.bytes);
        put_u32(out, 60, self.events);
        put_u32(out, 64, self.records);
        put_u16(out, 68, self.window);
        put_u16(out, 70, if self.next_is_fresh { BATCH_FLAG_NEXT_FRESH } else { 0 });
        put_u32(out, 72, self.content_crc);
        put_u32(out, 76, 0);
        self.chain = previous.after(&out[8..BATCH_CHAIN_OFFSET]);
        out[BATCH_CHAIN_OFFSET..BATCH_HEADER_BYTES].copy_from_slice(&self.chain.0);
        let crc = header_checksum(key, self.offset, out);
        put_u32(out, 4, crc);
    }

    /// Reads the header that stands at `offset`.
    ///
    /// # Errors
    /// [`FormatError`], where no batch of this segment begins there.
    pub(crate) fn parse(key: &SegmentKey, offset: u64, bytes: &[u8]) -> Result<Self, FormatError> {
        let Some(bytes) = bytes.get(..BATCH_HEADER_BYTES) else {
            return Err(FormatError::Short);
        };
        if bytes[..4] != BATCH_MAGIC {
            return Err(FormatError::Magic);
        }
        if get_u32(bytes, 4) != header_checksum(key, offset, bytes) {
            return Err(FormatError::Checksum);
        }
        let header = Self {
            epoch: get_u64(bytes, 8),
            sequence: get_u64(bytes, 16),
            offset: get_u64(bytes, 24),
            first_position: get_u64(bytes, 32),
            durable_sequence: get_u64(bytes, 40),
            durable_position: get_u64(bytes, 48),
            bytes: get_u32(bytes, 56),
            events: get_u32(bytes, 60),
            records: get_u32(bytes, 64),
            window: get_u16(bytes, 68),
            next_is_fresh: get_u16(bytes, 70) == BATCH_FLAG_NEXT_FRESH,
            content_crc: get_u32(bytes, 72),
            chain: Chain(get_array(bytes, BATCH_CHAIN_OFFSET)),
        };
        if get_u16(bytes, 70) & !BATCH_FLAG_NEXT_FRESH != 0 {
            return Err(FormatError::Field("flags"));
        }
        header.check(offset)?;
        Ok(header)
    }

    fn check(&self, offset: u64) -> Result<(), FormatError> {
        let bytes = self.bytes as usize;
        let smallest = BATCH_HEADER_BYTES + FRAME_HEADER_BYTES;
        if self.offset != offset {
            return Err(FormatError::Field("offset"));
        }
        if bytes < smallest || !bytes.is_multiple_of(RECORD_ALIGN) || self.end() > SEGMENT_BYTES_MAX
        {
            return Err(FormatError::Field("bytes"));
        }
        if self.events == 0 || self.first_position == 0 {
            return Err(FormatError::Field("events"));
        }
        if self.records < self.events || self.records as usize > bytes / RECORD_ALIGN {
            return Err(FormatError::Field("records"));
        }
        if self.window == 0 || self.durable_sequence >= self.sequence {
            return Err(FormatError::Field("window"));
        }
        Ok(())
    }

    /// Whether the chain of this header, read back as `bytes`, follows `previous`.
    pub(crate) fn follows(&self, previous: Chain, bytes: &[u8]) -> bool {
        previous.after(&bytes[8..BATCH_CHAIN_OFFSET]) == self.chain
    }

    /// Whether `content`, the bytes behind the header, is what was written.
    pub(crate) fn content_is_good(&self, key: &SegmentKey, content: &[u8]) -> bool {
        content.len() + BATCH_HEADER_BYTES == self.bytes as usize
            && content_checksum(key, self.offset, content) == self.content_crc
    }
}

fn header_checksum(key: &SegmentKey, offset: u64, bytes: &[u8]) -> u32 {
    key.checksum(offset, [&bytes[..4], &bytes[8..BATCH_HEADER_BYTES]])
}

fn content_checksum(key: &SegmentKey, offset: u64, content: &[u8]) -> u32 {
    key.checksum(offset, [content, &[]])
}

#[cfg(test)]
mod tests {
    use super::super::checksum::{SegmentIdentity, StoreId};
    use super::*;

    fn key() -> SegmentKey {
        SegmentKey::new(SegmentIdentity { store: StoreId([1; 16]), segment: 9, salt: 77 })
    }

    fn sealed() -> (BatchHeader, [u8; BATCH_HEADER_BYTES], Vec<u8>) {
        let content = vec![3; 160];
        let mut header = BatchHeader {
            epoch: 2,
            sequence: 11,
            offset: 12_288,
            first_position: 41,
            durable_sequence: 10,
            durable_position: 40,
            bytes: 256,
            events: 2,
            records: 2,
            window: 1,
            next_is_fresh: true,
            content_crc: 0,
            chain: Chain::default(),
        };
        let mut bytes = [0; BATCH_HEADER_BYTES];
        header.seal(&key(), Chain([4; 16]), &content, &mut bytes);
        (header, bytes, content)
    }

    #[test]
    fn a_header_comes_back_and_knows_its_content_and_its_past() {
        let (header, bytes, content) = sealed();
        let read = BatchHeader::parse(&key(), 12_288, &bytes).unwrap();
        assert_eq!(read, header);
        assert!(read.content_is_good(&key(), &content));
        assert!(read.follows(Chain([4; 16]), &bytes));
        assert!(!read.follows(Chain([5; 16]), &bytes));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (_, mut bytes, _) = sealed();
        for bit in 0..BATCH_HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(BatchHeader::parse(&key(), 12_288, &bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_header_is_invisible_elsewhere() {
        let (_, bytes, _) = sealed();
        assert_eq!(BatchHeader::parse(&key(), 16_384, &bytes), Err(FormatError::Checksum));
        let other = SegmentKey::new(SegmentIdentity { salt: 78, ..key().identity });
        assert_eq!(BatchHeader::parse(&other, 12_288, &bytes), Err(FormatError::Checksum));
    }

    #[test]
    fn changed_content_is_noticed() {
        let (header, _, mut content) = sealed();
        content[100] ^= 1;
        assert!(!header.content_is_good(&key(), &content));
        assert!(!header.content_is_good(&key(), &content[..100]));
    }
}
