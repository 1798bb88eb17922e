//! Building the sealed file: from a live index, or by scanning a log.
//!
//! Owns the order in which a file's sections are assembled; `layout` and `postings` own their bytes.
//! The job that seals a segment calls [`seal`]; recovery and the rebuild of a lost index feed an
//! [`IndexBuilder`] with frames. The builder is a live index that is then sealed, so that both ways
//! give the same bytes. It does no I/O: whoever calls writes the bytes to a file.

use std::sync::Arc;

use thiserror::Error;

use super::layout::{
    BUCKET_BYTES, CHECKSUM_BYTES, ENTRY_BYTES, Entry, EventType, Header, OFFSET_BYTES, PAGE_BYTES,
    SECTIONS, Section, Stamp, TYPE_START_BYTES, bucket_of, buckets_for,
};
use super::live::{LiveIndex, LiveTerm, LiveWriter};
use super::pages::PageSeed;
use super::postings::write_list;
use super::term::{Term, TermHash, TermKind};
use super::{SEGMENT_EVENTS_MAX, events_max};
use crate::limits::{NAME_BYTES_MAX, SEGMENT_BYTES_MAX, SEGMENT_TYPES_MAX};

/// Why no index can be built of what was given. All of it comes from frames whose checksums were
/// checked, so that each variant is a contradiction in the log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BuildError {
    /// The stamp promises events that were not given.
    #[error("the segment has {stamped} events by its stamp, but {given} were found")]
    Events { stamped: u64, given: u64 },
    /// More events than fit into a segment of this size.
    #[error("more than {max} events in one segment")]
    TooManyEvents { max: u64 },
    /// More event types than a segment may have.
    #[error("more than {max} event types in one segment")]
    TooManyTypes { max: usize },
    /// An event type's name is longer than any name may be.
    #[error(
        "the name of event type {type_ref} has {bytes} bytes; at most {NAME_BYTES_MAX} are allowed"
    )]
    TypeName { type_ref: usize, bytes: usize },
    /// A posting for an event that was not given, or that has the term already.
    #[error("a posting for event {ordinal} is out of order")]
    Order { ordinal: u32 },
    /// A stream's versions have a gap or go back.
    #[error("event {ordinal} has version {version} of its stream where {expected} follows")]
    Version { ordinal: u32, version: u64, expected: u64 },
}

/// Builds the index of one segment out of its frames, given in their order.
pub(crate) struct IndexBuilder {
    stamp: Stamp,
    live: Arc<LiveIndex>,
    writer: LiveWriter,
    events: u64,
    events_max: u64,
    types: Vec<(u32, u128, String)>,
}

impl IndexBuilder {
    /// A builder for a segment whose file has `segment_bytes`, at most
    /// [`SEGMENT_BYTES_MAX`].
    pub(crate) fn new(stamp: Stamp, segment_bytes: u64) -> Self {
        let segment_bytes = segment_bytes.min(SEGMENT_BYTES_MAX);
        let (writer, live) = LiveIndex::new(segment_bytes);
        let events_max = events_max(segment_bytes);
        Self { stamp, live, writer, events: 0, events_max, types: Vec::new() }
    }

    /// Adds the next event and gives its ordinal.
    pub(crate) fn event(&mut self, offset_units: u32) -> Result<u32, BuildError> {
        if self.events == self.events_max {
            return Err(BuildError::TooManyEvents { max: self.events_max });
        }
        self.events += 1;
        Ok(self.writer.push_event(offset_units))
    }

    /// Adds a posting of the event that was added last. `version` is the event's in its stream.
    pub(crate) fn posting(
        &mut self,
        hash: TermHash,
        term: Term<'_>,
        ordinal: u32,
        version: u64,
    ) -> Result<(), BuildError> {
        if u64::from(ordinal) + 1 != self.events {
            return Err(BuildError::Order { ordinal });
        }
        let Some(found) = self.live.lookup(hash, term) else {
            self.writer.create(hash, term, ordinal, version);
            return Ok(());
        };
        let expected = found.first_version() + u64::from(found.len());
        if version != expected {
            return Err(BuildError::Version { ordinal, version, expected });
        }
        if found.get(found.len() - 1) >= Some(ordinal) {
            return Err(BuildError::Order { ordinal });
        }
        self.writer.insert(hash, term, ordinal, version);
        Ok(())
    }

