//! The index file of a sealed segment: its stamp, and building it again from the log.

use crate::error::DamageReason;
use crate::format::FormatError;
use crate::format::batch::BatchHeader;
use crate::format::checksum::SegmentKey;
use crate::format::constants::BATCH_HEADER_BYTES;
use crate::format::footer::SegmentContent;
use crate::format::scan::{Record, records};
use crate::index::{EventType, IndexBuilder, Stamp, Term};
use crate::limits::{RECORD_ALIGN, SEGMENT_HEAD_BYTES};

/// What an index file of this segment must say that it is of.
pub(crate) fn stamp_of(key: &SegmentKey, content: &SegmentContent) -> Stamp {
    Stamp {
        store_id: key.identity.store.0,
        segment: key.identity.segment,
        salt: key.identity.salt,
        first_position: content.first_position,
        events: content.events,
        chain: content.chain.0,
    }
}

/// Builds the index of a segment from its log, checking every checksum on the way.
///
/// # Errors
/// The offset at which the log is damaged, and how.
pub(crate) fn build_from_log(
    key: &SegmentKey,
    content: &SegmentContent,
    log: &[u8],
) -> Result<Vec<u8>, (u64, DamageReason)> {
    let mut builder = IndexBuilder::new(stamp_of(key, content), log.len() as u64);
    let mut offset = SEGMENT_HEAD_BYTES;
    for _ in 0..content.batches {
        let damaged = |error: FormatError| (offset, DamageReason::from(error));
        let at = usize::try_from(offset).map_err(|_| damaged(FormatError::Short))?;
        let header = log.get(at..).ok_or(FormatError::Short);
        let header = header.and_then(|rest| BatchHeader::parse(key, offset, rest));
        let header = header.map_err(damaged)?;
        let records_at = offset + BATCH_HEADER_BYTES as u64;
        let inside = log.get(at + BATCH_HEADER_BYTES..at + header.bytes as usize);
        let inside = inside.ok_or_else(|| damaged(FormatError::Short))?;
        for record in records(key, records_at, inside) {
            let (at, record) = record.map_err(damaged)?;
            add(&mut builder, at, &record).map_err(|()| (at, DamageReason::Content))?;
        }
        offset = header.next_offset();
    }
    builder.finish().map_err(|_| (content.data_end, DamageReason::Content))
}

fn add(builder: &mut IndexBuilder, at: u64, record: &Record<'_>) -> Result<(), ()> {
    match record {
        Record::Definition { type_ref, event_type } => {
            let number = builder
                .event_type(EventType {
                    schema_version: event_type.schema_version,
                    fingerprint: event_type.fingerprint,
                    name: &event_type.name,
                })
                .map_err(drop)?;
            if number == *type_ref { Ok(()) } else { Err(()) }
        }
        Record::Event(frame) => {
            let units = u32::try_from(at / RECORD_ALIGN as u64).map_err(drop)?;
            let ordinal = builder.event(units).map_err(drop)?;
            let term = Term::stream(frame.stream_bytes());
            builder.posting(term.xxh3_64(), term, ordinal, frame.version()).map_err(drop)
        }
    }
}
