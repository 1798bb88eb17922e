//! Writing a run, term after term.
//!
//! Owns the order in which the sections of a run are filled: buckets, filter, dictionary and postings
//! grow side by side as terms are given in the dictionary's order, then the ids. It calls `write`,
//! `postings` and `filter`; `build` feeds it out of a live index, `merge` out of other runs, so that
//! both give the same bytes for the same terms.

use super::super::damage::IndexDamage;
use super::super::term::TermHash;
use super::filter::{self, FilterBlock};
use super::layout::{BLOCK_POSTINGS, Content, Header, PAGE_BYTES, Section, Stamp, run_lengths};
use super::postings::{skips, write_block};
use super::records::{
    COUNT_MAX, Entry, IdEntry, bucket_of, buckets_for, id_bucket_of, id_buckets_for,
};
use super::write::{FileWriter, SectionWriter};

/// Why a run was not written to its end.
#[derive(Debug)]
pub(super) enum WriteError<D, E> {
    /// The terms or ids cannot be had.
    Source(D),
    /// A section has more bytes than a place of 32 bits can say.
    TooLarge,
    Sink(E),
}

/// Damage to one of the runs that are read, by its number.
#[derive(Debug)]
pub(super) struct SourceDamage {
    pub(super) input: usize,
    pub(super) damage: IndexDamage,
}

/// What a run has that does not follow from its terms and ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    pub(super) streams_created: u64,
    pub(super) least_id: [u8; 16],
    pub(super) greatest_id: [u8; 16],
}

/// A run in the making.
pub(super) struct RunWriter<'s, F> {
    file: FileWriter<'s, F>,
    header: Header,
    buckets: BucketsWriter,
    filter: SectionWriter,
    /// The block of the filter that is being filled, and its number.
    filter_block: FilterBlock,
    filter_block_number: usize,
    dictionary: SectionWriter,
    terms: u32,
    id_buckets: BucketsWriter,
    ids: SectionWriter,
    ids_added: u32,
    postings: SectionWriter,
    encoded: Vec<u8>,
}

/// A list of at most so many postings is encoded in memory and written then; a longer one is encoded twice, since its
/// skip points come first and follow from its blocks.
// Tests have both.
const WHOLE_POSTINGS_MAX: u32 = if cfg!(test) { 4096 } else { 1 << 20 };

