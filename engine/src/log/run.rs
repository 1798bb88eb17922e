//! A run: the terms of neighbouring sealed segments, in one immutable file that is mapped when it is first
//! asked.
//!
//! Owns which segments a run is of, and how it is opened. The file is a cache: where it is missing, foreign or
//! damaged, the run of a single segment is built from the log, in memory at first; one of several segments is
//! given up for single ones (`catalog` does that). Readers, look-ups and the indexer call it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwapOption, Guard};

use super::indexing::stamp_of_neighbours;
use super::names;
use super::read_ahead::ReadAhead;
use super::rebuilding::{Held, Rebuilding};
use super::sealed::{IndexOrRead, SealedSegment, map_index_file};
use crate::disk::{Disk, Mapping};
use crate::error::{DamageReason, FileError, ReadError};
use crate::index::{IndexDamage, Stamp, TermRun};

/// A run that is open for reading.
#[derive(Debug)]
pub(crate) struct OpenRun {
    pub terms: TermRun<Mapping>,
    /// Whether it was built from the log, and is in no file.
    is_built: bool,
    ahead: ReadAhead,
    _held: Option<Held>,
}

impl OpenRun {
    /// It is about to be looked into once more.
    fn looked(&self) {
        self.ahead.looked(self.terms.file(), self.terms.touched(), TOUCHED_MIN);
    }
}

/// Once so many pages of a run were touched, all of it may be read: a query of one term touches four.
const TOUCHED_MIN: u32 = 32;

/// See the module.
#[derive(Debug)]
pub(crate) struct Run {
    disk: Arc<dyn Disk>,
    /// Never empty, and each has an event; those behind one another have dense positions.
    segments: Vec<Arc<SealedSegment>>,
    /// Whether there is a file that was not found to be damaged.
    has_file: AtomicBool,
    open: ArcSwapOption<OpenRun>,
    /// Held while the run is opened or built, so that this happens once.
    opening: Mutex<()>,
    rebuilding: Arc<Rebuilding>,
}

impl Run {
    /// The run of these segments; none where they have no events.
    pub(crate) fn new(
        disk: &Arc<dyn Disk>,
        segments: impl IntoIterator<Item = Arc<SealedSegment>>,
        has_file: bool,
        rebuilding: &Arc<Rebuilding>,
    ) -> Option<Self> {
        let segments: Vec<_> =
            segments.into_iter().filter(|segment| segment.content.events > 0).collect();
        (!segments.is_empty()).then(|| Self {
            disk: Arc::clone(disk),
            segments,
            has_file: AtomicBool::new(has_file),
            open: ArcSwapOption::empty(),
            opening: Mutex::new(()),
            rebuilding: Arc::clone(rebuilding),
        })
    }

    /// Runs of its segments one by one, none of which has a file.
    pub(crate) fn split(&self) -> impl Iterator<Item = Self> {
        let one = |segment| Self::new(&self.disk, [Arc::clone(segment)], false, &self.rebuilding);
        self.segments.iter().filter_map(one)
    }

    /// One run of the segments of these neighbours, in a file that was just written.
    pub(crate) fn merged(runs: &[Arc<Self>]) -> Option<Self> {
        let first = runs.first()?;
        let segments = runs.iter().flat_map(|run| run.segments.iter().cloned());
        Self::new(&first.disk, segments, true, &first.rebuilding)
    }

    /// What is open of it now, if anything, for a short look: no other thread's count is touched.
    #[inline]
    pub(crate) fn look(&self) -> Guard<Option<Arc<OpenRun>>> {
        let open = self.open.load();
        open.as_deref().inspect(|open| open.looked());
        open
    }

    pub(crate) fn segments(&self) -> &[Arc<SealedSegment>] {
        &self.segments
    }

    fn first(&self) -> &SealedSegment {
        &self.segments[0]
    }

    fn last(&self) -> &SealedSegment {
        &self.segments[self.segments.len() - 1]
    }

    /// The position of its first event.
    pub(crate) fn first_position(&self) -> u64 {
        self.first().content.first_position
    }

    /// The position behind its last event.
    pub(crate) fn next_position(&self) -> u64 {
        self.last().content.next_position()
    }

    /// When its last event was recorded, in nanoseconds since the Unix epoch; no other was later.
    pub(crate) fn recorded_last(&self) -> i64 {
        self.last().content.recorded_last
    }

    /// The segment that holds the event at a position of the run.
    pub(crate) fn segment_of(&self, position: u64) -> &Arc<SealedSegment> {
        let behind = self.segments.partition_point(|s| s.content.first_position <= position);
        &self.segments[behind.saturating_sub(1)]
    }

    /// The name of its file.
    pub(crate) fn name(&self) -> String {
        names::run(self.first().number(), self.last().number())
    }

    /// What its file must say that it is of.
    pub(crate) fn stamp(&self) -> Stamp {
        let (first, last) = (self.first(), self.last());
        stamp_of_neighbours((&first.key, &first.content), (&last.key, &last.content))
    }

