//! Segments of snapshots: header, records, and of those that are sealed an index of their keys and a footer.
//!
//! Owns their bytes. As everywhere in a store, a checksum begins with the identity of the file and the place in it, so that
//! a snapshot of another store, or one that stands elsewhere than where it was written, does not pass.

use super::FormatError;
use super::bytes::{
    get_array, get_i64, get_u16, get_u32, get_u64, get_u128, put_i64, put_u32, put_u64,
};
use super::checksum::{SegmentIdentity, SegmentKey, StoreId, plain};
use super::constants::{
    RECORD_JSON, RECORD_RKYV, SNAPSHOT_ENTRY_BYTES, SNAPSHOT_HEADER_BYTES, SNAPSHOT_PAGE_ENTRIES,
    SNAPSHOTS_FOOTER_BYTES, SNAPSHOTS_FOOTER_MAGIC, SNAPSHOTS_HEADER_BYTES, SNAPSHOTS_MAGIC,
};
use super::segment::check_version;
use crate::limits::{BLOCK, BLOCK_BYTES, RECORD_ALIGN};

/// The unit of lengths and offsets in the index.
const UNIT: u64 = RECORD_ALIGN as u64;
/// The same, of a record's length.
const UNIT_32: u32 = 16;
const _: () = assert!(UNIT_32 as usize == RECORD_ALIGN);
/// Where on a page of the index its checksum and its count stand.
const PAGE_CRC_AT: usize = SNAPSHOT_PAGE_ENTRIES * SNAPSHOT_ENTRY_BYTES;
const PAGE_COUNT_AT: usize = PAGE_CRC_AT + 4;

/// Writes the header of a segment of snapshots into its first block.
pub(crate) fn write_header(identity: &SegmentIdentity, created_at: i64, block: &mut [u8]) {
    block[..8].copy_from_slice(&SNAPSHOTS_MAGIC);
    put_u32(block, 8, super::constants::FORMAT_VERSION);
    block[16..32].copy_from_slice(&identity.store.0);
    put_u64(block, 32, identity.segment);
    put_u64(block, 40, identity.salt);
    put_i64(block, 48, created_at);
    let crc = plain(&block[..SNAPSHOTS_HEADER_BYTES]);
    put_u32(block, 12, crc);
}

/// Who a segment of snapshots is.
///
/// # Errors
/// [`FormatError`].
pub(crate) fn parse_header(block: &[u8]) -> Result<SegmentIdentity, FormatError> {
    let block = block.get(..SNAPSHOTS_HEADER_BYTES).ok_or(FormatError::Short)?;
    if block[..8] != SNAPSHOTS_MAGIC {
        return Err(FormatError::Magic);
    }
    if get_u32(block, 12) != plain(block) {
        return Err(FormatError::Checksum);
    }
    check_version(get_u32(block, 8))?;
    let store = StoreId(get_array(block, 16));
    Ok(SegmentIdentity { store, segment: get_u64(block, 32), salt: get_u64(block, 40) })
}

/// The event that a snapshot reflects, and where it is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub position: u64,
    /// The version of the stream.
    pub version: u64,
    pub event_id: [u8; 16],
    /// The stored checksum of the event's frame.
    pub frame_crc: u32,
}

/// What a snapshot is of: a stream, or something else of that kind, under the name of the type of its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordKey<'a> {
    pub kind: u8,
    pub key: &'a [u8],
    pub state: &'a [u8],
}

impl RecordKey<'_> {
    /// By what it stands in an index: XXH3-64 of the kind, the length of the state's name in two bytes, that name, and the
    /// key.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&[self.kind]);
        hasher.update(&length16(self.state).to_le_bytes());
        hasher.update(self.state);
        hasher.update(self.key);
        hasher.digest()
    }
}

/// The length of a name, which is bounded far below 2¹⁶.
fn length16(name: &[u8]) -> u16 {
    u16::try_from(name.len()).unwrap_or(u16::MAX)
}

/// What a record says besides its key, its stamp and its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordFields {
    /// How its payload is to be understood.
    pub kind: u8,
    /// The version and the fingerprint of the state's structure.
    pub state_version: u32,
    pub fingerprint: u128,
    /// Those of a key that were made later have greater ones, wherever they stand.
    pub sequence: u64,
    /// Nanoseconds since the Unix epoch.
    pub taken_at: i64,
}

