//! The live index: one unsealed segment's terms, and where its events lie, in memory.
//!
//! One [`LiveWriter`] feeds it under the sequence lock, when an append is claimed and before it is
//! durable. Any number of readers hold the [`LiveIndex`] and take no lock; they clip what they find at
//! the watermark. It owns the table of where events lie, a word each that its users understand; `live_terms` owns the terms and how they are found,
//! `live_postings` how a term's ordinals lie, `live_ids` how an event is found by its id. It calls them and
//! `paged`, and nothing else of the engine.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::live_ids::{self, LiveIds};
use super::live_postings::{self, LivePostings, WORDS_PER_TWO_POSTINGS_MAX};
use super::live_tags::{BYTES_PER_TAG, LiveTags};
use super::live_terms::{INLINE_BYTES, LiveEntry, LiveTerms, TERMS_MAX};
use super::paged::Paged;
use super::term::{Term, TermHash, TermKind};
use super::{PLAIN_TERMS_MAX, SEGMENT_EVENTS_MAX, events_max, tags_max};
use crate::limits::{APPEND_EVENTS_MAX, APPEND_TAGS_MAX, SEGMENT_BYTES_MAX};

/// Words to a page of buckets, extents and postings.
const WORDS_PER_PAGE: usize = 1024;

/// How many terms [`LiveWriter::fetch`] takes at once.
pub(crate) const FETCH_TERMS_MAX: usize = 32;

pub(super) type Words = Paged<AtomicU32, WORDS_PER_PAGE>;

// Events, terms and words of postings are numbered in 32 bits. The largest segment, filled with the
// smallest frames and a new term for every one that is allowed, stays below that.
const _: () = {
    assert!(SEGMENT_EVENTS_MAX < u32::MAX as u64);
    assert!(SEGMENT_EVENTS_MAX * PLAIN_TERMS_MAX <= TERMS_MAX);
    assert!(words_of(SEGMENT_EVENTS_MAX * PLAIN_TERMS_MAX) < u32::MAX as u64);
    assert!(tags_max(SEGMENT_BYTES_MAX) <= TERMS_MAX);
    assert!(words_of(tags_max(SEGMENT_BYTES_MAX)) < u32::MAX as u64);
};

/// The most words that so many postings can take.
pub(super) const fn words_of(postings: u64) -> u64 {
    (postings * WORDS_PER_TWO_POSTINGS_MAX).div_ceil(2)
}

/// The most postings of one append, without those of tags.
const APPEND_POSTINGS_MAX: u64 = APPEND_EVENTS_MAX as u64 * PLAIN_TERMS_MAX;

/// What a term takes besides its postings: its entry, and its share of the buckets.
pub(super) const TERM_BYTES: u64 = size_of::<LiveEntry>() as u64 + 16;
/// What a posting word takes.
pub(super) const WORD_BYTES: u64 = size_of::<AtomicU32>() as u64;
/// What is kept of where an event lies.
const EXTENT_BYTES: u64 = size_of::<AtomicU64>() as u64;

/// How much a live index has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveRoom {
    segment_bytes: u64,
    events: u64,
    terms: u64,
    words: u64,
    tags: u64,
    /// How many terms are expected.
    terms_expected: u64,
    /// The writer says that it is full when it takes more than this.
    bytes_max: u64,
}

impl LiveRoom {
    /// For whatever a segment of so many bytes holds. It is never full.
    ///
    /// # Panics
    ///
    /// Panics above [`SEGMENT_BYTES_MAX`], which options are checked against.
    pub(crate) fn for_all_of(segment_bytes: u64) -> Self {
        assert!(segment_bytes <= SEGMENT_BYTES_MAX, "a segment of {segment_bytes} bytes");
        let events = events_max(segment_bytes);
        let postings = events * PLAIN_TERMS_MAX;
        let (words, tags) = (words_of(postings), tags_max(segment_bytes));
        Self {
            segment_bytes,
            events,
            terms: postings,
            words,
            tags,
            terms_expected: 0,
            bytes_max: u64::MAX,
        }
    }

