//! Snapshots: when they are taken, and what a load makes of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use stratalog::disk::MemoryDisk;
use stratalog::limits::{SNAPSHOT_JOBS_MAX, SNAPSHOT_MEMORY_MIN};
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{
    EventSet, Expect, Fold, NewEvent, OpenError, Policy, SnapshotError, SnapshotInfo,
    SnapshotOptions, State, Store,
};
use stratalog_tests::accounts::{
    Account, AccountEvent, Accounts, Booked, Noted, Replays, random_event,
};
use stratalog_tests::block_on::block_on;
use stratalog_tests::seed;
use stratalog_tests::snapshots::{book, files, open, options, settle};

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_load_begins_with_the_newest_snapshot_also_after_the_store_was_opened_again() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    book(&store, "a-1", 40);
    let accounts = store.folded::<Accounts>().snapshots(Policy::never());
    assert_eq!(accounts.take("a-1").wait().unwrap(), Some(39));
    book(&store, "a-1", 3);
    let check = |store: &Store, snapshot, replayed| {
        let loaded = store.folded::<Accounts>().snapshots(Policy::never()).load("a-1").unwrap();
        assert_eq!((loaded.snapshot_version(), loaded.replayed()), (snapshot, replayed));
        assert_eq!((loaded.version(), loaded.state().total), (Some(42), 43 * 5));
        assert_eq!(loaded.position().unwrap().get(), 43);
        assert_eq!(loaded.expect(), Expect::Version(42));
    };
    check(&store, Some(39), 3);
    // Beside it, and after the process has ended.
    let killed = disk.fork();
    check(&options().open_read_only_on(Arc::new(disk.clone())).unwrap(), None, 43);
    store.close().unwrap();
    assert_eq!(files(&disk), ["snapshots-0000000001.sealed"]);
    check(&open(&disk), Some(39), 3);
    check(&options().open_read_only_on(Arc::new(disk)).unwrap(), Some(39), 3);
    // What was only in memory is gone, as if it had never been.
    check(&open(&killed), None, 43);
}

#[test]
fn a_snapshot_that_was_written_survives_a_process_that_is_killed() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    book(&store, "a-1", 40);
    store.folded::<Accounts>().take("a-1").wait().unwrap();
    // Written when there is nothing to do.
    wait_until("it is not written", || {
        disk.fork().read_file("snapshots-0000000001.open").len() > 4096
    });
    for round in 0..2 {
        let killed = disk.fork();
        if round == 1 {
            assert_eq!(
                options()
                    .open_read_only_on(Arc::new(killed.clone()))
                    .unwrap()
                    .load::<Accounts>("a-1")
                    .unwrap()
                    .replayed(),
                0
            );
            assert_eq!(files(&killed), ["snapshots-0000000001.open"], "a reader has changed it");
        }
        let store = open(&killed);
        assert_eq!(store.load::<Accounts>("a-1").unwrap().replayed(), 0);
        store.folded::<Accounts>().take("a-1").wait().unwrap();
        drop(store);
        assert_eq!(files(&killed), ["snapshots-0000000001.sealed"]);
    }
}

#[test]
fn a_stream_without_events_has_no_snapshot() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let accounts = store.folded::<Accounts>();
    assert_eq!(accounts.take("a-1").wait().unwrap(), None);
    assert!(accounts.latest_snapshot("a-1").unwrap().is_none());
    assert_eq!(accounts.load("a-1").unwrap().state(), &Account::default());
    let named = accounts.take("").wait();
    assert!(matches!(named, Err(SnapshotError::Load { .. })), "{named:?}");
    store.close().unwrap();
    assert_eq!(files(&disk), [""; 0]);
}

#[test]
fn what_is_asked_for_has_every_event_that_was_durable_and_is_not_taken_twice() {
    let store = open(&MemoryDisk::new());
    let accounts = store.folded::<Accounts>();
    for events in 1..=30 {
        book(&store, "a-1", 1);
        assert_eq!(block_on(accounts.take("a-1")).unwrap(), Some(events - 1));
        assert_eq!(accounts.take("a-1").wait().unwrap(), Some(events - 1));
        assert_eq!(accounts.load("a-1").unwrap().replayed(), 0);
    }
    let stats = store.snapshots().stats().unwrap();
    assert_eq!((stats.taken, stats.checked, stats.mismatched, stats.failed), (30, 30, 0, 0));
    // Two of them are kept.
    let mut versions = Vec::new();
    let each = |snapshot: &SnapshotInfo| {
        versions.push(snapshot.version);
        ControlFlow::Continue(())
    };
    store.snapshots().each(each).unwrap();
    assert_eq!(versions, [29, 28]);
}

