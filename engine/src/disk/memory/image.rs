//! What a memory disk holds: owns [`Image`], a directory with the contents of its files.
//!
//! It calls nothing. The memory disk keeps its live state in one, and crash states are built as others.
//! Every part is shared between clones until it is changed, so that an image of a whole disk costs
//! little, and what holds only zeroes costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::xxh3_128;

use super::trace::{Change, Garbled, Kept, mix};
use crate::limits::{BLOCK, BLOCK_BYTES, SECTOR_BYTES};

/// A file, whatever names it has.
pub(super) type Inode = u64;

/// Blocks of one chunk; a chunk is what is copied when one of its blocks changes.
const CHUNK_BLOCKS: u64 = CHUNK_SLOTS as u64;
const CHUNK_SLOTS: usize = 64;
const CHUNK: u64 = CHUNK_BLOCKS * BLOCK;

/// A directory and its files.
#[derive(Debug, Clone, Default)]
pub(super) struct Image {
    pub(super) names: BTreeMap<String, Inode>,
    /// Every inode of `names` is here, and may be others that have no name any more or not yet.
    pub(super) files: BTreeMap<Inode, Arc<Content>>,
}

impl Image {
    pub(super) fn file(&self, inode: Inode) -> Option<&Content> {
        self.files.get(&inode).map(Arc::as_ref)
    }

    /// The content of a file for changing it; an empty one where there is none yet.
    pub(super) fn file_mut(&mut self, inode: Inode) -> &mut Content {
        Arc::make_mut(self.files.entry(inode).or_default())
    }

    /// Forgets the files that have no name.
    pub(super) fn prune(&mut self) {
        let named: BTreeSet<Inode> = self.names.values().copied().collect();
        self.files.retain(|inode, _| named.contains(inode));
    }

    /// Whether a file has a name.
    pub(super) fn names(&self, inode: Inode) -> bool {
        self.names.values().any(|named| *named == inode)
    }

    /// The space that the files with names take, in bytes.
    pub(super) fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|inode| self.file(*inode));
        named.map(|content| content.allocated.blocks * BLOCK).sum()
    }

    /// A hash of all names and contents, equal for equal ones however they came about.
    pub(super) fn fingerprint(&self) -> u128 {
        let mut bytes = Vec::new();
        for (name, inode) in &self.names {
            bytes.extend((name.len() as u64).to_le_bytes());
            bytes.extend(name.as_bytes());
            let content = self.file(*inode).map_or(0, Content::fingerprint);
            bytes.extend(content.to_le_bytes());
        }
        xxh3_128(&bytes)
    }
}

/// The bytes of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    bytes: u64,
    /// By their index; a chunk that is absent is zeroes.
    chunks: BTreeMap<u64, Arc<Chunk>>,
    /// The blocks that space was taken for; capacity is counted by them, reading is not.
    allocated: Extents,
    hash: OnceLock<u128>,
}

#[derive(Debug, Clone)]
struct Chunk {
    /// A block that is absent is zeroes; one that is there is not.
    blocks: [Option<Arc<Block>>; CHUNK_SLOTS],
    hash: OnceLock<u128>,
}

#[derive(Debug, Clone)]
struct Block {
    bytes: [u8; BLOCK_BYTES],
    hash: OnceLock<u128>,
}

