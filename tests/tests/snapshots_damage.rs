//! Snapshots are never trusted more than the log: whatever became of them, a load is what a replay is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use stratalog::disk::{Disk, Exploration, Fault, FaultError, FaultPlan, MemoryDisk};
use stratalog::limits::SNAPSHOT_MEMORY_MIN;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{
    AppendError, EventSet, Expect, Fold, LoadError, NewEvent, Options, Policy, SnapshotOptions,
    SnapshotStats, State, Store,
};
use stratalog_tests::accounts::{
    Account, AccountEvent, AccountEventRef, Accounts, AccountsV1, Booked, Noted, Replays,
    WrongAccounts, random_event,
};
use stratalog_tests::seed;

const STREAMS: [&str; 4] = ["a-1", "a-2", "a-3", "a-4"];

fn options() -> Options {
    let snapshots = SnapshotOptions::new().memory_bytes(SNAPSHOT_MEMORY_MIN);
    Store::options().segment_bytes(1 << 17).snapshots(snapshots)
}

fn open(disk: &MemoryDisk) -> Store {
    options().open_on(Arc::new(disk.clone())).unwrap()
}

fn book(store: &Store, stream: &str, events: usize) {
    let booked = |n: usize| NewEvent::of(&Booked { purpose: format!("p{}", n % 3), cents: 5 });
    store.append(stream, Expect::Any, (0..events).map(booked)).wait().unwrap();
}

fn files(disk: &MemoryDisk) -> Vec<String> {
    disk.file_names().into_iter().filter(|name| name.starts_with("snapshots-")).collect()
}

/// Waits until what is due has been taken: there is one thread, and this is behind it.
fn settle(store: &Store) {
    assert_eq!(store.folded::<Replays>().take("of-nothing").wait().unwrap(), None);
}

/// Fails unless each stream's state is what its events come to.
fn check(store: &Store) -> SnapshotStats {
    let (accounts, replays) = (store.folded::<Accounts>(), store.folded::<Replays>());
    for stream in STREAMS {
        let loaded = accounts.clone().snapshots(Policy::never()).load(stream).unwrap();
        let replayed = replays.clone().snapshots(Policy::never()).load(stream).unwrap();
        assert_eq!(loaded.state(), replayed.state(), "{stream}: {loaded:?}");
        assert_eq!(loaded.version(), replayed.version(), "{stream}: {loaded:?}");
        if let Some(snapshot) = accounts.latest_snapshot(stream).unwrap() {
            assert!(Some(snapshot.version()) <= replayed.version());
        }
    }
    store.snapshots().stats().unwrap()
}

/// A store with some snapshots, in two segments, and events behind them.
fn made() -> MemoryDisk {
    let disk = MemoryDisk::new();
    for round in 0..2 {
        let store = open(&disk);
        for (n, stream) in STREAMS.iter().enumerate() {
            book(&store, stream, 5 + n);
            let note = format!("{stream} in round {round} {}", "n".repeat(200));
            store.append(stream, Expect::Any, [Noted { note }]).wait().unwrap();
            store.folded::<Accounts>().take(stream).wait().unwrap();
        }
        if round == 1 {
            book(&store, "a-1", 3);
        }
        store.close().unwrap();
    }
    assert_eq!(files(&disk).len(), 2);
    disk
}

#[test]
fn a_flipped_bit_is_never_believed() {
    let made = made();
    let (mut damaged, mut rest) = (0_u64, 0);
    for name in files(&made) {
        for (at, value) in made.read_file(&name).into_iter().enumerate() {
            let byte = at as u64;
            // Of what is long and all alike, some.
            let alike = value == 0 || at % 4096 > 1500;
            if alike && !at.is_multiple_of(41) {
                continue;
            }
            let disk = made.fork();
            disk.flip_bit(&name, byte, u8::try_from(at % 8).unwrap());
            let store = open(&disk);
            let stats = check(&store);
            let found = store.snapshots().verify(|_| {}).unwrap().findings.len() as u64;
            let noticed = stats.damaged + stats.unusable_segments + stats.damaged_indexes;
            assert!(found > 0 || noticed == 0, "{name} at {byte}: {stats:?}");
            // What is behind records and indexes is nobody's.
            if found > 0 {
                damaged += 1;
            } else {
                assert!(value == 0, "{name} at {byte} is not noticed");
                rest += 1;
            }
        }
    }
    println!("{damaged} noticed, {rest} where there is nothing");
    assert!(damaged > 1_000);
}

