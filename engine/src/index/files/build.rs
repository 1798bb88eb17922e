//! Building the two files of a segment: its table, and the run of its terms out of a live index.
//!
//! Owns the order in which a table is assembled, and what of a live index becomes which term of a run;
//! `write` and `run_writer` own their bytes. The job that seals a segment and the rebuild of a lost index
//! call it. It does no I/O: whoever calls writes the bytes to a file.

use std::convert::Infallible;

use thiserror::Error;

use super::super::SEGMENT_EVENTS_MAX;
use super::super::live::{LiveIndex, LiveTerm};
use super::super::term::{Term, TermHash, TermKind};
use super::layout::{Content, Header, PAGE_BYTES, Section, Stamp, TIMES_EVERY};
use super::records::{EventType, IdEntry, TYPE_START_BYTES, id_key};
use super::run_writer::{Figures, RunWriter, WriteError};
use super::write::{FileWriter, SectionWriter, into_memory};
use crate::limits::{NAME_BYTES_MAX, SEGMENT_TYPES_MAX};

/// Why no file can be built of what was given. All of it comes from frames whose checksums were
/// checked, so that each variant but the last is a contradiction in the log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BuildError {
    /// The stamp promises events that were not given.
    #[error("the segment has {stamped} events by its stamp, but {given} were found")]
    Events { stamped: u64, given: u64 },
    /// More events than fit into a segment of this size.
    #[error("more than {max} events in one segment")]
    TooManyEvents { max: u64 },
    /// Not one time for each of so many events.
    #[error(
        "{expected} events of the segment have their time in its table, but {given} were given"
    )]
    Times { expected: u64, given: u64 },
    /// An event was recorded before one that comes before it.
    #[error("event {ordinal} was recorded before an earlier event")]
    TimeOrder { ordinal: u64 },
    /// More event types than a segment may have.
    #[error("more than {max} event types in one segment")]
    TooManyTypes { max: usize },
    /// An event type's name is longer than any name may be.
    #[error(
        "the name of event type {type_ref} has {bytes} bytes; at most {NAME_BYTES_MAX} are allowed"
    )]
    TypeName { type_ref: usize, bytes: usize },
    /// An id for an event that was not given, or that has one already.
    #[error("an id for event {ordinal} is out of place")]
    Order { ordinal: u32 },
    /// More terms or postings than places of 32 bits can tell apart.
    #[error("the terms of one segment are too many for one file")]
    TooLarge,
}