static ZERO: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// An offset inside of a block, chunk or buffer: small by how it was made.
fn small(offset: u64) -> usize {
    usize::try_from(offset).expect("it fits: it is an offset inside of something in memory")
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.bytes
    }

    fn fingerprint(&self) -> u128 {
        *self.hash.get_or_init(|| {
            let mut bytes = self.bytes.to_le_bytes().to_vec();
            for (index, chunk) in &self.chunks {
                bytes.extend(index.to_le_bytes());
                bytes.extend(chunk.fingerprint().to_le_bytes());
            }
            xxh3_128(&bytes)
        })
    }

    fn block(&self, index: u64) -> Option<&Arc<Block>> {
        self.chunks.get(&(index / CHUNK_BLOCKS))?.blocks[small(index % CHUNK_BLOCKS)].as_ref()
    }

    /// Reads into `buf` and says how much; less than all only at the end.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let end = self.bytes.min(offset.saturating_add(buf.len() as u64));
        let mut at = offset;
        while at < end {
            let inside = at % BLOCK;
            let next = (at - inside + BLOCK).min(end);
            let block = self.block(at / BLOCK).map_or(&ZERO, |block| &block.bytes);
            buf[small(at - offset)..small(next - offset)]
                .copy_from_slice(&block[small(inside)..small(inside + next - at)]);
            at = next;
        }
        small(end.saturating_sub(offset))
    }

    /// All bytes.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; small(self.bytes)];
        self.read(&mut bytes, 0);
        bytes
    }

    /// Writes at any offset, extending the file where it must.
    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        let end = offset + data.len() as u64;
        self.put(data, offset);
        self.extend(end);
        self.allocated.insert(blocks(offset, end));
    }

    /// Puts bytes in place without extending the file.
    fn put(&mut self, data: &[u8], offset: u64) {
        self.hash = OnceLock::new();
        let end = offset + data.len() as u64;
        let mut at = offset;
        while at < end {
            let inside = at % BLOCK;
            let next = (at - inside + BLOCK).min(end);
            let part = &data[small(at - offset)..small(next - offset)];
            self.put_in_block(at / BLOCK, small(inside), part);
            at = next;
        }
    }

    fn put_in_block(&mut self, index: u64, inside: usize, part: &[u8]) {
        let key = index / CHUNK_BLOCKS;
        let zeroes = part == &ZERO[..part.len()];
        if zeroes && self.block(index).is_none() {
            return;
        }
        let chunk = Arc::make_mut(self.chunks.entry(key).or_default());
        chunk.hash = OnceLock::new();
        let slot = &mut chunk.blocks[small(index % CHUNK_BLOCKS)];
        let block = Arc::make_mut(slot.get_or_insert_default());
        block.hash = OnceLock::new();
        block.bytes[inside..inside + part.len()].copy_from_slice(part);
        if zeroes && block.bytes == ZERO {
            *slot = None;
            if chunk.blocks.iter().all(Option::is_none) {
                self.chunks.remove(&key);
            }
        }
    }

    /// Writes zeroes at any offset, extending the file where it must.
    pub(super) fn zero(&mut self, offset: u64, bytes: u64) {
        let end = offset + bytes;
        self.clear(offset, end);
        self.extend(end);
        self.allocated.insert(blocks(offset, end));
    }

    fn clear(&mut self, start: u64, end: u64) {
        self.hash = OnceLock::new();
        let present: Vec<u64> = self
            .chunks
            .range(start / CHUNK..end.div_ceil(CHUNK).max(start / CHUNK))
            .map(|(index, _)| *index)
            .collect();
        for index in present {
            let from = start.max(index * CHUNK);
            let to = end.min((index + 1) * CHUNK);
            if to - from == CHUNK {
                self.chunks.remove(&index);
                continue;
            }
            let mut at = from;
            while at < to {
                let next = (at - at % BLOCK + BLOCK).min(to);
                self.put_in_block(at / BLOCK, small(at % BLOCK), &ZERO[..small(next - at)]);
                at = next;
            }
        }
    }

    /// Extends the file, never shortens it.
    pub(super) fn extend(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.hash = OnceLock::new();
            self.bytes = bytes;
        }
    }

    /// Takes space for all of the file up to `bytes`, and extends it.
    pub(super) fn allocate(&mut self, bytes: u64) {
        self.extend(bytes);
        self.allocated.insert(blocks(0, bytes));
    }

    /// Cuts or extends the file.
    pub(super) fn truncate(&mut self, bytes: u64) {
        if bytes < self.bytes {
            self.clear(bytes, self.bytes);
            self.allocated.cut(bytes.div_ceil(BLOCK));
        }
        self.hash = OnceLock::new();
        self.bytes = bytes;
    }

    /// The bytes of space that a change would take in addition.
    pub(super) fn growth(&self, change: &Change) -> u64 {
        let range = match change {
            Change::Write { offset, data, .. } => blocks(*offset, offset + data.len() as u64),
            Change::Zero { offset, bytes } => blocks(*offset, offset + bytes),
            Change::Allocate { bytes } => blocks(0, *bytes),
            Change::Truncate { .. } => return 0,
        };
        self.allocated.missing(range) * BLOCK
    }

    /// Applies what is kept of a change.
    pub(super) fn apply(&mut self, change: &Change, kept: Kept) {
        if matches!(kept, Kept::Nothing) {
            return;
        }
        match change {
            Change::Write { offset, data, mask } => {
                let whole = matches!(kept, Kept::All) && mask.is_none();
                if whole {
                    return self.write(data, *offset);
                }
                let before = self.bytes;
                let sectors = data.len().div_ceil(SECTOR_BYTES);
                let mut last = *offset;
                for index in 0..sectors {
                    let there = mask.as_ref().is_none_or(|mask| mask.holds(index as u64));
                    if there && kept.holds(index as u64) {
                        let from = index * SECTOR_BYTES;
                        let to = (from + SECTOR_BYTES).min(data.len());
                        let at = offset + from as u64;
                        if kept.garbled(index as u64) == Some(Garbled::Garbage) {
                            let mut garbage = fastrand::Rng::with_seed(mix(at));
                            let bytes: Vec<u8> = (from..to).map(|_| garbage.u8(..)).collect();
                            self.write(&bytes, at);
                        } else {
                            self.write(&data[from..to], at);
                        }
                        last = offset + to as u64;
                    }
                }
                if kept.length() {
                    // A write that failed half way says nothing of a length behind its last one.
                    let end = if mask.is_some() { last } else { offset + data.len() as u64 };
                    self.extend(end.max(before));
                }
            }
            Change::Zero { offset, bytes } => {
                if matches!(kept, Kept::All) {
                    return self.zero(*offset, *bytes);
                }
                let parts = zero_parts(*bytes);
                for index in 0..parts {
                    if kept.holds(index) {
                        let sectors = bytes / SECTOR_BYTES as u64;
                        let sector =
                            |part: u64| mul_div(sectors, part, parts) * SECTOR_BYTES as u64;
                        let (from, to) = (sector(index), sector(index + 1));
                        self.zero(offset + from, to - from);
                    }
                }
                if kept.length() {
                    self.extend(offset + bytes);
                }
            }
            Change::Allocate { bytes } => self.allocate(*bytes),
            Change::Truncate { bytes } => self.truncate(*bytes),
        }
    }
}

