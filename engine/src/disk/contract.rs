//! The promises of the disk seam that show without a crash: owns one suite of tests that every backend
//! must pass.
//!
//! It calls backends through the traits only. A new backend is one line in `backends!`. What shows only
//! after a crash is tested with the memory disk, in `memory`.

use std::io::{ErrorKind, IoSlice};
use std::path::PathBuf;

use super::*;
use crate::limits::BLOCK_BYTES;

const B: u64 = BLOCK_BYTES as u64;

/// One directory, opened several times, and what keeps it there.
struct Fixture {
    disk: Box<dyn Disk>,
    /// Further openings of the same directory, by other ways if the backend has any.
    others: Vec<Box<dyn Disk>>,
    dir: Option<tempfile::TempDir>,
}

/// A folder below the build's own, which is on a disk and not in memory.
pub(super) fn temp_dir() -> tempfile::TempDir {
    let exe = std::env::current_exe().unwrap();
    let target: PathBuf = exe.ancestors().nth(2).unwrap().join("tmp");
    std::fs::create_dir_all(&target).unwrap();
    tempfile::Builder::new().prefix("disk-").tempdir_in(target).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "other backends may not work everywhere")]
fn memory() -> Option<Fixture> {
    let disk = MemoryDisk::new();
    let others: Vec<Box<dyn Disk>> = vec![Box::new(disk.clone())];
    Some(Fixture { disk: Box::new(disk), others, dir: None })
}

fn pwrite(mode: WriteMode) -> Option<Fixture> {
    let temp = temp_dir();
    let (dir, link) = (temp.path().join("store"), temp.path().join("link"));
    let open = |path: &PathBuf| PwriteDisk::options().mode(mode).open(path);
    let disk = match open(&dir) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            println!("skipped: {error} ({mode:?})");
            return None;
        }
        opened => opened.unwrap(),
    };
    std::os::unix::fs::symlink(&dir, &link).unwrap();
    let others: Vec<Box<dyn Disk>> =
        vec![Box::new(disk.clone()), Box::new(open(&dir).unwrap()), Box::new(open(&link).unwrap())];
    Some(Fixture { disk: Box::new(disk), others, dir: Some(temp) })
}

fn pwrite_direct() -> Option<Fixture> {
    pwrite(WriteMode::Direct)
}

fn pwrite_buffered() -> Option<Fixture> {
    pwrite(WriteMode::Buffered)
}

fn uring() -> Option<Fixture> {
    pwrite(WriteMode::Uring)
}

/// Instantiates every promise for every backend.
macro_rules! backends {
    ($($backend:ident),*) => { promises! { [$($backend),*]
        names_with_separators_are_refused
        creating_is_exclusive
        what_does_not_exist_is_not_found
        files_are_listed_in_the_order_of_their_names
        a_rename_replaces_what_has_the_new_name
        an_open_file_outlives_its_name
        what_is_misaligned_is_refused_before_anything_happens
        what_ends_behind_every_file_is_refused
        a_file_opened_for_reading_refuses_changes
        a_durable_write_gathers_its_buffers_in_order
        an_empty_write_changes_nothing
        a_write_far_behind_the_end_leaves_zeroes_between
        reading_ends_at_the_end_of_the_file
        reading_again_sees_what_was_written_over
        allocating_extends_and_never_shortens
        zeroing_extends_and_clears
        zeroing_more_than_one_write_holds_clears_all_of_it
        truncating_cuts_and_extends_with_zeroes
        a_mapping_holds_the_whole_file
        a_mapping_outlives_the_file
        a_lock_excludes_every_other_opening_until_it_is_dropped
        a_locked_file_excludes_every_other_opening_until_it_is_closed
        a_lock_can_be_given_back_while_the_handle_lives
        a_lock_on_a_file_and_a_lock_by_its_name_exclude_each_other
        threads_write_different_blocks_at_once
    } };
}

