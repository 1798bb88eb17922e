//! Memory of chunks that nobody holds any more, kept for the next ones.
//!
//! A log that grows by some hundred MiB a second would otherwise ask the operating system for as much
//! zeroed memory, page by page. Owned by the store; chunks give their memory back when the last segment
//! or reader that holds them lets go. What it gives out holds old bytes: whoever takes it writes every
//! byte that a file gets.

use std::io;

use crate::disk::Blocks;
use crate::limits::{CHUNK_BYTES, POOLED_CHUNKS_MAX};
use crate::sync::{Mutex, Watched, lock};

/// Memory for a chunk.
#[derive(Debug)]
pub(crate) struct Memory {
    pub blocks: Blocks,
    pub watched: Watched,
}

/// See the module.
#[derive(Default)]
pub(crate) struct ChunkPool(Mutex<Vec<Memory>>);

impl std::fmt::Debug for ChunkPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkPool").field("free", &lock(&self.0).len()).finish()
    }
}

impl ChunkPool {
    /// Memory of at least `bytes`.
    ///
    /// # Errors
    /// [`io::ErrorKind::OutOfMemory`].
    pub(crate) fn take(&self, bytes: usize) -> io::Result<Memory> {
        if bytes == CHUNK_BYTES
            && let Some(memory) = lock(&self.0).pop()
        {
            return Ok(memory);
        }
        Ok(Memory { blocks: Blocks::zeroed(bytes)?, watched: Watched::new(bytes) })
    }

    /// Keeps memory for the next chunk, within its bound.
    pub(crate) fn give(&self, memory: Memory) {
        if memory.blocks.len() == CHUNK_BYTES {
            let mut free = lock(&self.0);
            if free.len() < POOLED_CHUNKS_MAX {
                free.push(memory);
            }
        }
    }
}
