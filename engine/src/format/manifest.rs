//! The manifest: which segments exist and what each holds, as one small file that is replaced whole.

use super::FormatError;
use super::bytes::{get_array, get_i64, get_u32, get_u64, put_i64, put_u32, put_u64};
use super::checksum::{Chain, StoreId, plain};
use super::constants::{
    FORMAT_VERSION, MANIFEST_FLAG_STRICT, MANIFEST_FLAG_TYPES, MANIFEST_FLAGS_KNOWN,
    MANIFEST_HEADER_BYTES, MANIFEST_MAGIC, MANIFEST_SEGMENT_BYTES, STATE_CUT, STATE_PREPARED,
    STATE_SEALED,
};
use super::footer::SegmentContent;
use super::segment::check_version;
use super::stored_types::{self, StoredTypes};
use crate::limits::{
    BLOCK, SEGMENT_BYTES_MAX, SEGMENT_FOOT_BYTES, SEGMENT_HEAD_BYTES, SEGMENTS_MAX,
};

/// Where a cleanly closed log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CleanEnd {
    pub segment: u64,
    pub data_end: u64,
    pub last_sequence: u64,
    pub last_position: u64,
    pub chain: Chain,
}

/// How far a segment's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentState {
    /// Created, headed and zeroed; it may hold batches.
    Prepared,
    /// Recovery decided where its content ends, whatever stands behind; not sealed yet.
    Cut(SegmentContent),
    /// Finished, with a footer, cut to its length.
    Sealed(SegmentContent),
}

/// One segment in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub number: u64,
    pub salt: u64,
    /// The length of the file.
    pub file_bytes: u64,
    pub state: SegmentState,
}

/// All that the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub store: StoreId,
    /// Grows with every replacement.
    pub generation: u64,
    /// Grows with every opening for writing.
    pub epoch: u64,
    /// Nanoseconds since the Unix epoch.
    pub created_at: i64,
    /// Whether the last opening for writing never rewrote a block, and so assumed nothing of sectors.
    pub strict: bool,
    /// Set by a clean close, cleared by the next opening for writing.
    pub clean_end: Option<CleanEnd>,
    /// In the order of their numbers, which are dense.
    pub segments: Vec<SegmentEntry>,
    /// Of those that are sealed.
    pub types: StoredTypes,
}

