//! What was done to a memory disk, in order: owns [`Trace`] and the [`CrashPoint`]s in it.
//!
//! It calls `image`. The memory disk records; tests walk through the crash points and ask each for the
//! states that a crash there may leave (`explore`).
//!
//! The model. An operation has a begin and an end, and several may be under way at once. A change is
//! *settled* when no crash can undo it: a durable write when it has ended well; any other change of a
//! file when it ended before a sync of that file began which has ended well; a change of the directory
//! likewise by a sync of the directory. Every other change that has begun is *in flight*: a crash keeps
//! it wholly, partly, or not at all. A sync that failed leaves the changes it covered in flight for
//! good: no later sync proves anything about them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::faults::OpKind;
use super::image::{Image, Inode};
use crate::limits::{BLOCK_BYTES, SECTOR_BYTES};

/// A change of one file.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write {
        offset: u64,
        data: Arc<[u8]>,
        /// The sectors that are written where a fault left out others.
        mask: Option<Sectors>,
    },
    Zero {
        offset: u64,
        bytes: u64,
    },
    Allocate {
        bytes: u64,
    },
    Truncate {
        bytes: u64,
    },
}

/// A change of the directory. The inodes make each independent of what is kept of the others.
#[derive(Debug, Clone)]
pub(super) enum DirChange {
    Create { name: String, inode: Inode },
    Rename { from: String, to: String, inode: Inode },
    Unlink { name: String, inode: Inode },
}

impl DirChange {
    /// Applies it. A rename that is kept `twice` leaves the old name as well.
    pub(super) fn apply(&self, names: &mut BTreeMap<String, Inode>, twice: bool) {
        match self {
            Self::Create { name, inode } => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename { from, to, inode } => {
                if !twice && names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            Self::Unlink { name, inode } => {
                if names.get(name) == Some(inode) {
                    names.remove(name);
                }
            }
        }
    }
}

/// A choice of the sectors of a write, or of the parts of a range of zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sectors {
    /// The first so many.
    Prefix(u64),
    /// All but this one.
    Without(u64),
    /// About a quarter, a half or three quarters of them, by this seed.
    Seeded(u64),
}

impl Sectors {
    pub(super) fn holds(self, index: u64) -> bool {
        match self {
            Self::Prefix(count) => index < count,
            Self::Without(missing) => index != missing,
            Self::Seeded(seed) => mix(seed ^ mix(index)) % 4 <= mix(seed) % 3,
        }
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(count) => write!(f, "the first {count}"),
            Self::Without(missing) => write!(f, "all but number {missing}"),
            Self::Seeded(seed) => write!(f, "those of seed {seed:#x}"),
        }
    }
}

/// What a crash keeps of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Nothing,
    All,
    /// Some sectors; and of the length that the change implies all (`length`), or no more than the kept
    /// sectors need.
    Some {
        sectors: Sectors,
        length: bool,
    },
    /// Each block that a write covers is, by chance, as before, as written, or filled with garbage: what
    /// a disk may leave that does not write sectors whole or not at all.
    Garbled {
        seed: u64,
    },
}

/// What is in a block that an interrupted write covers, on a disk that promises nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Garbled {
    Before,
    Written,
    Garbage,
}

impl Kept {
    /// What a garbled write leaves in the block of this sector; none where it is not garbled.
    pub(super) fn garbled(self, index: u64) -> Option<Garbled> {
        const SECTORS: u64 = (BLOCK_BYTES / SECTOR_BYTES) as u64;
        let Self::Garbled { seed } = self else { return None };
        Some(match mix(seed ^ mix(index / SECTORS)) % 3 {
            0 => Garbled::Before,
            1 => Garbled::Written,
            _ => Garbled::Garbage,
        })
    }

    pub(super) fn holds(self, index: u64) -> bool {
        match self {
            Self::Garbled { .. } => self.garbled(index) != Some(Garbled::Before),
            Self::Nothing => false,
            Self::All => true,
            Self::Some { sectors, .. } => sectors.holds(index),
        }
    }

    pub(super) fn length(self) -> bool {
        match self {
            Self::Nothing | Self::Garbled { .. } => false,
            Self::All => true,
            Self::Some { length, .. } => length,
        }
    }
}

/// Spreads a number over 64 bits (the finaliser of `splitmix64`).
pub(super) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// An operation as it was carried out, which a fault may have made different from what was asked.
#[derive(Debug, Clone)]
pub(super) struct Op {
    pub(super) kind: OpKind,
    /// The file's name when the operation began.
    pub(super) name: String,
    pub(super) action: Action,
}