#[test]
fn whatever_else_became_of_the_files_is_never_believed() {
    let seed = seed::seed(3);
    println!(
        "{}",
        seed::replay(
            "snapshots_damage",
            "whatever_else_became_of_the_files_is_never_believed",
            seed
        )
    );
    let mut random = fastrand::Rng::with_seed(seed);
    let made = made();
    for _ in 0..300 {
        let disk = made.fork();
        for _ in 0..random.usize(1..4) {
            let names = files(&disk);
            let Some(name) = random.choice(&names) else { break };
            let mut bytes = disk.read_file(name);
            let at = random.usize(..=bytes.len());
            match random.u8(..6) {
                0 => bytes.truncate(at),
                1 => bytes.resize(at + random.usize(..20_000), random.u8(..)),
                2 => {
                    let end = (at + random.usize(..5_000)).min(bytes.len());
                    bytes[at..end].fill(random.u8(..));
                }
                3 => {
                    let end = (at + 16).min(bytes.len());
                    random.fill(&mut bytes[at..end]);
                }
                4 => {
                    let blocks = bytes.len() / 4096;
                    if blocks > 1 {
                        let (one, other) = (random.usize(..blocks), random.usize(..blocks));
                        let copy = bytes[one * 4096..][..4096].to_vec();
                        let there = bytes[other * 4096..][..4096].to_vec();
                        bytes[one * 4096..][..4096].copy_from_slice(&there);
                        bytes[other * 4096..][..4096].copy_from_slice(&copy);
                    }
                }
                // In the place of another, or of one that is open.
                _ => {
                    let number = random.u8(1..4);
                    let suffix = if random.bool() { "open" } else { "sealed" };
                    disk.write_file(&format!("snapshots-{number:010}.{suffix}"), &bytes);
                }
            }
            disk.write_file(name, &bytes);
        }
        let reader = options().open_read_only_on(Arc::new(disk.clone())).unwrap();
        check(&reader);
        drop(reader);
        let store = open(&disk);
        check(&store);
        store.snapshots().verify(|_| {}).unwrap();
        // It works on beside what is damaged, and loses that with a compaction.
        for stream in STREAMS {
            book(&store, stream, 1);
            store.folded::<Accounts>().take(stream).wait().unwrap();
        }
        store.snapshots().compact().unwrap();
        check(&store);
        store.close().unwrap();
        let store = open(&disk);
        let stats = check(&store);
        assert_eq!(stats.loads_from_snapshots, STREAMS.len() as u64, "{stats:?}");
        store.snapshots().drop_all().unwrap();
        check(&store);
    }
}

#[test]
fn where_the_newest_is_damaged_an_older_one_is_used_and_a_new_one_taken_at_once() {
    let disk = made();
    // The first record of the newest segment is of the first stream.
    disk.flip_bit("snapshots-0000000002.sealed", 4096 + 100, 0);
    let store = open(&disk);
    // By which none would be due.
    let rare = Policy::never().or_interval(Duration::from_hours(1));
    let accounts = store.folded::<Accounts>().snapshots(rare);
    let loaded = accounts.load("a-1").unwrap();
    assert_eq!((loaded.snapshot_version(), loaded.replayed()), (Some(5), 9));
    assert_eq!(store.snapshots().stats().unwrap().damaged, 1);
    settle(&store);
    assert_eq!(store.snapshots().stats().unwrap().taken, 1);
    assert_eq!(accounts.load("a-1").unwrap().replayed(), 0);
    // Of a stream whose snapshot is good, none.
    book(&store, "a-2", 1);
    assert_eq!(accounts.load("a-2").unwrap().replayed(), 1);
    settle(&store);
    assert_eq!(store.snapshots().stats().unwrap().taken, 1);
}

