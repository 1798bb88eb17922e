//! The records of which sections are made.
//!
//! Owns the fields of dictionary entries, ids and event types, and the buckets that the first two are
//! found by; all little-endian. It calls nothing; what writes and what reads goes by it.
//! `docs/index_files.md` has the same as tables.

use super::super::term::TermHash;

/// Bytes of a dictionary entry.
pub(super) const ENTRY_BYTES: usize = 16;
/// Bytes of an id: its key and the event's ordinal.
pub(super) const ID_BYTES: usize = 8;
/// Bytes of an event type before its name, and of where it begins.
pub(super) const TYPE_HEAD_BYTES: usize = 22;
pub(super) const TYPE_START_BYTES: usize = 4;
/// The most that a dictionary entry can say of a count; the list begins with the count where there are
/// as many or more.
pub(super) const COUNT_MAX: u32 = (1 << KIND_SHIFT) - 1;

/// The count of an entry leaves the highest byte of its word for the kind.
const KIND_SHIFT: u32 = 24;

/// A term in the dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) hash: TermHash,
    /// [`COUNT_MAX`] where the list says itself how many postings it has.
    pub(super) count: u32,
    pub(super) kind_code: u8,
    /// The ordinal where there is one posting, else where the list begins in its section.
    pub(super) place: u32,
}

impl Entry {
    pub(super) fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        put(&mut bytes, 0, &self.hash.0.to_le_bytes());
        let count = self.count.min(COUNT_MAX) | u32::from(self.kind_code) << KIND_SHIFT;
        put(&mut bytes, 8, &count.to_le_bytes());
        put(&mut bytes, 12, &self.place.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let count = u32_at(bytes, 8)?;
        let [.., kind_code] = count.to_le_bytes();
        Some(Self {
            hash: TermHash(u64_at(bytes, 0)?),
            count: count & COUNT_MAX,
            kind_code,
            place: u32_at(bytes, 12)?,
        })
    }

    /// What the dictionary is ordered by.
    pub(super) fn order(&self) -> (TermHash, u8) {
        (self.hash, self.kind_code)
    }
}

/// An event's id as a run has it: the top bits of the hash of its term, and the event's ordinal. The ids
/// of a run are in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct IdEntry {
    pub(super) key: u32,
    pub(super) ordinal: u32,
}

impl IdEntry {
    /// The entry that has this place in the order of the file: the key, then the ordinal.
    pub(super) fn from_order(order: u64) -> Self {
        let half = |half: u64| u32::try_from(half & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        Self { key: half(order >> 32), ordinal: half(order) }
    }

    pub(super) fn to_bytes(self) -> [u8; ID_BYTES] {
        let mut bytes = [0; ID_BYTES];
        put(&mut bytes, 0, &self.key.to_le_bytes());
        put(&mut bytes, 4, &self.ordinal.to_le_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        let word = u64::from_le_bytes(bytes);
        Self { key: low_half(word), ordinal: low_half(word >> 32) }
    }
}

/// An event type as the segment's definition records have it. Its number is its place: the types of a
/// segment are dense from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventType<'a> {
    pub(crate) schema_version: u32,
    /// The fingerprint of the payload's layout.
    pub(crate) fingerprint: u128,
    pub(crate) name: &'a str,
}

impl<'a> EventType<'a> {
    pub(super) fn write(&self, out: &mut Vec<u8>, name_bytes: u16) {
        out.extend_from_slice(&self.schema_version.to_le_bytes());
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
        out.extend_from_slice(&name_bytes.to_le_bytes());
        out.extend_from_slice(self.name.as_bytes());
    }

    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (head, name) = bytes.split_at_checked(TYPE_HEAD_BYTES)?;
        let name_bytes = u16::from_le_bytes(array_at(head, 20)?);
        Some(Self {
            schema_version: u32_at(head, 0)?,
            fingerprint: u128::from_le_bytes(array_at(head, 4)?),
            name: std::str::from_utf8(name)
                .ok()
                .filter(|name| name.len() == usize::from(name_bytes))?,
        })
    }
}

/// The bucket of a hash among a power of two of them: its top bits, so that buckets follow one another
/// in the dictionary, which is sorted by hash.
pub(super) fn bucket_of(hash: TermHash, buckets: usize) -> usize {
    let bits = buckets.trailing_zeros();
    // A shift by the whole width, where there is one bucket, leaves nothing.
    hash.0.checked_shr(u64::BITS - bits).and_then(|top| usize::try_from(top).ok()).unwrap_or(0)
}

/// How many buckets the dictionary of so many terms has: two to four terms each.
pub(super) fn buckets_for(terms: u32) -> usize {
    (terms as usize / 4).next_power_of_two()
}

/// The key of an id: the top bits of its term's hash.
pub(super) fn id_key(hash: TermHash) -> u32 {
    low_half(hash.0 >> 32)
}

/// The bucket of an id's key among a power of two of them.
pub(super) fn id_bucket_of(key: u32, buckets: usize) -> usize {
    key.checked_shr(u32::BITS - buckets.trailing_zeros()).unwrap_or(0) as usize
}

/// How many buckets the ids of so many events have: 8 to 16 ids each, which lie in few cache lines.
pub(super) fn id_buckets_for(events: u32) -> usize {
    (events as usize / 16).next_power_of_two()
}

/// The low 32 bits.
pub(super) const fn low_half(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

/// Writes into a buffer of fixed size, where the layout has room by construction.
pub(super) fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) {
    buffer[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let hash = TermHash(u64::MAX - 5);
        let entry = Entry { hash, count: COUNT_MAX - 1, kind_code: 255, place: 77 };
        assert_eq!(Entry::from_bytes(&entry.to_bytes()), Some(entry));
        assert_eq!(Entry::from_bytes(&entry.to_bytes()[1..]), None);
    }

    #[test]
    fn a_count_that_an_entry_has_no_room_for_leaves_its_kind_alone() {
        let entry = Entry { hash: TermHash(1), count: u32::MAX, kind_code: 3, place: 0 };
        let read = Entry::from_bytes(&entry.to_bytes()).unwrap();
        assert_eq!((read.count, read.kind_code), (COUNT_MAX, 3));
    }

    #[test]
    fn buckets_are_the_top_bits_of_the_hash() {
        assert_eq!(bucket_of(TermHash(u64::MAX), 1), 0);
        assert_eq!(bucket_of(TermHash(u64::MAX), 8), 7);
        assert_eq!(bucket_of(TermHash(1 << 61), 8), 1);
        for buckets in [1, 2, 1 << 10] {
            for hash in [0, u64::MAX, 0x1234_5678_9abc_def0] {
                let key = id_key(TermHash(hash));
                assert_eq!(id_bucket_of(key, buckets), bucket_of(TermHash(hash), buckets));
            }
        }
    }

    #[test]
    fn a_bucket_holds_two_to_four_terms() {
        for terms in [4, 5, 7, 8, 1000, 1 << 20, (1 << 20) + 1] {
            let buckets = buckets_for(terms);
            let terms = terms as usize;
            assert!(buckets * 4 + 3 >= terms && buckets * 2 <= terms, "{terms} in {buckets}");
        }
        assert_eq!(buckets_for(0), 1);
    }

    #[test]
    fn an_event_type_is_read_as_it_was_written() {
        let written = EventType { schema_version: 3, fingerprint: 1 << 100, name: "Ordered" };
        let mut bytes = Vec::new();
        written.write(&mut bytes, 7);
        assert_eq!(EventType::parse(&bytes), Some(written));
        assert_eq!(EventType::parse(&bytes[..bytes.len() - 1]), None);
    }
}
