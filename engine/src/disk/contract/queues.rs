//! The promises of a queue of durable writes that show without a crash: owns the suite that every backend
//! with one must pass.
//!
//! It calls backends through the traits only.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use super::{B, Fixture, filled, kind, pwrite, runs};
use crate::disk::*;
use crate::limits::BLOCK_BYTES;
use std::io::ErrorKind;

const DEPTH: usize = 4;

#[expect(clippy::unnecessary_wraps, reason = "other backends may not work everywhere")]
fn memory() -> Option<Fixture> {
    let disk = MemoryDisk::with_queue(3);
    Some(Fixture { others: vec![Box::new(disk.clone())], disk: Box::new(disk), dir: None })
}

fn uring() -> Option<Fixture> {
    pwrite(WriteMode::Uring)
}

promises! { [memory, uring]
    writes_in_flight_come_back_with_their_marks
    two_parts_stand_in_the_file_one_behind_the_other
    an_empty_write_ends_well
    no_more_are_in_flight_than_asked_for
    what_is_refused_changes_nothing
    a_depth_that_no_queue_has_is_refused
    a_wake_before_a_wait_is_not_lost
    a_wake_during_a_wait_ends_it
    a_wake_does_not_hide_a_write_that_has_ended
    no_wake_of_many_threads_is_lost
    dropping_a_queue_waits_for_what_is_in_flight
    a_queue_that_is_dropped_by_a_panic_waits_as_well
    a_waker_outlives_its_queue
    a_lock_is_held_while_a_write_is_in_flight
    two_threads_have_a_queue_each
}

fn queue(fixture: &Fixture) -> Box<dyn WriteQueue> {
    fixture.disk.write_queue(DEPTH).unwrap().expect("the backend has queues")
}

fn write(file: &Arc<dyn DiskFile>, blocks: usize, byte: u8, block: u64) -> QueuedWrite {
    let parts = Box::new(filled(blocks, byte));
    QueuedWrite { file: Arc::clone(file), offset: block * B, parts, tag: u64::from(byte) }
}

/// The marks of all writes in flight, which have ended well.
fn finish(queue: &mut dyn WriteQueue) -> Vec<u64> {
    let mut marks = Vec::new();
    while queue.in_flight() > 0 {
        if let Some(ended) = queue.wait().unwrap() {
            ended.result.unwrap();
            assert_eq!(u64::from(ended.parts.parts()[0][0]), ended.tag, "its own bytes come back");
            marks.push(ended.tag);
        }
    }
    marks.sort_unstable();
    marks
}

/// Two slices of one buffer.
#[derive(Debug)]
struct Halves(AlignedBuf, usize);

// SAFETY: as for `AlignedBuf`, which it never gives out for writing.
unsafe impl WriteParts for Halves {
    fn parts(&self) -> [&[u8]; 2] {
        let (front, back) = self.0.split_at(self.1);
        [front, back]
    }
}

fn writes_in_flight_come_back_with_their_marks(fixture: &Fixture) {
    let files = ["a", "b", "c"].map(|name| fixture.disk.create(name).unwrap());
    let mut queue = queue(fixture);
    let mut marks = Vec::new();
    // Sizes that differ, so that a device ends them in another order.
    for mark in 1..=24_u8 {
        if queue.in_flight() == DEPTH
            && let Some(ended) = queue.wait().unwrap()
        {
            ended.result.unwrap();
            marks.push(ended.tag);
        }
        let file = &files[usize::from(mark) % 3];
        let blocks = if mark % 4 == 1 { 64 } else { 1 };
        queue.submit(write(file, blocks, mark, u64::from(mark) * 64)).unwrap();
        assert!((1..=DEPTH).contains(&queue.in_flight()));
    }
    marks.extend(finish(queue.as_mut()));
    marks.sort_unstable();
    assert_eq!(marks, (1..=24).collect::<Vec<_>>());
    for (number, file) in files.iter().enumerate() {
        let found: Vec<_> = runs(file.as_ref()).into_iter().filter(|run| run.0 > 0).collect();
        let mine = (1..=24_u8).filter(|mark| usize::from(*mark) % 3 == number);
        let size = |mark| if mark % 4 == 1 { 64 } else { 1 };
        let expected: Vec<_> = mine.map(|mark| (mark, size(mark) * BLOCK_BYTES)).collect();
        assert_eq!(found, expected);
    }
}

