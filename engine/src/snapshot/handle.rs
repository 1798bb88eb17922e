//! Looking after snapshots: figures, lists, compaction and removal.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::figures::SnapshotStats;
use super::room::Room;
use super::segments::{NotCompacted, NotWritten, Slack};
use super::verify::SnapshotVerification;
use crate::error::SnapshotError;
use crate::event::{Position, Timestamp, check_stream};
use crate::format::constants::{KEY_LANE, KEY_STREAM};
use crate::format::snapshot::SnapshotRecord;
use crate::typed::Fingerprint;

/// The snapshots of a store, to be looked after. Cheap to clone.
///
/// ```
/// use std::ops::ControlFlow;
/// use stratalog::{Store, disk::MemoryDisk};
///
/// let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// let snapshots = store.snapshots();
/// assert_eq!(snapshots.stats()?.taken, 0);
/// snapshots.each(|snapshot| {
///     println!("{} at {}", snapshot.stream, snapshot.version);
///     ControlFlow::Continue(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Snapshots(Arc<Room>);

/// A snapshot that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// The stream; where it is of a projection, that one's name with the number of its lane and how many there are.
    pub stream: String,
    /// Whether it is of a lane of a [projection](crate::Projection).
    pub is_of_projection: bool,
    /// The name of its state's type, or the one that its fold has in its place.
    pub state: String,
    /// The version of the state's structure.
    pub state_version: u32,
    /// The fingerprint of its layout.
    pub fingerprint: Fingerprint,
    /// The version of the stream that it reflects; that of its last event in its own stream, where it is of a projection.
    pub version: u64,
    /// The position of the last event that is in it.
    pub position: Position,
    /// When it was taken, by the system's clock.
    pub taken_at: Timestamp,
    /// How many bytes the state has.
    pub bytes: u64,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotCompaction {
    /// Bytes of snapshots that were moved.
    pub moved_bytes: u64,
    /// By how many bytes the files have become less.
    pub freed_bytes: u64,
}

impl SnapshotInfo {
    pub(super) fn of(record: &SnapshotRecord<'_>) -> Self {
        let (key, stamp, fields) = (record.key(), record.stamp(), record.fields());
        Self {
            stream: String::from_utf8_lossy(key.key).into_owned(),
            is_of_projection: key.kind == KEY_LANE,
            state: String::from_utf8_lossy(key.state).into_owned(),
            state_version: fields.state_version,
            fingerprint: Fingerprint::from_number(fields.fingerprint),
            version: stamp.version,
            position: Position(stamp.position),
            taken_at: Timestamp(fields.taken_at),
            bytes: record.payload().len() as u64,
        }
    }
}

impl Snapshots {
    pub(crate) fn new(room: Arc<Room>) -> Self {
        Self(room)
    }

    /// Figures about snapshots. How much there is of them is found by a walk over all their indexes, which takes time in
    /// proportion to how many there are.
    ///
    /// # Errors
    /// [`SnapshotError::File`].
    pub fn stats(&self) -> Result<SnapshotStats, SnapshotError> {
        let account = self.0.segments.account(|_, _, _| ControlFlow::Continue(()))?;
        let figures = &self.0.segments.figures;
        let segments = account.parts.len() as u64;
        figures.accounted(account.live_bytes(), account.disk_bytes(), segments, account.keys);
        Ok(figures.read(self.0.takers.waiting()))
    }

    /// Gives each snapshot that is kept to `each`, which may end it; in no order but that those of a stream and a state are
    /// together, the newest first. Damaged ones are left out, and so are, in a store that is open for reading beside its
    /// writer, those that the writer has moved since. Memory does not depend on how many there are.
    ///
    /// # Errors
    /// [`SnapshotError::File`].
    pub fn each(
        &self,
        mut each: impl FnMut(&SnapshotInfo) -> ControlFlow<()>,
    ) -> Result<(), SnapshotError> {
        self.0.segments.account(|whence, entry, is_live| {
            match is_live.then(|| whence.record(entry)).flatten() {
                Some(record) => each(&SnapshotInfo::of(&record)),
                None => ControlFlow::Continue(()),
            }
        })?;
        Ok(())
    }

    /// Reads all sealed segments past the page cache, and checks every checksum, the indexes against the snapshots, both
    /// ways, and whether the log has the events that they reflect. Changes nothing. `progress` is told how many bytes were read so
    /// far. Needs memory for one segment at a time.
    ///
    /// # Errors
    /// [`SnapshotError::File`], where the operating system reports an error. Damage is no error here, but what the
    /// [`SnapshotVerification`] lists.
    pub fn verify(&self, progress: impl FnMut(u64)) -> Result<SnapshotVerification, SnapshotError> {
        SnapshotVerification::run(&self.0, progress)
    }

    /// Removes garbage now, on the calling thread, without a rest: all but what costs sixteen times as much to move what is
    /// beside it.
    ///
    /// # Errors
    /// [`SnapshotError::File`]; [`SnapshotError::ReadOnly`], also where the store is closed meanwhile.
    pub fn compact(&self) -> Result<SnapshotCompaction, SnapshotError> {
        let _open = self.0.change()?;
        if let Err(NotWritten::File(error)) = self.0.segments.seal() {
            return Err(error.into());
        }
        let mut all = SnapshotCompaction::default();
        loop {
            let go_on = |_| {
                if self.0.is_closing() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            match self.0.segments.compact(Slack::None, &mut { go_on }) {
                Ok(Some(compacted)) => {
                    all.moved_bytes += compacted.moved_bytes;
                    all.freed_bytes += compacted.freed_bytes;
                }
                Ok(None) => return Ok(all),
                Err(NotCompacted::Ended) if self.0.is_closing() => {
                    return Err(SnapshotError::ReadOnly);
                }
                // All of them were removed in between.
                Err(NotCompacted::Ended) => {}
                Err(NotCompacted::File(error)) => return Err(error.into()),
            }
        }
    }

    /// Has none of a stream's snapshots be used that there are now, of whatever state, and says of how many states there
    /// were some, dropped before or not. Durable when it returns. Reads all snapshots, to find of which states there are any.
    ///
    /// # Errors
    /// [`SnapshotError`], [`SnapshotError::ReadOnly`] also where the store is closed meanwhile; then those of some states may be
    /// there still.
    pub fn drop_stream(&self, stream: &str) -> Result<u64, SnapshotError> {
        let _open = self.0.change()?;
        check_stream(stream)?;
        // By their hashes, of which each is that of the stream with one state.
        let mut states = BTreeSet::new();
        // Of any: an older one is used where those that are kept are damaged.
        self.0.segments.account(|whence, entry, _| {
            if let Some(record) = whence.record(entry)
                && record.key().kind == KEY_STREAM
                && record.key().key == stream.as_bytes()
            {
                states.insert(entry.hash);
            }
            if self.0.is_closing() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if self.0.is_closing() {
            return Err(SnapshotError::ReadOnly);
        }
        for hash in &states {
            self.0.segments.drop_key(*hash)?;
        }
        Ok(states.len() as u64)
    }

    /// Removes all snapshots, and what is of no use in the place of such. Durable when it returns; a crash before leaves all of
    /// them or none.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn drop_all(&self) -> Result<(), SnapshotError> {
        let _open = self.0.change()?;
        Ok(self.0.segments.drop_all()?)
    }
}
