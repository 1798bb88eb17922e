//! The fields of a sealed index file.
//!
//! Owns offsets, sizes and the parsing of the header, of dictionary entries and of event types, all
//! little-endian. It calls nothing; `build` writes by it and `sealed` reads by it. `docs/index.md` has
//! the same as tables.

use std::ops::Range;

use super::damage::{IndexDamage, structure};
use super::term::TermHash;
use super::{SEGMENT_EVENTS_MAX, postings_max};
use crate::limits::{BLOCK, BLOCK_BYTES, NAME_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_TYPES_MAX};

/// The unit of checksums, and where sections begin.
pub(super) const PAGE_BYTES: usize = BLOCK_BYTES;
pub(super) const MAGIC: [u8; 8] = *b"STRATIDX";
pub(super) const VERSION: u32 = 1;

/// Bytes of an event's offset, in the first section.
pub(super) const OFFSET_BYTES: usize = 4;
/// Bytes of a bucket: the number of its first dictionary entry.
pub(super) const BUCKET_BYTES: usize = 4;
/// Bytes of a dictionary entry.
pub(super) const ENTRY_BYTES: usize = 24;
/// Bytes of a skip point: an ordinal, and where the gaps after it begin.
pub(super) const SKIP_BYTES: usize = 8;
/// Postings from one skip point to the next.
pub(super) const POSTINGS_PER_SKIP: u32 = 128;
/// The most bytes of a gap between two ordinals.
pub(super) const GAP_BYTES_MAX: usize = 5;
/// Bytes of an event type before its name, and of where it begins.
pub(super) const TYPE_HEAD_BYTES: usize = 22;
pub(super) const TYPE_START_BYTES: usize = 4;
/// Bytes of a page's checksum.
pub(super) const CHECKSUM_BYTES: usize = 4;

const AT_VERSION: usize = 8;
const AT_STAMP: usize = 16;
const STAMP_BYTES: usize = 64;
const AT_TERMS: usize = 80;
const AT_TYPES: usize = 84;
const AT_STREAMS_CREATED: usize = 88;
const AT_POSTINGS: usize = 96;
const AT_SECTIONS: usize = 104;
const SECTION_BYTES: usize = 16;
const AT_CHECKSUM_TABLE: usize = AT_SECTIONS + SECTIONS * SECTION_BYTES;
const AT_HEADER_CHECKSUM: usize = PAGE_BYTES - CHECKSUM_BYTES;

const _: () = {
    assert!(AT_STAMP + STAMP_BYTES == AT_TERMS);
    assert!(AT_CHECKSUM_TABLE + CHECKSUM_BYTES <= AT_HEADER_CHECKSUM);
    // A count of postings leaves a byte of its word for the kind of the term.
    assert!(SEGMENT_EVENTS_MAX < COUNT_END as u64);
    assert!(NAME_BYTES_MAX <= u16::MAX as usize);
    // The longest sections stay within the 32 bits of a place in them.
    assert!(postings_max(SEGMENT_BYTES_MAX) * (GAP_BYTES_MAX as u64 + 1) < u32::MAX as u64);
    assert!(postings_max(SEGMENT_BYTES_MAX) * (ENTRY_BYTES as u64) < u32::MAX as u64);
    assert!(
        (SEGMENT_TYPES_MAX * (TYPE_START_BYTES + TYPE_HEAD_BYTES + NAME_BYTES_MAX))
            < u32::MAX as usize
    );
};

/// What an index file is an index of. A file whose stamp differs in anything is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) store_id: [u8; 16],
    pub(crate) segment: u64,
    /// The salt of this life of the segment's file.
    pub(crate) salt: u64,
    pub(crate) first_position: u64,
    pub(crate) events: u64,
    /// The chain of batches at the segment's end: the hash of all that was written up to it.
    pub(crate) chain: [u8; 16],
}

