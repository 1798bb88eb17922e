//! A ring of the kernel with the writes that it has: owns [`Ring`], and with it all memory that the
//! kernel reads from.
//!
//! It calls the kernel through the `io-uring` crate. Only the queue calls it. One of the few files with
//! `unsafe`: what the kernel is given here must stay where it is until the kernel says that it is done.
//!
//! What makes it sound: a write moves into its slot before the kernel hears of it, and leaves the slot
//! only by the completion that the kernel reports for that slot, or by never having reached it. The slots
//! never move, and a write's bytes do not either, by the contract of [`WriteParts`](crate::disk::WriteParts).
//! Whoever drops the ring waits for every slot; where that cannot be done, the slots are leaked. A ring
//! that is leaked leaks its slots with it. The ring belongs to one thread, which the types ensure: it is
//! not `Send`.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use rustix::io::{Errno, ReadWriteFlags};

use super::waker::EventWaker;
use crate::disk::pwrite::{PwriteFile, no_room};
use crate::disk::{Completion, QueuedWrite};
use crate::limits::BLOCK_BYTES;

/// The mark of the event that ends a sleep; those of writes are the numbers of their slots.
const WAKE: u64 = u64::MAX;
/// How often in a row a write may end inside its first block, or be told to try again, before it is given
/// up.
const STALLS_MAX: u32 = 8;
/// `EPOLLIN`, for which the eventfd is polled.
const READABLE: u32 = 1;

/// A slice as the kernel takes it: a `struct iovec`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct IoVec {
    base: *const u8,
    len: usize,
}

const NO_BYTES: IoVec = IoVec { base: std::ptr::null(), len: 0 };

/// A place for a write, and what is left of it.
#[derive(Debug)]
struct Slot {
    /// There from the moment of its submission until its completion is taken.
    write: Option<QueuedWrite>,
    /// What is still to be written: slices of `write`'s parts, those with bytes first.
    left: [IoVec; 2],
    /// Where in the file the first of them goes.
    offset: u64,
    stalls: u32,
}

/// What has become of a write.
enum Progress {
    Ended(io::Result<()>),
    /// Something is left of it, or it has not begun.
    Goes,
}

/// See the module.
pub(super) struct Ring {
    io: IoUring,
    /// Made once and never resized, so that no slot ever moves: the kernel has addresses in them. Dropped
    /// by `drop` alone, and there only when the kernel has none of them any more.
    slots: ManuallyDrop<Vec<Slot>>,
    /// The slots without a write.
    free: Vec<usize>,
    waker: Arc<EventWaker>,
    /// The kernel refused a call for good. It is given no entry any more: those that it has not taken by
    /// then may name memory that is gone.
    broken: bool,
    /// Not `Send` and not `Sync`: the kernel takes calls from the thread that made the ring.
    _thread: PhantomData<*const ()>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("slots", &self.slots)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl Ring {
    /// A ring for `depth` writes at a time, which `waker` can end a sleep in.
    pub(super) fn new(depth: usize, waker: Arc<EventWaker>) -> io::Result<Self> {
        // One entry more, for the poll.
        let entries = u32::try_from(depth + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
        let io = setup(entries)?;
        let params = io.params();
        // Completions that are never lost, since Linux 5.5; and, for want of a flag of their own, polls
        // that stay armed, which came with this one in 5.13.
        if !params.is_feature_nodrop() || !params.is_feature_resource_tagging() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel is older than 5.13",
            ));
        }
        let slot = |_| Slot { write: None, left: [NO_BYTES; 2], offset: 0, stalls: 0 };
        let slots: Vec<Slot> = (0..depth).map(slot).collect();
        let free = (0..slots.len()).rev().collect();
        let slots = ManuallyDrop::new(slots);
        let mut ring = Self { io, slots, free, waker, broken: false, _thread: PhantomData };
        ring.arm()?;
        Ok(ring)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Starts a write that was checked. Where this fails, nothing of it is written or will be.
    pub(super) fn start(&mut self, write: QueuedWrite) -> io::Result<()> {
        if self.broken {
            return Err(broken());
        }
        let Some(index) = self.free.pop() else { return Err(io::ErrorKind::WouldBlock.into()) };
        let slot = &mut self.slots[index];
        slot.left = left(&write, 0);
        slot.offset = write.offset;
        slot.stalls = 0;
        slot.write = Some(write);
        let started = self.push_write(index).and_then(|()| self.flush());
        if let Err(error) = started {
            // Not in the queue, or in it and never to be taken out, since the ring is broken then; unless
            // the kernel has taken it before that showed.
            if self.io.submission().is_empty() && self.broken {
                return Ok(());
            }
            self.slots[index].write = None;
            self.free.push(index);
            return Err(error);
        }
        Ok(())
    }

