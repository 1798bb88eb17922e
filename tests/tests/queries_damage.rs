//! Damage to the files of the index: every question is answered as if nothing had happened, and the index is whole
//! again after a while. The log is not damaged here; `damage.rs` does that.
//!
//! `STRATALOG_QUERY_CASES=20000 cargo test --release -p stratalog-tests --test queries_damage` tries more of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use fastrand::Rng;
use stratalog::disk::{Disk, MemoryDisk};
use stratalog::limits::MERGED_AT_ONCE;
use stratalog::{Expect, Store};
use stratalog_tests::index_files::{
    is_index, levels, run, runs, wait_for_rest, wait_until, wait_until_whole,
};
use stratalog_tests::questions::{Model, some_append};
use stratalog_tests::{seed, watchdog};

const CASES: &str = "STRATALOG_QUERY_CASES";
const BLOCK: usize = 4096;

type Files = BTreeMap<String, Vec<u8>>;

fn open(disk: &MemoryDisk) -> Store {
    Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone())).unwrap()
}

fn files(disk: &MemoryDisk) -> Files {
    // As they are at one moment.
    let disk = disk.fork();
    disk.file_names().into_iter().map(|name| (name.clone(), disk.read_file(&name))).collect()
}

fn index_files(disk: &MemoryDisk) -> Files {
    let mut files = files(disk);
    files.retain(|name, _| is_index(name));
    files
}

/// Appends until so many bytes of payloads were written.
fn append(store: &Store, model: &mut Model, random: &mut Rng, bytes: usize) {
    let bytes_max = [300, 4_000, 14_000][random.usize(0..3)];
    let mut appended = 0;
    while appended < bytes {
        let (stream, events) = some_append(random, bytes_max);
        // What a frame takes besides.
        appended += events.iter().map(|event| event.payload().len() + 120).sum::<usize>();
        let receipt = store.append(&stream, Expect::Any, &events).wait().unwrap();
        model.append(&stream, events, &receipt);
    }
    model.learn(store);
}

/// A store without damage, its model, and other files that its index could have.
struct Whole {
    disk: MemoryDisk,
    model: Model,
    /// Of an earlier moment, when not as much was merged.
    older: Files,
    /// Of a log that is the same up to some event, and goes on otherwise.
    other_life: Files,
}

impl Whole {
    /// A store of about so many segments.
    fn new(random: &mut Rng, segments: usize) -> Self {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let mut model = Model::default();
        let half = segments * 25_000;
        append(&store, &mut model, random, half);
        let other = disk.fork();
        let other_store = open(&other);
        append(&other_store, &mut of_the_same(&other_store), random, half);
        other_store.close().unwrap();
        append(&store, &mut model, random, half);
        let older = index_files(&disk);
        if random.bool() {
            wait_for_rest(&disk);
        }
        let disk = if random.bool() {
            store.close().unwrap();
            disk
        } else {
            disk.fork()
        };
        Self { disk, model, older, other_life: index_files(&other) }
    }
}

/// The model of a store, as it is read.
fn of_the_same(store: &Store) -> Model {
    let mut model = Model::default();
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch().unwrap() {
        batch.iter().for_each(|event| model.follow(event));
    }
    model
}

/// Does something to the files of the index, and says what.
fn damage(whole: &Whole, disk: &MemoryDisk, random: &mut Rng) -> String {
    let there: Vec<_> = index_files(disk).into_iter().collect();
    let Some((name, bytes)) = random.choice(&there).cloned() else {
        return "there is nothing to damage".to_owned();
    };
    let length = bytes.len().max(1);
    let at = random.usize(0..length);
    let put = |bytes: &[u8], what: String| {
        disk.write_file(&name, bytes);
        format!("{name}: {what}")
    };
    match random.u8(0..13) {
        0 | 1 => {
            delete(disk, &name);
            format!("{name}: deleted")
        }
        2..5 if !bytes.is_empty() => {
            let bit = random.u8(0..8);
            let mut bytes = bytes;
            bytes[at] ^= 1 << bit;
            put(&bytes, format!("bit {bit} of byte {at}"))
        }
        5 => put(&bytes[..at.min(bytes.len())], format!("cut to {at}")),
        6 => {
            let mut bytes = bytes;
            let end = bytes.len().min(at / BLOCK * BLOCK + BLOCK);
            bytes[at / BLOCK * BLOCK..end].fill(0);
            put(&bytes, format!("zeroes up to {end} from the block of {at} on"))
        }
        7 => put(&vec![0; bytes.len()], "zeroes".to_owned()),
        8 => {
            let (other, others) = random.choice(&there).unwrap();
            disk.write_file(other, &bytes);
            put(others, format!("swapped with {other}"))
        }
        9 => put(&[], "empty".to_owned()),
        10 => match whole.other_life.get(&name) {
            Some(other) => put(other, "of another life".to_owned()),
            None => put(&bytes[..0], "empty".to_owned()),
        },
        11 => {
            for (name, bytes) in &whole.older {
                disk.write_file(name, bytes);
            }
            "older files are there again".to_owned()
        }
        _ => {
            let next = format!("{}.next", name.strip_suffix(".next").unwrap_or(&name));
            disk.write_file(&next, &bytes[..at.min(bytes.len())]);
            format!("{next}: {at} bytes")
        }
    }
}

