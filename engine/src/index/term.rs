//! Terms: what an event can be found by.
//!
//! Owns the kinds and the one hash that is persisted. Anyone may use it; it calls XXH3 only.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What sort of thing a term names. The numbers are persisted and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum TermKind {
    /// The stream that an event belongs to; its postings carry stream versions.
    Stream = 1,
    /// The category of its stream.
    Category = 2,
    /// The name of its type, whatever the schema's version.
    Type = 3,
    /// One of its tags.
    Tag = 4,
    /// The streams of a category: its events are the first ones of streams.
    StreamsOf = 5,
    /// Its id, of 16 bytes.
    Id = 6,
}

impl TermKind {
    /// The persisted number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }

    /// The kind of a persisted number, if this version knows it.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Stream),
            2 => Some(Self::Category),
            3 => Some(Self::Type),
            4 => Some(Self::Tag),
            5 => Some(Self::StreamsOf),
            6 => Some(Self::Id),
            _ => None,
        }
    }
}

/// A kind and the bytes of a name. Equal bytes of different kinds are different terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Term<'a> {
    pub(crate) kind: TermKind,
    pub(crate) bytes: &'a [u8],
}

/// The persisted 64-bit hash of a term. Two terms may share it, so no answer rests on it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TermHash(pub(crate) u64);

impl<'a> Term<'a> {
    /// The term of a stream's name.
    pub(crate) const fn stream(name: &'a [u8]) -> Self {
        Self { kind: TermKind::Stream, bytes: name }
    }

    /// The term of a category.
    pub(crate) const fn category(name: &'a [u8]) -> Self {
        Self { kind: TermKind::Category, bytes: name }
    }

    /// The term of an event type's name.
    pub(crate) const fn event_type(name: &'a [u8]) -> Self {
        Self { kind: TermKind::Type, bytes: name }
    }

    /// The term of a tag.
    pub(crate) const fn tag(tag: &'a [u8]) -> Self {
        Self { kind: TermKind::Tag, bytes: tag }
    }

    /// The term of the first events of a category's streams.
    pub(crate) const fn streams_of(category: &'a [u8]) -> Self {
        Self { kind: TermKind::StreamsOf, bytes: category }
    }

    /// The term of an event's id.
    pub(crate) const fn id(id: &'a [u8; 16]) -> Self {
        Self { kind: TermKind::Id, bytes: id }
    }

    /// XXH3-64 of the bytes with the kind's number as the seed. Sealed files are sorted by it: another
    /// algorithm needs another format version.
    pub(crate) fn xxh3_64(&self) -> TermHash {
        TermHash(xxh3_64_with_seed(self.bytes, u64::from(self.kind.code())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_persisted_hash_of_a_term_never_changes() {
        assert_eq!(Term::stream(b"order-17").xxh3_64(), TermHash(6_676_436_319_879_805_272));
        assert_eq!(Term::stream(&[b'x'; 256]).xxh3_64(), TermHash(10_421_567_070_846_207_039));
    }

    #[test]
    fn every_kind_is_found_again_by_its_number() {
        use TermKind::{Category, Id, Stream, StreamsOf, Tag, Type};
        for kind in [Stream, Category, Type, Tag, StreamsOf, Id] {
            assert_eq!(TermKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(TermKind::from_code(0), None);
        assert_eq!(TermKind::from_code(7), None);
    }

    #[test]
    fn equal_bytes_of_different_kinds_are_different_terms() {
        let bytes = [7; 16];
        let terms = [
            Term::stream(&bytes),
            Term::category(&bytes),
            Term::event_type(&bytes),
            Term::tag(&bytes),
            Term::streams_of(&bytes),
            Term::id(&bytes),
        ];
        for (code, term) in (1..).zip(terms) {
            assert_eq!(term.kind.code(), code);
            for other in terms.iter().filter(|other| other.kind != term.kind) {
                assert!(*other != term && other.xxh3_64() != term.xxh3_64());
            }
        }
    }
}
