//! A live term's ordinals: the first in the term, the rest in chunks that double.
//!
//! Owns the layout of chunks in the arena of words that all terms of a segment share. Chunk `k` holds
//! `4 << k` postings behind one word that leads to chunk `k - 1`. A chunk's level therefore follows
//! from the number of a posting, and any posting is found in as many steps as the count has bits. A
//! term with one posting takes no chunk, a long list wastes no page that it did not reach, because the
//! arena allocates pages when they are written.
//!
//! The writer stores a posting, then (Release) one word that holds both the tail chunk and the count;
//! a reader loads that word (Acquire) and so sees every posting below the count. It calls `paged`;
//! the live index is its only caller, but [`LivePostings`] is handed to readers.

use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::SEGMENT_EVENTS_MAX;
use super::live::Words;
use super::live_terms::LiveEntry;
use crate::sync::{prefetch, prefetch_all};

/// Postings in a chunk of level zero.
const CHUNK_POSTINGS: u32 = 4;
/// More levels than a list in the largest segment has.
const LEVELS: usize = 24;
/// The state of a term that has its first posting only.
pub(super) const STATE_OF_ONE: u64 = 1;
/// Two postings never take more words than this. With `n` postings the last chunk's level `l` is such
/// that `n >= 4 * 2^l - 2`; the chunks up to it take `8 * 2^l - 4 + l + 1` words, which is never above
/// `n * 5 / 2`.
pub(super) const WORDS_PER_TWO_POSTINGS_MAX: u64 = 5;

const _: () = {
    assert!(SEGMENT_EVENTS_MAX < u32::MAX as u64);
    assert!((SEGMENT_EVENTS_MAX / CHUNK_POSTINGS as u64 + 1).ilog2() as usize + 1 < LEVELS);
};

/// The level of the chunk that holds posting `rest + 1`, that is, `rest` of those not in the term.
#[inline]
const fn level_of(rest: u32) -> u32 {
    (rest / CHUNK_POSTINGS + 1).ilog2()
}

/// How many postings the chunks below a level hold.
#[inline]
const fn postings_below(level: u32) -> u32 {
    CHUNK_POSTINGS * ((1 << level) - 1)
}

