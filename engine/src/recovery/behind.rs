//! What stands behind P: batches, footers, traces of writes, or nothing.

use std::io;

use super::ahead::{Ahead, Use};
use super::cases::HeaderBehind;
use super::tail::{LogEnd, Tail, TailSegment};
use crate::format::align_down;
use crate::format::batch::BatchHeader;
use crate::format::bytes::is_zero;
use crate::format::checksum::SegmentKey;
use crate::format::constants::{BATCH_HEADER_BYTES, BATCH_MAGIC, FOOTER_MAGIC};
use crate::format::footer;
use crate::limits::{APPEND_BYTES_MAX, BLOCK, IN_FLIGHT_BATCHES_MAX, RECORD_ALIGN, SECTOR_BYTES};

/// How far behind P writes in flight can reach within its segment.
const REACH_BYTES: u64 =
    IN_FLIGHT_BATCHES_MAX as u64 * (APPEND_BYTES_MAX + BATCH_HEADER_BYTES as u64 + BLOCK);

/// A promise that something was durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Promise {
    pub sequence: u64,
    pub position: u64,
    /// Who says so.
    pub witness: String,
}

/// What stands behind P.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    pub headers: Vec<HeaderBehind>,
    /// See [`Facts::damaged_have_sector_of_before`](super::cases::Facts).
    pub damaged: Vec<bool>,
    /// For each segment from P's on, where the last byte that is not zero ends; 0 where all are.
    pub used_ends: Vec<u64>,
    pub out_of_reach: bool,
    pub promise: Promise,
}

impl Behind {
    pub(crate) fn is_nothing(&self) -> bool {
        self.headers.is_empty() && self.used_ends.iter().all(|end| *end == 0)
    }

    fn promised(&mut self, sequence: u64, position: u64, witness: impl FnOnce() -> String) {
        if sequence > self.promise.sequence {
            self.promise = Promise { sequence, position, witness: witness() };
        }
    }
}

/// Looks at everything from P on.
///
/// # Errors
/// The operating system's.
pub(crate) fn examine(tail: &mut Tail, ahead: &mut Ahead) -> io::Result<Behind> {
    let mut behind = Behind::default();
    let (end, stop) = (tail.end, tail.stop);
    for segment in &tail.segments {
        if let Some(witness) = segment.witness {
            behind.promised(witness.durable_sequence, witness.durable_position, || {
                format!("a witness in segment {} says so", segment.number())
            });
        }
    }
    for (index, segment) in tail.segments.iter_mut().enumerate().skip(stop) {
        let from = segment.next_offset;
        let seen = look(segment, ahead, from, &mut behind)?;
        behind.used_ends.push(seen.used_end);
        if seen.used_end == 0 {
            continue;
        }
        if index == stop && seen.used_end > from + REACH_BYTES {
            behind.out_of_reach = true;
        }
        // The batch at P; and in a later segment the one with which it begins, unless that is one behind
        // P whose header is whole: it is looked at with the others.
        let begins = seen.headers.first().filter(|header| header.offset == from);
        let is_behind =
            index > stop && begins.is_some_and(|begins| begins.sequence > end.next_sequence);
        if !is_behind {
            behind.damaged.push(has_sector_of_before(segment, from, &end)?);
        }
        for header in seen.headers {
            if header.offset == from && follows(segment, &header, &end)? {
                // The batch at P itself, whose content is damaged.
                continue;
            }
            behind.promised(header.durable_sequence, header.durable_position, || {
                format!(
                    "the batch at offset {} of segment {} says so",
                    header.offset,
                    segment.number()
                )
            });
            behind.headers.push(HeaderBehind {
                sequence: header.sequence,
                window: header.window,
                durable_sequence: header.durable_sequence,
            });
            if (header.offset != from || is_behind) && !content_is_good(segment, &header)? {
                behind.damaged.push(content_has_sector_of_before(segment, &header)?);
            }
        }
    }
    Ok(behind)
}

struct Seen {
    headers: Vec<BatchHeader>,
    used_end: u64,
}

