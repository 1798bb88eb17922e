//! Snapshots are never trusted more than the log: whatever became of them, a load is what a replay is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use stratalog::disk::MemoryDisk;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{EventSet, Expect, Fold, LoadError, Policy, State};
use stratalog_tests::accounts::{
    Account, AccountEvent, AccountEventRef, Accounts, AccountsV1, Booked, Noted, WrongAccounts,
};
use stratalog_tests::seed;
use stratalog_tests::snapshots::{STREAMS, book, check, files, open, options, settle};

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