macro_rules! promises {
    ([$($backend:ident),*] $($promise:ident)*) => { promises! { @ [$($backend)*] [$($promise)*] } };
    (@ [] $promises:tt) => {};
    (@ [$backend:ident $($rest:ident)*] [$($promise:ident)*]) => {
        mod $backend {
            $(#[test]
            fn $promise() {
                if let Some(fixture) = super::$backend() {
                    super::$promise(&fixture);
                }
            })*
        }
        promises! { @ [$($rest)*] [$($promise)*] }
    };
}

backends!(memory, pwrite_direct, pwrite_buffered, uring);

mod queues;

fn filled(blocks: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(blocks * BLOCK_BYTES).unwrap();
    buf.fill(byte);
    buf
}

/// The bytes of a file, each run of equal ones as its byte and length.
fn runs(file: &dyn DiskFile) -> Vec<(u8, usize)> {
    let len = usize::try_from(file.len().unwrap()).unwrap();
    let mut buf = AlignedBuf::zeroed(len + BLOCK_BYTES).unwrap();
    assert_eq!(read_full_at(file, &mut buf, 0).unwrap(), len);
    let runs = buf[..len].chunk_by(|a, b| a == b);
    runs.map(|run| (run[0], run.len())).collect()
}

fn kind<T: Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

