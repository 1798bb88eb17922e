//! Memory that may be handed to direct I/O: owns [`AlignedBuf`].
//!
//! It calls the allocator, and `memmap2` for what is large. Every layer that reads or writes blocks may
//! use it. One of the few files of the disk seam with `unsafe` code.

use std::alloc::{self, Layout};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::MmapMut;

use super::WriteParts;
use crate::limits::BLOCK_BYTES;

/// The unit in which the operating system can give memory in one go: 2 MiB, where it can at all.
const HUGE_BYTES: usize = 2 << 20;

/// Zeroed memory whose address and length are multiples of [`BLOCK_BYTES`]: owned, and not accessible but
/// through its address.
///
/// Pages that are never touched cost nothing. What fills huge pages is asked for in such: a device's read
/// into 2 MiB in one piece takes half the time of one into 512 pages that lie scattered, most of which is
/// finding and clearing them.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// Declared to be freed with it.
    _owner: Owner,
    /// The first aligned address in it.
    start: NonNull<u8>,
    /// A multiple of [`BLOCK_BYTES`]; that many bytes from `start` on are in the allocation.
    len: usize,
}

/// Where the memory came from.
#[derive(Debug)]
enum Owner {
    Allocator {
        allocation: NonNull<u8>,
        layout: Layout,
    },
    Pages {
        _map: MmapMut,
    },
    /// A part of it is this.
    Shared {
        _whole: Arc<Blocks>,
    },
}

