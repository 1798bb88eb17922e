//! A sealed term's ordinals: gaps of variable length, with skip points.
//!
//! Owns how a list is written and read. One posting stands in the dictionary entry itself. A longer
//! list is first a table of skip points, one for each [`POSTINGS_PER_SKIP`] postings after the first so
//! many, then gaps as LEB128. A skip point is a posting's ordinal and where the gaps after it begin; a
//! gap is what lies between two ordinals, so a list that is read at all is increasing. The technique
//! is that of Moffat and Zobel, "Self-indexing inverted files for fast text retrieval" (1996).
//!
//! It reads through `pages` only; `build` writes with it, `sealed` hands out [`SealedPostings`].

use std::iter::{FusedIterator, Rev};
use std::ops::Range;

use super::damage::{IndexDamage, structure};
use super::layout::{Entry, GAP_BYTES_MAX, POSTINGS_PER_SKIP, SKIP_BYTES, Section, u32_at};
use super::pages::View;
use super::term::TermKind;

const BLOCK_POSTINGS: usize = POSTINGS_PER_SKIP as usize;

/// How many skip points a list of `count` postings has.
pub(super) const fn skips(count: u32) -> u32 {
    count.saturating_sub(1) / POSTINGS_PER_SKIP
}

/// Writes a list of `count` increasing ordinals, two or more.
pub(super) fn write_list(out: &mut Vec<u8>, count: u32, ordinals: impl Iterator<Item = u32>) {
    let table = out.len();
    let gaps = table + skips(count) as usize * SKIP_BYTES;
    out.resize(gaps, 0);
    let mut next = 0;
    for (i, ordinal) in ordinals.enumerate() {
        if i > 0 && i % BLOCK_POSTINGS == 0 {
            let at = table + (i / BLOCK_POSTINGS - 1) * SKIP_BYTES;
            // `layout` asserts that a place in this section fits.
            let place = u32::try_from(out.len() - gaps).unwrap_or(u32::MAX);
            out[at..at + 4].copy_from_slice(&ordinal.to_le_bytes());
            out[at + 4..at + SKIP_BYTES].copy_from_slice(&place.to_le_bytes());
        } else {
            write_leb128(out, ordinal - next);
        }
        next = ordinal + 1;
    }
}

fn write_leb128(out: &mut Vec<u8>, mut value: u32) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Takes a number off the front of the bytes.
#[inline]
fn read_leb128(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..u32::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u32::from(byte & 0x7f);
        // The bits that a fifth byte has too many must be zero.
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A term of a sealed index, known by its hash only, with its postings.
///
/// Whoever looks for a term compares it with the one in the frame of the first posting.
#[derive(Clone, Copy)]
pub(crate) struct SealedPostings<'a> {
    view: View<'a>,
    entry: Entry,
}

impl<'a> SealedPostings<'a> {
    pub(super) fn new(view: View<'a>, entry: Entry) -> Result<Self, IndexDamage> {
        if entry.count == 0 {
            return Err(structure("term without postings", entry.postings));
        }
        Ok(Self { view, entry })
    }

    /// The term's kind, unless this version does not know it.
    pub(crate) fn kind(&self) -> Option<TermKind> {
        TermKind::from_code(self.entry.kind_code)
    }

    /// The version of the term's first posting in this segment.
    pub(crate) fn first_version(&self) -> u64 {
        self.entry.first_version
    }