    /// The same, where so many terms are expected: room for them is made at once.
    #[must_use]
    pub(crate) fn expecting(self, terms: u32) -> Self {
        Self { terms_expected: terms.into(), ..self }
    }

    /// For a segment that takes no more appends once its index takes `bytes_max`; the append that brings it
    /// there has room too, whatever it holds.
    ///
    /// # Panics
    ///
    /// As [`LiveRoom::for_all_of`].
    pub(crate) fn bounded(segment_bytes: u64, bytes_max: u64) -> Self {
        let all = Self::for_all_of(segment_bytes);
        let (terms, words) = (bytes_max / TERM_BYTES, bytes_max / WORD_BYTES);
        Self {
            // For the buckets of ids an eighth is enough, whatever the segment's length.
            segment_bytes: all.segment_bytes.min(LiveIds::segment_of(bytes_max / 8)),
            terms: all.terms.min(terms + APPEND_POSTINGS_MAX),
            // A list takes at least its postings less one, and with any further posting it may double: so the words
            // that are used may all but become what their postings can take at most.
            words: all.words.min(words_of(words + 2 * APPEND_POSTINGS_MAX)),
            tags: all.tags.min(bytes_max / BYTES_PER_TAG + APPEND_TAGS_MAX as u64),
            bytes_max,
            ..all
        }
    }
}

/// The readers' side of the index of one unsealed segment.
pub(crate) struct LiveIndex {
    terms: LiveTerms,
    pub(super) words: Words,
    extents: Paged<AtomicU64, WORDS_PER_PAGE>,
    tags: LiveTags,
    ids: LiveIds,
    /// Published after the extent is written.
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
#[derive(Clone, Copy)]
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
    /// An empty index with this room, and the only writer that it will ever have.
    #[allow(clippy::new_ret_no_self, reason = "a writer and its index are made together")]
    pub(crate) fn new(room: LiveRoom) -> (LiveWriter, Arc<Self>) {
        let index = Arc::new(Self {
            terms: LiveTerms::new(room.terms, room.terms_expected),
            words: Paged::new(room.words),
            extents: Paged::new(room.events),
            tags: LiveTags::new(room.tags),
            ids: LiveIds::new(room.segment_bytes, room.events),
            events: AtomicU32::new(0),
        });
        let writer = LiveWriter {
            index: Arc::clone(&index),
            events: 0,
            words_used: 0,
            names_bytes: 0,
            bytes_max: room.bytes_max,
            types: Vec::new(),
            category: None,
        };
        (writer, index)
    }

    /// How many events were pushed.
    pub(crate) fn events(&self) -> u32 {
        self.events.load(Ordering::Acquire)
    }

    /// Where an event lies: the word with which it was pushed.
    pub(crate) fn extent(&self, ordinal: u32) -> Option<u64> {
        if ordinal >= self.events() {
            return None;
        }
        self.extents.get(ordinal).map(|extent| extent.load(Ordering::Relaxed))
    }

    /// Where these events lie, as [`LiveIndex::extent`], as far as there are any: some of them after the others. The words do
    /// not change.
    #[inline]
    pub(crate) fn extents(&self, ordinals: Range<u32>) -> impl Iterator<Item = &[AtomicU64]> {
        self.extents.slices(ordinals.start..ordinals.end.min(self.events()))
    }

