//! The event types of all sealed segments, as the manifest lists them.
//!
//! So that opening a store knows which types are in it without a look at any segment, however many there are.

use super::FormatError;
use super::bytes::{get_u16, get_u32, get_u64, get_u128, put_u16, put_u32, put_u64};
use super::constants::MANIFEST_TYPE_BYTES;
use super::definition::EventType;
use crate::limits::{LISTED_TYPES_MAX, NAME_BYTES_MAX, NAME_BYTES_MIN, RECORD_ALIGN};

/// An event type, and how many events of it there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredType {
    pub event_type: EventType,
    pub events: u64,
}

/// The types of the sealed segments, each once, or that they are not listed: because they are more than
/// [`LISTED_TYPES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredTypes(Option<Vec<StoredType>>);

impl StoredTypes {
    /// Of no segment.
    pub(crate) const NONE: Self = Self(Some(Vec::new()));
    /// Not listed.
    pub(crate) const UNLISTED: Self = Self(None);

    /// The types, if they are listed.
    pub(crate) fn listed(&self) -> Option<&[StoredType]> {
        self.0.as_deref()
    }

    /// Adds the types of a segment, with how many events of each it has.
    pub(crate) fn add<'a>(&mut self, types: impl Iterator<Item = (&'a EventType, u64)>) {
        let Some(listed) = &mut self.0 else { return };
        for (event_type, events) in types {
            let there = listed.len();
            match listed.iter_mut().find(|known| known.event_type == *event_type) {
                Some(known) => known.events = known.events.saturating_add(events),
                None if there == LISTED_TYPES_MAX => {
                    self.0 = None;
                    return;
                }
                None => listed.push(StoredType { event_type: event_type.clone(), events }),
            }
        }
    }

    /// How many bytes they take.
    pub(crate) fn encoded_bytes(&self) -> usize {
        let bytes = |known: &StoredType| record_bytes(known.event_type.name.len());
        self.0.iter().flatten().map(bytes).sum()
    }

    /// Writes them into `out`, zeroes of [`StoredTypes::encoded_bytes`].
    #[expect(clippy::cast_possible_truncation, reason = "names are within their limit")]
    pub(super) fn write(&self, mut out: &mut [u8]) {
        for StoredType { event_type, events } in self.0.iter().flatten() {
            let name = event_type.name.as_bytes();
            let (record, rest) = out.split_at_mut(record_bytes(name.len()));
            put_u64(record, 0, *events);
            put_u32(record, 8, event_type.schema_version);
            put_u16(record, 12, name.len() as u16);
            record[16..32].copy_from_slice(&event_type.fingerprint.to_le_bytes());
            record[MANIFEST_TYPE_BYTES..MANIFEST_TYPE_BYTES + name.len()].copy_from_slice(name);
            out = rest;
        }
    }

    /// Reads so many, which fill `bytes`.
    ///
    /// # Errors
    /// [`FormatError::Field`].
    pub(super) fn parse(mut bytes: &[u8], count: usize) -> Result<Self, FormatError> {
        let wrong = FormatError::Field("types");
        if count > LISTED_TYPES_MAX {
            return Err(wrong);
        }
        let mut listed = Vec::with_capacity(count);
        for _ in 0..count {
            let head = bytes.get(..MANIFEST_TYPE_BYTES).ok_or(wrong)?;
            let length = usize::from(get_u16(head, 12));
            if !(NAME_BYTES_MIN..=NAME_BYTES_MAX).contains(&length) {
                return Err(wrong);
            }
            let name = bytes.get(MANIFEST_TYPE_BYTES..MANIFEST_TYPE_BYTES + length);
            let name = name.and_then(|name| std::str::from_utf8(name).ok()).ok_or(wrong)?;
            let event_type = EventType {
                name: name.into(),
                schema_version: get_u32(head, 8),
                fingerprint: get_u128(head, 16),
            };
            listed.push(StoredType { event_type, events: get_u64(head, 0) });
            bytes = bytes.get(record_bytes(length)..).ok_or(wrong)?;
        }
        if bytes.is_empty() { Ok(Self(Some(listed))) } else { Err(wrong) }
    }
}

/// The length of the record of a type whose name has this length.
const fn record_bytes(name: usize) -> usize {
    (MANIFEST_TYPE_BYTES + name).next_multiple_of(RECORD_ALIGN)
}

/// More than all of them ever take.
pub(super) const BYTES_MAX: usize = LISTED_TYPES_MAX * record_bytes(NAME_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn event_type(number: usize) -> EventType {
        EventType { name: format!("type-{number}").into(), schema_version: 1, fingerprint: 5 }
    }

    #[test]
    fn a_type_of_several_segments_is_listed_once_with_all_its_events() {
        let mut types = StoredTypes::NONE;
        let (one, mut other) = (event_type(1), event_type(1));
        other.fingerprint = 6;
        types.add([(&one, 3), (&other, 4)].into_iter());
        types.add([(&one, 5)].into_iter());
        let events: Vec<_> = types.listed().unwrap().iter().map(|known| known.events).collect();
        assert_eq!(events, [8, 4]);
        let mut bytes = vec![0; types.encoded_bytes()];
        types.write(&mut bytes);
        assert_eq!(StoredTypes::parse(&bytes, 2), Ok(types));
        for end in 0..bytes.len() {
            assert!(StoredTypes::parse(&bytes[..end], 2).is_err(), "{end}");
        }
        assert!(StoredTypes::parse(&bytes, 1).is_err());
        assert!(StoredTypes::parse(&bytes, 3).is_err());
    }

    #[test]
    fn more_than_the_limit_are_not_listed_any_more() {
        let mut types = StoredTypes::NONE;
        let all: Vec<_> = (0..LISTED_TYPES_MAX).map(event_type).collect();
        types.add(all.iter().map(|known| (known, 1)));
        assert_eq!(types.listed().unwrap().len(), LISTED_TYPES_MAX);
        assert!(types.encoded_bytes() <= BYTES_MAX);
        types.add([(&event_type(LISTED_TYPES_MAX), 1)].into_iter());
        assert_eq!(types, StoredTypes::UNLISTED);
        types.add([(&event_type(0), 1)].into_iter());
        assert_eq!(types.listed(), None);
    }
}
