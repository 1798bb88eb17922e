//! An event's frame: encoded before its place in the log is known, completed when it is.

use std::convert::Infallible;

use super::FormatError;
use super::align_up;
use super::bytes::{
    get_array, get_i64, get_u16, get_u32, get_u64, put_i64, put_u16, put_u32, put_u64,
};
use super::checksum::SegmentKey;
use super::constants::{
    FLAG_CAUSATION, FLAG_CORRELATION, FLAG_METADATA, FLAG_OCCURRED, FLAG_TAGS, FLAGS_KNOWN,
    FRAME_HEADER_BYTES, RECORD_BYTES, RECORD_JSON, RECORD_RKYV,
};
use super::extent::Extent;
use crate::limits::{METADATA_BYTES_MAX, NAME_BYTES_MAX, NAME_BYTES_MIN, RECORD_ALIGN, TAGS_MAX};

/// What the caller says of an event. Names and sizes are within their limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameParts<'a> {
    /// [`RECORD_BYTES`], [`RECORD_JSON`] or [`RECORD_RKYV`].
    pub kind: u8,
    pub stream: &'a str,
    pub id: [u8; 16],
    /// Nanoseconds since the Unix epoch.
    pub occurred_at: Option<i64>,
    pub correlation: Option<[u8; 16]>,
    pub causation: Option<[u8; 16]>,
    pub tags: &'a [Box<str>],
    pub metadata: &'a [u8],
}

/// What the store adds when the event gets its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FramePlace {
    pub offset: u64,
    pub type_ref: u32,
    pub position: u64,
    pub version: u64,
    /// Nanoseconds since the Unix epoch.
    pub recorded_at: i64,
}

impl FrameParts<'_> {
    fn names_end(&self) -> usize {
        let mut end = FRAME_HEADER_BYTES + self.stream.len();
        end += if self.occurred_at.is_some() { 8 } else { 0 };
        end += if self.correlation.is_some() { 16 } else { 0 };
        end += if self.causation.is_some() { 16 } else { 0 };
        if !self.tags.is_empty() {
            end += 2 + self.tags.iter().map(|tag| 2 + tag.len()).sum::<usize>();
        }
        end += if self.metadata.is_empty() { 0 } else { 4 + self.metadata.len() };
        end
    }

    /// How many bytes the frame takes in the log, with a payload of so many.
    pub(crate) fn encoded_bytes(&self, payload: usize) -> usize {
        pad(pad(self.names_end()) + payload)
    }

    /// Appends the frame with this payload to `out`, with zeroes where [`complete`] writes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, payload: &[u8]) {
        let bytes = payload.len();
        let Ok(()) = self.encode_with::<Infallible>(out, bytes, |out| {
            out.extend_from_slice(payload);
            Ok(())
        });
    }

    /// As [`FrameParts::encode`], with the payload that `write` appends, of about so many bytes. `out` ends at a multiple
    /// of [`RECORD_ALIGN`], and so it does when `write` is called.
    ///
    /// # Errors
    /// What `write` reports; `out` is as it was.
    #[expect(clippy::cast_possible_truncation, reason = "every length is within its limit")]
    pub(crate) fn encode_with<E>(
        &self,
        out: &mut Vec<u8>,
        payload_bytes: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = out.len();
        out.reserve(self.encoded_bytes(payload_bytes));
        let mut flags = 0;
        let mut header = [0; FRAME_HEADER_BYTES];
        header[8] = self.kind;
        put_u16(&mut header, 10, self.stream.len() as u16);
        header[32..48].copy_from_slice(&self.id);
        out.extend_from_slice(&header);
        out.extend_from_slice(self.stream.as_bytes());
        if let Some(occurred_at) = self.occurred_at {
            flags |= FLAG_OCCURRED;
            out.extend_from_slice(&occurred_at.to_le_bytes());
        }
        if let Some(id) = self.correlation {
            flags |= FLAG_CORRELATION;
            out.extend_from_slice(&id);
        }
        if let Some(id) = self.causation {
            flags |= FLAG_CAUSATION;
            out.extend_from_slice(&id);
        }
        if !self.tags.is_empty() {
            flags |= FLAG_TAGS;
            out.extend_from_slice(&(self.tags.len() as u16).to_le_bytes());
            for tag in self.tags {
                out.extend_from_slice(&(tag.len() as u16).to_le_bytes());
                out.extend_from_slice(tag.as_bytes());
            }
        }
        if !self.metadata.is_empty() {
            flags |= FLAG_METADATA;
            out.extend_from_slice(&(self.metadata.len() as u32).to_le_bytes());
            out.extend_from_slice(self.metadata);
        }
        out.resize(start + pad(out.len() - start), 0);
        let payload_at = out.len();
        let mut unfinished = Unfinished { out, kept: start };
        write(unfinished.out)?;
        let out = &mut *unfinished.out;
        let payload = out.len() - payload_at;
        out.resize(start + pad(out.len() - start), 0);
        let bytes = out.len() - start;
        let header = &mut out[start..start + FRAME_HEADER_BYTES];
        put_u32(header, 0, bytes as u32);
        header[9] = flags;
        put_u32(header, 56, payload as u32);
        unfinished.kept = usize::MAX;
        Ok(())
    }
}

