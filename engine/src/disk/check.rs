//! What every backend refuses before anything happens: owns the checks of names and of alignment.
//!
//! It calls nothing. Every backend calls it first in each operation, so that all refuse the same things.

use std::io::{self, IoSlice};

use crate::limits::{BLOCK, BLOCK_BYTES};

/// The longest name that Linux file systems take, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Refuses a name that is not one plain entry of the directory.
pub(super) fn name(name: &str) -> io::Result<()> {
    let plain = !matches!(name, "" | "." | "..")
        && !name.contains(['/', '\0'])
        && name.len() <= NAME_BYTES_MAX;
    if plain { Ok(()) } else { Err(refused("a file name must be one plain directory entry")) }
}

/// Refuses a range that does not consist of whole blocks, or that ends behind what a file can have.
pub(super) fn range(offset: u64, bytes: u64) -> io::Result<()> {
    if !offset.is_multiple_of(BLOCK) || !bytes.is_multiple_of(BLOCK) {
        return Err(refused("offset and length must be multiples of a block"));
    }
    match offset.checked_add(bytes) {
        Some(end) if end <= i64::MAX.unsigned_abs() => Ok(()),
        _ => Err(refused("the range ends behind what a file can have")),
    }
}

/// Refuses a buffer whose address or place in the file is not on a block.
pub(super) fn buffer(buf: &[u8], offset: u64) -> io::Result<()> {
    if !buf.as_ptr().addr().is_multiple_of(BLOCK_BYTES) && !buf.is_empty() {
        return Err(refused("a buffer must begin at a multiple of a block"));
    }
    range(offset, buf.len() as u64)
}

/// Refuses buffers as [`buffer`] does, each and all of them together; gives the sum of their lengths.
pub(super) fn buffers(bufs: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
    let mut total = 0_usize;
    for buf in bufs {
        buffer(buf, 0)?;
        total = total.checked_add(buf.len()).ok_or_else(|| refused("too many bytes at once"))?;
    }
    range(offset, total as u64)?;
    Ok(total)
}

/// Refuses a length that a file cannot have.
pub(super) fn length(bytes: u64) -> io::Result<()> {
    if bytes <= i64::MAX.unsigned_abs() { Ok(()) } else { Err(refused("no file is that long")) }
}

/// Refuses a number of writes in flight that no queue has.
pub(super) fn depth(depth: usize) -> io::Result<()> {
    /// A ring takes some times as many entries, and what one takes is bounded.
    const DEPTH_MAX: usize = 1024;
    if (1..=DEPTH_MAX).contains(&depth) {
        Ok(())
    } else {
        Err(refused("a queue has 1 to 1024 writes in flight"))
    }
}

/// Refuses a change through what was opened for reading only.
pub(super) fn writable(writable: bool) -> io::Result<()> {
    if writable {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "opened for reading only"))
    }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
