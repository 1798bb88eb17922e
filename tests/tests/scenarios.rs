//! Scenarios of the review of the commit, sealing and recovery code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stratalog::disk::{Fault, FaultError, FaultPlan, MemoryDisk, OpKind};
use stratalog::{Expect, NewEvent, Store};

fn put(store: &Store, stream: &str, kind: &str, bytes: usize) -> Result<u64, String> {
    store
        .append(stream, Expect::Any, [NewEvent::bytes(kind, vec![7; bytes])])
        .wait()
        .map(|receipt| receipt.position().get())
        .map_err(|error| format!("{error}"))
}

fn positions(store: &Store) -> Result<Vec<u64>, String> {
    let mut all = Vec::new();
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch().map_err(|e| e.to_string())? {
        all.extend((&batch).into_iter().map(|event| event.position().get()));
    }
    Ok(all)
}

fn check(store: &Store, count: u64, at: &str) {
    let found = positions(store).unwrap_or_else(|error| panic!("{at}: {error}"));
    assert_eq!(found, (1..=count).collect::<Vec<_>>(), "{at}");
    for from in 1..=count {
        let mut reader = store.read_all().from(from).limit(1).forward();
        let batch = reader.next_batch().unwrap_or_else(|e| panic!("{at}: {from}: {e}"));
        let batch = batch.unwrap_or_else(|| panic!("{at}: position {from} is missing"));
        assert_eq!(batch.get(0).map(|event| event.position().get()), Some(from));
    }
}

/// A request that fits the next segment only without its definitions rolls twice; the empty segment in
/// between is sealed with a zero chain.
#[test]
fn an_append_that_rolls_twice_leaves_a_store_that_opens() {
    let disk = MemoryDisk::new();
    let store = Store::options().open_on(Arc::new(disk.clone())).unwrap();
    let kind = "x".repeat(200);
    put(&store, "s", &kind, 10).unwrap();
    put(&store, "s", &kind, 2_080_608).unwrap();
    check(&store, 2, "before closing");
    store.close().unwrap();
    let store = Store::options().open_on(Arc::new(disk.clone()));
    let store = store.unwrap_or_else(|error| panic!("a cleanly closed store: {error}"));
    check(&store, 2, "opened again");
}

/// Growing the spare fails once, for want of space; it stays in the manifest but is lost to the writer.
#[test]
fn a_spare_that_could_not_grow_is_not_lost() {
    let disk = MemoryDisk::new();
    let options = Store::options().segment_bytes(16 << 20);
    let store = options.open_on(Arc::new(disk.clone())).unwrap();
    put(&store, "a", "t", 1000).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    disk.set_faults(FaultPlan::new().inject(
        OpKind::Allocate,
        "segment-",
        0,
        1,
        Fault::Fail(FaultError::NoSpace),
    ));
    println!("{:?}", put(&store, "a", "t", 3 << 20));
    let mut count = 1;
    for _ in 0..20 {
        if let Ok(position) = put(&store, "a", "t", 3 << 20) {
            count = position;
        }
    }
    println!("{:?}", disk.file_names());
    check(&store, count, "first life");
    store.close().unwrap();
    for life in 0..4 {
        let store =
            options.open_on(Arc::new(disk.clone())).unwrap_or_else(|e| panic!("{life}: {e}"));
        check(&store, count, &format!("life {life}"));
        for _ in 0..6 {
            count = put(&store, "a", "t", 3 << 20).unwrap();
        }
        check(&store, count, &format!("life {life}, after more"));
        store.close().unwrap();
    }
}