impl Blocks {
    /// At least `len` zero bytes: `len` is rounded up to whole blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`] where there is no such room.
    pub(crate) fn zeroed(len: usize) -> io::Result<Self> {
        let len = len.checked_next_multiple_of(BLOCK_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        if len < HUGE_BYTES { Self::of_allocator(len) } else { Self::of_pages(len) }
    }

    /// Asked of the allocator with a small alignment and one block more, since for a large alignment it
    /// would write the zeroes itself.
    fn of_allocator(len: usize) -> io::Result<Self> {
        let size = len.checked_add(BLOCK_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        let layout = Layout::from_size_align(size, 16).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the layout has a size above 0, as `alloc_zeroed` demands: a block at least.
        let allocation = NonNull::new(unsafe { alloc::alloc_zeroed(layout) })
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let skip =
            allocation.as_ptr().addr().next_multiple_of(BLOCK_BYTES) - allocation.as_ptr().addr();
        // SAFETY: `skip` is below a block, and the allocation has a block more than `len`.
        let start = unsafe { allocation.add(skip) };
        Ok(Self { _owner: Owner::Allocator { allocation, layout }, start, len })
    }

    fn of_pages(len: usize) -> io::Result<Self> {
        let size = len.checked_add(HUGE_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        if isize::try_from(size).is_err() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let mut map = MmapMut::map_anon(size)?;
        let first = NonNull::new(map.as_mut_ptr()).ok_or(io::ErrorKind::OutOfMemory)?;
        let skip = first.as_ptr().addr().next_multiple_of(HUGE_BYTES) - first.as_ptr().addr();
        #[cfg(target_os = "linux")]
        if let Err(error) = map.advise_range(memmap2::Advice::HugePage, skip, len) {
            // Where it is not taken, nothing is wrong.
            tracing::debug!(%error, "advice on memory was not taken");
        }
        // SAFETY: `skip` is below a huge page, and the mapping has a huge page more than `len`.
        let start = unsafe { first.add(skip) };
        Ok(Self { _owner: Owner::Pages { _map: map }, start, len })
    }

    /// As [`Blocks::zeroed`], two that are parts of one: so what is smaller than a huge page can be in one as well. Its memory
    /// goes back with the second of them.
    ///
    /// # Errors
    /// As [`Blocks::zeroed`].
    pub(crate) fn zeroed_pair(len: usize) -> io::Result<[Self; 2]> {
        let len = len.checked_next_multiple_of(BLOCK_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        let both = len.checked_mul(2).ok_or(io::ErrorKind::OutOfMemory)?;
        let whole = Arc::new(Self::zeroed(both)?);
        let part = |at: usize| {
            // SAFETY: `whole` has `2 * len` bytes, of which each part has `len` from 0 or `len` on.
            let start = unsafe { whole.start.add(at) };
            Self { _owner: Owner::Shared { _whole: Arc::clone(&whole) }, start, len }
        };
        Ok([part(0), part(len)])
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Self::Allocator { allocation, layout } = self {
            // SAFETY: `allocation` came from `alloc_zeroed` with this same layout, and `drop` runs once.
            unsafe { alloc::dealloc(allocation.as_ptr(), *layout) };
        }
    }
}

// SAFETY: it owns its bytes alone, like a `Box<[u8]>`, and gives no access to them: no thread is special
// to the allocation. Whoever makes references out of `start` answers for them.
unsafe impl Send for Blocks {}
// SAFETY: as above.
unsafe impl Sync for Blocks {}

/// A fixed-size buffer of bytes whose address and length are multiples of
/// [`BLOCK_BYTES`], as direct I/O wants them.
///
/// ```
/// use stratalog::disk::AlignedBuf;
/// use stratalog::limits::BLOCK_BYTES;
///
/// let mut buf = AlignedBuf::zeroed(5000)?;
/// assert_eq!(buf.len(), 2 * BLOCK_BYTES);
/// assert_eq!(buf.as_ptr().addr() % BLOCK_BYTES, 0);
/// buf[0] = 7;
/// assert_eq!(buf[..2], [7, 0]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct AlignedBuf(Blocks);

impl AlignedBuf {
    /// A buffer of at least `len` zero bytes: `len` is rounded up to whole blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`] where the allocator has no such room, instead of ending the
    /// process.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        Blocks::zeroed(len).map(Self)
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` is valid for `len` bytes that were zeroed when they were allocated and that
        // live as long as `self`; nothing writes them while `self` is shared, because only `deref_mut`
        // gives them out for writing.
        unsafe { std::slice::from_raw_parts(self.0.start().as_ptr(), self.0.len()) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; and `self` is borrowed exclusively, so no other slice of it lives.
        unsafe { std::slice::from_raw_parts_mut(self.0.start().as_ptr(), self.0.len()) }
    }
}

// SAFETY: the bytes are where `start` points, wherever the buffer is moved to; and who has a buffer behind
// a `Box<dyn WriteParts>` has no way to write to it.
unsafe impl WriteParts for AlignedBuf {
    fn parts(&self) -> [&[u8]; 2] {
        [self, &[]]
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_zeroed_and_whole_blocks() {
        for len in [1, 511, 4096, 4097, 1 << 20] {
            let buf = AlignedBuf::zeroed(len).unwrap();
            assert!(buf.as_ptr().addr().is_multiple_of(BLOCK_BYTES));
            assert!(buf.len() >= len && buf.len() - len < BLOCK_BYTES);
            assert!(buf.iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn an_empty_buffer_is_aligned_too() {
        let mut buf = AlignedBuf::zeroed(0).unwrap();
        assert!(buf.is_empty() && buf.as_ptr().addr().is_multiple_of(BLOCK_BYTES));
        assert_eq!(buf.as_mut(), [0_u8; 0]);
    }

    #[test]
    fn a_hopeless_size_is_an_error_and_no_abort() {
        for len in [usize::MAX, usize::MAX / 2, isize::MAX.unsigned_abs()] {
            assert_eq!(AlignedBuf::zeroed(len).unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        }
    }

    #[test]
    fn what_is_written_is_read_from_another_thread() {
        let mut buf = AlignedBuf::zeroed(BLOCK_BYTES).unwrap();
        buf[4095] = 9;
        let buf = std::thread::spawn(move || buf).join().unwrap();
        assert_eq!(buf[4095], 9);
    }
}