impl Stamp {
    pub(super) fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        put(&mut bytes, 0, &self.store_id);
        put(&mut bytes, 16, &self.segment.to_le_bytes());
        put(&mut bytes, 24, &self.salt.to_le_bytes());
        put(&mut bytes, 32, &self.first_position.to_le_bytes());
        put(&mut bytes, 40, &self.events.to_le_bytes());
        put(&mut bytes, 48, &self.chain);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            store_id: array_at(bytes, 0)?,
            segment: u64_at(bytes, 16)?,
            salt: u64_at(bytes, 24)?,
            first_position: u64_at(bytes, 32)?,
            events: u64_at(bytes, 40)?,
            chain: array_at(bytes, 48)?,
        })
    }

    fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            (self.store_id != other.store_id, "store id"),
            (self.segment != other.segment, "segment number"),
            (self.salt != other.salt, "salt"),
            (self.first_position != other.first_position, "first position"),
            (self.events != other.events, "number of events"),
            (self.chain != other.chain, "chain"),
        ]
        .into_iter()
        .find_map(|(differs, field)| differs.then_some(field))
    }
}

/// The sections behind the header, in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Offsets,
    Buckets,
    Dictionary,
    Postings,
    Types,
    Checksums,
}

/// How many sections there are.
pub(super) const SECTIONS: usize = Section::Checksums as usize + 1;

impl Section {
    const NAMES: [&str; SECTIONS] = [
        "section of offsets",
        "section of buckets",
        "section of the dictionary",
        "section of postings",
        "section of event types",
        "section of checksums",
    ];

    pub(super) const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// The header, once it is believed: every range in it lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) stamp: Stamp,
    /// The stamp's number of events, which fits.
    pub(super) events: u32,
    pub(super) terms: u32,
    pub(super) types: u32,
    pub(super) streams_created: u64,
    pub(super) postings: u64,
    /// Where each section lies in the file, without its padding.
    pub(super) sections: [Range<usize>; SECTIONS],
    /// The checksum over the pages of checksums.
    pub(super) checksum_table: u32,
}

