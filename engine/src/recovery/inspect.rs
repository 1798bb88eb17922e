//! Gathering what is known of a store before it is opened. Changes nothing but what is volatile: files
//! are synced first, so that nothing is believed that only the page cache has.

use std::io;
use std::time::{Duration, Instant};

use super::ahead::Ahead;
use super::behind::{Behind, examine};
use super::cases::{Case, Facts, decide};
use super::report::Refusal;
use super::structure::{IndexFiles, Leftover, Structure, TailFile, check};
use super::tail::{LogEnd, Tail, TailSegment, read};
use crate::disk::{Access, Disk, DiskFile};
use crate::error::{FileError, OpenError};
use crate::format::checksum::{Chain, SegmentKey};
use crate::format::footer::SegmentContent;
use crate::format::manifest::Manifest;
use crate::log::names;

/// How long an opening for writing waits for the locks of the tail's segments.
const SEGMENT_LOCK_WAIT: Duration = Duration::from_secs(5);

/// A store that can be opened.
#[derive(Debug)]
pub(crate) struct Found {
    pub manifest: Manifest,
    pub sealed: Vec<(SegmentKey, SegmentContent)>,
    pub tail: Tail,
    pub case: Case,
    /// What stands behind the end; nothing was looked at where the end was recorded.
    pub behind: Behind,
    pub leftover: Vec<Leftover>,
    pub indexes: IndexFiles,
    /// Sealed segments whose files were not cut to their length yet, with that length.
    pub overlong: Vec<(u64, u64)>,
}

/// How to judge a tail that does not end as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// By the decision table.
    Strict,
    /// As somebody who looks beside a writer, and to whom the log seemed to be damaged from this position
    /// on at an earlier look. Where it now reaches beyond, what was seen there was a write in flight, and
    /// what stands behind the end now is so too: it is not judged.
    Passed(u64),
    /// As somebody who wants to read what is before the damage.
    Salvage,
    /// As somebody who gives up everything from this position on, if the damage begins just there.
    GiveUpFrom(u64),
}

/// Looks at the store on a disk; `None` where there is none.
///
/// # Errors
/// [`OpenError::Refused`], where what is stored contradicts itself; or what the operating system reports.
pub(crate) fn inspect(
    disk: &dyn Disk,
    access: Access,
    judgement: Judgement,
) -> Result<Option<Found>, OpenError> {
    let Structure { manifest, sealed, tail, leftover, indexes, overlong } = check(disk, access)?;
    let Some(manifest) = manifest else { return Ok(None) };
    if access == Access::Write {
        lock(&tail)?;
    }
    disk.sync_dir().map_err(FileError::at("syncing", "the directory"))?;
    for segment in &tail {
        sync(segment.entry.number, &*segment.file)?;
    }
    let start = sealed.last().map_or_else(
        || LogEnd {
            chain: Chain::origin(manifest.store),
            next_sequence: 1,
            next_position: 1,
            recorded_last: i64::MIN,
        },
        |(_, content)| LogEnd {
            chain: content.chain,
            next_sequence: content.next_sequence(),
            next_position: content.next_position(),
            recorded_last: content.recorded_last,
        },
    );
    let mut ahead = Ahead::default();
    let mut tail = read(tail, &manifest, start, &mut ahead)?;
    if access == Access::Read {
        // A writer beside us may have written what was read a moment ago: it is shown once it is durable.
        for segment in &tail.segments {
            sync(segment.number(), &*segment.file)?;
        }
    }
    let next = tail.end.next_position;
    let (case, behind) = match judgement {
        Judgement::Passed(position) if next > position => (Case::InUse, Behind::default()),
        Judgement::Strict | Judgement::Passed(_) => judge(&mut tail, manifest.strict, &mut ahead)?,
        Judgement::Salvage => match judge(&mut tail, manifest.strict, &mut ahead) {
            Err(OpenError::Refused(_)) => (Case::Salvaged, Behind::default()),
            judged => judged?,
        },
        Judgement::GiveUpFrom(position) => match judge(&mut tail, manifest.strict, &mut ahead) {
            Err(OpenError::Refused(_)) if next == position => {
                // What is given up is kept aside, so it is looked at in any case.
                let behind = look_behind(&mut tail, &mut ahead)?;
                (Case::GivenUp, behind)
            }
            judged => judged?,
        },
    };
    tail.segments.iter_mut().for_each(|segment| segment.reader.rest());
    Ok(Some(Found { manifest, sealed, tail, case, behind, leftover, indexes, overlong }))
}

fn look_behind(tail: &mut Tail, ahead: &mut Ahead) -> Result<Behind, OpenError> {
    if tail.stop >= tail.segments.len() {
        return Ok(Behind::default());
    }
    Ok(examine(tail, ahead).map_err(FileError::at("reading", "the tail"))?)
}

/// Judges how the tail ends by the decision table.
fn judge(tail: &mut Tail, strict: bool, ahead: &mut Ahead) -> Result<(Case, Behind), OpenError> {
    // Nothing that stands behind a recorded end is looked at.
    let behind =
        if tail.recorded.is_some() { Behind::default() } else { look_behind(tail, ahead)? };
    let facts = Facts {
        at_recorded_end: tail.recorded.map(|(reached, _)| reached),
        next_sequence: tail.end.next_sequence,
        promised_sequence: behind.promise.sequence,
        nothing_behind: behind.is_nothing(),
        headers_behind: behind.headers.clone(),
        bytes_out_of_reach: behind.out_of_reach,
        damaged_have_sector_of_before: behind.damaged.clone(),
        sectors_are_whole: !strict,
    };
    match decide(&facts) {
        Ok(case) => Ok((case, behind)),
        Err(case) => Err(report(case, tail, &behind).into()),
    }
}

/// Takes the locks of the tail's segments, before anything in them is believed: writes that a killed
/// process had submitted hold its locks until they have landed.
fn lock(tail: &[TailFile]) -> Result<(), OpenError> {
    let give_up = Instant::now() + SEGMENT_LOCK_WAIT;
    for segment in tail {
        let name = names::segment(segment.entry.number);
        while !segment.file.try_lock().map_err(FileError::at("locking", &name))? {
            if Instant::now() > give_up {
                let held = io::Error::from(io::ErrorKind::WouldBlock);
                return Err(FileError::new("locking", &name, held).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn sync(number: u64, file: &dyn DiskFile) -> Result<(), FileError> {
    file.sync().map_err(FileError::at("syncing", &names::segment(number)))
}

fn report(case: Case, tail: &Tail, behind: &Behind) -> Refusal {
    let stop = tail.segments.get(tail.stop);
    let number =
        stop.map_or_else(|| tail.recorded.map_or(0, |(_, end)| end.segment), TailSegment::number);
    let promise = &behind.promise;
    let (last_lost, evidence) = match tail.recorded {
        Some((_, end)) => (
            Some(end.last_position),
            format!(
                "the manifest records the end at offset {} of segment {}",
                end.data_end, end.segment
            ),
        ),
        None if promise.sequence >= tail.end.next_sequence => {
            (Some(promise.position), promise.witness.clone())
        }
        None => (None, "nothing tells what stood there".to_owned()),
    };
    Refusal {
        segment: Some(number),
        offset: stop.map(|segment| segment.next_offset),
        first_lost: Some(tail.end.next_position),
        last_lost,
        evidence: Some(evidence),
        ..Refusal::new(case, names::segment(number))
    }
}