    /// How many postings there are; never zero.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a term has a posting, or it is not in the index"
    )]
    pub(crate) fn len(&self) -> u32 {
        self.entry.count
    }

    /// The ordinal of posting `i`, in a time that does not depend on `i`.
    pub(crate) fn get(&self, i: u32) -> Result<Option<u32>, IndexDamage> {
        if i >= self.entry.count {
            return Ok(None);
        }
        let mut gaps = self.gaps(i / POSTINGS_PER_SKIP)?;
        (0..i % POSTINGS_PER_SKIP).try_for_each(|_| gaps.next().map(drop))?;
        gaps.next().map(Some)
    }

    /// How many postings are below the ordinal.
    #[cfg(test)]
    pub(crate) fn visible(&self, below_ordinal: u32) -> Result<u32, IndexDamage> {
        let (mut low, mut high) = (0, skips(self.entry.count));
        while low < high {
            let middle = low.midpoint(high);
            if self.skip(middle)?.0 < below_ordinal {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut block = Block::default();
        self.read_block(low, &mut block)?;
        let within = block.ordinals().partition_point(|ordinal| *ordinal < below_ordinal);
        Ok(low * POSTINGS_PER_SKIP + u32::try_from(within).unwrap_or(POSTINGS_PER_SKIP))
    }

    /// The ordinals of postings `from`, `from + 1`, … to the end.
    pub(crate) fn forward(self, from: u32) -> SealedRange<'a> {
        self.range(from..self.entry.count)
    }

    /// The ordinals of postings `from`, `from - 1`, … to the start; the last one is where `from` is
    /// beyond the end.
    pub(crate) fn backward(self, from: u32) -> Rev<SealedRange<'a>> {
        self.range(0..from.saturating_add(1)).rev()
    }

    /// The ordinals of a range of postings, as far as they exist, from either end. After an error
    /// nothing follows.
    pub(crate) fn range(self, postings: Range<u32>) -> SealedRange<'a> {
        let postings = postings.start..postings.end.min(self.entry.count);
        SealedRange { list: self, postings, block: Block::default() }
    }

    /// Where the list ends in the section of postings, found by decoding its last block; `None` where
    /// it takes no room.
    pub(super) fn end(&self) -> Result<Option<usize>, IndexDamage> {
        if self.entry.count == 1 {
            return Ok(None);
        }
        let block = skips(self.entry.count);
        let (start, _) = self.gaps_place(block)?;
        let mut gaps = self.gaps(block)?;
        let window = gaps.bytes.len();
        (0..self.block_len(block)).try_for_each(|_| gaps.next().map(drop))?;
        Ok(Some(start + window - gaps.bytes.len()))
    }

    /// Checks that every skip point is where decoding up to it leads.
    pub(super) fn check_skips(&self) -> Result<(), IndexDamage> {
        for number in 0..skips(self.entry.count) {
            let wrong = || structure("skip point", self.entry.postings);
            let (ordinal, _) = self.skip(number)?;
            let (start, _) = self.gaps_place(number)?;
            let mut gaps = self.gaps(number)?;
            let window = gaps.bytes.len();
            let mut last = None;
            for _ in 0..POSTINGS_PER_SKIP {
                last = Some(gaps.next()?);
            }
            let (next, _) = self.gaps_place(number + 1)?;
            if last >= Some(ordinal) || start + window - gaps.bytes.len() != next {
                return Err(wrong());
            }
        }
        Ok(())
    }

    fn block_len(&self, block: u32) -> u32 {
        (self.entry.count - block * POSTINGS_PER_SKIP).min(POSTINGS_PER_SKIP)
    }

    /// A skip point: the ordinal at the start of block `number + 1`, and where its gaps begin.
    fn skip(&self, number: u32) -> Result<(u32, u32), IndexDamage> {
        let at = self.entry.postings as usize + number as usize * SKIP_BYTES;
        let bytes = self.view.read(Section::Postings, at, SKIP_BYTES)?;
        u32_at(bytes, 0).zip(u32_at(bytes, 4)).ok_or_else(|| structure("skip point", at as u64))
    }

    /// Where the gaps of a block begin, and the ordinal that stands before them in a skip point.
    fn gaps_place(&self, block: u32) -> Result<(usize, Option<u32>), IndexDamage> {
        let first = self.entry.postings as usize + skips(self.entry.count) as usize * SKIP_BYTES;
        let Some(number) = block.checked_sub(1) else { return Ok((first, None)) };
        let (ordinal, place) = self.skip(number)?;
        Ok((first + place as usize, Some(ordinal)))
    }

    fn gaps(&self, block: u32) -> Result<Gaps<'a>, IndexDamage> {
        let events = self.view.header().events;
        if self.entry.count == 1 {
            return Ok(Gaps { at_skip: Some(self.entry.postings), next: 0, bytes: &[], events });
        }
        let (start, at_skip) = self.gaps_place(block)?;
        let bytes_max = self.block_len(block) as usize * GAP_BYTES_MAX;
        let bytes = self.view.read_up_to(Section::Postings, start, bytes_max)?;
        Ok(Gaps { at_skip, next: 0, bytes, events })
    }

    fn read_block(&self, number: u32, block: &mut Block) -> Result<(), IndexDamage> {
        // Nothing is left of the block before if this one turns out to be damaged.
        block.len = 0;
        let mut gaps = self.gaps(number)?;
        let len = self.block_len(number) as usize;
        for slot in block.ordinals.iter_mut().take(len) {
            *slot = gaps.next()?;
        }
        (block.number, block.len) = (number, len);
        Ok(())
    }
}