#[test]
fn one_in_so_many_events_is_taken_in_the_background_wherever_it_is_noticed() {
    let store = open(&MemoryDisk::new());
    let accounts = store.folded::<Accounts>().snapshots(Policy::every(10));
    let mut due = 0;
    for _ in 0..200 {
        let event = Booked { purpose: "p".into(), cents: 1 };
        let receipt = store.append("a-1", Expect::Any, [event]).wait().unwrap();
        due += u64::from(accounts.appended(&receipt));
        settle(&store);
        assert_eq!(store.snapshots().stats().unwrap().taken, due);
    }
    assert_eq!(due, 20);
    // By loads alone.
    for _ in 0..100 {
        book(&store, "a-2", 1);
        let loaded = accounts.load("a-2").unwrap();
        assert!(loaded.replayed() <= 10, "{loaded:?}");
        settle(&store);
    }
    assert_eq!(store.snapshots().stats().unwrap().taken, 20 + 10);
    // Without a policy, none.
    let never = store.folded::<Accounts>().snapshots(Policy::never());
    book(&store, "a-3", 5_000);
    never.load("a-3").unwrap();
    assert!(never.latest_snapshot("a-3").unwrap().is_none());
}

#[test]
fn a_predicate_and_the_time_of_a_load_ask_for_snapshots_too() {
    let store = open(&MemoryDisk::new());
    let rich = store
        .folded::<Accounts>()
        .snapshots(Policy::never())
        .snapshot_when(|account, since| account.total > 100 && since.events > 2);
    book(&store, "a-1", 20);
    rich.load("a-1").unwrap();
    assert!(rich.latest_snapshot("a-1").unwrap().is_none());
    book(&store, "a-1", 1);
    rich.load("a-1").unwrap();
    wait_until("it is not taken", || rich.latest_snapshot("a-1").unwrap().is_some());
    let slow = store.folded::<Accounts>().snapshots(Policy::never().or_load_time(Duration::ZERO));
    book(&store, "a-2", 1);
    slow.load("a-2").unwrap();
    wait_until("it is not taken", || slow.latest_snapshot("a-2").unwrap().is_some());
}

#[test]
fn a_snapshot_is_read_in_its_place_and_outlives_the_file_it_is_in() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let accounts = store.folded::<Accounts>();
    book(&store, "a-1", 10);
    store.append("a-1", Expect::Any, [Noted { note: "here".into() }]).wait().unwrap();
    accounts.take("a-1").wait().unwrap();
    let in_memory = accounts.latest_snapshot("a-1").unwrap().unwrap();
    store.snapshots().compact().unwrap();
    let mapped = accounts.latest_snapshot("a-1").unwrap().unwrap();
    let before = files(&disk);
    for _ in 0..3 {
        book(&store, "a-1", 1);
        accounts.take("a-1").wait().unwrap();
    }
    store.snapshots().compact().unwrap();
    assert!(files(&disk).iter().all(|name| !before.contains(name)), "{:?}", files(&disk));
    for snapshot in [&in_memory, &mapped] {
        assert_eq!((snapshot.version(), snapshot.position().get()), (10, 11));
        assert_eq!(&*snapshot.state().note, "here");
        assert_eq!(snapshot.state().total, 50);
        assert_eq!(snapshot.state().purposes.len(), 3);
    }
    store.close().unwrap();
    assert_eq!(&*mapped.state().note, "here");
}

#[test]
fn settings_out_of_their_bounds_are_refused_before_anything_is_made() {
    let disk = MemoryDisk::new();
    let bad = Store::options().snapshots(SnapshotOptions::new().kept(0));
    let refused = bad.open_on(Arc::new(disk.clone()));
    assert!(matches!(refused, Err(OpenError::Snapshots { setting: "kept", .. })));
    assert_eq!(disk.file_names(), [""; 0]);
}

