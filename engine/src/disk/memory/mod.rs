//! A deterministic disk in memory: owns [`MemoryDisk`].
//!
//! It calls `image` for what it holds, `faults` for how it fails, and records into `trace`, from which
//! `explore` builds what a crash may leave. Tests call it; the engine knows it as a `Disk` only.

mod explore;
mod faults;
mod file;
mod image;
mod queue;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::explore::{CrashState, Exploration};
pub use self::faults::{Fault, FaultError, FaultPlan, OpKind};
pub use self::trace::{CrashPoint, Trace};

use self::file::MemoryFile;
use self::image::{Content, Image, Inode};
use self::queue::MemoryQueue;
use self::trace::{Action, DirChange, Event, Op, Recording, mix};
use super::{Access, DirEntry, Disk, DiskFile, DiskLock, WriteQueue, check};

/// A disk in memory: sparse, so that zeroes cost nothing; recording, so that every crash can be tried;
/// failing as it is told. Clones are the same disk; [`MemoryDisk::fork`] makes another.
///
/// ```
/// use stratalog::disk::{AlignedBuf, Disk, MemoryDisk, write_all_durable_at};
///
/// let disk = MemoryDisk::new();
/// let file = disk.create("log")?;
/// write_all_durable_at(file.as_ref(), &[&AlignedBuf::zeroed(4096)?], 1 << 40)?;
/// assert_eq!(file.len()?, (1 << 40) + 4096);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// What readers see.
    image: Image,
    next_inode: Inode,
    /// How many handles are open on a file; absent is 0. A file without a name lives as long as them.
    handles: BTreeMap<Inode, usize>,
    /// The owner of each lock that is held.
    locks: BTreeMap<Inode, u64>,
    next_owner: u64,
    recording: Option<Recording>,
    /// Which recording it is, so that an operation that began in another one does not end in it.
    generation: u64,
    faults: FaultPlan,
    /// The seed of the queues that it offers, if it does.
    queue: Option<u64>,
    /// The most writes that were in flight at once in one of them.
    queued_most: usize,
    /// In bytes.
    capacity: u64,
    /// What changes under way will take of it.
    reserved: u64,
    dead: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            image: Image::default(),
            next_inode: 1,
            handles: BTreeMap::new(),
            locks: BTreeMap::new(),
            next_owner: 1,
            recording: None,
            generation: 0,
            faults: FaultPlan::new(),
            queue: None,
            queued_most: 0,
            capacity: u64::MAX,
            reserved: 0,
            dead: false,
        }
    }
}

impl MemoryDisk {
    /// An empty disk without faults, of unlimited capacity, that records nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`MemoryDisk::new`], with faults.
    pub fn with_faults(plan: FaultPlan) -> Self {
        let disk = Self::new();
        disk.set_faults(plan);
        disk
    }

    /// As [`MemoryDisk::new`], and it offers queues of durable writes ([`Disk::write_queue`]). The seed
    /// decides in which order the writes of a queue end.
    ///
    /// ```
    /// use stratalog::disk::{AlignedBuf, Disk, MemoryDisk, QueuedWrite};
    ///
    /// let disk = MemoryDisk::with_queue(7);
    /// let file = disk.create("log")?;
    /// let mut queue = disk.write_queue(4)?.expect("this disk has one");
    /// for tag in 0..4 {
    ///     let parts = Box::new(AlignedBuf::zeroed(4096)?);
    ///     queue.submit(QueuedWrite { file: file.clone(), offset: tag * 4096, parts, tag })?;
    /// }
    /// while queue.in_flight() > 0 {
    ///     if let Some(ended) = queue.wait()? {
    ///         ended.result?;
    ///     }
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn with_queue(seed: u64) -> Self {
        let disk = Self::new();
        disk.set_queue(Some(seed));
        disk
    }