#[derive(Debug, Clone)]
pub(super) enum Action {
    /// It changes nothing and makes nothing durable.
    Nothing,
    File {
        inode: Inode,
        change: Change,
        durable: bool,
    },
    Directory(DirChange),
    Sync {
        inode: Inode,
    },
    SyncDir,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)?;
        match &self.action {
            Action::File { change: Change::Write { offset, data, mask }, .. } => {
                write!(f, " {offset}+{}", data.len())?;
                mask.map_or(Ok(()), |sectors| write!(f, " (sectors: {sectors})"))
            }
            Action::File { change: Change::Zero { offset, bytes }, .. } => {
                write!(f, " {offset}+{bytes}")
            }
            Action::File {
                change: Change::Allocate { bytes } | Change::Truncate { bytes },
                ..
            } => {
                write!(f, " to {bytes}")
            }
            Action::Directory(DirChange::Rename { to, .. }) => write!(f, " to {to}"),
            Action::Nothing => write!(f, " (without effect)"),
            _ => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Begin(usize),
    End { op: usize, well: bool },
    Mark(u64),
}

/// The record of what was done to a [`MemoryDisk`](super::MemoryDisk) since recording began. Clones
/// share it.
///
/// ```
/// use stratalog::disk::{Disk, Exploration, MemoryDisk};
///
/// let disk = MemoryDisk::new();
/// disk.start_recording();
/// disk.create("log")?;
/// disk.sync_dir()?;
/// disk.mark(1);
/// for point in disk.trace().crash_points() {
///     for state in point.states(&Exploration::default()) {
///         let there = !state.disk().list()?.is_empty();
///         assert!(there || state.marks().is_empty(), "lost what was synced: {state}");
///     }
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Trace(pub(super) Arc<Recording>);

#[derive(Debug, Clone, Default)]
pub(super) struct Recording {
    /// The disk when recording began: all of it counts as durable.
    pub(super) base: Image,
    pub(super) ops: Vec<Op>,
    pub(super) events: Vec<Event>,
}

impl Recording {
    pub(super) fn begin(&mut self, op: Op) -> usize {
        self.ops.push(op);
        self.events.push(Event::Begin(self.ops.len() - 1));
        self.ops.len() - 1
    }

    /// What comes after this many events, in words.
    fn describe(&self, events: usize) -> String {
        let Some(last) = events.checked_sub(1).and_then(|index| self.events.get(index)) else {
            return "before the first operation".to_owned();
        };
        match last {
            Event::Begin(op) => format!("in [{op}] {}", self.ops[*op]),
            Event::End { op, well: true } => format!("after [{op}] {}", self.ops[*op]),
            Event::End { op, well: false } => {
                format!("after [{op}] {}, which failed", self.ops[*op])
            }
            Event::Mark(mark) => format!("after mark {mark}"),
        }
    }
}

impl Trace {
    /// How many events there are: begins and ends of operations, and marks. There is one crash point
    /// more.
    pub fn len(&self) -> usize {
        self.0.events.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every moment at which the machine may crash: before the first event and after each one.
    pub fn crash_points(&self) -> impl Iterator<Item = CrashPoint> + use<> {
        let recording = Arc::clone(&self.0);
        let mut replay = Replay::new(&recording);
        (0..=recording.events.len()).map(move |events| {
            if let Some(last) = events.checked_sub(1) {
                replay.step(&recording, last);
            }
            CrashPoint { recording: Arc::clone(&recording), events, replay: replay.clone() }
        })
    }
}

impl fmt::Display for Trace {
    /// One line for each event.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (1..=self.len()).try_for_each(|events| writeln!(f, "{events}: {}", self.0.describe(events)))
    }
}

/// A moment at which the machine may crash; see [`Trace::crash_points`].
#[derive(Debug, Clone)]
pub struct CrashPoint {
    pub(super) recording: Arc<Recording>,
    /// How many events had happened.
    events: usize,
    pub(super) replay: Replay,
}

impl CrashPoint {
    /// How many events of the trace had happened.
    pub fn index(&self) -> usize {
        self.events
    }

    /// The marks that the test had set, in order.
    pub fn marks(&self) -> &[u64] {
        &self.replay.marks
    }

    /// How many changes are in flight: what the crash may keep or not.
    pub fn in_flight(&self) -> usize {
        self.replay.in_flight_files().count() + self.replay.in_flight_dirs().count()
    }

    /// The file of each durable write that is under way: begun, and not ended. [`CrashPoint::in_flight`]
    /// counts every other change besides that the crash may keep or not.
    pub fn writes_under_way(&self) -> impl Iterator<Item = &str> {
        let pending = self.replay.files.values().flatten();
        let begun = pending.filter(|pending| pending.stage == Stage::Begun);
        let ops = begun.map(|pending| &self.recording.ops[pending.op]);
        ops.filter(|op| op.kind == OpKind::WriteDurable).map(|op| op.name.as_str())
    }
}

impl fmt::Display for CrashPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "crash point {} ({})", self.events, self.recording.describe(self.events))
    }
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Begun,
    /// Ended, and made durable by the next sync that begins from here on.
    Ended,
    /// Ended, and covered by a sync that failed.
    Doubtful,
    /// Durable, but behind changes that are not.
    Settled,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) op: usize,
    pub(super) stage: Stage,
}