// --- folds that are not what they should be

/// What the next fold adds to each booking: code that was changed, as it were.
static ADDED: AtomicI64 = AtomicI64::new(0);

#[derive(State, Archive, Serialize, Deserialize, Default)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "changing", version = 1)]
struct Changing {
    total: i64,
}

struct Changes;

impl Fold for Changes {
    type State = Changing;
    type Events = AccountEvent;

    fn initial() -> Changing {
        Changing::default()
    }

    fn evolve(state: &mut Changing, event: <AccountEvent as EventSet>::Ref<'_>) {
        if let stratalog_tests::accounts::AccountEventRef::Booked(booked) = event {
            state.total += booked.cents.to_native() + ADDED.load(Ordering::Relaxed);
        }
    }
}

#[test]
fn a_fold_that_was_changed_is_noticed_and_its_snapshot_dropped() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    book(&store, "a-1", 10);
    let changes = store.folded::<Changes>().snapshots(Policy::never());
    changes.take("a-1").wait().unwrap();
    assert_eq!(changes.load("a-1").unwrap().state().total, 50);
    ADDED.store(1, Ordering::Relaxed);
    book(&store, "a-1", 1);
    match changes.take("a-1").wait() {
        Err(SnapshotError::Mismatch { stream, state, version, undurable: None }) => {
            assert_eq!((&*stream, &*state, version), ("a-1", "changing", 10));
        }
        other => panic!("{other:?}"),
    }
    let stats = store.snapshots().stats().unwrap();
    assert_eq!((stats.mismatched, stats.failed), (1, 0));
    let told = stats.last_error.unwrap().to_string();
    assert!(told.contains("\"a-1\"") && told.contains("changing"), "{told}");
    // In its place is what the events come to now.
    assert_eq!(changes.load("a-1").unwrap().state().total, 66);
    store.close().unwrap();
    let store = open(&disk);
    let loaded = store.folded::<Changes>().snapshots(Policy::never()).load("a-1").unwrap();
    assert_eq!((loaded.state().total, loaded.replayed()), (66, 0));
}

static PANICS: AtomicBool = AtomicBool::new(false);

#[derive(State, Archive, Serialize, Deserialize, Default)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "panicking", version = 1)]
struct Panicking {
    events: u64,
}

struct Panics;

impl Fold for Panics {
    type State = Panicking;
    type Events = AccountEvent;

    fn initial() -> Panicking {
        Panicking::default()
    }

    fn evolve(state: &mut Panicking, _: <AccountEvent as EventSet>::Ref<'_>) {
        assert!(!PANICS.load(Ordering::Relaxed), "a fold has failed");
        state.events += 1;
    }
}