fn delete(disk: &MemoryDisk, name: &str) {
    // Of an open store the file may have been merged into another a moment ago.
    if let Err(error) = disk.unlink(name) {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}

/// Asks a store that was opened for reading only, which changes nothing.
fn read_only(whole: &Whole, disk: &MemoryDisk, random: &mut Rng) {
    let (disk, before) = (disk.fork(), files(disk));
    let store = Store::options().open_read_only_on(Arc::new(disk.clone())).unwrap();
    whole.model.ask_some(&store, random, 8);
    if random.u8(0..4) == 0 {
        whole.model.ask_everything(&store);
    }
    drop(store);
    assert!(files(&disk) == before, "a store that was opened for reading only changed a file");
}

/// Opens a damaged store, asks it, and sees that its index becomes whole and stays that.
fn heals(whole: &mut Whole, disk: &MemoryDisk, random: &mut Rng) {
    let store = open(disk);
    whole.model.ask_some(&store, random, 8);
    whole.model.ask_everything(&store);
    wait_until_whole(&store);
    if random.bool() {
        append(&store, &mut whole.model, random, 200_000);
        whole.model.ask_some(&store, random, 8);
        wait_until_whole(&store);
    }
    // What was found to be of no use does not come back.
    let disk = if random.bool() {
        store.close().unwrap();
        disk.clone()
    } else {
        disk.fork()
    };
    let store = open(&disk);
    let found = store.verify(|_, _| {}).unwrap();
    assert!(found.is_clean(), "after the next opening: {found:?}");
    whole.model.ask_everything(&store);
    wait_until_whole(&store);
    wait_for_rest(&disk);
}

/// Damages stores of the seeds from `first` on, on two threads.
fn damages(test: &'static str, segments: std::ops::Range<usize>, cases: u64) {
    let first = seed::seed(1);
    let cases = std::env::var(CASES).map_or(cases, |cases| cases.parse().unwrap());
    let limit = Duration::from_mins(2) + Duration::from_millis(200) * u32::try_from(cases).unwrap();
    watchdog::within(limit, test, move || {
        let merged = &AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let segments = segments.clone();
                scope.spawn(move || {
                    for seed in (first..first + cases).filter(|seed| seed % 2 == thread) {
                        let mut done = Vec::new();
                        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                            let mut random = Rng::with_seed(seed);
                            let count = random.usize(segments.clone());
                            let mut whole = Whole::new(&mut random, count);
                            let disk = whole.disk.fork();
                            merged.fetch_add(u64::from(levels(&disk) > 0), Ordering::Relaxed);
                            for _ in 0..random.u8(1..6) {
                                done.push(damage(&whole, &disk, &mut random));
                            }
                            read_only(&whole, &disk, &mut random);
                            heals(&mut whole, &disk, &mut random);
                        }));
                        if let Err(panic) = run {
                            eprintln!("seed {seed}: {done:#?}");
                            let again = seed::replay("queries_damage", test, seed);
                            eprintln!("repeat with: {again}");
                            std::panic::resume_unwind(panic);
                        }
                    }
                });
            }
        });
        let merged = merged.load(Ordering::Relaxed);
        println!("{merged} of {cases} damaged stores had merged runs");
        assert!(merged >= cases / 4, "merged runs were hardly damaged: {merged}");
    });
}

#[test]
fn damage_to_the_index_changes_no_answer_and_does_not_last() {
    let test = "damage_to_the_index_changes_no_answer_and_does_not_last";
    damages(test, 4..24, 120);
}

