//! The sealed index: one segment's index file, opened without parsing.
//!
//! Owns look-ups in the file's bytes, which are usually a memory mapping. Opening believes the header
//! and nothing else; every other byte is checked when it is first touched (see `pages`). It calls
//! `pages` and `postings`. Readers, the append path's look-ups of cold streams, and `verify` call it.
//!
//! The dictionary keeps hashes, not names. A look-up therefore gives *candidates*, nearly always none
//! or one, and the caller compares the term with the one in the frame of the candidate's first posting.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::{Deref, Range};

use super::damage::{IndexDamage, structure};
use super::layout::{
    BUCKET_BYTES, ENTRY_BYTES, Entry, EventType, Header, OFFSET_BYTES, Section, Stamp,
    TYPE_HEAD_BYTES, TYPE_START_BYTES, array_at, bucket_of,
};
use super::pages::{Checked, View};
use super::postings::SealedPostings;
use super::term::{TermHash, TermKind};

/// The index of one sealed segment over the bytes of its file.
pub(crate) struct SealedIndex<M> {
    file: M,
    checked: Checked,
}

impl<M> fmt::Debug for SealedIndex<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedIndex").finish_non_exhaustive()
    }
}

impl<M: Deref<Target = [u8]> + Send + Sync> SealedIndex<M> {
    /// Opens a file that must be the index of what the stamp says. Only the header is read.
    pub(crate) fn open(file: M, expected: &Stamp) -> Result<Self, IndexDamage> {
        let header = Header::parse(&file, expected)?;
        Ok(Self { file, checked: Checked::new(header) })
    }

    /// The bytes of its file.
    pub(crate) fn file(&self) -> &M {
        &self.file
    }

    /// How many events the segment has.
    pub(crate) fn events(&self) -> u32 {
        self.checked.header.events
    }

    /// The position of the segment's first event.
    #[cfg(test)]
    pub(crate) fn first_position(&self) -> u64 {
        self.checked.header.stamp.first_position
    }

    /// How many streams began in this segment.
    pub(crate) fn streams_created(&self) -> u64 {
        self.checked.header.streams_created
    }

    /// How many terms have an event in this segment.
    #[cfg(test)]
    pub(crate) fn terms(&self) -> u32 {
        self.checked.header.terms
    }

    /// Where an event's frame begins in the segment's file, in units of
    /// [`RECORD_ALIGN`](crate::limits::RECORD_ALIGN).
    pub(crate) fn offset(&self, ordinal: u32) -> Result<Option<u32>, IndexDamage> {
        if ordinal >= self.events() {
            return Ok(None);
        }
        self.view().word(Section::Offsets, ordinal as usize).map(Some)
    }

    /// The offsets of a range of events, as far as they exist. All pages of the range are checked
    /// beforehand, so that walking it cannot fail: ask for about as much as is read at once.
    pub(crate) fn offsets(
        &self,
        ordinals: Range<u32>,
    ) -> Result<impl DoubleEndedIterator<Item = u32> + ExactSizeIterator + '_, IndexDamage> {
        let end = ordinals.end.min(self.events());
        let start = ordinals.start.min(end) as usize;
        let bytes = (end as usize - start) * OFFSET_BYTES;
        let table = self.view().read(Section::Offsets, start * OFFSET_BYTES, bytes)?;
        let (offsets, _) = table.as_chunks::<OFFSET_BYTES>();
        Ok(offsets.iter().map(|offset| u32::from_le_bytes(*offset)))
    }

    /// The terms of this kind that have this hash.
    pub(crate) fn lookup(
        &self,
        hash: TermHash,
        kind: TermKind,
    ) -> Result<Candidates<'_>, IndexDamage> {
        let view = self.view();
        let run = view.bucket(bucket_of(hash, view.buckets()))?;
        let (mut low, mut high) = (run.start, run.end);
        while low < high {
            let middle = low.midpoint(high);
            if view.entry(middle)?.hash < hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(Candidates { view, hash, kind, entries: low..run.end })
    }

    /// All terms, in the order of their hashes.
    #[cfg(test)]
    pub(crate) fn stream_terms(
        &self,
    ) -> impl Iterator<Item = Result<SealedPostings<'_>, IndexDamage>> {
        let view = self.view();
        (0..self.terms()).map(move |number| SealedPostings::new(view, view.entry(number)?))
    }

    /// How many event types the segment has.
    pub(crate) fn event_types(&self) -> u32 {
        self.checked.header.types
    }

    /// The event type with this number.
    #[cfg(test)]
    pub(crate) fn event_type(&self, type_ref: u32) -> Result<Option<EventType<'_>>, IndexDamage> {
        if type_ref >= self.event_types() {
            return Ok(None);
        }
        self.view().event_type(type_ref).map(Some)
    }

    /// All event types, in the order of their numbers.
    pub(crate) fn types(&self) -> impl Iterator<Item = Result<EventType<'_>, IndexDamage>> {
        let view = self.view();
        (0..self.event_types()).map(move |type_ref| view.event_type(type_ref))
    }

    /// Checks every page and everything that the file says of itself.
    pub(crate) fn verify_all(&self) -> Result<(), IndexDamage> {
        self.view().verify()
    }

    fn view(&self) -> View<'_> {
        View { file: &self.file, checked: &self.checked }
    }
}

