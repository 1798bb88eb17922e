//! The page cache: emptied of a store's files, and what is read from the disk because of it.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{Advice, fadvise, sync};

use crate::Failure;

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

/// Drops the files of a store that nobody has open from the page cache, and says how.
pub fn drop_files(directory: &Path) -> Result<String, Failure> {
    let mut files = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            let file = File::open(path)?;
            // What is not on the disk yet cannot be dropped.
            file.sync_all()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
            files += 1;
        }
    }
    sync();
    Ok(match fs::write(DROP_CACHES, "1") {
        Ok(()) => format!("{files} files dropped by fadvise, and the whole page cache"),
        Err(error) => format!("{files} files dropped by fadvise only ({DROP_CACHES}: {error})"),
    })
}

/// The bytes that this process had read from the disk, by any of its threads.
pub fn bytes_read() -> Result<u64, Failure> {
    field("/proc/self/io", "read_bytes:")
}

/// The memory of the machine, in MB.
pub fn memory_mb() -> Result<usize, Failure> {
    Ok(usize::try_from(field("/proc/meminfo", "MemTotal:")?)? / 1000)
}

fn field(file: &str, name: &str) -> Result<u64, Failure> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find(|line| line.starts_with(name)).ok_or("the field is missing")?;
    Ok(line.split_whitespace().nth(1).ok_or("the field is empty")?.parse()?)
}
