//! Writing a file in pieces.
//!
//! Owns what files of both kinds have in common when they are written: sections that grow side by side,
//! each through a buffer of its own, the checksums of their pages, and the header at last. Whoever calls
//! gives a sink that takes whole pages at page offsets, so that no more of a file is in memory than a
//! piece of each section and four bytes a page. It calls `layout` and `pages`; `build` and `run_writer`
//! write with it.

use std::ops::Range;

use super::layout::{CHECKSUM_BYTES, Content, Header, PAGE_BYTES, Section, Stamp};
use super::pages::PageSeed;

/// The most bytes that a sink is given at once.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

const _: () = assert!(PIECE_BYTES.is_multiple_of(PAGE_BYTES));

/// A file in the making.
pub(super) struct FileWriter<'s, F> {
    sink: &'s mut F,
    seed: PageSeed,
    /// By the number of the page. The header has a checksum of its own; its place stays zero.
    checksums: Vec<u32>,
}

impl<'s, F, E> FileWriter<'s, F>
where
    F: FnMut(u64, &[u8]) -> Result<(), E>,
{
    pub(super) fn new(content: Content, stamp: &Stamp, sink: &'s mut F) -> Self {
        Self { sink, seed: PageSeed::new(content, stamp), checksums: vec![0] }
    }

    /// Writes whole pages of sections.
    fn write(&mut self, at: u64, pages: &[u8]) -> Result<(), E> {
        let first = page_of(at);
        for (page, content) in (first..).zip(pages.chunks(PAGE_BYTES)) {
            if self.checksums.len() <= page {
                self.checksums.resize(page + 1, 0);
            }
            self.checksums[page] = self.seed.crc32(page_number(page), content);
        }
        (self.sink)(at, pages)
    }

    /// Adds the checksums, then the header, which lacks only where they are. Gives the file's length.
    pub(super) fn finish(self, mut header: Header) -> Result<u64, E> {
        let pages = self.checksums.len();
        let start = pages * PAGE_BYTES;
        let mut checksum = self.seed.begin(page_number(pages));
        let mut at = start;
        let mut piece = Vec::new();
        for words in self.checksums.chunks(PIECE_BYTES / CHECKSUM_BYTES) {
            piece.clear();
            piece.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            // The padding is in the checksum too: no byte of the file is in none.
            piece.resize(piece.len().next_multiple_of(PAGE_BYTES), 0);
            checksum.update(&piece);
            (self.sink)(at as u64, &piece)?;
            at += piece.len();
        }
        header.sections[Section::Checksums as usize] = start..start + pages * CHECKSUM_BYTES;
        header.checksum_table = checksum.finalize();
        (self.sink)(0, &header.to_page())?;
        Ok(at as u64)
    }
}

fn page_of(at: u64) -> usize {
    usize::try_from(at / PAGE_BYTES as u64).unwrap_or(usize::MAX)
}

/// The number of a page as it is checksummed. The sections' lengths are held to 32 bits each, and with
/// them the number of pages.
fn page_number(page: usize) -> u32 {
    u32::try_from(page).unwrap_or(u32::MAX)
}

/// A section in the making. What is added waits in a buffer until there is a piece of it.
pub(super) struct SectionWriter {
    /// Where it begins in the file.
    start: usize,
    written: usize,
    waiting: Vec<u8>,
}

impl SectionWriter {
    /// A section that begins at the first page at or behind `at`.
    pub(super) fn new(at: usize) -> Self {
        let start = at.next_multiple_of(PAGE_BYTES);
        Self { start, written: 0, waiting: Vec::new() }
    }

    /// How many bytes were added.
    pub(super) fn len(&self) -> usize {
        self.written + self.waiting.len()
    }

    /// Adds bytes.
    pub(super) fn add<F, E>(&mut self, bytes: &[u8], file: &mut FileWriter<'_, F>) -> Result<(), E>
    where
        F: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() >= PIECE_BYTES {
            file.write((self.start + self.written) as u64, &self.waiting[..PIECE_BYTES])?;
            self.written += PIECE_BYTES;
            self.waiting.drain(..PIECE_BYTES);
        }
        Ok(())
    }

    /// Writes what waits, and gives where the section lies in the file, without its padding.
    pub(super) fn finish<F, E>(mut self, file: &mut FileWriter<'_, F>) -> Result<Range<usize>, E>
    where
        F: FnMut(u64, &[u8]) -> Result<(), E>,
    {
        let range = self.start..self.start + self.len();
        if !self.waiting.is_empty() {
            self.waiting.resize(self.waiting.len().next_multiple_of(PAGE_BYTES), 0);
            file.write((self.start + self.written) as u64, &self.waiting)?;
        }
        Ok(range)
    }
}

/// A sink that keeps the file in memory.
pub(super) fn into_memory<E>(file: &mut Vec<u8>) -> impl FnMut(u64, &[u8]) -> Result<(), E> {
    |at, pages| {
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        let end = at.saturating_add(pages.len());
        if file.len() < end {
            file.resize(end, 0);
        }
        file[at..end].copy_from_slice(pages);
        Ok(())
    }
}