    /// A write that has ended, if there is one already. Lets the others go on meanwhile.
    pub(super) fn reap(&mut self) -> Option<Completion> {
        loop {
            let mut next = self.io.completion().next();
            if next.is_none() && self.kernel_has_to_do() {
                // What this reports shows when the ring is asked to sleep.
                let _ = self.enter(0);
                next = self.io.completion().next();
            }
            let event = next?;
            if event.user_data() == WAKE {
                // It stays armed, but where completions came faster than they were taken.
                if !cqueue::more(event.flags()) && (event.result() < 0 || self.arm().is_err()) {
                    tracing::error!(result = event.result(), "the ring cannot be woken any more");
                    self.broken = true;
                }
                continue;
            }
            let index = usize::try_from(event.user_data()).ok()?;
            let ended = match self.slots.get_mut(index)?.advance(event.result()) {
                Progress::Ended(result) => result,
                Progress::Goes => match self.push_write(index).and_then(|()| self.flush()) {
                    Ok(()) => continue,
                    // As in `start`.
                    Err(_) if self.broken && self.io.submission().is_empty() => continue,
                    Err(error) => Err(error),
                },
            };
            let Some(write) = self.slots[index].write.take() else { continue };
            self.free.push(index);
            return Some(Completion { tag: write.tag, parts: write.parts, result: ended });
        }
    }

