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

/// The index of a sealed segment.
pub(crate) fn index(number: u64) -> String {
    format!("segment-{number:010}.index")
}

/// What an index is written into before it is renamed.
pub(crate) fn index_next(number: u64) -> String {
    format!("segment-{number:010}.index.next")
}

/// What recovery has kept of a torn tail.
pub(crate) fn torn(number: u64, epoch: u64) -> String {
    format!("segment-{number:010}.torn-{epoch}")
}

/// The number of the segment whose file has this name; none for other files.
pub(crate) fn parse_segment(name: &str) -> Option<u64> {
    parse(name, ".log")
}

/// The number of the segment whose index has this name; none for other files.
pub(crate) fn parse_index(name: &str) -> Option<u64> {
    parse(name, ".index")
}

/// Whether a file belongs to a segment: the segment itself, its index, or what was kept of it.
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
            assert_eq!(parse_index(&index(number)), Some(number));
            assert_eq!(parse_segment(&index(number)), None);
            assert_eq!(parse_index(&index_next(number)), None);
            assert_eq!(parse_segment(&torn(number, 3)), None);
        }
        assert_eq!(parse_segment("segment-1.log"), None);
        assert_eq!(parse_segment("segment-+000000001.log"), None);
    }
}
