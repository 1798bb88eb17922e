//! The files of the index on a disk in memory, as far as their names tell: which runs there are, and whether
//! there is something left to merge.
//!
//! The tests of queries wait for the background with it.

use std::time::{Duration, Instant};

use stratalog::Store;
use stratalog::disk::MemoryDisk;
use stratalog::limits::MERGED_AT_ONCE;

/// How long the background may take to come to rest, on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Whether a file is one of the index, whole or not.
pub fn is_index(name: &str) -> bool {
    let name = name.strip_suffix(".next").unwrap_or(name);
    [".table", ".index"].iter().any(|end| name.ends_with(end))
}

/// The first and the last segment of each run that has a file, in their order.
pub fn runs(disk: &MemoryDisk) -> Vec<(u64, u64)> {
    let names = disk.file_names();
    let numbers = names.iter().filter_map(|name| {
        let (first, last) = name.strip_prefix("terms-")?.strip_suffix(".index")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    numbers.collect()
}

/// The name of the file of a run.
pub fn run(first: u64, last: u64) -> String {
    format!("terms-{first:010}-{last:010}.index")
}

/// How often the segments of the run that was merged most were merged.
pub fn levels(disk: &MemoryDisk) -> u32 {
    let levels = runs(disk).into_iter().map(|(first, last)| level(first, last));
    levels.max().unwrap_or(0)
}

fn level(first: u64, last: u64) -> u32 {
    (last - first + 1).ilog(MERGED_AT_ONCE as u64)
}

/// Whether no run is of a part of another, none is being written, and no neighbours are to be merged. Of a store
/// that nobody appends to.
fn is_at_rest(disk: &MemoryDisk) -> bool {
    let is_unfinished = |name: &String| name.strip_suffix(".next").is_some_and(is_index);
    if disk.file_names().iter().any(is_unfinished) {
        return false;
    }
    let runs = runs(disk);
    let overlap = runs.windows(2).any(|pair| pair[1].0 <= pair[0].1);
    let levels: Vec<_> = runs.iter().map(|(first, last)| level(*first, *last)).collect();
    let to_merge = levels.windows(MERGED_AT_ONCE).any(|some| some.iter().all(|l| *l == some[0]));
    !overlap && !to_merge
}

/// Waits until nothing is left to merge.
///
/// # Panics
/// Where that takes too long.
pub fn wait_for_rest(disk: &MemoryDisk) {
    wait_until("nothing to merge any more", || is_at_rest(disk));
}

/// Waits until every file of the index is there and right.
///
/// # Panics
/// Where that takes too long, or the log is damaged.
pub fn wait_until_whole(store: &Store) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = store.verify(|_, _| {}).expect("the files can be read");
        if found.is_clean() && found.indexes_missing == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "the index is not whole after {PATIENCE:?}: {found:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until something is so.
///
/// # Panics
/// Where that takes too long.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
