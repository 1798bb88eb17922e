//! Building the index of one segment: its table, and the run of its terms.
//!
//! From the live index that was fed as the segment was written, or from the log where that is gone. Both give
//! the same bytes, by which `verify` compares. Calls `commit` for what an event is found by, and `index`
//! for the files' bytes; writes nothing.

use std::io;

use crate::commit::{Gap, LiveSegment, TypeTable, enter};
use crate::error::DamageReason;
use crate::format::FormatError;
use crate::format::batch::BatchHeader;
use crate::format::checksum::SegmentKey;
use crate::format::constants::BATCH_HEADER_BYTES;
use crate::format::extent::Extent;
use crate::format::footer::SegmentContent;
use crate::format::frame::FrameSummary;
use crate::format::scan::{Record, records};
use crate::index::{
    BuildError, EventType, LiveIndex, LiveRoom, Stamp, TIMES_EVERY, Term, seal_run, table_file,
};
use crate::limits::SEGMENT_HEAD_BYTES;

/// The files of the index of one segment.
#[derive(Debug)]
pub(crate) struct Built {
    pub table: Vec<u8>,
    pub run: Vec<u8>,
    /// How many events each type has, by the types' numbers.
    pub events_of_types: Vec<u64>,
}

/// What the table of this segment, or the run of it alone, must say that it is of.
pub(crate) fn stamp_of(key: &SegmentKey, content: &SegmentContent) -> Stamp {
    stamp_of_neighbours((key, content), (key, content))
}

/// What a run of neighbouring segments must say that it is of, given the first and the last of them.
pub(crate) fn stamp_of_neighbours(
    (key, first): (&SegmentKey, &SegmentContent),
    (last_key, last): (&SegmentKey, &SegmentContent),
) -> Stamp {
    Stamp {
        store_id: key.identity.store.0,
        first_segment: key.identity.segment,
        last_segment: last_key.identity.segment,
        salt: last_key.identity.salt,
        first_position: first.first_position,
        events: last.next_position() - first.first_position,
        chain: last.chain.0,
    }
}

/// What of each event has no place in a live index: its id, and when it was recorded.
#[derive(Debug, Default)]
struct Beside {
    ids: Vec<([u8; 16], u32)>,
    times: Vec<i64>,
    events_of_types: Vec<u64>,
}

impl Beside {
    /// Of a segment with so many types.
    fn new(types: u32) -> Self {
        Self { events_of_types: vec![0; types as usize], ..Self::default() }
    }

    /// Adds the next event; its type has to be one of the segment's.
    fn add(&mut self, FrameSummary { id, recorded_at, type_ref }: FrameSummary) -> Option<()> {
        // Segments have fewer events than that.
        let ordinal = u32::try_from(self.ids.len()).unwrap_or(u32::MAX);
        if ordinal.is_multiple_of(TIMES_EVERY) {
            self.times.push(recorded_at);
        }
        self.ids.push((id, ordinal));
        *self.events_of_types.get_mut(type_ref as usize)? += 1;
        Some(())
    }
}

/// Builds the index of a segment that takes no more appends out of its live one.
///
/// # Errors
/// What contradicts itself in memory.
pub(crate) fn build_from_live(live: &LiveSegment) -> io::Result<Built> {
    let content = live.content();
    let events = u32::try_from(content.events).map_err(io::Error::other)?;
    let mut beside = Beside::new(live.types.len());
    beside.ids.reserve(events as usize);
    live.each_record(events, |record| beside.add(FrameSummary::of(record)?))
        .ok_or_else(|| io::Error::other("an event of the segment is not in memory"))?;
    let stamp = stamp_of(&live.key, &content);
    finish(&live.index, &live.types, &stamp, beside).map_err(io::Error::other)
}

/// Builds the index of a segment from its log, checking every checksum on the way.
///
/// # Errors
/// The offset at which the log is damaged, and how.
pub(crate) fn build_from_log(
    key: &SegmentKey,
    content: &SegmentContent,
    log: &[u8],
) -> Result<Built, (u64, DamageReason)> {
    // What is behind its end is not the segment's, and may be of any length.
    let end = usize::try_from(content.data_end).unwrap_or(usize::MAX);
    let log = log.get(..end).ok_or((log.len() as u64, DamageReason::Ends))?;
    let (mut writer, live) = LiveIndex::new(LiveRoom::for_all_of(content.data_end));
    let types = TypeTable::default();
    let mut beside = Beside::default();
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
            let contradiction = || (at, DamageReason::Content);
            match record {
                Record::Definition { type_ref, event_type } => {
                    if types.push(event_type) != type_ref {
                        return Err(contradiction());
                    }
                    beside.events_of_types.push(0);
                }
                Record::Event(frame) => {
                    let extent = frame.extent_at(at).map_err(|_| contradiction())?;
                    let event_type = types.get(frame.type_ref()).ok_or_else(contradiction)?;
                    let hash = Term::stream(frame.stream_bytes()).xxh3_64();
                    enter(&mut writer, extent, hash, &frame, event_type)
                        .map_err(|Gap| (at, DamageReason::Versions))?;
                    FrameSummary::of(frame.bytes())
                        .and_then(|summary| beside.add(summary))
                        .ok_or_else(contradiction)?;
                }
            }
        }
        offset = header.next_offset();
    }
    finish(&live, &types, &stamp_of(key, content), beside)
        .map_err(|_| (content.data_end, DamageReason::Content))
}

fn finish(
    live: &LiveIndex,
    types: &TypeTable,
    stamp: &Stamp,
    beside: Beside,
) -> Result<Built, BuildError> {
    let types: Vec<EventType<'_>> = types
        .iter()
        .map(|event_type| EventType {
            schema_version: event_type.schema_version,
            fingerprint: event_type.fingerprint,
            name: &event_type.name,
        })
        .collect();
    let Beside { ids, times, events_of_types } = beside;
    let events = u32::try_from(ids.len()).unwrap_or(u32::MAX);
    let units =
        |ordinal| live.extent(ordinal).map_or(u32::MAX, |word| Extent::of_word(word).units());
    let offsets = (0..events).map(units);
    let table = table_file(stamp, offsets, times.into_iter(), &types)?;
    Ok(Built { table, run: seal_run(live, stamp, ids)?, events_of_types })
}