/// Decodes the ordinals of one block.
struct Gaps<'a> {
    /// The block's first ordinal, where it does not stand among the gaps.
    at_skip: Option<u32>,
    /// The least ordinal that can follow.
    next: u32,
    bytes: &'a [u8],
    events: u32,
}

impl Gaps<'_> {
    #[inline]
    fn next(&mut self) -> Result<u32, IndexDamage> {
        let ordinal = match self.at_skip.take() {
            Some(ordinal) => Some(ordinal),
            None => read_leb128(&mut self.bytes).and_then(|gap| gap.checked_add(self.next)),
        };
        let ordinal = ordinal
            .filter(|ordinal| *ordinal < self.events)
            .ok_or_else(|| structure("posting after ordinal", self.next))?;
        self.next = ordinal + 1;
        Ok(ordinal)
    }
}

/// The decoded ordinals of one block of a list.
#[derive(Clone, Copy)]
struct Block {
    number: u32,
    /// Zero before anything was decoded.
    len: usize,
    ordinals: [u32; BLOCK_POSTINGS],
}

impl Default for Block {
    fn default() -> Self {
        Self { number: 0, len: 0, ordinals: [0; BLOCK_POSTINGS] }
    }
}

impl Block {
    fn ordinals(&self) -> &[u32] {
        &self.ordinals[..self.len]
    }
}

/// Ordinals of a range of a sealed term's postings.
pub(crate) struct SealedRange<'a> {
    list: SealedPostings<'a>,
    postings: Range<u32>,
    block: Block,
}

impl SealedRange<'_> {
    #[inline]
    fn ordinal(&mut self, i: u32) -> Result<u32, IndexDamage> {
        let number = i / POSTINGS_PER_SKIP;
        if self.block.len == 0 || self.block.number != number {
            let read = self.list.read_block(number, &mut self.block);
            read.inspect_err(|_| self.postings.end = self.postings.start)?;
        }
        let within = (i % POSTINGS_PER_SKIP) as usize;
        self.block.ordinals().get(within).copied().ok_or_else(|| structure("posting", i))
    }
}

impl Iterator for SealedRange<'_> {
    type Item = Result<u32, IndexDamage>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let i = self.postings.next()?;
        Some(self.ordinal(i))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Damage ends the iteration early.
        (usize::from(!self.postings.is_empty()), Some(self.postings.len()))
    }
}

impl DoubleEndedIterator for SealedRange<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let i = self.postings.next_back()?;
        Some(self.ordinal(i))
    }
}

impl FusedIterator for SealedRange<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_it_was_written() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 24, u32::MAX - 1, u32::MAX] {
            let mut bytes = Vec::new();
            write_leb128(&mut bytes, value);
            assert!(bytes.len() <= GAP_BYTES_MAX);
            let mut rest = &bytes[..];
            assert_eq!(read_leb128(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_number_that_does_not_end_or_does_not_fit_is_refused() {
        for bytes in [&[][..], &[0x80], &[0x80; 6], &[0xff, 0xff, 0xff, 0xff, 0x1f]] {
            let mut rest = bytes;
            assert_eq!(read_leb128(&mut rest), None, "{bytes:x?}");
        }
    }

    #[test]
    fn a_list_gets_a_skip_point_for_each_full_block_that_something_follows() {
        assert_eq!([0, 1, 128, 129, 256, 257].map(skips), [0, 0, 0, 1, 1, 2]);
    }
}
