//! What stands behind the end of the log: torn, damaged, stale or foreign. One behaviour each; all crashes
//! are in `crash_sweep.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog::disk::MemoryDisk;
use stratalog::{Case, Expect, NewEvent, OpenError, Store};

const SEGMENT: &str = "segment-0000000001.log";
/// Where the first batch of a segment stands.
const DATA: usize = 12_288;

fn open(disk: &MemoryDisk) -> Result<Store, OpenError> {
    Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone()))
}

/// Appends events one after the other, each in a batch of its own.
fn append(store: &Store, payloads: &[u8]) {
    for payload in payloads {
        let event = NewEvent::bytes("t", vec![*payload; 700]);
        store.append("s", Expect::Any, [event]).wait().unwrap();
    }
}

/// What every event's payload begins with, in order.
fn read(store: &Store) -> Vec<u8> {
    let mut found = Vec::new();
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch().unwrap() {
        found.extend(batch.iter().map(|event| event.payload()[0]));
    }
    found
}

/// A killed store of these events, whose last batch no witness knew of, and where that batch stands.
fn killed(payloads: &[u8]) -> (MemoryDisk, std::ops::Range<usize>) {
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    let (last, before) = payloads.split_last().unwrap();
    append(&store, before);
    let start = used(&disk.read_file(SEGMENT));
    append(&store, &[*last]);
    let fork = disk.fork();
    let end = used(&fork.read_file(SEGMENT));
    // Batches are dense and aligned, and these end with a byte that is not zero.
    (fork, start.next_multiple_of(16)..end)
}

