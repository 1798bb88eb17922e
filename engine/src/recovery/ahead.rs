//! Reading the tail's files before their bytes are asked for, several pieces at a time.
//!
//! A device gives its bandwidth only to several large reads at once, and while it works on them, what was
//! read is checked and indexed. The order in which pieces are needed is known from the start: file by file,
//! each from its beginning. Threads do the reading where there is much to read; a small tail is read by
//! whoever needs it, without any thread. They only read, and have ended when recovery has looked at
//! everything. Calls `disk`; the segment readers call it.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::commit::ReadChunk;
use crate::disk::{AlignedBuf, DiskFile, read_full_at};
use crate::format::bytes::is_zero;

/// How much of a file is read by one call.
pub(super) const PIECE: u64 = 2 << 20;
/// How many pieces are being read, or were read and not yet asked for.
const PIECES_AHEAD: usize = 6;
/// How many of them are being read at once.
const READERS: usize = 4;
/// From how many bytes on threads pay.
const BYTES_MIN: u64 = 4 * PIECE;

/// What a piece is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// To take its batches: its memory will be kept.
    Batches,
    /// To see what stands there.
    Look,
}

#[derive(Debug)]
enum Memory {
    Kept(ReadChunk),
    Scratch(AlignedBuf),
}

/// A part of a file, from a multiple of [`PIECE`] to the next, or to the end of the file.
#[derive(Debug)]
pub(super) struct Piece {
    start: u64,
    /// How many bytes were read.
    filled: usize,
    memory: Memory,
    /// Whether all of them are zero.
    pub zero: bool,
}

impl Piece {
    /// Reads the piece that begins at `start` of a file of `bytes`.
    pub(super) fn read(
        file: &dyn DiskFile,
        start: u64,
        bytes: u64,
        used_as: Use,
        scratch: Option<AlignedBuf>,
    ) -> io::Result<Self> {
        let length = usize::try_from(bytes.saturating_sub(start).min(PIECE));
        let length = length.map_err(io::Error::other)?.next_multiple_of(crate::limits::BLOCK_BYTES);
        let (memory, filled) = match used_as {
            Use::Batches => {
                let read = |memory: &mut [u8]| read_full_at(file, memory, start);
                let chunk = ReadChunk::read(start, length, read)?;
                let filled = chunk.end() - start;
                (Memory::Kept(chunk), usize::try_from(filled).map_err(io::Error::other)?)
            }
            Use::Look => {
                let fitting = scratch.filter(|scratch| scratch.len() >= length);
                let mut scratch = fitting.map_or_else(|| AlignedBuf::zeroed(length), Ok)?;
                let filled = read_full_at(file, &mut scratch[..length], start)?;
                (Memory::Scratch(scratch), filled)
            }
        };
        let mut piece = Self { start, filled, memory, zero: false };
        piece.zero = is_zero(piece.from(start));
        Ok(piece)
    }

    fn end(&self) -> u64 {
        self.start + self.filled as u64
    }

    pub(super) fn holds(&self, offset: u64) -> bool {
        (self.start..self.end()).contains(&offset)
    }

    pub(super) fn holds_all(&self, offset: u64, end: u64) -> bool {
        self.start <= offset && offset <= end && end <= self.end()
    }

    /// Whether its memory can be used like this.
    pub(super) fn serves(&self, used_as: Use) -> bool {
        used_as == Use::Look || self.chunk().is_some()
    }

    /// The memory that can be kept, if it is such.
    pub(super) fn chunk(&self) -> Option<&ReadChunk> {
        match &self.memory {
            Memory::Kept(chunk) => Some(chunk),
            Memory::Scratch(_) => None,
        }
    }

    /// Its bytes from this offset in the file on.
    pub(super) fn from(&self, offset: u64) -> &[u8] {
        let offset = offset.clamp(self.start, self.end());
        match &self.memory {
            Memory::Kept(chunk) => chunk.bytes(offset..self.end()).unwrap_or_default(),
            Memory::Scratch(scratch) => {
                let from = usize::try_from(offset - self.start).unwrap_or(self.filled);
                &scratch[from..self.filled]
            }
        }
    }
}

/// A file that will be read in order.
#[derive(Debug)]
pub(super) struct Planned {
    pub number: u64,
    pub file: Arc<dyn DiskFile>,
    /// The length of the file.
    pub bytes: u64,
    /// Up to where it will be read.
    pub end: u64,
}

impl Planned {
    fn pieces(&self) -> u64 {
        self.end.min(self.bytes).div_ceil(PIECE)
    }
}

#[derive(Debug)]
struct Job {
    file: Arc<dyn DiskFile>,
    start: u64,
    bytes: u64,
    used_as: Use,
    scratch: Option<AlignedBuf>,
    result: SyncSender<io::Result<Piece>>,
}