/// Several threads ask a store whose index was damaged at once, so that they meet the same damage.
fn ask_at_once(whole: &Whole, store: &Store, seed: u64) {
    const THREADS: u64 = 4;
    let barrier = &Barrier::new(usize::try_from(THREADS).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                // The same questions by two of them each.
                let mut random = Rng::with_seed(seed + thread / 2);
                barrier.wait();
                whole.model.ask_some(store, &mut random, 10);
            });
        }
    });
}

#[test]
fn readers_that_meet_the_same_damage_at_once_all_get_right_answers() {
    let name = "readers_that_meet_the_same_damage_at_once_all_get_right_answers";
    watchdog::within(Duration::from_mins(2), name, move || {
        let first = seed::seed(1);
        for seed in first..first + 120 {
            let mut random = Rng::with_seed(seed);
            let whole = Whole::new(&mut random, 5);
            let disk = whole.disk.fork();
            // A bit in each file, behind the header, so that it is met when that part is read.
            // One that was being written when the disk was forked may have no part of it yet.
            for (name, bytes) in index_files(&disk).into_iter().filter(|(_, b)| b.len() > BLOCK) {
                disk.flip_bit(&name, random.u64(BLOCK as u64..bytes.len() as u64), 1);
            }
            println!("seed {seed}");
            let read_only = Store::options().open_read_only_on(Arc::new(disk.clone())).unwrap();
            ask_at_once(&whole, &read_only, seed);
            ask_at_once(&whole, &open(&disk), seed);
        }
    });
}

#[test]
fn damage_while_a_store_is_open_changes_no_answer() {
    let name = "damage_while_a_store_is_open_changes_no_answer";
    watchdog::within(Duration::from_mins(2), name, move || {
        let first = seed::seed(1);
        for seed in first..first + 60 {
            let mut random = Rng::with_seed(seed);
            let mut whole = Whole::new(&mut random, 12);
            let disk = whole.disk.fork();
            let read_only = Store::options().open_read_only_on(Arc::new(disk.fork())).unwrap();
            let writer = open(&disk);
            // Some files are mapped by now, others are not.
            if random.bool() {
                whole.model.ask_some(&writer, &mut random, 1);
            }
            for _ in 0..6 {
                let done = damage(&whole, &disk, &mut random);
                println!("seed {seed}: {done}");
                whole.model.ask_some(&writer, &mut random, 3);
                whole.model.ask_some(&read_only, &mut random, 1);
            }
            append(&writer, &mut whole.model, &mut random, 100_000);
            whole.model.ask_everything(&writer);
            writer.close().unwrap();
            heals(&mut whole, &disk, &mut random);
        }
    });
}

/// A store of which the runs of so many segments were merged, its model, and the files of its index from when it
/// had one segment less.
fn merged(seed: u64) -> (MemoryDisk, Model, Files) {
    let mut random = Rng::with_seed(seed);
    // Segments are sealed in the background, so that two of them may come at once.
    std::iter::repeat_with(|| merged_one_by_one(&mut random)).take(50).flatten().next().unwrap()
}

fn merged_one_by_one(random: &mut Rng) -> Option<(MemoryDisk, Model, Files)> {
    let (disk, mut model) = (MemoryDisk::new(), Model::default());
    let store = open(&disk);
    let mut before = None;
    while levels(&disk) == 0 {
        append(&store, &mut model, random, 8_000);
        std::thread::sleep(Duration::from_millis(1));
        let now = disk.fork();
        if runs(&now).len() + 1 == MERGED_AT_ONCE && levels(&now) == 0 {
            let files = index_files(&now);
            let is_whole = files.keys().all(|name| name.strip_suffix(".next").is_none());
            before = Some(files).filter(|_| is_whole).or(before);
        }
    }
    wait_for_rest(&disk);
    wait_until_whole(&store);
    store.close().unwrap();
    Some((disk, model, before?))
}