/// In how many parts a range of zeroes is torn: its sectors if they are few, else 16.
pub(super) fn zero_parts(bytes: u64) -> u64 {
    let sectors = bytes / SECTOR_BYTES as u64;
    if sectors <= 128 { sectors } else { 16 }
}

fn mul_div(value: u64, by: u64, over: u64) -> u64 {
    let exact = u128::from(value) * u128::from(by) / u128::from(over.max(1));
    u64::try_from(exact).unwrap_or(u64::MAX)
}

impl Default for Chunk {
    fn default() -> Self {
        Self { blocks: [const { None }; CHUNK_SLOTS], hash: OnceLock::new() }
    }
}

impl Chunk {
    fn fingerprint(&self) -> u128 {
        *self.hash.get_or_init(|| {
            let mut bytes = Vec::new();
            for (index, block) in self.blocks.iter().enumerate() {
                if let Some(block) = block {
                    bytes.extend((index as u64).to_le_bytes());
                    let hash = *block.hash.get_or_init(|| xxh3_128(&block.bytes));
                    bytes.extend(hash.to_le_bytes());
                }
            }
            xxh3_128(&bytes)
        })
    }
}

impl Default for Block {
    fn default() -> Self {
        Self { bytes: ZERO, hash: OnceLock::new() }
    }
}

/// The blocks that a range of bytes touches.
fn blocks(start: u64, end: u64) -> Range<u64> {
    start / BLOCK..end.div_ceil(BLOCK).max(start / BLOCK)
}

