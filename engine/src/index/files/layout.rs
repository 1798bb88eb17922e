//! The sections and the header of both kinds of file.
//!
//! Owns the order of sections, and offsets, sizes and the parsing of the header, all little-endian. It
//! calls `records`, and `filter` for the filter's size; what writes and what reads goes by it.
//! `docs/index_files.md` has the same as tables.

use std::ops::Range;

use super::super::SEGMENT_EVENTS_MAX;
use super::super::damage::{IndexDamage, structure};
use super::filter;
use super::records::{
    ENTRY_BYTES, ID_BYTES, TYPE_HEAD_BYTES, TYPE_START_BYTES, array_at, buckets_for,
    id_buckets_for, put, u32_at, u64_at,
};
use crate::limits::{BLOCK, BLOCK_BYTES, NAME_BYTES_MAX, SEGMENT_TYPES_MAX};

/// The unit of checksums, and where sections begin.
pub(super) const PAGE_BYTES: usize = BLOCK_BYTES;
pub(super) const MAGIC: [u8; 8] = *b"STRATIDX";
pub(super) const VERSION: u32 = 2;

/// Bytes of an event's offset.
pub(super) const OFFSET_BYTES: usize = 4;
/// Bytes of a time: nanoseconds.
pub(super) const TIME_BYTES: usize = 8;
/// Of so many events one has its time in the table.
pub(crate) const TIMES_EVERY: u32 = 256;

/// Bytes of a bucket: the number of its first entry, or of its first id.
pub(super) const BUCKET_BYTES: usize = 4;
/// Bytes of a skip point: the ordinal at the start of a block, and where the block begins.
pub(super) const SKIP_BYTES: usize = 8;
/// Postings in a block.
pub(super) const BLOCK_POSTINGS: usize = 128;
/// Bytes of the count before a list that its entry cannot count.
pub(super) const COUNT_BYTES: usize = 4;

/// Bytes of a page's checksum.
pub(super) const CHECKSUM_BYTES: usize = 4;

const AT_VERSION: usize = 8;
const AT_CONTENT: usize = 12;
const AT_STAMP: usize = 16;
const STAMP_BYTES: usize = 72;
const AT_TYPES: usize = 88;
const AT_TERMS: usize = 92;
const AT_POSTINGS: usize = 96;
const AT_STREAMS_CREATED: usize = 104;
const AT_LEAST_ID: usize = 112;
const AT_GREATEST_ID: usize = 128;
const AT_SECTIONS: usize = 144;
const SECTION_BYTES: usize = 16;
/// As many as a file of any kind has.
const SECTIONS_LISTED: usize = Content::Run.sections().len();
const AT_CHECKSUM_TABLE: usize = AT_SECTIONS + SECTIONS_LISTED * SECTION_BYTES;
const AT_HEADER_CHECKSUM: usize = PAGE_BYTES - CHECKSUM_BYTES;

const _: () = {
    assert!(AT_STAMP + STAMP_BYTES == AT_TYPES);
    assert!(AT_CHECKSUM_TABLE + CHECKSUM_BYTES <= AT_HEADER_CHECKSUM);
    assert!(Content::Table.sections().len() <= SECTIONS_LISTED);
    assert!(NAME_BYTES_MAX <= u16::MAX as usize);
    // The sections of a table stay within 32 bits; those of a run are held to it as they are written.
    assert!(SEGMENT_EVENTS_MAX * (OFFSET_BYTES as u64) < u32::MAX as u64);
    assert!(
        (SEGMENT_TYPES_MAX * (TYPE_START_BYTES + TYPE_HEAD_BYTES + NAME_BYTES_MAX))
            < u32::MAX as usize
    );
};

/// What is in a file. The numbers are persisted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Content {
    /// The table of one segment.
    Table = 1,
    /// The terms of one segment or of several.
    Run = 2,
}

impl Content {
    /// The persisted number.
    pub(super) const fn code(self) -> u32 {
        self as u32
    }

    /// The sections behind the header, in the order of the file.
    pub(super) const fn sections(self) -> &'static [Section] {
        match self {
            Self::Table => &[Section::Offsets, Section::Times, Section::Types, Section::Checksums],
            Self::Run => &[
                Section::Buckets,
                Section::Filter,
                Section::Dictionary,
                Section::IdBuckets,
                Section::Ids,
                Section::Postings,
                Section::Checksums,
            ],
        }
    }
}

/// A part of a file, of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Offsets,
    Times,
    Types,
    Buckets,
    Filter,
    Dictionary,
    IdBuckets,
    Ids,
    Postings,
    Checksums,
}