/// Appends a record to `out`, which ends at a multiple of [`RECORD_ALIGN`]. It has no checksum before it is
/// [placed](place_record).
pub(crate) fn write_record(
    fields: &RecordFields,
    key: RecordKey<'_>,
    stamp: &Stamp,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.resize(start + SNAPSHOT_HEADER_BYTES, 0);
    out.extend_from_slice(payload);
    out.extend_from_slice(key.key);
    out.extend_from_slice(key.state);
    out.resize(start + (out.len() - start).next_multiple_of(RECORD_ALIGN), 0);
    let record = &mut out[start..];
    let bytes = length32(record);
    put_u32(record, 0, bytes);
    record[8] = fields.kind;
    record[9] = key.kind;
    record[10..12].copy_from_slice(&length16(key.key).to_le_bytes());
    record[12..14].copy_from_slice(&length16(key.state).to_le_bytes());
    put_u32(record, 16, fields.state_version);
    put_u32(record, 20, length32(payload));
    put_u64(record, 24, fields.sequence);
    put_u64(record, 32, stamp.position);
    put_u64(record, 40, stamp.version);
    record[48..64].copy_from_slice(&stamp.event_id);
    record[64..80].copy_from_slice(&fields.fingerprint.to_le_bytes());
    put_i64(record, 80, fields.taken_at);
    put_u32(record, 88, stamp.frame_crc);
}

/// A length that is bounded by what an append may have.
fn length32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Gives a record the checksum that it has at this offset of a file.
pub(crate) fn place_record(key: &SegmentKey, offset: u64, record: &mut [u8]) {
    let crc = key.record(offset, record);
    put_u32(record, 4, crc);
}

/// The bytes of the record that begins a slice, whose checksum is the one that it has at `offset` of a file.
///
/// # Errors
/// [`FormatError`].
pub(crate) fn checked_record<'a>(
    key: &SegmentKey,
    offset: u64,
    bytes: &'a [u8],
) -> Result<SnapshotRecord<'a>, FormatError> {
    if bytes.len() < SNAPSHOT_HEADER_BYTES {
        return Err(FormatError::Short);
    }
    let length = get_u32(bytes, 0) as usize;
    if length < SNAPSHOT_HEADER_BYTES || !length.is_multiple_of(RECORD_ALIGN) {
        return Err(FormatError::Field("length"));
    }
    let record = bytes.get(..length).ok_or(FormatError::Short)?;
    if !key.record_is_good(offset, record) {
        return Err(FormatError::Checksum);
    }
    SnapshotRecord::parse(record)
}

/// A stored record, borrowed: its lengths fit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SnapshotRecord<'a>(&'a [u8]);

impl<'a> SnapshotRecord<'a> {
    /// # Errors
    /// [`FormatError`].
    pub(crate) fn parse(record: &'a [u8]) -> Result<Self, FormatError> {
        let Some(rest) = record.len().checked_sub(SNAPSHOT_HEADER_BYTES) else {
            return Err(FormatError::Short);
        };
        let parsed = Self(record);
        if !matches!(record[8], RECORD_JSON | RECORD_RKYV) {
            return Err(FormatError::Field("kind"));
        }
        if get_u16(record, 14) != 0 || get_u32(record, 92) != 0 {
            return Err(FormatError::Field("reserved"));
        }
        let used = parsed.payload_bytes() + parsed.key_bytes() + parsed.state_bytes();
        if used > rest || rest - used >= RECORD_ALIGN {
            return Err(FormatError::Field("lengths"));
        }
        Ok(parsed)
    }

    fn payload_bytes(&self) -> usize {
        get_u32(self.0, 20) as usize
    }

    fn key_bytes(&self) -> usize {
        get_u16(self.0, 10).into()
    }

    fn state_bytes(&self) -> usize {
        get_u16(self.0, 12).into()
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.0[SNAPSHOT_HEADER_BYTES..][..self.payload_bytes()]
    }

