//! Snapshots beside crashes and failing disks: nothing is lost but time, and what was dropped as wrong does not come back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stratalog::disk::{Disk, Exploration, Fault, FaultError, FaultPlan, MemoryDisk};
use stratalog::{AppendError, Expect, Policy, Store};
use stratalog_tests::accounts::{Accounts, Noted, WrongAccounts, random_event};
use stratalog_tests::snapshots::{STREAMS, book, check, open, options};

// --- what was dropped because it is wrong

/// A store with a wrong snapshot of the last stream, and right ones of the others.
fn made_wrong() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    for stream in STREAMS {
        book(&store, stream, 10);
    }
    assert_eq!(store.folded::<WrongAccounts>().take("a-4").wait().unwrap(), Some(9));
    store.close().unwrap();
    let store = open(&disk);
    for stream in &STREAMS[..3] {
        store.folded::<Accounts>().take(stream).wait().unwrap();
    }
    assert_eq!(store.load::<Accounts>("a-4").unwrap().state().total, -50);
    store.close().unwrap();
    disk
}

/// Drops it, and goes on.
fn drop_wrong(store: &Store, disk: &MemoryDisk, strict: bool) {
    assert_eq!(store.snapshots().drop_stream("a-4").unwrap(), 1);
    if strict {
        disk.mark(1);
    }
    let accounts = store.folded::<Accounts>().snapshots(Policy::never());
    for round in 0..3 {
        for stream in &STREAMS[..3] {
            book(store, stream, 1);
            let taken = accounts.take(stream).wait();
            assert!(!strict || taken.is_ok(), "{taken:?}");
        }
        let compacted = store.snapshots().compact();
        assert!(!strict || compacted.is_ok(), "{compacted:?}");
        if round == 1 {
            let dropped = store.snapshots().drop_stream("a-3");
            assert!(!strict || dropped.is_ok(), "{dropped:?}");
        }
    }
}

#[test]
fn a_wrong_snapshot_that_was_dropped_does_not_come_back_by_a_crash() {
    let disk = made_wrong();
    disk.start_recording();
    let store = open(&disk);
    drop_wrong(&store, &disk, true);
    store.close().unwrap();
    // It is closed in the middle of nothing: opened, and all of them dropped.
    let store = open(&disk);
    store.snapshots().drop_all().unwrap();
    store.close().unwrap();
    let few = Exploration { sectors_each_max: 8, sector_subsets: 4, ..Exploration::quick() };
    let (mut states, mut seen) = (0, BTreeSet::new());
    for point in disk.trace().crash_points() {
        for state in point.states(&few) {
            if !state.marks().contains(&1) || !seen.insert(state.fingerprint()) {
                continue;
            }
            println!("{state}");
            let crashed = state.disk();
            for _ in 0..2 {
                let store = open(&crashed);
                check(&store);
                store.close().unwrap();
            }
            states += 1;
        }
    }
    println!("{states} states");
    assert!(states > 100, "{states}");
}

#[test]
fn a_wrong_snapshot_that_was_dropped_does_not_come_back_by_a_failure() {
    let wrong = made_wrong();
    for (skip, times) in (0..40).map(|skip| (skip, 1)).chain([(0, u64::MAX)]) {
        for error in [FaultError::Io, FaultError::NoSpace] {
            let disk = wrong.fork();
            let store = open(&disk);
            store.snapshots().drop_stream("a-4").unwrap();
            let fault = Fault::FailTorn { error, seed: skip };
            disk.set_faults(FaultPlan::new().inject_any("snapshots-", skip, times, fault));
            drop_wrong(&store, &disk, false);
            check(&store);
            let killed = disk.fork();
            store.close().unwrap();
            for disk in [killed, disk] {
                disk.set_faults(FaultPlan::new());
                let store = open(&disk);
                check(&store);
                store.snapshots().compact().unwrap();
                check(&store);
            }
        }
    }
}