/// How many sections there are in files of both kinds.
const SECTIONS: usize = Section::Checksums as usize + 1;

impl Section {
    const NAMES: [&str; SECTIONS] = [
        "section of offsets",
        "section of times",
        "section of event types",
        "section of buckets",
        "section of the filter",
        "section of the dictionary",
        "section of buckets of ids",
        "section of ids",
        "section of postings",
        "section of checksums",
    ];

    pub(super) const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// Where each section lies in a file, without its padding; those that it does not have are empty.
pub(super) type Sections = [Range<usize>; SECTIONS];

/// What an index file is an index of. A file whose stamp differs in anything is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) store_id: [u8; 16],
    /// The segments whose events are in the file, from the first one to the last.
    pub(crate) first_segment: u64,
    pub(crate) last_segment: u64,
    /// The salt of this life of the last segment's file.
    pub(crate) salt: u64,
    pub(crate) first_position: u64,
    pub(crate) events: u64,
    /// The chain of batches at the last segment's end: the hash of all that was written up to it.
    pub(crate) chain: [u8; 16],
}

impl Stamp {
    pub(super) fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        put(&mut bytes, 0, &self.store_id);
        put(&mut bytes, 16, &self.first_segment.to_le_bytes());
        put(&mut bytes, 24, &self.last_segment.to_le_bytes());
        put(&mut bytes, 32, &self.salt.to_le_bytes());
        put(&mut bytes, 40, &self.first_position.to_le_bytes());
        put(&mut bytes, 48, &self.events.to_le_bytes());
        put(&mut bytes, 56, &self.chain);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            store_id: array_at(bytes, 0)?,
            first_segment: u64_at(bytes, 16)?,
            last_segment: u64_at(bytes, 24)?,
            salt: u64_at(bytes, 32)?,
            first_position: u64_at(bytes, 40)?,
            events: u64_at(bytes, 48)?,
            chain: array_at(bytes, 56)?,
        })
    }

    fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            (self.store_id != other.store_id, "store id"),
            (self.first_segment != other.first_segment, "first segment"),
            (self.last_segment != other.last_segment, "last segment"),
            (self.salt != other.salt, "salt"),
            (self.first_position != other.first_position, "first position"),
            (self.events != other.events, "number of events"),
            (self.chain != other.chain, "chain"),
        ]
        .into_iter()
        .find_map(|(differs, field)| differs.then_some(field))
    }
}

/// The header, once it is believed: every range in it lies in the file. A table has no terms, postings,
/// streams and ids, a run has no types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) content: Content,
    pub(super) stamp: Stamp,
    /// The stamp's number of events, which fits.
    pub(super) events: u32,
    pub(super) types: u32,
    pub(super) terms: u32,
    pub(super) postings: u64,
    pub(super) streams_created: u64,
    /// Above the greatest one where there is no event.
    pub(super) least_id: [u8; 16],
    pub(super) greatest_id: [u8; 16],
    pub(super) sections: Sections,
    /// The checksum over the pages of checksums.
    pub(super) checksum_table: u32,
}

impl Header {
    /// The header of a file that has nothing in it yet.
    pub(super) fn new(content: Content, stamp: Stamp, events: u32) -> Self {
        Self {
            content,
            stamp,
            events,
            types: 0,
            terms: 0,
            postings: 0,
            streams_created: 0,
            least_id: [0xff; 16],
            greatest_id: [0; 16],
            sections: std::array::from_fn(|_| 0..0),
            checksum_table: 0,
        }
    }

    pub(super) fn section(&self, section: Section) -> Range<usize> {
        self.sections[section as usize].clone()
    }

    /// How many pages stand before the checksums, the header among them; as many are checksummed.
    pub(super) fn pages(&self) -> usize {
        self.section(Section::Checksums).start / PAGE_BYTES
    }

    pub(super) fn to_page(&self) -> [u8; PAGE_BYTES] {
        let mut page = [0; PAGE_BYTES];
        put(&mut page, 0, &MAGIC);
        put(&mut page, AT_VERSION, &VERSION.to_le_bytes());
        put(&mut page, AT_CONTENT, &self.content.code().to_le_bytes());
        put(&mut page, AT_STAMP, &self.stamp.to_bytes());
        put(&mut page, AT_TYPES, &self.types.to_le_bytes());
        put(&mut page, AT_TERMS, &self.terms.to_le_bytes());
        put(&mut page, AT_POSTINGS, &self.postings.to_le_bytes());
        put(&mut page, AT_STREAMS_CREATED, &self.streams_created.to_le_bytes());
        put(&mut page, AT_LEAST_ID, &self.least_id);
        put(&mut page, AT_GREATEST_ID, &self.greatest_id);
        for (number, section) in self.content.sections().iter().enumerate() {
            let range = self.section(*section);
            let at = AT_SECTIONS + number * SECTION_BYTES;
            put(&mut page, at, &(range.start as u64).to_le_bytes());
            put(&mut page, at + 8, &(range.len() as u64).to_le_bytes());
        }
        put(&mut page, AT_CHECKSUM_TABLE, &self.checksum_table.to_le_bytes());
        let checksum = crc32fast::hash(&page[..AT_HEADER_CHECKSUM]);
        put(&mut page, AT_HEADER_CHECKSUM, &checksum.to_le_bytes());
        page
    }

