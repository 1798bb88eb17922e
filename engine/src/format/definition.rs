//! A definition record: what a segment's small type numbers stand for.
//!
//! It precedes the first event of its type in each segment, so that every segment can be read alone.

use super::FormatError;
use super::bytes::{get_u16, get_u32, get_u128, put_u32};
use super::checksum::SegmentKey;
use super::constants::{DEFINITION_HEADER_BYTES, RECORD_DEFINITION};
use crate::limits::{NAME_BYTES_MAX, NAME_BYTES_MIN, RECORD_ALIGN, SEGMENT_TYPES_MAX};

/// An event type as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct EventType {
    pub name: Box<str>,
    /// The version of the payload's structure; 0 for payloads without one.
    pub schema_version: u32,
    /// The fingerprint of the payload's memory layout; 0 for payloads without one.
    pub fingerprint: u128,
}

impl EventType {
    /// A hash of it, for tables in memory.
    pub(crate) fn xxh3(&self) -> u64 {
        // Types of one name that differ in the rest are few; they may share a hash.
        xxhash_rust::xxh3::xxh3_64_with_seed(self.name.as_bytes(), self.schema_version.into())
    }

    pub(crate) fn encoded_bytes(&self) -> usize {
        (DEFINITION_HEADER_BYTES + self.name.len()).next_multiple_of(RECORD_ALIGN)
    }

    /// Appends the record that says that `type_ref` is this type, for `offset`.
    #[expect(clippy::cast_possible_truncation, reason = "names are within their limit")]
    pub(crate) fn encode(&self, key: &SegmentKey, offset: u64, type_ref: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&(self.encoded_bytes() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&[RECORD_DEFINITION, 0]);
        out.extend_from_slice(&(self.name.len() as u16).to_le_bytes());
        out.extend_from_slice(&type_ref.to_le_bytes());
        out.extend_from_slice(&self.schema_version.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
        out.resize(start + self.encoded_bytes(), 0);
        let crc = key.record(offset, &out[start..]);
        put_u32(&mut out[start..], 4, crc);
    }

    /// Reads the record that fills `bytes`. Its checksum is the caller's to check, before.
    ///
    /// # Errors
    /// [`FormatError`], where the bytes have not the structure of a definition.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(u32, Self), FormatError> {
        if bytes.len() < DEFINITION_HEADER_BYTES {
            return Err(FormatError::Short);
        }
        if bytes[8] != RECORD_DEFINITION || bytes[9] != 0 {
            return Err(FormatError::Field("kind"));
        }
        let length = usize::from(get_u16(bytes, 10));
        let type_ref = get_u32(bytes, 12);
        if type_ref as usize >= SEGMENT_TYPES_MAX {
            return Err(FormatError::Field("type_ref"));
        }
        let name = bytes
            .get(DEFINITION_HEADER_BYTES..DEFINITION_HEADER_BYTES + length)
            .filter(|_| (NAME_BYTES_MIN..=NAME_BYTES_MAX).contains(&length))
            .and_then(|name| std::str::from_utf8(name).ok())
            .ok_or(FormatError::Field("name"))?;
        let event_type = Self {
            name: name.into(),
            schema_version: get_u32(bytes, 16),
            fingerprint: get_u128(bytes, 24),
        };
        if get_u32(bytes, 0) as usize != bytes.len() || bytes.len() != event_type.encoded_bytes() {
            return Err(FormatError::Field("length"));
        }
        Ok((type_ref, event_type))
    }
}

#[cfg(test)]
mod tests {
    use super::super::checksum::{SegmentIdentity, StoreId};
    use super::*;

    #[test]
    fn a_definition_comes_back() {
        let key =
            SegmentKey::new(SegmentIdentity { store: StoreId([1; 16]), segment: 9, salt: 77 });
        let event_type =
            EventType { name: "ticket-assigned".into(), schema_version: 2, fingerprint: 1 << 99 };
        let mut bytes = Vec::new();
        event_type.encode(&key, 12_384, 6, &mut bytes);
        assert!(key.record_is_good(12_384, &bytes));
        assert_eq!(EventType::parse(&bytes), Ok((6, event_type)));
        for end in 0..bytes.len() {
            assert!(EventType::parse(&bytes[..end]).is_err());
        }
    }
}
