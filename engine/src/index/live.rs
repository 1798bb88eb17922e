//! The live index: one unsealed segment's terms and offsets, in memory.
//!
//! One [`LiveWriter`] feeds it under the sequence lock, when an append is claimed and before it is
//! durable. Any number of readers hold the [`LiveIndex`] and take no lock; they clip what they find at
//! the watermark. It owns the table of offsets; `live_terms` owns the terms and how they are found,
//! `live_postings` how a term's ordinals lie. It calls them and `paged`, and nothing else of the engine.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::live_postings::{self, LivePostings, WORDS_PER_TWO_POSTINGS_MAX};
use super::live_terms::{LiveEntry, LiveTerms, TERMS_MAX};
use super::paged::Paged;
use super::term::{Term, TermHash};
use super::{SEGMENT_EVENTS_MAX, TERMS_PER_EVENT_MAX, events_max, postings_max};
use crate::limits::SEGMENT_BYTES_MAX;

/// Words to a page of buckets, offsets and postings.
const WORDS_PER_PAGE: usize = 1024;

/// How many terms [`LiveWriter::fetch`] takes at once.
pub(crate) const FETCH_TERMS_MAX: usize = 32;

pub(super) type Words = Paged<AtomicU32, WORDS_PER_PAGE>;

// Events, terms and words of postings are numbered in 32 bits. The largest segment, filled with the
// smallest frames and a new term for every one that is allowed, stays below that.
const _: () = {
    assert!(SEGMENT_EVENTS_MAX < u32::MAX as u64);
    assert!(postings_max(SEGMENT_BYTES_MAX) <= TERMS_MAX);
    assert!(words_max(SEGMENT_BYTES_MAX) < u32::MAX as u64);
    assert!(TERMS_PER_EVENT_MAX >= 1);
};

/// The most words that the postings of a segment of so many bytes can take.
const fn words_max(segment_bytes: u64) -> u64 {
    (postings_max(segment_bytes) * WORDS_PER_TWO_POSTINGS_MAX).div_ceil(2)
}

/// The readers' side of the index of one unsealed segment.
pub(crate) struct LiveIndex {
    terms: LiveTerms,
    pub(super) words: Words,
    offsets: Words,
    /// Published after the offset is written.
    events: AtomicU32,
}

/// A term's number in one live index; only good for the writer that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TermId(u32);

/// What is claimed of a term in this segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The version of the term's first posting in this segment.
    pub(crate) first_version: u64,
    /// How many postings it has; never zero.
    pub(crate) count: u32,
}

impl Head {
    /// The version that the term's next posting will have.
    pub(crate) fn next_version(&self) -> u64 {
        self.first_version + u64::from(self.count)
    }
}

/// A term of a live index with its postings, as sealing reads them.
pub(crate) struct LiveTerm<'a> {
    pub(crate) hash: TermHash,
    pub(crate) term: Term<'a>,
    pub(crate) postings: LivePostings<'a>,
}

impl fmt::Debug for LiveIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveIndex").field("events", &self.events()).finish_non_exhaustive()
    }
}

impl LiveIndex {
    /// An empty index for a segment of `segment_bytes`, and the only writer that it will ever have.
    ///
    /// # Panics
    ///
    /// Panics above [`SEGMENT_BYTES_MAX`], which options are checked against.
    #[allow(clippy::new_ret_no_self, reason = "a writer and its index are made together")]
    pub(crate) fn new(segment_bytes: u64) -> (LiveWriter, Arc<Self>) {
        assert!(segment_bytes <= SEGMENT_BYTES_MAX, "a segment of {segment_bytes} bytes");
        let index = Arc::new(Self {
            terms: LiveTerms::new(postings_max(segment_bytes)),
            words: Paged::new(words_max(segment_bytes)),
            offsets: Paged::new(events_max(segment_bytes)),
            events: AtomicU32::new(0),
        });
        let writer = LiveWriter { index: Arc::clone(&index), events: 0, words_used: 0 };
        (writer, index)
    }

    /// How many events were pushed.
    pub(crate) fn events(&self) -> u32 {
        self.events.load(Ordering::Acquire)
    }

    /// Where an event's frame begins in the segment's file, in units of
    /// [`RECORD_ALIGN`](crate::limits::RECORD_ALIGN).
    pub(crate) fn offset(&self, ordinal: u32) -> Option<u32> {
        if ordinal >= self.events() {
            return None;
        }
        self.offsets.get(ordinal).map(|offset| offset.load(Ordering::Relaxed))
    }

    /// The postings that the term has by now.
    pub(crate) fn lookup(&self, hash: TermHash, term: Term<'_>) -> Option<LivePostings<'_>> {
        self.terms.find(hash, term).map(|(_, entry)| LivePostings::new(&self.words, entry))
    }

    /// The terms that have a posting below the ordinal, in the order of their first posting, each with
    /// only those postings.
    pub(crate) fn terms(&self, below_ordinal: u32) -> impl Iterator<Item = LiveTerm<'_>> {
        (0..self.terms.count())
            .map_while(|id| self.terms.get(id))
            // A later term cannot begin earlier: ordinals are given in order.
            .take_while(move |entry| entry.first_ordinal < below_ordinal)
            .map(move |entry| LiveTerm {
                hash: entry.hash,
                term: Term { kind: entry.kind, bytes: &entry.bytes },
                postings: LivePostings::new(&self.words, entry).below(below_ordinal),
            })
    }