fn two_parts_stand_in_the_file_one_behind_the_other(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let mut queue = queue(fixture);
    for (block, split) in [(0, 0), (3, 1), (6, 3)] {
        let mut buf = filled(3, 1);
        buf[BLOCK_BYTES..].fill(2);
        let parts = Box::new(Halves(buf, split * BLOCK_BYTES));
        let offset = block * B;
        queue.submit(QueuedWrite { file: Arc::clone(&file), offset, parts, tag: 0 }).unwrap();
    }
    while queue.in_flight() > 0 {
        queue.wait().unwrap().expect("nobody wakes").result.unwrap();
    }
    let one = [(1, BLOCK_BYTES), (2, 2 * BLOCK_BYTES)];
    assert_eq!(runs(file.as_ref()), [one, one, one].concat());
}

fn an_empty_write_ends_well(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let mut queue = queue(fixture);
    queue.submit(write(&file, 0, 1, 7)).unwrap();
    let ended = queue.wait().unwrap().unwrap();
    ended.result.unwrap();
    assert_eq!((ended.tag, queue.in_flight()), (1, 0));
    assert!(file.is_empty().unwrap());
}

fn no_more_are_in_flight_than_asked_for(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let mut queue = queue(fixture);
    for mark in 1..=4 {
        queue.submit(write(&file, 1, mark, u64::from(mark) - 1)).unwrap();
        assert_eq!(queue.in_flight(), usize::from(mark));
    }
    assert_eq!(kind(queue.submit(write(&file, 1, 5, 4))), ErrorKind::WouldBlock);
    assert_eq!(finish(queue.as_mut()), [1, 2, 3, 4]);
    assert_eq!(file.len().unwrap(), 4 * B);
    queue.submit(write(&file, 1, 5, 4)).unwrap();
    assert_eq!(finish(queue.as_mut()), [5]);
}

fn what_is_refused_changes_nothing(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let mut queue = queue(fixture);
    let bad = ErrorKind::InvalidInput;
    for offset in [1, 512, u64::MAX - (B - 1), i64::MAX.unsigned_abs() - (B - 1)] {
        let write = QueuedWrite { offset, ..write(&file, 1, 1, 0) };
        assert_eq!(kind(queue.submit(write)), bad);
    }
    let parts = Box::new(Halves(filled(1, 1), 512));
    assert_eq!(kind(queue.submit(QueuedWrite { parts, ..write(&file, 1, 1, 0) })), bad);
    let foreign: Box<dyn Disk> = if fixture.dir.is_some() {
        Box::new(MemoryDisk::new())
    } else {
        Box::new(MemoryDisk::with_queue(3))
    };
    let elsewhere = foreign.create("a").unwrap();
    assert_eq!(kind(queue.submit(write(&elsewhere, 1, 1, 0))), bad);
    let reader = fixture.disk.open("a", Access::Read).unwrap();
    assert_eq!(kind(queue.submit(write(&reader, 1, 1, 0))), ErrorKind::PermissionDenied);
    assert_eq!(queue.in_flight(), 0);
    assert!(file.is_empty().unwrap() && elsewhere.is_empty().unwrap());
}

fn a_depth_that_no_queue_has_is_refused(fixture: &Fixture) {
    assert_eq!(kind(fixture.disk.write_queue(0)), ErrorKind::InvalidInput);
    assert_eq!(kind(fixture.disk.write_queue(1 << 20)), ErrorKind::InvalidInput);
}

fn a_wake_before_a_wait_is_not_lost(fixture: &Fixture) {
    let mut queue = queue(fixture);
    for _ in 0..3 {
        queue.waker().wake();
        queue.waker().wake();
        assert!(queue.wait().unwrap().is_none());
    }
}

fn a_wake_during_a_wait_ends_it(fixture: &Fixture) {
    let mut queue = queue(fixture);
    let waker = queue.waker();
    let (ask, asked) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        while let Ok(micros) = asked.recv() {
            std::thread::sleep(std::time::Duration::from_micros(micros));
            waker.wake();
        }
    });
    for round in 0..50 {
        ask.send(round % 5 * 100).unwrap();
        assert!(queue.wait().unwrap().is_none());
    }
    drop(ask);
    thread.join().unwrap();
}