/// A set of blocks, as ranges that neither overlap nor touch.
#[derive(Debug, Clone, Default)]
struct Extents {
    /// Start to end.
    ranges: BTreeMap<u64, u64>,
    /// How many blocks there are in all ranges.
    blocks: u64,
}

impl Extents {
    fn insert(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        if start >= end {
            return;
        }
        // From the last range that begins at or before the end, back to the first that touches.
        while let Some((&from, &to)) = self.ranges.range(..=end).next_back() {
            if to < start {
                break;
            }
            if from <= range.start && to >= range.end {
                return;
            }
            self.ranges.remove(&from);
            self.blocks -= to - from;
            start = start.min(from);
            end = end.max(to);
        }
        self.ranges.insert(start, end);
        self.blocks += end - start;
    }

    /// Takes out everything from `start` on.
    fn cut(&mut self, start: u64) {
        while let Some((&from, &to)) = self.ranges.last_key_value() {
            if to <= start {
                break;
            }
            self.ranges.remove(&from);
            self.blocks -= to - from;
            self.insert(from..start.max(from));
        }
    }

    /// How many blocks of `range` are not in the set.
    fn missing(&self, range: Range<u64>) -> u64 {
        let mut missing = range.end.saturating_sub(range.start);
        for (&from, &to) in self.ranges.range(..range.end).rev() {
            let common = to.min(range.end).saturating_sub(from.max(range.start));
            if common == 0 {
                break;
            }
            missing -= common;
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_agrees_with_a_plain_vector_under_random_changes() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut content, mut plain) = (Content::default(), Vec::new());
            for _ in 0..60 {
                let offset = random.usize(0..600_000);
                let bytes = random.usize(0..20_000);
                match random.u8(0..4) {
                    0 => {
                        let data: Vec<u8> = (0..bytes).map(|_| random.u8(0..3)).collect();
                        content.write(&data, offset as u64);
                        plain.resize(plain.len().max(offset + bytes), 0);
                        plain[offset..offset + bytes].copy_from_slice(&data);
                    }
                    1 => {
                        content.zero(offset as u64, (bytes * 20) as u64);
                        plain.resize(plain.len().max(offset + bytes * 20), 0);
                        plain[offset..offset + bytes * 20].fill(0);
                    }
                    2 => {
                        content.truncate(offset as u64);
                        plain.resize(offset, 0);
                    }
                    _ => {
                        content.allocate(offset as u64);
                        plain.resize(plain.len().max(offset), 0);
                    }
                }
                assert!(content.to_vec() == plain, "seed {seed}");
            }
            let mut again = Content::default();
            again.write(&plain, 0);
            assert_eq!(again.fingerprint(), content.fingerprint(), "seed {seed}");
        }
    }

    #[test]
    fn a_terabyte_of_zeroes_costs_nothing() {
        let mut content = Content::default();
        content.allocate(1 << 40);
        content.zero(0, 1 << 40);
        content.write(b"end", (1 << 40) - 3);
        assert_eq!((content.len(), content.chunks.len()), (1 << 40, 1));
        assert_eq!(content.allocated.blocks, (1 << 40) / BLOCK);
        let mut buf = [9; 8];
        assert_eq!(content.read(&mut buf, (1 << 40) - 5), 5);
        assert_eq!(buf, [0, 0, b'e', b'n', b'd', 9, 9, 9]);
    }

    #[test]
    fn extents_agree_with_a_plain_set() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut extents, mut plain) = (Extents::default(), BTreeSet::new());
            for _ in 0..30 {
                let start = random.u64(0..50);
                let end = start + random.u64(0..10);
                let missing = (start..end).filter(|block| !plain.contains(block)).count();
                assert_eq!(extents.missing(start..end), missing as u64, "seed {seed}");
                if random.u8(0..8) == 0 {
                    extents.cut(start);
                    plain.retain(|block| *block < start);
                } else {
                    extents.insert(start..end);
                    plain.extend(start..end);
                }
                assert_eq!(extents.blocks, plain.len() as u64, "seed {seed}");
            }
        }
    }
}
