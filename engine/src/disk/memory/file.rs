//! One file of a `MemoryDisk`: owns what an operation on it does, with the fault that it meets.
//!
//! It calls the disk's state. Only `MemoryDisk` makes one.

use std::any::Any;
use std::io::{self, IoSlice};
use std::sync::Arc;

use super::faults::{Fault, FaultError, OpKind};
use super::image::Inode;
use super::trace::{Action, Change, Kept, Sectors, mix};
use super::{MemoryDisk, State};
use crate::disk::{DiskFile, Mapping, check};
use crate::limits::SECTOR_BYTES;

#[derive(Debug)]
pub(super) struct MemoryFile {
    pub(super) disk: MemoryDisk,
    pub(super) inode: Inode,
    /// The name under which it was opened.
    pub(super) name: String,
    pub(super) writable: bool,
    /// Whose its lock is.
    pub(super) owner: u64,
}

/// A change of a file that is under way, as the fault that it met has made it.
#[derive(Debug)]
pub(super) struct Begun {
    change: Option<Change>,
    /// How many bytes are reported as done, when it ends.
    result: Result<usize, FaultError>,
    /// The space that it will take, in bytes, which is reserved for it.
    growth: u64,
    /// Its place in the record.
    op: Option<(u64, usize)>,
}

impl Begun {
    /// What changes nothing and is recorded nowhere.
    pub(super) fn nothing() -> Self {
        Self { change: None, result: Ok(0), growth: 0, op: None }
    }
}

impl MemoryFile {
    /// The file of this backend.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for one of another.
    pub(super) fn of(file: &dyn DiskFile) -> io::Result<&Self> {
        let file: &dyn Any = file;
        file.downcast_ref().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "not a file of a disk in memory")
        })
    }

    /// Carries out a change of the file; gives how many of its `bytes` bytes are reported as done.
    fn change(&self, kind: OpKind, asked: Change, bytes: usize) -> io::Result<usize> {
        let mut state = self.disk.state();
        let begun = self.begin(&mut state, kind, asked, bytes)?;
        let mut state = self.disk.overlap(state);
        self.end(&mut state, begun)
    }

    /// Begins a change, which has to be ended.
    pub(super) fn begin(
        &self,
        state: &mut State,
        kind: OpKind,
        asked: Change,
        bytes: usize,
    ) -> io::Result<Begun> {
        let fault = state.fault(kind, &self.name, bytes)?;
        let (mut change, mut result) = meet(fault, asked, bytes);
        let mut growth = match &change {
            Some(change) => state.content(self.inode)?.growth(change),
            None => 0,
        };
        let taken = state.image.used().saturating_add(state.reserved);
        if growth > 0 && taken.saturating_add(growth) > state.capacity {
            (change, result, growth) = (None, Err(FaultError::NoSpace), 0);
        }
        state.reserved += growth;
        let action = change.clone().map_or(Action::Nothing, |change| {
            let durable = kind == OpKind::WriteDurable;
            Action::File { inode: self.inode, change, durable }
        });
        let op = state.begin(kind, &self.name, action);
        Ok(Begun { change, result, growth, op })
    }

    /// Ends a change: it takes effect now, unless the device has died meanwhile.
    pub(super) fn end(&self, state: &mut State, begun: Begun) -> io::Result<usize> {
        let Begun { change, mut result, growth, op } = begun;
        state.reserved -= growth;
        if state.dead {
            result = Err(FaultError::Io);
        } else if let Some(change) = change {
            state.image.file_mut(self.inode).apply(&change, Kept::All);
        }
        state.end(op, result.is_ok());
        Ok(result?)
    }

    pub(super) fn writable(&self) -> io::Result<()> {
        check::writable(self.writable)
    }

    fn write(&self, kind: OpKind, data: Arc<[u8]>, offset: u64) -> io::Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let bytes = data.len();
        self.change(kind, Change::Write { offset, data, mask: None }, bytes)
    }
}

