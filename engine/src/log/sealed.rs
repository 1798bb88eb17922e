//! A sealed segment: an immutable file, mapped when it is first read, with its index.
//!
//! Every frame's checksum is verified each time that it is read from the mapping. The index is a cache:
//! where it is missing, foreign or damaged, it is built again from the log, in memory at first, and the
//! read goes on.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::indexing::{build_from_log, stamp_of};
use super::names;
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
use crate::index::{IndexDamage, SealedIndex};

/// What of a sealed segment is open for reading.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub log: Mapping,
    pub index: SealedIndex<Mapping>,
    pub types: Arc<TypeTable>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SealedSegment {
    pub key: SegmentKey,
    pub content: SegmentContent,
    disk: Arc<dyn Disk>,
    open: ArcSwapOption<OpenSegment>,
    /// Held while the segment is opened or its index rebuilt, so that this happens once.
    opening: Mutex<()>,
}

impl SealedSegment {
    pub(crate) fn new(disk: Arc<dyn Disk>, key: SegmentKey, content: SegmentContent) -> Self {
        let open = ArcSwapOption::empty();
        Self { key, content, disk, open, opening: Mutex::new(()) }
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
            return Ok(open);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.open.load_full() {
            return Ok(open);
        }
        let log = self.map_log()?;
        let open = match self.open_index() {
            Some((index, types)) => OpenSegment { log, index, types },
            None => self.rebuild(log)?,
        };
        let open = Arc::new(open);
        self.open.store(Some(Arc::clone(&open)));
        Ok(open)
    }

    /// Builds the index that has no file yet and writes it with `write`. Readers who come in the meantime
    /// wait for it instead of building it too; those after have it from the file.
    ///
    /// # Errors
    /// [`ReadError`], or what `write` reports.
    pub(super) fn index_with(
        &self,
        write: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> Result<(), ReadError> {
        let open = {
            let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(open) = self.open.load_full() {
                open
            } else {
                let open = Arc::new(self.rebuild(self.map_log()?)?);
                self.open.store(Some(Arc::clone(&open)));
                open
            }
        };
        let name = names::index(self.number());
        write(open.index.file()).map_err(FileError::at("writing", &name))?;
        self.open.store(None);
        Ok(())
    }

    /// Does something with the open segment; where the index turns out to be damaged, it is rebuilt and
    /// the thing is done again.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn with_index<T>(
        &self,
        mut act: impl FnMut(&OpenSegment) -> Result<T, IndexOrRead>,
    ) -> Result<T, ReadError> {
        let open = self.open()?;
        match act(&open) {
            Ok(done) => return Ok(done),
            Err(IndexOrRead::Read(error)) => return Err(error),
            Err(IndexOrRead::Index(damage)) => {
                tracing::warn!(segment = self.number(), %damage, "rebuilding a damaged index");
            }
        }
        let rebuilt = Arc::new(self.rebuild(open.log.clone())?);
        self.open.store(Some(Arc::clone(&rebuilt)));
        act(&rebuilt).map_err(|error| match error {
            IndexOrRead::Read(error) => error,
            // An index that was built a moment ago in memory is not damaged: the log contradicts itself.
            IndexOrRead::Index(_) => {
                self.damaged(self.content.data_end, None, DamageReason::Content)
            }
        })
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

    fn open_index(&self) -> Option<(SealedIndex<Mapping>, Arc<TypeTable>)> {
        let name = names::index(self.number());
        let map = match self.disk.open(&name, Access::Read).and_then(|file| file.map()) {
            Ok(map) => map,
            // Not written yet when the process was killed: it is being built in the background.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(segment = self.number(), %error, "an index cannot be read");
                return None;
            }
        };
        let opened = SealedIndex::open(map, &stamp_of(&self.key, &self.content))
            .and_then(|index| types_of(&index).map(|types| (index, types)));
        opened
            .inspect_err(|damage| {
                tracing::warn!(segment = self.number(), %damage, "an index is rebuilt");
            })
            .ok()
    }

    fn rebuild(&self, log: Mapping) -> Result<OpenSegment, ReadError> {
        let bytes = build_from_log(&self.key, &self.content, &log)
            .map_err(|(offset, reason)| self.damaged(offset, None, reason))?;
        let stamp = stamp_of(&self.key, &self.content);
        let contradiction = |_| self.damaged(self.content.data_end, None, DamageReason::Content);
        let index = SealedIndex::open(Mapping::of_bytes(bytes), &stamp).map_err(contradiction)?;
        let types = types_of(&index).map_err(contradiction)?;
        Ok(OpenSegment { log, index, types })
    }
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

fn types_of(index: &SealedIndex<Mapping>) -> Result<Arc<TypeTable>, IndexDamage> {
    let types = index.types().map(|event_type| {
        event_type.map(|event_type| EventType {
            name: event_type.name.into(),
            schema_version: event_type.schema_version,
            fingerprint: event_type.fingerprint,
        })
    });
    types.collect::<Result<TypeTable, _>>().map(Arc::new)
}
