//! Verification of the index against the log, both ways: every event is found by each of its terms, by its id and its
//! position, and nothing else is found.
//!
//! A table has to be equal, to the byte, to the one that the log gives. A run may be of many segments: for each of
//! them the terms are built from the log and compared with what the run has in that segment's range, and in the end
//! the run must have no postings besides. Runs are large, and read through their mappings. Called by `verify`, which
//! reads the log.

use std::io;
use std::sync::Arc;

use super::verify::{Finding, read_file};
use crate::disk::{Access, Disk, Mapping};
use crate::error::{FileError, ReadError};
use crate::index::{IndexDamage, SegmentTable, TermKind, TermRun};
use crate::log::{Built, Run, SealedSegment, names, stamp_of};
use crate::read::Reads;

/// What a look at the files of the index gives.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub bytes: u64,
    pub missing: u64,
    pub findings: Vec<Finding>,
}

/// Compares the table of a segment with the one that its log gives.
///
/// # Errors
/// [`ReadError::File`].
pub(super) fn check_table(
    disk: &dyn Disk,
    segment: &SealedSegment,
    right: &[u8],
    outcome: &mut Outcome,
) -> Result<(), ReadError> {
    let name = names::table(segment.number());
    let bytes = match read_file(disk, &name) {
        Ok(bytes) => bytes,
        Err(error) if error.cause.kind() == io::ErrorKind::NotFound => {
            outcome.missing += 1;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    outcome.bytes += bytes.len() as u64;
    let differs = bytes.iter().zip(right).position(|(one, other)| one != other);
    let stamp = stamp_of(&segment.key, &segment.content);
    let checked = SegmentTable::open(bytes.as_slice(), &stamp).and_then(|table| table.verify_all());
    let wrong = match (checked, differs) {
        (Ok(()), None) if bytes.len() == right.len() => return Ok(()),
        (Ok(()), at) => {
            let at = at.unwrap_or_else(|| bytes.len().min(right.len()));
            (at, "it is not the table of what the log holds".to_owned())
        }
        (Err(damage), at) => (at.unwrap_or(0), damage.to_string()),
    };
    let positions = (segment.content.first_position, segment.content.next_position() - 1);
    outcome.find(name, wrong.0 as u64, positions, &wrong.1);
    Ok(())
}

/// A run that is compared, segment by segment.
#[derive(Debug)]
pub(super) struct Comparing<'a> {
    run: &'a Arc<Run>,
    terms: Result<TermRun<Mapping>, IndexDamage>,
    /// How many of its postings were found right.
    compared: u64,
}

impl<'a> Comparing<'a> {
    /// Begins with a run; nothing where it has no file.
    ///
    /// # Errors
    /// [`ReadError::File`].
    pub(super) fn begin(
        reads: &Reads,
        run: &'a Arc<Run>,
        outcome: &mut Outcome,
    ) -> Result<Option<Self>, ReadError> {
        let name = run.name();
        let map = match reads.disk.open(&name, Access::Read).and_then(|file| file.map()) {
            Ok(map) => map,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // It may have been merged into another one meanwhile, which is not looked at then.
                let now = reads.catalogs.load();
                outcome.missing += u64::from(now.runs.iter().any(|known| Arc::ptr_eq(known, run)));
                return Ok(None);
            }
            Err(error) => return Err(FileError::new("reading", &name, error).into()),
        };
        outcome.bytes += map.len() as u64;
        let terms = TermRun::open(map, &run.stamp());
        let terms = terms.and_then(|terms| terms.verify_all().map(|()| terms));
        Ok(Some(Self { run, terms, compared: 0 }))
    }

    /// Compares what the run has of one of its segments with what that segment's log gives, and the ids of its events.
    pub(super) fn segment(&mut self, segment: &SealedSegment, right: &Built, ids: &[[u8; 16]]) {
        if let Ok(terms) = &self.terms {
            match compare(terms, segment, right, ids) {
                Ok(postings) => self.compared += postings,
                Err(damage) => self.terms = Err(damage),
            }
        }
    }

    /// Ends with the run.
    pub(super) fn end(self, outcome: &mut Outcome) {
        let wrong = match self.terms {
            Ok(terms) if terms.postings() == self.compared => return,
            Ok(_) => "it finds events that do not have the term".to_owned(),
            Err(damage) => damage.to_string(),
        };
        let positions = (self.run.first_position(), self.run.next_position() - 1);
        outcome.find(self.run.name(), 0, positions, &wrong);
    }
}

/// How many postings a run has of the terms of this segment in its range, all of which are right.
fn compare(
    terms: &TermRun<Mapping>,
    segment: &SealedSegment,
    right: &Built,
    ids: &[[u8; 16]],
) -> Result<u64, IndexDamage> {
    let differs = |at: u32| IndexDamage::Differs { ordinal: at };
    let base = segment.content.first_position - terms.first_position();
    let base = u32::try_from(base).map_err(|_| differs(0))?;
    let end = base + u32::try_from(segment.content.events).map_err(|_| differs(base))?;
    let right = TermRun::open(right.run.as_slice(), &stamp_of(&segment.key, &segment.content))?;
    let mut compared = 0;
    for term in right.all_terms() {
        let (hash, code, list) = term?;
        let kind = TermKind::from_code(code).ok_or_else(|| differs(base))?;
        let found = terms.find(hash, kind)?.ok_or_else(|| differs(base))?;
        let range = found.lower_bound(base)?..found.lower_bound(end)?;
        if range.len() != list.len() as usize {
            return Err(differs(base));
        }
        for (found, ordinal) in found.range(range).zip(list.forward(0)) {
            let ordinal = base + ordinal?;
            if found? != ordinal {
                return Err(differs(ordinal));
            }
        }
        compared += u64::from(list.len());
    }
    for (ordinal, id) in (base..end).zip(ids) {
        let mut found = terms.find_id(*id)?;
        if !found.any(|found| found == Ok(ordinal)) {
            return Err(differs(ordinal));
        }
    }
    Ok(compared)
}

impl Outcome {
    fn find(&mut self, file: String, offset: u64, positions: (u64, u64), what: &str) {
        let what = format!("{what}; the index is a cache, and is rebuilt from the log");
        self.findings.push(Finding::new(file, offset, positions, what));
    }
}
