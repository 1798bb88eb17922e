//! Adding snapshots: the segment that is open, and its end.
//!
//! Owns when it is full, and what becomes of a failure: the open segment is given up with all that is in it, and nothing is
//! tried for a while. Snapshots are written behind, in pieces, without a sync before their segment is sealed.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rkyv::util::AlignedVec;

use super::recent::RecentRecord;
use super::writer::SegmentWriter;
use super::{NotWritten, PIECE_BYTES, SealedSegment, Segments};
use crate::error::FileError;
use crate::event::Timestamp;
use crate::format::snapshot::{
    Entry, RecordFields, SnapshotRecord, Stamp, place_record, write_record,
};
use crate::log::names;
use crate::snapshot::key::Key;

/// A sequence is the number of the segment that a record was first written to, and which of its records it was.
pub(super) const ORDINAL_BITS: u32 = 24;
/// How long nothing is written after a failure, at first and at most.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// See [`RETRY_AFTER`].
const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Writing {
    pub open: Option<OpenSegment>,
    /// After a failure: nothing is tried before then, and how long the next wait is.
    pub failed: Option<(Instant, Duration)>,
}

/// The segment that takes snapshots.
#[derive(Debug)]
pub(super) struct OpenSegment {
    number: u64,
    writer: SegmentWriter,
    entries: Vec<Entry>,
    /// Whether something of it is not written yet.
    is_dirty: bool,
}

impl OpenSegment {
    /// The sequence of the next record.
    pub(super) fn next_sequence(&self) -> u64 {
        self.number << ORDINAL_BITS | self.entries.len() as u64
    }
}

impl Segments {
    fn not_before(&self) -> MutexGuard<'_, Option<Instant>> {
        self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How large a state may be.
    pub(crate) fn payload_bytes_max(&self) -> u64 {
        self.segment_bytes() / 2
    }

    /// The sequence up to which snapshots of a key are not used.
    pub(crate) fn dropped_upto(&self, key: &Key) -> u64 {
        self.drops.upto(key.hash())
    }

    /// Whether a snapshot would be written, as it seems.
    pub(crate) fn takes(&self) -> bool {
        !self.is_crowded.load(Ordering::Relaxed)
            && self.not_before().is_none_or(|until| Instant::now() >= until)
    }

    /// Adds a snapshot. It is not durable yet. `dropped_upto` is what [`Segments::dropped_upto`] said before its state began
    /// to be loaded. Says whether a segment was sealed, so that there may be something to compact.
    ///
    /// # Errors
    /// [`NotWritten`].
    pub(crate) fn put(
        &self,
        key: &Key,
        dropped_upto: u64,
        (kind, state_version, fingerprint): (u8, u32, u128),
        stamp: &Stamp,
        payload: &[u8],
    ) -> Result<bool, NotWritten> {
        let fields = RecordFields {
            kind,
            state_version,
            fingerprint,
            sequence: 0,
            taken_at: Timestamp::now().0,
        };
        let (bytes, bytes_max) = (payload.len() as u64, self.payload_bytes_max());
        if bytes > bytes_max {
            return Err(NotWritten::TooLarge { bytes, bytes_max });
        }
        if !self.takes() {
            return Err(NotWritten::NotNow);
        }
        let (mut writing, mut sealed) = (self.lock(), false);
        // Under the lock: whatever is dropped from now on is before what is added.
        if self.dropped_upto(key) != dropped_upto {
            return Err(NotWritten::Overtaken);
        }
        self.guarded(&mut writing, |segments, writing| {
            sealed = segments.add(writing, key, fields, stamp, payload)?;
            Ok(())
        })?;
        drop(writing);
        if sealed {
            self.look_whether_crowded();
        }
        Ok(sealed)
    }

    /// Looks whether there is more garbage than there may be, where it seems so by what was wanted when that was last looked
    /// at: compaction may be in the middle of something, and looks later.
    fn look_whether_crowded(&self) {
        let sealed: u64 = self.sealed().iter().map(|segment| segment.file_bytes).sum();
        if sealed > 2 * self.figures.live_bytes() + self.segment_bytes() {
            match self.account(|_, _, _| ControlFlow::Continue(())) {
                Ok(account) => self.note(&account),
                Err(error) => self.figures.failed(&error),
            }
        }
    }

    /// Does something with the open segment. After a failure that segment is given up, and nothing is tried for a while.
    fn guarded(
        &self,
        writing: &mut Writing,
        act: impl FnOnce(&Self, &mut Writing) -> Result<(), FileError>,
    ) -> Result<(), NotWritten> {
        if let Some((until, wait)) = writing.failed
            && (wait == Duration::MAX || Instant::now() < until)
        {
            return Err(NotWritten::NotNow);
        }
        match act(self, writing) {
            Ok(()) => {
                writing.failed = None;
                *self.not_before() = None;
                Ok(())
            }
            Err(error) => {
                self.figures.failed(&error);
                self.give_up_open(writing);
                let wait = writing.failed.map_or(RETRY_AFTER, |(_, wait)| wait * 2);
                let wait = wait.min(RETRY_AFTER_MAX);
                let until = Instant::now() + wait;
                writing.failed = Some((until, wait));
                *self.not_before() = Some(until);
                Err(NotWritten::File(error))
            }
        }
    }

