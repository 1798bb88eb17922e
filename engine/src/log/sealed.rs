//! A sealed segment: an immutable file, mapped when it is first read, with the table of where its events are.
//!
//! Every frame's checksum is verified each time that it is read from the mapping. The table is a cache:
//! where it is missing, foreign or damaged, it is built again from the log, in memory at first, and the
//! read goes on. What finds events by their terms is a [`Run`](super::Run).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::indexing::{Built, build_from_log, stamp_of};
use super::names;
use super::read_ahead::ReadAhead;
use super::rebuilding::{Held, Rebuilding};
use crate::commit::TypeTable;
use crate::disk::{Access, Disk, Mapping};
use crate::error::{DamageReason, FileError, ReadError};
use crate::format::FormatError;
use crate::format::checksum::SegmentKey;
use crate::format::definition::EventType;
use crate::format::footer::SegmentContent;
use crate::format::frame::Frame;
use crate::format::scan::record_at;
use crate::format::segment::SegmentHeader;
use crate::index::{IndexDamage, SegmentTable};

/// What of a sealed segment is open for reading.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub log: Mapping,
    pub table: SegmentTable<Mapping>,
    pub types: Arc<TypeTable>,
    /// Whether the table was built from the log, and is in no file.
    is_built: bool,
    ahead: ReadAhead,
    /// How many of its events had to be read from the disk, each by itself.
    scattered: AtomicU32,
    log_ahead: ReadAhead,
    _held: Option<Held>,
}

impl OpenSegment {
    fn new(
        log: Mapping,
        (table, types): (SegmentTable<Mapping>, Arc<TypeTable>),
        is_built: bool,
        held: Option<Held>,
    ) -> Arc<Self> {
        let (ahead, scattered, log_ahead) = Default::default();
        Arc::new(Self { log, table, types, is_built, ahead, scattered, log_ahead, _held: held })
    }

    /// An event of it has to be read from the disk by itself.
    pub(crate) fn read_scattered(&self) {
        let scattered = self.scattered.fetch_add(1, Ordering::Relaxed);
        self.log_ahead.looked(&self.log, scattered, TOUCHED_MIN);
    }
}

/// Once so many pages of a table were touched, all of it may be read.
const TOUCHED_MIN: u32 = 8;

/// See the module.
#[derive(Debug)]
pub(crate) struct SealedSegment {
    pub key: SegmentKey,
    pub content: SegmentContent,
    disk: Arc<dyn Disk>,
    open: ArcSwapOption<OpenSegment>,
    /// Held while the segment is opened or its table rebuilt, so that this happens once.
    opening: Mutex<()>,
    /// Whether there is a file of its table that was not found to be damaged.
    has_table: AtomicBool,
    rebuilding: Arc<Rebuilding>,
}