impl Header {
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
        put(&mut page, AT_STAMP, &self.stamp.to_bytes());
        put(&mut page, AT_TERMS, &self.terms.to_le_bytes());
        put(&mut page, AT_TYPES, &self.types.to_le_bytes());
        put(&mut page, AT_STREAMS_CREATED, &self.streams_created.to_le_bytes());
        put(&mut page, AT_POSTINGS, &self.postings.to_le_bytes());
        for (number, range) in self.sections.iter().enumerate() {
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
    pub(super) fn parse(file: &[u8], expected: &Stamp) -> Result<Self, IndexDamage> {
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
        let stamp = Stamp::from_bytes(&page[AT_STAMP..AT_TERMS]).ok_or_else(field)?;
        if let Some(field) = stamp.difference(expected) {
            return Err(IndexDamage::Foreign { field });
        }
        if stamp.events > SEGMENT_EVENTS_MAX {
            return Err(structure("number of events", stamp.events));
        }
        let (sections, end) = parse_sections(page)?;
        if (file.len() as u64) < end {
            return Err(short(end));
        }
        if file.len() as u64 > end {
            return Err(structure("bytes behind the end", end));
        }
        let header = Self {
            stamp,
            events: u32::try_from(stamp.events).map_err(|_| field())?,
            terms: u32_at(page, AT_TERMS).ok_or_else(field)?,
            types: u32_at(page, AT_TYPES).ok_or_else(field)?,
            streams_created: u64_at(page, AT_STREAMS_CREATED).ok_or_else(field)?,
            postings: u64_at(page, AT_POSTINGS).ok_or_else(field)?,
            sections,
            checksum_table: u32_at(page, AT_CHECKSUM_TABLE).ok_or_else(field)?,
        };
        header.check_lengths()?;
        Ok(header)
    }

    /// The lengths that follow from the counts.
    fn check_lengths(&self) -> Result<(), IndexDamage> {
        let is = |section: Section, count: usize, each: usize| {
            let bytes = self.section(section).len();
            if count.checked_mul(each) == Some(bytes) {
                Ok(())
            } else {
                Err(structure(section.name(), bytes as u64))
            }
        };
        is(Section::Offsets, self.events as usize, OFFSET_BYTES)?;
        is(Section::Dictionary, self.terms as usize, ENTRY_BYTES)?;
        is(Section::Checksums, self.pages(), CHECKSUM_BYTES)?;
        let buckets = self.section(Section::Buckets).len() / BUCKET_BYTES;
        is(Section::Buckets, buckets, BUCKET_BYTES)?;
        // One number more than there are buckets, so that the last one ends like all others.
        if !buckets.checked_sub(1).is_some_and(usize::is_power_of_two) {
            return Err(structure("number of buckets", buckets as u64));
        }
        let types = self.section(Section::Types).len();
        if self.types as usize > types / (TYPE_START_BYTES + TYPE_HEAD_BYTES) {
            return Err(structure("number of event types", self.types));
        }
        Ok(())
    }
}

/// The sections, dense but for the padding to whole pages, and where the file ends.
fn parse_sections(page: &[u8]) -> Result<([Range<usize>; SECTIONS], u64), IndexDamage> {
    let mut sections: [Range<usize>; SECTIONS] = std::array::from_fn(|_| 0..0);
    let mut next = BLOCK;
    for (number, section) in sections.iter_mut().enumerate() {
        let wrong = || structure(Section::NAMES[number], number as u64);
        let at = AT_SECTIONS + number * SECTION_BYTES;
        let start = u64_at(page, at).filter(|start| *start == next).ok_or_else(wrong)?;
        let bytes = u64_at(page, at + 8).ok_or_else(wrong)?;
        let end = start.checked_add(bytes).ok_or_else(wrong)?;
        next = end.checked_next_multiple_of(BLOCK).ok_or_else(wrong)?;
        // Places within a section are 32 bits wide.
        u32::try_from(bytes).map_err(|_| wrong())?;
        *section = usize::try_from(start).map_err(|_| wrong())?
            ..usize::try_from(end).map_err(|_| wrong())?;
    }
    Ok((sections, next))
}

/// A count is below this; the rest of its word is the kind of the term.
const COUNT_END: u32 = 1 << 24;

/// A term in the dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) hash: TermHash,
    pub(super) first_version: u64,
    pub(super) count: u32,
    pub(super) kind_code: u8,
    /// The ordinal where there is one posting, else where the postings begin in their section.
    pub(super) postings: u32,
}

impl Entry {
    pub(super) fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        put(&mut bytes, 0, &self.hash.0.to_le_bytes());
        put(&mut bytes, 8, &self.first_version.to_le_bytes());
        let count = self.count | u32::from(self.kind_code) << COUNT_END.trailing_zeros();
        put(&mut bytes, 16, &count.to_le_bytes());
        put(&mut bytes, 20, &self.postings.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let count = u32_at(bytes, 16)?;
        let [.., kind_code] = count.to_le_bytes();
        Some(Self {
            hash: TermHash(u64_at(bytes, 0)?),
            first_version: u64_at(bytes, 8)?,
            count: count % COUNT_END,
            kind_code,
            postings: u32_at(bytes, 20)?,
        })
    }
}

/// An event type as the segment's definition records have it. Its number is its place: the types of a
/// segment are dense from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventType<'a> {
    pub(crate) schema_version: u32,
    /// The fingerprint of the payload's layout.
    pub(crate) fingerprint: u128,
    pub(crate) name: &'a str,
}

