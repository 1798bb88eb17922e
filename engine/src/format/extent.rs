//! Where an event's frame lies in its segment, and its payload in the frame: in one word, so that what is in memory of each event
//! says it.
//!
//! A reader of the tail so has an event's payload without touching its frame's header, which is on another cache line. Nothing
//! of it is stored in a file.

use std::ops::Range;

use super::align_up;
use crate::limits::{
    APPEND_BYTES_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX, RECORD_ALIGN, SEGMENT_BYTES_MAX, TAGS_MAX,
};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent(u64);

const UNIT: u64 = RECORD_ALIGN as u64;
const PAYLOAD_BITS: u32 = 25;
/// In units of [`RECORD_ALIGN`].
const PAYLOAD_AT_BITS: u32 = 13;
const OFFSET_AT: u32 = PAYLOAD_BITS + PAYLOAD_AT_BITS;

/// More than the header, the stream's name, the tags, the metadata and what else there is can take.
const BEFORE_PAYLOAD_MAX: usize =
    256 + NAME_BYTES_MAX + TAGS_MAX * (2 + NAME_BYTES_MAX) + METADATA_BYTES_MAX;

const _: () = {
    assert!(SEGMENT_BYTES_MAX / UNIT <= 1 << (u64::BITS - OFFSET_AT));
    assert!(BEFORE_PAYLOAD_MAX / RECORD_ALIGN < 1 << PAYLOAD_AT_BITS);
    assert!(APPEND_BYTES_MAX < 1 << PAYLOAD_BITS);
};

impl Extent {
    /// Of a frame at this offset of its segment, whose payload of so many bytes begins at `payload_at`. `None` where one is no
    /// multiple of [`RECORD_ALIGN`], or beyond its limit.
    #[inline]
    pub(crate) fn new(offset: u64, payload_at: u32, payload_bytes: u32) -> Option<Self> {
        let payload_at = u64::from(payload_at);
        let fits = (offset | payload_at).is_multiple_of(UNIT)
            && offset / UNIT < 1 << (u64::BITS - OFFSET_AT)
            && payload_at / UNIT < 1 << PAYLOAD_AT_BITS
            && payload_bytes < 1 << PAYLOAD_BITS;
        let word = ((offset / UNIT) << OFFSET_AT)
            | ((payload_at / UNIT) << PAYLOAD_BITS)
            | u64::from(payload_bytes);
        fits.then_some(Self(word))
    }

    /// The one that this word stands for, which is an [`Extent::word`].
    #[inline]
    pub(crate) fn of_word(word: u64) -> Self {
        Self(word)
    }

    #[inline]
    pub(crate) fn word(self) -> u64 {
        self.0
    }

    /// The same, with the frame at another offset of a segment.
    #[inline]
    pub(crate) fn moved_to(self, offset: u64) -> Self {
        debug_assert!(offset.is_multiple_of(UNIT) && offset < SEGMENT_BYTES_MAX);
        Self((self.0 % (1 << OFFSET_AT)) | ((offset / UNIT) << OFFSET_AT))
    }

    /// Where the frame begins in the segment.
    #[inline]
    pub(crate) fn offset(self) -> u64 {
        (self.0 >> OFFSET_AT) * UNIT
    }

    /// As [`Extent::offset`], in units of [`RECORD_ALIGN`].
    #[inline]
    pub(crate) fn units(self) -> u32 {
        low(self.0 >> OFFSET_AT)
    }

    /// Where the payload begins in the frame.
    #[inline]
    pub(crate) fn payload_at(self) -> u32 {
        low((self.0 >> PAYLOAD_BITS) % (1 << PAYLOAD_AT_BITS) * UNIT)
    }

    #[inline]
    pub(crate) fn payload_bytes(self) -> u32 {
        low(self.0 % (1 << PAYLOAD_BITS))
    }

    /// How many bytes the frame has: the payload comes last, padded.
    #[inline]
    pub(crate) fn frame_bytes(self) -> u64 {
        align_up(u64::from(self.payload_at()) + u64::from(self.payload_bytes()), UNIT)
    }

    /// Where the frame is in the segment.
    #[inline]
    pub(crate) fn frame(self) -> Range<u64> {
        self.offset()..self.offset() + self.frame_bytes()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "every part has fewer bits")]
#[inline]
fn low(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out() {
        let offsets = [0, 16, 4096, SEGMENT_BYTES_MAX - 16];
        let payloads_at =
            [64, 80, (METADATA_BYTES_MAX + TAGS_MAX * 258 + 384).next_multiple_of(16)];
        for offset in offsets {
            for payload_at in payloads_at.map(|at| u32::try_from(at).unwrap()) {
                for payload_bytes in [0, 1, 255, 256, u32::try_from(APPEND_BYTES_MAX).unwrap()] {
                    let extent = Extent::new(0, payload_at, payload_bytes).unwrap();
                    let extent = extent.moved_to(offset);
                    assert_eq!(Some(extent), Extent::new(offset, payload_at, payload_bytes));
                    let extent = Extent::of_word(extent.word());
                    assert_eq!((extent.offset(), extent.payload_at()), (offset, payload_at));
                    assert_eq!(u64::from(extent.units()) * UNIT, offset);
                    assert_eq!(extent.payload_bytes(), payload_bytes);
                    let end = u64::from(payload_at + payload_bytes);
                    assert_eq!(extent.frame_bytes(), end.next_multiple_of(16));
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_has_none() {
        for (offset, payload_at, payload_bytes) in [
            (8, 64, 0),
            (16, 65, 0),
            (SEGMENT_BYTES_MAX, 64, 0),
            (16, 16 << 13, 0),
            (16, 64, 1 << 25),
        ] {
            assert_eq!(Extent::new(offset, payload_at, payload_bytes), None);
        }
    }
}
