//! The names of a store's files. They come from numbers, never from what users name.

/// The manifest.
pub(crate) const MANIFEST: &str = "manifest";
/// What the next manifest is written into before it is renamed.
pub(crate) const MANIFEST_NEXT: &str = "manifest.next";
/// The file whose lock says that a writer has the store open.
pub(crate) const LOCK: &str = "lock";

/// A segment of the log.
pub(crate) fn segment(number: u64) -> String {
    format!("segment-{number:010}.log")
}

/// The table of a sealed segment.
pub(crate) fn table(number: u64) -> String {
    format!("segment-{number:010}.table")
}

/// The run of the terms of the sealed segments from the first to the last of these numbers.
pub(crate) fn run(first: u64, last: u64) -> String {
    format!("terms-{first:010}-{last:010}.index")
}

/// What a file of the index, or a segment of snapshots that is compacted, is written into before it is renamed.
pub(crate) fn next(name: &str) -> String {
    format!("{name}{NEXT}")
}

const NEXT: &str = ".next";

/// What recovery has kept of a torn tail.
pub(crate) fn torn(number: u64, epoch: u64) -> String {
    format!("segment-{number:010}.torn-{epoch}")
}

/// The number of the segment whose file has this name; none for other files.
pub(crate) fn parse_segment(name: &str) -> Option<u64> {
    parse(name, ".log")
}

/// The number of the segment whose table has this name; none for other files.
pub(crate) fn parse_table(name: &str) -> Option<u64> {
    parse(name, ".table")
}

/// The numbers of the first and the last segment of the run that has this name; none for other files.
pub(crate) fn parse_run(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_prefix("terms-")?.strip_suffix(".index")?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && name == run(first, last)).then_some((first, last))
}

/// The segment of snapshots of this number, once it is sealed.
pub(crate) fn snapshots(number: u64) -> String {
    format!("{SNAPSHOTS}{number:010}{SNAPSHOTS_SEALED}")
}

/// As [`snapshots`], while it takes snapshots.
pub(crate) fn open_snapshots(number: u64) -> String {
    format!("{SNAPSHOTS}{number:010}{SNAPSHOTS_OPEN}")
}

const SNAPSHOTS: &str = "snapshots-";
const SNAPSHOTS_SEALED: &str = ".sealed";
const SNAPSHOTS_OPEN: &str = ".open";

/// The number of the sealed segment of snapshots whose file has this name; none for other files.
pub(crate) fn parse_snapshots(name: &str) -> Option<u64> {
    let number = name.strip_prefix(SNAPSHOTS)?.strip_suffix(SNAPSHOTS_SEALED)?.parse().ok()?;
    (name == snapshots(number)).then_some(number)
}

/// As [`parse_snapshots`], of one that takes snapshots, or did when its writer ended.
pub(crate) fn parse_open_snapshots(name: &str) -> Option<u64> {
    let number = name.strip_prefix(SNAPSHOTS)?.strip_suffix(SNAPSHOTS_OPEN)?.parse().ok()?;
    (name == open_snapshots(number)).then_some(number)
}

/// What says which snapshots are not to be used.
pub(crate) const SNAPSHOT_DROPS: &str = "snapshots.dropped";

/// The number of the segment of snapshots, in whatever state, whose file has this name; none for other files.
pub(crate) fn number_of_snapshots(name: &str) -> Option<u64> {
    let name = name.strip_suffix(NEXT).unwrap_or(name);
    parse_snapshots(name).or_else(|| parse_open_snapshots(name))
}

/// Whether a file was left behind by an interrupted compaction of snapshots.
pub(crate) fn is_unfinished_snapshots(name: &str) -> bool {
    name.strip_suffix(NEXT).is_some_and(|name| parse_snapshots(name).is_some())
}

/// Whether a file was left behind by an interrupted writing of a table or a run.
pub(crate) fn is_unfinished_index(name: &str) -> bool {
    name.strip_suffix(NEXT)
        .is_some_and(|name| parse_table(name).is_some() || parse_run(name).is_some())
}

/// Whether a file belongs to a segment: the segment itself, its table, or what was kept of it.
pub(crate) fn is_of_segment(name: &str) -> bool {
    name.starts_with("segment-")
}

fn parse(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(suffix)?;
    let number = digits.parse().ok()?;
    // Only the one spelling that the store writes.
    (name == format!("segment-{number:010}{suffix}")).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_numbers_and_others_do_not() {
        for number in [0, 1, 9_999_999_999, 10_000_000_000, u64::MAX] {
            assert_eq!(parse_segment(&segment(number)), Some(number));
            assert_eq!(parse_table(&table(number)), Some(number));
            assert_eq!(parse_segment(&table(number)), None);
            assert_eq!(parse_table(&next(&table(number))), None);
            assert_eq!(parse_segment(&torn(number, 3)), None);
            assert_eq!(parse_run(&run(number, number)), Some((number, number)));
            assert_eq!(parse_run(&run(0, number)), Some((0, number)));
            assert!(is_unfinished_index(&next(&table(number))));
            assert!(is_unfinished_index(&next(&run(7, u64::MAX))));
            assert!(!is_unfinished_index(&table(number)));
            assert_eq!(parse_snapshots(&snapshots(number)), Some(number));
            assert_eq!(parse_open_snapshots(&open_snapshots(number)), Some(number));
            assert_eq!(parse_snapshots(&open_snapshots(number)), None);
            assert_eq!(parse_snapshots(&next(&snapshots(number))), None);
            assert!(is_unfinished_snapshots(&next(&snapshots(number))));
            assert!(!is_unfinished_snapshots(&snapshots(number)));
            assert!(!is_of_segment(&snapshots(number)));
            assert_eq!(number_of_snapshots(&next(&snapshots(number))), Some(number));
            assert_eq!(number_of_snapshots(&open_snapshots(number)), Some(number));
            assert_eq!(number_of_snapshots(&segment(number)), None);
        }
        assert_eq!(parse_segment("segment-1.log"), None);
        assert_eq!(parse_segment("segment-+000000001.log"), None);
        assert_eq!(parse_run("terms-0000000002-0000000001.index"), None);
        assert_eq!(parse_run("terms-1-2.index"), None);
        assert!(!is_unfinished_index("manifest.next"));
        assert_eq!(number_of_snapshots(SNAPSHOT_DROPS), None);
    }
}
