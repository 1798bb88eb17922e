//! Many threads append and read at once, in memory and in a real directory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "the store spells its own names"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stratalog::disk::{MemoryDisk, PwriteDisk};
use stratalog::{AppendError, Case, Expect, NewEvent, OpenError, Options, Receipt, Store};
use stratalog_tests::block_on::block_on;
use stratalog_tests::oracle::{all, stream};
use stratalog_tests::watchdog;

const LIMIT: Duration = Duration::from_mins(1);

fn options() -> Options {
    Store::options().segment_bytes(512 << 10)
}

/// Runs a test on both kinds of disk, and on one in memory that takes several writes at a time, under a
/// watchdog. Gives the most writes that were in flight at once on that one.
fn on_each(name: &'static str, test: fn(&dyn Fn() -> Store)) -> usize {
    watchdog::within(LIMIT, name, move || {
        let disk = MemoryDisk::new();
        test(&|| options().open_on(Arc::new(disk.clone())).unwrap());
    });
    watchdog::within(LIMIT, name, move || {
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        test(&|| options().open(root.path().join("store")).unwrap());
    });
    watchdog::within(LIMIT, name, move || {
        let disk = MemoryDisk::with_queue(1);
        test(&|| options().open_on(Arc::new(disk.clone())).unwrap());
        disk.queued_most()
    })
}

/// The event that a thread appends as its `number`th.
fn event(thread: usize, number: u64) -> NewEvent {
    let mut payload = format!("{thread}/{number}/").into_bytes();
    payload.resize(20 + usize::try_from(number * 37 % 900).unwrap(), b'x');
    NewEvent::bytes(format!("type-{}", number % 3), payload)
}

/// The same; now and then one so large that its batch goes through the disk's queue.
fn small_or_large_event(thread: usize, number: u64) -> NewEvent {
    if number % 80 != 79 {
        return event(thread, number);
    }
    let mut payload = format!("{thread}/{number}/").into_bytes();
    payload.resize(100 << 10, b'y');
    NewEvent::bytes("type-large", payload)
}

/// Appends in one of the three ways, one or several events at a time.
fn append(
    store: &Store,
    thread: usize,
    count: u64,
    receipts: &Mutex<Vec<(Receipt, Vec<NewEvent>)>>,
) {
    let mut number = 0;
    let mut pending = Vec::new();
    while number < count {
        let more = 1 + number % 4;
        let events: Vec<_> =
            (number..number + more).map(|at| small_or_large_event(thread, at)).collect();
        number += more;
        let name = format!("stream-{}", (thread as u64 + number) % 5);
        let append = store.append(&name, Expect::Any, &events);
        match thread % 3 {
            0 => receipts.lock().unwrap().push((append.wait().unwrap(), events)),
            1 => {
                let receipt = block_on(append).unwrap();
                receipts.lock().unwrap().push((receipt, events));
            }
            _ => {
                let mut submitted = append.submit();
                while matches!(submitted, Err(AppendError::Busy)) {
                    std::thread::yield_now();
                    submitted = store.append(&name, Expect::Any, &events).submit();
                }
                pending.push((submitted.unwrap(), events));
                if pending.len() > 10 {
                    let done = pending.drain(..).map(|(one, events)| (one.wait().unwrap(), events));
                    receipts.lock().unwrap().extend(done);
                }
            }
        }
    }
    let done = pending.drain(..).map(|(one, events)| (one.wait().unwrap(), events));
    receipts.lock().unwrap().extend(done);
}

/// Reads over and over until told to stop, and never sees anything out of order or beyond the head.
fn watch(store: &Store, stop: &AtomicBool) -> u64 {
    let mut rounds = 0;
    let mut tail = store.read_all().forward();
    let mut next = 1;
    loop {
        let last_round = stop.load(Ordering::Acquire);
        while let Some(batch) = tail.next_batch().unwrap() {
            for event in &batch {
                assert_eq!(event.position().get(), next, "forwards");
                next += 1;
            }
            assert!(next - 1 <= store.head().get(), "beyond the head");
        }
        let head = store.head().get();
        let mut expected = None;
        let mut back = store.read_all().backward().clone();
        while let Some(batch) = back.next_batch().unwrap() {
            for event in &batch {
                let position = event.position().get();
                assert_eq!(position, expected.unwrap_or(position), "backwards");
                assert!(expected.is_some() || position >= head, "the last is not shown");
                expected = Some(position - 1);
            }
            if rounds % 16 != 0 {
                break;
            }
        }
        let name = format!("stream-{}", rounds % 5);
        let known = store.stream_head(&name).unwrap();
        let read = stream(store.read_stream(&name).forward()).unwrap();
        assert!(read.iter().zip(0..).all(|(seen, version)| seen.version == version), "{name}");
        assert!(read.last().map(|seen| seen.version) >= known, "{name}: less than its head");
        rounds += 1;
        if last_round {
            return rounds;
        }
    }
}