fn a_wake_does_not_hide_a_write_that_has_ended(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let mut queue = queue(fixture);
    queue.submit(write(&file, 1, 1, 0)).unwrap();
    let (mut ended, mut wakes) = (0, 0);
    while ended == 0 {
        // A thread that is woken without end still learns of its writes.
        queue.waker().wake();
        match queue.wait().unwrap() {
            Some(_) => ended += 1,
            None => wakes += 1,
        }
    }
    if wakes == 0 {
        assert!(queue.wait().unwrap().is_none(), "the wake is still there");
    }
}

fn no_wake_of_many_threads_is_lost(fixture: &Fixture) {
    const THREADS: u64 = 3;
    const WAKES: u64 = 2_000;
    let file = fixture.disk.create("a").unwrap();
    file.zero(0, DEPTH as u64 * B).unwrap();
    let mut queue = queue(fixture);
    let wanted = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let (waker, wanted) = (queue.waker(), &wanted);
            scope.spawn(move || {
                for number in 0..WAKES {
                    wanted.fetch_add(1, Ordering::Relaxed);
                    waker.wake();
                    if number % 64 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut writes = 0_u8;
        // Ends only where every wake is noticed, the last one too: nothing else ends the wait.
        while wanted.load(Ordering::Relaxed) < THREADS * WAKES {
            if queue.in_flight() < DEPTH && writes < 100 {
                writes += 1;
                queue.submit(write(&file, 1, 1, u64::from(writes) % 4)).unwrap();
            }
            if let Some(ended) = queue.wait().unwrap() {
                ended.result.unwrap();
            }
        }
    });
    finish(queue.as_mut());
    assert_eq!(queue.in_flight(), 0);
}

fn dropping_a_queue_waits_for_what_is_in_flight(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let mut queue = queue(fixture);
    for mark in 1..=4 {
        queue.submit(write(&file, 16, mark, (u64::from(mark) - 1) * 16)).unwrap();
    }
    drop(queue);
    let expected: Vec<_> = (1..=4).map(|mark| (mark, 16 * BLOCK_BYTES)).collect();
    assert_eq!(runs(file.as_ref()), expected);
}

fn a_queue_that_is_dropped_by_a_panic_waits_as_well(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut queue = queue(fixture);
        queue.submit(write(&file, 16, 1, 0)).unwrap();
        std::panic::resume_unwind(Box::new("as a test"));
    }));
    assert!(panicked.is_err());
    assert_eq!(runs(file.as_ref()), [(1, 16 * BLOCK_BYTES)]);
}

fn a_waker_outlives_its_queue(fixture: &Fixture) {
    let queue = queue(fixture);
    let waker = queue.waker();
    drop(queue);
    std::thread::spawn(move || waker.wake()).join().unwrap();
}

fn a_lock_is_held_while_a_write_is_in_flight(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    assert!(file.try_lock().unwrap());
    let mut queue = queue(fixture);
    queue.submit(write(&file, 1, 1, 0)).unwrap();
    drop(file);
    let other = fixture.disk.open("a", Access::Write).unwrap();
    assert!(!other.try_lock().unwrap());
    assert_eq!(finish(queue.as_mut()), [1]);
    assert!(other.try_lock().unwrap());
}

fn two_threads_have_a_queue_each(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    std::thread::scope(|scope| {
        for half in 0..2_u8 {
            let (file, disk) = (&file, &fixture.disk);
            scope.spawn(move || {
                let mut queue = disk.write_queue(DEPTH).unwrap().unwrap();
                for mark in 1..=20 {
                    let at = u64::from(mark - 1 + 20 * half);
                    queue.submit(write(file, 1, mark, at)).unwrap();
                    if queue.in_flight() == DEPTH {
                        queue.wait().unwrap().unwrap().result.unwrap();
                    }
                }
                finish(queue.as_mut());
            });
        }
    });
    let half: Vec<_> = (1..=20).map(|mark| (mark, BLOCK_BYTES)).collect();
    assert_eq!(runs(file.as_ref()), [half.clone(), half].concat());
}
