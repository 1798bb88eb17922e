//! What happens to a store's files between two openings: missing, foreign, older and newer ones, and
//! garbage. One behaviour each; random single damages are in `damage.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "the store spells its own names"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stratalog::disk::MemoryDisk;
use stratalog::{Case, Expect, NewEvent, OpenError, Options, Position, ReadError, Refusal, Store};
use stratalog_tests::oracle::{all, judge, stream};
use stratalog_tests::script::{Known, Script};
use stratalog_tests::{seed, watchdog};

const SCRIPT: Script = Script::small(21);
const MANIFEST: &str = "manifest";

fn options() -> Options {
    Store::options().segment_bytes(64 << 10)
}

fn try_open(disk: &MemoryDisk) -> Result<Store, OpenError> {
    options().open_on(Arc::new(disk.clone()))
}

fn open(disk: &MemoryDisk) -> Store {
    try_open(disk).unwrap()
}

fn refused(disk: &MemoryDisk) -> Refusal {
    let before = files(disk);
    let refusal = match try_open(disk) {
        Err(OpenError::Refused(refusal)) => *refusal,
        other => panic!("not refused: {other:?}"),
    };
    // No byte was changed; a lock file is none of the store's.
    let after = files(disk);
    for (name, bytes) in before {
        assert!(after.get(&name) == Some(&bytes), "{name} was changed by a refused opening");
    }
    refusal
}

fn files(disk: &MemoryDisk) -> BTreeMap<String, Vec<u8>> {
    disk.file_names().into_iter().map(|name| (name.clone(), disk.read_file(&name))).collect()
}

fn of_files(files: &BTreeMap<String, Vec<u8>>) -> MemoryDisk {
    let disk = MemoryDisk::new();
    for (name, bytes) in files {
        disk.write_file(name, bytes);
    }
    disk
}

/// Appends units and says so by the number behind the last.
fn append(disk: &MemoryDisk, store: &Store, units: std::ops::Range<usize>) -> Known {
    let (known, failed) = SCRIPT.run(store, disk, units);
    assert!(failed.is_none(), "{failed:?}");
    known
}

/// A cleanly closed store of so many units, with several sealed segments.
fn closed(units: usize) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    append(&disk, &store, 0..units);
    store.close().unwrap();
    disk
}

fn without(disk: &MemoryDisk, name: &str) -> MemoryDisk {
    let mut files = files(disk);
    assert!(files.remove(name).is_some(), "there is no {name}");
    of_files(&files)
}

fn log(number: u64) -> String {
    format!("segment-{number:010}.log")
}

fn last_log(disk: &MemoryDisk) -> u64 {
    let logs = disk.file_names().into_iter().filter(|name| name.ends_with(".log"));
    logs.filter_map(|name| name[8..18].parse().ok()).max().unwrap()
}

#[test]
fn any_missing_segment_is_refused_by_its_name() {
    let disk = closed(150);
    for number in 1..=last_log(&disk) {
        let refusal = refused(&without(&disk, &log(number)));
        assert_eq!((refusal.case(), refusal.file()), (Case::SegmentMissing, &*log(number)));
        assert_eq!(refusal.segment(), Some(number));
    }
}

#[test]
fn a_missing_manifest_is_refused_and_never_an_empty_store() {
    let refusal = refused(&without(&closed(150), MANIFEST));
    assert_eq!((refusal.case(), refusal.file()), (Case::ManifestMissing, MANIFEST));
}

fn is_index(name: &str) -> bool {
    name.ends_with(".table") || name.ends_with(".index")
}