    /// The header of a file, if everything in it can be true of a file of this length.
    pub(super) fn parse(
        file: &[u8],
        content: Content,
        expected: &Stamp,
    ) -> Result<Self, IndexDamage> {
        let short = |expected| IndexDamage::Short { bytes: file.len() as u64, expected };
        let page: &[u8; PAGE_BYTES] = file.first_chunk().ok_or_else(|| short(BLOCK))?;
        if !page.starts_with(&MAGIC) {
            return Err(IndexDamage::Magic);
        }
        // The page is long enough for every field, so that what is missing is only ever a bug here.
        let field = || structure("header", 0_u32);
        let found = u32_at(page, AT_VERSION).ok_or_else(field)?;
        if found != VERSION {
            return Err(IndexDamage::Version { found, supported: VERSION });
        }
        let checksum = crc32fast::hash(&page[..AT_HEADER_CHECKSUM]);
        if u32_at(page, AT_HEADER_CHECKSUM) != Some(checksum) {
            return Err(IndexDamage::HeaderChecksum);
        }
        if u32_at(page, AT_CONTENT) != Some(content.code()) {
            return Err(IndexDamage::Foreign { field: "content" });
        }
        let stamp = Stamp::from_bytes(&page[AT_STAMP..AT_TYPES]).ok_or_else(field)?;
        if let Some(field) = stamp.difference(expected) {
            return Err(IndexDamage::Foreign { field });
        }
        let events =
            u32::try_from(stamp.events).map_err(|_| structure("number of events", stamp.events))?;
        let (sections, end) = parse_sections(page, content)?;
        if (file.len() as u64) < end {
            return Err(short(end));
        }
        if file.len() as u64 > end {
            return Err(structure("bytes behind the end", end));
        }
        let header = Self {
            content,
            stamp,
            events,
            types: u32_at(page, AT_TYPES).ok_or_else(field)?,
            terms: u32_at(page, AT_TERMS).ok_or_else(field)?,
            postings: u64_at(page, AT_POSTINGS).ok_or_else(field)?,
            streams_created: u64_at(page, AT_STREAMS_CREATED).ok_or_else(field)?,
            least_id: array_at(page, AT_LEAST_ID).ok_or_else(field)?,
            greatest_id: array_at(page, AT_GREATEST_ID).ok_or_else(field)?,
            sections,
            checksum_table: u32_at(page, AT_CHECKSUM_TABLE).ok_or_else(field)?,
        };
        header.check_lengths()?;
        Ok(header)
    }

    /// The lengths that follow from the counts.
    fn check_lengths(&self) -> Result<(), IndexDamage> {
        let is = |section: Section, bytes: Option<usize>| {
            let found = self.section(section).len();
            if bytes == Some(found) { Ok(()) } else { Err(structure(section.name(), found as u64)) }
        };
        is(Section::Checksums, self.pages().checked_mul(CHECKSUM_BYTES))?;
        match self.content {
            Content::Table => {
                let times = self.events.div_ceil(TIMES_EVERY) as usize;
                is(Section::Offsets, (self.events as usize).checked_mul(OFFSET_BYTES))?;
                is(Section::Times, times.checked_mul(TIME_BYTES))?;
                let types = self.section(Section::Types).len();
                if self.types as usize > types / (TYPE_START_BYTES + TYPE_HEAD_BYTES) {
                    return Err(structure("number of event types", self.types));
                }
                Ok(())
            }
            Content::Run => run_lengths(self.terms, self.events)
                .into_iter()
                .try_for_each(|(section, bytes)| is(section, usize::try_from(bytes).ok())),
        }
    }
}

