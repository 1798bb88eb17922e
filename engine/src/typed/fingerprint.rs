//! Fingerprints of how values lie in memory.
//!
//! Owns [`Fingerprint`]: it is computed while a program is compiled, from what its parts are called and how each of them
//! lies. Stored with each event type in each segment, so the algorithm never changes.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::const_xxh3::{xxh3_128, xxh3_128_with_seed};

/// What every fingerprint begins with: the form that rkyv gives to archives, which its features choose.
const FORM: &[u8] = b"rkyv 0.8, little-endian, aligned, pointers of 32 bits";

/// The fingerprint of a type's layout in its archived form: 128 bits that differ where the layout does.
///
/// It folds in the names and the order of fields and variants, and the fingerprints of their types; not the names of the
/// types themselves, so that those may be called otherwise. It is XXH3-128 over the parts in their order.
///
/// ```
/// use stratalog::{Fingerprint, Layout};
///
/// assert_eq!(<Vec<u8>>::LAYOUT, Fingerprint::of("vec").with(u8::LAYOUT));
/// assert_ne!(u32::LAYOUT, i32::LAYOUT);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// That of payloads without a layout: bytes and JSON.
    pub const NONE: Self = Self(0);

    /// The fingerprint of what is only called so.
    pub const fn of(name: &str) -> Self {
        Self(xxh3_128(FORM)).then(name)
    }

    /// The fingerprint of what is of somebody else's making, under a name and a version that its user gives to its layout:
    /// a new version where that changes. Values may refer to others of their kind, but no deeper than
    /// [`PAYLOAD_DEPTH_MAX`](crate::limits::PAYLOAD_DEPTH_MAX): what is deeper cannot be read.
    ///
    /// ```
    /// # use stratalog::{Fingerprint, Layout};
    /// struct Money(/* of another crate */ u64);
    /// impl Layout for Money {
    ///     const LAYOUT: Fingerprint = Fingerprint::opaque("money", 1);
    /// }
    /// ```
    pub const fn opaque(name: &str, version: u32) -> Self {
        Self::of("opaque").then(name).with(Self(version as u128))
    }

    /// This, and then a name.
    #[must_use]
    pub const fn then(self, name: &str) -> Self {
        self.fold(0, xxh3_128(name.as_bytes()))
    }

    /// This, and then a part with a fingerprint of its own.
    #[must_use]
    pub const fn with(self, part: Self) -> Self {
        self.fold(1, part.0)
    }

    const fn fold(self, kind: u64, part: u128) -> Self {
        let (before, part) = (self.0.to_le_bytes(), part.to_le_bytes());
        let mut both = [0; 32];
        let mut at = 0;
        while at < 16 {
            both[at] = before[at];
            both[16 + at] = part[at];
            at += 1;
        }
        Self(xxh3_128_with_seed(&both, kind))
    }

    /// It as a number, as it is stored.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// The fingerprint with this number.
    pub const fn from_number(number: u128) -> Self {
        Self(number)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is no fingerprint: 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has 32 hexadecimal digits")]
pub struct ParseFingerprintError;

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(text: &str) -> Result<Self, ParseFingerprintError> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or(ParseFingerprintError)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_never_changes() {
        // These stand in stores. If they change, every typed event that was ever written is refused.
        let known = [
            (Fingerprint::of("u32"), "7c774d5fe75c830cd3e7ba25b1f242d9"),
            (Fingerprint::opaque("money", 1), "efa55ecad99be6281e26cee18c20d6d9"),
            (
                Fingerprint::of("struct").then("a").with(Fingerprint::of("u32")),
                "446e58d66fffb18158cdd9344749bdba",
            ),
        ];
        for (fingerprint, text) in known {
            assert_eq!(fingerprint.to_string(), text);
            assert_eq!(text.parse(), Ok(fingerprint));
        }
        for text in
            ["", "+123", "0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdeg"]
        {
            assert_eq!(text.parse::<Fingerprint>(), Err(ParseFingerprintError));
        }
    }

    #[test]
    fn names_and_parts_are_not_mistaken_for_each_other() {
        let base = Fingerprint::of("struct");
        let name = base.then("a");
        let part = base.with(Fingerprint(xxh3_128(b"a")));
        assert_ne!(name, part);
        assert_ne!(base.then("ab").then("c"), base.then("a").then("bc"));
        assert_ne!(base.then("a").then("b"), base.then("b").then("a"));
    }
}