/// One failing operation, at each place; the process is killed; the next opening is no refusal, and
/// nothing acknowledged is lost.
#[test]
fn one_failing_operation_and_a_kill_never_refuse_the_next_opening() {
    let mut bad = Vec::new();
    let kinds = [
        OpKind::SyncDir,
        OpKind::Rename,
        OpKind::Sync,
        OpKind::Create,
        OpKind::Unlink,
        OpKind::Allocate,
        OpKind::Zero,
        OpKind::Write,
        OpKind::WriteDurable,
        OpKind::Truncate,
        OpKind::Map,
        OpKind::Lock,
        OpKind::Open,
    ];
    for kind in kinds {
        for skip in 0..14 {
            for torn in [None, Some(1), Some(2)] {
                let error = FaultError::Io;
                let fault = torn.map_or(Fault::Fail(error), |seed| Fault::FailTorn { error, seed });
                let name = format!("{kind} {skip} {torn:?}");
                let disk = MemoryDisk::new();
                let options = Store::options().segment_bytes(64 << 10);
                let store = options.open_on(Arc::new(disk.clone())).unwrap();
                let mut acked = 0;
                for _ in 0..10 {
                    acked = put(&store, "s", "t", 5000).unwrap();
                }
                disk.set_faults(FaultPlan::new().inject(kind, "", skip, 1, fault));
                for _ in 0..30 {
                    if let Ok(position) = put(&store, "s", "t", 5000) {
                        acked = position;
                    }
                }
                // Killed here, and once more a little later.
                let mut forks = vec![disk.fork()];
                for _ in 0..10 {
                    if let Ok(position) = put(&store, "s", "t", 5000) {
                        acked = position;
                        forks = vec![disk.fork()];
                    }
                }
                forks.push(disk.fork());
                let _ = store.close();
                forks.push(disk.fork());
                for (n, fork) in forks.into_iter().enumerate() {
                    for round in 0..2 {
                        match options.open_on(Arc::new(fork.clone())) {
                            Err(error) => {
                                bad.push(format!("{name}: fork {n} round {round}: {error}"));
                                break;
                            }
                            Ok(store) => {
                                let found = positions(&store);
                                let head = store.head().get();
                                if head < acked && n > 0 {
                                    bad.push(format!(
                                        "{name}: fork {n} round {round}: lost: {head} of {acked}"
                                    ));
                                }
                                if found != Ok((1..=head).collect()) {
                                    bad.push(format!("{name}: fork {n} round {round}: {found:?}"));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(bad.is_empty(), "{} bad:\n{}", bad.len(), bad.join("\n"));
}

/// A reader opens beside a writer that never pauses.
#[test]
fn a_store_can_be_opened_for_reading_beside_a_busy_writer() {
    let disk = MemoryDisk::new();
    let store = Store::options().open_on(Arc::new(disk.clone())).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                put(&store, "s", "t", 100).unwrap();
            }
        })
    };
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut errors = Vec::new();
    for _ in 0..20 {
        if let Err(error) = Store::options().open_read_only_on(Arc::new(disk.clone())) {
            errors.push(error.to_string());
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    assert!(errors.is_empty(), "{} of 20: {}", errors.len(), errors[0]);
}

/// The manifest of before a segment was sealed comes back (a lost write): newer evidence should win.
#[test]
fn a_stale_manifest_from_before_a_sealing_opens() {
    let disk = MemoryDisk::new();
    let options = Store::options().segment_bytes(64 << 10);
    let store = options.open_on(Arc::new(disk.clone())).unwrap();
    put(&store, "s", "t", 13000).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    let old = disk.read_file("manifest");
    let mut count = 0;
    for _ in 0..12 {
        count = put(&store, "s", "t", 13000).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    let fork = disk.fork();
    fork.write_file("manifest", &old);
    let store = options.open_on(Arc::new(fork)).unwrap_or_else(|error| panic!("{error}"));
    check(&store, count, "stale");
}

/// A reader follows a stream while the log rolls: nothing is skipped, nothing is called damaged.
#[test]
fn following_a_stream_over_a_roll_misses_nothing() {
    const EVENTS: u64 = 20_000;
    let disk = MemoryDisk::new();
    let options = Store::options().segment_bytes(64 << 10);
    let store = options.open_on(Arc::new(disk.clone())).unwrap();
    let writer = {
        let store = store.clone();
        std::thread::spawn(move || {
            let mut pending = std::collections::VecDeque::new();
            for n in 0..EVENTS {
                // Every other event is of another stream.
                for stream in ["s", "other"] {
                    let event = NewEvent::bytes("t", vec![n.to_le_bytes()[0]; 700]);
                    loop {
                        match store.append(stream, Expect::Any, [&event]).submit() {
                            Ok(claimed) => break pending.push_back(claimed),
                            Err(_) => std::thread::yield_now(),
                        }
                    }
                }
                if pending.len() > 40 {
                    pending.pop_front().unwrap().wait().unwrap();
                }
            }
            for pending in pending {
                pending.wait().unwrap();
            }
        })
    };
    let mut reader = store.read_stream("s").forward();
    let mut next = 0;
    let mut idle = 0;
    while next < EVENTS {
        match reader.next_batch() {
            Ok(Some(batch)) => {
                for event in &batch {
                    assert_eq!(event.version(), next);
                    next += 1;
                }
            }
            Ok(None) => {
                if writer.is_finished() {
                    idle += 1;
                    assert!(idle < 100, "stopped at version {next} of {EVENTS}");
                }
            }
            Err(error) => panic!("at version {next}: {error}"),
        }
    }
    writer.join().unwrap();
}

/// The directory's sync fails after the manifest that names a new segment was renamed; the segment is
/// made anew under the same number, and the process dies in the middle of that.
#[test]
fn a_segment_made_anew_after_a_failed_sync_is_still_the_one_in_the_manifest() {
    let mut bad = Vec::new();
    for fail in 0..12 {
        for die in 0..5 {
            let disk = MemoryDisk::new();
            let options = Store::options().segment_bytes(64 << 10);
            disk.set_faults(
                FaultPlan::new()
                    .inject(OpKind::SyncDir, "", fail, 1, Fault::Fail(FaultError::Io))
                    .inject(OpKind::Zero, "segment-", die, 1, Fault::Die),
            );
            let Ok(store) = options.open_on(Arc::new(disk.clone())) else { continue };
            std::thread::sleep(std::time::Duration::from_millis(5));
            for _ in 0..40 {
                let _ = put(&store, "s", "t", 5000);
            }
            let fork = disk.fork();
            drop(store);
            if let Err(error) = options.open_on(Arc::new(fork)) {
                bad.push(format!("{fail} {die}: {error}"));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// A reader, or a clone, that outlives the close keeps nobody from opening the store again.
#[test]
fn a_reader_that_outlives_the_close_does_not_keep_the_store_locked() {
    let disk = MemoryDisk::new();
    let store = Store::options().open_on(Arc::new(disk.clone())).unwrap();
    put(&store, "s", "t", 100).unwrap();
    let reader = store.read_all().forward();
    store.close().unwrap();
    let opened = Store::options().open_on(Arc::new(disk.clone()));
    drop(reader);
    opened.unwrap_or_else(|error| panic!("{error}"));
}

/// Every crash of a healthy run, and every crash of its recovery.
#[test]
fn every_crash_opens_with_all_that_was_acknowledged() {
    use stratalog::disk::Exploration;
    let options = Store::options().segment_bytes(64 << 10);
    let mut bad = Vec::new();
    let mut states = 0;
    for sizes in [vec![100, 700, 5000, 30], vec![15_000, 3000], vec![4000, 4096 - 64, 1]] {
        let disk = MemoryDisk::new();
        disk.start_recording();
        let store = options.open_on(Arc::new(disk.clone())).unwrap();
        for n in 0..24 {
            let position = put(&store, "s", "t", sizes[n % sizes.len()]).unwrap();
            disk.mark(position);
        }
        store.close().unwrap();
        for state in disk
            .trace()
            .crash_points()
            .flat_map(|p| p.states(&Exploration::quick()).collect::<Vec<_>>())
        {
            states += 1;
            if states % 23 != 0 {
                continue;
            }
            let acked = state.point().marks().iter().copied().max().unwrap_or(0);
            let after = state.disk();
            match options.open_on(Arc::new(after.clone())) {
                Err(error) => bad.push(format!("{sizes:?} {}: {error}", state.index())),
                Ok(store) => {
                    let head = store.head().get();
                    if head < acked {
                        bad.push(format!("{}: lost {head} of {acked}", state.index()));
                    }
                    let found = positions(&store);
                    if found != Ok((1..=head).collect()) {
                        bad.push(format!("{}: {found:?}", state.index()));
                    }
                    if put(&store, "s", "t", 300) != Ok(head + 1) {
                        bad.push(format!("{}: append", state.index()));
                    }
                    let fork = after.fork();
                    drop(store);
                    for again in [fork, after] {
                        match options.open_on(Arc::new(again)) {
                            Err(error) => {
                                bad.push(format!("{sizes:?} {} again: {error}", state.index()));
                            }
                            Ok(store) => {
                                if store.head().get() != head + 1 {
                                    bad.push(format!("{} again: head", state.index()));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    println!("{states} states");
    assert!(
        bad.is_empty(),
        "{} bad of {states}:\n{}",
        bad.len(),
        bad[..bad.len().min(12)].join("\n")
    );
}