impl Manifest {
    /// The length of the encoded manifest, padded to whole blocks.
    pub(crate) fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes_with(0)
    }

    /// As [`Manifest::encoded_bytes`], with so many segments more.
    pub(crate) fn encoded_bytes_with(&self, more: usize) -> u64 {
        blocks_of(self.segments.len() + more, self.types.encoded_bytes())
    }

    /// Writes the manifest into `out`, zeroes of [`Manifest::encoded_bytes`].
    #[expect(clippy::cast_possible_truncation, reason = "segments are within SEGMENTS_MAX")]
    pub(crate) fn encode(&self, out: &mut [u8]) {
        assert!(self.segments.len() <= SEGMENTS_MAX);
        let dense = self.segments.windows(2).all(|pair| pair[0].number + 1 == pair[1].number);
        assert!(dense, "segments are named in the order of their numbers, without a gap");
        let types_at = MANIFEST_HEADER_BYTES + self.segments.len() * MANIFEST_SEGMENT_BYTES;
        let used = types_at + self.types.encoded_bytes();
        out[..8].copy_from_slice(&MANIFEST_MAGIC);
        put_u32(out, 8, FORMAT_VERSION);
        put_u64(out, 16, used as u64);
        out[24..40].copy_from_slice(&self.store.0);
        put_u64(out, 40, self.generation);
        put_u64(out, 48, self.epoch);
        put_i64(out, 56, self.created_at);
        put_u32(out, 64, self.segments.len() as u32);
        if let Some(end) = &self.clean_end {
            put_u32(out, 68, 1);
            put_u64(out, 72, end.segment);
            put_u64(out, 80, end.data_end);
            put_u64(out, 88, end.last_sequence);
            put_u64(out, 96, end.last_position);
            out[104..120].copy_from_slice(&end.chain.0);
        }
        let strict = if self.strict { MANIFEST_FLAG_STRICT } else { 0 };
        let types = if self.types.listed().is_some() { MANIFEST_FLAG_TYPES } else { 0 };
        put_u32(out, 120, strict | types);
        put_u32(out, 124, self.types.listed().map_or(0, <[_]>::len) as u32);
        self.types.write(&mut out[types_at..used]);
        let records = out[MANIFEST_HEADER_BYTES..types_at].chunks_exact_mut(MANIFEST_SEGMENT_BYTES);
        for (segment, record) in self.segments.iter().zip(records) {
            put_u64(record, 0, segment.number);
            put_u64(record, 8, segment.salt);
            put_u64(record, 16, segment.file_bytes);
            match &segment.state {
                SegmentState::Prepared => put_u32(record, 24, STATE_PREPARED),
                SegmentState::Cut(content) => {
                    put_u32(record, 24, STATE_CUT);
                    content.write(&mut record[32..96]);
                }
                SegmentState::Sealed(content) => {
                    put_u32(record, 24, STATE_SEALED);
                    content.write(&mut record[32..96]);
                }
            }
        }
        let crc = plain(&out[..used]);
        put_u32(out, 12, crc);
    }

    /// How long the manifest is that begins with these bytes, by what they say; within its bounds.
    ///
    /// # Errors
    /// [`FormatError`], where they are no manifest's.
    pub(crate) fn used_bytes(bytes: &[u8]) -> Result<u64, FormatError> {
        if bytes.len() < MANIFEST_HEADER_BYTES {
            return Err(FormatError::Short);
        }
        if bytes[..8] != MANIFEST_MAGIC {
            return Err(FormatError::Magic);
        }
        let longest = blocks_of(SEGMENTS_MAX, stored_types::BYTES_MAX);
        let used = get_u64(bytes, 16);
        if used <= longest { Ok(used) } else { Err(FormatError::Field("used")) }
    }

    /// # Errors
    /// [`FormatError`], where the bytes are no whole, undamaged manifest.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() < MANIFEST_HEADER_BYTES {
            return Err(FormatError::Short);
        }
        if bytes[..8] != MANIFEST_MAGIC {
            return Err(FormatError::Magic);
        }
        let used = usize::try_from(get_u64(bytes, 16)).map_err(|_| FormatError::Short)?;
        if used < MANIFEST_HEADER_BYTES {
            return Err(FormatError::Short);
        }
        let bytes = bytes.get(..used).ok_or(FormatError::Short)?;
        if get_u32(bytes, 12) != plain(bytes) {
            return Err(FormatError::Checksum);
        }
        check_version(get_u32(bytes, 8))?;
        let count = get_u32(bytes, 64) as usize;
        let behind =
            bytes[MANIFEST_HEADER_BYTES..].split_at_checked(count * MANIFEST_SEGMENT_BYTES);
        let (records, types) = behind.ok_or(FormatError::Field("segments"))?;
        if count > SEGMENTS_MAX {
            return Err(FormatError::Field("segments"));
        }
        let segments: Vec<SegmentEntry> = records
            .chunks_exact(MANIFEST_SEGMENT_BYTES)
            .map(parse_segment)
            .collect::<Result<_, _>>()?;
        let (generation, epoch) = (get_u64(bytes, 40), get_u64(bytes, 48));
        if generation == u64::MAX || epoch == u64::MAX {
            return Err(FormatError::Field("epoch"));
        }
        if segments.windows(2).any(|pair| pair[0].number.checked_add(1) != Some(pair[1].number)) {
            return Err(FormatError::Field("number"));
        }
        if get_u32(bytes, 68) > 1 {
            return Err(FormatError::Field("clean"));
        }
        let flags = get_u32(bytes, 120);
        if flags & !MANIFEST_FLAGS_KNOWN != 0 {
            return Err(FormatError::Field("flags"));
        }
        let mut types = StoredTypes::parse(types, get_u32(bytes, 124) as usize)?;
        if flags & MANIFEST_FLAG_TYPES == 0 {
            types = StoredTypes::UNLISTED;
        }
        let clean_end = (get_u32(bytes, 68) == 1).then(|| CleanEnd {
            segment: get_u64(bytes, 72),
            data_end: get_u64(bytes, 80),
            last_sequence: get_u64(bytes, 88),
            last_position: get_u64(bytes, 96),
            chain: Chain(get_array(bytes, 104)),
        });
        Ok(Self {
            store: StoreId(get_array(bytes, 24)),
            generation,
            epoch,
            created_at: get_i64(bytes, 56),
            strict: flags & MANIFEST_FLAG_STRICT != 0,
            clean_end,
            segments,
            types,
        })
    }
}