    /// First step towards a term that will be looked up soon: has the processor fetch its bucket.
    #[inline]
    pub(crate) fn near_bucket(&self, hash: TermHash) {
        self.terms.near_bucket(hash);
    }

    /// Second step, a while after the first: has the processor fetch the term.
    #[inline]
    pub(crate) fn near_term(&self, hash: TermHash) {
        self.terms.near_term(hash);
    }

    /// Third step, a while after the second: has the processor fetch where its next posting will stand.
    #[inline]
    pub(crate) fn near_posting(&self, hash: TermHash) {
        if let Some(entry) = self.terms.nearest(hash) {
            live_postings::near_next(&self.words, entry);
        }
    }
}

/// The one writer of a [`LiveIndex`].
pub(crate) struct LiveWriter {
    index: Arc<LiveIndex>,
    events: u32,
    words_used: u32,
}

impl fmt::Debug for LiveWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveWriter").field("index", &self.index).finish_non_exhaustive()
    }
}

impl LiveWriter {
    /// Adds the next event and gives its ordinal.
    pub(crate) fn push_event(&mut self, offset_units: u32) -> u32 {
        let ordinal = self.events;
        self.index.offsets.slot(ordinal).store(offset_units, Ordering::Relaxed);
        self.events = ordinal + 1;
        self.index.events.store(self.events, Ordering::Release);
        ordinal
    }

    /// The term's number, if an event of this segment has it.
    #[inline]
    pub(crate) fn find(&self, hash: TermHash, term: Term<'_>) -> Option<TermId> {
        self.index.terms.find_threading(hash, term).map(|(id, _)| TermId(id))
    }

    /// Fetches what looking up these terms will touch, for all of them at once: one after the other, each
    /// would wait for its own memory. Only worth it where many are looked up that were not lately.
    pub(crate) fn fetch(&self, hashes: &[TermHash]) {
        for hash in hashes {
            self.index.near_bucket(*hash);
        }
        for hash in hashes {
            self.index.near_term(*hash);
        }
    }

    /// What is claimed of a term that was found.
    #[inline]
    pub(crate) fn head(&self, id: TermId) -> Head {
        head_of(self.claimed(id))
    }

    /// The ordinal of a term's last posting.
    pub(crate) fn last_ordinal(&self, id: TermId) -> u32 {
        let entry = self.claimed(id);
        let postings = LivePostings::new(&self.index.words, entry);
        postings.get(postings.len() - 1).unwrap_or(entry.first_ordinal)
    }

    /// What is claimed of a term.
    #[cfg(test)]
    pub(crate) fn lookup(&self, hash: TermHash, term: Term<'_>) -> Option<Head> {
        self.index.terms.find(hash, term).map(|(_, entry)| head_of(entry))
    }

    /// Adds a posting to a term that was found.
    ///
    /// # Panics
    ///
    /// Panics when the ordinal was not pushed; with debug assertions, also when it is not above the term's
    /// last one.
    #[inline]
    pub(crate) fn append(&mut self, id: TermId, ordinal: u32) {
        assert!(ordinal < self.events, "ordinal {ordinal} of {} events", self.events);
        let entry = self.claimed(id);
        let used = live_postings::append(&self.index.words, entry, self.words_used, ordinal);
        self.words_used = used;
    }

    /// Adds a term that was *not* found, with its first posting and that posting's version.
    ///
    /// # Panics
    ///
    /// Panics when the ordinal was not pushed.
    pub(crate) fn create(
        &mut self,
        hash: TermHash,
        term: Term<'_>,
        ordinal: u32,
        version: u64,
    ) -> TermId {
        assert!(ordinal < self.events, "ordinal {ordinal} of {} events", self.events);
        debug_assert!(self.find(hash, term).is_none(), "the term is not new");
        TermId(self.index.terms.add(hash, term, ordinal, version))
    }

    /// Adds a posting to a term, new or not. `version` is the posting's own.
    ///
    /// # Panics
    ///
    /// Panics as [`LiveWriter::append`] does, and when the version does not follow the term's last one.
    pub(crate) fn insert(&mut self, hash: TermHash, term: Term<'_>, ordinal: u32, version: u64) {
        if let Some(id) = self.find(hash, term) {
            let next = self.head(id).next_version();
            assert!(version == next, "version {version} where {next} follows");
            self.append(id, ordinal);
        } else {
            self.create(hash, term, ordinal, version);
        }
    }

    fn claimed(&self, id: TermId) -> &LiveEntry {
        self.index.terms.written(id.0)
    }
}

fn head_of(entry: &LiveEntry) -> Head {
    Head {
        first_version: entry.first_version,
        count: live_postings::count(entry.state.load(Ordering::Relaxed)),
    }
}
