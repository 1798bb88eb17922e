//! Memory of chunks that nobody holds any more, kept for the next ones.
//!
//! A log that grows by some hundred MiB a second would otherwise ask the operating system for as much
//! zeroed memory, page by page. Owned by the store; chunks give their memory back when the last segment
//! or reader that holds them lets go. What it gives out holds old bytes: whoever takes it writes every
//! byte that a file gets. It also knows how much of what it gave out is there for readers only.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::disk::Blocks;
use crate::limits::{CHUNK_BYTES, POOLED_CHUNKS_MAX};
use crate::sync::{Mutex, Watched, lock};

/// Memory for a chunk.
#[derive(Debug)]
pub(crate) struct Memory {
    pub blocks: Blocks,
    pub watched: Watched,
}

impl Memory {
    fn new(blocks: Blocks) -> Self {
        let watched = Watched::new(blocks.len());
        Self { blocks, watched }
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct ChunkPool {
    free: Mutex<Vec<Memory>>,
    /// Bytes of all chunks that there are, and of those that segments hold: the others are there for readers only.
    alive: AtomicU64,
    held: AtomicU64,
}

impl std::fmt::Debug for ChunkPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkPool").field("free", &lock(&self.free).len()).finish_non_exhaustive()
    }
}

impl ChunkPool {
    /// Memory of at least `bytes`.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`].
    pub(crate) fn take(&self, bytes: usize) -> io::Result<Memory> {
        let memory = if bytes == CHUNK_BYTES {
            // Under the lock, so that there is a new pair for two who come at once.
            let mut free = lock(&self.free);
            if let Some(memory) = free.pop() {
                memory
            } else {
                // In large pages, readers miss fewer of them.
                let [first, second] = Blocks::zeroed_pair(bytes)?.map(Memory::new);
                free.push(second);
                first
            }
        } else {
            Memory::new(Blocks::zeroed(bytes)?)
        };
        self.alive.fetch_add(memory.blocks.len() as u64, Ordering::Relaxed);
        Ok(memory)
    }

    /// A segment holds a chunk of so many bytes, which was taken from here.
    pub(super) fn holds(&self, bytes: u64) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// It does no more.
    pub(super) fn lets_go(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many bytes are in memory for readers only: of segments that were sealed since.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        // A chunk is alive for as long as it is held.
        let held = self.held.load(Ordering::Relaxed);
        self.alive.load(Ordering::Relaxed).saturating_sub(held)
    }

    /// Keeps memory for the next chunk, within its bound.
    pub(crate) fn give(&self, memory: Memory) {
        self.alive.fetch_sub(memory.blocks.len() as u64, Ordering::Relaxed);
        if memory.blocks.len() == CHUNK_BYTES {
            let mut free = lock(&self.free);
            if free.len() < POOLED_CHUNKS_MAX {
                free.push(memory);
            }
        }
    }
}
