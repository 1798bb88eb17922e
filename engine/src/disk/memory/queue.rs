//! Several durable writes at a time on a `MemoryDisk`: owns the queue that it offers.
//!
//! It calls the disk's state. A write begins, for the trace and for the faults, when it is submitted, and
//! ends when `wait` returns it: in between it is in flight, and a crash may keep any part of it. Which one
//! ends next is decided by the seed, so that they end in other orders than they began.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::MemoryDisk;
use super::faults::OpKind;
use super::file::{Begun, MemoryFile};
use super::trace::Change;
use crate::disk::{Completion, QueueWaker, QueuedWrite, WriteQueue, check};
use crate::limits::BLOCK_BYTES;

/// How long a write may be under way while others could join it: often not at all. The longest is enough
/// for a thread that has to be scheduled first.
const PATIENCE: [Duration; 4] =
    [Duration::ZERO, Duration::ZERO, Duration::from_micros(100), Duration::from_millis(1)];
/// How often in a row a write may end inside its first block before it is given up.
const STALLS_MAX: u32 = 8;

#[derive(Debug)]
pub(super) struct MemoryQueue {
    disk: MemoryDisk,
    depth: usize,
    random: fastrand::Rng,
    flying: VecDeque<Flying>,
    waker: Arc<MemoryWaker>,
}

/// A write under way.
#[derive(Debug)]
struct Flying {
    write: QueuedWrite,
    /// What is still to be written.
    left: Arc<[u8]>,
    offset: u64,
    stalls: u32,
    begun: io::Result<Begun>,
}

impl MemoryQueue {
    pub(super) fn new(disk: MemoryDisk, depth: usize, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { disk, depth, random, flying: VecDeque::new(), waker: Arc::default() }
    }

    /// Ends one of the writes, or a part of it; gives it where nothing is left to be done.
    fn end_one(&mut self) -> Option<Completion> {
        let chosen = self.random.usize(..self.flying.len());
        let mut flying = self.flying.swap_remove_back(chosen)?;
        let file = MemoryFile::of(flying.write.file.as_ref()).ok()?;
        let result = flying.begun.and_then(|begun| file.end(&mut self.disk.state(), begun));
        let left = flying.left.len();
        let result = match result {
            Ok(written) if written >= left => Ok(()),
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                // The rest begins on a block again, as it must on a device.
                let whole = written - written % BLOCK_BYTES;
                flying.stalls = if whole == 0 { flying.stalls + 1 } else { 0 };
                if flying.stalls <= STALLS_MAX {
                    flying.left = flying.left[whole..].into();
                    flying.offset += whole as u64;
                    flying.begun = begin(file, &flying.left, flying.offset);
                    self.flying.push_back(flying);
                    return None;
                }
                Err(io::ErrorKind::WriteZero.into())
            }
            Err(error) => Err(error),
        };
        Some(Completion { tag: flying.write.tag, parts: flying.write.parts, result })
    }
}

fn begin(file: &MemoryFile, data: &Arc<[u8]>, offset: u64) -> io::Result<Begun> {
    let change = Change::Write { offset, data: Arc::clone(data), mask: None };
    file.begin(&mut file.disk.state(), OpKind::WriteDurable, change, data.len())
}

impl WriteQueue for MemoryQueue {
    fn submit(&mut self, write: QueuedWrite) -> io::Result<()> {
        let parts = write.parts.parts();
        check::buffers(&parts.map(IoSlice::new), write.offset)?;
        let file = MemoryFile::of(write.file.as_ref())?;
        if !Arc::ptr_eq(&file.disk.state, &self.disk.state) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file of another disk"));
        }
        file.writable()?;
        if self.flying.len() >= self.depth {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let left: Arc<[u8]> = parts.concat().into();
        let offset = write.offset;
        let begun = if left.is_empty() { Ok(Begun::nothing()) } else { begin(file, &left, offset) };
        match begun {
            // A device may refuse at once or later.
            Err(error) if self.random.bool() => return Err(error),
            begun => self.flying.push_back(Flying { write, left, offset, stalls: 0, begun }),
        }
        let mut state = self.disk.state();
        state.queued_most = state.queued_most.max(self.flying.len());
        Ok(())
    }

