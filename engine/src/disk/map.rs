//! A file's bytes as a slice: owns [`Mapping`].
//!
//! It calls `memmap2`. Backends make mappings; readers of sealed files use them.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::sync::Arc;

use memmap2::{Advice, Mmap};

use super::aligned::AlignedBuf;

/// The bytes of a file that is not written any more; clones share them.
///
/// It stays valid when the file is closed, renamed or unlinked. If someone outside of the engine cuts
/// the file while it is mapped, reading what was cut off ends the process with `SIGBUS`: no program can
/// prevent that for a mapping, and readers that must survive it read without one. Nor may anybody outside
/// of the engine write to a file of a store while it is open: what was checked would no longer be so.
#[derive(Clone)]
pub struct Mapping(Bytes);

#[derive(Clone)]
enum Bytes {
    /// Pages of the file itself.
    Mapped(Arc<Mmap>),
    /// Bytes of no file, or nothing at all.
    Owned(Arc<Vec<u8>>),
    /// A copy of so many bytes, from a backend without pages.
    Copied(Arc<AlignedBuf>, usize),
}

impl Mapping {
    /// Maps all of `file`; an empty file, which cannot be mapped, gives no bytes.
    pub(super) fn of_file(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::of_bytes(Vec::new()));
        }
        // SAFETY: the bytes behind the slice must not change while it lives. `DiskFile::map` is for
        // files that are not written any more: the engine maps a file only after its last write and
        // never opens it for writing again, the mapping is read-only, and the store's lock keeps other
        // engines away. What is left is an outsider who writes or cuts the file: cutting it is the
        // documented SIGBUS. Bytes that were changed before they are read are met by checksums, and by a
        // check of archived values where that is asked for; against somebody who changes them in the very
        // moment between, no program with a mapping can guard. So the files of a store are its owner's
        // alone, in a directory that is (0700), and the documents say so.
        let map = unsafe { Mmap::map(file)? };
        // Most reads are of single events: without this, each would read its whole neighbourhood. Who
        // reads on in order says so with `prefetch`. It is advice: where it is not taken, nothing is wrong.
        if let Err(error) = map.advise(Advice::Random) {
            tracing::debug!(%error, "advice on a mapping was not taken");
        }
        Ok(Self(Bytes::Mapped(Arc::new(map))))
    }

    /// Says that these bytes are about to be read, so that they can be fetched in one go.
    pub(crate) fn prefetch(&self, offset: usize, bytes: usize) {
        /// Linux fetches no more than a device's read-ahead for one such advice: 128 KiB by default.
        const AT_ONCE: usize = 128 << 10;
        if let Bytes::Mapped(map) = &self.0 {
            let (offset, end) = pages_of(map, offset, bytes);
            // The question costs the system much less than advice on pages that it has.
            if is_cached(map, offset, end - offset) {
                return;
            }
            for start in (offset..end).step_by(AT_ONCE) {
                // Advice, as above.
                let _ = map.advise_range(Advice::WillNeed, start, AT_ONCE.min(end - start));
            }
        }
    }

    /// Whether these bytes can be read without waiting for the disk, as far as the system says so.
    pub(crate) fn is_cached(&self, offset: usize, bytes: usize) -> bool {
        match &self.0 {
            Bytes::Mapped(map) => {
                let (offset, end) = pages_of(map, offset, bytes);
                is_cached(map, offset, end - offset)
            }
            Bytes::Owned(_) | Bytes::Copied(..) => true,
        }
    }

    /// A mapping of what a backend without pages has copied: as aligned as pages are, since payloads are read where they
    /// lie.
    pub(super) fn of_copy(bytes: &[u8]) -> io::Result<Self> {
        let mut copy = AlignedBuf::zeroed(bytes.len())?;
        copy[..bytes.len()].copy_from_slice(bytes);
        Ok(Self(Bytes::Copied(Arc::new(copy), bytes.len())))
    }

    /// A mapping of bytes that no file backs.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Self {
        Self(Bytes::Owned(Arc::new(bytes)))
    }
}

/// No system that the engine runs on has smaller pages.
const PAGE_BYTES_MIN: usize = 4096;

/// Where the pages of these bytes begin, and where they end or the mapping does.
fn pages_of(map: &Mmap, offset: usize, bytes: usize) -> (usize, usize) {
    let end = offset.saturating_add(bytes).min(map.len());
    let start = offset.min(end);
    (start - start % PAGE_BYTES_MIN, end)
}

/// Whether the page cache has all of these bytes; `false` of more than 2 MiB. Linux answers this to those
/// only who may write the file; to others it says that it has them.
fn is_cached(map: &Mmap, start: usize, bytes: usize) -> bool {
    const PAGES: usize = (2 << 20) / PAGE_BYTES_MIN;
    let asked_pages = bytes.div_ceil(PAGE_BYTES_MIN);
    let mut pages = [0_u8; PAGES];
    let part = map.get(start..).and_then(|rest| rest.get(..bytes));
    let (Some(part), Some(pages)) = (part, pages.get_mut(..asked_pages)) else {
        return false;
    };
    // SAFETY: `part` lies in a mapping that lives through the call, and nothing of it is written. Linux
    // writes one byte for each page of it to `pages`, which has one for each 4 KiB, and pages are not smaller;
    // it refuses a start that is not a page's, so that `part` does not lie on one page more.
    let asked = unsafe {
        libc::mincore(part.as_ptr().cast_mut().cast(), part.len(), pages.as_mut_ptr().cast())
    };
    asked == 0 && pages.iter().all(|page| page & 1 == 1)
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
            Bytes::Copied(bytes, len) => &bytes[..*len],
        }
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("len", &self.len()).finish_non_exhaustive()
    }
}
