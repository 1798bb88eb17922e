//! A sealed segment of snapshots: mapped when it is first looked into, and found in by its index.
//!
//! Owns what is believed of such a file. A page of the index is checked when it is first touched, a record whenever it is
//! read. Where the footer or the index is damaged the segment is scanned instead, as one that was never sealed; where its
//! header is, it has nothing.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::super::figures::Figures;
use crate::disk::{Access, Disk, Mapping};
use crate::format::FormatError;
use crate::format::checksum::{SegmentKey, StoreId};
use crate::format::constants::{SNAPSHOT_ENTRY_BYTES, SNAPSHOT_PAGE_ENTRIES};
use crate::format::snapshot::{
    Entry, SnapshotRecord, SnapshotsFooter, check_page, checked_record, page_entry, page_len,
    parse_header, records,
};
use crate::limits::{BLOCK, BLOCK_BYTES};
use crate::log::names;

/// See the module.
#[derive(Debug)]
pub(crate) struct SealedSegment {
    pub number: u64,
    /// The length of its file.
    pub file_bytes: u64,
    open: ArcSwapOption<OpenedSegment>,
    opening: Mutex<()>,
}

/// As it was mapped.
#[derive(Debug)]
pub(crate) struct OpenedSegment {
    pub map: Mapping,
    pub key: SegmentKey,
    /// The greatest sequence of its records.
    pub last_sequence: u64,
    index: Index,
    /// Why it has nothing.
    pub unusable: Option<FormatError>,
}

#[derive(Debug)]
enum Index {
    /// As it stands in the file: where it begins, how many entries it has, and a bit for each page that was checked.
    Stored { at: usize, entries: usize, checked: Box<[AtomicU64]> },
    /// As it was found by a scan.
    Scanned(Vec<Entry>),
}

/// Two are the same where they are the same file.
impl PartialEq for SealedSegment {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl SealedSegment {
    pub(super) fn new(number: u64, file_bytes: u64) -> Self {
        Self { number, file_bytes, open: ArcSwapOption::empty(), opening: Mutex::default() }
    }

    pub(crate) fn name(&self) -> String {
        names::snapshots(self.number)
    }

