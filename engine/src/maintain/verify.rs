//! Verification: everything is read from the disk, past the page cache but for the runs of the index, and compared with
//! what it should be. Needs memory for one segment at a time.

use std::fmt;

use super::index::{Comparing, Outcome, check_table};
use crate::disk::{Disk, read_whole};
use crate::error::{DamageReason, FileError, ReadError};
use crate::format::FormatError;
use crate::format::batch::BatchHeader;
use crate::format::bytes::is_zero;
use crate::format::checksum::{Chain, SegmentKey};
use crate::format::constants::BATCH_HEADER_BYTES;
use crate::format::footer::{self, SegmentContent};
use crate::format::scan::{Record, records};
use crate::format::segment::SegmentHeader;
use crate::limits::{BLOCK_BYTES, SEGMENT_HEAD_BYTES};
use crate::log::{CatalogSegment, build_from_log, names};
use crate::read::Reads;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    file: String,
    offset: u64,
    first_position: u64,
    last_position: u64,
    what: String,
}

impl Finding {
    /// Something about a part of the log from one position to another.
    pub(super) fn new(file: String, offset: u64, positions: (u64, u64), what: String) -> Self {
        let (first_position, last_position) = positions;
        Self { file, offset, first_position, last_position, what }
    }

    /// The file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where in it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The first position of the part of the log that is affected.
    pub fn first_position(&self) -> u64 {
        self.first_position
    }

    /// The last.
    pub fn last_position(&self) -> u64 {
        self.last_position
    }

    /// What is wrong there.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, first_position, last_position, what } = self;
        write!(f, "{file}: {what}, at offset {offset}")?;
        write!(f, " (positions {first_position} to {last_position})")
    }
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Events whose checksums were found to be good.
    pub events: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Files of the index that are not there: never written before a crash, or deleted. That costs time when what
    /// they are of is read, and is no damage.
    pub indexes_missing: u64,
    /// What is not as it should be; empty for a sound store.
    pub findings: Vec<Finding>,
}

impl Verification {
    /// Whether everything is as it should be.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub(crate) fn run(
        reads: &Reads,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Self, ReadError> {
        // What is durable is looked at; the catalog has every segment up to the watermark.
        let _ = reads.watermark.get();
        let catalog = reads.catalogs.load();
        let segments: Vec<_> = catalog
            .segments
            .iter()
            .map(|segment| match segment {
                CatalogSegment::Sealed(sealed) => (&sealed.key, sealed.content, Some(sealed)),
                CatalogSegment::Live(live) => (&live.key, live.content(), None),
            })
            .collect();
        let total = segments.iter().map(|(_, content, _)| content.data_end).sum();
        let mut runs = catalog.runs.iter().peekable();
        let mut comparing: Option<Comparing<'_>> = None;
        let mut index = Outcome::default();
        let mut found = Self::default();
        let mut chain = Chain::origin(reads.store);
        let mut next_position = 1;
        for (key, content, sealed) in segments {
            if content.first_position != next_position {
                found.add(key, &content, 0, DamageReason::Content);
            }
            let log = read_file(&*reads.disk, &names::segment(key.identity.segment))?;
            found.bytes += log.len() as u64;
            let mut ids = Vec::new();
            match check_segment(key, &content, chain, &log, sealed.is_some(), &mut ids) {
                Ok(()) => found.events += content.events,
                Err((offset, reason)) => found.add(key, &content, offset, reason),
            }
            if let Some(segment) = sealed.filter(|_| content.events > 0) {
                let next = runs.next_if(|run| run.first_position() <= content.first_position);
                if let Some(run) = next {
                    if let Some(ended) = comparing.take() {
                        ended.end(&mut index);
                    }
                    comparing = Comparing::begin(reads, run, &mut index)?;
                }
                // Where the log is damaged, which was found before, there is nothing to compare with.
                if let Ok(right) = build_from_log(key, &content, &log) {
                    check_table(&*reads.disk, segment, &right.table, &mut index)?;
                    if let Some(comparing) = &mut comparing {
                        comparing.segment(segment, &right, &ids);
                    }
                } else {
                    comparing = None;
                }
            }
            chain = content.chain;
            next_position = content.next_position();
            progress(found.bytes.min(total), total);
        }
        if let Some(ended) = comparing {
            ended.end(&mut index);
        }
        found.bytes += index.bytes;
        found.indexes_missing = index.missing;
        found.findings.append(&mut index.findings);
        Ok(found)
    }

