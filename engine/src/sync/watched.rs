//! What tells loom of accesses to raw memory; nothing at all in an ordinary build.

use std::ops::Range;

/// Stands beside memory that several threads access without a lock, and is told of each access.
#[cfg(not(stratalog_loom))]
#[derive(Debug)]
pub(crate) struct Watched;

#[cfg(not(stratalog_loom))]
#[expect(clippy::unused_self, reason = "loom's does more")]
impl Watched {
    pub(crate) fn new(_bytes: usize) -> Self {
        Self
    }

    #[inline]
    pub(crate) fn read(&self, _range: Range<usize>) {}

    #[inline]
    pub(crate) fn write(&self, _range: Range<usize>) {}
}

/// How many bytes loom looks at as one.
#[cfg(stratalog_loom)]
pub(crate) const GRAIN: usize = 1024;

#[cfg(stratalog_loom)]
#[derive(Debug)]
pub(crate) struct Watched(Vec<loom::cell::UnsafeCell<()>>);

// SAFETY: there is nothing in the cells; loom, which knows of each access, fails the model where two of
// them are not ordered.
#[cfg(stratalog_loom)]
unsafe impl Sync for Watched {}

#[cfg(stratalog_loom)]
impl Watched {
    pub(crate) fn new(bytes: usize) -> Self {
        Self((0..bytes.div_ceil(GRAIN)).map(|_| loom::cell::UnsafeCell::new(())).collect())
    }

    fn cells(&self, range: Range<usize>) -> &[loom::cell::UnsafeCell<()>] {
        &self.0[range.start / GRAIN..range.end.div_ceil(GRAIN)]
    }

    pub(crate) fn read(&self, range: Range<usize>) {
        self.cells(range).iter().for_each(|cell| cell.with(|_| ()));
    }

    pub(crate) fn write(&self, range: Range<usize>) {
        self.cells(range).iter().for_each(|cell| cell.with_mut(|_| ()));
    }
}
