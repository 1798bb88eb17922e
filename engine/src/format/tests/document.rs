//! Tables of documents, held against bytes.

/// A field's name in the document, and the bytes that it should have.
pub(super) type Field = (&'static str, Vec<u8>);

/// The cells of the rows of the first table below a heading.
pub(super) fn table(document: &'static str, heading: &str) -> Vec<Vec<&'static str>> {
    let mut lines = document.lines().skip_while(|line| *line != heading).skip(1);
    assert!(lines.clone().next().is_some(), "the document has no `{heading}`");
    let rows = lines.by_ref().skip_while(|line| !line.starts_with('|')).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Checks that the rows of a table lie one behind the other over `length` bytes, have the names of
/// `fields`, and that `bytes` has each field's value where its row says. Reserved rows are zero.
pub(super) fn check(
    document: &'static str,
    heading: &str,
    length: usize,
    bytes: &[u8],
    fields: &[Field],
) {
    let mut fields = fields.iter();
    let mut end = 0;
    for row in table(document, heading) {
        let (offset, size): (usize, usize) = (row[0].parse().unwrap(), row[1].parse().unwrap());
        assert_eq!(offset, end, "{heading}: {row:?}");
        end += size;
        let found = &bytes[offset..end];
        if row[2] == "reserved" {
            assert!(found.iter().all(|byte| *byte == 0), "{heading}: {row:?}");
            continue;
        }
        let (name, value) = fields.next().unwrap_or_else(|| panic!("{heading}: no field {row:?}"));
        let after = row[2].strip_prefix(name).unwrap_or_else(|| panic!("{row:?} is not `{name}`"));
        assert!(!after.starts_with(char::is_alphanumeric), "{row:?} is not `{name}`");
        assert_eq!(found, value, "{heading}: {row:?}");
    }
    assert_eq!(end, length, "{heading}: its rows do not cover it");
    assert_eq!(fields.next(), None, "{heading}: a field has no row");
}
