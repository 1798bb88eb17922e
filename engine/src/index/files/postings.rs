//! A term's ordinals: blocks of packed gaps, with skip points.
//!
//! Owns how a list is laid out and how it is read. One posting stands in the dictionary entry itself. A
//! longer list is first a table of skip points, one for each block but the first, then the blocks, of
//! [`BLOCK_POSTINGS`] ordinals each. A skip point is the ordinal at the start of a block and where the
//! block begins; a block is a byte that says how wide its gaps are, then the gaps. A gap is what lies
//! between two ordinals, so that a block that is read at all is increasing, and one of neighbours takes
//! a byte. The first block has no skip point: the two highest bits of its first byte say how many
//! bytes, less one, its first ordinal takes behind it. The technique is that of Moffat and Zobel,
//! "Self-indexing inverted files for fast text retrieval" (1996).
//!
//! It reads through `pages` only; `run_writer` writes with it, `run` hands out [`SealedPostings`].

use std::iter::{FusedIterator, Rev};
use std::ops::Range;

use super::super::damage::{IndexDamage, structure};
use super::layout::{BLOCK_POSTINGS, COUNT_BYTES, SKIP_BYTES, Section};
use super::packing::{pack, packed_bytes, unpack, width_of};
use super::pages::View;
use super::records::{COUNT_MAX, Entry, u32_at};

/// [`BLOCK_POSTINGS`] as a number of postings.
pub(super) const POSTINGS_PER_BLOCK: u32 = 128;
/// The bits of a block's first byte that are the width of its gaps.
const WIDTH_BITS: u32 = 6;

const _: () = assert!(POSTINGS_PER_BLOCK as usize == BLOCK_POSTINGS);

/// How many skip points a list of `count` postings has.
pub(super) const fn skips(count: u32) -> u32 {
    count.saturating_sub(1) / POSTINGS_PER_BLOCK
}

/// The fewest bytes that a list of so many postings can take.
pub(super) const fn list_bytes_min(count: u32) -> u64 {
    match count {
        0 | 1 => 0,
        _ => skips(count) as u64 * (SKIP_BYTES as u64 + 1) + 2,
    }
}

/// Writes a block of increasing ordinals, one to [`BLOCK_POSTINGS`].
pub(super) fn write_block(out: &mut Vec<u8>, ordinals: &[u32], is_first: bool) {
    let Some(first) = ordinals.first() else { return };
    let gaps = || ordinals.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]).wrapping_sub(1));
    let width = width_of(gaps());
    if is_first {
        let bytes = width_of([*first]).div_ceil(8).max(1);
        out.push(width | (bytes - 1) << WIDTH_BITS);
        out.extend_from_slice(&first.to_le_bytes()[..usize::from(bytes)]);
    } else {
        out.push(width);
    }
    pack(gaps(), width, out);
}

/// The postings of the terms of a kind that share a hash, nearly always those of one term.
///
/// They are increasing ordinals, and hold *at least* the term's: whoever looks for a term compares it
/// with those in the frame of each event.
#[derive(Clone, Copy)]
pub(crate) struct SealedPostings<'a> {
    view: View<'a>,
    count: u32,
    /// The ordinal where there is one posting, else where the skip points begin.
    place: u32,
}

impl<'a> SealedPostings<'a> {
    pub(super) fn new(view: View<'a>, entry: Entry) -> Result<Self, IndexDamage> {
        let wrong = || structure("number of postings", entry.place);
        let (mut count, mut place) = (entry.count, entry.place);
        if count == COUNT_MAX {
            let bytes = view.read(Section::Postings, place as usize, COUNT_BYTES)?;
            count = u32_at(bytes, 0).filter(|count| *count >= COUNT_MAX).ok_or_else(wrong)?;
            place = place.checked_add(4).ok_or_else(wrong)?;
        }
        // No list has an event twice.
        if count == 0 || count > view.header().events {
            return Err(wrong());
        }
        Ok(Self { view, count, place })
    }