    /// The postings that the term has by now; of a tag, those of all tags that share its hash.
    pub(crate) fn lookup(&self, hash: TermHash, term: Term<'_>) -> Option<LivePostings<'_>> {
        if term.kind == TermKind::Tag {
            return self.tags.lookup(hash);
        }
        self.terms.find(hash, term).map(|(_, entry)| LivePostings::new(&self.words, entry))
    }

    /// How many events have all of their terms entered. More may be pushed.
    #[inline]
    pub(crate) fn entered(&self) -> u32 {
        self.ids.count()
    }

    /// The last event that has a term; for a tag, the last that has one that shares its hash.
    pub(crate) fn last(&self, hash: TermHash, term: Term<'_>) -> Option<u32> {
        if term.kind == TermKind::Tag {
            return self.tags.last(hash);
        }
        let postings = self.lookup(hash, term)?;
        postings.get(postings.len() - 1)
    }

    /// Two steps towards [`LiveIndex::last`], a while apart: has the processor fetch what it begins with.
    pub(crate) fn near_last(&self, hash: TermHash, term: Term<'_>, second: bool) {
        match (term.kind == TermKind::Tag, second) {
            (true, false) => self.tags.near_bucket(hash),
            (true, true) => self.tags.near_term(hash),
            (false, false) => self.near_bucket(hash),
            (false, true) => self.near_term(hash),
        }
    }

    /// Whether an event has a term; for a tag, whether it has one that shares its hash. No lock is taken.
    pub(crate) fn has(&self, ordinal: u32, hash: TermHash, term: Term<'_>) -> bool {
        if term.kind == TermKind::Tag {
            return self.tags.has(ordinal, hash);
        }
        self.lookup(hash, term).is_some_and(|postings| postings.contains(ordinal))
    }

    /// The events that may have an id of this hash, the last one first: compare the id in each one's frame.
    pub(crate) fn ids(&self, hash: TermHash) -> impl Iterator<Item = u32> + '_ {
        self.ids.candidates(hash)
    }

    /// The first of these events the hash of whose id is wanted. No lock is taken.
    pub(crate) fn first_id_noted(
        &self,
        ordinals: Range<u32>,
        is_wanted: impl Fn(TermHash) -> bool,
    ) -> Option<u32> {
        self.ids.first_noted(ordinals, is_wanted)
    }

    /// How many terms there are.
    pub(crate) fn terms_count(&self) -> u32 {
        self.terms.count()
    }

    /// The tags of the events below the ordinal, in the order of the events, by their hashes.
    pub(crate) fn tags(&self, below_ordinal: u32) -> impl Iterator<Item = (TermHash, u32)> + '_ {
        self.tags.below(below_ordinal)
    }

    /// The terms, without tags, that have a posting below the ordinal, in the order of their first posting, each with
    /// only those postings.
    pub(crate) fn terms(&self, below_ordinal: u32) -> impl Iterator<Item = LiveTerm<'_>> {
        (0..self.terms.count())
            .map_while(|id| self.terms.get(id))
            // A later term cannot begin earlier: ordinals are given in order.
            .take_while(move |entry| entry.first_ordinal < below_ordinal)
            .map(move |entry| LiveTerm {
                hash: entry.hash,
                term: Term { kind: entry.kind, bytes: &entry.bytes },
                // Of a segment that is settled all of them are, and need no look.
                postings: match LivePostings::new(&self.words, entry) {
                    postings if below_ordinal >= self.events() => postings,
                    postings => postings.below(below_ordinal),
                },
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
    /// What names take that do not fit into their entries.
    names_bytes: u64,
    bytes_max: u64,
    /// The terms of the segment's event types, by the types' numbers.
    types: Vec<Option<TermId>>,
    /// The category that was entered last: most often it is the next one's too.
    category: Option<(TermHash, TermId)>,
}

impl fmt::Debug for LiveWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveWriter").field("index", &self.index).finish_non_exhaustive()
    }
}

impl LiveWriter {
    /// Adds the next event and gives its ordinal.
    pub(crate) fn push_event(&mut self, extent: u64) -> u32 {
        self.push_events([extent]).start
    }