/// A frame whose payload is being written, maybe by a user's code: if that fails or panics, nothing of it is left.
struct Unfinished<'a> {
    out: &'a mut Vec<u8>,
    /// How many bytes stay: those before it, or all once it is finished.
    kept: usize,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.out.truncate(self.kept);
    }
}

/// Fills in an encoded frame's place and checksums it.
#[inline]
pub(crate) fn complete(frame: &mut [u8], key: &SegmentKey, place: &FramePlace) {
    put_u32(frame, 12, place.type_ref);
    put_u64(frame, 16, place.position);
    put_u64(frame, 24, place.version);
    put_i64(frame, 48, place.recorded_at);
    let crc = key.record(place.offset, frame);
    put_u32(frame, 4, crc);
}

/// What is read of each event when its segment is sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameSummary {
    pub id: [u8; 16],
    /// Nanoseconds since the Unix epoch.
    pub recorded_at: i64,
    pub type_ref: u32,
}

impl FrameSummary {
    /// That of a frame, whose structure was checked before or never left memory.
    #[inline]
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let header: &[u8; FRAME_HEADER_BYTES] = frame.first_chunk()?;
        let (id, recorded_at) = (get_array(header, 32), get_i64(header, 48));
        Some(Self { id, recorded_at, type_ref: get_u32(header, 12) })
    }
}

/// A frame in a segment: borrowed, and checked for its structure when it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    bytes: &'a [u8],
    payload_at: u32,
    payload_bytes: u32,
}

