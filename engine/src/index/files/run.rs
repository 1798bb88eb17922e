//! A run: the terms and the event ids of one segment, or of several neighbouring ones.
//!
//! Owns look-ups in the file's bytes, which are usually a memory mapping. Opening believes the header
//! and nothing else; every other byte is checked when it is first touched (see `pages`). It calls
//! `pages`, `filter` and `postings`. Readers, the append path's look-ups, `merge` and `verify` call it.
//!
//! Events are named by their ordinals: their positions less the run's first one. The file keeps hashes,
//! not names: what is found is a superset, and the caller compares the term, or the id, in each frame.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Deref, Range};

use super::super::damage::{IndexDamage, structure};
use super::super::term::{Term, TermHash, TermKind};
use super::filter::{self, FILTER_BLOCK_BYTES, FilterBlock};
use super::layout::{Content, Header, Section, Stamp};
use super::pages::{Checked, View};
use super::postings::SealedPostings;
use super::records::{
    ENTRY_BYTES, Entry, ID_BYTES, IdEntry, bucket_of, buckets_for, id_bucket_of, id_buckets_for,
    id_key,
};

/// A run over the bytes of its file.
pub(crate) struct TermRun<M> {
    file: M,
    checked: Checked,
}

impl<M> fmt::Debug for TermRun<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TermRun").field("stamp", &self.checked.header.stamp).finish_non_exhaustive()
    }
}

impl<M: Deref<Target = [u8]>> TermRun<M> {
    /// Opens a file that must be the run of what the stamp says. Only the header is read.
    pub(crate) fn open(file: M, expected: &Stamp) -> Result<Self, IndexDamage> {
        let header = Header::parse(&file, Content::Run, expected)?;
        Ok(Self { file, checked: Checked::new(header) })
    }

    /// The bytes of its file.
    pub(crate) fn file(&self) -> &M {
        &self.file
    }

    /// How many events the run has; every ordinal is below.
    pub(crate) fn events(&self) -> u32 {
        self.header().events
    }

    /// The position of the run's first event.
    pub(crate) fn first_position(&self) -> u64 {
        self.header().stamp.first_position
    }

    /// How many terms have an event here, those of a kind that share a hash counted as one.
    pub(crate) fn terms(&self) -> u32 {
        self.header().terms
    }

    /// How many postings the terms have.
    pub(crate) fn postings(&self) -> u64 {
        self.header().postings
    }

    /// How many streams began here.
    pub(crate) fn streams_created(&self) -> u64 {
        self.header().streams_created
    }

    /// Has the processor fetch what [`TermRun::may_contain`] looks at.
    #[inline]
    pub(crate) fn near(&self, hash: TermHash) {
        let number = filter::block_of(hash, filter::blocks_for(self.header().terms));
        self.view().near(Section::Filter, number * FILTER_BLOCK_BYTES);
    }

    /// Whether there may be a term of this hash; if not, no event has one.
    pub(crate) fn may_contain(&self, hash: TermHash) -> Result<bool, IndexDamage> {
        self.view().may_contain(hash)
    }

    /// The postings of the terms of this kind that have this hash.
    pub(crate) fn find(
        &self,
        hash: TermHash,
        kind: TermKind,
    ) -> Result<Option<SealedPostings<'_>>, IndexDamage> {
        let view = self.view();
        if !view.may_contain(hash)? {
            return Ok(None);
        }
        let run = view.bucket(bucket_of(hash, view.buckets()))?;
        let wanted = (hash, kind.code());
        let (mut low, mut high) = (run.start, run.end);
        while low < high {
            let middle = low.midpoint(high);
            let entry = view.entry(middle)?;
            match entry.order().cmp(&wanted) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return SealedPostings::new(view, entry).map(Some),
                Ordering::Greater => high = middle,
            }
        }
        Ok(None)
    }

    /// Whether this id is among those that the run can have, by its least and its greatest one.
    #[inline]
    pub(crate) fn may_have_id(&self, id: &[u8; 16]) -> bool {
        let header = self.header();
        header.least_id <= *id && *id <= header.greatest_id
    }

    /// The ordinals of the events that may have this id, increasing: nearly always one or none. Nothing
    /// but the header is looked at where the id is not among those that the run can have.
    pub(crate) fn find_id(
        &self,
        id: [u8; 16],
    ) -> Result<impl DoubleEndedIterator<Item = Result<u32, IndexDamage>> + '_, IndexDamage> {
        let (view, header) = (self.view(), self.header());
        let key = id_key(Term::id(&id).xxh3_64());
        let ids = if self.may_have_id(&id) {
            view.id_bucket(id_bucket_of(key, view.id_buckets()))?
        } else {
            &[]
        };
        let from = ids.partition_point(|bytes| IdEntry::from_bytes(*bytes).key < key);
        let ids = &ids[from..];
        let upto = ids.partition_point(|bytes| IdEntry::from_bytes(*bytes).key <= key);
        let events = header.events;
        let found = ids[..upto].iter();
        Ok(found.map(move |bytes| IdEntry::from_bytes(*bytes).ordinal_below(events)))
    }

    /// All terms with the number of their kind, in the order of hash and kind.
    pub(crate) fn all_terms(
        &self,
    ) -> impl Iterator<Item = Result<(TermHash, u8, SealedPostings<'_>), IndexDamage>> {
        let view = self.view();
        (0..self.terms()).map(move |number| {
            let entry = view.entry(number)?;
            Ok((entry.hash, entry.kind_code, SealedPostings::new(view, entry)?))
        })
    }

    /// How many pages of the file were touched for the first time.
    #[inline]
    pub(crate) fn touched(&self) -> u32 {
        self.checked.touched()
    }

    /// Checks every page and everything that the file says of itself.
    pub(crate) fn verify_all(&self) -> Result<(), IndexDamage> {
        self.view().verify_run()
    }

    pub(super) fn header(&self) -> &Header {
        &self.checked.header
    }

    /// All ids, in their order.
    pub(super) fn all_ids(&self) -> impl Iterator<Item = Result<IdEntry, IndexDamage>> {
        let view = self.view();
        (0..self.events()).map(move |number| view.id(number))
    }

    fn view(&self) -> View<'_> {
        View { file: &self.file, checked: &self.checked }
    }
}