/// A piece that was asked for.
#[derive(Debug)]
struct Posted {
    /// Its number among all pieces.
    piece: u64,
    result: Receiver<io::Result<Piece>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    plan: Vec<Planned>,
    /// None where nobody reads ahead.
    jobs: Option<Sender<Job>>,
    readers: Vec<JoinHandle<()>>,
    /// Set when nothing more is wanted.
    stop: Arc<AtomicBool>,
    /// The first piece that was not posted yet; pieces are numbered over all files.
    next: u64,
    posted: VecDeque<Posted>,
    scratch: Vec<AlignedBuf>,
}

impl Ahead {
    /// Begins to read these files, if they are large enough.
    pub(super) fn begin(&mut self, plan: Vec<Planned>) {
        let bytes: u64 = plan.iter().map(|file| file.end).sum();
        if bytes < BYTES_MIN {
            return;
        }
        let (jobs, source) = channel();
        let source = Arc::new(Mutex::new(source));
        for _ in 0..READERS {
            let (source, stop) = (Arc::clone(&source), Arc::clone(&self.stop));
            let spawned = std::thread::Builder::new()
                .name("stratalog-open".into())
                .spawn(move || work(&source, &stop));
            match spawned {
                Ok(reader) => self.readers.push(reader),
                // It only makes opening faster.
                Err(error) => tracing::debug!(%error, "a thread that reads ahead was not started"),
            }
        }
        if self.readers.is_empty() {
            return;
        }
        self.plan = plan;
        self.jobs = Some(jobs);
        self.post(Use::Batches);
    }

    /// Whether threads are at work.
    pub(super) fn is_running(&self) -> bool {
        self.jobs.is_some()
    }

    /// The piece that begins at `start` of the file of this segment; `None` where it was not planned, or
    /// was passed already. What stands before it in the plan is not read any more.
    pub(super) fn take(
        &mut self,
        segment: u64,
        start: u64,
        used_as: Use,
    ) -> Option<io::Result<Piece>> {
        let piece = self.number_of(segment, start)?;
        while self.posted.front().is_some_and(|posted| posted.piece < piece) {
            self.posted.pop_front();
        }
        let first = self.posted.front().map_or(self.next, |posted| posted.piece);
        if first > piece {
            return None;
        }
        self.next = self.next.max(piece);
        self.post(used_as);
        let posted = self.posted.pop_front()?;
        self.post(used_as);
        let read = posted.result.recv();
        let read = read.unwrap_or_else(|_| Err(io::Error::other("a thread that reads panicked")));
        // What was read ahead of knowing that nothing of it would be kept serves for looking only.
        read.map(|piece| piece.serves(used_as).then_some(piece)).transpose()
    }

    /// Takes back the memory of a piece that nobody needs any more.
    pub(super) fn reuse(&mut self, piece: Piece) {
        if let Memory::Scratch(scratch) = piece.memory
            && self.scratch.len() < PIECES_AHEAD
        {
            self.scratch.push(scratch);
        }
    }

    fn number_of(&self, segment: u64, start: u64) -> Option<u64> {
        let mut first = 0;
        for file in &self.plan {
            let inside = start / PIECE;
            if file.number == segment {
                return (inside < file.pieces()).then_some(first + inside);
            }
            first += file.pieces();
        }
        None
    }