#[inline]
pub(super) const fn count(state: u64) -> u32 {
    let [a, b, c, d, ..] = state.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[inline]
const fn tail(state: u64) -> u32 {
    (state >> 32) as u32
}

/// Adds postings, of events that follow each other, and gives the arena's new length. Readers see all of them or none.
/// Only the one writer calls this.
#[inline]
pub(super) fn append(
    words: &Words,
    entry: &LiveEntry,
    mut words_used: u32,
    ordinals: Range<u32>,
) -> u32 {
    let mut state = entry.state.load(Ordering::Relaxed);
    for ordinal in ordinals {
        (state, words_used) = add(words, entry, state, words_used, ordinal);
    }
    entry.state.store(state, Ordering::Release);
    words_used
}

/// Writes a posting, and gives the state that says of it and the arena's new length.
#[expect(clippy::inline_always, reason = "several times for each event, under the sequence lock")]
#[inline(always)]
fn add(words: &Words, entry: &LiveEntry, state: u64, words_used: u32, ordinal: u32) -> (u64, u32) {
    let (count, old_tail) = (count(state), tail(state));
    let rest = count - 1;
    let level = level_of(rest);
    let within = rest - postings_below(level);
    // Not in release builds: the processor would have to wait for the memory that it only writes.
    debug_assert!(
        match rest {
            0 => entry.first_ordinal,
            // The last slot of the chunk before, whose capacity is half of this one's.
            _ if within == 0 => {
                words.slot(old_tail + (CHUNK_POSTINGS << level) / 2).load(Ordering::Relaxed)
            }
            _ => words.slot(old_tail + within).load(Ordering::Relaxed),
        } < ordinal,
        "ordinal {ordinal} is not behind the last"
    );
    let (tail, used) = if within == 0 {
        words.slot(words_used).store(old_tail, Ordering::Relaxed);
        (words_used, words_used + 1 + (CHUNK_POSTINGS << level))
    } else {
        (old_tail, words_used)
    };
    words.slot(tail + 1 + within).store(ordinal, Ordering::Relaxed);
    (u64::from(tail) << 32 | u64::from(count + 1), used)
}

/// How many of so many things are at the beginning, of which no other is. The search begins at the end.
pub(super) fn partition_from_end(count: u32, is_at_beginning: impl Fn(u32) -> bool) -> u32 {
    let mut high = count;
    let mut step = 1;
    // All at or above `high` are not; go down in growing steps until one is.
    let mut low = loop {
        let Some(probe) = high.checked_sub(step) else { break 0 };
        if is_at_beginning(probe) {
            break probe + 1;
        }
        high = probe;
        step *= 2;
    };
    while low < high {
        let middle = low.midpoint(high);
        if is_at_beginning(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Has the processor fetch where a term's next posting will stand, if there is a chunk for it.
#[inline]
pub(super) fn near_next(words: &Words, entry: &LiveEntry) {
    let state = entry.state.load(Ordering::Relaxed);
    let rest = count(state) - 1;
    let within = rest - postings_below(level_of(rest));
    if within > 0
        && let Some(word) = words.get(tail(state) + 1 + within)
    {
        prefetch(word);
    }
}

/// A term's postings at the moment of the look-up: increasing ordinals.
#[derive(Clone, Copy)]
pub(crate) struct LivePostings<'a> {
    words: &'a Words,
    entry: &'a LiveEntry,
    state: u64,
    /// At most the count in the state; less when it was clipped.
    len: u32,
}

impl<'a> LivePostings<'a> {
    pub(super) fn new(words: &'a Words, entry: &'a LiveEntry) -> Self {
        let state = entry.state.load(Ordering::Acquire);
        Self { words, entry, state, len: count(state) }
    }

    /// Has the processor fetch what reading the postings begins with.
    #[inline]
    pub(crate) fn near(&self) {
        prefetch_all(self.entry);
        if self.len > 1
            && let Some(word) = self.words.get(tail(self.state) + 1)
        {
            prefetch(word);
        }
    }

    /// The version of the term's first posting in this segment.
    pub(crate) fn first_version(&self) -> u64 {
        self.entry.first_version
    }

    /// How many postings there are.
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// The ordinal of posting `i`.
    pub(crate) fn get(&self, i: u32) -> Option<u32> {
        if i >= self.len {
            return None;
        }
        let Some(rest) = i.checked_sub(1) else { return Some(self.entry.first_ordinal) };
        let level = level_of(rest);
        let mut chunk = tail(self.state);
        for _ in level..self.top_level() {
            chunk = self.word(chunk)?;
        }
        self.word(chunk + 1 + rest - postings_below(level))
    }

    /// How many postings are below the ordinal. The search begins at the end, because that is where
    /// the watermark is.
    pub(crate) fn visible(&self, below_ordinal: u32) -> u32 {
        partition_from_end(self.len, |i| self.get(i).is_some_and(|ordinal| ordinal < below_ordinal))
    }

    /// Whether the event has the term.
    pub(crate) fn contains(&self, ordinal: u32) -> bool {
        self.get(self.visible(ordinal)) == Some(ordinal)
    }

    /// Only the postings below the ordinal.
    #[must_use]
    pub(crate) fn below(self, below_ordinal: u32) -> Self {
        Self { len: self.visible(below_ordinal), ..self }
    }

    /// The ordinals of postings `from`, `from + 1`, … to the end.
    pub(crate) fn forward(self, from: u32) -> LiveRange<'a> {
        self.range(from..self.len)
    }

    /// The ordinals of postings `from`, `from - 1`, … to the start; the last one is where `from` is
    /// beyond the end.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn backward(self, from: u32) -> std::iter::Rev<LiveRange<'a>> {
        self.range(0..from.saturating_add(1)).rev()
    }

    /// The ordinals of a range of postings, as far as they exist, from either end.
    pub(crate) fn range(self, postings: Range<u32>) -> LiveRange<'a> {
        let postings = postings.start..postings.end.min(self.len);
        let mut chunks = [0; LEVELS];
        if !postings.is_empty() && postings.end > 1 {
            let bottom = level_of(postings.start.saturating_sub(1));
            let mut chunk = tail(self.state);
            for level in (bottom..=self.top_level()).rev() {
                chunks[level as usize] = chunk;
                chunk = self.word(chunk).unwrap_or_default();
            }
        }
        LiveRange { list: self, chunks, postings }
    }

    /// The level of the tail chunk; meaningless where there is none.
    fn top_level(&self) -> u32 {
        level_of(count(self.state).saturating_sub(2))
    }

    fn word(&self, index: u32) -> Option<u32> {
        self.words.get(index).map(|word| word.load(Ordering::Relaxed))
    }
}

/// Ordinals of a range of a live term's postings.
pub(crate) struct LiveRange<'a> {
    list: LivePostings<'a>,
    /// Where the chunk of each level is, for the levels that the range reaches.
    chunks: [u32; LEVELS],
    postings: Range<u32>,
}

impl LiveRange<'_> {
    #[inline]
    fn ordinal(&self, i: u32) -> Option<u32> {
        let Some(rest) = i.checked_sub(1) else { return Some(self.list.entry.first_ordinal) };
        let level = level_of(rest);
        self.list.word(self.chunks[level as usize] + 1 + rest - postings_below(level))
    }
}

impl Iterator for LiveRange<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let i = self.postings.next()?;
        self.ordinal(i)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.postings.size_hint()
    }
}

impl DoubleEndedIterator for LiveRange<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<u32> {
        let i = self.postings.next_back()?;
        self.ordinal(i)
    }
}

impl ExactSizeIterator for LiveRange<'_> {}
impl FusedIterator for LiveRange<'_> {}
