//! Stores with accounts and their snapshots, and whether loads are what replays are.

use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::limits::SNAPSHOT_MEMORY_MIN;
use stratalog::{Expect, NewEvent, Options, Policy, SnapshotOptions, SnapshotStats, Store};

use crate::accounts::{Accounts, Booked, Replays};

/// The streams of a small store.
pub const STREAMS: [&str; 4] = ["a-1", "a-2", "a-3", "a-4"];

/// Small segments of both kinds; each snapshot is compared with a replay when it is taken.
pub fn options() -> Options {
    Store::options().segment_bytes(1 << 17).snapshots(snapshot_options())
}

/// As in [`options`].
pub fn snapshot_options() -> SnapshotOptions {
    SnapshotOptions::new().memory_bytes(SNAPSHOT_MEMORY_MIN).checks(1)
}

/// Opens the store of a disk in memory.
///
/// # Panics
/// Where it cannot be opened.
pub fn open(disk: &MemoryDisk) -> Store {
    options().open_on(Arc::new(disk.clone())).expect("the store opens")
}

/// Appends so many bookings of 5 cents to a stream.
///
/// # Panics
/// Where an append fails.
pub fn book(store: &Store, stream: &str, events: usize) {
    let booked = |n: usize| NewEvent::of(&Booked { purpose: format!("p{}", n % 3), cents: 5 });
    for begin in (0..events).step_by(100) {
        let events = (begin..events.min(begin + 100)).map(booked);
        store.append(stream, Expect::Any, events).wait().expect("the append succeeds");
    }
}

/// The names of the segments of snapshots.
pub fn files(disk: &MemoryDisk) -> Vec<String> {
    disk.file_names().into_iter().filter(|name| name.starts_with("snapshots-")).collect()
}

/// Waits until what is due has been taken: there is one thread, and this is behind it.
///
/// # Panics
/// Where that fails.
pub fn settle(store: &Store) {
    let nothing = store.folded::<Replays>().take("of-nothing").wait();
    assert_eq!(nothing.expect("it is asked for"), None);
}

/// Gives the figures of a store in which each stream's state is what its events come to.
///
/// # Panics
/// Where it is not.
pub fn check(store: &Store) -> SnapshotStats {
    let accounts = store.folded::<Accounts>().snapshots(Policy::never());
    let replays = store.folded::<Replays>().snapshots(Policy::never());
    for stream in STREAMS {
        let loaded = accounts.load(stream).expect("the stream can be folded");
        let replayed = replays.load(stream).expect("the stream can be folded");
        assert_eq!(loaded.state(), replayed.state(), "{stream}: {loaded:?}");
        assert_eq!(loaded.version(), replayed.version(), "{stream}: {loaded:?}");
        let latest = accounts.latest_snapshot(stream).expect("the log can be read");
        if let Some(snapshot) = latest {
            assert!(Some(snapshot.version()) <= replayed.version());
        }
    }
    store.snapshots().stats().expect("the indexes can be read")
}
