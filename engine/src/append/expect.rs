//! What an append expects of its stream.

use std::fmt;

/// What must be true of a stream for an append to it to happen. The first event of a stream has
/// version 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Expect {
    /// Anything.
    #[default]
    Any,
    /// The stream has no event yet.
    NoStream,
    /// The stream has an event.
    Exists,
    /// The stream's last event has this version.
    Version(u64),
}

impl Expect {
    /// Whether a stream whose last event has version `last` is as expected.
    pub(crate) fn holds(self, last: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => last.is_none(),
            Self::Exists => last.is_some(),
            Self::Version(version) => last == Some(version),
        }
    }

    /// What holds where both hold; none where that cannot be.
    pub(crate) fn and(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, one) | (one, Self::Any) => Some(one),
            (one, other) if one == other => Some(one),
            (Self::Exists, Self::Version(version)) | (Self::Version(version), Self::Exists) => {
                Some(Self::Version(version))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::NoStream => f.write_str("no events"),
            Self::Exists => f.write_str("at least one event"),
            Self::Version(version) => write!(f, "version {version} as the last"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Expect::{Any, Exists, NoStream, Version};

    #[test]
    fn each_expectation_holds_for_what_it_says() {
        for (expect, none, zero, one) in [
            (Any, true, true, true),
            (NoStream, true, false, false),
            (Exists, false, true, true),
            (Version(0), false, true, false),
            (Version(1), false, false, true),
        ] {
            assert_eq!(expect.holds(None), none, "{expect:?}");
            assert_eq!(expect.holds(Some(0)), zero, "{expect:?}");
            assert_eq!(expect.holds(Some(1)), one, "{expect:?}");
        }
    }

    #[test]
    fn two_expectations_together_hold_where_both_do() {
        let all = [Any, NoStream, Exists, Version(0), Version(1)];
        let heads = [None, Some(0), Some(1), Some(2)];
        for (one, other) in all.iter().flat_map(|one| all.iter().map(move |other| (*one, *other))) {
            for head in heads {
                let both = one.and(other).is_some_and(|both| both.holds(head));
                assert_eq!(
                    both,
                    one.holds(head) && other.holds(head),
                    "{one:?} {other:?} {head:?}"
                );
            }
        }
    }
}