/// The table of a segment: the offset of each event, the times at which every [`TIMES_EVERY`]th one was
/// recorded, the first among them, and the event types in the order of their numbers. Its length is a
/// multiple of a page.
pub(crate) fn table_file(
    stamp: &Stamp,
    offsets: impl ExactSizeIterator<Item = u32>,
    times: impl Iterator<Item = i64>,
    types: &[EventType<'_>],
) -> Result<Vec<u8>, BuildError> {
    let given = offsets.len() as u64;
    if given != stamp.events {
        return Err(BuildError::Events { stamped: stamp.events, given });
    }
    let too_many = BuildError::TooManyEvents { max: SEGMENT_EVENTS_MAX };
    let events = u32::try_from(given).map_err(|_| too_many.clone())?;
    if given > SEGMENT_EVENTS_MAX {
        return Err(too_many);
    }
    let times: Vec<i64> = times.collect();
    let (expected, given) = (events.div_ceil(TIMES_EVERY).into(), times.len() as u64);
    if given != expected {
        return Err(BuildError::Times { expected, given });
    }
    if let Some(number) = times.windows(2).position(|pair| pair[1] < pair[0]) {
        let ordinal = (number as u64 + 1) * u64::from(TIMES_EVERY);
        return Err(BuildError::TimeOrder { ordinal });
    }
    let mut header = Header::new(Content::Table, *stamp, events);
    header.types = count_u32(types.len());
    let types = types_section(types)?;
    let mut file = Vec::new();
    let written = write_table(header, offsets, &times, &types, &mut into_memory(&mut file));
    match written {
        Ok(_) => Ok(file),
        Err(never) => match never {},
    }
}

fn write_table(
    mut header: Header,
    offsets: impl Iterator<Item = u32>,
    times: &[i64],
    types: &[u8],
    sink: &mut impl FnMut(u64, &[u8]) -> Result<(), Infallible>,
) -> Result<u64, Infallible> {
    let mut file = FileWriter::new(Content::Table, &header.stamp, sink);
    let mut section = SectionWriter::new(PAGE_BYTES);
    for offset in offsets {
        section.add(&offset.to_le_bytes(), &mut file)?;
    }
    let offsets = section.finish(&mut file)?;
    let mut section = SectionWriter::new(offsets.end);
    for time in times {
        section.add(&time.to_le_bytes(), &mut file)?;
    }
    let times = section.finish(&mut file)?;
    let mut section = SectionWriter::new(times.end);
    section.add(types, &mut file)?;
    header.sections[Section::Types as usize] = section.finish(&mut file)?;
    header.sections[Section::Offsets as usize] = offsets;
    header.sections[Section::Times as usize] = times;
    file.finish(header)
}

/// Where each type begins, then the types.
fn types_section(types: &[EventType<'_>]) -> Result<Vec<u8>, BuildError> {
    if types.len() > SEGMENT_TYPES_MAX {
        return Err(BuildError::TooManyTypes { max: SEGMENT_TYPES_MAX });
    }
    let mut section = vec![0; types.len() * TYPE_START_BYTES];
    for (type_ref, event_type) in types.iter().enumerate() {
        let bytes = event_type.name.len();
        let name_bytes = u16::try_from(bytes)
            .ok()
            .filter(|_| bytes <= NAME_BYTES_MAX)
            .ok_or(BuildError::TypeName { type_ref, bytes })?;
        let (start, at) = (count_u32(section.len()), type_ref * TYPE_START_BYTES);
        section[at..at + TYPE_START_BYTES].copy_from_slice(&start.to_le_bytes());
        event_type.write(&mut section, name_bytes);
    }
    Ok(section)
}

/// A length within the section of types. `layout` asserts that all of them fit.
fn count_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The run of a live index up to the stamp's number of events, with each event's id and ordinal, in any
/// order. Its length is a multiple of a page.
pub(crate) fn seal_run(
    live: &LiveIndex,
    stamp: &Stamp,
    ids: Vec<([u8; 16], u32)>,
) -> Result<Vec<u8>, BuildError> {
    let events = u32::try_from(stamp.events)
        .ok()
        .filter(|events| *events <= live.events())
        .ok_or(BuildError::Events { stamped: stamp.events, given: live.events().into() })?;
    let mut figures = figures_of_ids(&ids);
    let ids = sorted_ids(ids, events)?;
    let (terms, tags) = (sorted_terms(live, events), sorted_tags(live, events));
    let created = |term: &&LiveTerm<'_>| {
        term.term.kind == TermKind::Stream && term.postings.first_version() == 0
    };
    figures.streams_created = terms.iter().filter(created).count() as u64;
    let mut file = Vec::new();
    let written = write_run(stamp, (&terms, &tags), &ids, &figures, &mut into_memory(&mut file));
    match written {
        Ok(_) => Ok(file),
        Err(WriteError::TooLarge) => Err(BuildError::TooLarge),
        Err(WriteError::Source(never) | WriteError::Sink(never)) => match never {},
    }
}

/// How many terms ahead memory is fetched.
const AHEAD: usize = 8;

fn write_run(
    stamp: &Stamp,
    (terms, tags): (&[LiveTerm<'_>], &[(TermHash, u32)]),
    ids: &[IdEntry],
    figures: &Figures,
    sink: &mut impl FnMut(u64, &[u8]) -> Result<(), Infallible>,
) -> Result<u64, WriteError<Infallible, Infallible>> {
    let same = |a: &LiveTerm<'_>, b: &LiveTerm<'_>| order_of(a) == order_of(b);
    let tags = tags.chunk_by(|(a, _), (b, _)| a == b);
    let distinct = (terms.chunk_by(same).count() + tags.clone().count()) as u64;
    let mut writer = RunWriter::new(stamp, distinct, sink).ok_or(WriteError::TooLarge)?;
    let mut tags = tags.peekable();
    let kind_of_tags = TermKind::Tag.code();
    // Terms that follow one another by their hashes lie scattered in memory: what is read soon is fetched.
    let mut ahead = terms.iter().skip(AHEAD);
    for sharing in terms.chunk_by(same) {
        ahead.by_ref().take(sharing.len()).for_each(|term| term.postings.near());
        let (hash, kind_code) = order_of(&sharing[0]);
        while let Some(tag) = tags.next_if(|tag| (tag[0].0, kind_of_tags) < (hash, kind_code)) {
            let list = || tag.iter().map(|(_, ordinal)| Ok(*ordinal));
            writer.term(tag[0].0, kind_of_tags, count_u32(tag.len()), list)?;
        }
        if let [term] = sharing {
            let list = term.postings;
            writer.term(hash, kind_code, list.len(), || list.forward(0).map(Ok))?;
            continue;
        }
        // Terms that share a hash may share an event too.
        let mut union: Vec<u32> =
            sharing.iter().flat_map(|term| term.postings.forward(0)).collect();
        union.sort_unstable();
        union.dedup();
        let list = || union.iter().copied().map(Ok);
        writer.term(hash, kind_code, count_u32(union.len()), list)?;
    }
    for tag in tags {
        let list = || tag.iter().map(|(_, ordinal)| Ok(*ordinal));
        writer.term(tag[0].0, kind_of_tags, count_u32(tag.len()), list)?;
    }
    for id in ids {
        writer.id(*id).map_err(WriteError::Sink)?;
    }
    writer.finish(figures).map_err(WriteError::Sink)
}

/// The tags by their hashes, each with its events in their order.
fn sorted_tags(live: &LiveIndex, events: u32) -> Vec<(TermHash, u32)> {
    let mut tags: Vec<_> = live.tags(events).collect();
    tags.sort_unstable();
    // Two tags of an event that share a hash are one posting.
    tags.dedup();
    tags
}

/// The terms without the tags, in the dictionary's order.
fn sorted_terms(live: &LiveIndex, events: u32) -> Vec<LiveTerm<'_>> {
    let terms: Vec<_> = live.terms(events).collect();
    // Small keys are sorted instead of the terms themselves.
    let mut order: Vec<_> =
        terms.iter().enumerate().map(|(at, term)| (order_of(term), at)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| terms[at]).collect()
}

fn order_of(term: &LiveTerm<'_>) -> (TermHash, u8) {
    (term.hash, term.term.kind.code())
}

fn figures_of_ids(ids: &[([u8; 16], u32)]) -> Figures {
    // Compared as bytes, which as one number is quicker.
    let (mut least, mut greatest) = (u128::MAX, 0);
    for (id, _) in ids {
        let id = u128::from_be_bytes(*id);
        (least, greatest) = (least.min(id), greatest.max(id));
    }
    Figures {
        streams_created: 0,
        least_id: least.to_be_bytes(),
        greatest_id: greatest.to_be_bytes(),
    }
}

/// The ids in the order of the file, one for each event.
fn sorted_ids(ids: Vec<([u8; 16], u32)>, events: u32) -> Result<Vec<IdEntry>, BuildError> {
    if ids.len() != events as usize {
        return Err(BuildError::Events { stamped: events.into(), given: ids.len() as u64 });
    }
    let mut seen = vec![false; ids.len()];
    let mut entries = Vec::with_capacity(ids.len());
    for (id, ordinal) in ids {
        match seen.get_mut(ordinal as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(BuildError::Order { ordinal }),
        }
        // The order of the file as one number.
        entries.push(u64::from(id_key(Term::id(&id).xxh3_64())) << 32 | u64::from(ordinal));
    }
    entries.sort_unstable();
    Ok(entries.into_iter().map(IdEntry::from_order).collect())
}