    /// How many postings there are; never zero.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a term has a posting, or it is not in the index"
    )]
    pub(crate) fn len(&self) -> u32 {
        self.count
    }

    /// The ordinal of posting `i`, in a time that does not depend on `i`.
    pub(crate) fn get(&self, i: u32) -> Result<Option<u32>, IndexDamage> {
        if i >= self.count {
            return Ok(None);
        }
        let mut block = Block::default();
        let within = (i % POSTINGS_PER_BLOCK) as usize;
        self.read_block(i / POSTINGS_PER_BLOCK, within + 1, &mut block)?;
        block.ordinals().last().copied().map(Some).ok_or_else(|| structure("posting", i))
    }

    /// How many postings are below the ordinal.
    pub(crate) fn lower_bound(&self, ordinal: u32) -> Result<u32, IndexDamage> {
        let (mut low, mut high) = (0, skips(self.count));
        while low < high {
            let middle = low.midpoint(high);
            if self.skip(middle)?.0 < ordinal {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let mut block = Block::default();
        self.read_block(low, BLOCK_POSTINGS, &mut block)?;
        let within = block.ordinals().partition_point(|posting| *posting < ordinal);
        Ok(low * POSTINGS_PER_BLOCK + u32::try_from(within).unwrap_or(POSTINGS_PER_BLOCK))
    }

    /// The ordinals of postings `from`, `from + 1`, … to the end.
    pub(crate) fn forward(self, from: u32) -> SealedRange<'a> {
        self.range(from..self.count)
    }

    /// The ordinals of postings `from`, `from - 1`, … to the start; the last one is where `from` is
    /// beyond the end.
    pub(crate) fn backward(self, from: u32) -> Rev<SealedRange<'a>> {
        self.range(0..from.saturating_add(1)).rev()
    }

    /// The ordinals of a range of postings, as far as they exist, from either end. After an error
    /// nothing follows. One block is decoded at a time: who asks both ends by turns, has two of them
    /// decoded again and again.
    pub(crate) fn range(self, postings: Range<u32>) -> SealedRange<'a> {
        let postings = postings.start..postings.end.min(self.count);
        SealedRange { list: self, postings, block: Block::default() }
    }

    /// Decodes the whole list, checks that its blocks follow one another and are where the skip points
    /// have them, and gives where it ends in its section; `None` where it takes no room.
    pub(super) fn check(&self) -> Result<Option<usize>, IndexDamage> {
        let mut block = Block::default();
        let (mut last, mut end) = (None, None);
        for number in 0..=skips(self.count) {
            self.read_block(number, BLOCK_POSTINGS, &mut block)?;
            let head = self.head(number)?;
            let wrong = || structure("skip point", self.place);
            if last >= block.ordinals().first().copied()
                || end.is_some_and(|end| Some(end) != head.map(|head| head.start))
            {
                return Err(wrong());
            }
            last = block.ordinals().last().copied();
            end = head.map(|head| head.end(self.block_len(number)));
        }
        Ok(end)
    }

    fn block_len(&self, number: u32) -> usize {
        (self.count - number * POSTINGS_PER_BLOCK).min(POSTINGS_PER_BLOCK) as usize
    }

    /// A skip point: the ordinal at the start of block `number + 1`, and where that begins, counted from
    /// the first block.
    fn skip(&self, number: u32) -> Result<(u32, u32), IndexDamage> {
        let at = self.place as usize + number as usize * SKIP_BYTES;
        let bytes = self.view.read(Section::Postings, at, SKIP_BYTES)?;
        u32_at(bytes, 0).zip(u32_at(bytes, 4)).ok_or_else(|| structure("skip point", at as u64))
    }

    /// What stands before the gaps of a block; `None` where the only posting is in the dictionary.
    fn head(&self, number: u32) -> Result<Option<Head>, IndexDamage> {
        if self.count == 1 {
            return Ok(None);
        }
        let first_block = self.place as usize + skips(self.count) as usize * SKIP_BYTES;
        let skip = number.checked_sub(1).map(|number| self.skip(number)).transpose()?;
        let start = first_block + skip.map_or(0, |(_, place)| place as usize);
        let wrong = || structure("block of postings", start as u64);
        let read = |at, bytes| self.view.read(Section::Postings, at, bytes);
        let byte = *read(start, 1)?.first().ok_or_else(wrong)?;
        let (width, more_bytes) = (byte & ((1 << WIDTH_BITS) - 1), byte >> WIDTH_BITS);
        let gaps = start + 1;
        match skip {
            Some((first, _)) if more_bytes == 0 => Ok(Some(Head { start, first, gaps, width })),
            Some(_) => Err(wrong()),
            None => {
                let bytes = usize::from(more_bytes) + 1;
                let mut first = [0; size_of::<u32>()];
                first.get_mut(..bytes).ok_or_else(wrong)?.copy_from_slice(read(gaps, bytes)?);
                let first = u32::from_le_bytes(first);
                Ok(Some(Head { start, first, gaps: gaps + bytes, width }))
            }
        }
    }

    /// Decodes a block up to so many of its ordinals.
    fn read_block(
        &self,
        number: u32,
        ordinals_max: usize,
        block: &mut Block,
    ) -> Result<(), IndexDamage> {
        // Nothing is left of the block before if this one turns out to be damaged.
        block.len = 0;
        let wrong = || structure("block of postings", number);
        let events = self.view.header().events;
        let len = self.block_len(number).min(ordinals_max);
        let (first, rest) =
            block.ordinals.get_mut(..len).and_then(<[u32]>::split_first_mut).ok_or_else(wrong)?;
        *first = self.place;
        let mut last = u64::from(self.place);
        if let Some(head) = self.head(number)? {
            let bytes = packed_bytes(rest.len(), head.width);
            let gaps = self.view.read(Section::Postings, head.gaps, bytes)?;
            unpack(gaps, head.width, rest).ok_or_else(wrong)?;
            *first = head.first;
            last = u64::from(head.first);
            let mut ordinal = head.first;
            for place in rest {
                last += u64::from(*place) + 1;
                ordinal = ordinal.wrapping_add(*place).wrapping_add(1);
                *place = ordinal;
            }
        }
        // They increase, so that with the last one all are in range, and none has wrapped.
        if last >= u64::from(events) {
            return Err(structure("ordinal", last));
        }
        (block.number, block.len) = (number, len);
        Ok(())
    }
}

