//! A list that one writer at a time extends and any number of readers read, without locks.
//!
//! Blocks of doubling size, each made when it is first needed and never moved, so that a reference to an
//! element stays good for the list's life. Used for a live segment's chunks and event types.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const BLOCKS: usize = 28;
const FIRST_BITS: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct AppendVec<T> {
    blocks: [OnceLock<Box<[OnceLock<T>]>>; BLOCKS],
    len: AtomicU32,
}

impl<T> Default for AppendVec<T> {
    fn default() -> Self {
        Self { blocks: [const { OnceLock::new() }; BLOCKS], len: AtomicU32::new(0) }
    }
}

impl<T> AppendVec<T> {
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    /// Adds an element and returns its index. Called by one thread at a time.
    pub(crate) fn push(&self, value: T) -> u32 {
        let index = self.len.load(Ordering::Relaxed);
        let (block, slot) = locate(index);
        let slots = self.blocks[block].get_or_init(|| {
            let length = 1_usize << (FIRST_BITS as usize + block);
            std::iter::repeat_with(OnceLock::new).take(length).collect()
        });
        assert!(slots[slot].set(value).is_ok(), "two threads extended the list at once");
        self.len.store(index + 1, Ordering::Release);
        index
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (block, slot) = locate(index);
        self.blocks.get(block)?.get()?.get(slot)?.get()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<T> FromIterator<T> for AppendVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let list = Self::default();
        for value in values {
            list.push(value);
        }
        list
    }
}

/// Block `b` holds 2^(`FIRST_BITS` + b) elements and begins at index 2^(`FIRST_BITS` + b) − 2^`FIRST_BITS`.
fn locate(index: u32) -> (usize, usize) {
    let shifted = u64::from(index) + (1 << FIRST_BITS);
    let bits = shifted.ilog2();
    ((bits - FIRST_BITS) as usize, usize::try_from(shifted - (1 << bits)).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stay_where_they_were_put() {
        let list = AppendVec::default();
        let first: *const u32 = {
            list.push(0);
            list.get(0).unwrap()
        };
        for value in 1..5_000 {
            assert_eq!(list.push(value), value);
        }
        assert!(std::ptr::eq(first, list.get(0).unwrap()));
        assert!(list.iter().copied().eq(0..5_000));
        assert_eq!(list.get(5_000), None);
        assert_eq!(list.get(u32::MAX), None);
    }
}