    pub(crate) fn has_file(&self) -> bool {
        self.has_file.load(Ordering::Acquire)
    }

    /// Whether it is of one segment, so that it can be built from the log.
    pub(crate) fn is_single(&self) -> bool {
        self.segments.len() == 1
    }

    /// Opens the run, if it is not open yet.
    ///
    /// # Errors
    /// [`IndexOrRead::Index`], where it is of several segments and its file is of no use; or what is wrong
    /// with the log from which one of a single segment was to be built.
    pub(crate) fn open(&self) -> Result<Arc<OpenRun>, IndexOrRead> {
        if let Some(open) = self.open.load_full() {
            open.looked();
            return Ok(open);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = self.open.load_full() {
            return Ok(open);
        }
        match self.open_file() {
            Err(IndexOrRead::Index(_)) if self.is_single() => Ok(self.build()?),
            opened => opened,
        }
    }

    /// As [`Run::open`], but builds nothing where there is no file.
    ///
    /// # Errors
    /// [`IndexOrRead`].
    pub(crate) fn open_filed(&self) -> Result<Arc<OpenRun>, IndexOrRead> {
        if let Some(open) = self.open.load_full().filter(|open| !open.is_built) {
            return Ok(open);
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        self.open_file()
    }

    /// Opens the file. One that is not there or is not sound is given up; one that the system does not open, for
    /// another reason, may be good.
    fn open_file(&self) -> Result<Arc<OpenRun>, IndexOrRead> {
        if !self.has_file() {
            return Err(IndexDamage::Missing.into());
        }
        let map = map_index_file(&*self.disk, &self.name());
        let terms = map.and_then(|map| Ok(TermRun::open(map, &self.stamp())?));
        if let Err(IndexOrRead::Index(damage)) = &terms {
            self.give_up_file(damage);
        }
        let terms = terms?;
        let open =
            Arc::new(OpenRun { terms, is_built: false, ahead: ReadAhead::default(), _held: None });
        self.open.store(Some(Arc::clone(&open)));
        Ok(open)
    }

    /// Builds the run of a single segment. It is kept where there is room for it.
    fn build(&self) -> Result<Arc<OpenRun>, ReadError> {
        let segment = self.first();
        let bytes = self.rebuilding.build(|| segment.build_index())?.run;
        let held = self.rebuilding.take(bytes.len());
        let keeps = held.is_some();
        let terms = TermRun::open(Mapping::of_bytes(bytes), &self.stamp())
            .map_err(|_| segment.contradicts_itself())?;
        let open =
            Arc::new(OpenRun { terms, is_built: true, ahead: ReadAhead::default(), _held: held });
        if keeps {
            self.open.store(Some(Arc::clone(&open)));
        }
        Ok(open)
    }

    /// What was read of it, opened as `open` where it could be, turned out to be damaged. Somebody else may have found
    /// that before, and have put something else in its place.
    ///
    /// # Errors
    /// [`ReadError::Damaged`], where it had been built from the log: that contradicts itself.
    pub(super) fn distrust(
        &self,
        open: Option<&Arc<OpenRun>>,
        damage: &IndexDamage,
    ) -> Result<(), ReadError> {
        if open.is_some_and(|open| open.is_built) {
            return Err(self.first().contradicts_itself());
        }
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.open.load_full();
        let is_it = |open: &Arc<OpenRun>| now.as_ref().is_some_and(|now| Arc::ptr_eq(now, open));
        if open.is_some_and(is_it) {
            self.give_up_file(damage);
            self.open.store(None);
        }
        Ok(())
    }

    fn give_up_file(&self, damage: &IndexDamage) {
        if self.has_file.swap(false, Ordering::AcqRel) {
            tracing::warn!(name = self.name(), %damage, "a file of the index is built again");
            self.rebuilding.bell.ring();
        }
    }

    /// Builds the run of a single segment that has no file, and writes it with `write`. Those who come in the
    /// meantime wait for it instead of building it too; those after have it from the file.
    ///
    /// # Errors
    /// [`ReadError`], or what `write` reports.
    pub(super) fn write_with(
        &self,
        write: impl FnOnce(&[u8]) -> io::Result<()>,
    ) -> Result<(), ReadError> {
        let open = {
            let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
            match self.open.load_full() {
                Some(open) if open.is_built => open,
                _ => self.build()?,
            }
        };
        let name = self.name();
        write(open.terms.file()).map_err(FileError::at("writing", &name))?;
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_file.store(true, Ordering::Release);
        self.open.store(None);
        Ok(())
    }
}

impl SealedSegment {
    /// The error that says that the log of this segment is not what was recorded of it.
    pub(crate) fn contradicts_itself(&self) -> ReadError {
        self.damaged(self.content.data_end, None, DamageReason::Content)
    }
}