/// What stands before the gaps of a block.
#[derive(Clone, Copy)]
struct Head {
    start: usize,
    /// The block's first ordinal.
    first: u32,
    /// Where the gaps begin.
    gaps: usize,
    width: u8,
}

impl Head {
    /// Where a block of so many ordinals ends.
    fn end(&self, len: usize) -> usize {
        self.gaps + packed_bytes(len.saturating_sub(1), self.width)
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

/// Ordinals of a range of a list's postings.
pub(crate) struct SealedRange<'a> {
    list: SealedPostings<'a>,
    postings: Range<u32>,
    block: Block,
}

impl SealedRange<'_> {
    #[inline]
    fn ordinal(&mut self, i: u32) -> Result<u32, IndexDamage> {
        let number = i / POSTINGS_PER_BLOCK;
        if self.block.len == 0 || self.block.number != number {
            let read = self.list.read_block(number, BLOCK_POSTINGS, &mut self.block);
            read.inspect_err(|_| self.postings.end = self.postings.start)?;
        }
        let within = (i % POSTINGS_PER_BLOCK) as usize;
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
    fn a_list_gets_a_skip_point_for_each_full_block_that_something_follows() {
        assert_eq!([0, 1, 128, 129, 256, 257].map(skips), [0, 0, 0, 1, 1, 2]);
    }

    #[test]
    fn a_block_takes_as_many_bits_as_its_widest_gap() {
        let bytes = |ordinals: &[u32], is_first| {
            let mut out = Vec::new();
            write_block(&mut out, ordinals, is_first);
            out
        };
        assert_eq!(bytes(&[5], false), [0]);
        assert_eq!(bytes(&[5], true), [0, 5]);
        assert_eq!(bytes(&[256, 257, 258], true), [0x40, 0, 1]);
        assert_eq!(bytes(&[256, 258, 260], false), [1, 0b11]);
        assert_eq!(bytes(&[0, u32::MAX], true), [32, 0, 0xfe, 0xff, 0xff, 0xff]);
        let neighbours: Vec<u32> = (1000..1128).collect();
        assert_eq!(bytes(&neighbours, false), [0]);
    }

    #[test]
    fn no_list_is_shorter_than_the_shortest() {
        for count in [2, 127, 128, 129, 1000_u32] {
            let ordinals: Vec<u32> = (0..count).collect();
            let mut out = Vec::new();
            for (number, block) in ordinals.chunks(BLOCK_POSTINGS).enumerate() {
                write_block(&mut out, block, number == 0);
            }
            let bytes = out.len() + skips(count) as usize * SKIP_BYTES;
            assert_eq!(bytes as u64, list_bytes_min(count));
        }
    }
}