    /// Offers queues of this seed from now on, as [`MemoryDisk::with_queue`], or none. Default: none.
    pub fn set_queue(&self, seed: Option<u64>) {
        self.state().queue = seed;
    }

    /// The most writes that were ever in flight at once in one of its queues; 0 where none was used.
    pub fn queued_most(&self) -> usize {
        self.state().queued_most
    }

    fn of_image(image: Image) -> Self {
        let next_inode = image.files.keys().next_back().map_or(1, |last| last + 1);
        let state = State { image, next_inode, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another disk with the same files, as readers see them now: independent, nothing locked, without
    /// faults and queues, of unlimited capacity, and recording nothing.
    #[must_use]
    pub fn fork(&self) -> Self {
        let mut image = self.state().image.clone();
        image.prune();
        Self::of_image(image)
    }

    /// Begins to record, and forgets what was recorded. What is on the disk now counts as durable. To be
    /// called while no operation is under way: one that is, is not recorded.
    pub fn start_recording(&self) {
        let mut state = self.state();
        let base = state.image.clone();
        state.recording = Some(Recording { base, ..Recording::default() });
        state.generation += 1;
    }

    /// What was recorded so far; nothing where recording was never started.
    pub fn trace(&self) -> Trace {
        Trace(Arc::new(self.state().recording.clone().unwrap_or_default()))
    }

    /// Sets a mark between the operations that have ended and those that begin after it, for instance
    /// for an acknowledgement. Nothing happens where nothing is recorded.
    pub fn mark(&self, mark: u64) {
        if let Some(recording) = &mut self.state().recording {
            recording.events.push(Event::Mark(mark));
        }
    }

    /// Replaces the plan of faults, for the operations that begin from now on.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.state().faults = plan;
    }

    /// Limits the space that all files with names may take, in bytes (default: [`u64::MAX`]), counted in
    /// blocks that were allocated, zeroed or written. What is beyond it already stays.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// The space that all files with names take, in bytes.
    pub fn used(&self) -> u64 {
        self.state().image.used()
    }

    /// Makes every operation fail with `EIO` from now on, as a device does that is gone; or ends that.
    pub fn set_dead(&self, dead: bool) {
        self.state().dead = dead;
    }

    /// The names of all files, in order.
    pub fn file_names(&self) -> Vec<String> {
        self.state().image.names.keys().cloned().collect()
    }

    /// All bytes of a file, past the faults and the record.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn read_file(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        let content = state.image.names.get(name).and_then(|inode| state.image.file(*inode));
        content.unwrap_or_else(|| panic!("no file {name} on the memory disk")).to_vec()
    }

    /// Replaces all bytes of a file, or creates it, past the faults and the capacity.
    ///
    /// # Panics
    /// While recording: damage is not part of a trace. Do it before, or to the disk of a crash state.
    pub fn write_file(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        assert!(state.recording.is_none(), "damage is not recorded");
        let inode = state.image.names.get(name).copied().unwrap_or_else(|| state.new_inode());
        state.image.names.insert(name.to_owned(), inode);
        let content = state.image.file_mut(inode);
        content.truncate(0);
        content.write(bytes, 0);
    }

    /// Inverts one bit (0 to 7) of the byte at `offset` of a file.
    ///
    /// # Panics
    /// Where there is no such byte, and while recording.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) {
        let mut state = self.state();
        assert!(state.recording.is_none(), "damage is not recorded");
        assert!(bit < 8, "a byte has eight bits");
        let inode = state.image.names.get(name).copied();
        let inode = inode.unwrap_or_else(|| panic!("no file {name} on the memory disk"));
        let content = state.image.file_mut(inode);
        let mut byte = [0];
        assert_eq!(content.read(&mut byte, offset), 1, "{name} has no byte {offset}");
        content.write(&[byte[0] ^ (1 << bit)], offset);
    }

    fn handle(
        &self,
        state: &mut State,
        inode: Inode,
        name: &str,
        writable: bool,
    ) -> Arc<dyn DiskFile> {
        let owner = state.new_owner();
        Arc::new(MemoryFile { disk: self.clone(), inode, name: name.to_owned(), writable, owner })
    }
}