#[test]
fn where_all_are_damaged_every_event_is_replayed_and_a_new_one_taken_at_once() {
    let disk = made();
    // The first record of each file is of the first stream.
    for name in files(&disk) {
        disk.flip_bit(&name, 4096 + 100, 0);
    }
    let store = open(&disk);
    let rare = Policy::every(1 << 60);
    let accounts = store.folded::<Accounts>().snapshots(rare);
    let loaded = accounts.load("a-1").unwrap();
    assert_eq!((loaded.snapshot_version(), loaded.replayed()), (None, 15));
    settle(&store);
    let stats = store.snapshots().stats().unwrap();
    assert_eq!((stats.damaged, stats.taken), (2, 1), "{stats:?}");
    assert_eq!(accounts.load("a-1").unwrap().replayed(), 0);
}

#[test]
fn the_snapshots_of_another_store_are_not_used() {
    let (one, other) = (made(), made());
    let before = files(&one).len();
    for name in files(&one) {
        one.write_file(&name, &other.read_file(&name));
        one.write_file("snapshots-0000000009.open", &other.read_file(&name));
    }
    let store = open(&one);
    let stats = check(&store);
    assert_eq!(stats.loads_from_snapshots, 0, "{stats:?}");
    assert_eq!(stats.unusable_segments, 3, "{stats:?}");
    let findings = store.snapshots().verify(|_| {}).unwrap().findings;
    assert_eq!(findings.len(), before, "{findings:?}");
    // Nor does compaction touch what it does not understand.
    store.snapshots().compact().unwrap();
    assert_eq!(files(&one).len(), 3);
}

#[test]
fn the_snapshots_of_a_copy_that_went_another_way_are_not_used() {
    let one = MemoryDisk::new();
    let store = open(&one);
    for stream in STREAMS {
        book(&store, stream, 10);
    }
    store.close().unwrap();
    let other = one.fork();
    for (disk, cents) in [(&one, 1), (&other, 2)] {
        let store = open(disk);
        for stream in STREAMS {
            let booked = Booked { purpose: "p".into(), cents };
            store.append(stream, Expect::Any, [booked]).wait().unwrap();
            store.folded::<Accounts>().take(stream).wait().unwrap();
            // One that is ahead of the other copy.
            if cents == 2 && stream == "a-1" {
                book(&store, stream, 5);
                store.folded::<Accounts>().take(stream).wait().unwrap();
            }
        }
        store.close().unwrap();
    }
    for name in files(&other) {
        one.write_file(&name, &other.read_file(&name));
    }
    let store = open(&one);
    let stats = check(&store);
    assert_eq!(stats.loads_from_snapshots, 0, "{stats:?}");
    // By each load, and by each look for the latest.
    assert_eq!(stats.foreign, 2 * 5, "{stats:?}");
    assert_eq!(store.snapshots().verify(|_| {}).unwrap().findings.len(), 5);
}

// --- other versions of the state

#[test]
fn a_snapshot_of_an_older_version_of_the_state_becomes_the_newer_one() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    for stream in STREAMS {
        book(&store, stream, 10);
        store.folded::<AccountsV1>().take(stream).wait().unwrap();
        book(&store, stream, 2);
    }
    store.close().unwrap();
    let store = open(&disk);
    let stats = check(&store);
    assert_eq!((stats.loads_from_snapshots, stats.outdated), (4, 0), "{stats:?}");
    let accounts = store.folded::<Accounts>();
    let latest = accounts.latest_snapshot("a-1").unwrap().unwrap();
    assert_eq!((latest.version(), latest.state().total.to_native()), (9, 50));
    // One of the new version, which the program of before does not know: it goes back to its own.
    accounts.take("a-1").wait().unwrap();
    store.close().unwrap();
    let store = open(&disk);
    let before = store.folded::<AccountsV1>().snapshots(Policy::never());
    let loaded = before.load("a-1").unwrap();
    assert_eq!((loaded.snapshot_version(), loaded.replayed()), (Some(9), 2));
    assert_eq!(store.snapshots().stats().unwrap().newer, 1);
}