fn used(segment: &[u8]) -> usize {
    segment.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[test]
fn a_flipped_bit_in_the_last_batch_before_a_kill_is_refused_and_never_a_clean_end() {
    for byte in [0, 5, 20, 100, 300, 600] {
        let (disk, last) = killed(&[1, 2, 3]);
        disk.flip_bit(SEGMENT, (last.start + byte) as u64, 3);
        match open(&disk) {
            Err(OpenError::Refused(refusal)) => {
                assert_eq!(refusal.segment(), Some(1));
                assert_eq!(refusal.first_lost().map(u64::from), Some(3), "{refusal}");
            }
            // A witness may have been written before the process was killed.
            Ok(store) => panic!("byte {byte} opened as {}", store.opened_as()),
            Err(error) => panic!("byte {byte}: {error}"),
        }
    }
}

#[test]
fn a_batch_that_lacks_a_sector_is_cut_off_and_kept_aside() {
    let (disk, last) = killed(&[1, 2, 3]);
    let mut bytes = disk.read_file(SEGMENT);
    let sector = last.start.next_multiple_of(512);
    bytes[sector..sector + 512].fill(0);
    disk.write_file(SEGMENT, &bytes);
    match open(&disk) {
        Ok(store) => {
            assert_eq!(store.opened_as(), Case::TornTail);
            assert_eq!(read(&store), [1, 2]);
            let [torn] = store.torn_tail() else { panic!("{:?}", store.torn_tail()) };
            assert_eq!((torn.segment(), torn.offset()), (1, last.start as u64));
            assert_eq!(torn.bytes(), (last.end - last.start) as u64);
            let kept = disk.read_file(torn.kept_in());
            let from = last.start % 4096;
            assert!(kept[from..].starts_with(&bytes[last.start..last.end]));
        }
        // It had been idle for so long before the kill that a witness knew of the batch.
        Err(OpenError::Refused(refusal)) => {
            assert_eq!(refusal.case(), Case::AcknowledgedDamaged);
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_was_cut_off_is_not_resurrected_by_a_batch_of_the_same_length() {
    // A log of four batches, of which the third is torn when the machine crashes.
    let (later, last) = killed(&[1, 2, 3, 4]);
    let torn = later.fork();
    let mut bytes = torn.read_file(SEGMENT);
    let third = last.start - (last.end.next_multiple_of(16) - last.start)..last.start;
    let old = bytes[third.start..last.end].to_vec();
    bytes[third.start..].fill(0);
    bytes[third.start..third.start + 100].copy_from_slice(&old[..100]);
    torn.write_file(SEGMENT, &bytes);
    let store = match open(&torn) {
        Ok(store) => store,
        // A witness knew of them, so that nothing can be cut.
        Err(OpenError::Refused(refusal)) => {
            assert_eq!(refusal.case(), Case::AcknowledgedDamaged);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(store.opened_as(), Case::TornTail);
    // A batch of the same length takes the place of the third in the order of the log.
    append(&store, &[7]);
    assert_eq!(read(&store), [1, 2, 7]);
    // The machine crashes, and what had been in flight behind the cut reaches the disk after all.
    let crashed = torn.fork();
    let mut bytes = crashed.read_file(SEGMENT);
    bytes.resize(bytes.len().max(last.end.next_multiple_of(4096)), 0);
    bytes[third.start..last.end].copy_from_slice(&old);
    crashed.write_file(SEGMENT, &bytes);
    let store = open(&crashed).unwrap();
    assert_eq!(read(&store), [1, 2, 7]);
    append(&store, &[8]);
    store.close().unwrap();
    assert_eq!(read(&open(&crashed).unwrap()), [1, 2, 7, 8]);
}

#[test]
fn frames_of_an_earlier_life_of_a_file_are_invisible() {
    let (earlier, last) = killed(&[1, 2, 3, 4, 5, 6]);
    let earlier = earlier.read_file(SEGMENT);
    let disk = MemoryDisk::new();
    let store = open(&disk).unwrap();
    append(&store, &[9]);
    store.close().unwrap();
    let mut bytes = disk.read_file(SEGMENT);
    let end = used(&bytes).next_multiple_of(512);
    assert!(DATA < end && end < last.end);
    bytes[end..last.end].copy_from_slice(&earlier[end..last.end]);
    disk.write_file(SEGMENT, &bytes);
    let store = open(&disk).unwrap();
    assert_eq!(store.opened_as(), Case::RecordedEnd);
    assert_eq!(read(&store), [9]);
    append(&store, &[10, 11]);
    store.close().unwrap();
    assert_eq!(read(&open(&disk).unwrap()), [9, 10, 11]);
}

#[test]
fn a_missing_batch_in_front_of_a_good_one_is_refused_since_the_later_knew_of_it() {
    let (disk, last) = killed(&[1, 2, 3, 4]);
    let length = last.end.next_multiple_of(16) - last.start;
    let mut bytes = disk.read_file(SEGMENT);
    bytes[last.start - length..last.start].fill(0);
    disk.write_file(SEGMENT, &bytes);
    let Err(OpenError::Refused(refusal)) = open(&disk) else { panic!("it was opened") };
    assert_eq!(refusal.case(), Case::AcknowledgedDamaged);
    assert_eq!(refusal.first_lost().map(u64::from), Some(3));
    assert_eq!(refusal.offset(), Some((last.start - length) as u64));
}

#[test]
fn a_store_may_change_between_rewriting_blocks_and_never_doing_so() {
    let disk = MemoryDisk::new();
    let mut expected = Vec::new();
    for (round, strict) in [false, true, true, false, true, false].into_iter().enumerate() {
        let options = Store::options().segment_bytes(64 << 10).strict_blocks(strict);
        let store = options.open_on(Arc::new(disk.clone())).unwrap();
        assert_eq!(read(&store), expected);
        let payloads: Vec<u8> = (0..10).map(|n| u8::try_from(round * 10 + n).unwrap()).collect();
        append(&store, &payloads);
        expected.extend(payloads);
        if round % 2 == 0 {
            store.close().unwrap();
        } else {
            // Killed: what is open keeps its memory, and the next opening takes a copy of the disk.
            std::thread::sleep(Duration::from_millis(1));
            let fork = disk.fork();
            let store = options.open_on(Arc::new(fork)).unwrap();
            assert_eq!(read(&store), expected);
        }
    }
    let store = open(&disk).unwrap();
    assert_eq!(read(&store), expected);
    assert!(store.verify(|_, _| {}).unwrap().is_clean());
}

#[test]
fn what_is_before_the_damage_can_be_salvaged_and_what_is_behind_it_given_up() {
    for closed in [true, false] {
        let disk = MemoryDisk::new();
        let store = open(&disk).unwrap();
        append(&store, &[1, 2]);
        let third = used(&disk.read_file(SEGMENT)).next_multiple_of(16);
        append(&store, &[3, 4]);
        let disk = if closed {
            store.close().unwrap();
            disk
        } else {
            disk.fork()
        };
        // Acknowledged, and damaged beyond what a tear leaves.
        disk.flip_bit(SEGMENT, third as u64 + 200, 1);
        let options = Store::options().segment_bytes(64 << 10);
        let reader =
            |options: &stratalog::Options| options.open_read_only_on(Arc::new(disk.clone()));
        let Err(OpenError::Refused(refusal)) = open(&disk) else { panic!("it was opened") };
        let damaged = refusal.first_lost().unwrap();
        assert_eq!(damaged.get(), 3);
        assert!(reader(&options).is_err());
        let salvaged = reader(&options.clone().salvage(true)).unwrap();
        assert_eq!((salvaged.opened_as(), read(&salvaged)), (Case::Salvaged, vec![1, 2]));
        for wrong in [1, 2, 4, 5] {
            let refused = options.clone().give_up_from(wrong).open_on(Arc::new(disk.clone()));
            assert!(matches!(refused, Err(OpenError::Refused(_))), "{wrong}");
        }
        let repair = options.clone().give_up_from(damaged);
        let repaired = repair.open_on(Arc::new(disk.clone())).unwrap();
        assert_eq!((repaired.opened_as(), read(&repaired)), (Case::GivenUp, vec![1, 2]));
        assert_eq!(repaired.torn_tail().len(), 1);
        append(&repaired, &[9]);
        repaired.close().unwrap();
        let store = open(&disk).unwrap();
        assert_eq!((store.opened_as(), read(&store)), (Case::RecordedEnd, vec![1, 2, 9]));
        assert!(store.verify(|_, _| {}).unwrap().is_clean());
    }
}

/// A killed store with at least 8 MiB of batches of many sizes in its tail and a prepared segment behind
/// them, and how many events it has.
fn killed_with_a_large_tail() -> (MemoryDisk, u64) {
    let disk = MemoryDisk::new();
    let store = open_large(&disk).unwrap();
    let mut random = fastrand::Rng::with_seed(5);
    let (mut count, mut ready) = (0, false);
    let deadline = Instant::now() + Duration::from_mins(1);
    while !ready {
        assert!(Instant::now() < deadline, "the next segment is made in the background");
        let events = random.usize(1..40);
        let size = random.usize(0..30_000);
        let stream = format!("s-{}", random.u8(..));
        let batch: Vec<_> = (0..events).map(|_| NewEvent::bytes("t", vec![1; size])).collect();
        store.append(&stream, Expect::Any, batch).wait().unwrap();
        count += events as u64;
        // Only looked at now and then: it copies the files.
        if count.is_multiple_of(8) {
            let (name, end) = last_used(&disk);
            ready = end > 8 << 20 && logs(&disk).last() > Some(&name);
        }
    }
    // It takes part in the log from when the manifest names it, by the salt in its header.
    let next = logs(&disk).pop().unwrap();
    while !is_named(&disk, &next) {
        assert!(Instant::now() < deadline, "the next segment is named once it is made");
        std::thread::sleep(Duration::from_millis(5));
    }
    (disk.fork(), count)
}

fn is_named(disk: &MemoryDisk, segment: &str) -> bool {
    const SALT: std::ops::Range<usize> = 40..48;
    let header = disk.read_file(segment);
    let salt = &header[SALT];
    let manifest = disk.read_file("manifest");
    salt.iter().any(|byte| *byte != 0) && manifest.windows(8).any(|bytes| bytes == salt)
}

fn logs(disk: &MemoryDisk) -> Vec<String> {
    disk.file_names().into_iter().filter(|name| is_log(name)).collect()
}

fn is_log(name: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|extension| extension == "log")
}

fn open_large(disk: &MemoryDisk) -> Result<Store, OpenError> {
    Store::options().segment_bytes(16 << 20).open_on(Arc::new(disk.clone()))
}

/// The last segment that has batches, and where they end.
fn last_used(disk: &MemoryDisk) -> (String, usize) {
    let with_end = logs(disk).into_iter().rev().map(|name| {
        let end = disk.read_file(&name).iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        (name, end)
    });
    with_end.into_iter().find(|(_, end)| *end > DATA).unwrap()
}

#[test]
fn a_large_tail_comes_back_whole() {
    let (disk, count) = killed_with_a_large_tail();
    let store = open_large(&disk).unwrap();
    assert_eq!(store.head().get(), count);
    assert_eq!(read(&store).len() as u64, count);
    assert!(store.verify(|_, _| {}).unwrap().is_clean());
    store.append("s-1", Expect::Any, [NewEvent::bytes("t", vec![2])]).wait().unwrap();
    store.close().unwrap();
    let store = open_large(&disk).unwrap();
    assert_eq!(store.opened_as(), Case::RecordedEnd);
    assert_eq!(store.head().get(), count + 1);
}

#[test]
fn a_flipped_bit_far_inside_a_large_tail_is_refused() {
    let (disk, _) = killed_with_a_large_tail();
    let (name, end) = last_used(&disk);
    for at in [DATA + 4000, end / 2] {
        let disk = disk.fork();
        disk.flip_bit(&name, at as u64, 0);
        match open_large(&disk) {
            Err(OpenError::Refused(refusal)) => assert_eq!(refusal.file(), name, "{refusal}"),
            opened => panic!("{at}: {opened:?}"),
        }
    }
}

#[test]
fn bytes_far_behind_the_end_of_a_large_tail_are_seen() {
    let (disk, count) = killed_with_a_large_tail();
    let spare = logs(&disk).pop().unwrap();
    let bytes = disk.read_file(&spare).len();
    for at in [DATA + 600, 2 << 20, (2 << 20) - 1, bytes - 1] {
        let disk = disk.fork();
        disk.flip_bit(&spare, at as u64, 0);
        let store = open_large(&disk).unwrap();
        assert_eq!(store.opened_as(), Case::TornTail, "{at}");
        assert_eq!(store.torn_tail().len(), 1);
        assert_eq!(store.torn_tail()[0].bytes(), (at + 1 - DATA) as u64);
        assert_eq!(store.head().get(), count);
    }
}