impl State {
    fn new_inode(&mut self) -> Inode {
        self.next_inode += 1;
        self.image.file_mut(self.next_inode - 1);
        self.next_inode - 1
    }

    fn new_owner(&mut self) -> u64 {
        self.next_owner += 1;
        self.next_owner - 1
    }

    fn find(&self, name: &str) -> io::Result<Inode> {
        self.image.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn content(&self, inode: Inode) -> io::Result<&Content> {
        self.image.file(inode).ok_or_else(|| io::Error::other("the file of an open handle is gone"))
    }

    /// The fault that the next operation has, if any.
    fn fault(&mut self, kind: OpKind, name: &str, bytes: usize) -> io::Result<Option<Fault>> {
        if self.dead {
            return Err(FaultError::Io.into());
        }
        match self.faults.next(kind, name, bytes) {
            Some(Fault::Die) => {
                self.dead = true;
                Err(FaultError::Io.into())
            }
            fault => Ok(fault),
        }
    }

    /// For operations that only fail or do not.
    fn fail(&mut self, kind: OpKind, name: &str) -> io::Result<()> {
        match self.fault(kind, name, 0)? {
            Some(Fault::Fail(error) | Fault::FailTorn { error, .. }) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, kind: OpKind, name: &str, action: Action) -> Option<(u64, usize)> {
        let op = Op { kind, name: name.to_owned(), action };
        let recording = self.recording.as_mut()?;
        Some((self.generation, recording.begin(op)))
    }

    fn end(&mut self, begun: Option<(u64, usize)>, well: bool) {
        if let Some((generation, op)) = begun
            && generation == self.generation
            && let Some(recording) = &mut self.recording
        {
            recording.events.push(Event::End { op, well });
        }
    }

    /// Carries out a change of the directory.
    fn change_dir(&mut self, kind: OpKind, name: &str, change: DirChange) -> io::Result<()> {
        let (done, result) = match self.fault(kind, name, 0)? {
            Some(Fault::Fail(error)) => (false, Err(error)),
            Some(Fault::FailTorn { error, seed }) => (mix(seed).is_multiple_of(2), Err(error)),
            Some(Fault::Lose) => (false, Ok(())),
            _ => (true, Ok(())),
        };
        let nameless = match &change {
            DirChange::Create { .. } => None,
            DirChange::Rename { to, .. } => self.image.names.get(to).copied(),
            DirChange::Unlink { inode, .. } => Some(*inode),
        };
        if done {
            change.apply(&mut self.image.names, false);
        }
        if let Some(inode) = nameless {
            self.forget(inode);
        }
        let action = if done { Action::Directory(change) } else { Action::Nothing };
        let begun = self.begin(kind, name, action);
        self.end(begun, result.is_ok());
        Ok(result?)
    }

    /// Creates a file that counts as opened once: where the create is lost, the handle is all that is
    /// left of it.
    fn create(&mut self, name: &str) -> io::Result<Inode> {
        let inode = self.new_inode();
        self.opened(inode);
        let change = DirChange::Create { name: name.to_owned(), inode };
        let created = self.change_dir(OpKind::Create, name, change);
        if created.is_err() {
            self.close(inode);
        }
        created.map(|()| inode)
    }

    fn opened(&mut self, inode: Inode) {
        *self.handles.entry(inode).or_default() += 1;
    }

    fn close(&mut self, inode: Inode) {
        if let Some(handles) = self.handles.get_mut(&inode) {
            *handles -= 1;
            if *handles == 0 {
                self.handles.remove(&inode);
            }
        }
        self.forget(inode);
    }

    /// Drops a file that has neither a name nor a handle any more.
    fn forget(&mut self, inode: Inode) {
        if !self.handles.contains_key(&inode) && !self.image.names(inode) {
            self.image.files.remove(&inode);
        }
    }

    /// Takes a lock for `owner`; true where it has it, then or already.
    fn lock(&mut self, inode: Inode, owner: u64) -> bool {
        *self.locks.entry(inode).or_insert(owner) == owner
    }

    fn unlock(&mut self, inode: Inode, owner: u64) {
        if self.locks.get(&inode) == Some(&owner) {
            self.locks.remove(&inode);
        }
    }
}

impl Disk for MemoryDisk {
    fn describe(&self) -> String {
        "memory".to_owned()
    }

    fn list(&self) -> io::Result<Vec<DirEntry>> {
        let mut state = self.state();
        state.fail(OpKind::List, "")?;
        let entries = state.image.names.iter().map(|(name, inode)| {
            Ok(DirEntry { name: name.clone(), bytes: state.content(*inode)?.len() })
        });
        entries.collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        check::name(name)?;
        let mut state = self.state();
        if state.image.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.create(name)?;
        Ok(self.handle(&mut state, inode, name, true))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        check::name(name)?;
        let mut state = self.state();
        let inode = state.find(name)?;
        state.fail(OpKind::Open, name)?;
        state.opened(inode);
        Ok(self.handle(&mut state, inode, name, access == Access::Write))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check::name(from)?;
        check::name(to)?;
        let mut state = self.state();
        let inode = state.find(from)?;
        if from == to {
            return Ok(());
        }
        let change = DirChange::Rename { from: from.to_owned(), to: to.to_owned(), inode };
        state.change_dir(OpKind::Rename, from, change)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        check::name(name)?;
        let mut state = self.state();
        let inode = state.find(name)?;
        state.change_dir(OpKind::Unlink, name, DirChange::Unlink { name: name.to_owned(), inode })
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.sync_as(OpKind::SyncDir, "", Action::SyncDir)
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn DiskLock>>> {
        check::name(name)?;
        let mut state = self.state();
        state.fail(OpKind::Lock, name)?;
        let inode = match state.find(name) {
            Ok(inode) => {
                state.opened(inode);
                inode
            }
            Err(_) => state.create(name)?,
        };
        let owner = state.new_owner();
        if !state.lock(inode, owner) {
            state.close(inode);
            return Ok(None);
        }
        drop(state);
        Ok(Some(Box::new(MemoryLock { disk: self.clone(), inode, owner })))
    }

    fn write_queue(&self, depth: usize) -> io::Result<Option<Box<dyn WriteQueue>>> {
        check::depth(depth)?;
        let Some(seed) = self.state().queue else { return Ok(None) };
        Ok(Some(Box::new(MemoryQueue::new(self.clone(), depth, seed))))
    }
}

impl MemoryDisk {
    /// Lets other threads in while an operation is under way, so that several overlap in the record as
    /// they would on a device.
    fn overlap<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        if state.recording.is_none() {
            return state;
        }
        drop(state);
        std::thread::yield_now();
        self.state()
    }

    fn sync_as(&self, kind: OpKind, name: &str, action: Action) -> io::Result<()> {
        let mut state = self.state();
        let (action, result) = match state.fault(kind, name, 0)? {
            Some(Fault::Fail(error) | Fault::FailTorn { error, .. }) => (action, Err(error)),
            Some(Fault::Lose) => (Action::Nothing, Ok(())),
            _ => (action, Ok(())),
        };
        let begun = state.begin(kind, name, action);
        let mut state = self.overlap(state);
        state.end(begun, result.is_ok());
        Ok(result?)
    }
}

#[derive(Debug)]
struct MemoryLock {
    disk: MemoryDisk,
    inode: Inode,
    owner: u64,
}

impl DiskLock for MemoryLock {}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        state.unlock(self.inode, self.owner);
        state.close(self.inode);
    }
}
