//! Snapshots: when they are taken, how many are kept, what a load makes of them, and how they are looked after.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use stratalog::disk::MemoryDisk;
use stratalog::limits::{SNAPSHOT_JOBS_MAX, SNAPSHOT_MEMORY_MIN};
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{
    EventSet, Expect, Fold, NewEvent, OpenError, Options, Policy, SnapshotError, SnapshotInfo,
    SnapshotOptions, State, Store,
};
use stratalog_tests::accounts::{
    Account, AccountEvent, Accounts, Booked, Noted, Replays, random_event,
};
use stratalog_tests::block_on::block_on;
use stratalog_tests::seed;

fn options() -> Options {
    let snapshots = SnapshotOptions::new().memory_bytes(SNAPSHOT_MEMORY_MIN).checks(1);
    Store::options().segment_bytes(1 << 17).snapshots(snapshots)
}

fn open(disk: &MemoryDisk) -> Store {
    options().open_on(Arc::new(disk.clone())).unwrap()
}

fn book(store: &Store, stream: &str, events: usize) {
    let booked = |n: usize| NewEvent::of(&Booked { purpose: format!("p{}", n % 3), cents: 5 });
    for begin in (0..events).step_by(100) {
        let events = (begin..events.min(begin + 100)).map(booked);
        store.append(stream, Expect::Any, events).wait().unwrap();
    }
}

/// Waits until what is due has been taken: there is one thread, and this is behind it.
fn settle(store: &Store) {
    assert_eq!(store.folded::<Replays>().take("of-nothing").wait().unwrap(), None);
}

/// The names of the files of snapshots.
fn files(disk: &MemoryDisk) -> Vec<String> {
    disk.file_names().into_iter().filter(|name| name.starts_with("snapshots-")).collect()
}

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
fn all_that_is_wanted_is_there_after_any_compaction_and_no_more_than_that() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let accounts = store.folded::<Accounts>().snapshots(Policy::never());
    let mut random = fastrand::Rng::with_seed(11);
    let mut heads = BTreeMap::new();
    for round in 0..5 {
        for stream in 0..150 {
            // Some are never touched again.
            if round > 0 && stream % 3 == 0 {
                continue;
            }
            let stream = format!("a-{stream}");
            let note = "n".repeat(random.usize(1_000..6_000));
            let receipt = store.append(&stream, Expect::Any, [Noted { note }]).wait().unwrap();
            assert_eq!(accounts.take(&stream).wait().unwrap(), Some(receipt.version()));
            heads.insert(stream, receipt.version());
        }
        let compacted = store.snapshots().compact().unwrap();
        let stats = store.snapshots().stats().unwrap();
        assert_eq!(stats.keys, 150);
        let over = stats.disk_bytes - stats.live_bytes;
        assert!(over < stats.live_bytes / 4 + 50_000, "{stats:?} {compacted:?}");
        assert_eq!(store.snapshots().verify(|_| {}).unwrap().findings, [""; 0]);
        for (stream, version) in &heads {
            let loaded = accounts.load(stream).unwrap();
            assert_eq!((loaded.replayed(), loaded.snapshot_version()), (0, Some(*version)));
        }
    }
    let mut kept: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let each = |snapshot: &SnapshotInfo| {
        kept.entry(snapshot.stream.clone()).or_default().push(snapshot.version);
        ControlFlow::Continue(())
    };
    store.snapshots().each(each).unwrap();
    for (stream, version) in heads {
        let expected = if version == 0 { vec![0] } else { vec![version, version - 1] };
        assert_eq!(kept[&stream], expected, "{stream}");
    }
    // Nothing more to do.
    assert_eq!(store.snapshots().compact().unwrap().freed_bytes, 0);
}

#[test]
fn garbage_is_compacted_by_itself_and_stays_within_its_bound() {
    let disk = MemoryDisk::new();
    let snapshots =
        SnapshotOptions::new().memory_bytes(SNAPSHOT_MEMORY_MIN).compaction_rate(1 << 40);
    let options = Store::options().snapshots(snapshots);
    let store = options.open_on(Arc::new(disk.clone())).unwrap();
    let accounts = store.folded::<Accounts>().snapshots(Policy::never());
    let segment = SNAPSHOT_MEMORY_MIN / 4;
    let mut most = 0_f64;
    for round in 0..1_200_usize {
        let stream = format!("a-{}", round % 40);
        let note = "n".repeat(20_000);
        store.append(&stream, Expect::Any, [Noted { note }]).wait().unwrap();
        match accounts.take(&stream).wait() {
            Ok(_) => {}
            // It gives way to the compactor.
            Err(SnapshotError::NotNow { .. }) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("{error}"),
        }
        if round % 10 == 0 {
            let stats = store.snapshots().stats().unwrap();
            let on_disk: u64 = files(&disk)
                .iter()
                .map(|name| {
                    // One may be removed between the two.
                    std::panic::catch_unwind(|| disk.read_file(name).len()).unwrap_or(0) as u64
                })
                .sum();
            #[expect(clippy::cast_precision_loss, reason = "a ratio")]
            let ratio = on_disk as f64 / (2 * stats.live_bytes + 2 * segment) as f64;
            most = most.max(ratio);
        }
    }
    let stats = store.snapshots().stats().unwrap();
    println!("at most {most:.2} of the bound; {stats:?}");
    assert!(most <= 1.0, "{most}");
    assert!(stats.compactions > 3, "{stats:?}");
    assert!(stats.written_bytes > 20_000_000 && stats.taken > 1_000, "{stats:?}");
}

