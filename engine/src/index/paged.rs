//! An append-only arena in fixed pages, grown by one writer and read by anyone without locks.
//!
//! Owns slots that never move: a directory whose length is fixed at the start points to pages that are
//! allocated when their first slot is needed. Growing therefore costs one page and copies nothing, and
//! an unused arena costs its directory. (Blocks that double, as in `boxcar`, need no bound beforehand,
//! but their largest allocation is half the arena, and it would happen under the sequence lock.)
//! It calls the standard library only; the live index is its only user.

use std::array;
use std::ops::Range;
use std::sync::OnceLock;

/// Slots of `T`, `N` to a page.
pub(super) struct Paged<T, const N: usize> {
    pages: Box<[OnceLock<Box<[T; N]>>]>,
}

impl<T: Default, const N: usize> Paged<T, N> {
    /// Room for at least `slots` slots; allocates the directory only.
    pub(super) fn new(slots: u64) -> Self {
        const { assert!(N.is_power_of_two()) };
        let pages = slots.div_ceil(N as u64);
        Self { pages: (0..pages).map(|_| OnceLock::new()).collect() }
    }

    /// The slot, if its page was ever needed.
    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        let page = self.pages.get(index / N)?.get()?;
        Some(&page[index % N])
    }

    /// These slots, as far as their pages were ever needed, a page's after the other's.
    #[inline]
    pub(super) fn slices(&self, indexes: Range<u32>) -> impl Iterator<Item = &[T]> {
        let Range { start, end } = indexes;
        let (start, end) = (start as usize, end as usize);
        let pages = (start / N..end.div_ceil(N)).take_while(move |_| start < end);
        let pages = pages.map_while(|page| Some((page, self.pages.get(page)?.get()?)));
        pages.map(move |(page, slots)| {
            let first = page * N;
            &slots[start.saturating_sub(first)..(end - first).min(N)]
        })
    }

    /// The slot, whose page is allocated if it is the first of it that is needed.
    ///
    /// # Panics
    ///
    /// Panics beyond the room asked for in [`Paged::new`]: callers size it so that they cannot get there.
    #[inline]
    pub(super) fn slot(&self, index: u32) -> &T {
        let index = index as usize;
        let page = self.pages[index / N].get_or_init(new_page);
        &page[index % N]
    }
}

#[cold]
#[expect(clippy::unnecessary_box_returns, reason = "a page is too large to travel by value")]
fn new_page<T: Default, const N: usize>() -> Box<[T; N]> {
    Box::new(array::from_fn(|_| T::default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_slot_keeps_its_place_while_others_are_added() {
        let arena: Paged<AtomicU32, 4> = Paged::new(10);
        let first = arena.slot(0);
        for index in 0..10 {
            arena.slot(index).store(index, Ordering::Relaxed);
        }
        assert_eq!(first.load(Ordering::Relaxed), 0);
        assert_eq!(arena.get(9).map(|slot| slot.load(Ordering::Relaxed)), Some(9));
    }

    #[test]
    fn slots_follow_one_another_over_pages() {
        let arena: Paged<AtomicU32, 4> = Paged::new(10);
        for index in 0..10 {
            arena.slot(index).store(index, Ordering::Relaxed);
        }
        for (start, end) in [(0, 10), (0, 0), (3, 4), (3, 9), (4, 8), (9, 10), (7, 3), (2, 40)] {
            let slots = arena.slices(start..end).flatten().map(|slot| slot.load(Ordering::Relaxed));
            // A page has all of its slots.
            assert!(slots.eq(start..end.min(12).max(start)) || end == 40, "{start}..{end}");
        }
    }

    #[test]
    fn a_page_that_was_never_needed_has_no_slots() {
        let arena: Paged<AtomicU32, 4> = Paged::new(10);
        arena.slot(0);
        assert!(arena.get(3).is_some());
        assert!(arena.get(4).is_none());
        assert!(arena.get(1000).is_none());
    }
}
