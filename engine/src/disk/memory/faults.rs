//! How a memory disk fails on demand: owns [`FaultPlan`], [`Fault`] and [`OpKind`].
//!
//! It calls nothing. The memory disk asks the plan before every operation.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// A kind of operation, for a [`FaultPlan`] to choose by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpKind {
    /// [`Disk::list`](crate::disk::Disk::list)
    List,
    /// [`Disk::create`](crate::disk::Disk::create)
    Create,
    /// [`Disk::open`](crate::disk::Disk::open)
    Open,
    /// [`Disk::rename`](crate::disk::Disk::rename); the name is the old one.
    Rename,
    /// [`Disk::unlink`](crate::disk::Disk::unlink)
    Unlink,
    /// [`Disk::sync_dir`](crate::disk::Disk::sync_dir); the name is empty.
    SyncDir,
    /// `try_lock` of the disk or of a file.
    Lock,
    /// [`DiskFile::len`](crate::disk::DiskFile::len)
    Len,
    /// [`DiskFile::allocate`](crate::disk::DiskFile::allocate)
    Allocate,
    /// [`DiskFile::zero`](crate::disk::DiskFile::zero)
    Zero,
    /// [`DiskFile::write_at`](crate::disk::DiskFile::write_at)
    Write,
    /// [`DiskFile::write_durable_at`](crate::disk::DiskFile::write_durable_at)
    WriteDurable,
    /// [`DiskFile::read_at`](crate::disk::DiskFile::read_at)
    Read,
    /// [`DiskFile::sync`](crate::disk::DiskFile::sync)
    Sync,
    /// [`DiskFile::truncate`](crate::disk::DiskFile::truncate)
    Truncate,
    /// [`DiskFile::map`](crate::disk::DiskFile::map)
    Map,
}

impl OpKind {
    /// Whether it changes something or makes something durable.
    fn mutates(self) -> bool {
        !matches!(self, Self::List | Self::Open | Self::Lock | Self::Len | Self::Read | Self::Map)
    }

    fn writes(self) -> bool {
        matches!(self, Self::Write | Self::WriteDurable)
    }
}

impl fmt::Display for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What an operation that fails reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultError {
    /// `EIO`: the device could not.
    Io,
    /// `ENOSPC`, as [`io::ErrorKind::StorageFull`].
    NoSpace,
    /// An error of this kind.
    Kind(io::ErrorKind),
}

impl From<FaultError> for io::Error {
    fn from(error: FaultError) -> Self {
        match error {
            FaultError::Io => Errno::IO.into(),
            FaultError::NoSpace => Errno::NOSPC.into(),
            FaultError::Kind(kind) => kind.into(),
        }
    }
}

/// What happens to an operation that a [`FaultPlan`] has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and has done nothing.
    Fail(FaultError),
    /// It fails and has done a part, chosen by the seed: some sectors of a write, the beginning of a
    /// range of zeroes, a change of the directory or not. For other operations as [`Fault::Fail`].
    FailTorn {
        /// What it reports.
        error: FaultError,
        /// Chooses the part.
        seed: u64,
    },
    /// It reports success and has done nothing: a write or change that is lost, a sync that makes
    /// nothing durable, a read that leaves the buffer as it was.
    Lose,
    /// A read or write handles this many bytes (less than it was asked for) and says so. For other
    /// operations: no fault.
    Short(usize),
    /// A read or write goes to this offset in the file instead, in bytes, and reports success. For other
    /// operations: no fault.
    Misdirect(u64),
    /// It fails with `EIO`, and so does everything after it.
    Die,
}

#[derive(Debug, Clone)]
struct Rule {
    kind: Option<OpKind>,
    prefix: String,
    skip: u64,
    times: u64,
    fault: Fault,
}

#[derive(Debug, Clone)]
struct Chance {
    random: fastrand::Rng,
    one_in: u32,
    lies: bool,
}

