//! What a crash may leave behind: owns [`Exploration`] and [`CrashState`].
//!
//! It calls `trace` and `image`. Tests call it through [`CrashPoint::states`]. Everything is decided by
//! the trace and the exploration's seed: the same ones give the same states in the same order.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::MemoryDisk;
use super::image::{Image, zero_parts};
use super::trace::{Action, Change, CrashPoint, DirChange, Kept, Sectors, Stage, mix};
use crate::limits::SECTOR_BYTES;

/// How thoroughly [`CrashPoint::states`] enumerates what a crash may leave.
///
/// ```
/// use stratalog::disk::Exploration;
///
/// let other_subsets = Exploration { seed: 7, ..Exploration::default() };
/// let coarse = Exploration { seed: 7, ..Exploration::quick() };
/// assert!(coarse.sector_subsets < other_subsets.sector_subsets);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exploration {
    /// Chooses the subsets that are taken by chance. Default: 0.
    pub seed: u64,
    /// Up to how many changes in flight have all subsets of them tried. With more: none, all, all but
    /// each one, each one alone, and [`Exploration::whole_subsets`] by chance. Default: 6, at most 16.
    pub whole_all_max: usize,
    /// Default: 64.
    pub whole_subsets: usize,
    /// Of each write in flight every prefix of its sectors and every single missing sector is tried; of
    /// a write with more sectors than this, as many, evenly spread. Default: 2048 (1 MiB); 0 tears
    /// nothing in order.
    pub sectors_each_max: usize,
    /// How many subsets of the sectors of each write in flight are tried by chance. Default: 64.
    pub sector_subsets: usize,
    /// How many times each write in flight is garbled by chance, block by block, as a disk may do that
    /// does not write sectors whole or not at all: blocks may be as before, as written, or garbage.
    /// Default: 0.
    pub garbled: usize,
    /// Whether changes of the directory may be kept without those before them, which POSIX allows and
    /// ext4 does not do; and a rename be kept as a second name. Default: true.
    pub posix_directory: bool,
}

impl Default for Exploration {
    fn default() -> Self {
        Self {
            seed: 0,
            whole_all_max: 6,
            whole_subsets: 64,
            sectors_each_max: 2048,
            sector_subsets: 64,
            garbled: 0,
            posix_directory: true,
        }
    }
}

impl Exploration {
    /// About a tenth of the default's states, for long traces.
    pub fn quick() -> Self {
        Self {
            whole_all_max: 3,
            whole_subsets: 8,
            sectors_each_max: 8,
            sector_subsets: 8,
            ..Self::default()
        }
    }

    /// The subsets of `count` things to try, each once, none and all first.
    fn subsets(&self, count: usize, salt: u64) -> Vec<Vec<bool>> {
        let mut subsets = vec![vec![false; count]];
        if count == 0 {
            return subsets;
        }
        subsets.push(vec![true; count]);
        if count <= self.whole_all_max.min(16) {
            let masks = 1..(1_u32 << count) - 1;
            subsets.extend(masks.map(|mask| (0..count).map(|bit| mask >> bit & 1 == 1).collect()));
            return subsets;
        }
        for single in 0..count {
            subsets.push((0..count).map(|index| index == single).collect());
            subsets.push((0..count).map(|index| index != single).collect());
        }
        subsets.extend((0..self.whole_subsets as u64).map(|number| {
            let sectors = Sectors::Seeded(mix(self.seed ^ mix(salt ^ mix(number))));
            (0..count as u64).map(|index| sectors.holds(index)).collect()
        }));
        let mut seen = BTreeSet::new();
        subsets.retain(|subset| seen.insert(subset.clone()));
        subsets
    }

    /// The ways to keep a part of a change of a file that is, where kept wholly, `extends` or not.
    fn parts(&self, change: &Change, extends: bool, salt: u64) -> Vec<Kept> {
        let (count, every) = match change {
            Change::Write { data, .. } => (data.len().div_ceil(SECTOR_BYTES) as u64, true),
            Change::Zero { bytes, .. } => {
                let parts = zero_parts(*bytes);
                (parts, parts == bytes / SECTOR_BYTES as u64)
            }
            // Lengths are kept or not.
            Change::Allocate { .. } | Change::Truncate { .. } => return Vec::new(),
        };
        let some = |sectors, length| Kept::Some { sectors, length };
        let mut parts = Vec::new();
        if matches!(change, Change::Write { .. }) {
            parts.extend(
                (0..self.garbled as u64).map(|number| Kept::Garbled {
                    seed: mix(self.seed ^ mix(salt ^ mix(!number))),
                }),
            );
        }
        if extends {
            parts.push(some(Sectors::Prefix(0), true));
        }
        if count < 2 {
            return parts;
        }
        let seeded = |number: u64| Sectors::Seeded(mix(self.seed ^ mix(salt ^ mix(number))));
        if !every {
            parts.push(some(Sectors::Prefix(count / 2), extends));
            parts.extend(
                (0..4_u64.min(self.sector_subsets as u64))
                    .map(|number| some(seeded(number), extends)),
            );
            return parts;
        }
        let each = self.sectors_each_max as u64;
        let step = if each == 0 { count } else { count.div_ceil(each) };
        for index in (1..count).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            if each == 0 {
                break;
            }
            parts.push(some(Sectors::Prefix(index), false));
            if extends {
                parts.push(some(Sectors::Prefix(index), true));
            }
            parts.push(some(Sectors::Without(index - 1), extends));
        }
        for number in 0..self.sector_subsets as u64 {
            parts.push(some(seeded(number), extends && number % 2 == 0));
        }
        parts
    }
}