impl<'a> Frame<'a> {
    /// Reads the frame that fills `bytes`. Its checksum is the caller's to check, before.
    ///
    /// # Errors
    /// [`FormatError`], where the bytes have not the structure of a frame.
    #[expect(clippy::inline_always, reason = "passing a frame through memory stalls each reader")]
    #[inline(always)]
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        if bytes.len() < FRAME_HEADER_BYTES {
            return Err(FormatError::Short);
        }
        if get_u32(bytes, 0) as usize != bytes.len() {
            return Err(FormatError::Field("length"));
        }
        if !matches!(bytes[8], RECORD_BYTES | RECORD_JSON | RECORD_RKYV) {
            return Err(FormatError::Field("kind"));
        }
        let flags = bytes[9];
        if flags & !FLAGS_KNOWN != 0 {
            return Err(FormatError::Field("flags"));
        }
        let stream = usize::from(get_u16(bytes, 10));
        if !(NAME_BYTES_MIN..=NAME_BYTES_MAX).contains(&stream) {
            return Err(FormatError::Field("stream"));
        }
        let mut cursor = Cursor { bytes, at: FRAME_HEADER_BYTES };
        text(cursor.take(stream)?, "stream")?;
        if flags != 0 {
            cursor.skip_optional(flags)?;
        }
        let payload_at = pad(cursor.at);
        let payload_bytes = get_u32(bytes, 56);
        match payload_at.checked_add(payload_bytes as usize) {
            Some(end) if pad(end) == bytes.len() => {}
            _ => return Err(FormatError::Field("payload")),
        }
        let payload_at = u32::try_from(payload_at).map_err(|_| FormatError::Field("payload"))?;
        Ok(Self { bytes, payload_at, payload_bytes })
    }

    /// The frame that fills `bytes` of the tail's memory, which holds nothing but what was encoded here or has been
    /// [parsed](Frame::parse) before: only what tells where its parts are is looked at.
    ///
    /// # Errors
    /// [`FormatError`], where the lengths do not fit.
    #[inline]
    pub(crate) fn settled(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let Some(rest) = bytes.len().checked_sub(FRAME_HEADER_BYTES) else {
            return Err(FormatError::Short);
        };
        // The payload comes last, padded, and begins at a padded place.
        let payload_bytes = get_u32(bytes, 56);
        let payload = pad(payload_bytes as usize);
        if payload > rest {
            return Err(FormatError::Field("payload"));
        }
        let payload_at = u32::try_from(bytes.len() - payload);
        let payload_at = payload_at.map_err(|_| FormatError::Field("payload"))?;
        Ok(Self { bytes, payload_at, payload_bytes })
    }

    /// The frame that fills `bytes`, as its extent says, which is of [this](Frame::extent_at) or of what was encoded here:
    /// nothing is looked at.
    #[inline]
    pub(crate) fn checked(bytes: &'a [u8], extent: Extent) -> Self {
        let (payload_at, payload_bytes) = (extent.payload_at(), extent.payload_bytes());
        Self { bytes, payload_at, payload_bytes }
    }

    /// Where it lies, if it stands at this offset of its segment.
    ///
    /// # Errors
    /// [`FormatError`], where it is larger than what can be appended.
    #[inline]
    pub(crate) fn extent_at(&self, offset: u64) -> Result<Extent, FormatError> {
        Extent::new(offset, self.payload_at, self.payload_bytes)
            .ok_or(FormatError::Field("payload"))
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    #[inline]
    pub(crate) fn kind(&self) -> u8 {
        self.bytes[8]
    }

    #[inline]
    pub(crate) fn type_ref(&self) -> u32 {
        get_u32(self.bytes, 12)
    }

    #[inline]
    pub(crate) fn position(&self) -> u64 {
        get_u64(self.bytes, 16)
    }

    #[inline]
    pub(crate) fn version(&self) -> u64 {
        get_u64(self.bytes, 24)
    }

    #[inline]
    pub(crate) fn id(&self) -> [u8; 16] {
        get_array(self.bytes, 32)
    }

    #[inline]
    pub(crate) fn recorded_at(&self) -> i64 {
        get_i64(self.bytes, 48)
    }

    #[inline]
    pub(crate) fn stream_bytes(&self) -> &'a [u8] {
        &self.bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + usize::from(get_u16(self.bytes, 10))]
    }

    pub(crate) fn stream(&self) -> &'a str {
        utf8(self.stream_bytes())
    }

    #[inline]
    pub(crate) fn payload(&self) -> &'a [u8] {
        let start = self.payload_at as usize;
        &self.bytes[start..start + self.payload_bytes as usize]
    }

    pub(crate) fn occurred_at(&self) -> Option<i64> {
        self.part(FLAG_OCCURRED).map(|at| get_i64(self.bytes, at))
    }

    pub(crate) fn correlation(&self) -> Option<[u8; 16]> {
        self.part(FLAG_CORRELATION).map(|at| get_array(self.bytes, at))
    }

    pub(crate) fn causation(&self) -> Option<[u8; 16]> {
        self.part(FLAG_CAUSATION).map(|at| get_array(self.bytes, at))
    }

    pub(crate) fn tags(&self) -> TagsIter<'a> {
        match self.part(FLAG_TAGS) {
            Some(at) => TagsIter { left: get_u16(self.bytes, at), bytes: &self.bytes[at + 2..] },
            None => TagsIter { left: 0, bytes: &[] },
        }
    }

    pub(crate) fn metadata(&self) -> &'a [u8] {
        match self.part(FLAG_METADATA) {
            Some(at) => &self.bytes[at + 4..at + 4 + get_u32(self.bytes, at) as usize],
            None => &[],
        }
    }

    /// Where the optional part of this flag begins. The structure was checked by [`Frame::parse`].
    fn part(&self, wanted: u8) -> Option<usize> {
        let flags = self.bytes[9];
        if flags & wanted == 0 {
            return None;
        }
        let mut cursor =
            Cursor { bytes: self.bytes, at: FRAME_HEADER_BYTES + self.stream_bytes().len() };
        cursor.skip_optional(flags & (wanted - 1)).ok()?;
        Some(cursor.at)
    }
}

