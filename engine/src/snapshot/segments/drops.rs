//! Which snapshots are not to be used, though they may be there.
//!
//! Owns the one file whose loss could do more than cost time: a snapshot that was dropped since it is wrong must not come
//! back. So it is apart from the snapshots, whole in memory, and replaced whole: written, made durable, renamed, and its name
//! made durable. Where it is damaged everything is dropped that it could have been about. A drop is a sequence up to which
//! the snapshots of a key, or of all, are not used: it needs not be known where they are, or whether they can be read.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::disk::{Access, AlignedBuf, Disk, read_full_at};
use crate::error::FileError;
use crate::format::checksum::StoreId;
use crate::format::snapshot_drops::StoredDrops;
use crate::limits::SNAPSHOT_DROPS_MAX;
use crate::log::{names, write_index_file};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Drops(ArcSwap<Dropped>);

#[derive(Debug, Clone, Default)]
pub(super) struct Dropped {
    /// Up to this sequence, those of any key; 0 for none.
    pub all: u64,
    /// And those of keys with this hash.
    pub keys: HashMap<u64, u64>,
}

impl Dropped {
    /// The sequence up to which snapshots of a hash are not used; 0 for none.
    pub(super) fn upto(&self, hash: u64) -> u64 {
        self.all.max(self.keys.get(&hash).copied().unwrap_or(0))
    }

    /// The greatest sequence that anything is dropped up to.
    pub(super) fn last(&self) -> u64 {
        self.keys.values().copied().fold(self.all, u64::max)
    }

    fn stored(&self) -> StoredDrops {
        let mut keys: Vec<_> = self.keys.iter().map(|(hash, upto)| (*hash, *upto)).collect();
        keys.sort_unstable();
        StoredDrops { all: self.all, keys }
    }
}

impl Drops {
    /// Reads the file; `upto` is the greatest sequence that there can be. Where it is damaged, or cannot be read, all are
    /// dropped: that is said as well.
    pub(super) fn read(disk: &dyn Disk, store: StoreId, upto: u64) -> (Self, Option<FileError>) {
        let (dropped, error) = match Self::stored(disk, store) {
            Ok(StoredDrops { all, keys }) => {
                (Dropped { all, keys: keys.into_iter().collect() }, None)
            }
            Err(error) => (Dropped { all: upto, keys: HashMap::new() }, Some(error)),
        };
        (Self(ArcSwap::from_pointee(dropped)), error)
    }

    fn stored(disk: &dyn Disk, store: StoreId) -> Result<StoredDrops, FileError> {
        /// More is no such file.
        const BYTES_MAX: u64 = 2 << 20;
        const NAME: &str = names::SNAPSHOT_DROPS;
        let file = match disk.open(NAME, Access::Read).map_err(FileError::at("opening", NAME)) {
            Err(error) if error.is_not_found() => return Ok(StoredDrops::default()),
            other => other?,
        };
        let failed = |error| FileError::new("reading", NAME, error);
        let bytes = file.len().map_err(failed)?.min(BYTES_MAX);
        let bytes = usize::try_from(bytes).unwrap_or(0);
        let mut buffer = AlignedBuf::zeroed(bytes).map_err(failed)?;
        let read = read_full_at(&*file, &mut buffer, 0).map_err(failed)?;
        let stored = StoredDrops::parse(store, &buffer[..read]);
        stored.map_err(|error| failed(io::Error::other(error)))
    }

    pub(super) fn load(&self) -> Arc<Dropped> {
        self.0.load_full()
    }

    /// See [`Dropped::upto`].
    pub(super) fn upto(&self, hash: u64) -> u64 {
        self.0.load().upto(hash)
    }

    /// Drops those of a hash. From now on; [`Drops::write`] makes it durable. With too many, all are dropped.
    pub(super) fn add(&self, hash: u64, upto: u64) {
        let mut next = Dropped::clone(&self.0.load());
        if next.keys.len() >= SNAPSHOT_DROPS_MAX && !next.keys.contains_key(&hash) {
            tracing::warn!("so many snapshots were dropped that all are");
            next = Dropped { all: upto, keys: HashMap::new() };
        } else {
            next.keys.insert(hash, upto);
        }
        self.0.store(Arc::new(next));
    }

    /// Drops all.
    pub(super) fn add_all(&self, upto: u64) {
        self.0.store(Arc::new(Dropped { all: upto, keys: HashMap::new() }));
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// [`FileError`]; then what was dropped may be there again at the next opening.
    pub(super) fn write(&self, disk: &dyn Disk, store: StoreId) -> Result<(), FileError> {
        const NAME: &str = names::SNAPSHOT_DROPS;
        let bytes = self.0.load().stored().write(store);
        let written = write_index_file(disk, &bytes, NAME).and_then(|()| disk.sync_dir());
        written.map_err(FileError::at("writing", NAME))
    }
}
