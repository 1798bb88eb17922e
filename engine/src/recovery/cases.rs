//! The decision table: from what was found at the end of the log to what is done about it.
//!
//! A pure function over [`Facts`]. The log's valid batches, in the order of their chain, end at a place
//! called P; the facts are about P, about what stands behind it, and about what promises were found that
//! P, or something behind it, was durable.

use std::fmt;

use crate::format::FormatError;

/// The rows of the table, and the ways in which files can be missing or wrong before it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Case {
    /// There was no store: one was made.
    Fresh,
    /// The log ends where a clean close, or an earlier recovery, recorded that it ends.
    RecordedEnd,
    /// Behind the last batch there is nothing.
    CleanEnd,
    /// Behind the last batch stands the trace of writes that were in flight, and nothing says that they
    /// were acknowledged.
    TornTail,
    /// Opened for reading beside a writer, whose writes in flight stand behind the end.
    InUse,
    /// Opened for reading with [`Options::salvage`](crate::Options::salvage): the log is damaged, and what
    /// is before the damage is shown.
    Salvaged,
    /// Opened with [`Options::give_up_from`](crate::Options::give_up_from): the log is damaged, and ends
    /// before the damage from now on.
    GivenUp,
    /// Refused: the log was closed cleanly, or cut by an earlier recovery, at an end that is not found.
    RecordedEndLost,
    /// Refused: something later says that what is damaged was durable.
    AcknowledgedDamaged,
    /// Refused: behind the damage stands more than could have been in flight.
    MoreThanInFlight,
    /// Refused: no interrupted write leaves a batch like this.
    NoTearLeavesThis,
    /// Refused: there are segments but no manifest.
    ManifestMissing,
    /// Refused: the manifest is damaged, or of a newer format.
    ManifestDamaged(FormatError),
    /// Refused: a segment that the manifest names is not there.
    SegmentMissing,
    /// Refused: a segment is shorter than the manifest says.
    SegmentShort,
    /// Refused: a segment's header is damaged, or of a newer format.
    SegmentHeaderDamaged(FormatError),
    /// Refused: the file is not the segment that the manifest names: of another store, another number,
    /// or another life.
    SegmentForeign,
    /// Refused: a batch's checksums are good, but its records contradict it.
    BatchContradictory(FormatError),
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => f.write_str("there was no store"),
            Self::RecordedEnd => f.write_str("the log ends where its end was recorded"),
            Self::CleanEnd => f.write_str("behind the last batch there is nothing"),
            Self::TornTail => f.write_str("writes were in flight that nothing acknowledged"),
            Self::InUse => f.write_str("a writer is at work"),
            Self::Salvaged => f.write_str("what is before the damage is shown"),
            Self::GivenUp => f.write_str("everything from the damage on was given up"),
            Self::RecordedEndLost => f.write_str("the log does not reach its recorded end"),
            Self::AcknowledgedDamaged => f.write_str("acknowledged data is damaged"),
            Self::MoreThanInFlight => {
                f.write_str("behind the damage stands more than could have been in flight")
            }
            Self::NoTearLeavesThis => f.write_str("no interrupted write leaves a batch like this"),
            Self::ManifestMissing => f.write_str("there are segments but no manifest"),
            Self::ManifestDamaged(error) => write!(f, "the manifest cannot be read: {error}"),
            Self::SegmentMissing => f.write_str("a segment is missing"),
            Self::SegmentShort => f.write_str("a segment is shorter than it was"),
            Self::SegmentHeaderDamaged(error) => {
                write!(f, "the header of a segment cannot be read: {error}")
            }
            Self::SegmentForeign => f.write_str("a file is not the segment that it should be"),
            Self::BatchContradictory(error) => {
                write!(f, "a batch contradicts itself: {error}")
            }
        }
    }
}

/// A header that stands behind P, good by its own checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderBehind {
    pub sequence: u64,
    /// How many batches might be in flight with it, itself counted.
    pub window: u16,
    /// What was durable when it was closed.
    pub durable_sequence: u64,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// Where an end was recorded: whether P is that end.
    pub at_recorded_end: Option<bool>,
    /// The sequence number that the batch at P would have.
    pub next_sequence: u64,
    /// The last batch that a witness or a footer says was durable; 0 for none.
    pub promised_sequence: u64,
    /// Whether every byte from P on, in all segments, is zero.
    pub nothing_behind: bool,
    pub headers_behind: Vec<HeaderBehind>,
    /// Whether there are bytes farther behind P than writes in flight reach.
    pub bytes_out_of_reach: bool,
    /// For P and each damaged batch behind it: whether at least one of its sectors is as it was before
    /// the batch was written.
    pub damaged_have_sector_of_before: Vec<bool>,
    /// Whether the writer relied on sectors that are written whole or not at all; in the strict mode it
    /// did not, and an interrupted write may leave anything.
    pub sectors_are_whole: bool,
}