#[test]
fn a_wrong_snapshot_that_was_dropped_does_not_come_back_by_damage() {
    let made = made_wrong();
    let store = open(&made);
    drop_wrong(&store, &made, true);
    store.close().unwrap();
    // As before the compaction: the wrong one is still there.
    let early = made_wrong();
    let store = open(&early);
    store.snapshots().drop_stream("a-4").unwrap();
    store.close().unwrap();
    for made in [made, early] {
        let names: Vec<_> =
            made.file_names().into_iter().filter(|name| name.starts_with("snapshots")).collect();
        assert!(names.contains(&"snapshots.dropped".to_owned()), "{names:?}");
        for name in names {
            let bytes = made.read_file(&name);
            for at in (0..bytes.len()).filter(|at| at % 4096 < 200 || at % 97 == 0) {
                let disk = made.fork();
                disk.flip_bit(&name, at as u64, u8::try_from(at % 8).unwrap());
                check(&open(&disk));
            }
            for bytes in [&bytes[..0], &bytes[..bytes.len() / 2], &[7; 5000]] {
                let disk = made.fork();
                disk.write_file(&name, bytes);
                check(&open(&disk));
                check(&options().open_read_only_on(Arc::new(disk)).unwrap());
            }
            if name != "snapshots.dropped" {
                let disk = made.fork();
                disk.unlink(&name).unwrap();
                check(&open(&disk));
            }
        }
    }
}

// --- crashes and failing disks

/// The marks of the script: so many events; that a stream's snapshots were dropped; and that all of a round were sealed.
const DROPPED: u64 = 1 << 40;
const SEALED: u64 = 1 << 41;

/// The version of a stream that its snapshot in a round reflects.
fn version_in(round: u64, stream: &str) -> u64 {
    if stream == "a-1" { round * 4 + 2 } else { round * 3 + 2 }
}

/// Appends, snapshots, sealing, compaction, and dropping; says what was acknowledged by marks.
fn script(store: &Store, disk: &MemoryDisk, strict: bool) {
    let accounts = store.folded::<Accounts>().snapshots(Policy::never());
    let must = |done: Result<(), stratalog::SnapshotError>| {
        assert!(!strict || done.is_ok(), "{done:?}");
    };
    let append = |stream: &str, events: usize| {
        book(store, stream, events);
        disk.mark(store.head().get());
    };
    for round in 0..3 {
        for stream in STREAMS {
            append(stream, 2);
            let note = "n".repeat(3_000);
            store.append(stream, Expect::Any, [Noted { note }]).wait().unwrap();
            disk.mark(store.head().get());
            must(accounts.take(stream).wait().map(|_| ()));
        }
        if round == 1 {
            must(store.snapshots().drop_stream("a-4").map(|_| ()));
            if strict {
                disk.mark(DROPPED);
            }
        }
        // Sealed, and what is garbage moved away.
        must(store.snapshots().compact().map(|_| ()));
        if strict {
            disk.mark(SEALED + round);
        }
        append("a-1", 1);
    }
    // What says that they were dropped becomes garbage itself, and everything after it.
    must(store.snapshots().drop_stream("a-3").map(|_| ()));
    if strict {
        disk.mark(DROPPED + 1);
    }
    for _ in 0..2 {
        must(store.snapshots().compact().map(|_| ()));
    }
    must(store.snapshots().drop_all());
    if strict {
        disk.mark(DROPPED + 2);
    }
}

