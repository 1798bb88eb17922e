//! Walking the records of a batch.

use super::FormatError;
use super::bytes::get_u32;
use super::checksum::SegmentKey;
use super::constants::{DEFINITION_HEADER_BYTES, RECORD_DEFINITION};
use super::definition::EventType;
use super::frame::Frame;
use crate::limits::RECORD_ALIGN;

/// One record of a segment.
#[derive(Debug)]
pub(crate) enum Record<'a> {
    Event(Frame<'a>),
    Definition { type_ref: u32, event_type: EventType },
}

/// The bytes of the record that begins at `at`, if `bytes` holds all of it.
///
/// # Errors
/// [`FormatError`], where no record can begin there.
#[inline]
pub(crate) fn record_at(bytes: &[u8], at: usize) -> Result<&[u8], FormatError> {
    let rest = bytes.get(at..).unwrap_or_default();
    if rest.len() < DEFINITION_HEADER_BYTES {
        return Err(FormatError::Short);
    }
    let length = get_u32(rest, 0) as usize;
    if length < DEFINITION_HEADER_BYTES || !length.is_multiple_of(RECORD_ALIGN) {
        return Err(FormatError::Field("length"));
    }
    rest.get(..length).ok_or(FormatError::Short)
}

/// The records in `content`, which stands at `offset` in its segment, each with its own offset and with
/// its checksum checked. Ends after the first error.
pub(crate) fn records<'a>(
    key: &'a SegmentKey,
    offset: u64,
    content: &'a [u8],
) -> impl Iterator<Item = Result<(u64, Record<'a>), FormatError>> {
    walk(offset, content, |here, bytes| {
        if key.record_is_good(here, bytes) { Ok(()) } else { Err(FormatError::Checksum) }
    })
}

/// As [`records`], of content whose own checksum was checked.
pub(crate) fn checked_records(
    offset: u64,
    content: &[u8],
) -> impl Iterator<Item = Result<(u64, Record<'_>), FormatError>> {
    walk(offset, content, |_, _| Ok(()))
}

fn walk(
    offset: u64,
    content: &[u8],
    check: impl Fn(u64, &[u8]) -> Result<(), FormatError>,
) -> impl Iterator<Item = Result<(u64, Record<'_>), FormatError>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= content.len() {
            return None;
        }
        let here = offset + at as u64;
        let record = record_at(content, at).and_then(|bytes| {
            at += bytes.len();
            check(here, bytes)?;
            parse(bytes).map(|record| (here, record))
        });
        if record.is_err() {
            at = content.len();
        }
        Some(record)
    })
}

fn parse(bytes: &[u8]) -> Result<Record<'_>, FormatError> {
    if bytes[8] == RECORD_DEFINITION {
        let (type_ref, event_type) = EventType::parse(bytes)?;
        return Ok(Record::Definition { type_ref, event_type });
    }
    Frame::parse(bytes).map(Record::Event)
}