fn names_with_separators_are_refused(fixture: &Fixture) {
    let disk = &fixture.disk;
    disk.create("plain").unwrap();
    let long = "x".repeat(256);
    for name in ["", ".", "..", "/", "a/b", "../a", "a/", "a\0b", &long] {
        assert_eq!(kind(disk.create(name)), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(kind(disk.open(name, Access::Read)), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(kind(disk.unlink(name)), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(kind(disk.rename(name, "b")), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(kind(disk.rename("plain", name)), ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(kind(disk.try_lock(name)), ErrorKind::InvalidInput, "{name:?}");
    }
    assert_eq!(disk.list().unwrap().len(), 1);
    disk.create(&long[..255]).unwrap();
}

fn creating_is_exclusive(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    assert!(file.is_empty().unwrap());
    write_all_at(file.as_ref(), &filled(1, 1), 0).unwrap();
    assert_eq!(kind(fixture.disk.create("a")), ErrorKind::AlreadyExists);
    assert_eq!(runs(file.as_ref()), [(1, BLOCK_BYTES)]);
}

fn what_does_not_exist_is_not_found(fixture: &Fixture) {
    let disk = &fixture.disk;
    assert_eq!(kind(disk.open("a", Access::Read)), ErrorKind::NotFound);
    assert_eq!(kind(disk.open("a", Access::Write)), ErrorKind::NotFound);
    assert_eq!(kind(disk.unlink("a")), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename("a", "b")), ErrorKind::NotFound);
    assert!(disk.list().unwrap().is_empty());
}

fn files_are_listed_in_the_order_of_their_names(fixture: &Fixture) {
    for (name, blocks) in [("b", 2), ("a-10", 1), ("c", 0), ("a-9", 3)] {
        let file = fixture.disk.create(name).unwrap();
        file.allocate(blocks * B).unwrap();
    }
    if let Some(dir) = &fixture.dir {
        std::fs::create_dir(dir.path().join("store/sub")).unwrap();
    }
    let entries = fixture.disk.list().unwrap();
    let entries: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.bytes)).collect();
    assert_eq!(entries, [("a-10", B), ("a-9", 3 * B), ("b", 2 * B), ("c", 0)]);
}

fn a_rename_replaces_what_has_the_new_name(fixture: &Fixture) {
    let disk = &fixture.disk;
    for (name, byte) in [("old", 1), ("new", 2)] {
        let file = disk.create(name).unwrap();
        write_all_at(file.as_ref(), &filled(1, byte), 0).unwrap();
    }
    disk.rename("new", "old").unwrap();
    disk.rename("old", "old").unwrap();
    disk.sync_dir().unwrap();
    assert_eq!(disk.list().unwrap().len(), 1);
    let file = disk.open("old", Access::Read).unwrap();
    assert_eq!(runs(file.as_ref()), [(2, BLOCK_BYTES)]);
}

fn an_open_file_outlives_its_name(fixture: &Fixture) {
    let disk = &fixture.disk;
    let file = disk.create("a").unwrap();
    disk.unlink("a").unwrap();
    let other = disk.create("a").unwrap();
    write_all_at(file.as_ref(), &filled(1, 1), 0).unwrap();
    file.sync().unwrap();
    assert_eq!(runs(file.as_ref()), [(1, BLOCK_BYTES)]);
    assert!(other.is_empty().unwrap());
}

fn what_is_misaligned_is_refused_before_anything_happens(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let mut buf = filled(3, 7);
    let bad = ErrorKind::InvalidInput;
    for (start, end, offset) in
        [(1, 4097, 0), (0, 4095, 0), (0, 512, 0), (512, 4608, 0), (0, 4096, 512)]
    {
        let part = &buf[start..end];
        assert_eq!(kind(file.write_at(part, offset)), bad);
        assert_eq!(kind(file.write_durable_at(&[IoSlice::new(part)], offset)), bad);
        assert_eq!(kind(file.read_at(&mut buf[start..end], offset)), bad);
    }
    let mixed = [IoSlice::new(&buf[..4096]), IoSlice::new(&buf[4096..8191])];
    assert_eq!(kind(file.write_durable_at(&mixed, 0)), bad);
    assert_eq!(kind(file.zero(0, 1)), bad);
    assert_eq!(kind(file.zero(1, B)), bad);
    assert!(file.is_empty().unwrap());
}

fn what_ends_behind_every_file_is_refused(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let mut buf = filled(1, 7);
    let bad = ErrorKind::InvalidInput;
    for offset in [u64::MAX - (B - 1), i64::MAX.unsigned_abs() - (B - 1)] {
        assert_eq!(kind(file.write_at(&buf, offset)), bad);
        assert_eq!(kind(file.write_durable_at(&[IoSlice::new(&buf)], offset)), bad);
        assert_eq!(kind(file.read_at(&mut buf, offset)), bad);
        assert_eq!(kind(file.zero(offset, B)), bad);
    }
    assert_eq!(kind(file.allocate(u64::MAX)), bad);
    assert_eq!(kind(file.truncate(u64::MAX)), bad);
    assert!(file.is_empty().unwrap());
}

fn a_file_opened_for_reading_refuses_changes(fixture: &Fixture) {
    let disk = &fixture.disk;
    write_all_at(disk.create("a").unwrap().as_ref(), &filled(1, 1), 0).unwrap();
    let file = disk.open("a", Access::Read).unwrap();
    let buf = filled(1, 2);
    let denied = ErrorKind::PermissionDenied;
    assert_eq!(kind(file.write_at(&buf, 0)), denied);
    assert_eq!(kind(file.write_durable_at(&[IoSlice::new(&buf)], 0)), denied);
    assert_eq!(kind(file.zero(0, B)), denied);
    assert_eq!(kind(file.allocate(2 * B)), denied);
    assert_eq!(kind(file.truncate(0)), denied);
    assert_eq!(runs(file.as_ref()), [(1, BLOCK_BYTES)]);
}

fn a_durable_write_gathers_its_buffers_in_order(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let (one, two, three) = (filled(1, 1), filled(2, 2), filled(1, 3));
    write_all_durable_at(file.as_ref(), &[&one, &[], &two, &three], B).unwrap();
    let b = BLOCK_BYTES;
    assert_eq!(runs(file.as_ref()), [(0, b), (1, b), (2, 2 * b), (3, b)]);
}

fn an_empty_write_changes_nothing(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    assert_eq!(file.write_at(&[], B).unwrap(), 0);
    assert_eq!(file.write_durable_at(&[], B).unwrap(), 0);
    assert_eq!(file.write_durable_at(&[IoSlice::new(&[])], B).unwrap(), 0);
    file.zero(B, 0).unwrap();
    file.allocate(0).unwrap();
    write_all_at(file.as_ref(), &[], B).unwrap();
    write_all_durable_at(file.as_ref(), &[], B).unwrap();
    assert_eq!(file.read_at(&mut [], 0).unwrap(), 0);
    assert!(file.is_empty().unwrap());
}

fn a_write_far_behind_the_end_leaves_zeroes_between(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    // Places where offsets have overflowed elsewhere: 2^31, 2^32 and 2^40.
    for (far, byte) in [(1 << 31, 1), (1 << 32, 2), (1 << 40, 3)] {
        write_all_durable_at(file.as_ref(), &[&filled(1, byte)], far).unwrap();
        assert_eq!(file.len().unwrap(), far + B);
        let mut buf = AlignedBuf::zeroed(3 * BLOCK_BYTES).unwrap();
        assert_eq!(read_full_at(file.as_ref(), &mut buf, far - B).unwrap(), 2 * BLOCK_BYTES);
        assert!(buf[..BLOCK_BYTES].iter().all(|&read| read == 0));
        assert!(buf[BLOCK_BYTES..2 * BLOCK_BYTES].iter().all(|&read| read == byte));
    }
}

fn reading_ends_at_the_end_of_the_file(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    write_all_at(file.as_ref(), &filled(2, 1), 0).unwrap();
    file.truncate(B + 100).unwrap();
    file.sync().unwrap();
    let mut buf = filled(3, 9);
    assert_eq!(read_full_at(file.as_ref(), &mut buf, 0).unwrap(), BLOCK_BYTES + 100);
    assert!(buf[..BLOCK_BYTES + 100].iter().all(|&byte| byte == 1));
    assert_eq!(file.read_at(&mut buf, B).unwrap(), 100);
    assert_eq!(file.read_at(&mut buf, 2 * B).unwrap(), 0);
    assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
}

fn reading_again_sees_what_was_written_over(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let reader = fixture.disk.open("a", Access::Read).unwrap();
    for byte in 1..20 {
        let buf = filled(2, byte);
        if byte % 2 == 0 {
            write_all_durable_at(file.as_ref(), &[&buf], 0).unwrap();
        } else {
            write_all_at(file.as_ref(), &buf, 0).unwrap();
        }
        assert_eq!(runs(reader.as_ref()), [(byte, 2 * BLOCK_BYTES)]);
    }
}

fn allocating_extends_and_never_shortens(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    file.allocate(3 * B).unwrap();
    assert_eq!(runs(file.as_ref()), [(0, 3 * BLOCK_BYTES)]);
    write_all_at(file.as_ref(), &filled(1, 1), B).unwrap();
    file.allocate(B).unwrap();
    file.allocate(4 * B + 1).unwrap();
    let b = BLOCK_BYTES;
    assert_eq!(runs(file.as_ref()), [(0, b), (1, b), (0, 2 * b + 1)]);
}

fn zeroing_extends_and_clears(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    write_all_at(file.as_ref(), &filled(3, 1), 0).unwrap();
    file.zero(B, B).unwrap();
    file.zero(3 * B, 2 * B).unwrap();
    file.sync().unwrap();
    let b = BLOCK_BYTES;
    assert_eq!(runs(file.as_ref()), [(1, b), (0, b), (1, b), (0, 2 * b)]);
}

fn zeroing_more_than_one_write_holds_clears_all_of_it(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    write_all_at(file.as_ref(), &filled(600, 1), 0).unwrap();
    file.zero(B, 598 * B).unwrap();
    let b = BLOCK_BYTES;
    assert_eq!(runs(file.as_ref()), [(1, b), (0, 598 * b), (1, b)]);
}

fn truncating_cuts_and_extends_with_zeroes(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    write_all_at(file.as_ref(), &filled(2, 1), 0).unwrap();
    file.truncate(100).unwrap();
    assert_eq!(runs(file.as_ref()), [(1, 100)]);
    file.truncate(2 * B).unwrap();
    assert_eq!(runs(file.as_ref()), [(1, 100), (0, 2 * BLOCK_BYTES - 100)]);
    file.truncate(0).unwrap();
    assert!(file.is_empty().unwrap());
}

fn a_mapping_holds_the_whole_file(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    assert!(file.map().unwrap().is_empty());
    write_all_durable_at(file.as_ref(), &[&filled(1, 1), &filled(1, 2)], 0).unwrap();
    file.truncate(B + 5).unwrap();
    file.sync().unwrap();
    let reader = fixture.disk.open("a", Access::Read).unwrap();
    let mapping = reader.map().unwrap();
    assert_eq!(mapping.len(), BLOCK_BYTES + 5);
    assert!(mapping[..BLOCK_BYTES].iter().all(|&byte| byte == 1));
    assert_eq!(mapping[BLOCK_BYTES..], [2; 5]);
}

fn a_mapping_outlives_the_file(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    write_all_durable_at(file.as_ref(), &[&filled(1, 1)], 0).unwrap();
    let mapping = file.map().unwrap();
    let clone = mapping.clone();
    drop((file, mapping));
    fixture.disk.unlink("a").unwrap();
    assert_eq!(clone[..], filled(1, 1)[..]);
}

fn a_lock_excludes_every_other_opening_until_it_is_dropped(fixture: &Fixture) {
    let openings = || std::iter::once(&fixture.disk).chain(&fixture.others);
    for holder in openings() {
        let lock = holder.try_lock("lock").unwrap();
        assert!(lock.is_some());
        for other in openings() {
            assert!(other.try_lock("lock").unwrap().is_none());
            assert!(other.try_lock("other").unwrap().is_some(), "locks by name are independent");
        }
    }
    let bytes = fixture.disk.list().unwrap().iter().map(|entry| entry.bytes).sum::<u64>();
    assert_eq!((fixture.disk.list().unwrap().len(), bytes), (2, 0));
}

fn a_locked_file_excludes_every_other_opening_until_it_is_closed(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    assert!(file.try_lock().unwrap());
    assert!(file.try_lock().unwrap(), "its own lock does not exclude it");
    for other in std::iter::once(&fixture.disk).chain(&fixture.others) {
        let other = other.open("a", Access::Write).unwrap();
        assert!(!other.try_lock().unwrap());
    }
    assert!(file.try_lock().unwrap(), "another handle that is closed takes nothing with it");
    drop(file);
    assert!(fixture.disk.open("a", Access::Read).unwrap().try_lock().unwrap());
}

fn a_lock_can_be_given_back_while_the_handle_lives(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    assert!(file.try_lock().unwrap());
    file.unlock();
    file.unlock();
    let other = fixture.disk.open("a", Access::Write).unwrap();
    assert!(other.try_lock().unwrap());
    assert!(!file.try_lock().unwrap());
}

fn a_lock_on_a_file_and_a_lock_by_its_name_exclude_each_other(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    let lock = fixture.disk.try_lock("a").unwrap();
    assert!(lock.is_some() && !file.try_lock().unwrap());
    drop(lock);
    assert!(file.try_lock().unwrap());
    assert!(fixture.disk.try_lock("a").unwrap().is_none());
}

fn threads_write_different_blocks_at_once(fixture: &Fixture) {
    let file = fixture.disk.create("a").unwrap();
    file.zero(0, 16 * B).unwrap();
    std::thread::scope(|scope| {
        for number in 0..4_u8 {
            let file = &file;
            scope.spawn(move || {
                for round in 0..4 {
                    let at = u64::from(number + 4 * round) * B;
                    write_all_durable_at(file.as_ref(), &[&filled(1, number + 1)], at).unwrap();
                }
            });
        }
    });
    let expected: Vec<_> = (0..16_u8).map(|at| (at % 4 + 1, BLOCK_BYTES)).collect();
    assert_eq!(runs(file.as_ref()), expected);
}