    /// Maps it, if it is not mapped yet.
    ///
    /// # Errors
    /// What the operating system reports.
    pub(crate) fn open(
        &self,
        disk: &dyn Disk,
        store: StoreId,
        figures: &Figures,
    ) -> io::Result<Arc<OpenedSegment>> {
        if let Some(open) = self.open.load_full() {
            return Ok(open);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.open.load_full() {
            return Ok(open);
        }
        let map = disk.open(&self.name(), Access::Read)?.map()?;
        let opened = OpenedSegment::of(map, store, self.number).unwrap_or_else(|(map, error)| {
            let name = self.name();
            tracing::warn!(name, %error, "a segment of snapshots is of no use");
            figures.unusable_segments.add(1);
            OpenedSegment::unusable(map, store, self.number, error)
        });
        if matches!(opened.index, Index::Scanned(_)) && opened.unusable.is_none() {
            tracing::warn!(
                name = self.name(),
                "the index of snapshots is damaged: they were scanned"
            );
            figures.damaged_indexes.add(1);
        }
        let opened = Arc::new(opened);
        self.open.store(Some(Arc::clone(&opened)));
        Ok(opened)
    }

    /// As it is mapped, if it is.
    pub(crate) fn if_open(&self) -> Option<Arc<OpenedSegment>> {
        self.open.load_full()
    }

    /// A page of its index was found to be damaged: it is scanned.
    pub(crate) fn scan(&self, opened: &OpenedSegment, figures: &Figures) -> Arc<OpenedSegment> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.open.load_full()
            && matches!(open.index, Index::Scanned(_))
        {
            return open;
        }
        tracing::warn!(name = self.name(), "the index of snapshots is damaged: they are scanned");
        figures.damaged_indexes.add(1);
        let scanned = Arc::new(OpenedSegment::scanned(opened.map.clone(), opened.key.clone()));
        self.open.store(Some(Arc::clone(&scanned)));
        scanned
    }
}

impl OpenedSegment {
    fn of(map: Mapping, store: StoreId, number: u64) -> Result<Self, (Mapping, FormatError)> {
        let identity = match parse_header(&map) {
            Ok(identity) if identity.store != store => Err(FormatError::Field("store")),
            Ok(identity) if identity.segment != number => Err(FormatError::Field("number")),
            other => other,
        };
        let identity = match identity {
            Ok(identity) => identity,
            Err(error) => return Err((map, error)),
        };
        let key = SegmentKey::new(identity);
        let file_bytes = map.len() as u64;
        let last = map.len().checked_sub(BLOCK_BYTES).and_then(|at| map.get(at..));
        match SnapshotsFooter::parse(&key, file_bytes, last.unwrap_or_default()) {
            Ok(footer) => {
                let pages = usize::try_from(footer.pages()).unwrap_or(usize::MAX);
                let index = Index::Stored {
                    at: usize::try_from(footer.index_at()).unwrap_or(usize::MAX),
                    entries: usize::try_from(footer.entries).unwrap_or(usize::MAX),
                    checked: (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
                };
                let last_sequence = footer.last_sequence;
                Ok(Self { map, key, last_sequence, index, unusable: None })
            }
            Err(_) => Ok(Self::scanned(map, key)),
        }
    }

    fn unusable(map: Mapping, store: StoreId, number: u64, error: FormatError) -> Self {
        let identity = crate::format::checksum::SegmentIdentity { store, segment: number, salt: 0 };
        Self {
            map,
            key: SegmentKey::new(identity),
            last_sequence: 0,
            index: Index::Scanned(Vec::new()),
            unusable: Some(error),
        }
    }

    fn scanned(map: Mapping, key: SegmentKey) -> Self {
        map.prefetch(0, map.len());
        let found = records(&key, BLOCK, map.get(BLOCK_BYTES..).unwrap_or_default());
        let mut entries: Vec<Entry> = found.map(|(offset, record)| record.entry(offset)).collect();
        let last_sequence = entries.iter().map(|entry| entry.sequence).max().unwrap_or(0);
        entries.sort_unstable_by_key(Entry::order);
        Self { map, key, last_sequence, index: Index::Scanned(entries), unusable: None }
    }

    /// How many records it has.
    pub(crate) fn len(&self) -> usize {
        match &self.index {
            Index::Stored { entries, .. } => *entries,
            Index::Scanned(entries) => entries.len(),
        }
    }

    /// Adds the entries of a hash, in the order of their sequences.
    ///
    /// # Errors
    /// A page is damaged.
    pub(crate) fn find(
        &self,
        hash: u64,
        found: &mut impl Extend<Entry>,
    ) -> Result<(), FormatError> {
        match &self.index {
            Index::Scanned(entries) => {
                let first = entries.partition_point(|entry| entry.hash < hash);
                found.extend(
                    entries[first..].iter().take_while(|entry| entry.hash == hash).copied(),
                );
            }
            Index::Stored { entries, .. } => {
                let pages = entries.div_ceil(SNAPSHOT_PAGE_ENTRIES);
                for number in self.first_page(hash, pages)?..pages {
                    let page = self.page(number)?;
                    let first = first_of(page, hash);
                    let entries = (first..page_len(page)).map_while(|at| page_entry(page, at));
                    found.extend(entries.take_while(|entry| entry.hash == hash));
                    // The next page may go on with it.
                    if last_of(page).is_none_or(|last| last.hash > hash) {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// The first page whose last entry is not before a hash. Hashes are spread evenly, so that its place among all hashes
    /// says nearly where it is ("interpolation search": Peterson, 1957); where it does not, by halves.
    fn first_page(&self, hash: u64, pages: usize) -> Result<usize, FormatError> {
        /// How many pages beside the guessed one are looked at.
        const NEIGHBOURS: u32 = 4;
        let (mut low, mut high) = (0, pages);
        let guess = (u128::from(hash) * pages as u128) >> 64;
        let mut probe = usize::try_from(guess).unwrap_or(0);
        let mut probes = 0;
        while low < high {
            probes += 1;
            let before = last_of(self.page(probe)?).is_none_or(|last| last.hash < hash);
            if before {
                low = probe + 1;
            } else {
                high = probe;
            }
            probe = match before {
                _ if probes > NEIGHBOURS => low + (high - low) / 2,
                true => low,
                false => high.saturating_sub(1),
            };
        }
        Ok(low)
    }

    /// A page of the stored index, checked.
    fn page(&self, number: usize) -> Result<&[u8], FormatError> {
        let Index::Stored { at, checked, .. } = &self.index else { return Ok(&[]) };
        let offset = at + number * BLOCK_BYTES;
        let page = self.map.get(offset..).and_then(|rest| rest.get(..BLOCK_BYTES));
        let page = page.ok_or(FormatError::Short)?;
        let (word, bit) = (checked.get(number / 64).ok_or(FormatError::Short)?, number % 64);
        if word.load(Ordering::Relaxed) >> bit & 1 == 0 {
            check_page(&self.key, offset as u64, page)?;
            word.fetch_or(1 << bit, Ordering::Relaxed);
        }
        Ok(page)
    }

    /// The entry at this place, in their order.
    ///
    /// # Errors
    /// Its page is damaged.
    pub(crate) fn entry(&self, place: usize) -> Result<Option<Entry>, FormatError> {
        match &self.index {
            Index::Scanned(entries) => Ok(entries.get(place).copied()),
            Index::Stored { entries, .. } if place >= *entries => Ok(None),
            Index::Stored { .. } => {
                let page = self.page(place / SNAPSHOT_PAGE_ENTRIES)?;
                Ok(page_entry(page, place % SNAPSHOT_PAGE_ENTRIES))
            }
        }
    }

    /// Says that all entries are about to be read.
    pub(crate) fn prefetch_index(&self) {
        if let Index::Stored { at, entries, .. } = &self.index {
            self.map.prefetch(*at, entries * SNAPSHOT_ENTRY_BYTES);
        }
    }

    /// The record that an entry leads to, with its checksum checked.
    ///
    /// # Errors
    /// [`FormatError`].
    pub(crate) fn record(&self, entry: &Entry) -> Result<SnapshotRecord<'_>, FormatError> {
        let start = usize::try_from(entry.offset).map_err(|_| FormatError::Short)?;
        self.map.prefetch(start, entry.bytes as usize);
        let bytes = self.map.get(start..).ok_or(FormatError::Short)?;
        checked_record(&self.key, entry.offset, bytes)
    }
}

fn last_of(page: &[u8]) -> Option<Entry> {
    page_entry(page, page_len(page).checked_sub(1)?)
}

/// The first place of a page whose hash is not before this one.
fn first_of(page: &[u8], hash: u64) -> usize {
    let (mut low, mut high) = (0, page_len(page));
    while low < high {
        let middle = low.midpoint(high);
        if page_entry(page, middle).is_some_and(|entry| entry.hash < hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}