#[test]
fn a_crash_at_any_moment_of_snapshots_and_compaction_loses_nothing_but_time() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    disk.start_recording();
    script(&store, &disk, true);
    store.close().unwrap();
    let trace = disk.trace();
    let few = Exploration { sectors_each_max: 8, sector_subsets: 4, ..Exploration::quick() };
    let (mut states, mut used, mut seen) = (0, 0, BTreeSet::new());
    for point in trace.crash_points() {
        for state in point.states(&few) {
            if !seen.insert((state.fingerprint(), state.marks().to_vec())) {
                continue;
            }
            let at = state.to_string();
            let crashed = state.disk();
            // Also where it crashes while it is opened, and opened again.
            let again = crashed.fork();
            again.start_recording();
            let store = open(&again);
            let opening = again.trace();
            let found = check(&store);
            used += found.loads_from_snapshots;
            assert_eq!((found.damaged, found.mismatched), (0, 0), "{at}: {found:?}");
            let head = state.marks().iter().filter(|mark| **mark < DROPPED).max();
            assert!(store.head().get() >= head.copied().unwrap_or(0), "{at}");
            let findings = store.snapshots().verify(|_| {}).unwrap().findings;
            assert_eq!(findings, [""; 0], "{at}");
            let mut versions = BTreeMap::<String, Vec<u64>>::new();
            let note = |s: &stratalog::SnapshotInfo| {
                versions.entry(s.stream.clone()).or_default().push(s.version);
                ControlFlow::Continue(())
            };
            store.snapshots().each(note).unwrap();
            let whole = versions.is_empty() || state.marks().contains(&(DROPPED + 2));
            assert!(!whole || versions.is_empty(), "{at}: {versions:?}");
            if state.marks().contains(&(DROPPED + 1)) {
                assert!(!versions.contains_key("a-3"), "{at}: {versions:?}");
            }
            if state.marks().contains(&DROPPED) {
                let dropped = version_in(1, "a-4");
                let kept = versions.get("a-4").into_iter().flatten();
                assert!(kept.clone().all(|version| *version > dropped), "{at}: {versions:?}");
            }
            // All of them are dropped at last: wholly, or not yet.
            if let Some(sealed) = state.marks().iter().filter(|mark| **mark >= SEALED).max()
                && !(versions.is_empty() && state.marks().contains(&(DROPPED + 1)))
            {
                let round = sealed - SEALED;
                // One that is to be dropped may be gone before that is known.
                let may_be_dropped =
                    |stream: &str| stream == "a-3" && round == 2 || stream == "a-4" && round < 2;
                for stream in STREAMS.iter().filter(|stream| !may_be_dropped(stream)) {
                    let newest = versions.get(*stream).and_then(|versions| versions.first());
                    assert!(newest >= Some(&version_in(round, stream)), "{at}: {versions:?}");
                }
            }
            // And goes on.
            store.folded::<Accounts>().take("a-2").wait().unwrap();
            store.snapshots().compact().unwrap();
            check(&store);
            states += 1;
            if states % 40 == 0 {
                let twice = opening
                    .crash_points()
                    .flat_map(|point| point.states(&few).take(3).collect::<Vec<_>>());
                for state in twice {
                    let store = open(&state.disk());
                    check(&store);
                    assert_eq!(store.snapshots().verify(|_| {}).unwrap().findings, [""; 0]);
                }
            }
        }
    }
    println!("{states} states, {used} loads from snapshots");
    assert!(states > 200, "{states}");
    assert!(used > states, "{used}");
}

#[test]
fn where_an_operation_on_a_snapshot_file_fails_appends_and_loads_go_on() {
    let mut failed = 0;
    for error in [FaultError::Io, FaultError::NoSpace] {
        for (skip, times) in (0..60).map(|skip| (skip, 1)).chain([(0, u64::MAX), (7, u64::MAX)]) {
            for fault in [Fault::Fail(error), Fault::FailTorn { error, seed: skip }] {
                let disk = MemoryDisk::new();
                let store = open(&disk);
                let faults = FaultPlan::new().inject_any("snapshots-", skip, times, fault);
                disk.set_faults(faults);
                script(&store, &disk, false);
                let stats = check(&store);
                failed += u64::from(stats.last_error.is_some());
                disk.set_faults(FaultPlan::new());
                assert_eq!(store.head().get(), 39);
                check(&open(&disk.fork()));
                store.close().unwrap();
            }
        }
    }
    println!("{failed} failed visibly");
    assert!(failed > 50, "{failed}");
}

#[test]
fn a_disk_that_is_full_stops_snapshots_visibly_and_they_go_on_when_there_is_room() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let accounts = store.folded::<Accounts>().snapshots(Policy::never());
    let mut random = fastrand::Rng::with_seed(1);
    // What the log needs is there already.
    for stream in STREAMS {
        let event = random_event(&mut random, 10);
        store.append(stream, Expect::Any, [event]).wait().unwrap();
    }
    disk.set_capacity(disk.used() + 20_000);
    let mut refused = 0;
    for round in 0..200 {
        let stream = STREAMS[round % 4];
        if round < 20 {
            // The log may need another segment, for which there is no room either.
            let note = "n".repeat(9_000);
            let appended = store.append(stream, Expect::Any, [Noted { note }]).wait();
            assert!(matches!(appended, Ok(_) | Err(AppendError::NoSpace(_))), "{appended:?}");
        }
        refused += u32::from(accounts.take(stream).wait().is_err());
        let _ = store.snapshots().compact();
    }
    let stats = check(&store);
    assert!(refused > 0, "{stats:?}");
    let told = stats.last_error.unwrap().to_string();
    assert!(told.contains("snapshots-"), "{told}");
    disk.set_capacity(u64::MAX);
    let begun = Instant::now();
    while accounts.take("a-1").wait().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
        book(&store, "a-1", 1);
    }
    check(&store);
    store.close().unwrap();
    check(&open(&disk));
}
