//! Tests of what only a ring has: its choice, the kernel's workers, and what it does when it breaks.

use std::io::ErrorKind;

use super::*;
use crate::disk::contract::temp_dir;
use crate::disk::{AlignedBuf, Disk, PwriteDisk, WriteMode, write_all_durable_at};
use crate::limits::BLOCK_BYTES;

/// Whether there are rings; says why where there are not.
fn rings() -> bool {
    let found = available();
    if let Err(error) = &found {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        println!("skipped: {error}");
    }
    found.is_ok()
}

/// The kernel's workers of the calling thread's rings.
fn workers() -> usize {
    let own = format!("iou-wrk-{}", rustix::thread::gettid().as_raw_nonzero());
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == own).count()
}

#[test]
fn writes_over_written_blocks_need_no_worker_of_the_kernel() {
    if !rings() {
        return;
    }
    let temp = temp_dir();
    let disk = match PwriteDisk::options().mode(WriteMode::Uring).open(temp.path()) {
        Err(error) => return println!("skipped: {error}"),
        Ok(disk) => disk,
    };
    let file = disk.create("a").unwrap();
    let bytes = 64 * BLOCK_BYTES;
    write_all_durable_at(file.as_ref(), &[&AlignedBuf::zeroed(8 * bytes).unwrap()], 0).unwrap();
    let mut queue = disk.write_queue(4).unwrap().unwrap();
    for number in 0..64 {
        if queue.in_flight() == 4 {
            queue.wait().unwrap().unwrap().result.unwrap();
        }
        let parts = Box::new(AlignedBuf::zeroed(bytes).unwrap());
        let offset = number % 8 * bytes as u64;
        let write = QueuedWrite { file: Arc::clone(&file), offset, parts, tag: number };
        queue.submit(write).unwrap();
        assert_eq!(workers(), 0);
    }
    drop(queue);
    assert_eq!(workers(), 0);
}

#[test]
fn a_ring_is_chosen_by_a_trial_and_never_where_another_way_was_forced() {
    let temp = temp_dir();
    for mode in [WriteMode::Direct, WriteMode::Buffered] {
        let Ok(disk) = PwriteDisk::options().mode(mode).open(temp.path()) else { continue };
        assert!(disk.write_queue(4).unwrap().is_none());
        assert_eq!(disk.mode(), Some(mode));
        assert!(!disk.describe().contains("io_uring"), "{}", disk.describe());
    }
    let disk = PwriteDisk::open(temp.path()).unwrap();
    let before = disk.mode();
    let offered = disk.write_queue(4).unwrap().is_some();
    let told = disk.describe();
    assert_eq!(disk.mode() == Some(WriteMode::Uring), offered, "{told}");
    assert_eq!(disk.write_queue(4).unwrap().is_some(), offered, "it is tried once");
    if before == Some(WriteMode::Direct) {
        assert!(told.contains("one after the other") || told.contains("no io_uring"), "{told}");
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "the trial leaves no file");
    let reader = PwriteDisk::options().mode(WriteMode::Uring).read_only(true);
    assert!(reader.open(temp.path()).unwrap().write_queue(4).unwrap().is_none());
}

#[test]
fn a_file_that_goes_through_the_page_cache_is_refused() {
    if !rings() {
        return;
    }
    let temp = temp_dir();
    let disk = PwriteDisk::options().mode(WriteMode::Buffered).open(temp.path()).unwrap();
    let file = disk.create("a").unwrap();
    let parts = Box::new(AlignedBuf::zeroed(BLOCK_BYTES).unwrap());
    let refused =
        UringQueue::new(1).unwrap().submit(QueuedWrite { file, offset: 0, parts, tag: 0 });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
}