/// Which changes of files are kept.
#[derive(Debug, Clone)]
enum Files {
    Whole(Vec<bool>),
    /// Of one, a part; of the others all or nothing.
    Part {
        item: usize,
        kept: Kept,
        rest: bool,
    },
}

impl Files {
    fn kept(&self, index: usize) -> Kept {
        let whole = match self {
            Self::Part { item, kept, .. } if *item == index => return *kept,
            Self::Part { rest, .. } => *rest,
            Self::Whole(whole) => whole[index],
        };
        if whole { Kept::All } else { Kept::Nothing }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Lost,
    Kept,
    /// A rename that leaves the old name too.
    Twice,
}

impl CrashPoint {
    /// The states that a crash here may leave, one after the other. Equal ones may come more than once:
    /// see [`CrashState::fingerprint`].
    pub fn states(&self, exploration: &Exploration) -> impl Iterator<Item = CrashState> + use<> {
        let files: Vec<usize> = self.replay.in_flight_files().collect();
        let choices = self.choices(exploration, &files);
        let point = Arc::new(self.clone());
        let items = Arc::new(files);
        choices.into_iter().enumerate().map(move |(index, (files, dirs))| {
            let image = point.image(&items, &files, &dirs);
            let (point, items) = (Arc::clone(&point), Arc::clone(&items));
            CrashState { point, index, items, files, dirs, image }
        })
    }

    fn choices(&self, exploration: &Exploration, files: &[usize]) -> Vec<(Files, Arc<[Entry]>)> {
        let salt = mix(self.index() as u64);
        let dirs = self.dir_choices(exploration, salt);
        let wholes = exploration.subsets(files.len(), mix(salt));
        let none: Arc<[Entry]> = dirs[0].clone();
        let all: Arc<[Entry]> = dirs.get(1).unwrap_or(&none).clone();
        let mut choices: Vec<(Files, Arc<[Entry]>)> = Vec::new();
        if files.len() + none.len() <= exploration.whole_all_max {
            for whole in &wholes {
                choices.extend(dirs.iter().map(|dirs| (Files::Whole(whole.clone()), dirs.clone())));
            }
        } else {
            for whole in &wholes {
                choices.push((Files::Whole(whole.clone()), all.clone()));
                if !none.is_empty() {
                    choices.push((Files::Whole(whole.clone()), none.clone()));
                }
            }
            for dirs in dirs.iter().skip(2) {
                choices.push((Files::Whole(vec![true; files.len()]), dirs.clone()));
                if !files.is_empty() {
                    choices.push((Files::Whole(vec![false; files.len()]), dirs.clone()));
                }
            }
            if !files.is_empty() && !none.is_empty() {
                let mut random = fastrand::Rng::with_seed(mix(exploration.seed ^ salt));
                choices.extend((0..exploration.whole_subsets).map(|_| {
                    let whole = (0..files.len()).map(|_| random.bool()).collect();
                    (Files::Whole(whole), dirs[random.usize(0..dirs.len())].clone())
                }));
            }
        }
        for (item, op) in files.iter().enumerate() {
            let Action::File { inode, change, .. } = &self.recording.ops[*op].action else {
                continue;
            };
            let extends = end(change)
                > self.replay.settled.file(*inode).map_or(0, super::image::Content::len);
            for kept in exploration.parts(change, extends, mix(salt ^ *op as u64)) {
                for rest in [true, false] {
                    if files.len() == 1 && !rest {
                        continue;
                    }
                    choices.push((Files::Part { item, kept, rest }, all.clone()));
                    if !none.is_empty() {
                        choices.push((Files::Part { item, kept, rest }, none.clone()));
                    }
                }
            }
        }
        choices
    }