#[test]
fn what_is_dropped_is_not_used_again_and_what_is_taken_after_it_is() {
    let disk = MemoryDisk::new();
    let mut store = open(&disk);
    for stream in ["a-1", "a-2"] {
        book(&store, stream, 10);
        store.folded::<Accounts>().take(stream).wait().unwrap();
    }
    assert_eq!(store.snapshots().drop_stream("a-1").unwrap(), 1);
    assert_eq!(store.snapshots().drop_stream("a-3").unwrap(), 0);
    let replayed = |store: &Store, stream: &str| {
        store.folded::<Accounts>().snapshots(Policy::never()).load(stream).unwrap().replayed()
    };
    assert_eq!((replayed(&store, "a-1"), replayed(&store, "a-2")), (10, 0));
    for round in 0..3 {
        store.snapshots().compact().unwrap();
        assert_eq!((replayed(&store, "a-1"), replayed(&store, "a-2")), (10, 0), "{round}");
        store.close().unwrap();
        store = open(&disk);
        assert_eq!((replayed(&store, "a-1"), replayed(&store, "a-2")), (10, 0), "{round}");
    }
    store.folded::<Accounts>().take("a-1").wait().unwrap();
    store.snapshots().compact().unwrap();
    assert_eq!((replayed(&store, "a-1"), replayed(&store, "a-2")), (0, 0));
    store.snapshots().drop_all().unwrap();
    assert_eq!((replayed(&store, "a-1"), replayed(&store, "a-2")), (10, 10));
    assert_eq!(files(&disk), [""; 0]);
    store.folded::<Accounts>().take("a-1").wait().unwrap();
    assert_eq!((replayed(&store, "a-1"), replayed(&store, "a-2")), (0, 10));
    // Also where no file tells how far the numbers had come.
    store.snapshots().drop_all().unwrap();
    store.close().unwrap();
    let store = open(&disk);
    store.folded::<Accounts>().take("a-1").wait().unwrap();
    assert_eq!((replayed(&store, "a-1"), replayed(&store, "a-2")), (0, 10));
    store.close().unwrap();
    assert_eq!(replayed(&open(&disk), "a-1"), 0);
}

#[test]
fn a_store_that_is_open_for_reading_changes_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    book(&store, "a-1", 3_000);
    store.close().unwrap();
    let before = disk.fork();
    let store = options().open_read_only_on(Arc::new(disk.clone())).unwrap();
    assert_eq!(store.load::<Accounts>("a-1").unwrap().replayed(), 3_000);
    let taken = store.folded::<Accounts>().take("a-1").wait();
    assert!(matches!(taken, Err(SnapshotError::ReadOnly)), "{taken:?}");
    for refused in [
        store.snapshots().compact().map(|_| ()),
        store.snapshots().drop_all(),
        store.snapshots().drop_stream("a-1").map(|_| ()),
    ] {
        assert!(matches!(refused, Err(SnapshotError::ReadOnly)), "{refused:?}");
    }
    assert_eq!(disk.file_names(), before.file_names());
}

#[test]
fn settings_out_of_their_bounds_are_refused_before_anything_is_made() {
    let disk = MemoryDisk::new();
    let bad = Store::options().snapshots(SnapshotOptions::new().kept(0));
    let refused = bad.open_on(Arc::new(disk.clone()));
    assert!(matches!(refused, Err(OpenError::Snapshots { setting: "kept", .. })));
    assert_eq!(disk.file_names(), [""; 0]);
}