    pub(crate) fn key(&self) -> RecordKey<'a> {
        let names = &self.0[SNAPSHOT_HEADER_BYTES + self.payload_bytes()..];
        let (key, rest) = names.split_at(self.key_bytes());
        RecordKey { kind: self.0[9], key, state: &rest[..self.state_bytes()] }
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            position: get_u64(self.0, 32),
            version: get_u64(self.0, 40),
            event_id: get_array(self.0, 48),
            frame_crc: get_u32(self.0, 88),
        }
    }

    pub(crate) fn fields(&self) -> RecordFields {
        RecordFields {
            kind: self.0[8],
            state_version: get_u32(self.0, 16),
            fingerprint: get_u128(self.0, 64),
            sequence: get_u64(self.0, 24),
            taken_at: get_i64(self.0, 80),
        }
    }

    /// Where it is found, at this offset of a file.
    pub(crate) fn entry(&self, offset: u64) -> Entry {
        Entry {
            hash: self.key().hash(),
            sequence: get_u64(self.0, 24),
            offset,
            bytes: length32(self.0),
        }
    }
}

/// The records of a segment from an offset on, whose bytes begin the slice, each with its offset, up to the first that is
/// not good.
pub(crate) fn records<'a>(
    key: &SegmentKey,
    offset: u64,
    bytes: &'a [u8],
) -> impl Iterator<Item = (u64, SnapshotRecord<'a>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let record = checked_record(key, offset + at as u64, bytes.get(at..)?).ok()?;
        let found = (offset + at as u64, record);
        at += record.bytes().len();
        Some(found)
    })
}

/// Where the snapshots of a key are in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub hash: u64,
    pub sequence: u64,
    pub offset: u64,
    pub bytes: u32,
}

impl Entry {
    /// The order of an index.
    pub(crate) fn order(&self) -> (u64, u64) {
        (self.hash, self.sequence)
    }

    fn write(&self, out: &mut [u8]) {
        put_u64(out, 0, self.hash);
        put_u64(out, 8, self.sequence);
        put_u32(out, 16, u32::try_from(self.offset / UNIT).unwrap_or(u32::MAX));
        put_u32(out, 20, self.bytes / UNIT_32);
    }

    fn parse(bytes: &[u8]) -> Self {
        Self {
            hash: get_u64(bytes, 0),
            sequence: get_u64(bytes, 8),
            offset: u64::from(get_u32(bytes, 16)) * UNIT,
            // Longer than any file, where it is damaged in spite of its checksum.
            bytes: get_u32(bytes, 20).saturating_mul(UNIT_32),
        }
    }
}

/// Writes a page of the index, which stands at `offset` of its file: up to [`SNAPSHOT_PAGE_ENTRIES`], in their order.
pub(crate) fn write_page(key: &SegmentKey, offset: u64, entries: &[Entry], page: &mut [u8]) {
    page[..BLOCK_BYTES].fill(0);
    for (entry, out) in entries.iter().zip(page.chunks_exact_mut(SNAPSHOT_ENTRY_BYTES)) {
        entry.write(out);
    }
    let count = entries.len().min(SNAPSHOT_PAGE_ENTRIES);
    put_u32(page, PAGE_COUNT_AT, u32::try_from(count).unwrap_or(0) & 0xffff);
    let crc = page_crc(key, offset, page);
    put_u32(page, PAGE_CRC_AT, crc);
}

/// Checks a page of the index, which stands at `offset` of its file.
///
/// # Errors
/// [`FormatError`].
pub(crate) fn check_page(key: &SegmentKey, offset: u64, page: &[u8]) -> Result<(), FormatError> {
    let page = page.get(..BLOCK_BYTES).ok_or(FormatError::Short)?;
    if get_u32(page, PAGE_CRC_AT) != page_crc(key, offset, page) {
        return Err(FormatError::Checksum);
    }
    if page_count(page) > SNAPSHOT_PAGE_ENTRIES {
        return Err(FormatError::Field("entries"));
    }
    Ok(())
}

fn page_crc(key: &SegmentKey, offset: u64, page: &[u8]) -> u32 {
    key.checksum(offset, [&page[..PAGE_CRC_AT], &page[PAGE_COUNT_AT..BLOCK_BYTES]])
}

