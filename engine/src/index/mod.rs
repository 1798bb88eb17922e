//! Terms to positions: the index of a segment, live while it is written and sealed afterwards.
//!
//! Owns what is derived from the log to find events in it: for each segment a table from *ordinals*
//! (an event's number within its segment) to file offsets, and postings from *terms* to ordinals. A
//! stream is a term; what else becomes one gets its own [`TermKind`] and no other structure.
//!
//! | file | what it owns |
//! |---|---|
//! | `term` | kinds of terms and their persisted hash |
//! | `paged` | append-only arenas that are read without locks |
//! | `live`, `live_postings` | the index of the unsealed segment, in memory |
//! | `layout`, `postings` | the bytes of the sealed file: fields, and compressed ordinals |
//! | `build` | sealing a live index, and rebuilding by scanning a log |
//! | `sealed`, `pages` | look-ups in the sealed file, and the checksums that guard them |
//! | `verify` | the check of a whole file |
//!
//! It may call `limits` and nothing else of the engine: no I/O, no clock, no locks. The append path
//! feeds the live part under the sequence lock; sealing and recovery build files; readers and the
//! append path's look-ups read both parts. The index is a cache: whoever meets an [`IndexDamage`]
//! discards the file and rebuilds it from the log.
//!
//! Neither part knows what is durable. Both hold ordinals that a caller clips at its watermark.

mod build;
mod damage;
mod layout;
mod live;
mod live_postings;
mod live_terms;
mod paged;
mod pages;
mod postings;
mod sealed;
mod term;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use build::{IndexBuilder, seal};
pub(crate) use damage::IndexDamage;
pub(crate) use layout::{EventType, Stamp};
pub(crate) use live::{FETCH_TERMS_MAX, LiveIndex, LiveWriter, TermId};
pub(crate) use postings::SealedPostings;
pub(crate) use sealed::SealedIndex;
pub(crate) use term::{Term, TermHash, TermKind};

use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_HEAD_BYTES};

/// No event's frame is shorter than this, so that a segment's size bounds how many events it holds.
pub(crate) const FRAME_BYTES_MIN: u64 = 64;
/// How many terms an event may have: its stream. Each further kind of term raises it.
pub(crate) const TERMS_PER_EVENT_MAX: u64 = 1;
/// No segment holds more events than this.
pub(crate) const SEGMENT_EVENTS_MAX: u64 = events_max(SEGMENT_BYTES_MAX);

/// The most events in a segment of so many bytes.
const fn events_max(segment_bytes: u64) -> u64 {
    segment_bytes.saturating_sub(SEGMENT_HEAD_BYTES) / FRAME_BYTES_MIN
}

/// The most postings, and so the most terms, in a segment of so many bytes.
const fn postings_max(segment_bytes: u64) -> u64 {
    events_max(segment_bytes) * TERMS_PER_EVENT_MAX
}