/// The tags of an event, in the order in which they were given.
#[derive(Debug, Clone)]
pub struct TagsIter<'a> {
    left: u16,
    bytes: &'a [u8],
}

impl<'a> Iterator for TagsIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.left = self.left.checked_sub(1)?;
        let length = usize::from(get_u16(self.bytes, 0));
        let tag = utf8(&self.bytes[2..2 + length]);
        self.bytes = &self.bytes[2 + length..];
        Some(tag)
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let end = self.at.checked_add(length).ok_or(FormatError::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(FormatError::Short)?;
        self.at = end;
        Ok(taken)
    }

    /// Goes over the optional parts of these flags, which stand in the order of their bits.
    #[inline(never)]
    fn skip_optional(&mut self, flags: u8) -> Result<(), FormatError> {
        if flags & FLAG_OCCURRED != 0 {
            self.take(8)?;
        }
        if flags & FLAG_CORRELATION != 0 {
            self.take(16)?;
        }
        if flags & FLAG_CAUSATION != 0 {
            self.take(16)?;
        }
        if flags & FLAG_TAGS != 0 {
            let count = usize::from(get_u16(self.take(2)?, 0));
            if count == 0 || count > TAGS_MAX {
                return Err(FormatError::Field("tags"));
            }
            for _ in 0..count {
                let length = usize::from(get_u16(self.take(2)?, 0));
                if !(NAME_BYTES_MIN..=NAME_BYTES_MAX).contains(&length) {
                    return Err(FormatError::Field("tags"));
                }
                text(self.take(length)?, "tags")?;
            }
        }
        if flags & FLAG_METADATA != 0 {
            let length = get_u32(self.take(4)?, 0) as usize;
            if length == 0 || length > METADATA_BYTES_MAX {
                return Err(FormatError::Field("metadata"));
            }
            self.take(length)?;
        }
        Ok(())
    }
}

#[inline]
fn pad(length: usize) -> usize {
    // Lengths in memory fit 64 bits, so the sum does not overflow.
    usize::try_from(align_up(length as u64, RECORD_ALIGN as u64)).unwrap_or(usize::MAX)
}

/// As the slices' own, for the few bytes of a name.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    let any = words.iter().fold(0, |any, word| any | u64::from_le_bytes(*word));
    let last = match bytes.last_chunk::<8>() {
        Some(last) => u64::from_le_bytes(*last),
        None => rest.iter().fold(0, |any, byte| any | u64::from(*byte)),
    };
    (any | last) & HIGH_BITS == 0
}

/// Checks that the bytes are UTF-8. Nearly all names are ASCII, which is seen faster.
#[inline]
fn text(bytes: &[u8], field: &'static str) -> Result<(), FormatError> {
    if is_ascii(bytes) || std::str::from_utf8(bytes).is_ok() {
        Ok(())
    } else {
        Err(FormatError::Field(field))
    }
}

