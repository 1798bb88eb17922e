//! Bytes of a file that are believed, because their pages' checksums were checked.
//!
//! Owns which pages were checked. A page is checked when it is first touched, so that opening costs
//! nothing that depends on the file's length, and no content is used before. What happens to a page
//! *after* it was checked (memory that rots, a mapping that is read again from a bad disk) is noticed
//! by the next open or `verify`, not by this one. It calls `layout` and CRC-32; `table`, `run`, `postings`
//! and `verify` read through it, `write` computes by it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crc32fast::Hasher;

use super::super::damage::{IndexDamage, structure};
use super::layout::{CHECKSUM_BYTES, Content, Header, PAGE_BYTES, Section, Stamp};
use super::records::u32_at;
use crate::sync::prefetch;

/// CRC-32 of pages, begun with the kind of file, the stamp and the number of the first page: a page of
/// another file, or one in another's place, does not pass.
pub(super) struct PageSeed(Hasher);

impl PageSeed {
    pub(super) fn new(content: Content, stamp: &Stamp) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&content.code().to_le_bytes());
        hasher.update(&stamp.to_bytes());
        Self(hasher)
    }

    /// A checksum that pages are yet to be added to.
    pub(super) fn begin(&self, first_page: u32) -> Hasher {
        let mut hasher = self.0.clone();
        hasher.update(&first_page.to_le_bytes());
        hasher
    }

    pub(super) fn crc32(&self, first_page: u32, pages: &[u8]) -> u32 {
        let mut hasher = self.begin(first_page);
        hasher.update(pages);
        hasher.finalize()
    }
}

/// The header of an open file, and which of its pages were checked.
pub(super) struct Checked {
    pub(super) header: Header,
    seed: PageSeed,
    table_seen: AtomicBool,
    /// A bit a page. Two threads may check the same page at once: both come to the same result.
    pages_seen: Box<[AtomicU64]>,
    /// How many were touched for the first time.
    touched: AtomicU32,
}

impl Checked {
    /// `header` was parsed from a file that has all of its pages, so that this is small beside it.
    pub(super) fn new(header: Header) -> Self {
        let seed = PageSeed::new(header.content, &header.stamp);
        let words = header.pages().div_ceil(u64::BITS as usize);
        Self {
            header,
            seed,
            table_seen: AtomicBool::new(false),
            pages_seen: (0..words).map(|_| AtomicU64::new(0)).collect(),
            touched: AtomicU32::new(0),
        }
    }

    /// How many pages were touched for the first time: each may have had to be read from the disk. Two threads may
    /// count the same one.
    pub(super) fn touched(&self) -> u32 {
        self.touched.load(Ordering::Relaxed)
    }
}

/// A file's bytes with what is known of them.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) file: &'a [u8],
    pub(super) checked: &'a Checked,
}

impl<'a> View<'a> {
    pub(super) fn header(&self) -> &'a Header {
        &self.checked.header
    }

    /// `bytes` bytes at `at` of a section.
    #[inline]
    pub(super) fn read(
        &self,
        section: Section,
        at: usize,
        bytes: usize,
    ) -> Result<&'a [u8], IndexDamage> {
        let beyond = || structure(section.name(), at as u64);
        let range = &self.checked.header.sections[section as usize];
        let start = range.start.checked_add(at).ok_or_else(beyond)?;
        let end = start.checked_add(bytes).filter(|end| *end <= range.end).ok_or_else(beyond)?;
        let content = self.file.get(start..end).ok_or_else(beyond)?;
        for page in start / PAGE_BYTES..end.div_ceil(PAGE_BYTES) {
            self.check_page(page)?;
        }
        Ok(content)
    }

    /// Has the processor fetch what stands at `at` of a section, if it is there.
    #[inline]
    pub(super) fn near(&self, section: Section, at: usize) {
        let start = self.checked.header.sections[section as usize].start.saturating_add(at);
        self.file.get(start).inspect(|byte| prefetch(*byte));
        let page = start / PAGE_BYTES / u64::BITS as usize;
        self.checked.pages_seen.get(page).inspect(|word| prefetch(*word));
    }

    /// A number of 32 bits out of a section that is an array of them.
    #[inline]
    pub(super) fn word(&self, section: Section, index: usize) -> Result<u32, IndexDamage> {
        let beyond = || structure(section.name(), index as u64);
        let at = index.checked_mul(size_of::<u32>()).ok_or_else(beyond)?;
        u32_at(self.read(section, at, size_of::<u32>())?, 0).ok_or_else(beyond)
    }

    /// Checks every page, whether or not it was checked before.
    pub(super) fn check_all_pages(&self) -> Result<(), IndexDamage> {
        self.check_table()?;
        (1..self.header().pages()).try_for_each(|page| self.check_content(page))
    }

    #[inline]
    fn check_page(&self, page: usize) -> Result<(), IndexDamage> {
        let bit = 1_u64 << (page % u64::BITS as usize);
        // Relaxed is enough: the bit says something of bytes that never change.
        let known = self.checked.pages_seen.get(page / u64::BITS as usize);
        if known.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0) {
            return Ok(());
        }
        self.check_new_page(page)?;
        if let Some(word) = known {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    #[cold]
    fn check_new_page(&self, page: usize) -> Result<(), IndexDamage> {
        self.checked.touched.fetch_add(1, Ordering::Relaxed);
        if !self.checked.table_seen.load(Ordering::Relaxed) {
            self.check_table()?;
            self.checked.table_seen.store(true, Ordering::Relaxed);
        }
        self.check_content(page)
    }

    fn check_table(&self) -> Result<(), IndexDamage> {
        let header = self.header();
        let table = self.file.get(header.pages() * PAGE_BYTES..);
        let first_page = page_number(header.pages())?;
        // The padding behind the table is in the checksum too: no byte of the file is in none.
        match table.map(|table| self.checked.seed.crc32(first_page, table)) {
            Some(checksum) if checksum == header.checksum_table => Ok(()),
            _ => Err(IndexDamage::ChecksumTable),
        }
    }

    /// Compares a page with the table, which was checked.
    fn check_content(&self, page: usize) -> Result<(), IndexDamage> {
        let number = page_number(page)?;
        let damaged = || IndexDamage::Page { page: number };
        let start = page.checked_mul(PAGE_BYTES).ok_or_else(damaged)?;
        let content: &[u8; PAGE_BYTES] =
            self.file.get(start..).and_then(|rest| rest.first_chunk()).ok_or_else(damaged)?;
        let table = self.file.get(self.header().section(Section::Checksums)).ok_or_else(damaged)?;
        let expected = u32_at(table, page * CHECKSUM_BYTES).ok_or_else(damaged)?;
        if self.checked.seed.crc32(number, content) == expected { Ok(()) } else { Err(damaged()) }
    }
}

fn page_number(page: usize) -> Result<u32, IndexDamage> {
    u32::try_from(page).map_err(|_| structure("page number", page as u64))
}