    fn add(
        &mut self,
        key: &SegmentKey,
        content: &SegmentContent,
        offset: u64,
        reason: DamageReason,
    ) {
        let positions = (content.first_position, content.next_position().saturating_sub(1));
        let file = names::segment(key.identity.segment);
        self.findings.push(Finding::new(file, offset, positions, reason.to_string()));
    }
}

/// Checks a segment: header, batches, chain, records, gaps, footer. Collects the ids of its events.
fn check_segment(
    key: &SegmentKey,
    content: &SegmentContent,
    mut chain: Chain,
    log: &[u8],
    sealed: bool,
    ids: &mut Vec<[u8; 16]>,
) -> Result<(), (u64, DamageReason)> {
    match SegmentHeader::parse(log) {
        Ok(header) if header.identity == key.identity => {}
        Ok(_) => return Err((0, DamageReason::Foreign)),
        Err(error) => return Err((0, error.into())),
    }
    let (mut offset, mut end) = (SEGMENT_HEAD_BYTES, SEGMENT_HEAD_BYTES);
    let mut position = content.first_position;
    for sequence in content.first_sequence..content.next_sequence() {
        let damaged = |reason| (offset, reason);
        let at = usize::try_from(offset).map_err(|_| damaged(DamageReason::Ends))?;
        let rest = log.get(at..).ok_or(damaged(DamageReason::Ends))?;
        let header =
            BatchHeader::parse(key, offset, rest).map_err(|error| damaged(error.into()))?;
        if !header.follows(chain, rest) || header.sequence != sequence {
            return Err(damaged(DamageReason::Chain));
        }
        let inside = rest.get(BATCH_HEADER_BYTES..header.bytes as usize);
        let inside = inside.ok_or(damaged(DamageReason::Ends))?;
        if !header.content_is_good(key, inside) {
            return Err(damaged(FormatError::Checksum.into()));
        }
        for record in records(key, offset + BATCH_HEADER_BYTES as u64, inside) {
            let (at, record) = record.map_err(|error| damaged(error.into()))?;
            if let Record::Event(frame) = record {
                if frame.position() != position {
                    return Err((at, DamageReason::Misplaced { found: frame.position() }));
                }
                position += 1;
                ids.push(frame.id());
            }
        }
        chain = header.chain;
        end = header.end();
        offset = header.next_offset();
        let gap = range(log, end, offset.min(content.data_end));
        if !is_zero(gap) {
            return Err((end, FormatError::Field("padding").into()));
        }
    }
    let whole =
        end == content.data_end && chain == content.chain && position == content.next_position();
    if !whole {
        return Err((end, DamageReason::Content));
    }
    if sealed {
        let at = content.footer_offset();
        let block = range(log, at, at + BLOCK_BYTES as u64);
        match footer::parse(key, at, block) {
            Ok(found) if found == *content => {}
            Ok(_) => return Err((at, DamageReason::Content)),
            Err(error) => return Err((at, error.into())),
        }
    }
    Ok(())
}

fn range(log: &[u8], from: u64, to: u64) -> &[u8] {
    let index = |offset| usize::try_from(offset).unwrap_or(usize::MAX).min(log.len());
    log.get(index(from)..index(to)).unwrap_or_default()
}

pub(super) fn read_file(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, FileError> {
    read_whole(disk, name).map_err(FileError::at("reading", name))
}