    /// Adds the next event type and gives its number.
    pub(crate) fn event_type(&mut self, event_type: EventType<'_>) -> Result<u32, BuildError> {
        let too_many = BuildError::TooManyTypes { max: SEGMENT_TYPES_MAX };
        if self.types.len() == SEGMENT_TYPES_MAX {
            return Err(too_many);
        }
        let number = u32::try_from(self.types.len()).map_err(|_| too_many)?;
        let EventType { schema_version, fingerprint, name } = event_type;
        self.types.push((schema_version, fingerprint, name.to_owned()));
        Ok(number)
    }

    /// The file's bytes, a multiple of a page.
    pub(crate) fn finish(self) -> Result<Vec<u8>, BuildError> {
        if self.stamp.events != self.events {
            return Err(BuildError::Events { stamped: self.stamp.events, given: self.events });
        }
        let types: Vec<_> = self
            .types
            .iter()
            .map(|(schema_version, fingerprint, name)| EventType {
                schema_version: *schema_version,
                fingerprint: *fingerprint,
                name,
            })
            .collect();
        seal(&self.live, &self.stamp, &types)
    }
}

/// The file of a live index up to the stamp's number of events, with the segment's event types in the
/// order of their numbers. Its length is a multiple of a page.
pub(crate) fn seal(
    live: &LiveIndex,
    stamp: &Stamp,
    types: &[EventType<'_>],
) -> Result<Vec<u8>, BuildError> {
    let events = u32::try_from(stamp.events)
        .ok()
        .filter(|events| *events <= live.events())
        .ok_or(BuildError::Events { stamped: stamp.events, given: live.events().into() })?;
    debug_assert!(u64::from(events) <= SEGMENT_EVENTS_MAX);
    let terms = sorted_terms(live, events);
    let mut file = Assembly::new(events as usize, terms.len());
    file.add(Section::Offsets, |out| {
        // Every ordinal below the number of events has an offset.
        for offset in (0..events).map_while(|ordinal| live.offset(ordinal)) {
            out.extend_from_slice(&offset.to_le_bytes());
        }
    });
    file.add(Section::Buckets, |out| write_buckets(out, &terms));
    let mut lists = Vec::new();
    let (mut streams_created, mut postings) = (0, 0);
    file.add(Section::Dictionary, |out| {
        for term in &terms {
            let entry = write_postings(term, &mut lists);
            out.extend_from_slice(&entry.to_bytes());
            postings += u64::from(entry.count);
            let created = term.term.kind == TermKind::Stream && entry.first_version == 0;
            streams_created += u64::from(created);
        }
    });
    file.add(Section::Postings, |out| out.extend_from_slice(&lists));
    let mut types_section = Vec::new();
    let types_count = write_types(types, &mut types_section)?;
    file.add(Section::Types, |out| out.extend_from_slice(&types_section));
    Ok(file.finish(Header {
        stamp: *stamp,
        events,
        terms: count_u32(terms.len()),
        types: types_count,
        streams_created,
        postings,
        sections: std::array::from_fn(|_| 0..0),
        checksum_table: 0,
    }))
}

/// The terms in the dictionary's order: by hash, then kind; those that share both, by first posting.
fn sorted_terms(live: &LiveIndex, events: u32) -> Vec<LiveTerm<'_>> {
    let mut terms: Vec<_> = live.terms(events).collect();
    terms.sort_by_key(|term| (term.hash, term.term.kind));
    terms
}