#[test]
fn appends_from_many_threads_are_dense_and_where_their_receipts_say() {
    let queued = on_each("appends from many threads", |open| {
        let store = open();
        let (receipts, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| watch(&store, &stop))).collect();
            let writers: Vec<_> = (0..6)
                .map(|thread| {
                    let (store, receipts) = (&store, &receipts);
                    scope.spawn(move || append(store, thread, 2_000, receipts))
                })
                .collect();
            let ended: Vec<_> =
                writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            stop.store(true, Ordering::Release);
            for ended in ended {
                ended.unwrap();
            }
            let rounds: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
            println!(
                "{rounds} rounds of reading beside {} appends",
                receipts.lock().unwrap().len()
            );
        });
        let receipts = receipts.into_inner().unwrap();
        let check = |store: &Store| {
            let seen = all(store.read_all().forward()).unwrap();
            assert!(seen.iter().zip(1..).all(|(seen, position)| seen.position == position));
            let mut heads: BTreeMap<&str, u64> = BTreeMap::new();
            for seen in &seen {
                let next = heads.entry(&seen.stream).or_default();
                assert_eq!(seen.version, *next, "{}", seen.stream);
                *next += 1;
            }
            let total: usize = receipts.iter().map(|(_, events)| events.len()).sum();
            assert_eq!(seen.len(), total);
            for (receipt, events) in &receipts {
                let first = usize::try_from(receipt.first_position().get()).unwrap() - 1;
                for (number, event) in events.iter().enumerate() {
                    let seen = &seen[first + number];
                    assert_eq!(seen.stream, receipt.stream());
                    assert_eq!(seen.version, receipt.versions().start + number as u64);
                    assert_eq!(seen.event.payload(), event.payload());
                    assert_eq!(seen.event.event_type(), event.event_type());
                }
            }
            assert!(store.verify(|_, _| {}).unwrap().is_clean());
        };
        check(&store);
        store.close().unwrap();
        check(&open());
    });
    println!("up to {queued} writes in flight");
    assert!(queued > 0, "no batch went through the queue");
}

#[test]
fn small_batches_that_follow_one_another_go_through_no_queue() {
    /// All of them fit into one segment.
    const ROUNDS: u64 = 60;
    /// All of them together are less than a large batch.
    const PENDING: usize = 32;
    watchdog::within(LIMIT, "small batches", || {
        let disk = MemoryDisk::with_queue(2);
        let store = options().open_on(Arc::new(disk.clone())).unwrap();
        for _ in 0..ROUNDS {
            let submit = |_| {
                let event = NewEvent::bytes("happened", b"briefly".as_slice());
                store.append("stream-1", Expect::Any, [event]).submit().unwrap()
            };
            let pending: Vec<_> = (0..PENDING).map(submit).collect();
            for pending in pending {
                pending.wait().unwrap();
            }
        }
        assert_eq!(disk.queued_most(), 0);
        assert!(store.write_stats().batches >= ROUNDS);
    });
}

#[test]
fn exactly_one_of_many_wins_each_version_of_a_hot_stream() {
    on_each("a hot stream", |open| {
        let store = open();
        let (won, lost) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let (store, won, lost) = (&store, &won, &lost);
                scope.spawn(move || {
                    loop {
                        let latest = store.stream_head("hot").unwrap();
                        if latest >= Some(199) {
                            return;
                        }
                        let expected = latest.map_or(Expect::NoStream, Expect::Version);
                        match store.append("hot", expected, [event(thread, 1)]).wait() {
                            Ok(receipt) => {
                                assert_eq!(
                                    receipt.version(),
                                    latest.map_or(0, |latest| latest + 1)
                                );
                                won.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(AppendError::Conflict(conflict)) => {
                                let actual = conflict.streams().next().unwrap().actual();
                                assert!(actual > latest, "a conflict with what was expected");
                                // What a conflict tells of is durable already.
                                assert!(store.stream_head("hot").unwrap() >= actual);
                                lost.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(other) => panic!("{other}"),
                        }
                    }
                });
            }
        });
        let (won, lost) = (won.into_inner(), lost.into_inner());
        println!("{won} appends won, {lost} lost");
        assert_eq!(store.stream_head("hot").unwrap(), Some(won - 1));
        assert_eq!(store.head().get(), won);
    });
}

#[test]
fn dropping_the_store_writes_what_was_submitted() {
    on_each("a drop", |open| {
        let store = open();
        for number in 0..100 {
            let mut submitted = store.append("stream", Expect::Any, [event(0, number)]).submit();
            while matches!(submitted, Err(AppendError::Busy)) {
                submitted = store.append("stream", Expect::Any, [event(0, number)]).submit();
            }
            // Nobody waits for it.
            drop(submitted.unwrap());
        }
        drop(store);
        let store = open();
        assert_eq!((store.opened_as(), store.head().get()), (Case::RecordedEnd, 100));
    });
}