#[test]
fn two_folds_of_one_name_are_refused_and_each_has_its_own_under_another() {
    let store = open(&MemoryDisk::new());
    book(&store, "a-1", 10);
    store.folded::<Accounts>().take("a-1").wait().unwrap();
    let wrong = store.folded::<WrongAccounts>();
    let Err(error) = wrong.load("a-1") else { panic!("it was loaded") };
    assert!(matches!(error, LoadError::Fold { name: "account", .. }), "{error}");
    assert!(error.to_string().contains("WrongAccounts"), "{error}");
    assert!(wrong.latest_snapshot("a-1").is_err() && wrong.take("a-1").wait().is_err());
    store.folded::<Accounts>().load("a-1").unwrap();
    let other = store.folded::<Other>().snapshots(Policy::never());
    assert_eq!(
        (other.load("a-1").unwrap().state().total, other.load("a-1").unwrap().replayed()),
        (0, 10)
    );
    other.take("a-1").wait().unwrap();
    assert_eq!(
        (other.load("a-1").unwrap().state().total, other.load("a-1").unwrap().replayed()),
        (0, 0)
    );
    assert_eq!(store.load::<Accounts>("a-1").unwrap().state().total, 50);
}

/// The same type of state, under a name of its own.
struct Other;

impl Fold for Other {
    type State = Account;
    type Events = AccountEvent;

    const NAME: &'static str = "account-other";

    fn initial() -> Account {
        Account::default()
    }

    fn evolve(_: &mut Account, _: <AccountEvent as EventSet>::Ref<'_>) {}
}

/// The same version of the state, with another layout.
#[derive(State, Archive, Serialize, Deserialize, Default)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "account", version = 2, first)]
struct Changed {
    total: u64,
}

struct ChangedAccounts;

impl Fold for ChangedAccounts {
    type State = Changed;
    type Events = AccountEvent;

    fn initial() -> Changed {
        Changed::default()
    }

    fn evolve(changed: &mut Changed, event: <AccountEvent as EventSet>::Ref<'_>) {
        if let AccountEventRef::Booked(booked) = event {
            changed.total = changed.total.wrapping_add_signed(booked.cents.to_native());
        }
    }
}

#[test]
fn a_snapshot_of_another_layout_or_of_too_old_a_version_is_not_used() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    for stream in STREAMS {
        book(&store, stream, 10);
    }
    store.folded::<AccountsV1>().take("a-1").wait().unwrap();
    store.close().unwrap();
    let store = open(&disk);
    store.folded::<Accounts>().take("a-2").wait().unwrap();
    store.close().unwrap();
    let store = open(&disk);
    let changed = store.folded::<ChangedAccounts>().snapshots(Policy::every(1 << 60));
    for stream in ["a-1", "a-2"] {
        assert!(changed.latest_snapshot(stream).unwrap().is_none());
        let loaded = changed.load(stream).unwrap();
        assert_eq!((loaded.replayed(), loaded.state().total), (10, 50));
    }
    assert_eq!(store.snapshots().stats().unwrap().outdated, 4);
    // New ones were taken at once, though no policy asked for them.
    settle(&store);
    assert_eq!(store.snapshots().stats().unwrap().taken, 2);
    for stream in ["a-1", "a-2"] {
        assert_eq!(changed.load(stream).unwrap().replayed(), 0);
    }
}

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
    let begun = std::time::Instant::now();
    while accounts.take("a-1").wait().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(20));
        book(&store, "a-1", 1);
    }
    check(&store);
    store.close().unwrap();
    check(&open(&disk));
}