fn write_buckets(out: &mut Vec<u8>, terms: &[LiveTerm<'_>]) {
    let buckets = buckets_for(terms.len());
    let mut rest = terms.iter().enumerate().peekable();
    for bucket in 0..buckets {
        while rest.next_if(|(_, term)| bucket_of(term.hash, buckets) < bucket).is_some() {}
        let first = rest.peek().map_or(terms.len(), |(number, _)| *number);
        out.extend_from_slice(&count_u32(first).to_le_bytes());
    }
    out.extend_from_slice(&count_u32(terms.len()).to_le_bytes());
}

/// Writes a term's list, if it needs one, and gives its entry.
fn write_postings(term: &LiveTerm<'_>, lists: &mut Vec<u8>) -> Entry {
    let list = term.postings;
    let place = match list.get(0) {
        Some(only) if list.len() == 1 => only,
        _ => {
            let place = count_u32(lists.len());
            write_list(lists, list.len(), list.forward(0));
            place
        }
    };
    Entry {
        hash: term.hash,
        first_version: list.first_version(),
        count: list.len(),
        kind_code: term.term.kind.code(),
        postings: place,
    }
}

/// Writes where each type begins, then the types.
fn write_types(types: &[EventType<'_>], out: &mut Vec<u8>) -> Result<u32, BuildError> {
    if types.len() > SEGMENT_TYPES_MAX {
        return Err(BuildError::TooManyTypes { max: SEGMENT_TYPES_MAX });
    }
    out.resize(types.len() * TYPE_START_BYTES, 0);
    for (type_ref, event_type) in types.iter().enumerate() {
        let bytes = event_type.name.len();
        let name_bytes = u16::try_from(bytes)
            .ok()
            .filter(|_| bytes <= NAME_BYTES_MAX)
            .ok_or(BuildError::TypeName { type_ref, bytes })?;
        let (start, at) = (count_u32(out.len()), type_ref * TYPE_START_BYTES);
        out[at..at + TYPE_START_BYTES].copy_from_slice(&start.to_le_bytes());
        event_type.write(out, name_bytes);
    }
    Ok(count_u32(types.len()))
}

/// A length within a section. `layout` asserts that all of them fit.
fn count_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A file in the making: a page for the header, then sections in their order.
struct Assembly {
    file: Vec<u8>,
    sections: Vec<std::ops::Range<usize>>,
}

impl Assembly {
    fn new(events: usize, terms: usize) -> Self {
        let expected = events * (OFFSET_BYTES + 2) + terms * (ENTRY_BYTES + BUCKET_BYTES);
        let mut file = Vec::with_capacity(expected + (SECTIONS + 1) * PAGE_BYTES);
        file.resize(PAGE_BYTES, 0);
        Self { file, sections: Vec::with_capacity(SECTIONS) }
    }

    fn add(&mut self, section: Section, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert_eq!(self.sections.len(), section as usize, "sections have an order");
        let start = self.file.len();
        write(&mut self.file);
        self.sections.push(start..self.file.len());
        self.file.resize(self.file.len().next_multiple_of(PAGE_BYTES), 0);
    }

    /// Adds the checksums and writes the header, whose sections are still missing.
    fn finish(mut self, mut header: Header) -> Vec<u8> {
        let seed = PageSeed::new(&header.stamp);
        let mut table = Vec::with_capacity(self.file.len() / PAGE_BYTES * CHECKSUM_BYTES);
        // The header has a checksum of its own; its place in the table stays zero.
        table.resize(CHECKSUM_BYTES, 0);
        for (page, content) in (0..).zip(self.file.chunks(PAGE_BYTES)).skip(1) {
            table.extend_from_slice(&seed.crc32(page, content).to_le_bytes());
        }
        let pages = self.file.len() / PAGE_BYTES;
        self.add(Section::Checksums, |out| out.extend_from_slice(&table));
        header.checksum_table = seed.crc32(count_u32(pages), &self.file[pages * PAGE_BYTES..]);
        for (place, range) in header.sections.iter_mut().zip(self.sections) {
            *place = range;
        }
        self.file[..PAGE_BYTES].copy_from_slice(&header.to_page());
        self.file
    }
}