impl<'a> View<'a> {
    pub(super) fn may_contain(&self, hash: TermHash) -> Result<bool, IndexDamage> {
        let number = filter::block_of(hash, filter::blocks_for(self.header().terms));
        let bytes = self.read(Section::Filter, number * FILTER_BLOCK_BYTES, FILTER_BLOCK_BYTES)?;
        let block = FilterBlock::from_bytes(bytes)
            .ok_or_else(|| structure("block of the filter", number as u64))?;
        Ok(block.may_contain(hash))
    }

    pub(super) fn buckets(&self) -> usize {
        buckets_for(self.header().terms)
    }

    /// The numbers of a bucket's entries.
    pub(super) fn bucket(&self, bucket: usize) -> Result<Range<u32>, IndexDamage> {
        self.bucket_in(Section::Buckets, bucket, self.header().terms)
    }

    pub(super) fn entry(&self, number: u32) -> Result<Entry, IndexDamage> {
        let bytes = self.read(Section::Dictionary, number as usize * ENTRY_BYTES, ENTRY_BYTES)?;
        Entry::from_bytes(bytes).ok_or_else(|| structure("dictionary entry", number))
    }

    pub(super) fn id_buckets(&self) -> usize {
        id_buckets_for(self.header().events)
    }

    /// The numbers of the ids in a bucket.
    pub(super) fn id_bucket_range(&self, bucket: usize) -> Result<Range<u32>, IndexDamage> {
        self.bucket_in(Section::IdBuckets, bucket, self.header().events)
    }

    /// The ids in a bucket.
    fn id_bucket(&self, bucket: usize) -> Result<&'a [[u8; ID_BYTES]], IndexDamage> {
        let ids = self.id_bucket_range(bucket)?;
        let (at, bytes) = (ids.start as usize * ID_BYTES, ids.len() * ID_BYTES);
        let (ids, _) = self.read(Section::Ids, at, bytes)?.as_chunks();
        Ok(ids)
    }

    /// An id by its number, with an ordinal that can be.
    pub(super) fn id(&self, number: u32) -> Result<IdEntry, IndexDamage> {
        let bytes = self.read(Section::Ids, number as usize * ID_BYTES, ID_BYTES)?;
        let bytes = bytes.first_chunk().ok_or_else(|| structure("id", number))?;
        let entry = IdEntry::from_bytes(*bytes);
        entry.ordinal_below(self.header().events).map(|_| entry)
    }

    fn bucket_in(
        &self,
        section: Section,
        bucket: usize,
        entries: u32,
    ) -> Result<Range<u32>, IndexDamage> {
        let start = self.word(section, bucket)?;
        let end = self.word(section, bucket + 1)?;
        if start <= end && end <= entries {
            Ok(start..end)
        } else {
            Err(structure(section.name(), bucket as u64))
        }
    }
}

impl IdEntry {
    fn ordinal_below(self, events: u32) -> Result<u32, IndexDamage> {
        if self.ordinal < events {
            Ok(self.ordinal)
        } else {
            Err(structure("ordinal of an id", self.ordinal))
        }
    }
}
