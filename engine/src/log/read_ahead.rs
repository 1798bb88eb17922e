//! Reading a mapped file as a whole, once it is asked often enough.
//!
//! A page of a mapped file that is not in memory costs a wait for the disk, and a few looks should read little more
//! than what they are for. Many looks should not wait for each page by itself: as soon as some pages of a file were
//! touched for the first time, one in [`TOUCHED_ONE_IN`] at least, each further look asks for a part of it, without
//! waiting, until all of it was asked for, once: a disk gives neighbours much faster than it gives as many pages one
//! by one. Runs, tables and sealed segments have one of these each; it calls nothing but the mapping.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::disk::Mapping;
use crate::limits::BLOCK_BYTES;

/// A file is read as a whole once one of so many pages was touched.
const TOUCHED_ONE_IN: usize = 64;

/// So much is asked for by one look: no commit beside it waits for more.
const STEP_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// How much was asked for.
    asked: AtomicUsize,
}

impl ReadAhead {
    /// Asks for the next part of the file, if enough pages of it were touched, so many at least.
    #[inline]
    pub(super) fn looked(&self, file: &Mapping, touched: u32, touched_min: u32) {
        let enough = file.len() / BLOCK_BYTES / TOUCHED_ONE_IN;
        let is_enough = touched >= touched_min && touched as usize >= enough;
        if is_enough && self.asked.load(Ordering::Relaxed) < file.len() {
            self.ask(file);
        }
    }

    #[cold]
    fn ask(&self, file: &Mapping) {
        let at = self.asked.fetch_add(STEP_BYTES, Ordering::Relaxed);
        if at < file.len() {
            file.prefetch(at, STEP_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_asked_for_once_and_not_before_it_was_touched_often() {
        let (ahead, file) = (ReadAhead::default(), Mapping::of_bytes(vec![1; 10]));
        ahead.looked(&file, 3, 4);
        assert_eq!(ahead.asked.load(Ordering::Relaxed), 0);
        for _ in 0..3 {
            ahead.looked(&file, 4, 4);
            assert_eq!(ahead.asked.load(Ordering::Relaxed), STEP_BYTES);
        }
    }

    #[test]
    fn a_large_file_is_asked_for_once_a_part_of_it_was_touched() {
        let pages = 10 * TOUCHED_ONE_IN;
        let (ahead, file) = (ReadAhead::default(), Mapping::of_bytes(vec![1; pages * BLOCK_BYTES]));
        ahead.looked(&file, 9, 4);
        assert_eq!(ahead.asked.load(Ordering::Relaxed), 0);
        (0..20).for_each(|_| ahead.looked(&file, 10, 4));
        let asked = ahead.asked.load(Ordering::Relaxed);
        assert!(asked >= file.len() && asked < file.len() + STEP_BYTES, "each part once");
    }
}