    /// Sleeps until something has completed, or the waker's event has come, or a signal.
    pub(super) fn sleep(&mut self) -> io::Result<()> {
        /// How long to leave a kernel alone that is short of something.
        const PAUSE: std::time::Duration = std::time::Duration::from_micros(100);
        if self.broken {
            return Err(broken());
        }
        match self.enter(1) {
            Err(Errno::INTR) | Ok(()) => Ok(()),
            Err(Errno::AGAIN | Errno::BUSY) => {
                std::thread::sleep(PAUSE);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks for an event whenever somebody writes to the waker's eventfd, again and again.
    fn arm(&mut self) -> io::Result<()> {
        let event = types::Fd(self.waker.event().as_raw_fd());
        let poll = opcode::PollAdd::new(event, READABLE).multi(true).build().user_data(WAKE);
        // SAFETY: a poll names no memory; its descriptor is open for as long as `waker` lives, and the
        // kernel has a reference of its own once it has taken the entry.
        unsafe { self.push(&poll) }?;
        self.flush()
    }

    /// Puts what is left of a slot's write into the queue. Fails for a write only whose file is not of
    /// this backend.
    fn push_write(&mut self, index: usize) -> io::Result<()> {
        let slot = &self.slots[index];
        let Some(write) = &slot.write else { return Err(broken()) };
        let file = types::Fd(PwriteFile::target(write.file.as_ref())?.as_raw_fd());
        let count = slot.left.iter().filter(|part| part.len > 0).count();
        let entry = if count == 0 {
            opcode::Nop::new().build()
        } else {
            let flags = ReadWriteFlags::DSYNC.bits().cast_signed();
            let count = u32::from(count > 0) + u32::from(count > 1);
            let writev = opcode::Writev::new(file, slot.left.as_ptr().cast(), count);
            writev.offset(slot.offset).rw_flags(flags).build()
        };
        // SAFETY: `left` is an array of `count` and more iovecs in a slot, and slots neither move nor go
        // while the kernel has an entry (`slots` is never resized, and `drop` waits or leaks). Each iovec
        // names bytes of `write.parts`, initialised, which stay where they are and as they are for as
        // long as that value lives, by the contract of `WriteParts`; and it lives in the slot until the
        // completion of this entry, of which there is one at a time for a slot. The kernel only reads
        // them. `write.file` is in the slot as well and keeps the descriptor open.
        unsafe { self.push(&entry.user_data(index as u64)) }
    }

    /// # Safety
    /// What the entry names stays valid until its completion was taken, or until the ring is broken with
    /// the entry still in the queue.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: by the caller's promise.
        let pushed = unsafe { self.io.submission().push(entry) };
        // There is room for one entry of each slot and the poll, and none has two.
        pushed.map_err(|_| io::Error::other("no room in the submission queue of the ring"))
    }

    /// Hands the kernel what is in the queue. Where the kernel is short of something for the moment the
    /// rest stays there, for the next sleep to hand over.
    fn flush(&mut self) -> io::Result<()> {
        loop {
            let before = self.io.submission().len();
            match self.enter(0) {
                // It takes no more than it can: the rest is for the next call.
                Ok(()) if self.io.submission().len() < before => {}
                Err(Errno::INTR) => {}
                Ok(()) | Err(Errno::AGAIN | Errno::BUSY) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if self.io.submission().is_empty() {
                return Ok(());
            }
        }
    }

    /// The one call of the kernel: hands over what is in the queue, lets it do what is due, and sleeps
    /// until there are `wanted` completions. An error that is not of the moment breaks the ring.
    fn enter(&mut self, wanted: u32) -> Result<(), Errno> {
        let entries = if self.broken { 0 } else { self.io.submission().len() };
        let entries = u32::try_from(entries).unwrap_or(u32::MAX);
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument but numbers. The entries that the kernel takes by it are valid, by the
        // contract of `push`; in a broken ring it takes none.
        let entered = unsafe { self.io.submitter().enter::<()>(entries, wanted, flags, None) };
        let Err(error) = entered else { return Ok(()) };
        let error = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        if !matches!(error, Errno::INTR | Errno::AGAIN | Errno::BUSY) {
            tracing::error!(%error, "the kernel refused a call of the ring");
            self.broken = true;
        }
        Err(error)
    }

    /// Whether completions are due that only a call puts into the queue, or entries were left over.
    fn kernel_has_to_do(&mut self) -> bool {
        let submission = self.io.submission();
        submission.taskrun() || submission.cq_overflow() || !submission.is_empty()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        while self.in_flight() > 0 {
            if self.reap().is_some() {
                continue;
            }
            if self.broken || self.sleep().is_err() {
                tracing::error!(
                    writes = self.in_flight(),
                    "the ring is broken: its memory is kept, since the kernel may be reading it"
                );
                return;
            }
        }
        // SAFETY: `drop` runs once, and nothing uses `slots` after it. No slot has a write, so the kernel
        // has no address in any.
        unsafe { ManuallyDrop::drop(&mut self.slots) };
    }
}

impl Slot {
    /// Takes in what the kernel says of the write.
    fn advance(&mut self, result: i32) -> Progress {
        let Some(write) = &self.write else { return Progress::Ended(Err(broken())) };
        let total: usize = self.left.iter().map(|part| part.len).sum();
        let written = match usize::try_from(result) {
            Ok(written) if written >= total => return Progress::Ended(Ok(())),
            Ok(0) => return Progress::Ended(Err(io::ErrorKind::WriteZero.into())),
            Ok(written) => written,
            Err(_) => match Errno::from_raw_os_error(result.saturating_neg()) {
                Errno::INTR | Errno::AGAIN => 0,
                error => return Progress::Ended(Err(no_room(error))),
            },
        };
        // The rest begins on a block again: what a short write left of one is written once more.
        let whole = written - written % BLOCK_BYTES;
        if whole == 0 {
            self.stalls += 1;
            if self.stalls > STALLS_MAX {
                return Progress::Ended(Err(io::ErrorKind::WriteZero.into()));
            }
            return Progress::Goes;
        }
        self.stalls = 0;
        self.offset += whole as u64;
        let done = usize::try_from(self.offset - write.offset).unwrap_or(usize::MAX);
        self.left = left(write, done);
        Progress::Goes
    }
}

/// The parts of a write behind its first `done` bytes, those with bytes first.
fn left(write: &QueuedWrite, mut done: usize) -> [IoVec; 2] {
    let mut left = [NO_BYTES; 2];
    let mut count = 0;
    for part in write.parts.parts() {
        let skip = done.min(part.len());
        done -= skip;
        let rest = &part[skip..];
        if !rest.is_empty() {
            left[count] = IoVec { base: rest.as_ptr(), len: rest.len() };
            count += 1;
        }
    }
    left
}

/// Makes a ring with what this kernel has of: completions that are run only when they are asked for, by
/// the one thread that asks.
fn setup(entries: u32) -> io::Result<IoUring> {
    /// Room for completions: more than can be due at once, so that the kernel need not keep any aside.
    const COMPLETIONS_MIN: u32 = 64;
    let builder = || {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_cqsize((entries * 4).max(COMPLETIONS_MIN).next_power_of_two());
        builder
    };
    let mut best = builder();
    best.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let mut older = builder();
    older.setup_coop_taskrun().setup_taskrun_flag();
    for flags in [best, older] {
        match flags.build(entries) {
            // The kernel does not know a flag.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {}
            made => return made,
        }
    }
    builder().build(entries)
}

fn broken() -> io::Error {
    io::Error::other("the ring of the disk does not work any more")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::disk::contract::temp_dir;
    use crate::disk::{AlignedBuf, Disk, PwriteDisk, WriteMode, WriteParts};

    /// Two blocks and one, counted when they are dropped.
    #[derive(Debug)]
    struct Counted(AlignedBuf, Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    // SAFETY: as for `AlignedBuf`, which it never gives out for writing.
    unsafe impl WriteParts for Counted {
        fn parts(&self) -> [&[u8]; 2] {
            let (front, back) = self.0.split_at(2 * BLOCK_BYTES);
            [front, back]
        }
    }

    fn write(disk: &dyn Disk, dropped: &Arc<AtomicUsize>) -> QueuedWrite {
        let file = disk.open("a", crate::disk::Access::Write);
        let file = file.or_else(|_| disk.create("a")).unwrap();
        let parts = Counted(AlignedBuf::zeroed(3 * BLOCK_BYTES).unwrap(), Arc::clone(dropped));
        QueuedWrite { file, offset: 8192, parts: Box::new(parts), tag: 7 }
    }

    #[test]
    fn a_short_write_is_continued_on_a_block_and_given_up_where_it_stalls() {
        let write = write(&crate::disk::MemoryDisk::new(), &Arc::default());
        let start = write.parts.parts()[0].as_ptr();
        let whole = left(&write, 0);
        let mut slot = Slot { left: whole, offset: write.offset, write: Some(write), stalls: 0 };
        let at = |slot: &Slot| {
            let bytes: usize = slot.left.iter().map(|part| part.len).sum();
            (slot.left[0].base.addr() - start.addr(), bytes, slot.offset)
        };
        assert!(matches!(slot.advance(5000), Progress::Goes));
        assert_eq!(at(&slot), (4096, 8192, 12_288));
        assert!(matches!(slot.advance(4096), Progress::Goes));
        assert_eq!(at(&slot), (8192, 4096, 16_384));
        for _ in 0..STALLS_MAX {
            assert!(matches!(slot.advance(100), Progress::Goes));
            assert_eq!(at(&slot), (8192, 4096, 16_384));
        }
        let Progress::Ended(Err(error)) = slot.advance(100) else { panic!("it goes on") };
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
        slot.stalls = 0;
        let errors = [(Errno::INTR, None), (Errno::AGAIN, None), (Errno::IO, Some(5))];
        for (errno, reported) in errors {
            match slot.advance(-errno.raw_os_error()) {
                Progress::Goes => assert_eq!(reported, None),
                Progress::Ended(result) => {
                    assert_eq!(result.unwrap_err().raw_os_error(), reported);
                }
            }
        }
        let Progress::Ended(Err(full)) = slot.advance(-Errno::DQUOT.raw_os_error()) else {
            panic!("it goes on")
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(matches!(slot.advance(4096), Progress::Ended(Ok(()))));
    }

    #[test]
    fn a_ring_that_broke_takes_no_write_and_frees_nothing_that_the_kernel_may_read() {
        let temp = temp_dir();
        let disk = match PwriteDisk::options().mode(WriteMode::Uring).open(temp.path()) {
            Err(error) => return println!("skipped: {error}"),
            Ok(disk) => disk,
        };
        let dropped = Arc::new(AtomicUsize::new(0));
        let waker = Arc::new(EventWaker::new().unwrap());
        let mut ring = Ring::new(2, waker).unwrap();
        ring.start(write(&disk, &dropped)).unwrap();
        ring.broken = true;
        assert!(ring.start(write(&disk, &dropped)).is_err());
        assert_eq!((dropped.load(Ordering::Relaxed), ring.in_flight()), (1, 1));
        assert!(ring.sleep().is_err());
        // Whether the kernel was done by then or not decides whether the other one is freed.
        let done = ring.reap().is_some();
        drop(ring);
        assert_eq!(dropped.load(Ordering::Relaxed), 1 + usize::from(done));
    }
}