/// Text that [`Frame::parse`] has found to be UTF-8.
fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::super::checksum::{SegmentIdentity, StoreId};
    use super::*;

    fn key() -> SegmentKey {
        SegmentKey::new(SegmentIdentity { store: StoreId([1; 16]), segment: 9, salt: 77 })
    }

    const PLACE: FramePlace =
        FramePlace { offset: 12_384, type_ref: 3, position: 41, version: 7, recorded_at: 99 };

    const PAYLOAD: &[u8] = b"{\"a\":1}";

    fn encoded(parts: &FrameParts<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        parts.encode(&mut bytes, PAYLOAD);
        assert_eq!(bytes.len(), parts.encoded_bytes(PAYLOAD.len()));
        complete(&mut bytes, &key(), &PLACE);
        bytes
    }

    fn full(tags: &[Box<str>]) -> FrameParts<'_> {
        FrameParts {
            kind: RECORD_JSON,
            stream: "case-1",
            id: [5; 16],
            occurred_at: Some(-3),
            correlation: Some([6; 16]),
            causation: Some([7; 16]),
            tags,
            metadata: b"who",
        }
    }

    #[test]
    fn a_frame_with_every_part_comes_back() {
        let tags = ["order:1".into(), "ü".into()];
        let bytes = encoded(&full(&tags));
        assert!(key().record_is_good(PLACE.offset, &bytes));
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!(frame.kind(), RECORD_JSON);
        assert_eq!(frame.stream(), "case-1");
        assert_eq!(frame.id(), [5; 16]);
        assert_eq!(frame.occurred_at(), Some(-3));
        assert_eq!(frame.correlation(), Some([6; 16]));
        assert_eq!(frame.causation(), Some([7; 16]));
        assert_eq!(frame.tags().collect::<Vec<_>>(), ["order:1", "ü"]);
        assert_eq!(frame.metadata(), b"who");
        assert_eq!(frame.payload(), PAYLOAD);
        assert_eq!(frame.payload_at as usize % RECORD_ALIGN, 0);
        assert_eq!((frame.type_ref(), frame.position(), frame.version()), (3, 41, 7));
        assert_eq!(frame.recorded_at(), 99);
    }

    #[test]
    fn each_optional_part_may_be_missing() {
        let tags = ["t".into()];
        for missing in 0..32_u8 {
            let mut parts = full(&tags);
            if missing & 1 != 0 {
                parts.occurred_at = None;
            }
            if missing & 2 != 0 {
                parts.correlation = None;
            }
            if missing & 4 != 0 {
                parts.causation = None;
            }
            if missing & 8 != 0 {
                parts.tags = &[];
            }
            if missing & 16 != 0 {
                parts.metadata = b"";
            }
            let bytes = encoded(&parts);
            let frame = Frame::parse(&bytes).unwrap();
            assert_eq!(frame.occurred_at(), parts.occurred_at);
            assert_eq!(frame.correlation(), parts.correlation);
            assert_eq!(frame.causation(), parts.causation);
            assert_eq!(frame.tags().count(), parts.tags.len());
            assert_eq!(frame.metadata(), parts.metadata);
            assert_eq!(frame.payload(), PAYLOAD);
        }
    }

    #[test]
    fn an_event_of_256_bytes_with_a_name_of_20_takes_336() {
        let parts = FrameParts {
            kind: RECORD_BYTES,
            stream: "stream-0000000000001",
            id: [0; 16],
            occurred_at: None,
            correlation: None,
            causation: None,
            tags: &[],
            metadata: b"",
        };
        assert_eq!(parts.encoded_bytes(256), 336);
    }

    #[test]
    fn a_payload_that_is_not_written_leaves_nothing() {
        let mut bytes = encoded(&full(&[]));
        let before = bytes.clone();
        let failed = full(&[]).encode_with(&mut bytes, 10, |out| {
            assert!(out.len().is_multiple_of(RECORD_ALIGN));
            out.push(1);
            Err("no")
        });
        assert_eq!((failed, bytes), (Err("no"), before));
    }

    #[test]
    fn hostile_bytes_are_refused_without_panic() {
        let tags = ["order:1".into()];
        let good = encoded(&full(&tags));
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(0..bytes.len());
                bytes[at] = random.u8(..);
            }
            if let Ok(frame) = Frame::parse(&bytes) {
                let _ = (frame.stream(), frame.payload(), frame.metadata(), frame.tags().count());
                let _ = (frame.occurred_at(), frame.correlation(), frame.causation());
            }
            let cut = random.usize(0..good.len());
            assert!(Frame::parse(&good[..cut]).is_err());
        }
    }
}