impl SealedSegment {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        key: SegmentKey,
        content: SegmentContent,
        has_table: bool,
        rebuilding: &Arc<Rebuilding>,
    ) -> Self {
        let (open, opening) = (ArcSwapOption::empty(), Mutex::new(()));
        let has_table = AtomicBool::new(has_table);
        let rebuilding = Arc::clone(rebuilding);
        Self { key, content, disk, open, opening, has_table, rebuilding }
    }

    pub(crate) fn number(&self) -> u64 {
        self.key.identity.segment
    }

    /// Opens the segment, if it is not open yet.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn open(&self) -> Result<Arc<OpenSegment>, ReadError> {
        if let Some(open) = self.open.load_full() {
            open.ahead.looked(open.table.file(), open.table.touched(), TOUCHED_MIN);
            return Ok(open);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.open.load_full() {
            return Ok(open);
        }
        let log = self.map_log()?;
        match self.open_table(&log)? {
            Some(open) => Ok(open),
            None => self.rebuild(log),
        }
    }

    pub(crate) fn has_table(&self) -> bool {
        self.has_table.load(Ordering::Acquire)
    }

    /// Writes the table that has no file with `write`, and builds it where nobody has yet. Readers who come in
    /// the meantime wait for it instead of building it too; those after have it from the file.
    ///
    /// # Errors
    /// [`ReadError`], or what `write` reports.
    pub(super) fn write_table_with(
        &self,
        write: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> Result<(), ReadError> {
        let open = {
            let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
            match self.open.load_full() {
                Some(open) if open.is_built => open,
                Some(open) => self.rebuild(open.log.clone())?,
                None => self.rebuild(self.map_log()?)?,
            }
        };
        let name = names::table(self.number());
        write(open.table.file()).map_err(FileError::at("writing", &name))?;
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_table.store(true, Ordering::Release);
        self.open.store(None);
        Ok(())
    }

    /// Does something with the open segment; where the table turns out to be damaged, it is rebuilt and the
    /// thing is done again.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn with_table<T>(
        &self,
        mut act: impl FnMut(&Arc<OpenSegment>) -> Result<T, IndexOrRead>,
    ) -> Result<T, ReadError> {
        let mut open = self.open()?;
        loop {
            match act(&open) {
                Ok(done) => return Ok(done),
                Err(IndexOrRead::Read(error)) => return Err(error),
                // A table that was built from the log is not damaged: the log contradicts itself.
                Err(IndexOrRead::Index(_)) if open.is_built => {
                    return Err(self.contradicts_itself());
                }
                Err(IndexOrRead::Index(damage)) => {
                    let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
                    open = match self.open.load_full() {
                        // Somebody else has put something else in its place.
                        Some(now) if !Arc::ptr_eq(&now, &open) => now,
                        _ => {
                            self.give_up_table(&damage);
                            self.open.store(None);
                            self.rebuild(open.log.clone())?
                        }
                    };
                }
            }
        }
    }

    /// Builds its index from the log.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(super) fn build_index(&self) -> Result<Built, ReadError> {
        let known = self.open.load_full().map(|open| open.log.clone());
        let log = known.map_or_else(|| self.map_log(), Ok)?;
        self.build_from(&log)
    }

    /// The frame at `offset`, which should have this position, checked.
    ///
    /// # Errors
    /// [`ReadError::Damaged`].
    #[expect(clippy::inline_always, reason = "passing a frame through memory stalls each reader")]
    #[inline(always)]
    pub(crate) fn frame<'a>(
        &self,
        log: &'a [u8],
        offset: u64,
        position: u64,
    ) -> Result<Frame<'a>, ReadError> {
        match self.checked_frame(log, offset) {
            Ok(frame) if frame.position() == position => Ok(frame),
            Ok(frame) => Err(self.damaged(
                offset,
                Some(position),
                DamageReason::Misplaced { found: frame.position() },
            )),
            Err(error) => Err(self.damaged(offset, Some(position), error.into())),
        }
    }

    /// The frame at `offset`, with its checksum and its structure checked.
    #[expect(clippy::inline_always, reason = "as above")]
    #[inline(always)]
    fn checked_frame<'a>(&self, log: &'a [u8], offset: u64) -> Result<Frame<'a>, FormatError> {
        let bytes = record_at(log, usize::try_from(offset).unwrap_or(usize::MAX))?;
        if !self.key.record_is_good(offset, bytes) {
            return Err(FormatError::Checksum);
        }
        Frame::parse(bytes)
    }

    /// The error that says that this segment is damaged: one position of it, or all.
    #[cold]
    pub(crate) fn damaged(
        &self,
        offset: u64,
        position: Option<u64>,
        reason: DamageReason,
    ) -> ReadError {
        ReadError::Damaged {
            segment: self.number(),
            offset,
            first_position: position.unwrap_or(self.content.first_position),
            last_position: position
                .unwrap_or_else(|| self.content.next_position().saturating_sub(1)),
            reason,
        }
    }

    fn map_log(&self) -> Result<Mapping, ReadError> {
        let name = names::segment(self.number());
        let mapped = self.disk.open(&name, Access::Read).and_then(|file| file.map());
        let log = mapped.map_err(FileError::at("mapping", &name))?;
        let header = SegmentHeader::parse(&log);
        match header {
            Ok(header) if header.identity == self.key.identity => {}
            Ok(_) => return Err(self.damaged(0, None, DamageReason::Foreign)),
            Err(error) => return Err(self.damaged(0, None, error.into())),
        }
        if (log.len() as u64) < self.content.data_end {
            return Err(self.damaged(log.len() as u64, None, DamageReason::Ends));
        }
        Ok(log)
    }

    /// Opens the file of the table; none where there is none that is sound.
    fn open_table(&self, log: &Mapping) -> Result<Option<Arc<OpenSegment>>, ReadError> {
        if !self.has_table() {
            return Ok(None);
        }
        let map = map_index_file(&*self.disk, &names::table(self.number()));
        let table = map.and_then(|map| {
            let table = SegmentTable::open(map, &stamp_of(&self.key, &self.content))?;
            let types = types_of(&table)?;
            Ok((table, types))
        });
        match table {
            Ok(table) => {
                let open = OpenSegment::new(log.clone(), table, false, None);
                self.open.store(Some(Arc::clone(&open)));
                Ok(Some(open))
            }
            Err(IndexOrRead::Index(damage)) => {
                self.give_up_table(&damage);
                Ok(None)
            }
            Err(IndexOrRead::Read(error)) => Err(error),
        }
    }

    fn give_up_table(&self, damage: &IndexDamage) {
        if self.has_table.swap(false, Ordering::AcqRel) {
            tracing::warn!(segment = self.number(), %damage, "a table is built again");
            self.rebuilding.bell.ring();
        }
    }

    /// Builds the table. It is kept where there is room for it.
    fn rebuild(&self, log: Mapping) -> Result<Arc<OpenSegment>, ReadError> {
        let bytes = self.rebuilding.build(|| self.build_from(&log))?.table;
        let held = self.rebuilding.take(bytes.len());
        let keeps = held.is_some();
        let stamp = stamp_of(&self.key, &self.content);
        let contradiction = |_| self.contradicts_itself();
        let table = SegmentTable::open(Mapping::of_bytes(bytes), &stamp).map_err(contradiction)?;
        let types = types_of(&table).map_err(contradiction)?;
        let open = OpenSegment::new(log, (table, types), true, held);
        if keeps {
            self.open.store(Some(Arc::clone(&open)));
        }
        Ok(open)
    }

    fn build_from(&self, log: &[u8]) -> Result<Built, ReadError> {
        build_from_log(&self.key, &self.content, log)
            .map_err(|(offset, reason)| self.damaged(offset, None, reason))
    }
}

/// Maps a file of the index.
///
/// # Errors
/// [`IndexDamage::Missing`], where it is not there. What the system does not open for another reason may be good: that
/// is a [`ReadError`].
pub(super) fn map_index_file(disk: &dyn Disk, name: &str) -> Result<Mapping, IndexOrRead> {
    disk.open(name, Access::Read).and_then(|file| file.map()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => IndexDamage::Missing.into(),
        _ => ReadError::from(FileError::new("mapping", name, error)).into(),
    })
}

/// What can end an action on an open segment.
#[derive(Debug)]
pub(crate) enum IndexOrRead {
    Index(IndexDamage),
    Read(ReadError),
}

impl From<IndexDamage> for IndexOrRead {
    fn from(damage: IndexDamage) -> Self {
        Self::Index(damage)
    }
}

impl From<ReadError> for IndexOrRead {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

fn types_of(table: &SegmentTable<Mapping>) -> Result<Arc<TypeTable>, IndexDamage> {
    let types = table.types().map(|event_type| {
        event_type.map(|event_type| EventType {
            name: event_type.name.into(),
            schema_version: event_type.schema_version,
            fingerprint: event_type.fingerprint,
        })
    });
    types.collect::<Result<TypeTable, _>>().map(Arc::new)
}