/// Finds the headers and footers in a segment from `from` on, and where it ends to be used.
fn look(
    segment: &mut TailSegment,
    ahead: &mut Ahead,
    from: u64,
    behind: &mut Behind,
) -> io::Result<Seen> {
    let mut seen = Seen { headers: Vec::new(), used_end: 0 };
    let key = segment.key.clone();
    let mut offset = from;
    while let Some(piece) = segment.reader.piece(ahead, offset, Use::Look)? {
        let bytes = piece.from(offset);
        let next = offset + bytes.len() as u64;
        // Headers that begin at the end of this piece and end in the next.
        let mut split = Vec::new();
        if !piece.zero {
            look_at(&key, bytes, offset, &mut seen, &mut split, behind);
        }
        for place in split {
            let bytes = segment.reader.bytes(place, BATCH_HEADER_BYTES)?;
            seen.headers.extend(BatchHeader::parse(&key, place, bytes));
        }
        offset = next;
    }
    Ok(seen)
}

/// Looks at some bytes of a segment, sector by sector.
fn look_at(
    key: &SegmentKey,
    bytes: &[u8],
    from: u64,
    seen: &mut Seen,
    split: &mut Vec<u64>,
    behind: &mut Behind,
) {
    let mut at = 0;
    while at < bytes.len() {
        let offset = from + at as u64;
        // To the end of this sector: P may stand inside one.
        let left = SECTOR_BYTES - usize::try_from(offset % SECTOR_BYTES as u64).unwrap_or(0);
        let sector = &bytes[at..bytes.len().min(at + left)];
        if !is_zero(sector) {
            seen.used_end = offset + used(sector);
            for place in (0..sector.len()).step_by(RECORD_ALIGN) {
                if !sector[place..].starts_with(&BATCH_MAGIC) {
                    continue;
                }
                let (header, stands_at) = (&bytes[at + place..], offset + place as u64);
                if header.len() < BATCH_HEADER_BYTES {
                    split.push(stands_at);
                }
                seen.headers.extend(BatchHeader::parse(key, stands_at, header));
            }
            if sector.starts_with(&FOOTER_MAGIC)
                && let Ok(content) = footer::parse(key, offset, &bytes[at..])
            {
                let last = content.next_sequence().saturating_sub(1);
                behind.promised(last, content.next_position().saturating_sub(1), || {
                    format!("the footer of segment {} says so", key.identity.segment)
                });
            }
        }
        at += left;
    }
}

/// Where the last byte that is not zero ends.
fn used(bytes: &[u8]) -> u64 {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

fn follows(segment: &mut TailSegment, header: &BatchHeader, end: &LogEnd) -> io::Result<bool> {
    let bytes = segment.reader.bytes(header.offset, BATCH_HEADER_BYTES)?;
    Ok(header.sequence == end.next_sequence
        && header.first_position == end.next_position
        && header.follows(end.chain, bytes))
}

fn content_is_good(segment: &mut TailSegment, header: &BatchHeader) -> io::Result<bool> {
    let key = segment.key.clone();
    let bytes = segment.reader.bytes(header.offset, header.bytes as usize)?;
    Ok(bytes.get(BATCH_HEADER_BYTES..).is_some_and(|content| header.content_is_good(&key, content)))
}

/// Whether a sector of the batch that should stand at `offset` is as it was before it was written. What
/// is not written yet is zero: a log's blocks are never used twice.
fn has_sector_of_before(segment: &mut TailSegment, offset: u64, end: &LogEnd) -> io::Result<bool> {
    let key = segment.key.clone();
    let bytes = segment.reader.bytes(offset, BATCH_HEADER_BYTES)?;
    match BatchHeader::parse(&key, offset, bytes) {
        Ok(header) if follows(segment, &header, end)? => {
            content_has_sector_of_before(segment, &header)
        }
        // A batch was written here whole, as far as its header goes, but behind another past.
        Ok(_) => Ok(false),
        // The header is never all zero in a sector: where it is, that sector was not written.
        Err(_) => {
            let sector = SECTOR_BYTES as u64;
            let upto = align_down(offset + BATCH_HEADER_BYTES as u64 - 1, sector) + sector;
            any_sector_zero(segment, offset, upto)
        }
    }
}

fn content_has_sector_of_before(
    segment: &mut TailSegment,
    header: &BatchHeader,
) -> io::Result<bool> {
    any_sector_zero(segment, header.offset, header.end())
}

/// Whether the part of some sector that lies in the range is all zero.
fn any_sector_zero(segment: &mut TailSegment, from: u64, upto: u64) -> io::Result<bool> {
    let mut at = from;
    while at < upto {
        let next = (align_down(at, SECTOR_BYTES as u64) + SECTOR_BYTES as u64).min(upto);
        let length = usize::try_from(next - at).unwrap_or(SECTOR_BYTES);
        if is_zero(segment.reader.bytes(at, length)?) {
            return Ok(true);
        }
        at = next;
    }
    Ok(false)
}