/// How many bytes of whole blocks a manifest takes.
fn blocks_of(segments: usize, types_bytes: usize) -> u64 {
    let bytes = MANIFEST_HEADER_BYTES + segments * MANIFEST_SEGMENT_BYTES + types_bytes;
    super::align_up(bytes as u64, BLOCK)
}

fn parse_segment(record: &[u8]) -> Result<SegmentEntry, FormatError> {
    let content = || SegmentContent::parse(&record[32..96]);
    let state = match get_u32(record, 24) {
        STATE_PREPARED => SegmentState::Prepared,
        STATE_CUT => SegmentState::Cut(content()?),
        STATE_SEALED => SegmentState::Sealed(content()?),
        _ => return Err(FormatError::Field("state")),
    };
    let (number, file_bytes) = (get_u64(record, 0), get_u64(record, 16));
    if number == u64::MAX {
        return Err(FormatError::Field("number"));
    }
    let least = match &state {
        SegmentState::Prepared => SEGMENT_HEAD_BYTES + SEGMENT_FOOT_BYTES,
        SegmentState::Cut(content) | SegmentState::Sealed(content) => content.file_bytes(),
    };
    if !(least..=SEGMENT_BYTES_MAX).contains(&file_bytes) || !file_bytes.is_multiple_of(BLOCK) {
        return Err(FormatError::Field("file_bytes"));
    }
    Ok(SegmentEntry { number, salt: get_u64(record, 8), file_bytes, state })
}

#[cfg(test)]
mod tests {
    use super::super::definition::EventType;
    use super::*;

    fn manifest() -> Manifest {
        let content = SegmentContent {
            data_end: 20_016,
            first_position: 1,
            events: 6,
            first_sequence: 1,
            batches: 3,
            chain: Chain([9; 16]),
            recorded_last: 123,
        };
        let entry = |number, state| SegmentEntry { number, salt: 7, file_bytes: 65_536, state };
        let opened = EventType { name: "opened".into(), schema_version: 2, fingerprint: 1 << 99 };
        let mut types = StoredTypes::NONE;
        types.add([(&opened, 6)].into_iter());
        Manifest {
            store: StoreId([1; 16]),
            generation: 5,
            epoch: 2,
            created_at: 9,
            strict: true,
            clean_end: Some(CleanEnd {
                segment: 2,
                data_end: 12_288,
                last_sequence: 3,
                last_position: 6,
                chain: Chain([9; 16]),
            }),
            segments: vec![
                entry(1, SegmentState::Sealed(content)),
                entry(2, SegmentState::Cut(content)),
                entry(3, SegmentState::Prepared),
            ],
            types,
        }
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(manifest().encoded_bytes()).unwrap()];
        manifest().encode(&mut bytes);
        bytes
    }

    const USED: usize = MANIFEST_HEADER_BYTES + 3 * MANIFEST_SEGMENT_BYTES + 48;

    #[test]
    fn a_manifest_that_lists_no_types_comes_back_so() {
        for types in [StoredTypes::NONE, StoredTypes::UNLISTED] {
            let manifest = Manifest { types, ..manifest() };
            let mut bytes = vec![0; usize::try_from(manifest.encoded_bytes()).unwrap()];
            manifest.encode(&mut bytes);
            assert_eq!(Manifest::parse(&bytes), Ok(manifest));
        }
    }

    #[test]
    fn a_manifest_comes_back() {
        assert_eq!(Manifest::parse(&encoded()), Ok(manifest()));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let mut bytes = encoded();
        for bit in 0..USED * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::parse(&bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_manifest_cut_anywhere_is_refused() {
        let bytes = encoded();
        for end in 0..USED {
            assert!(Manifest::parse(&bytes[..end]).is_err(), "{end}");
        }
    }
}