/// The bytes of those sections of a run that follow from how many terms and events it has: all but the
/// last two, in the order of the file.
pub(super) fn run_lengths(terms: u32, events: u32) -> [(Section, u64); 5] {
    // One number more than there are buckets, so that the last one ends like all others.
    let buckets = |count: usize| (count as u64 + 1) * BUCKET_BYTES as u64;
    let filter = filter::blocks_for(terms) as u64 * filter::FILTER_BLOCK_BYTES as u64;
    [
        (Section::Buckets, buckets(buckets_for(terms))),
        (Section::Filter, filter),
        (Section::Dictionary, u64::from(terms) * ENTRY_BYTES as u64),
        (Section::IdBuckets, buckets(id_buckets_for(events))),
        (Section::Ids, u64::from(events) * ID_BYTES as u64),
    ]
}

/// The sections, dense but for the padding to whole pages, and where the file ends.
fn parse_sections(page: &[u8], content: Content) -> Result<(Sections, u64), IndexDamage> {
    let mut sections: Sections = std::array::from_fn(|_| 0..0);
    let mut next = BLOCK;
    for (number, section) in content.sections().iter().enumerate() {
        let wrong = || structure(section.name(), number as u64);
        let at = AT_SECTIONS + number * SECTION_BYTES;
        let start = u64_at(page, at).filter(|start| *start == next).ok_or_else(wrong)?;
        let bytes = u64_at(page, at + 8).ok_or_else(wrong)?;
        let end = start.checked_add(bytes).ok_or_else(wrong)?;
        next = end.checked_next_multiple_of(BLOCK).ok_or_else(wrong)?;
        // Places within a section are 32 bits wide.
        u32::try_from(bytes).map_err(|_| wrong())?;
        sections[*section as usize] = usize::try_from(start).map_err(|_| wrong())?
            ..usize::try_from(end).map_err(|_| wrong())?;
    }
    Ok((sections, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_fields_are_where_the_code_has_them() {
        let page = include_str!("../../../../docs/index_files.md");
        let header = [
            (0, MAGIC.len(), "magic"),
            (AT_VERSION, 4, "format version"),
            (AT_CONTENT, 4, "content"),
            (AT_STAMP, 16, "store id"),
            (AT_STAMP + 16, 8, "first segment"),
            (AT_STAMP + 24, 8, "last segment"),
            (AT_STAMP + 32, 8, "salt"),
            (AT_STAMP + 40, 8, "first position"),
            (AT_STAMP + 48, 8, "number of events"),
            (AT_STAMP + 56, 16, "chain"),
            (AT_TYPES, 4, "number of event types"),
            (AT_TERMS, 4, "number of terms"),
            (AT_POSTINGS, 8, "number of postings"),
            (AT_STREAMS_CREATED, 8, "streams created"),
            (AT_LEAST_ID, 16, "least event id"),
            (AT_GREATEST_ID, 16, "greatest event id"),
            (AT_SECTIONS, SECTIONS_LISTED * SECTION_BYTES, "sections"),
            (AT_CHECKSUM_TABLE, CHECKSUM_BYTES, "CRC of the checksums"),
            (AT_HEADER_CHECKSUM, CHECKSUM_BYTES, "CRC of the header"),
        ];
        for (offset, size, field) in header {
            let row = format!("| {offset} | {size} | {field}");
            assert!(page.contains(&row), "docs/index_files.md has no row {row:?}");
        }
        let entry = [(0, 8, "hash"), (8, 3, "count"), (11, 1, "kind"), (12, 4, "place")];
        let id = [(0, 4, "key"), (4, 4, "ordinal")];
        let event_type = [
            (0, 4, "schema version"),
            (4, 16, "layout fingerprint"),
            (20, 2, "length of the name"),
        ];
        let records =
            [(&entry[..], ENTRY_BYTES), (&id[..], ID_BYTES), (&event_type[..], TYPE_HEAD_BYTES)];
        for (fields, bytes) in records {
            let mut end = 0;
            for (offset, size, field) in fields {
                assert_eq!(*offset, end, "{field}");
                end += size;
                let row = format!("| {offset} | {size} | {field}");
                assert!(page.contains(&row), "docs/index_files.md has no row {row:?}");
            }
            assert_eq!(end, bytes);
        }
        let codes = [(Content::Table.code(), "table"), (Content::Run.code(), "run")];
        for (code, name) in codes {
            assert!(page.contains(&format!("{code} for a {name}")), "{name}");
        }
    }

    #[test]
    fn the_documented_sections_are_in_the_order_of_the_code() {
        let page = include_str!("../../../../docs/index_files.md");
        for content in [Content::Table, Content::Run] {
            let mut rest = page;
            for section in content.sections() {
                let name = section.name().trim_start_matches("section of ");
                let row = format!("\n| {} |", name.trim_start_matches("the "));
                let at = rest.find(&row);
                assert!(at.is_some(), "docs/index_files.md has no row {row:?} in its place");
                rest = &rest[at.unwrap() + 1..];
            }
        }
    }
}