/// Which operations of a memory disk fail, and how. The first rule that chooses an operation decides.
///
/// ```
/// use stratalog::disk::{Disk, Fault, FaultError, FaultPlan, MemoryDisk, OpKind};
///
/// let disk = MemoryDisk::new();
/// // The second sync of a file whose name begins with "log" fails, once.
/// disk.set_faults(FaultPlan::new().inject(OpKind::Sync, "log", 1, 1, Fault::Fail(FaultError::Io)));
/// let file = disk.create("log-1")?;
/// assert!(file.sync().is_ok());
/// assert!(file.sync().is_err());
/// assert!(file.sync().is_ok());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    rules: Vec<Rule>,
    chance: Option<Chance>,
}

impl FaultPlan {
    /// A plan without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Operations that change something fail by chance, one in `one_in` (at least 1): they report `EIO`
    /// or `ENOSPC` and have done nothing or a part, or they are short writes. The same seed and the same
    /// operations give the same faults.
    pub fn seeded(seed: u64, one_in: u32) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self {
            rules: Vec::new(),
            chance: Some(Chance { random, one_in: one_in.max(1), lies: false }),
        }
    }

    /// As [`FaultPlan::seeded`], and besides a device that lies: writes that are lost or go to another
    /// block, and syncs that do nothing, all reported as done.
    pub fn seeded_lies(seed: u64, one_in: u32) -> Self {
        let mut plan = Self::seeded(seed, one_in);
        if let Some(chance) = &mut plan.chance {
            chance.lies = true;
        }
        plan
    }

    /// Adds a rule for operations of one kind on files whose name begins with `prefix` (all where it is
    /// empty): the first `skip` of them pass, the next `times` have the fault.
    #[must_use]
    pub fn inject(self, kind: OpKind, prefix: &str, skip: u64, times: u64, fault: Fault) -> Self {
        self.add(Some(kind), prefix, skip, times, fault)
    }

    /// Adds a rule as [`FaultPlan::inject`] does, for operations of every kind that changes something or
    /// makes it durable.
    #[must_use]
    pub fn inject_any(self, prefix: &str, skip: u64, times: u64, fault: Fault) -> Self {
        self.add(None, prefix, skip, times, fault)
    }

    fn add(
        mut self,
        kind: Option<OpKind>,
        prefix: &str,
        skip: u64,
        times: u64,
        fault: Fault,
    ) -> Self {
        self.rules.push(Rule { kind, prefix: prefix.to_owned(), skip, times, fault });
        self
    }

    /// Decides about the next operation, which has `bytes` bytes.
    pub(super) fn next(&mut self, kind: OpKind, name: &str, bytes: usize) -> Option<Fault> {
        let mut chosen = None;
        for rule in &mut self.rules {
            let by_kind = rule.kind.map_or(kind.mutates(), |wanted| wanted == kind);
            if !by_kind || !name.starts_with(&rule.prefix) {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 && chosen.is_none() {
                rule.times -= 1;
                chosen = Some(rule.fault);
            }
        }
        if chosen.is_some() || !kind.mutates() {
            return chosen;
        }
        self.chance.as_mut()?.next(kind, bytes)
    }
}

impl Chance {
    fn next(&mut self, kind: OpKind, bytes: usize) -> Option<Fault> {
        if self.random.u32(0..self.one_in) != 0 {
            return None;
        }
        let error = if self.random.bool() { FaultError::Io } else { FaultError::NoSpace };
        let honest: u8 = if kind.writes() { 3 } else { 2 };
        let fault = match self.random.u8(0..if self.lies { honest + 2 } else { honest }) {
            0 => Fault::Fail(error),
            1 => Fault::FailTorn { error, seed: self.random.u64(..) },
            2 if kind.writes() => Fault::Short(self.random.usize(0..bytes.max(1))),
            choice if choice == honest && kind.writes() => {
                Fault::Misdirect(self.random.u64(0..16) * crate::limits::BLOCK)
            }
            _ => Fault::Lose,
        };
        Some(fault)
    }
}