impl<'a> View<'a> {
    pub(super) fn buckets(&self) -> usize {
        // The header was refused unless there is one number more than buckets.
        (self.header().section(Section::Buckets).len() / BUCKET_BYTES).saturating_sub(1)
    }

    /// The numbers of a bucket's entries.
    pub(super) fn bucket(&self, bucket: usize) -> Result<Range<u32>, IndexDamage> {
        let start = self.word(Section::Buckets, bucket)?;
        let end = self.word(Section::Buckets, bucket + 1)?;
        if start <= end && end <= self.header().terms {
            Ok(start..end)
        } else {
            Err(structure("bucket", bucket as u64))
        }
    }

    pub(super) fn entry(&self, number: u32) -> Result<Entry, IndexDamage> {
        let bytes = self.read(Section::Dictionary, number as usize * ENTRY_BYTES, ENTRY_BYTES)?;
        Entry::from_bytes(bytes).ok_or_else(|| structure("dictionary entry", number))
    }

    /// Where a type's record begins in its section.
    pub(super) fn type_start(&self, type_ref: u32) -> Result<u32, IndexDamage> {
        self.word(Section::Types, type_ref as usize)
    }

    pub(super) fn event_type(&self, type_ref: u32) -> Result<EventType<'a>, IndexDamage> {
        let wrong = || structure("event type", type_ref);
        let start = self.type_start(type_ref)? as usize;
        if start < self.header().types as usize * TYPE_START_BYTES {
            return Err(wrong());
        }
        let head = self.read(Section::Types, start, TYPE_HEAD_BYTES)?;
        let name_bytes = array_at(head, TYPE_HEAD_BYTES - 2).map(u16::from_le_bytes);
        let bytes = TYPE_HEAD_BYTES + usize::from(name_bytes.ok_or_else(wrong)?);
        EventType::parse(self.read(Section::Types, start, bytes)?).ok_or_else(wrong)
    }
}

/// The terms that a look-up found; compare each one's name in the frame of its first posting.
pub(crate) struct Candidates<'a> {
    view: View<'a>,
    hash: TermHash,
    kind: TermKind,
    /// From the first entry that has the hash to the end of the bucket.
    entries: Range<u32>,
}

impl<'a> Iterator for Candidates<'a> {
    type Item = Result<SealedPostings<'a>, IndexDamage>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(number) = self.entries.next() {
            let entry = match self.view.entry(number) {
                Ok(entry) => entry,
                Err(damage) => {
                    self.entries.end = self.entries.start;
                    return Some(Err(damage));
                }
            };
            if entry.hash != self.hash {
                self.entries.end = self.entries.start;
            } else if entry.kind_code == self.kind.code() {
                return Some(SealedPostings::new(self.view, entry));
            }
        }
        None
    }
}

impl FusedIterator for Candidates<'_> {}