#[test]
fn a_missing_lock_or_index_file_is_made_anew() {
    let disk = closed(150);
    for name in disk.file_names() {
        if name == "lock" || is_index(&name) || name == "manifest.next" {
            let disk = without(&disk, &name);
            let store = open(&disk);
            judge(&store, SCRIPT, Known::exactly(150)).unwrap();
            let deadline = std::time::Instant::now() + Duration::from_secs(5);
            while !disk.file_names().contains(&name) {
                assert!(std::time::Instant::now() < deadline, "{name} was not made anew");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

#[test]
fn a_damaged_index_gives_right_answers() {
    let whole = closed(150);
    for kind in [".table", ".index"] {
        let mut names = whole.file_names().into_iter().filter(|name| name.ends_with(kind));
        let (index, other) = (names.next().unwrap(), names.next().unwrap());
        let good = whole.read_file(&index);
        let halves = good.len() / 2;
        let garbage: Vec<u8> = good.iter().map(|byte| byte.wrapping_mul(31) ^ 0x55).collect();
        // Whole, but for what the header says of the sections behind it.
        let mut hollow = good.clone();
        hollow[4096..].fill(0);
        for bytes in [&[][..], &good[..halves], &garbage, &hollow, &whole.read_file(&other)] {
            let disk = whole.fork();
            disk.write_file(&index, bytes);
            judge(&open(&disk.fork()), SCRIPT, Known::exactly(150)).unwrap();
        }
    }
}

#[test]
fn a_segment_of_another_store_is_refused() {
    let (disk, other) = (closed(150), closed(150));
    for number in 1..=last_log(&disk).min(last_log(&other)) {
        let disk = disk.fork();
        let mut bytes = other.read_file(&log(number));
        let length = disk.read_file(&log(number)).len();
        bytes.resize(bytes.len().max(length), 0);
        disk.write_file(&log(number), &bytes);
        let refusal = refused(&disk);
        assert_eq!((refusal.case(), refusal.segment()), (Case::SegmentForeign, Some(number)));
    }
}

#[test]
fn two_segments_swapped_are_refused() {
    let disk = closed(150);
    let (one, two) = (disk.read_file(&log(1)), disk.read_file(&log(2)));
    disk.write_file(&log(1), &two);
    disk.write_file(&log(2), &one);
    let case = refused(&disk).case();
    assert!(matches!(case, Case::SegmentForeign | Case::SegmentShort), "{case}");
}

#[test]
fn leftover_temporary_files_never_matter() {
    let disk = closed(150);
    let next = last_log(&disk) + 1;
    for (name, bytes) in [
        ("manifest.next".to_owned(), vec![9; 5_000]),
        (format!("segment-{:010}.table.next", 1), vec![9; 100]),
        (format!("segment-{:010}.table.next", 77), vec![]),
        (format!("segment-{:010}.table", 77), vec![1; 5_000]),
        (format!("terms-{:010}-{:010}.index.next", 1, 2), vec![9; 100]),
        (format!("terms-{:010}-{:010}.index", 1, 3), vec![1; 5_000]),
        (format!("terms-{:010}-{:010}.index", 1, 77), vec![1; 5_000]),
        (format!("terms-{:010}-{:010}.index", 2, 1), vec![1; 5_000]),
        (format!("segment-{:010}.torn-1", 1), vec![9; 100]),
        (log(next), vec![]),
        (log(next), vec![0; 65_536]),
        (log(next), vec![9; 4_096]),
        (log(next + 5), vec![9; 70]),
        ("some-other-file".to_owned(), vec![9; 70]),
        ("segment-x.log".to_owned(), vec![9; 70]),
    ] {
        let disk = disk.fork();
        disk.write_file(&name, &bytes);
        let store = try_open(&disk).unwrap_or_else(|error| panic!("{name}: {error}"));
        let known = append(&disk, &store, 150..250);
        let killed = disk.fork();
        store.close().unwrap();
        for disk in [disk, killed] {
            judge(&open(&disk), SCRIPT, known).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        }
    }
}

/// Puts another version into a file's header, with its checksum made right again.
fn with_version(bytes: &mut [u8], version: u32, used: usize) {
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..used]);
    bytes[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
}

#[test]
fn a_newer_format_is_refused() {
    for version in [0, 2, u32::MAX] {
        let disk = closed(150);
        let mut bytes = disk.read_file(MANIFEST);
        let used = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
        with_version(&mut bytes, version, usize::try_from(used).unwrap());
        disk.write_file(MANIFEST, &bytes);
        let refusal = refused(&disk).to_string();
        assert!(refusal.contains(&version.to_string()), "{refusal}");
        for number in [1, 2, last_log(&disk)] {
            let disk = closed(150);
            let mut bytes = disk.read_file(&log(number));
            with_version(&mut bytes, version, 80);
            disk.write_file(&log(number), &bytes);
            let refusal = refused(&disk);
            assert!(matches!(refusal.case(), Case::SegmentHeaderDamaged(_)), "{refusal}");
            assert!(refusal.to_string().contains(&version.to_string()), "{refusal}");
        }
    }
}

#[test]
fn a_manifest_with_hostile_lengths_is_refused_without_large_allocations() {
    for (offset, value) in [(16, u64::MAX), (16, 0), (16, 1 << 40), (64, u64::MAX), (64, 1 << 22)] {
        let disk = closed(150);
        let mut bytes = disk.read_file(MANIFEST);
        let used = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
        bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        with_version(&mut bytes, 1, usize::try_from(used).unwrap());
        disk.write_file(MANIFEST, &bytes);
        assert!(matches!(refused(&disk).case(), Case::ManifestDamaged(_)));
    }
}

/// An older copy of the manifest comes back, as when the device lost what replaced it.
fn with_older_manifest(from: &MemoryDisk, to: &MemoryDisk) -> MemoryDisk {
    let disk = to.fork();
    disk.write_file(MANIFEST, &from.read_file(MANIFEST));
    disk
}

/// It opens and shows everything: what the log says is newer than an older manifest.
fn nothing_lost(disk: &MemoryDisk, known: Known, what: &str) -> Result<(), String> {
    let store = try_open(disk).map_err(|error| format!("{what}: {error}"))?;
    judge(&store, SCRIPT, known).map(drop).map_err(|wrong| format!("{what}: {wrong}"))
}

#[test]
fn an_older_manifest_of_the_same_opening_loses_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    for units in [1, 5, 30, 45, 70, 120] {
        let older = disk.fork();
        let begin = judge(&store, SCRIPT, Known { acknowledged: 0, submitted: 999 }).unwrap().units;
        let known = append(&disk, &store, begin..begin + units);
        nothing_lost(&with_older_manifest(&older, &disk.fork()), known, "while open").unwrap();
    }
}

#[test]
fn a_manifest_from_before_the_last_opening_loses_nothing() {
    for more in [1, 20, 60, 150] {
        let disk = closed(50);
        let older = disk.fork();
        let store = open(&disk);
        let known = append(&disk, &store, 50..50 + more);
        std::thread::sleep(Duration::from_millis(20));
        let what = format!("a closed store, opened, {more} units more");
        nothing_lost(&with_older_manifest(&older, &disk), known, &what).unwrap();
        store.close().unwrap();
        nothing_lost(&with_older_manifest(&older, &disk), known, &what).unwrap();
    }
}

#[test]
fn a_manifest_from_before_a_cut_loses_nothing() {
    for more in [1, 20, 60, 150] {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        append(&disk, &store, 0..30);
        let killed = disk.fork();
        // A torn batch: its first bytes are not there, but something behind is.
        let name = log(last_log(&killed) - 1);
        let mut bytes = killed.read_file(&name);
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 512 * 512 + 1_024;
        bytes[end..end + 512].fill(0xA5);
        killed.write_file(&name, &bytes);
        let older = killed.fork();
        let again = open(&killed);
        assert_eq!(again.opened_as(), Case::TornTail);
        let known = append(&killed, &again, 30..30 + more);
        std::thread::sleep(Duration::from_millis(20));
        let what = format!("a cut store, {more} units more");
        nothing_lost(&with_older_manifest(&older, &killed), known, &what).unwrap();
    }
}

#[test]
fn damage_to_the_tail_of_a_closed_store_is_refused() {
    let disk = closed(20);
    let name = log(1);
    let bytes = disk.read_file(&name);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (12_288..=end).step_by(97) {
        let disk = disk.fork();
        disk.flip_bit(&name, at as u64, 3);
        if let Ok(store) = try_open(&disk) {
            panic!("byte {at} of the tail is damaged, and it opened as {}", store.opened_as());
        }
        let refusal = refused(&disk);
        assert_eq!((refusal.file(), refusal.case()), (&*name, Case::RecordedEndLost), "{at}");
    }
    let cut = disk.fork();
    cut.write_file(&name, &[bytes[..12_288].to_vec(), vec![0; bytes.len() - 12_288]].concat());
    assert_eq!(refused(&cut).case(), Case::RecordedEndLost, "all of it is zero");
}

#[test]
fn damage_to_what_a_witness_knew_is_refused_after_a_kill() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    append(&disk, &store, 0..20);
    std::thread::sleep(Duration::from_millis(50));
    let killed = disk.fork();
    let name = log(1);
    let bytes = killed.read_file(&name);
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (12_288..end).step_by(211) {
        let killed = killed.fork();
        killed.flip_bit(&name, at as u64, 3);
        let refusal = refused(&killed);
        assert_eq!(refusal.case(), Case::AcknowledgedDamaged, "{at}: {refusal}");
    }
}

#[test]
fn a_damaged_event_of_a_sealed_segment_is_reported_and_all_others_are_readable() {
    let disk = closed(150);
    let whole = all(open(&disk.fork()).read_all().forward()).unwrap();
    let bytes = disk.read_file(&log(1));
    // A payload that is damaged: found by its bytes.
    let victim = whole[..20].iter().max_by_key(|seen| seen.event.payload().len()).unwrap();
    let payload = victim.event.payload();
    let at = bytes.windows(payload.len()).position(|window| window == payload).unwrap();
    disk.flip_bit(&log(1), at as u64 + 5, 1);
    let store = open(&disk);
    let mut reader = store.read_all().forward();
    let mut read = Vec::new();
    let error = loop {
        match reader.next_batch() {
            Ok(Some(batch)) => read.extend(batch.iter().map(|event| event.position().get())),
            Ok(None) => panic!("the damage is not reported"),
            Err(error) => break error,
        }
    };
    let ReadError::Damaged { segment, offset, first_position, last_position, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((segment, first_position, last_position), (1, victim.position, victim.position));
    assert!(offset <= at as u64 && at as u64 - offset < 4_096, "{offset} is not near {at}");
    assert_eq!(read, (1..victim.position).collect::<Vec<_>>(), "what is before");
    let behind = all(store.read_all().after(Position::from(last_position)).forward()).unwrap();
    assert_eq!(behind, whole[usize::try_from(last_position).unwrap()..], "what is behind");
    for number in 0..7 {
        let name = format!("stream-{number}");
        let read = stream(store.read_stream(&name).forward());
        assert_eq!(read.is_err(), name == victim.stream, "{name}");
    }
}

#[test]
fn garbage_in_any_region_of_any_file_is_an_error_or_does_not_matter() {
    let disk = closed(150);
    let first = seed::seed(1);
    watchdog::within(Duration::from_mins(1), "reading garbage", move || {
        for seed in first..first + 300 {
            let mut random = fastrand::Rng::with_seed(seed);
            let disk = disk.fork();
            let names = disk.file_names();
            let name = &names[random.usize(0..names.len())];
            let mut bytes = disk.read_file(name);
            if bytes.is_empty() {
                continue;
            }
            let from = random.usize(0..bytes.len());
            let end = bytes.len().min(from + random.usize(1..20_000));
            bytes[from..end].iter_mut().for_each(|byte| *byte = random.u8(..));
            disk.write_file(name, &bytes);
            if let Ok(store) = try_open(&disk) {
                match judge(&store, SCRIPT, Known::exactly(150)) {
                    Ok(_) => {}
                    Err(wrong) => {
                        let reported = wrong.contains("is damaged at");
                        assert!(reported, "{name}, {from}..{end}, seed {seed}: {wrong}");
                    }
                }
                let _ = store.append("more", Expect::Any, [NewEvent::bytes("t", vec![1])]).wait();
            }
        }
    });
}

#[test]
fn a_damaged_header_or_a_missing_file_among_many_sealed_segments_is_found() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    while disk.file_names().iter().filter(|name| name.ends_with(".table")).count() < 20 {
        let event = NewEvent::bytes("t", vec![1; 15_000]);
        store.append("s", Expect::Any, [event]).wait().unwrap();
    }
    store.close().unwrap();
    let whole = files(&disk);
    for number in [1, 7, 18] {
        let name = format!("segment-{number:010}.log");
        let damaged = of_files(&whole);
        damaged.flip_bit(&name, 20, 0);
        let refusal = refused(&damaged);
        assert!(matches!(refusal.case(), Case::SegmentHeaderDamaged(_)), "{refusal}");
        assert_eq!(refusal.segment(), Some(number));

        let mut without = whole.clone();
        without.remove(&name);
        let refusal = refused(&of_files(&without));
        assert_eq!((refusal.case(), refusal.segment()), (Case::SegmentMissing, Some(number)));
    }
    // The first of several is the one that is named.
    let damaged = of_files(&whole);
    damaged.flip_bit("segment-0000000019.log", 20, 0);
    damaged.flip_bit("segment-0000000003.log", 20, 0);
    assert_eq!(refused(&damaged).segment(), Some(3));
}