    fn wait(&mut self) -> io::Result<Option<Completion>> {
        loop {
            if self.flying.is_empty() {
                self.waker.wait();
                return Ok(None);
            }
            // Now and then it takes a while, in which others may join it.
            let chosen = PATIENCE[self.random.usize(..PATIENCE.len())];
            let patience = if self.flying.len() < self.depth { chosen } else { Duration::ZERO };
            // A wake may come before or after the end of a write. It stays until it is taken.
            if self.waker.woken(patience) && self.random.bool() {
                self.waker.take();
                return Ok(None);
            }
            if let Some(completion) = self.end_one() {
                return Ok(Some(completion));
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.flying.len()
    }

    fn waker(&self) -> Arc<dyn QueueWaker> {
        Arc::clone(&self.waker) as Arc<dyn QueueWaker>
    }
}

impl Drop for MemoryQueue {
    fn drop(&mut self) {
        while !self.flying.is_empty() {
            self.end_one();
        }
    }
}

#[derive(Debug, Default)]
struct MemoryWaker {
    woken: Mutex<bool>,
    change: Condvar,
}

impl MemoryWaker {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until there was a wake.
    fn wait(&self) {
        let woken = self.change.wait_while(self.lock(), |woken| !*woken);
        *woken.unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Whether there was a wake, or comes one so soon.
    fn woken(&self, patience: Duration) -> bool {
        let mut woken = self.lock();
        if !*woken && patience > Duration::ZERO {
            let waited = self.change.wait_timeout_while(woken, patience, |woken| !*woken);
            woken = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *woken
    }

    fn take(&self) {
        *self.lock() = false;
    }
}

impl QueueWaker for MemoryWaker {
    fn wake(&self) {
        *self.lock() = true;
        self.change.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::disk::{
        AlignedBuf, Disk, DiskFile, Exploration, Fault, FaultError, FaultPlan, WriteParts as _,
    };
    use crate::limits::BLOCK;

    fn write(file: &Arc<dyn DiskFile>, blocks: usize, tag: u8, block: u64) -> QueuedWrite {
        let mut parts = AlignedBuf::zeroed(blocks * BLOCK_BYTES).unwrap();
        parts.fill(tag);
        assert_eq!(parts.parts()[0].len(), blocks * BLOCK_BYTES);
        let (file, parts) = (Arc::clone(file), Box::new(parts));
        QueuedWrite { file, offset: block * BLOCK, parts, tag: u64::from(tag) }
    }

    /// A recording disk with a queue and a file of four blocks.
    fn recording(seed: u64) -> (MemoryDisk, Arc<dyn DiskFile>, Box<dyn WriteQueue>) {
        let disk = MemoryDisk::with_queue(seed);
        let file = disk.create("a").unwrap();
        file.zero(0, 4 * BLOCK).unwrap();
        disk.start_recording();
        let queue = disk.write_queue(4).unwrap().unwrap();
        (disk, file, queue)
    }

    /// What one write with this fault becomes: what is reported, and the first bytes of the four blocks.
    fn struck(fault: Fault) -> (io::Result<()>, Vec<u8>) {
        let (disk, file, mut queue) = recording(1);
        disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "a", 0, 1, fault));
        let result = match queue.submit(write(&file, 2, 1, 0)) {
            Err(error) => Err(error),
            Ok(()) => queue.wait().unwrap().unwrap().result,
        };
        let content = disk.read_file("a");
        (result, content.chunks(BLOCK_BYTES).map(|block| block[0]).collect())
    }

    #[test]
    fn a_crash_keeps_any_subset_of_the_writes_in_flight() {
        let (disk, file, mut queue) = recording(5);
        for tag in 1..=4 {
            queue.submit(write(&file, 1, tag, u64::from(tag) - 1)).unwrap();
            assert_eq!(disk.queued_most(), usize::from(tag));
        }
        while queue.in_flight() > 0 {
            if let Some(ended) = queue.wait().unwrap() {
                ended.result.unwrap();
                disk.mark(ended.tag);
            }
        }
        let (mut most, mut subsets) = (0, BTreeSet::new());
        for point in disk.trace().crash_points() {
            most = most.max(point.in_flight());
            assert_eq!(point.writes_under_way().count(), point.in_flight());
            for state in point.states(&Exploration::default()) {
                let content = state.disk().read_file("a");
                let blocks: Vec<&[u8]> = content.chunks(BLOCK_BYTES).collect();
                let whole = |tag: &u8| blocks[usize::from(*tag) - 1].iter().all(|byte| byte == tag);
                for mark in state.marks() {
                    assert!(whole(&u8::try_from(*mark).unwrap()), "lost what had ended: {state}");
                }
                subsets.insert((1..=4).filter(whole).collect::<Vec<u8>>());
            }
        }
        assert_eq!((most, subsets.len()), (4, 16));
    }

    #[test]
    fn writes_end_in_an_order_that_the_seed_decides() {
        let order = |seed| -> Vec<u64> {
            let (_disk, file, mut queue) = recording(seed);
            for tag in 1..=4 {
                queue.submit(write(&file, 1, tag, 0)).unwrap();
            }
            (0..4).map(|_| queue.wait().unwrap().unwrap().tag).collect()
        };
        let orders: BTreeSet<_> = (0..50).map(order).collect();
        assert!(orders.len() > 10, "{orders:?}");
        assert_eq!(order(9), order(9));
    }

    #[test]
    fn faults_strike_queued_writes_as_they_strike_others() {
        let error = FaultError::NoSpace;
        let (result, content) = struck(Fault::Fail(error));
        assert_eq!((result.unwrap_err().kind(), content), (io::ErrorKind::StorageFull, vec![0; 4]));
        let (result, content) = struck(Fault::FailTorn { error, seed: 4 });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(content[2..], [0, 0]);
        let (result, content) = struck(Fault::Lose);
        assert!(result.is_ok() && content == [0; 4]);
        let (result, content) = struck(Fault::Misdirect(2 * BLOCK));
        assert!(result.is_ok() && content == [0, 0, 1, 1]);
        for bytes in [1, 4096, 5000] {
            let (result, content) = struck(Fault::Short(bytes));
            assert!(result.is_ok() && content == [1, 1, 0, 0], "{bytes}");
        }
        let (result, content) = struck(Fault::Die);
        assert!(result.unwrap_err().raw_os_error() == Some(5) && content == [0; 4]);
    }

    #[test]
    fn writes_that_never_progress_are_given_up() {
        let (disk, file, mut queue) = recording(1);
        let short = Fault::Short(100);
        disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "", 0, u64::MAX, short));
        queue.submit(write(&file, 1, 1, 0)).unwrap();
        let ended = queue.wait().unwrap().unwrap();
        assert_eq!(ended.result.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn what_is_in_flight_when_the_device_dies_fails_and_may_be_there_after_a_crash() {
        let (disk, file, mut queue) = recording(1);
        queue.submit(write(&file, 1, 1, 0)).unwrap();
        disk.set_dead(true);
        assert!(queue.wait().unwrap().unwrap().result.is_err());
        let point = disk.trace().crash_points().last().unwrap();
        let found =
            point.states(&Exploration::default()).map(|state| state.disk().read_file("a")[0]);
        assert_eq!(found.collect::<BTreeSet<u8>>(), BTreeSet::from([0, 1]));
    }

    #[test]
    fn writes_in_flight_do_not_take_the_same_space() {
        let (disk, _file, mut queue) = recording(1);
        let file = disk.create("b").unwrap();
        disk.set_capacity(5 * BLOCK);
        let mut well = 0;
        for tag in 1..=3 {
            // Refused at once, or when it ends.
            let _ = queue.submit(write(&file, 1, tag, u64::from(tag)));
        }
        while queue.in_flight() > 0 {
            well += usize::from(queue.wait().unwrap().unwrap().result.is_ok());
        }
        assert_eq!((well, disk.used()), (1, 5 * BLOCK));
    }

    #[test]
    fn a_disk_offers_no_queue_unless_it_is_told_to() {
        let disk = MemoryDisk::new();
        assert!(disk.write_queue(4).unwrap().is_none());
        disk.set_queue(Some(1));
        assert!(disk.write_queue(4).unwrap().is_some());
        assert!(disk.fork().write_queue(4).unwrap().is_none());
    }
}