impl<'a> EventType<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>, name_bytes: u16) {
        out.extend_from_slice(&self.schema_version.to_le_bytes());
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
        out.extend_from_slice(&name_bytes.to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
    }

    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, name) = bytes.split_at_checked(TYPE_HEAD_BYTES)?;
        let name_bytes = u16::from_le_bytes(array_at(head, 20)?);
        Some(Self {
            schema_version: u32_at(head, 0)?,
            fingerprint: u128::from_le_bytes(array_at(head, 4)?),
            name: std::str::from_utf8(name)
                .ok()
                .filter(|name| name.len() == usize::from(name_bytes))?,
        })
    }
}

/// The bucket of a hash among a power of two of them: its top bits, so that buckets follow one another
/// in the dictionary, which is sorted by hash.
pub(super) fn bucket_of(hash: TermHash, buckets: usize) -> usize {
    let bits = buckets.trailing_zeros();
    // A shift by the whole width, where there is one bucket, leaves nothing.
    hash.0.checked_shr(u64::BITS - bits).and_then(|top| usize::try_from(top).ok()).unwrap_or(0)
}

/// How many buckets the dictionary of so many terms has: two to four terms each.
pub(super) fn buckets_for(terms: usize) -> usize {
    (terms / 4).next_power_of_two()
}

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// Writes into a buffer of fixed size, where the layout has room by construction.
fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    buffer[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry = Entry {
            hash: TermHash(u64::MAX - 5),
            first_version: 1 << 40,
            count: COUNT_END - 1,
            kind_code: 255,
            postings: 77,
        };
        assert_eq!(Entry::from_bytes(&entry.to_bytes()), Some(entry));
        assert_eq!(Entry::from_bytes(&entry.to_bytes()[1..]), None);
    }

    #[test]
    fn buckets_are_the_top_bits_of_the_hash() {
        assert_eq!(bucket_of(TermHash(u64::MAX), 1), 0);
        assert_eq!(bucket_of(TermHash(u64::MAX), 8), 7);
        assert_eq!(bucket_of(TermHash(1 << 61), 8), 1);
    }

    #[test]
    fn a_bucket_holds_two_to_four_terms() {
        for terms in [4_usize, 5, 7, 8, 1000, 1 << 20, (1 << 20) + 1] {
            let buckets = buckets_for(terms);
            assert!(buckets * 4 + 3 >= terms && buckets * 2 <= terms, "{terms} in {buckets}");
        }
        assert_eq!(buckets_for(0), 1);
    }

    #[test]
    fn an_event_type_is_read_as_it_was_written() {
        let written = EventType { schema_version: 3, fingerprint: 1 << 100, name: "Ordered" };
        let mut bytes = Vec::new();
        written.write(&mut bytes, 7);
        assert_eq!(EventType::parse(&bytes), Some(written));
        assert_eq!(EventType::parse(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn the_documented_fields_are_where_the_code_has_them() {
        let page = include_str!("../../../docs/index.md");
        let fields = [
            (0, MAGIC.len(), "magic"),
            (AT_VERSION, 4, "format version"),
            (AT_STAMP, 16, "store id"),
            (AT_STAMP + 16, 8, "segment number"),
            (AT_STAMP + 24, 8, "salt"),
            (AT_STAMP + 32, 8, "first position"),
            (AT_STAMP + 40, 8, "number of events"),
            (AT_STAMP + 48, 16, "chain"),
            (AT_TERMS, 4, "number of terms"),
            (AT_TYPES, 4, "number of event types"),
            (AT_STREAMS_CREATED, 8, "streams created"),
            (AT_POSTINGS, 8, "number of postings"),
            (AT_SECTIONS, SECTIONS * SECTION_BYTES, "sections"),
            (AT_CHECKSUM_TABLE, CHECKSUM_BYTES, "CRC of the checksums"),
            (AT_HEADER_CHECKSUM, CHECKSUM_BYTES, "CRC of the header"),
        ];
        for (offset, size, field) in fields {
            let row = format!("| {offset} | {size} | {field}");
            assert!(page.contains(&row), "docs/index.md has no row {row:?}");
        }
    }
}
