//! The rules for names of streams, types and tags.

use std::fmt;

use crate::limits::{NAME_BYTES_MAX, NAME_BYTES_MIN};

/// Which name an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NamePart {
    /// The name of a stream.
    Stream,
    /// The name of an event type.
    EventType,
    /// A tag.
    Tag,
    /// The category of streams.
    Category,
}

impl fmt::Display for NamePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stream => "stream name",
            Self::EventType => "event type",
            Self::Tag => "tag",
            Self::Category => "category",
        })
    }
}

/// A name that the store does not take. Names have 1 to 256 bytes of UTF-8 without control characters,
/// and those of streams and types do not begin with `$`, which the store keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidName {
    /// It has no bytes.
    #[error("a {part} must not be empty")]
    Empty {
        /// Which name.
        part: NamePart,
    },
    /// It has more than [`NAME_BYTES_MAX`] bytes.
    #[error("a {part} may have {NAME_BYTES_MAX} bytes, this one has {bytes}: {beginning:?}…")]
    Long {
        /// Which name.
        part: NamePart,
        /// Its length.
        bytes: usize,
        /// Its first characters.
        beginning: String,
    },
    /// It has a control character.
    #[error("the {part} {name:?} has a control character")]
    Control {
        /// Which name.
        part: NamePart,
        /// The name.
        name: String,
    },
    /// It begins with `$`.
    #[error("the {part} {name:?} begins with '$', which is reserved for the store")]
    Reserved {
        /// Which name.
        part: NamePart,
        /// The name.
        name: String,
    },
}

/// Checks a name that a user gave to be written.
pub(crate) fn check_user_name(part: NamePart, name: &str) -> Result<(), InvalidName> {
    check_sought(part, name)?;
    if part != NamePart::Tag && name.starts_with('$') {
        return Err(InvalidName::Reserved { part, name: name.into() });
    }
    Ok(())
}

/// Checks the name of a stream that is to be read; the store's own may be.
pub(crate) fn check_stream(name: &str) -> Result<(), InvalidName> {
    check_sought(NamePart::Stream, name)
}

/// Checks a name that is to be found; the store's own may be.
pub(crate) fn check_sought(part: NamePart, name: &str) -> Result<(), InvalidName> {
    if name.len() < NAME_BYTES_MIN {
        return Err(InvalidName::Empty { part });
    }
    if name.len() > NAME_BYTES_MAX {
        let beginning = name.chars().take(32).collect();
        return Err(InvalidName::Long { part, bytes: name.len(), beginning });
    }
    // Nearly every name is of printable ASCII, and that is seen at a glance.
    if !is_printable_ascii(name.as_bytes()) && name.chars().any(char::is_control) {
        return Err(InvalidName::Control { part, name: name.into() });
    }
    Ok(())
}

/// Whether each byte is from a space to a tilde. Eight are compared at once, since this is asked of several names of
/// each event.
fn is_printable_ascii(name: &[u8]) -> bool {
    const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);
    const UP_FROM_SPACE: u64 = u64::from_le_bytes([0x80 - b' '; 8]);
    const UP_FROM_BEHIND_TILDE: u64 = u64::from_le_bytes([0x80 - (b'~' + 1); 8]);
    let all_are = |word: u64| {
        // Without the high bit, no sum leaves its byte; then it has that bit from the bound on.
        let is_low = word & HIGH_BITS == 0;
        let (up, over) =
            (word.wrapping_add(UP_FROM_SPACE), word.wrapping_add(UP_FROM_BEHIND_TILDE));
        is_low && up & !over & HIGH_BITS == HIGH_BITS
    };
    let Some(last) = name.last_chunk::<8>() else {
        return name.iter().all(|byte| (b' '..=b'~').contains(byte));
    };
    // The last eight overlap with those before, where the length is no multiple.
    let mut words = name.as_chunks::<8>().0.iter().chain([last]);
    words.all(|word| all_are(u64::from_le_bytes(*word)))
}

/// The category of a stream: what stands before the first `-` of its name. A name without one, or with
/// a leading one, has none.
///
/// ```
/// assert_eq!(stratalog::category("ticket-42"), Some("ticket"));
/// assert_eq!(stratalog::category("ticket"), None);
/// assert_eq!(stratalog::category("-42"), None);
/// ```
pub fn category(stream: &str) -> Option<&str> {
    stream.split_once('-').map(|(category, _)| category).filter(|category| !category.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_not_printable_is_seen_wherever_it_stands() {
        for length in 0..40 {
            let mut name = vec![b'a'; length];
            assert!(is_printable_ascii(&name));
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    name[place] = byte;
                    let expected = (b' '..=b'~').contains(&byte);
                    assert_eq!(
                        is_printable_ascii(&name),
                        expected,
                        "{byte} at {place} of {length}"
                    );
                }
                name[place] = b'a';
            }
        }
    }

    #[test]
    fn each_rule_has_its_own_error() {
        let check = |name: &str| check_user_name(NamePart::Stream, name);
        assert_eq!(check("ticket-42"), Ok(()));
        assert_eq!(check("ü"), Ok(()));
        assert!(matches!(check(""), Err(InvalidName::Empty { .. })));
        assert!(matches!(check(&"x".repeat(257)), Err(InvalidName::Long { bytes: 257, .. })));
        assert_eq!(check(&"x".repeat(256)), Ok(()));
        assert!(matches!(check("a\nb"), Err(InvalidName::Control { .. })));
        assert!(matches!(check("$log"), Err(InvalidName::Reserved { .. })));
        assert_eq!(check_user_name(NamePart::Tag, "$5"), Ok(()));
        assert_eq!(check_stream("$log"), Ok(()));
    }
}