fn page_count(page: &[u8]) -> usize {
    get_u32(page, PAGE_COUNT_AT) as usize
}

/// The entry at this place of a page that was checked.
#[inline]
pub(crate) fn page_entry(page: &[u8], place: usize) -> Option<Entry> {
    let at = place * SNAPSHOT_ENTRY_BYTES;
    (place < page_len(page)).then(|| Entry::parse(&page[at..at + SNAPSHOT_ENTRY_BYTES]))
}

/// How many entries a page has that was checked.
#[inline]
pub(crate) fn page_len(page: &[u8]) -> usize {
    page_count(page).min(SNAPSHOT_PAGE_ENTRIES)
}

/// All entries of a page that was checked.
pub(crate) fn page_entries(page: &[u8]) -> impl Iterator<Item = Entry> + '_ {
    (0..page_len(page)).filter_map(|place| page_entry(page, place))
}

/// The last block of a sealed segment of snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotsFooter {
    /// Behind the last record. The index begins on the next block.
    pub records_end: u64,
    pub entries: u64,
    /// The least and the greatest sequence of its records.
    pub first_sequence: u64,
    pub last_sequence: u64,
}

impl SnapshotsFooter {
    pub(crate) fn index_at(&self) -> u64 {
        super::align_up(self.records_end, BLOCK)
    }

    pub(crate) fn pages(&self) -> u64 {
        self.entries.div_ceil(SNAPSHOT_PAGE_ENTRIES as u64)
    }