#[test]
fn a_fold_that_panics_ends_its_own_snapshot_and_no_other() {
    let store = open(&MemoryDisk::new());
    book(&store, "a-1", 10);
    let panics = store.folded::<Panics>();
    PANICS.store(true, Ordering::Relaxed);
    match panics.take("a-1").wait() {
        Err(SnapshotError::Panicked { stream, message, .. }) => {
            assert_eq!((&*stream, &*message), ("a-1", "a fold has failed"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.folded::<Accounts>().take("a-1").wait().unwrap(), Some(9));
    PANICS.store(false, Ordering::Relaxed);
    assert_eq!(panics.take("a-1").wait().unwrap(), Some(9));
    assert_eq!(store.snapshots().stats().unwrap().failed, 1);
}

#[test]
fn an_event_that_a_fold_does_not_know_is_said_by_who_takes_its_snapshot() {
    let store = open(&MemoryDisk::new());
    store.append("a-1", Expect::Any, [NewEvent::bytes("unknown", *b"x")]).wait().unwrap();
    let taken = store.folded::<Accounts>().take("a-1").wait();
    let Err(SnapshotError::Load { stream, .. }) = &taken else { panic!("{taken:?}") };
    assert_eq!(&**stream, "a-1");
    store.append("a-2", Expect::Any, [Noted { note: "n".repeat(10_000) }]).wait().unwrap();
    store.folded::<Accounts>().take("a-2").wait().unwrap();
}

#[test]
fn a_state_that_is_too_large_is_refused_and_loads_go_on() {
    let store = Store::options()
        .snapshots(SnapshotOptions::new().memory_bytes(SNAPSHOT_MEMORY_MIN))
        .open_on(Arc::new(MemoryDisk::new()))
        .unwrap();
    let note = "n".repeat(600_000);
    store.append("a-1", Expect::Any, [Noted { note }]).wait().unwrap();
    let taken = store.folded::<Accounts>().take("a-1").wait();
    assert!(matches!(&taken, Err(SnapshotError::TooLarge { bytes_max: 524_288, .. })), "{taken:?}");
    assert_eq!(store.load::<Accounts>("a-1").unwrap().state().note.len(), 600_000);
}

#[test]
fn what_is_too_much_is_skipped_and_counted_and_nobody_waits() {
    let store = open(&MemoryDisk::new());
    let accounts = store.folded::<Accounts>().snapshots(Policy::every(1));
    let streams = 2 * SNAPSHOT_JOBS_MAX;
    for n in 0..streams {
        book(&store, &format!("a-{n}"), 20);
    }
    let mut taken: Vec<_> = (0..streams).map(|n| accounts.take(&format!("a-{n}"))).collect();
    let (done, skipped): (Vec<_>, Vec<_>) =
        taken.drain(..).map(stratalog::Taking::wait).partition(Result::is_ok);
    assert!(skipped.iter().all(|outcome| matches!(outcome, Err(SnapshotError::NotNow { .. }))));
    assert!(done.len() >= SNAPSHOT_JOBS_MAX, "{}", done.len());
    let stats = store.snapshots().stats().unwrap();
    assert_eq!((stats.taken, stats.skipped), (done.len() as u64, skipped.len() as u64));
    assert_eq!((stats.keys, stats.waiting), (done.len() as u64, 0));
}

#[test]
fn loads_are_what_a_replay_is_over_random_histories() {
    let seed = seed::seed(5);
    println!(
        "{}",
        seed::replay("snapshots", "loads_are_what_a_replay_is_over_random_histories", seed)
    );
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..25 {
        let disk = MemoryDisk::new();
        let mut store = open(&disk);
        let kept = random.usize(1..4);
        let streams = random.u8(1..8);
        let mut from_snapshots = 0;
        for _ in 0..random.usize(..400) {
            let stream = format!("a-{}", random.u8(..streams));
            match random.u8(..20) {
                0 => {
                    store.close().unwrap();
                    let snapshots = SnapshotOptions::new()
                        .memory_bytes(SNAPSHOT_MEMORY_MIN)
                        .kept(kept)
                        .checks(2);
                    let options = options().snapshots(snapshots);
                    store = options.open_on(Arc::new(disk.clone())).unwrap();
                }
                1 => {
                    store.snapshots().compact().unwrap();
                }
                2 if random.bool() => {
                    store.snapshots().drop_stream(&stream).unwrap();
                }
                3..8 => {
                    store.folded::<Accounts>().take(&stream).wait().unwrap();
                }
                8..12 => {
                    let every = Policy::every(random.u64(1..20));
                    let loaded = store.folded::<Accounts>().snapshots(every).load(&stream).unwrap();
                    let replayed = store.folded::<Replays>().snapshots(Policy::never());
                    let replayed = replayed.load(&stream).unwrap();
                    assert_eq!(loaded.state(), replayed.state(), "{stream}");
                    assert_eq!(loaded.version(), replayed.version());
                    assert_eq!(loaded.position(), replayed.position());
                    from_snapshots += u32::from(loaded.snapshot_version().is_some());
                }
                _ => {
                    let events: Vec<_> = (0..random.usize(1..10))
                        .map(|_| random_event(&mut random, 3_000))
                        .collect();
                    store.append(&stream, Expect::Any, events).wait().unwrap();
                }
            }
        }
        let stats = store.snapshots().stats().unwrap();
        assert_eq!((stats.mismatched, stats.damaged, stats.foreign), (0, 0, 0), "{stats:?}");
        assert_eq!(store.snapshots().verify(|_| {}).unwrap().findings, [""; 0]);
        println!("{from_snapshots} loads from snapshots, {} taken", stats.taken);
    }
}