#[test]
fn a_flush_waits_for_what_was_submitted() {
    on_each("a flush", |open| {
        let store = open();
        for number in 0..200 {
            let submitted = store.append("stream", Expect::Any, [event(0, number)]).submit();
            let pending = submitted.unwrap();
            store.flush().unwrap();
            assert_eq!(store.head().get(), number + 1);
            drop(pending);
        }
    });
}

#[test]
fn closing_beside_appends_ends_each_of_them_well_or_as_closed() {
    on_each("a close", |open| {
        for round in 0..5_u64 {
            let store = open();
            let before = store.head().get();
            let acknowledged = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for thread in 0..4 {
                    let (store, acknowledged) = (store.clone(), &acknowledged);
                    scope.spawn(move || {
                        loop {
                            match store.append("stream", Expect::Any, [event(thread, 5)]).wait() {
                                Ok(_) => acknowledged.fetch_add(1, Ordering::Relaxed),
                                Err(AppendError::Closed) => return,
                                Err(other) => panic!("{other}"),
                            };
                        }
                    });
                }
                std::thread::sleep(Duration::from_millis(5 + round));
                store.clone().close().unwrap();
            });
            let head = store.head().get();
            assert_eq!(head, before + acknowledged.into_inner(), "round {round}");
            assert!(matches!(store.check("stream", Expect::Any).wait(), Err(AppendError::Closed)));
            drop(store);
            assert_eq!(open().head().get(), head, "round {round}");
        }
    });
}

#[expect(clippy::needless_pass_by_value, reason = "what was opened is closed here")]
fn locked(opened: Result<Store, OpenError>) -> bool {
    matches!(opened, Err(OpenError::Locked { .. }))
}

#[test]
fn a_second_opening_is_refused_in_this_process_and_through_a_link() {
    let disk = MemoryDisk::new();
    let store = options().open_on(Arc::new(disk.clone())).unwrap();
    assert!(locked(options().open_on(Arc::new(disk.clone()))));
    drop(store);
    options().open_on(Arc::new(disk)).unwrap();

    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (path, link) = (root.path().join("store"), root.path().join("link"));
    let store = options().open(&path).unwrap();
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(locked(options().open(&path)));
    assert!(locked(options().open(&link)));
    let receipt = store.append("stream", Expect::NoStream, [event(0, 1)]).wait();
    assert_eq!(receipt.unwrap().position().get(), 1, "the first is not disturbed");
    let reader = options().open_read_only(&link).unwrap();
    assert_eq!(reader.head().get(), 1, "readers may come");
    assert!(matches!(
        reader.append("stream", Expect::Any, [event(0, 1)]).wait(),
        Err(AppendError::ReadOnly)
    ));
    drop(store);
    options().open(&link).unwrap();
}

const CHILD: &str = "STRATALOG_TEST_CHILD_OPENS";

#[test]
fn a_second_opening_is_refused_in_another_process() {
    let name = "a_second_opening_is_refused_in_another_process";
    if let Some(path) = std::env::var_os(CHILD) {
        // This is the other process.
        assert!(locked(options().open(PathBuf::from(path))));
        return;
    }
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = PwriteDisk::open(root.path()).unwrap();
    let store = options().open_on(Arc::new(disk)).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, root.path())
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    drop(store);
    options().open(root.path()).unwrap();
}

#[test]
fn readers_of_a_live_store_see_only_what_is_durable() {
    watchdog::within(LIMIT, "reading beside a writer", || {
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let options = Store::options().segment_bytes(64 << 10);
        let store = options.open(root.path()).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let _ = store.append("stream", Expect::Any, [event(0, number)]).wait().unwrap();
                }
                number
            });
            let mut opened = 0;
            for _ in 0..60 {
                let before = store.head().get();
                let reader = options.open_read_only(root.path());
                let reader = match reader {
                    Ok(reader) => reader,
                    Err(error) => {
                        stop.store(true, Ordering::Relaxed);
                        panic!("a reader was not let in beside a writer: {error}");
                    }
                };
                opened += 1;
                let seen = all(reader.read_all().forward());
                stop.fetch_or(seen.is_err(), Ordering::Relaxed);
                let seen = seen.unwrap();
                assert!(seen.iter().zip(1..).all(|(seen, position)| seen.position == position));
                assert!(seen.len() as u64 >= before, "{} of {before} events", seen.len());
            }
            stop.store(true, Ordering::Relaxed);
            println!("{opened} readers beside {} appends", writer.join().unwrap());
        });
    });
}