    /// How long the file is.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.index_at() + (self.pages() + 1) * BLOCK
    }

    pub(crate) fn write(&self, key: &SegmentKey, block: &mut [u8]) {
        block[..8].copy_from_slice(&SNAPSHOTS_FOOTER_MAGIC);
        put_u32(block, 8, super::constants::FORMAT_VERSION);
        put_u64(block, 16, self.records_end);
        put_u64(block, 24, self.entries);
        put_u64(block, 32, self.first_sequence);
        put_u64(block, 40, self.last_sequence);
        let crc = Self::crc(key, self.file_bytes() - BLOCK, block);
        put_u32(block, 12, crc);
    }

    fn crc(key: &SegmentKey, offset: u64, block: &[u8]) -> u32 {
        key.checksum(offset, [&block[..12], &block[16..SNAPSHOTS_FOOTER_BYTES]])
    }

    /// Parses the last block of a file of this length.
    ///
    /// # Errors
    /// [`FormatError`].
    pub(crate) fn parse(
        key: &SegmentKey,
        file_bytes: u64,
        block: &[u8],
    ) -> Result<Self, FormatError> {
        let block = block.get(..SNAPSHOTS_FOOTER_BYTES).ok_or(FormatError::Short)?;
        if block[..8] != SNAPSHOTS_FOOTER_MAGIC {
            return Err(FormatError::Magic);
        }
        let offset = file_bytes.checked_sub(BLOCK).ok_or(FormatError::Short)?;
        if get_u32(block, 12) != Self::crc(key, offset, block) {
            return Err(FormatError::Checksum);
        }
        check_version(get_u32(block, 8))?;
        let footer = Self {
            records_end: get_u64(block, 16),
            entries: get_u64(block, 24),
            first_sequence: get_u64(block, 32),
            last_sequence: get_u64(block, 40),
        };
        if footer.records_end > file_bytes || footer.entries > file_bytes {
            return Err(FormatError::Field("entries"));
        }
        if footer.file_bytes() != file_bytes {
            return Err(FormatError::Short);
        }
        Ok(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::constants::KEY_STREAM;

    fn key() -> SegmentKey {
        SegmentKey::new(SegmentIdentity { store: StoreId([3; 16]), segment: 5, salt: 9 })
    }

    const STAMP: Stamp = Stamp { position: 77, version: 6, event_id: [8; 16], frame_crc: 0xabcd };

    fn record(payload: &[u8], sequence: u64) -> Vec<u8> {
        let fields = RecordFields {
            kind: RECORD_RKYV,
            state_version: 2,
            fingerprint: u128::MAX - 5,
            sequence,
            taken_at: -7,
        };
        let mut out = Vec::new();
        let of = RecordKey { kind: KEY_STREAM, key: b"account-7", state: b"account" };
        write_record(&fields, of, &STAMP, payload, &mut out);
        out
    }

    #[test]
    fn a_record_comes_back_and_only_from_its_place() {
        let mut bytes = record(b"seventeen bytes..", 41);
        place_record(&key(), 4096, &mut bytes);
        let found = checked_record(&key(), 4096, &bytes).unwrap();
        assert_eq!(found.payload(), b"seventeen bytes..");
        assert_eq!(found.stamp(), STAMP);
        assert_eq!((found.key().key, found.key().state), (&b"account-7"[..], &b"account"[..]));
        assert_eq!((found.fields().sequence, found.fields().taken_at), (41, -7));
        assert_eq!(found.fields().fingerprint, u128::MAX - 5);
        assert_eq!(found.entry(4096).bytes as usize, bytes.len());
        assert!(matches!(checked_record(&key(), 8192, &bytes), Err(FormatError::Checksum)));
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let mut bytes = record(b"x", 1);
        place_record(&key(), 4096, &mut bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(checked_record(&key(), 4096, &bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused_even_with_a_good_checksum() {
        for (at, value) in [(20, u32::MAX), (20, 0), (10, 0xffff), (0, 96), (92, 1)] {
            let mut bytes = record(b"payload", 1);
            put_u32(&mut bytes, at, value);
            let crc = key().record(4096, &bytes);
            put_u32(&mut bytes, 4, crc);
            assert!(checked_record(&key(), 4096, &bytes).is_err(), "{value} at {at}");
        }
    }

    #[test]
    fn records_are_found_up_to_the_first_that_is_torn() {
        let mut bytes = Vec::new();
        for sequence in 0..5 {
            let mut next = record(&vec![7; 100 * sequence], sequence as u64);
            place_record(&key(), 4096 + bytes.len() as u64, &mut next);
            bytes.extend(next);
        }
        let found: Vec<_> =
            records(&key(), 4096, &bytes).map(|(_, record)| record.fields().sequence).collect();
        assert_eq!(found, [0, 1, 2, 3, 4]);
        let cut = bytes.len() - 10;
        assert_eq!(records(&key(), 4096, &bytes[..cut]).count(), 4);
    }

    #[test]
    fn a_page_of_the_index_comes_back_and_its_damage_is_noticed() {
        let entries: Vec<Entry> = (0..SNAPSHOT_PAGE_ENTRIES as u64)
            .map(|n| Entry { hash: n << 50, sequence: n, offset: n * 160, bytes: 160 })
            .collect();
        let mut page = vec![0xff; BLOCK_BYTES];
        for count in [0, 1, 169, 170] {
            write_page(&key(), 8192, &entries[..count], &mut page);
            check_page(&key(), 8192, &page).unwrap();
            assert!(page_entries(&page).eq(entries[..count].iter().copied()));
            assert!(check_page(&key(), 4096, &page).is_err());
        }
        for bit in (0..BLOCK_BYTES * 8).step_by(7) {
            page[bit / 8] ^= 1 << (bit % 8);
            assert!(check_page(&key(), 8192, &page).is_err(), "bit {bit}");
            page[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn header_and_footer_come_back_and_their_damage_is_noticed() {
        let mut block = vec![0; BLOCK_BYTES];
        write_header(&key().identity, 5, &mut block);
        assert_eq!(parse_header(&block), Ok(key().identity));
        for bit in 0..SNAPSHOTS_HEADER_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_header(&block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        let footer = SnapshotsFooter {
            records_end: 5_000,
            entries: 171,
            first_sequence: 1,
            last_sequence: 9,
        };
        assert_eq!((footer.index_at(), footer.pages(), footer.file_bytes()), (8192, 2, 20_480));
        let mut block = vec![0; BLOCK_BYTES];
        footer.write(&key(), &mut block);
        assert_eq!(SnapshotsFooter::parse(&key(), 20_480, &block), Ok(footer));
        assert!(SnapshotsFooter::parse(&key(), 24_576, &block).is_err());
        for bit in 0..SNAPSHOTS_FOOTER_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert!(SnapshotsFooter::parse(&key(), 20_480, &block).is_err(), "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
