//! A disk that notes when its last durable write ended: right before what was written is published.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use stratalog::disk::{Access, DirEntry, Disk, DiskFile, DiskLock, Mapping, PwriteDisk};

use crate::latency::Clock;

/// See the module. It has no queue of writes: one is made after the other.
#[derive(Debug)]
pub struct StampedDisk {
    disk: PwriteDisk,
    clock: Clock,
    written: Arc<AtomicI64>,
}

#[derive(Debug)]
struct StampedFile {
    file: Arc<dyn DiskFile>,
    clock: Clock,
    written: Arc<AtomicI64>,
}

impl StampedDisk {
    pub fn new(disk: PwriteDisk, clock: Clock) -> Self {
        Self { disk, clock, written: Arc::default() }
    }

    /// When the last durable write ended.
    pub fn written(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.written)
    }

    fn stamped(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let written = Arc::clone(&self.written);
        Arc::new(StampedFile { file, clock: self.clock, written })
    }
}

impl Disk for StampedDisk {
    fn describe(&self) -> String {
        self.disk.describe()
    }

    fn list(&self) -> io::Result<Vec<DirEntry>> {
        self.disk.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.stamped(self.disk.create(name)?))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.stamped(self.disk.open(name, access)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.disk.unlink(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.disk.try_lock(name)
    }
}

impl DiskFile for StampedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.file.allocate(bytes)
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.file.zero(offset, bytes)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn write_durable_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let written = self.file.write_durable_at(bufs, offset);
        self.written.store(self.clock.now(), Ordering::Release);
        written
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes)
    }

    fn map(&self) -> io::Result<Mapping> {
        self.file.map()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }

    fn unlock(&self) {
        self.file.unlock();
    }
}
