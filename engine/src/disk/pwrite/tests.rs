//! Tests of what only the real file system has: directories, permissions, modes, foreign processes.

use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use super::*;
use crate::disk::contract::temp_dir;
use crate::disk::{AlignedBuf, read_full_at, write_all_durable_at};

fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn directories_and_files_are_for_their_owner_only() {
    let temp = temp_dir();
    let dir = temp.path().join("a/b/store");
    let disk = PwriteDisk::open(&dir).unwrap();
    disk.create("file").unwrap();
    disk.try_lock("lock").unwrap();
    for made in ["a", "a/b", "a/b/store"] {
        assert_eq!(mode_of(&temp.path().join(made)), 0o700, "{made}");
    }
    assert_eq!(mode_of(&dir.join("file")), 0o600);
    assert_eq!(mode_of(&dir.join("lock")), 0o600);
}

#[test]
fn a_read_only_disk_creates_nothing_and_refuses_changes() {
    let temp = temp_dir();
    let dir = temp.path().join("store");
    assert_eq!(PwriteDisk::open_read_only(&dir).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!dir.exists());
    let writer = PwriteDisk::open(&dir).unwrap();
    let mut buf = AlignedBuf::zeroed(4096).unwrap();
    buf.fill(5);
    write_all_durable_at(writer.create("a").unwrap().as_ref(), &[&buf], 0).unwrap();
    let changed = dir.metadata().unwrap().ctime_nsec();

    let disk = PwriteDisk::open_read_only(&dir).unwrap();
    assert_eq!(disk.mode(), None);
    let denied = ErrorKind::PermissionDenied;
    assert_eq!(disk.create("b").unwrap_err().kind(), denied);
    assert_eq!(disk.open("a", Access::Write).unwrap_err().kind(), denied);
    assert_eq!(disk.rename("a", "b").unwrap_err().kind(), denied);
    assert_eq!(disk.unlink("a").unwrap_err().kind(), denied);
    assert_eq!(disk.try_lock("a").unwrap_err().kind(), denied);
    let file = disk.open("a", Access::Read).unwrap();
    assert_eq!(file.try_lock().unwrap_err().kind(), denied);
    assert_eq!(disk.mode(), writer.mode(), "a file that is read shows the mode that a write did");
    buf.fill(0);
    assert_eq!(read_full_at(file.as_ref(), &mut buf, 0).unwrap(), 4096);
    assert!(buf.iter().all(|&byte| byte == 5));
    assert_eq!(dir.metadata().unwrap().ctime_nsec(), changed);
}

#[test]
fn a_probe_that_was_left_behind_does_not_matter() {
    let temp = temp_dir();
    std::fs::write(temp.path().join(PROBE_NAME), "left by a crash").unwrap();
    let disk = PwriteDisk::open(temp.path()).unwrap();
    assert!(disk.mode().is_some());
    assert_eq!(disk.list().unwrap(), []);
    let fd = open::directory(temp.path()).unwrap();
    assert_eq!(open::probe_named(&fd).unwrap(), disk.mode());
    assert!(!temp.path().join(PROBE_NAME).exists());
    assert_eq!(open::probe_named(&fd).unwrap(), disk.mode());
}

#[test]
fn probing_leaves_no_file() {
    let temp = temp_dir();
    PwriteDisk::open(temp.path()).unwrap();
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_forced_mode_is_used_and_described() {
    let temp = temp_dir();
    let disk = PwriteDisk::options().mode(WriteMode::Buffered).open(temp.path()).unwrap();
    assert_eq!(disk.mode(), Some(WriteMode::Buffered));
    assert!(disk.describe().contains("fdatasync"));
    let reader = PwriteDisk::options().mode(WriteMode::Buffered).read_only(true);
    assert!(reader.open(temp.path()).unwrap().describe().contains("read only"));
}

#[test]
fn a_mode_that_could_not_be_tried_at_opening_is_found_by_the_first_file() {
    let temp = temp_dir();
    let mut disk = PwriteDisk::open(temp.path()).unwrap();
    let tried = disk.mode();
    Arc::get_mut(&mut disk.0).unwrap().mode = OnceLock::new();
    let file = disk.create("a").unwrap();
    assert_eq!(disk.mode(), tried);
    write_all_durable_at(file.as_ref(), &[&AlignedBuf::zeroed(4096).unwrap()], 0).unwrap();
    drop(file);
    Arc::get_mut(&mut disk.0).unwrap().mode = OnceLock::new();
    assert_eq!(disk.create("a").unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_file_where_the_directory_should_be_is_an_error() {
    let temp = temp_dir();
    let path = temp.path().join("file");
    std::fs::write(&path, "").unwrap();
    assert_eq!(PwriteDisk::open(&path).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert!(PwriteDisk::open(path.join("below")).is_err());
}

#[test]
fn a_moved_directory_stays_the_one_that_was_opened() {
    let temp = temp_dir();
    let (old, new) = (temp.path().join("old"), temp.path().join("new"));
    let disk = PwriteDisk::open(&old).unwrap();
    std::fs::rename(&old, &new).unwrap();
    std::fs::create_dir(&old).unwrap();
    disk.create("a").unwrap();
    assert!(new.join("a").exists() && !old.join("a").exists());
    let other = PwriteDisk::open(&old).unwrap();
    let (first, second) = (disk.try_lock("lock").unwrap(), other.try_lock("lock").unwrap());
    assert!(first.is_some() && second.is_some(), "locks are on files, not on paths");
}

#[test]
fn a_lock_whose_file_was_replaced_does_not_hold_the_new_one() {
    let temp = temp_dir();
    let disk = PwriteDisk::open(temp.path()).unwrap();
    let first = disk.try_lock("lock").unwrap();
    disk.unlink("lock").unwrap();
    assert!(disk.try_lock("lock").unwrap().is_some());
    assert!(first.is_some());
}

#[test]
fn a_lock_held_by_a_foreign_descriptor_excludes() {
    let temp = temp_dir();
    let disk = PwriteDisk::open(temp.path()).unwrap();
    drop(disk.try_lock("lock").unwrap());
    // Opened past the registry, as another process would.
    let foreign = File::open(temp.path().join("lock")).unwrap();
    foreign.lock().unwrap();
    assert!(disk.try_lock("lock").unwrap().is_none());
    assert!(!disk.open("lock", Access::Write).unwrap().try_lock().unwrap());
    drop(foreign);
    assert!(disk.try_lock("lock").unwrap().is_some());
}

#[test]
fn links_to_files_are_listed_and_links_to_nowhere_are_not() {
    let temp = temp_dir();
    let disk = PwriteDisk::open(temp.path()).unwrap();
    std::os::unix::fs::symlink("nowhere", temp.path().join("dangling")).unwrap();
    disk.create("a").unwrap().allocate(10).unwrap();
    std::os::unix::fs::symlink("a", temp.path().join("link")).unwrap();
    let entries = disk.list().unwrap();
    let entries: Vec<_> = entries.iter().map(|entry| (entry.name.as_str(), entry.bytes)).collect();
    assert_eq!(entries, [("a", 10), ("link", 10)]);
}
