//! Asking the processor to bring memory near before it is needed.

/// Has the processor fetch the cache line in which `value` begins, without waiting for it. A hint: it does
/// nothing where there is no such instruction.
#[inline]
pub(crate) fn prefetch<T>(value: &T) {
    prefetch_at(std::ptr::from_ref(value).cast());
}

/// As [`prefetch`], for the cache lines in which `value` begins and ends: all of it, where it is no larger
/// than a line.
#[inline]
pub(crate) fn prefetch_all<T>(value: &T) {
    let begin = std::ptr::from_ref(value).cast::<u8>();
    prefetch_at(begin);
    prefetch_at(begin.wrapping_add(size_of::<T>().saturating_sub(1)));
}

#[inline]
fn prefetch_at(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction. It changes nothing that a program can see,
        // whatever the address is.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