    /// Gives up the open segment: what it has is unknown, and its space may be what others need now.
    fn give_up_open(&self, writing: &mut Writing) {
        self.recent.clear();
        if let Some(open) = writing.open.take() {
            let _ = self.disk.unlink(&names::open_snapshots(open.number));
            let _ = self.disk.unlink(&names::snapshots(open.number));
        }
    }

    /// Adds a record to the open segment, which is sealed before if it is full, and says whether it was.
    fn add(
        &self,
        writing: &mut Writing,
        key: &Key,
        mut fields: RecordFields,
        stamp: &Stamp,
        payload: &[u8],
    ) -> Result<bool, FileError> {
        let room = usize::try_from(self.segment_bytes()).unwrap_or(usize::MAX);
        let is_full = writing.open.as_ref().is_some_and(|open| {
            open.writer.end() + payload.len() as u64 > self.segment_bytes()
                || self.recent.bytes() + payload.len() > room
                || open.entries.len() + 1 >= 1 << ORDINAL_BITS
        });
        if is_full {
            self.seal_open(writing)?;
        }
        let open = match &mut writing.open {
            Some(open) => open,
            none => none.insert(self.begin()?),
        };
        let failed =
            |number| move |error| FileError::new("writing", &names::open_snapshots(number), error);
        fields.sequence = open.next_sequence();
        let mut record = Vec::new();
        write_record(&fields, key.record(), stamp, payload, &mut record);
        let offset = open.writer.end();
        place_record(&open.writer.key, offset, &mut record);
        open.writer.push(&record).map_err(failed(open.number))?;
        open.is_dirty = true;
        let mut bytes = AlignedVec::with_capacity(record.len());
        bytes.extend_from_slice(&record);
        if let Ok(record) = SnapshotRecord::parse(&record) {
            let entry = record.entry(offset);
            open.entries.push(entry);
            self.recent.insert(RecentRecord { entry, bytes });
        }
        self.figures.written_bytes.add(record.len() as u64);
        Ok(is_full)
    }

    /// Makes the segment that takes snapshots from now on.
    fn begin(&self) -> Result<OpenSegment, FileError> {
        let number = self.take_number();
        let name = names::open_snapshots(number);
        let writer = SegmentWriter::create(&*self.disk, self.store, number, &name, PIECE_BYTES);
        let writer = writer.map_err(FileError::at("creating", &name))?;
        Ok(OpenSegment { number, writer, entries: Vec::new(), is_dirty: false })
    }

    pub(super) fn take_number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes what is in memory only, so that a crash of the process does not lose it.
    ///
    /// # Errors
    /// [`NotWritten`].
    pub(crate) fn flush(&self) -> Result<(), NotWritten> {
        let mut writing = self.lock();
        if !writing.open.as_ref().is_some_and(|open| open.is_dirty) {
            return Ok(());
        }
        self.guarded(&mut writing, |_, writing| {
            let Some(open) = &mut writing.open else { return Ok(()) };
            let name = names::open_snapshots(open.number);
            open.writer.flush().map_err(FileError::at("writing", &name))?;
            open.is_dirty = false;
            Ok(())
        })
    }

    /// Seals the open segment, if there is one with something in it: for closing, and before a compaction of everything.
    ///
    /// # Errors
    /// [`NotWritten`].
    pub(crate) fn seal(&self) -> Result<(), NotWritten> {
        let mut writing = self.lock();
        if writing.open.is_none() {
            return Ok(());
        }
        self.guarded(&mut writing, Self::seal_open)
    }

    fn seal_open(&self, writing: &mut Writing) -> Result<(), FileError> {
        let Some(mut open) = writing.open.take() else { return Ok(()) };
        let name = names::open_snapshots(open.number);
        let sealed = self.finish(open.number, open.writer, &mut open.entries);
        let sealed = sealed.map_err(FileError::at("sealing", &name)).inspect_err(|_| {
            let _ = self.disk.unlink(&name);
            let _ = self.disk.unlink(&names::snapshots(open.number));
        })?;
        self.push_sealed(sealed);
        // Only now: a reader looks here first.
        self.recent.clear();
        Ok(())
    }

    /// Completes the file of the open segment, under the name of a sealed one.
    pub(super) fn finish(
        &self,
        number: u64,
        writer: SegmentWriter,
        entries: &mut [Entry],
    ) -> io::Result<SealedSegment> {
        let footer = writer.finish(entries)?;
        self.disk.rename(&names::open_snapshots(number), &names::snapshots(number))?;
        self.disk.sync_dir()?;
        Ok(SealedSegment::new(number, footer.file_bytes()))
    }

    pub(super) fn push_sealed(&self, sealed: SealedSegment) {
        let sealed = Arc::new(sealed);
        self.sealed.rcu(|segments| {
            let mut next = Vec::clone(segments);
            next.push(Arc::clone(&sealed));
            next.sort_by_key(|segment| segment.number);
            next
        });
    }
}
