//! Terms to positions: live while a segment is written, and in files afterwards.
//!
//! Owns what is derived from the log to find events in it: for each segment a table from *ordinals*
//! (an event's number within its segment) to file offsets, and postings from *terms* to ordinals. A
//! stream is a term, and so are a category, an event type, a tag; each has its [`TermKind`] and no
//! structure of its own. An event's id is a term that no other event has, which needs no postings.
//!
//! | file | what it owns |
//! |---|---|
//! | `term` | kinds of terms and their persisted hash |
//! | `paged` | append-only arenas that are read without locks |
//! | `live`, `live_terms`, `live_postings`, `live_tags`, `live_ids` | the index of an unsealed segment, in memory |
//! | `files` | the sealed part: a table for each segment, and runs of the terms of neighbouring ones |
//! | `damage` | what can be wrong with a file |
//!
//! It may call `limits` and `sync`'s hints and nothing else of the engine: no I/O, no clock, no locks. The
//! append path feeds the live part under the sequence lock; sealing, recovery and the indexer build files;
//! readers and the append path's look-ups read both parts. The index is a cache: whoever meets an
//! [`IndexDamage`] discards the file and rebuilds it from the log.
//!
//! Neither part knows what is durable. Both hold ordinals that a caller clips at its watermark.

mod damage;
mod files;
mod live;
mod live_ids;
mod live_postings;
mod live_tags;
mod live_terms;
mod paged;
mod term;
#[cfg(test)]
mod tests;

pub(crate) use damage::IndexDamage;
pub(crate) use files::{
    BuildError, EventType, MergeError, PIECE_BYTES, SealedPostings, SealedRange, SegmentTable,
    Stamp, TIMES_EVERY, TermRun, merge, seal_run, table_file,
};
pub(crate) use live::{FETCH_TERMS_MAX, LiveIndex, LiveRoom, LiveWriter, TermId};
pub(crate) use live_postings::{LivePostings, LiveRange};
pub(crate) use term::{Term, TermHash, TermKind};

use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_HEAD_BYTES};

/// No event's frame is shorter than this, so that a segment's size bounds how many events it holds.
pub(crate) const FRAME_BYTES_MIN: u64 = 64;
/// How many terms an event has at most besides its tags and its id: stream, category, type, and that it is the
/// first of its stream.
pub(crate) const PLAIN_TERMS_MAX: u64 = 4;
/// No tag takes fewer bytes of a frame than this: its length, and a character.
const TAG_BYTES_MIN: u64 = 3;
/// No segment holds more events than this.
pub(crate) const SEGMENT_EVENTS_MAX: u64 = events_max(SEGMENT_BYTES_MAX);

/// The most events in a segment of so many bytes.
const fn events_max(segment_bytes: u64) -> u64 {
    segment_bytes.saturating_sub(SEGMENT_HEAD_BYTES) / FRAME_BYTES_MIN
}

/// The most tags in a segment of so many bytes.
const fn tags_max(segment_bytes: u64) -> u64 {
    segment_bytes / TAG_BYTES_MIN
}