/// What becomes of a change that meets a fault, and what is reported.
fn meet(
    fault: Option<Fault>,
    asked: Change,
    bytes: usize,
) -> (Option<Change>, Result<usize, FaultError>) {
    match (fault, asked) {
        (Some(Fault::Lose), _) => (None, Ok(bytes)),
        (Some(Fault::FailTorn { error, seed }), Change::Write { offset, data, .. }) => {
            let mask = Some(Sectors::Seeded(seed));
            (Some(Change::Write { offset, data, mask }), Err(error))
        }
        (Some(Fault::FailTorn { error, seed }), Change::Zero { offset, bytes }) => {
            let sectors = mix(seed) % (bytes / SECTOR_BYTES as u64).max(1);
            (Some(Change::Zero { offset, bytes: sectors * SECTOR_BYTES as u64 }), Err(error))
        }
        (Some(Fault::Short(short)), Change::Write { offset, data, .. }) if short < bytes => {
            (Some(Change::Write { offset, data: data[..short].into(), mask: None }), Ok(short))
        }
        (Some(Fault::Misdirect(offset)), Change::Write { data, .. }) => {
            (Some(Change::Write { offset, data, mask: None }), Ok(bytes))
        }
        (None | Some(Fault::Short(_) | Fault::Misdirect(_)), asked) => (Some(asked), Ok(bytes)),
        (Some(Fault::Fail(error) | Fault::FailTorn { error, .. }), _) => (None, Err(error)),
        (Some(Fault::Die), _) => (None, Err(FaultError::Io)),
    }
}

impl DiskFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.fail(OpKind::Len, &self.name)?;
        Ok(state.content(self.inode)?.len())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        check::length(bytes)?;
        self.writable()?;
        self.change(OpKind::Allocate, Change::Allocate { bytes }, 0)?;
        Ok(())
    }

    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        check::range(offset, bytes)?;
        self.writable()?;
        if bytes > 0 {
            self.change(OpKind::Zero, Change::Zero { offset, bytes }, 0)?;
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        check::buffer(buf, offset)?;
        self.writable()?;
        self.write(OpKind::Write, buf.into(), offset)
    }

    fn write_durable_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let total = check::buffers(bufs, offset)?;
        self.writable()?;
        let mut data = Vec::with_capacity(total);
        for buf in bufs {
            data.extend_from_slice(buf);
        }
        self.write(OpKind::WriteDurable, data.into(), offset)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        check::buffer(buf, offset)?;
        let mut state = self.disk.state();
        let fault = state.fault(OpKind::Read, &self.name, buf.len())?;
        let content = state.content(self.inode)?;
        match fault {
            Some(Fault::Fail(error) | Fault::FailTorn { error, .. }) => Err(error.into()),
            Some(Fault::Lose) => Ok(content.read(&mut vec![0; buf.len()], offset)),
            Some(Fault::Short(bytes)) => {
                let bytes = bytes.min(buf.len());
                Ok(content.read(&mut buf[..bytes], offset))
            }
            Some(Fault::Misdirect(other)) => Ok(content.read(buf, other)),
            None | Some(Fault::Die) => Ok(content.read(buf, offset)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync_as(OpKind::Sync, &self.name, Action::Sync { inode: self.inode })
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        check::length(bytes)?;
        self.writable()?;
        self.change(OpKind::Truncate, Change::Truncate { bytes }, 0)?;
        Ok(())
    }

    fn map(&self) -> io::Result<Mapping> {
        let mut state = self.disk.state();
        state.fail(OpKind::Map, &self.name)?;
        Mapping::of_copy(&state.content(self.inode)?.to_vec())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.fail(OpKind::Lock, &self.name)?;
        Ok(state.lock(self.inode, self.owner))
    }

    fn unlock(&self) {
        self.disk.state().unlock(self.inode, self.owner);
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        state.unlock(self.inode, self.owner);
        state.close(self.inode);
    }
}
