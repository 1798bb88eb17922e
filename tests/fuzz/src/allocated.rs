//! Counts the bytes that each thread allocates. Owns the global allocator of whoever includes it; calls the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static GLOBAL: Counting = Counting;

fn count(bytes: usize) {
    // A thread that ends may allocate when its variables are gone: nobody measures then.
    let _ = BYTES.try_with(|counted| counted.set(counted.get().wrapping_add(bytes as u64)));
}

// SAFETY: all is the system's allocator's; counting allocates nothing, since the variable needs no setup and no drop.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes);
        // SAFETY: the caller's.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) };
    }
}

/// What `work` returns, and how many bytes this thread asked for in it: all of them, freed or not.
pub fn during<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = BYTES.get();
    let done = work();
    (done, BYTES.get().wrapping_sub(before))
}