    /// Has the next pieces read, as many as may be.
    fn post(&mut self, used_as: Use) {
        let Some(jobs) = &self.jobs else { return };
        while self.posted.len() < PIECES_AHEAD {
            let mut inside = self.next;
            let found = self.plan.iter().find(|file| {
                let here = inside < file.pieces();
                inside -= if here { 0 } else { file.pieces() };
                here
            });
            let Some(file) = found else { return };
            let scratch = if used_as == Use::Look { self.scratch.pop() } else { None };
            let (sender, result) = sync_channel(1);
            let job = Job {
                file: Arc::clone(&file.file),
                start: inside * PIECE,
                bytes: file.bytes,
                used_as,
                scratch,
                result: sender,
            };
            if jobs.send(job).is_err() {
                return;
            }
            self.posted.push_back(Posted { piece: self.next, result });
            self.next += 1;
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        self.posted.clear();
        for reader in self.readers.drain(..) {
            // It has panicked: whoever waited for its piece was told.
            let _ = reader.join();
        }
    }
}

/// A thread that reads, until there is nothing more to be asked for.
fn work(source: &Mutex<Receiver<Job>>, stop: &AtomicBool) {
    loop {
        let job = source.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { file, start, bytes, used_as, scratch, result }) = job else { return };
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let piece = Piece::read(&*file, start, bytes, used_as, scratch);
        // The handle holds the lock of its file: it is gone before the piece is there.
        drop(file);
        // Nobody may be waiting for it any more.
        let _ = result.send(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Disk, MemoryDisk, write_all_at};

    /// A file whose every block is filled with its number.
    fn file(disk: &MemoryDisk, name: &str, bytes: u64) -> Arc<dyn DiskFile> {
        let mut memory = AlignedBuf::zeroed(usize::try_from(bytes).unwrap()).unwrap();
        for (number, block) in memory.chunks_mut(4096).enumerate() {
            block.fill(u8::try_from(number % 251).unwrap());
        }
        let file = disk.create(name).unwrap();
        write_all_at(&*file, &memory, 0).unwrap();
        file
    }

    fn planned(number: u64, file: &Arc<dyn DiskFile>) -> Planned {
        let bytes = file.len().unwrap();
        Planned { number, file: Arc::clone(file), bytes, end: bytes }
    }

    fn take(ahead: &mut Ahead, number: u64, start: u64, used_as: Use) -> Option<Piece> {
        ahead.take(number, start, used_as).transpose().unwrap()
    }

    #[test]
    fn every_piece_of_every_file_comes_whole_and_in_order() {
        let disk = MemoryDisk::new();
        let files = [file(&disk, "a", 5 * PIECE), file(&disk, "b", 3 * PIECE + 4096)];
        let mut ahead = Ahead::default();
        ahead.begin(vec![planned(7, &files[0]), planned(8, &files[1])]);
        assert!(ahead.is_running());
        for used_as in [Use::Batches, Use::Look] {
            let number = if used_as == Use::Batches { 7 } else { 8 };
            let bytes = if number == 7 { 5 * PIECE } else { 3 * PIECE + 4096 };
            for start in (0..bytes).step_by(usize::try_from(PIECE).unwrap()) {
                let piece = take(&mut ahead, number, start, used_as).unwrap();
                let read = piece.from(start);
                assert_eq!(read.len() as u64, PIECE.min(bytes - start));
                for (block, found) in read.chunks(4096).enumerate() {
                    let expected = (start / 4096 + block as u64) % 251;
                    assert!(found.iter().all(|byte| u64::from(*byte) == expected));
                }
                ahead.reuse(piece);
            }
        }
    }

    #[test]
    fn what_was_passed_or_not_planned_is_for_the_caller_to_read() {
        let disk = MemoryDisk::new();
        let file = file(&disk, "a", 6 * PIECE);
        let mut ahead = Ahead::default();
        ahead.begin(vec![Planned { end: 5 * PIECE, ..planned(7, &file) }]);
        assert!(take(&mut ahead, 7, 3 * PIECE, Use::Look).is_some());
        assert!(take(&mut ahead, 7, 2 * PIECE, Use::Look).is_none());
        assert!(take(&mut ahead, 7, 3 * PIECE, Use::Look).is_none());
        assert!(take(&mut ahead, 7, 4 * PIECE, Use::Look).is_some());
        assert!(take(&mut ahead, 7, 5 * PIECE, Use::Look).is_none());
        assert!(take(&mut ahead, 9, 0, Use::Look).is_none());
    }

    #[test]
    fn a_piece_of_zeroes_is_known_as_such() {
        let disk = MemoryDisk::new();
        let file = disk.create("a").unwrap();
        file.allocate(6 * PIECE).unwrap();
        let mut block = AlignedBuf::zeroed(4096).unwrap();
        block[4095] = 1;
        write_all_at(&*file, &block, 3 * PIECE - 4096).unwrap();
        let mut ahead = Ahead::default();
        ahead.begin(vec![planned(7, &file)]);
        let zero = (0..6).map(|number| {
            take(&mut ahead, 7, number * PIECE, Use::Look).is_some_and(|piece| piece.zero)
        });
        assert_eq!(zero.collect::<Vec<_>>(), [true, true, false, true, true, true]);
    }

    #[test]
    fn a_failed_read_is_reported_when_its_piece_is_asked_for() {
        use crate::disk::{Fault, FaultError, FaultPlan, OpKind};
        let disk = MemoryDisk::new();
        let file = file(&disk, "a", 6 * PIECE);
        disk.set_faults(FaultPlan::new().inject(
            OpKind::Read,
            "a",
            0,
            u64::MAX,
            Fault::Fail(FaultError::Io),
        ));
        let mut ahead = Ahead::default();
        ahead.begin(vec![planned(7, &file)]);
        assert!(ahead.take(7, 0, Use::Batches).unwrap().is_err());
    }

    #[test]
    fn a_small_tail_starts_no_thread() {
        let disk = MemoryDisk::new();
        let file = file(&disk, "a", PIECE);
        let mut ahead = Ahead::default();
        ahead.begin(vec![planned(7, &file)]);
        assert!(!ahead.is_running());
        assert!(take(&mut ahead, 7, 0, Use::Batches).is_none());
    }
}