#[test]
fn runs_beside_the_one_that_they_were_merged_into_are_removed_and_never_matter() {
    let name = "runs_beside_the_one_that_they_were_merged_into_are_removed_and_never_matter";
    watchdog::within(Duration::from_mins(1), name, || {
        let (disk, model, before) = merged(seed::seed(1));
        let wanted = index_files(&disk);
        for (name, bytes) in &before {
            disk.write_file(name, bytes);
        }
        let parts: Vec<_> = before.keys().filter(|name| !wanted.contains_key(*name)).collect();
        assert_eq!(parts.len() + 1, MERGED_AT_ONCE, "{parts:?}");
        let read_only = Store::options().open_read_only_on(Arc::new(disk.fork())).unwrap();
        model.ask_everything(&read_only);
        let store = open(&disk);
        assert!(index_files(&disk) == wanted, "{:?} after an opening", disk.file_names());
        model.ask_everything(&store);
        wait_until_whole(&store);
        // Where the merged one is damaged, it is of no use, and what it was merged from is not needed either.
        store.close().unwrap();
        for (name, bytes) in &before {
            disk.write_file(name, bytes);
        }
        let all = run(1, MERGED_AT_ONCE as u64);
        disk.write_file(&all, &wanted[&all][..2 * BLOCK]);
        let store = open(&disk);
        model.ask_everything(&store);
        wait_until_whole(&store);
        wait_for_rest(&disk);
        let again = index_files(&disk).remove(&all);
        assert!(again.is_none_or(|bytes| bytes == wanted[&all]), "the damaged one is there");
    });
}

#[test]
fn half_written_files_of_the_index_are_removed_at_the_next_opening_and_never_matter() {
    let name = "half_written_files_of_the_index_are_removed_at_the_next_opening_and_never_matter";
    watchdog::within(Duration::from_mins(1), name, || {
        let (disk, model, before) = merged(seed::seed(2));
        let wanted = index_files(&disk);
        let (single, table) = before.iter().next_back().zip(before.iter().next()).unwrap();
        for (name, bytes) in [single, table, wanted.iter().next_back().unwrap()] {
            for length in [0, 1, BLOCK, bytes.len() / 2, bytes.len()] {
                let disk = disk.fork();
                let next = format!("{name}.next");
                disk.write_file(&next, &bytes[..length]);
                let before = files(&disk);
                let read_only = Store::options().open_read_only_on(Arc::new(disk.clone())).unwrap();
                model.ask_some(&read_only, &mut Rng::with_seed(3), 10);
                assert!(files(&disk) == before, "a reader changed a file");
                let store = open(&disk);
                assert!(!disk.file_names().contains(&next), "{next} of {length} bytes is there");
                assert!(index_files(&disk) == wanted);
                model.ask_some(&store, &mut Rng::with_seed(4), 10);
                wait_until_whole(&store);
            }
        }
    });
}

#[test]
fn a_merged_run_that_was_given_up_is_merged_again_from_its_parts() {
    let name = "a_merged_run_that_was_given_up_is_merged_again_from_its_parts";
    watchdog::within(Duration::from_mins(1), name, || {
        let (disk, mut model, _) = merged(seed::seed(3));
        let all = run(1, MERGED_AT_ONCE as u64);
        // Some more segments, which stand behind those that are merged again.
        let (store, mut random) = (open(&disk), Rng::with_seed(5));
        while runs(&disk).len() < 5 {
            append(&store, &mut model, &mut random, 8_000);
        }
        wait_for_rest(&disk);
        wait_until_whole(&store);
        store.close().unwrap();
        let good = disk.read_file(&all);
        disk.write_file(&all, &good[..BLOCK]);
        let store = open(&disk);
        model.ask_everything(&store);
        wait_until_whole(&store);
        wait_for_rest(&disk);
        wait_until("the run is merged again", || disk.file_names().contains(&all));
        // What is merged follows from the events alone.
        assert!(disk.read_file(&all) == good, "{:?}", runs(&disk));
        let store = open(&disk.fork());
        let found = store.verify(|_, _| {}).unwrap();
        assert!(found.is_clean() && found.indexes_missing == 0, "{found:?}");
        model.ask_everything(&store);
    });
}

#[test]
fn a_table_that_turns_out_to_be_damaged_is_written_again_though_nothing_else_is_to_do() {
    let name = "a_table_that_turns_out_to_be_damaged_is_written_again_though_nothing_else_is_to_do";
    watchdog::within(Duration::from_mins(1), name, || {
        let (disk, model, _) = merged(seed::seed(4));
        let store = open(&disk);
        wait_until_whole(&store);
        wait_for_rest(&disk);
        let tables = disk.file_names().into_iter().filter(|name| name.starts_with("segment-"));
        let tables: Vec<_> = tables.filter(|name| is_index(name)).collect();
        // Nobody has asked for them yet.
        for name in &tables {
            disk.flip_bit(name, BLOCK as u64, 0);
        }
        model.ask_everything(&store);
        wait_until_whole(&store);
        assert!(!tables.is_empty());
    });
}
