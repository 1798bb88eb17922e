//! The space of snapshots: compaction, what is kept and what is dropped, and whoever looks meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stratalog::disk::MemoryDisk;
use stratalog::limits::SNAPSHOT_MEMORY_MIN;
use stratalog::{Expect, Policy, SnapshotError, SnapshotInfo, SnapshotOptions, Store};
use stratalog_tests::accounts::{Accounts, Noted, Replays};
use stratalog_tests::snapshots::{book, files, open, options, snapshot_options};

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
fn compaction_in_the_background_gives_way_to_who_compacts_now_and_to_closing() {
    for closes in [false, true] {
        let disk = MemoryDisk::new();
        // A compaction takes many seconds at this rate.
        let slow = snapshot_options().checks(0).kept(1).compaction_rate(1 << 20);
        let open = || options().snapshots(slow).open_on(Arc::new(disk.clone())).unwrap();
        let store = open();
        let accounts = store.folded::<Accounts>().snapshots(Policy::never());
        let note = "n".repeat(20_000);
        let mut is_crowded = false;
        // Of each segment a third stays wanted, so that there is something to move.
        for n in 0..1_000 {
            let stream = if n % 3 == 0 { format!("once-{n}") } else { format!("often-{}", n % 2) };
            store.append(&stream, Expect::Any, [Noted { note: note.clone() }]).wait().unwrap();
            is_crowded = accounts.take(&stream).wait().is_err();
            if is_crowded {
                break;
            }
        }
        assert!(is_crowded, "compaction has kept up");
        let kept = |store: &Store| {
            let mut kept = BTreeSet::new();
            let each = |snapshot: &SnapshotInfo| {
                kept.insert((snapshot.stream.clone(), snapshot.version));
                ControlFlow::Continue(())
            };
            store.snapshots().each(each).unwrap();
            kept
        };
        let before = kept(&store);
        let begun = Instant::now();
        if closes {
            store.close().unwrap();
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            assert!(!files(&disk).iter().any(|name| name.contains(".next")), "{:?}", files(&disk));
        } else {
            let compacted = store.snapshots().compact().unwrap();
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            assert!(compacted.moved_bytes > 1 << 20, "{compacted:?}");
            store.close().unwrap();
        }
        assert_eq!(kept(&open()), before);
    }
}
