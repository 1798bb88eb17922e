//! Subscriptions and the segments that they read: what is kept alive and for how long, damage, and stores that are open for
//! reading only.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use stratalog::disk::MemoryDisk;
use stratalog::{Batch, Message, Query, ReadError, Store, SubscribeError, Subscription};
use stratalog_tests::oracle::{Seen, all};
use stratalog_tests::subscriptions::{
    PATIENCE, Received, append_plain, append_some, open, segments,
};
use stratalog_tests::watchdog;

/// Receives the next events.
fn batch(subscription: &mut Subscription) -> Batch {
    loop {
        if let Message::Events(batch) = subscription.recv().unwrap() {
            return batch;
        }
    }
}

#[test]
fn a_batch_outlives_its_subscription_and_the_sealing_of_its_segment() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let mut random = Rng::with_seed(3);
    append_some(&store, &mut random, 20);
    let before = all(store.read_all().forward()).unwrap();
    let mut subscription = store.subscribe().start().unwrap();
    let kept = batch(&mut subscription);
    drop(subscription);
    append_some(&store, &mut random, 900);
    assert!(segments(&disk) > 4, "{:?}", disk.file_names());
    assert!(kept.iter().map(Seen::of).eq(before.iter().cloned()));
    store.close().unwrap();
    assert!(kept.iter().map(Seen::of).eq(before));
}

/// How many parts of files of a directory are mapped into the memory of this process.
fn mapped(directory: &Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains(directory.to_str().unwrap())).count()
}

#[test]
fn a_dropped_subscription_holds_no_memory_and_a_batch_only_its_own() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = Store::options().segment_bytes(64 << 10);
    let store = options.open(place.path()).unwrap();
    append_plain(&store, "a-1", 2_000);
    store.close().unwrap();
    // Nobody but the subscription keeps the segments.
    let store = options.open_read_only(place.path()).unwrap();
    let mut subscription = store.subscribe().start().unwrap();
    let kept = batch(&mut subscription);
    batch(&mut subscription);
    store.close().unwrap();
    let both = mapped(place.path());
    drop(subscription);
    let own = mapped(place.path());
    assert!(0 < own && own < both, "{own} of {both}");
    assert!(kept.iter().map(|event| event.position().get()).eq(1..=kept.len() as u64));
    drop(kept);
    assert_eq!(mapped(place.path()), 0);
}

/// A closed store of some segments, of which one that is sealed is damaged in the middle; and how many events it has.
fn damaged(segment: &str) -> (MemoryDisk, u64) {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    append_plain(&store, "a-1", 2_000);
    let head = store.head().get();
    store.close().unwrap();
    assert!(segments(&disk) > 4, "{:?}", disk.file_names());
    disk.flip_bit(segment, 30_000, 5);
    (disk, head)
}

#[test]
fn damage_is_told_by_its_place_again_and_again_and_another_goes_on_behind_it() {
    for filter in [Query::all(), Query::any().stream("a-1")] {
        let (disk, head) = damaged("segment-0000000002.log");
        let store = open(&disk);
        let start =
            |after: u64| store.subscribe().after(after).filter(filter.clone()).start().unwrap();
        let (mut subscription, mut received) = (start(0), Received::default());
        let error = loop {
            match subscription.recv() {
                Ok(message) => received.take(&message),
                Err(error) => break error,
            }
        };
        let SubscribeError::Read(ReadError::Damaged {
            segment, first_position, last_position, ..
        }) = error
        else {
            panic!("{error}")
        };
        assert_eq!(segment, 2);
        assert!(first_position <= last_position && last_position < head);
        assert!(received.positions().into_iter().eq(1..first_position));
        for _ in 0..3 {
            assert_eq!(subscription.recv().unwrap_err().to_string(), error.to_string());
            let tried = subscription.try_recv().unwrap_err();
            assert_eq!(tried.to_string(), error.to_string());
        }
        assert_eq!(subscription.position().get(), first_position - 1);
        let (mut behind, mut received) = (start(last_position), Received::default());
        received.catch_up(&mut behind);
        assert!(received.positions().into_iter().eq(last_position + 1..=head));
        // What comes is not touched by it.
        append_plain(&store, "a-1", 1);
        received.take(&behind.recv().unwrap());
        assert_eq!(received.position(), head + 1);
    }
}

#[test]
fn a_store_that_is_open_for_reading_is_caught_up_with_and_nothing_follows() {
    let name = "a_store_that_is_open_for_reading_is_caught_up_with_and_nothing_follows";
    watchdog::within(PATIENCE, name, || {
        let disk = MemoryDisk::new();
        let writer = open(&disk);
        append_plain(&writer, "a-1", 1_000);
        let options = Store::options().segment_bytes(64 << 10);
        let reader = options.open_read_only_on(Arc::new(disk.clone())).unwrap();
        let mut subscription = reader.subscribe().name("beside").start().unwrap();
        let mut received = Received::default();
        received.catch_up(&mut subscription);
        assert!(received.positions().into_iter().eq(1..=1_000));
        append_plain(&writer, "a-1", 10);
        assert!(matches!(subscription.recv_timeout(Duration::from_millis(20)), Ok(None)));
        assert_eq!(reader.consumers()[0].lag_events, 0);
        assert_eq!(writer.consumers(), []);
        drop(reader);
        assert!(matches!(subscription.recv(), Err(SubscribeError::Closed)));
    });
}