    /// Adds the next events, one for each word that says where it lies, and gives their ordinals.
    #[inline]
    pub(crate) fn push_events(&mut self, extents: impl IntoIterator<Item = u64>) -> Range<u32> {
        let first = self.events;
        for extent in extents {
            self.index.extents.slot(self.events).store(extent, Ordering::Relaxed);
            self.events += 1;
        }
        self.index.events.store(self.events, Ordering::Release);
        first..self.events
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

    /// Adds postings of events that follow each other to a term that was found.
    ///
    /// # Panics
    ///
    /// Panics when one of the ordinals was not pushed; with debug assertions, also when the first is not above
    /// the term's last one.
    #[expect(
        clippy::inline_always,
        reason = "several times for each append, under the sequence lock"
    )]
    #[inline(always)]
    pub(crate) fn append(&mut self, id: TermId, ordinals: Range<u32>) {
        assert!(ordinals.end <= self.events, "ordinals {ordinals:?} of {} events", self.events);
        let entry = self.claimed(id);
        let used = live_postings::append(&self.index.words, entry, self.words_used, ordinals);
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
        debug_assert!(term.kind != TermKind::Tag, "tags are only noted");
        if term.bytes.len() > INLINE_BYTES {
            self.names_bytes += term.bytes.len() as u64;
        }
        TermId(self.index.terms.add(hash, term, ordinal, version))
    }

    /// Notes a tag of an event: see `live_tags`.
    ///
    /// # Panics
    ///
    /// Panics when the ordinal was not pushed.
    #[inline]
    pub(crate) fn enter_tag(&mut self, hash: TermHash, ordinal: u32) {
        assert!(ordinal < self.events, "ordinal {ordinal} of {} events", self.events);
        self.index.tags.push(hash, ordinal);
    }

    /// Adds postings of events that follow each other to a term whose postings have no versions, new or not; no tag is
    /// one.
    ///
    /// # Panics
    ///
    /// As [`LiveWriter::append`].
    #[inline]
    pub(crate) fn enter(
        &mut self,
        hash: TermHash,
        term: Term<'_>,
        mut ordinals: Range<u32>,
    ) -> TermId {
        let (id, rest) = if let Some(id) = self.find(hash, term) {
            (id, ordinals)
        } else {
            let first = ordinals.next().expect("there is an event that has the term");
            (self.create(hash, term, first, 0), ordinals)
        };
        self.append(id, rest);
        id
    }

    /// As [`LiveWriter::enter`], for the category of the events' stream.
    #[inline]
    pub(crate) fn enter_category(&mut self, hash: TermHash, category: &[u8], ordinals: Range<u32>) {
        if let Some((known, id)) = self.category
            && known == hash
            && *self.claimed(id).bytes == *category
        {
            self.append(id, ordinals);
        } else {
            self.category = Some((hash, self.enter(hash, Term::category(category), ordinals)));
        }
    }

    /// As [`LiveWriter::enter`], for the name of the events' type, which has this number in the segment.
    #[inline]
    pub(crate) fn enter_type(&mut self, number: u32, name: &[u8], ordinals: Range<u32>) {
        let number = number as usize;
        if let Some(Some(id)) = self.types.get(number).copied() {
            self.append(id, ordinals);
            return;
        }
        let name = Term::event_type(name);
        let id = self.enter(name.xxh3_64(), name, ordinals);
        if self.types.len() <= number {
            self.types.resize(number + 1, None);
        }
        self.types[number] = Some(id);
    }

    /// Notes the ids of the events that were pushed last, after all that is entered of them: see `live_ids`.
    ///
    /// # Panics
    ///
    /// Panics where these are not as many as have none yet.
    #[inline]
    pub(crate) fn enter_ids(&mut self, hashes: impl IntoIterator<Item = TermHash>) {
        let count = self.index.ids.push(hashes);
        assert_eq!(count, self.events, "each event has an id");
    }

    /// Says that it is full when it takes more than this. It has room for whatever its segment holds, as what
    /// was read back has.
    pub(crate) fn bound(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
    }

    /// Whether the index takes as much memory as it may, so that its segment should take no more appends.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes() > self.bytes_max
    }

    /// How much memory the index takes: what is proportional to the events and their terms.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.index.terms.count()) * TERM_BYTES
            + self.names_bytes
            + self.index.tags.bytes()
            + u64::from(self.words_used) * WORD_BYTES
            + u64::from(self.events) * (EXTENT_BYTES + live_ids::BYTES_PER_EVENT)
    }

    /// Adds a posting to a term, new or not. `version` is the posting's own.
    ///
    /// # Panics
    ///
    /// Panics as [`LiveWriter::append`] does, and when the version does not follow the term's last one.
    #[cfg(test)]
    pub(crate) fn insert(&mut self, hash: TermHash, term: Term<'_>, ordinal: u32, version: u64) {
        if let Some(id) = self.find(hash, term) {
            let next = self.head(id).next_version();
            assert!(version == next, "version {version} where {next} follows");
            self.append(id, ordinal..ordinal + 1);
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
