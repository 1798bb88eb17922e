//! Numbers of a fixed number of bits, one behind the other.
//!
//! Owns how the gaps of a block are packed: all of them with as many bits as the widest one needs, the
//! lowest bit first (frame of reference, after Goldstein, Ramakrishnan and Shaft, "Compressing relations
//! and indexes", 1998). It calls `layout` and `records`; `postings` is its only caller.

use super::layout::BLOCK_POSTINGS;
use super::records::low_half;

/// The most bits of a number.
pub(super) const WIDTH_MAX: u8 = 32;
/// Bytes of a block of the widest numbers, and as many as a load of the last one can reach beyond.
const PADDED_BYTES: usize = BLOCK_POSTINGS * size_of::<u32>() + size_of::<u64>();

/// How many bits the widest of the numbers needs: none where all are zero.
pub(super) fn width_of(numbers: impl IntoIterator<Item = u32>) -> u8 {
    let all = numbers.into_iter().fold(0, |all, number| all | number);
    // At most 32, and so without a loss.
    (u32::BITS - all.leading_zeros()).to_le_bytes()[0]
}

/// The bytes that so many numbers of a width take.
pub(super) const fn packed_bytes(count: usize, width: u8) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Writes the numbers, none of which needs more bits than `width`.
pub(super) fn pack(numbers: impl IntoIterator<Item = u32>, width: u8, out: &mut Vec<u8>) {
    let (mut waiting, mut bits) = (0_u64, 0);
    for number in numbers {
        // Fewer than 8 bits wait, so that 32 more have room.
        waiting |= u64::from(number) << bits;
        bits += width;
        while bits >= 8 {
            out.push(waiting.to_le_bytes()[0]);
            waiting >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(waiting.to_le_bytes()[0]);
    }
}

/// Reads as many numbers as there are places for, at most [`BLOCK_POSTINGS`], out of just their bytes;
/// `None` where there are more or fewer bytes, or the width is none.
pub(super) fn unpack(packed: &[u8], width: u8, numbers: &mut [u32]) -> Option<()> {
    let fits = width <= WIDTH_MAX
        && numbers.len() <= BLOCK_POSTINGS
        && packed.len() == packed_bytes(numbers.len(), width);
    if !fits {
        return None;
    }
    if width == 0 {
        numbers.fill(0);
        return Some(());
    }
    // Behind the bytes there is room for a load of eight of them at any place.
    let mut padded = [0; PADDED_BYTES];
    padded.get_mut(..packed.len())?.copy_from_slice(packed);
    let (mask, width) = (u64::MAX >> (u64::BITS - u32::from(width)), usize::from(width));
    for (i, number) in numbers.iter_mut().enumerate() {
        let bit = i * width;
        let word = u64::from_le_bytes(*padded.get(bit / 8..)?.first_chunk()?);
        // What is left of the mask has at most 32 bits.
        *number = low_half((word >> (bit % 8)) & mask);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_width_are_read_as_they_were_written() {
        for width in 0..=WIDTH_MAX {
            let mut rng = fastrand::Rng::with_seed(width.into());
            for count in [0, 1, 2, 7, 8, 9, 126, 127, 128] {
                eprintln!("{count} numbers of {width} bits");
                let greatest = u32::MAX.checked_shr(u32::from(32 - width)).unwrap_or(0);
                let mut numbers: Vec<u32> = (0..count).map(|_| rng.u32(..=greatest)).collect();
                if let Some(last) = numbers.last_mut() {
                    *last = greatest;
                    assert_eq!(width_of(numbers.iter().copied()), width);
                }
                let mut packed = Vec::new();
                pack(numbers.iter().copied(), width, &mut packed);
                assert_eq!(packed.len(), packed_bytes(count, width));
                let mut read = vec![u32::MAX; count];
                assert_eq!(unpack(&packed, width, &mut read), Some(()));
                assert_eq!(read, numbers);
                packed.push(0);
                assert_eq!(unpack(&packed, width, &mut read), None, "a byte too many");
            }
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        assert_eq!(unpack(&[0; 33], 33, &mut [0; 8]), None);
        assert_eq!(unpack(&[0; 3], 8, &mut [0; 4]), None);
        assert_eq!(unpack(&[0; 129], 8, &mut [0; 129]), None);
    }

    #[test]
    fn the_lowest_bits_come_first() {
        let mut packed = Vec::new();
        pack([1, 2, 3], 3, &mut packed);
        assert_eq!(packed, [0b1101_0001, 0]);
    }
}