/// Decides: a case that opens, or one that refuses.
pub(crate) fn decide(facts: &Facts) -> Result<Case, Case> {
    match facts.at_recorded_end {
        Some(true) => return Ok(Case::RecordedEnd),
        Some(false) => return Err(Case::RecordedEndLost),
        None => {}
    }
    let promised_by_header =
        facts.headers_behind.iter().map(|header| header.durable_sequence).max();
    let promised = facts.promised_sequence.max(promised_by_header.unwrap_or(0));
    if promised >= facts.next_sequence {
        return Err(Case::AcknowledgedDamaged);
    }
    if facts.nothing_behind {
        return Ok(Case::CleanEnd);
    }
    let beyond_window = facts
        .headers_behind
        .iter()
        .any(|header| header.sequence >= facts.next_sequence + u64::from(header.window));
    if beyond_window || facts.bytes_out_of_reach {
        return Err(Case::MoreThanInFlight);
    }
    if facts.sectors_are_whole && facts.damaged_have_sector_of_before.contains(&false) {
        return Err(Case::NoTearLeavesThis);
    }
    Ok(Case::TornTail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P is batch 10; nothing behind it.
    fn facts() -> Facts {
        Facts {
            next_sequence: 10,
            nothing_behind: true,
            sectors_are_whole: true,
            ..Facts::default()
        }
    }

    /// P is batch 10, of which one sector is missing.
    fn torn() -> Facts {
        Facts { nothing_behind: false, damaged_have_sector_of_before: vec![true], ..facts() }
    }

    fn header(sequence: u64, window: u16, durable_sequence: u64) -> HeaderBehind {
        HeaderBehind { sequence, window, durable_sequence }
    }

    #[test]
    fn nothing_behind_the_last_batch_is_a_clean_end() {
        assert_eq!(decide(&facts()), Ok(Case::CleanEnd));
    }

    #[test]
    fn a_batch_without_one_of_its_sectors_is_a_torn_tail() {
        assert_eq!(decide(&torn()), Ok(Case::TornTail));
    }

    #[test]
    fn a_good_batch_within_the_window_behind_a_missing_one_is_a_torn_tail() {
        let found = Facts { headers_behind: vec![header(11, 4, 9), header(13, 4, 9)], ..torn() };
        assert_eq!(decide(&found), Ok(Case::TornTail));
    }

    #[test]
    fn a_later_header_that_knew_of_the_damaged_batch_refuses() {
        let found = Facts { headers_behind: vec![header(11, 4, 10)], ..torn() };
        assert_eq!(decide(&found), Err(Case::AcknowledgedDamaged));
    }

    #[test]
    fn a_witness_or_footer_that_knew_of_the_damaged_batch_refuses() {
        assert_eq!(
            decide(&Facts { promised_sequence: 10, ..torn() }),
            Err(Case::AcknowledgedDamaged)
        );
        assert_eq!(decide(&Facts { promised_sequence: 9, ..torn() }), Ok(Case::TornTail));
    }

    #[test]
    fn zeroes_where_an_acknowledged_batch_was_refuse() {
        assert_eq!(
            decide(&Facts { promised_sequence: 10, ..facts() }),
            Err(Case::AcknowledgedDamaged)
        );
    }

    #[test]
    fn more_behind_than_could_be_in_flight_refuses() {
        let found = Facts { headers_behind: vec![header(14, 4, 9)], ..torn() };
        assert_eq!(decide(&found), Err(Case::MoreThanInFlight));
        let found = Facts { headers_behind: vec![header(11, 1, 9)], ..torn() };
        assert_eq!(decide(&found), Err(Case::MoreThanInFlight));
        let found = Facts { bytes_out_of_reach: true, ..torn() };
        assert_eq!(decide(&found), Err(Case::MoreThanInFlight));
    }

    #[test]
    fn a_damaged_batch_with_all_its_sectors_written_refuses() {
        for damaged in [vec![false], vec![true, false], vec![false, true]] {
            let found = Facts { damaged_have_sector_of_before: damaged, ..torn() };
            assert_eq!(decide(&found), Err(Case::NoTearLeavesThis));
        }
    }

    #[test]
    fn where_sectors_may_tear_a_batch_without_a_sector_of_before_is_a_torn_tail() {
        let found = Facts {
            damaged_have_sector_of_before: vec![false],
            sectors_are_whole: false,
            ..torn()
        };
        assert_eq!(decide(&found), Ok(Case::TornTail));
    }

    #[test]
    fn a_recorded_end_that_is_reached_opens_whatever_stands_behind() {
        let found = Facts {
            at_recorded_end: Some(true),
            headers_behind: vec![header(10, 1, 9)],
            damaged_have_sector_of_before: vec![false],
            ..torn()
        };
        assert_eq!(decide(&found), Ok(Case::RecordedEnd));
    }

    #[test]
    fn a_recorded_end_that_is_not_reached_refuses_even_what_looks_torn() {
        let found = Facts { at_recorded_end: Some(false), ..torn() };
        assert_eq!(decide(&found), Err(Case::RecordedEndLost));
        let found = Facts { at_recorded_end: Some(false), ..facts() };
        assert_eq!(decide(&found), Err(Case::RecordedEndLost));
    }
}