    /// None and all first, then those of a file system that orders them, then the others.
    fn dir_choices(&self, exploration: &Exploration, salt: u64) -> Vec<Arc<[Entry]>> {
        let ops: Vec<usize> = self.replay.in_flight_dirs().collect();
        let entries = |kept: &dyn Fn(usize) -> bool| -> Vec<Entry> {
            (0..ops.len())
                .map(|index| if kept(index) { Entry::Kept } else { Entry::Lost })
                .collect()
        };
        let mut choices = vec![entries(&|_| false), entries(&|_| true)];
        choices.extend((1..ops.len()).map(|prefix| entries(&|index| index < prefix)));
        if exploration.posix_directory {
            let subsets = exploration.subsets(ops.len(), salt);
            choices.extend(subsets.iter().map(|subset| entries(&|index| subset[index])));
            for (rename, op) in ops.iter().enumerate() {
                let action = &self.recording.ops[*op].action;
                if !matches!(action, Action::Directory(DirChange::Rename { .. })) {
                    continue;
                }
                for mut choice in
                    [entries(&|_| true), entries(&|_| false), entries(&|index| index < rename)]
                {
                    choice[rename] = Entry::Twice;
                    choices.push(choice);
                }
            }
        }
        let mut seen = BTreeSet::new();
        choices.retain(|choice| seen.insert(choice.clone()));
        choices.into_iter().map(Arc::from).collect()
    }

    fn image(&self, items: &[usize], files: &Files, dirs: &[Entry]) -> Image {
        let mut image = self.replay.settled.clone();
        for (inode, pending) in &self.replay.files {
            let content = image.file_mut(*inode);
            for pending in pending {
                let Action::File { change, .. } = &self.recording.ops[pending.op].action else {
                    continue;
                };
                let kept = match (pending.stage, items.binary_search(&pending.op)) {
                    (Stage::Settled, _) => Kept::All,
                    (_, Ok(item)) => files.kept(item),
                    (_, Err(_)) => Kept::Nothing,
                };
                content.apply(change, kept);
            }
        }
        let mut choice = dirs.iter();
        for pending in &self.replay.dirs {
            let Action::Directory(change) = &self.recording.ops[pending.op].action else {
                continue;
            };
            let entry = match pending.stage {
                Stage::Settled => Entry::Kept,
                _ => choice.next().copied().unwrap_or(Entry::Lost),
            };
            if entry != Entry::Lost {
                change.apply(&mut image.names, entry == Entry::Twice);
            }
        }
        image.prune();
        for inode in image.names.values() {
            image.files.entry(*inode).or_default();
        }
        image
    }
}

/// The length of the file that a change implies, in bytes.
fn end(change: &Change) -> u64 {
    match change {
        Change::Write { offset, data, .. } => offset + data.len() as u64,
        Change::Zero { offset, bytes } => offset + bytes,
        Change::Allocate { bytes } => *bytes,
        Change::Truncate { .. } => 0,
    }
}

/// A disk as a crash may leave it. Displays as what was kept, in one line.
#[derive(Debug, Clone)]
pub struct CrashState {
    point: Arc<CrashPoint>,
    index: usize,
    /// The operations that `files` is about, sorted.
    items: Arc<Vec<usize>>,
    files: Files,
    dirs: Arc<[Entry]>,
    image: Image,
}

impl CrashState {
    /// Its number among the states of its point, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The point of the crash.
    pub fn point(&self) -> &CrashPoint {
        &self.point
    }

    /// The marks that the test had set before the crash, in order.
    pub fn marks(&self) -> &[u64] {
        self.point.marks()
    }

    /// A hash of the names and contents of all files: states with the same one are the same, so that a
    /// test can leave out what it has seen (with the same marks).
    pub fn fingerprint(&self) -> u128 {
        self.image.fingerprint()
    }

    /// A new disk that holds this state, all of it durable, nothing locked.
    pub fn disk(&self) -> MemoryDisk {
        MemoryDisk::of_image(self.image.clone())
    }
}

impl fmt::Display for CrashState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, state {}:", self.point, self.index)?;
        let ops = &self.point.recording.ops;
        for (index, op) in self.items.iter().enumerate() {
            match self.files.kept(index) {
                Kept::Garbled { seed } => write!(f, "garbled {seed:x}")?,
                Kept::All => write!(f, " kept [{op}] {};", ops[*op])?,
                Kept::Nothing => write!(f, " lost [{op}] {};", ops[*op])?,
                Kept::Some { sectors, length } => {
                    let length = if length { ", and the length" } else { "" };
                    write!(f, " torn [{op}] {}: sectors {sectors}{length};", ops[*op])?;
                }
            }
        }
        for (op, entry) in self.point.replay.in_flight_dirs().zip(self.dirs.iter()) {
            let how = match entry {
                Entry::Lost => "lost",
                Entry::Kept => "kept",
                Entry::Twice => "kept with both names",
            };
            write!(f, " {how} [{op}] {};", ops[op])?;
        }
        Ok(())
    }
}
