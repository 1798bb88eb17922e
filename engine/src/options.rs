//! Every setting of a store: unit, default, bounds; checked once, when it is opened.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, PwriteDisk, WriteMode};
use crate::error::OpenError;
use crate::event::Position;
use crate::limits::{
    BLOCK, INDEX_BYTES_DEFAULT, INDEX_BYTES_MIN, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_FIRST,
    SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};
use crate::snapshot::SnapshotOptions;
use crate::store::Store;
use crate::typed::{EventSet, Registered};

/// How to open a store.
///
/// ```no_run
/// let store = stratalog::Store::options().segment_bytes(1 << 20).open("data/events")?;
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    segment_bytes: u64,
    index_bytes: u64,
    write_mode: Option<WriteMode>,
    strict_blocks: bool,
    salvage: bool,
    give_up_from: Option<u64>,
    id_lookback: Option<Duration>,
    registered: Registered,
    snapshots: SnapshotOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            index_bytes: INDEX_BYTES_DEFAULT,
            write_mode: None,
            strict_blocks: false,
            salvage: false,
            give_up_from: None,
            id_lookback: None,
            registered: Registered::default(),
            snapshots: SnapshotOptions::default(),
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How large a segment file grows, in bytes: a multiple of 4,096 from [`SEGMENT_BYTES_MIN`] to
    /// [`SEGMENT_BYTES_MAX`]; default [`SEGMENT_BYTES_DEFAULT`]. It also bounds an append, see
    /// [`append_bytes_max`](crate::limits::append_bytes_max). May differ between openings.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// How much memory indexes may take, in bytes: those of the segments that are not sealed yet, the versions
    /// of streams that were used lately, and indexes that are built again; at least [`INDEX_BYTES_MIN`],
    /// default [`INDEX_BYTES_DEFAULT`]. It holds however many streams and tags there are: a segment whose
    /// index would take more than its share is followed by the next one before it is full. Mapped files are
    /// the page cache's, and not counted. May differ between openings.
    #[must_use]
    pub fn index_bytes(mut self, bytes: u64) -> Self {
        self.index_bytes = bytes;
        self
    }

    /// Forces the way in which files are written. Default: past the page cache where the file system can,
    /// and with several writes in flight ([`WriteMode::Uring`]) where the kernel lets it and a short trial,
    /// made when the store is opened for writing, finds that to be faster. Where a forced mode cannot be
    /// had, [`Options::open`] fails with [`OpenError::Directory`], whose cause is of the kind
    /// [`Unsupported`](std::io::ErrorKind::Unsupported).
    #[must_use]
    pub fn write_mode(mut self, mode: WriteMode) -> Self {
        self.write_mode = Some(mode);
        self
    }

    /// Never rewrites a block that holds acknowledged bytes, for disks on which an interrupted write may
    /// damage what it does not change, or leave half a sector. Each batch then takes whole blocks of
    /// 4 KiB. Default: false, which relies on sectors of 512 bytes being written whole or not at all.
    /// May differ between openings.
    #[must_use]
    pub fn strict_blocks(mut self, strict: bool) -> Self {
        self.strict_blocks = strict;
        self
    }

    /// Shows what is before the damage, where the end of the log is damaged and an opening would be
    /// refused; [`Store::opened_as`] says [`Case::Salvaged`](crate::Case::Salvaged) then. For openings for
    /// reading only. Default: false.
    #[must_use]
    pub fn salvage(mut self, salvage: bool) -> Self {
        self.salvage = salvage;
        self
    }

    /// Gives up every event from this position on, where the end of the log is damaged and the damage
    /// begins just there, as [`Refusal::first_lost`](crate::Refusal::first_lost) says: the log ends before
    /// it from now on, and its bytes are kept aside. Any other damage is refused as ever, and a sound
    /// store is opened as ever. For openings for writing, with a copy of the directory at hand.
    /// Default: nothing is given up.
    #[must_use]
    pub fn give_up_from(mut self, position: impl Into<Position>) -> Self {
        self.give_up_from = Some(position.into().get());
        self
    }

    /// How far back an event id that a caller has [chosen](crate::NewEvent::id) is looked for, to recognise repeated
    /// appends, where the id does not say when it was made: one that was recorded earlier is appended again. Default:
    /// no bound. An id that is a UUID of version 7 does say it, and is only looked for where it can be, whatever this
    /// is. May differ between openings.
    #[must_use]
    pub fn id_lookback(mut self, time: Duration) -> Self {
        self.id_lookback = Some(time);
        self
    }

    /// How snapshots of folded states are kept. Default: as [`SnapshotOptions::default`] says.
    #[must_use]
    pub fn snapshots(mut self, snapshots: SnapshotOptions) -> Self {
        self.snapshots = snapshots;
        self
    }

    /// Registers a set of events: opening then checks that whatever is stored under their names can be read by the set, each
    /// version with its layout, and fails with [`OpenError::Events`] where it cannot. Other names are nobody's. Any number
    /// of sets; default none. What is appended later is checked when it is read.
    ///
    /// ```
    /// # use stratalog::rkyv::{Archive, Deserialize, Serialize};
    /// # use stratalog::{Event, EventSet, Expect, OpenError, Store, disk::MemoryDisk};
    /// # use std::sync::Arc;
    /// # mod old {
    /// #     use stratalog::Event;
    /// #     use stratalog::rkyv::{Archive, Deserialize, Serialize};
    /// #     #[derive(Event, Archive, Serialize, Deserialize)]
    /// #     #[rkyv(crate = stratalog::rkyv)]
    /// #     #[event(name = "opened", version = 1)]
    /// #     pub struct Opened { pub title: String }
    /// # }
    /// #[derive(Event, Archive, Serialize, Deserialize)]
    /// #[rkyv(crate = stratalog::rkyv)]
    /// #[event(name = "opened", version = 1)]
    /// struct Opened {
    ///     title: String,
    ///     priority: u8, // added without a new version
    /// }
    ///
    /// #[derive(EventSet)]
    /// enum Ticket { Opened(Opened) }
    ///
    /// # let disk = Arc::new(MemoryDisk::new());
    /// # let store = Store::options().open_on(disk.clone())?;
    /// # store.append("t", Expect::Any, [old::Opened { title: "a".into() }]).wait()?;
    /// # store.close()?;
    /// let opened = Store::options().events::<Ticket>().open_on(disk);
    /// assert!(matches!(opened, Err(OpenError::Events { version: 1, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn events<S: EventSet>(mut self) -> Self {
        self.registered.add::<S>();
        self
    }

    /// Opens the store in a directory for reading and writing, creating both where there is none, and
    /// recovering what a crash left.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, directory: impl AsRef<Path>) -> Result<Store, OpenError> {
        self.check()?;
        let path = directory.as_ref();
        let disk = match self.write_mode {
            Some(mode) => PwriteDisk::options().mode(mode).open(path),
            None => PwriteDisk::open(path),
        };
        let disk = disk.map_err(|cause| directory_error(path, cause))?;
        self.open_on(Arc::new(disk)).map_err(|error| match error {
            OpenError::Locked { .. } => OpenError::Locked { directory: path.display().to_string() },
            other => other,
        })
    }

    /// Opens the store in a directory for reading only, also beside another process that writes to it.
    /// Shows what is durable at this moment; repairs and changes nothing.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::NotFound`] where there is no store.
    pub fn open_read_only(&self, directory: impl AsRef<Path>) -> Result<Store, OpenError> {
        let path = directory.as_ref();
        let disk = PwriteDisk::open_read_only(path).map_err(|source| {
            if source.kind() == std::io::ErrorKind::NotFound {
                return OpenError::NotFound { directory: path.display().to_string() };
            }
            directory_error(path, source)
        })?;
        self.open_read_only_on(Arc::new(disk)).map_err(|error| match error {
            OpenError::NotFound { .. } => {
                OpenError::NotFound { directory: path.display().to_string() }
            }
            other => other,
        })
    }

    /// As [`Options::open`], on a disk of the caller's: a
    /// [`MemoryDisk`](crate::disk::MemoryDisk) makes a store without files.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_on(&self, disk: Arc<dyn Disk>) -> Result<Store, OpenError> {
        self.check()?;
        Store::open_writer(disk, self)
    }

    /// As [`Options::open_read_only`], on a disk of the caller's.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_read_only_on(&self, disk: Arc<dyn Disk>) -> Result<Store, OpenError> {
        self.check()?;
        Store::open_reader(disk, self)
    }

    fn check(&self) -> Result<(), OpenError> {
        let bytes = self.segment_bytes;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) || !bytes.is_multiple_of(BLOCK)
        {
            return Err(OpenError::SegmentBytes { bytes });
        }
        if self.index_bytes < INDEX_BYTES_MIN {
            return Err(OpenError::IndexBytes { bytes: self.index_bytes });
        }
        self.snapshots.check()
    }

    pub(crate) fn registered(&self) -> &Registered {
        &self.registered
    }

    pub(crate) fn snapshot_options(&self) -> SnapshotOptions {
        self.snapshots
    }

    pub(crate) fn id_lookback_max(&self) -> Option<Duration> {
        self.id_lookback
    }

    pub(crate) fn salvages(&self) -> bool {
        self.salvage
    }

    pub(crate) fn given_up_from(&self) -> Option<u64> {
        self.give_up_from
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.strict_blocks
    }

    pub(crate) fn index_bytes_max(&self) -> u64 {
        self.index_bytes
    }

    pub(crate) fn segment_bytes_max(&self) -> u64 {
        self.segment_bytes
    }

    /// The length of the next segment's file, where the ones before have `bytes_before` together and
    /// one append may need `bytes_needed`.
    pub(crate) fn next_segment_bytes(&self, bytes_before: u64, bytes_needed: u64) -> u64 {
        let doubled = (bytes_before + 1).next_power_of_two().max(SEGMENT_BYTES_FIRST);
        doubled.max(bytes_needed.next_power_of_two()).min(self.segment_bytes)
    }
}

fn directory_error(path: &Path, cause: std::io::Error) -> OpenError {
    OpenError::Directory { path: path.into(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_begin_small_and_double() {
        let options = Options::new().segment_bytes(8 << 20);
        let mut before = 0;
        let mut sizes = Vec::new();
        for _ in 0..6 {
            let bytes = options.next_segment_bytes(before, 0);
            sizes.push(bytes >> 20);
            before += bytes;
        }
        assert_eq!(sizes, [1, 2, 4, 8, 8, 8]);
        assert_eq!(options.next_segment_bytes(0, 2_500_000) >> 20, 4);
    }

    #[test]
    fn sizes_out_of_bounds_are_refused() {
        for bytes in [0, SEGMENT_BYTES_MIN - 1, SEGMENT_BYTES_MAX + BLOCK, (1 << 20) + 1] {
            let refused = Options::new().segment_bytes(bytes).check();
            assert!(matches!(refused, Err(OpenError::SegmentBytes { .. })), "{bytes}");
        }
        let refused = Options::new().index_bytes(INDEX_BYTES_MIN - 1).check();
        assert!(matches!(refused, Err(OpenError::IndexBytes { .. })));
    }
}