/// The state of the machine after some events: what is durable and what is in flight.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    /// What is durable and has nothing before it that is not.
    pub(super) settled: Image,
    /// The changes that may follow, in the order in which they take effect.
    pub(super) files: BTreeMap<Inode, Vec<Pending>>,
    pub(super) dirs: Vec<Pending>,
    /// The changes that each sync under way covers.
    covered: BTreeMap<usize, Vec<usize>>,
    marks: Arc<Vec<u64>>,
}

impl Replay {
    fn new(recording: &Recording) -> Self {
        Self {
            settled: recording.base.clone(),
            files: BTreeMap::new(),
            dirs: Vec::new(),
            covered: BTreeMap::new(),
            marks: Arc::default(),
        }
    }

    /// The changes of files in flight, in the order in which they began.
    pub(super) fn in_flight_files(&self) -> impl Iterator<Item = usize> {
        let pending = self.files.values().flatten();
        let mut ops: Vec<usize> = pending
            .filter(|pending| pending.stage != Stage::Settled)
            .map(|pending| pending.op)
            .collect();
        ops.sort_unstable();
        ops.into_iter()
    }

    /// The changes of the directory in flight, in order.
    pub(super) fn in_flight_dirs(&self) -> impl Iterator<Item = usize> {
        let dirs = self.dirs.iter();
        dirs.filter(|pending| pending.stage != Stage::Settled).map(|pending| pending.op)
    }

    fn step(&mut self, recording: &Recording, event: usize) {
        match recording.events[event] {
            Event::Mark(mark) => Arc::make_mut(&mut self.marks).push(mark),
            Event::Begin(op) => match &recording.ops[op].action {
                Action::Nothing => {}
                Action::File { inode, .. } => {
                    self.files.entry(*inode).or_default().push(Pending { op, stage: Stage::Begun });
                }
                Action::Directory(_) => self.dirs.push(Pending { op, stage: Stage::Begun }),
                Action::Sync { inode } => {
                    let pending = self.files.get(inode).map_or(&[][..], Vec::as_slice);
                    self.covered.insert(op, ended(pending));
                }
                Action::SyncDir => {
                    self.covered.insert(op, ended(&self.dirs));
                }
            },
            Event::End { op, well } => match &recording.ops[op].action {
                Action::Nothing => {}
                Action::File { inode, durable, .. } => {
                    let settled = well && *durable;
                    let stage = if settled { Stage::Settled } else { Stage::Ended };
                    let pending = self.files.entry(*inode).or_default();
                    // It takes effect now, behind what ended before it.
                    pending.retain(|other| other.op != op);
                    pending.push(Pending { op, stage });
                    self.settle_file(recording, *inode);
                }
                Action::Directory(_) => {
                    self.dirs.iter_mut().filter(|other| other.op == op).for_each(Pending::end);
                }
                Action::Sync { inode } => {
                    let covered = self.covered.remove(&op).unwrap_or_default();
                    if let Some(pending) = self.files.get_mut(inode) {
                        synced(pending, &covered, well);
                    }
                    self.settle_file(recording, *inode);
                }
                Action::SyncDir => {
                    let covered = self.covered.remove(&op).unwrap_or_default();
                    synced(&mut self.dirs, &covered, well);
                    self.settle_dir(recording);
                }
            },
        }
    }

    /// Applies what is settled and has nothing in flight before it, which keeps the list short.
    fn settle_file(&mut self, recording: &Recording, inode: Inode) {
        let Some(pending) = self.files.get_mut(&inode) else { return };
        let count = leading_settled(pending);
        for done in pending.drain(..count) {
            if let Action::File { change, .. } = &recording.ops[done.op].action {
                self.settled.file_mut(inode).apply(change, Kept::All);
            }
        }
        if pending.is_empty() {
            self.files.remove(&inode);
        }
    }

    fn settle_dir(&mut self, recording: &Recording) {
        let count = leading_settled(&self.dirs);
        for done in self.dirs.drain(..count) {
            if let Action::Directory(change) = &recording.ops[done.op].action {
                change.apply(&mut self.settled.names, false);
            }
        }
    }
}

impl Pending {
    fn end(&mut self) {
        self.stage = Stage::Ended;
    }
}

fn leading_settled(pending: &[Pending]) -> usize {
    pending.iter().take_while(|pending| pending.stage == Stage::Settled).count()
}

fn ended(pending: &[Pending]) -> Vec<usize> {
    pending
        .iter()
        .filter(|pending| pending.stage == Stage::Ended)
        .map(|pending| pending.op)
        .collect()
}

fn synced(pending: &mut [Pending], covered: &[usize], well: bool) {
    let stage = if well { Stage::Settled } else { Stage::Doubtful };
    let open = pending.iter_mut().filter(|pending| pending.stage == Stage::Ended);
    for pending in open.filter(|pending| covered.contains(&pending.op)) {
        pending.stage = stage;
    }
}