impl<'s, F, E> RunWriter<'s, F>
where
    F: FnMut(u64, &[u8]) -> Result<(), E>,
{
    /// A run of so many terms; `None` where a section would be too large.
    pub(super) fn new(stamp: &Stamp, terms: u64, sink: &'s mut F) -> Option<Self> {
        let events = u32::try_from(stamp.events).ok()?;
        let mut header = Header::new(Content::Run, *stamp, events);
        header.terms = u32::try_from(terms).ok()?;
        let mut next = PAGE_BYTES;
        for (section, bytes) in run_lengths(header.terms, events) {
            // In 32 bits each, and so in 64 together.
            let bytes = u32::try_from(bytes).ok()? as usize;
            header.sections[section as usize] = next..next + bytes;
            next = (next + bytes).next_multiple_of(PAGE_BYTES);
        }
        let section = |section| SectionWriter::new(header.section(section).start);
        let buckets = |at, buckets| BucketsWriter { section: section(at), buckets, next: 0 };
        Some(Self {
            file: FileWriter::new(Content::Run, stamp, sink),
            buckets: buckets(Section::Buckets, buckets_for(header.terms)),
            filter: section(Section::Filter),
            filter_block: FilterBlock::default(),
            filter_block_number: 0,
            dictionary: section(Section::Dictionary),
            terms: 0,
            id_buckets: buckets(Section::IdBuckets, id_buckets_for(events)),
            ids: section(Section::Ids),
            ids_added: 0,
            postings: SectionWriter::new(next),
            encoded: Vec::new(),
            header,
        })
    }

    /// Adds the next term in the order of the dictionary, with its `count` increasing ordinals, which
    /// are asked for twice where they are many.
    pub(super) fn term<D, I>(
        &mut self,
        hash: TermHash,
        kind_code: u8,
        count: u32,
        ordinals: impl Fn() -> I,
    ) -> Result<(), WriteError<D, E>>
    where
        I: Iterator<Item = Result<u32, D>>,
    {
        let buckets = self.buckets.buckets;
        self.buckets
            .reach(bucket_of(hash, buckets), self.terms, &mut self.file)
            .map_err(WriteError::Sink)?;
        let blocks = filter::blocks_for(self.header.terms);
        self.reach_filter_block(filter::block_of(hash, blocks)).map_err(WriteError::Sink)?;
        self.filter_block.insert(hash);
        let place = if count == 1 {
            ordinals().next().transpose().map_err(WriteError::Source)?.unwrap_or(0)
        } else {
            self.list(count, ordinals)?
        };
        let entry = Entry { hash, count, kind_code, place };
        self.dictionary.add(&entry.to_bytes(), &mut self.file).map_err(WriteError::Sink)?;
        self.terms += 1;
        self.header.postings += u64::from(count);
        Ok(())
    }

    /// Adds the next id, in the order of ids.
    pub(super) fn id(&mut self, id: IdEntry) -> Result<(), E> {
        let bucket = id_bucket_of(id.key, self.id_buckets.buckets);
        self.id_buckets.reach(bucket, self.ids_added, &mut self.file)?;
        self.ids_added += 1;
        self.ids.add(&id.to_bytes(), &mut self.file)
    }

    /// Writes what is left. Gives the file's length.
    ///
    /// # Panics
    ///
    /// Panics when other numbers of terms and ids were given than promised.
    pub(super) fn finish(mut self, figures: &Figures) -> Result<u64, E> {
        let Header { terms, events, .. } = self.header;
        let given = (self.terms, self.ids_added);
        assert!(given == (terms, events), "{given:?} of {terms} terms and {events} ids");
        self.reach_filter_block(filter::blocks_for(terms))?;
        self.buckets.finish(terms, &mut self.file)?;
        self.filter.finish(&mut self.file)?;
        self.dictionary.finish(&mut self.file)?;
        self.id_buckets.finish(events, &mut self.file)?;
        self.ids.finish(&mut self.file)?;
        let postings = self.postings.finish(&mut self.file)?;
        self.header.sections[Section::Postings as usize] = postings;
        self.header.streams_created = figures.streams_created;
        self.header.least_id = figures.least_id;
        self.header.greatest_id = figures.greatest_id;
        self.file.finish(self.header)
    }

    /// Writes the blocks of the filter before this one, which no further hash has.
    fn reach_filter_block(&mut self, block: usize) -> Result<(), E> {
        while self.filter_block_number < block {
            let full = std::mem::take(&mut self.filter_block);
            self.filter.add(&full.to_bytes(), &mut self.file)?;
            self.filter_block_number += 1;
        }
        Ok(())
    }

    /// Writes a list of two or more postings and gives where it begins.
    fn list<D, I>(&mut self, count: u32, ordinals: impl Fn() -> I) -> Result<u32, WriteError<D, E>>
    where
        I: Iterator<Item = Result<u32, D>>,
    {
        let place = u32::try_from(self.postings.len()).map_err(|_| WriteError::TooLarge)?;
        if count >= COUNT_MAX {
            self.add_postings(&count.to_le_bytes())?;
        }
        if skips(count) > 0 && count <= WHOLE_POSTINGS_MAX {
            let (mut skips, mut blocks) = (Vec::new(), Vec::new());
            for_each_block(ordinals(), |number, block| {
                if number > 0 {
                    let begins = u32::try_from(blocks.len()).map_err(|_| WriteError::TooLarge)?;
                    skips.extend_from_slice(&block[0].to_le_bytes());
                    skips.extend_from_slice(&begins.to_le_bytes());
                }
                write_block(&mut blocks, block, number == 0);
                Ok(())
            })?;
            self.add_postings(&skips)?;
            self.add_postings(&blocks)?;
            u32::try_from(self.postings.len()).map_err(|_| WriteError::TooLarge)?;
            return Ok(place);
        }
        if skips(count) > 0 {
            // What stands before the blocks follows from their lengths.
            let mut bytes = 0_u64;
            for_each_block(ordinals(), |number, block| {
                if number > 0 {
                    let begins = u32::try_from(bytes).map_err(|_| WriteError::TooLarge)?;
                    self.add_postings(&block[0].to_le_bytes())?;
                    self.add_postings(&begins.to_le_bytes())?;
                }
                self.encoded.clear();
                write_block(&mut self.encoded, block, number == 0);
                bytes += self.encoded.len() as u64;
                Ok(())
            })?;
        }
        for_each_block(ordinals(), |number, block| {
            self.encoded.clear();
            write_block(&mut self.encoded, block, number == 0);
            self.postings.add(&self.encoded, &mut self.file).map_err(WriteError::Sink)
        })?;
        u32::try_from(self.postings.len()).map_err(|_| WriteError::TooLarge)?;
        Ok(place)
    }

    fn add_postings<D>(&mut self, bytes: &[u8]) -> Result<(), WriteError<D, E>> {
        self.postings.add(bytes, &mut self.file).map_err(WriteError::Sink)
    }
}

/// Calls with each block of ordinals and its number; no block is empty.
fn for_each_block<D, E>(
    ordinals: impl Iterator<Item = Result<u32, D>>,
    mut each: impl FnMut(usize, &[u32]) -> Result<(), WriteError<D, E>>,
) -> Result<(), WriteError<D, E>> {
    let mut block = [0; BLOCK_POSTINGS];
    let (mut len, mut number) = (0, 0);
    for ordinal in ordinals {
        block[len] = ordinal.map_err(WriteError::Source)?;
        len += 1;
        if len == BLOCK_POSTINGS {
            each(number, &block)?;
            (len, number) = (0, number + 1);
        }
    }
    if len > 0 {
        each(number, &block[..len])?;
    }
    Ok(())
}

/// A section of buckets in the making.
struct BucketsWriter {
    section: SectionWriter,
    buckets: usize,
    /// The first one that is not written.
    next: usize,
}

impl BucketsWriter {
    /// Says for each bucket up to this one, if it does not say so yet, that it begins with this entry.
    fn reach<F, E>(
        &mut self,
        bucket: usize,
        entry: u32,
        file: &mut FileWriter<'_, F>,
    ) -> Result<(), E>
    where
        F: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        while self.next <= bucket {
            self.section.add(&entry.to_le_bytes(), file)?;
            self.next += 1;
        }
        Ok(())
    }

    /// Writes what is left, where there are so many entries.
    fn finish<F, E>(mut self, entries: u32, file: &mut FileWriter<'_, F>) -> Result<(), E>
    where
        F: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        self.reach(self.buckets, entries, file)?;
        self.section.finish(file)?;
        Ok(())
    }
}