#[test]
fn a_reader_beside_a_writer_that_compacts_finds_no_damage() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let accounts = store.folded::<Accounts>().snapshots(Policy::never());
    let round = |store: &Store, note: &str| {
        for n in 0..30 {
            let stream = format!("a-{n}");
            let note = note.repeat(2_000);
            store.append(&stream, Expect::Any, [Noted { note }]).wait().unwrap();
            accounts.take(&stream).wait().unwrap();
        }
    };
    round(&store, "n");
    store.snapshots().compact().unwrap();
    // One that has looked at nothing yet when the files go, and one of whose events the snapshots are ahead.
    let blind = options().open_read_only_on(Arc::new(disk.clone())).unwrap();
    for note in ["m", "o", "p"] {
        round(&store, note);
        store.snapshots().compact().unwrap();
    }
    // As far as it sees, it is the one that has listed the files before the log went on.
    let reader = options().open_read_only_on(Arc::new(disk.clone())).unwrap();
    for reader in [&blind, &reader] {
        let stats = reader.snapshots().stats().unwrap();
        assert_eq!((stats.foreign, stats.damaged), (0, 0), "{stats:?}");
        assert_eq!(reader.snapshots().verify(|_| {}).unwrap().findings, [""; 0]);
        let each = |_: &SnapshotInfo| ControlFlow::Continue(());
        reader.snapshots().each(each).unwrap();
        for n in 0..30 {
            let stream = format!("a-{n}");
            let loaded = reader.load::<Accounts>(&stream).unwrap();
            let replayed = reader.load::<Replays>(&stream).unwrap();
            assert_eq!(loaded.state(), replayed.state());
        }
        let stats = reader.snapshots().stats().unwrap();
        assert_eq!((stats.foreign, stats.damaged), (0, 0), "{stats:?}");
        assert!(stats.last_error.is_none(), "{stats:?}");
    }
}

#[test]
fn none_is_missing_while_segments_are_sealed_and_compacted() {
    let store = options()
        .snapshots(
            SnapshotOptions::new().memory_bytes(SNAPSHOT_MEMORY_MIN).compaction_rate(1 << 40),
        )
        .open_on(Arc::new(MemoryDisk::new()))
        .unwrap();
    let accounts = store.folded::<Accounts>().snapshots(Policy::never());
    let all = 40;
    for n in 0..all {
        book(&store, &format!("a-{n}"), 1);
        accounts.take(&format!("a-{n}")).wait().unwrap();
    }
    let (stop, mut looks) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let stream = format!("a-{}", n % all);
                let note = "n".repeat(20_000);
                store.append(&stream, Expect::Any, [Noted { note }]).wait().unwrap();
                let _ = accounts.take(&stream).wait();
                if n % 100 == 0 {
                    store.snapshots().compact().unwrap();
                }
            }
        });
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(1_500) {
            let mut streams = BTreeSet::new();
            let each = |snapshot: &SnapshotInfo| {
                streams.insert(snapshot.stream.clone());
                ControlFlow::Continue(())
            };
            store.snapshots().each(each).unwrap();
            assert_eq!(streams.len(), all, "look {looks}");
            // Nor is one that a load could use.
            for n in 0..all {
                let loaded = accounts.load(&format!("a-{n}")).unwrap();
                assert!(loaded.snapshot_version().is_some(), "{loaded:?}");
            }
            looks += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    let stats = store.snapshots().stats().unwrap();
    println!("{looks} looks; {stats:?}");
    assert!(stats.compactions > 5 && stats.last_error.is_none(), "{stats:?}");
}

#[test]
fn a_handle_of_a_closed_store_changes_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    book(&store, "a-1", 10);
    store.folded::<Accounts>().take("a-1").wait().unwrap();
    let (snapshots, accounts) = (store.snapshots(), store.folded::<Accounts>());
    store.close().unwrap();
    let again = open(&disk);
    for refused in [
        snapshots.compact().map(|_| ()),
        snapshots.drop_all(),
        snapshots.drop_stream("a-1").map(|_| ()),
        accounts.take("a-1").wait().map(|_| ()),
    ] {
        assert!(matches!(refused, Err(SnapshotError::ReadOnly)), "{refused:?}");
    }
    assert_eq!(accounts.load("a-1").unwrap().replayed(), 0, "it can still read");
    assert_eq!(again.load::<Accounts>("a-1").unwrap().replayed(), 0);
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
fn a_store_is_closed_beside_snapshots_that_wait() {
    for _ in 0..20 {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let accounts = store.folded::<Accounts>();
        for n in 0..50 {
            book(&store, &format!("a-{n}"), 10);
        }
        let taken: Vec<_> = (0..50).map(|n| accounts.take(&format!("a-{n}"))).collect();
        store.close().unwrap();
        let done = taken.into_iter().flat_map(stratalog::Taking::wait).count();
        assert!(matches!(accounts.take("a-1").wait(), Err(SnapshotError::ReadOnly)));
        let store = open(&disk);
        assert_eq!(store.snapshots().stats().unwrap().keys, done as u64);
    }
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
