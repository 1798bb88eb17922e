//! Projections: each event is in the state once, whatever happens, and what can be seen of a state is whole.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use stratalog::disk::{Exploration, MemoryDisk};
use stratalog::limits::PROJECTION_LANES_MAX;
use stratalog::{Phase, Position, ProjectionError, Store};
use stratalog_tests::block_on::block_on;
use stratalog_tests::projections::{Tallies, check, expected, fill, open};
use stratalog_tests::seed::{replay, seed};

const LONG: Duration = Duration::from_mins(1);

fn memory_store() -> Store {
    open(&MemoryDisk::new())
}

#[test]
fn a_projection_follows_the_log_and_has_each_event_once() {
    for lanes in [1, 2, 5] {
        let (store, mut random) = (memory_store(), fastrand::Rng::with_seed(lanes as u64));
        fill(&store, 3_000, 40, &mut random);
        let tallies = store.project(Tallies::default()).lanes(lanes).start().unwrap();
        for _ in 0..10 {
            fill(&store, 300, 40, &mut random);
            let head = store.head();
            assert!(tallies.wait_for(head).timeout(LONG).wait().unwrap() >= head);
            assert_eq!(check(&store, &tallies), head.get());
        }
        assert_eq!(tallies.stop().unwrap(), store.head());
    }
}

#[test]
fn what_is_seen_while_it_runs_is_of_one_position_in_all_lanes() {
    let store = memory_store();
    let tallies = store.project(Tallies::default()).lanes(4).start().unwrap();
    std::thread::scope(|scope| {
        let appender = scope.spawn(|| fill(&store, 20_000, 50, &mut fastrand::Rng::with_seed(3)));
        let (mut last, mut views) = (0, 0);
        while !appender.is_finished() || views < 20 {
            let position = check(&store, &tallies);
            assert!(position >= last, "what can be seen goes back");
            (last, views) = (position, views + 1);
        }
        appender.join().unwrap();
    });
    tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    assert_eq!(check(&store, &tallies), store.head().get());
}

#[test]
fn whoever_keeps_a_view_holds_up_nobody() {
    let (store, mut random) = (memory_store(), fastrand::Rng::with_seed(4));
    fill(&store, 500, 10, &mut random);
    let tallies = store.project(Tallies::default()).start().unwrap();
    tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    let kept = tallies.view().wait().unwrap();
    fill(&store, 500, 10, &mut random);
    tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    assert_eq!(kept.position(), Position::from(500));
    assert_eq!(*kept.state(), expected(&store, 500));
    assert_eq!(tallies.view().wait().unwrap().state().events(), 1_000);
    assert_eq!(kept.state_of("s-1"), kept.state());
}

#[test]
fn it_goes_on_from_what_was_saved() {
    let disk = MemoryDisk::new();
    for lanes in [1, 3] {
        let mut random = fastrand::Rng::with_seed(5);
        let store = open(&disk);
        fill(&store, 2_000, 20, &mut random);
        let before = store.head().get();
        let tallies = store.project(Tallies::default()).lanes(lanes).start().unwrap();
        tallies.wait_for(before).timeout(LONG).wait().unwrap();
        // The store saves what runs in it.
        store.close().unwrap();
        assert!(matches!(tallies.stop(), Ok(at) if at.get() == before));
        let store = open(&disk);
        fill(&store, 700, 20, &mut random);
        let again = Tallies::default();
        let tallies = store.project(again.clone()).lanes(lanes).start().unwrap();
        tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
        assert_eq!(again.applied.load(Ordering::Relaxed), 700);
        assert_eq!(check(&store, &tallies), before + 700);
        drop(tallies);
        store.close().unwrap();
    }
}

#[test]
fn another_number_of_lanes_builds_it_anew() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    fill(&store, 1_000, 20, &mut fastrand::Rng::with_seed(6));
    for lanes in [1, 2, 3, 3, 1] {
        let again = Tallies::default();
        let tallies = store.project(again.clone()).lanes(lanes).start().unwrap();
        tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
        check(&store, &tallies);
        tallies.stop().unwrap();
        let mut kept = 0;
        let each = |info: &stratalog::SnapshotInfo| {
            kept += usize::from(info.is_of_projection);
            assert!(info.stream.starts_with("tallies, lane "));
            std::ops::ControlFlow::Continue(())
        };
        store.snapshots().each(each).unwrap();
        assert_eq!(kept, lanes, "what was saved with other numbers is dropped");
    }
    let again = Tallies::default();
    let tallies = store.project(again.clone()).start().unwrap();
    tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    assert_eq!(again.applied.load(Ordering::Relaxed), 0);
    drop(tallies);
    let tallies = store.project(again.clone()).rebuild(true).start().unwrap();
    tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    assert_eq!(again.applied.load(Ordering::Relaxed), 1_000);
}

#[test]
fn it_is_saved_after_so_many_events_and_after_some_time() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let mut random = fastrand::Rng::with_seed(7);
    let kept = |store: &Store| {
        let mut positions = Vec::new();
        let each = |info: &stratalog::SnapshotInfo| {
            positions.push(info.position.get());
            std::ops::ControlFlow::Continue(())
        };
        store.snapshots().each(each).unwrap();
        positions.into_iter().max().unwrap_or(0)
    };
    let tallies = store.project(Tallies::default()).save_every(100).save_after(LONG);
    let tallies = tallies.lanes(2).start().unwrap();
    fill(&store, 1_000, 10, &mut random);
    tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    let begun = Instant::now();
    while kept(&store) < 900 {
        assert!(begun.elapsed() < LONG, "it was saved at {}", kept(&store));
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(tallies);
    let tallies = store.project(Tallies::default()).save_after(Duration::from_millis(20));
    let tallies = tallies.lanes(2).start().unwrap();
    fill(&store, 10, 10, &mut random);
    let begun = Instant::now();
    while kept(&store) < 1_010 {
        assert!(begun.elapsed() < LONG, "it was saved at {}", kept(&store));
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(tallies);
}

#[test]
fn it_rests_and_goes_on_as_it_is_told() {
    let store = memory_store();
    let tallies = store.project(Tallies::default()).lanes(3).start().unwrap();
    std::thread::scope(|scope| {
        let appender = scope.spawn(|| fill(&store, 20_000, 30, &mut fastrand::Rng::with_seed(8)));
        while !appender.is_finished() {
            let position = tallies.pause().unwrap();
            assert_eq!(tallies.status().phase, Phase::Paused);
            assert_eq!(check(&store, &tallies), position.get());
            std::thread::sleep(Duration::from_millis(1));
            assert_eq!(tallies.position(), position, "it does not rest");
            assert_eq!(tallies.pause().unwrap(), position);
            tallies.resume().unwrap();
            tallies.wait_for(position.get().min(store.head().get())).timeout(LONG).wait().unwrap();
        }
    });
    tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    assert_eq!(tallies.status().phase, Phase::Running);
    assert_eq!(check(&store, &tallies), 20_000);
}

#[test]
fn waiting_ends_in_time_also_in_tasks_and_while_it_rests() {
    let store = memory_store();
    let tallies = store.project(Tallies::default()).lanes(2).start().unwrap();
    let timed_out = |error| match error {
        ProjectionError::TimedOut { position, reached, .. } => (position.get(), reached.get()),
        other => panic!("{other}"),
    };
    for _ in 0..2 {
        let begun = Instant::now();
        let short = Duration::from_millis(30);
        assert_eq!(timed_out(tallies.wait_for(7).timeout(short).wait().unwrap_err()), (7, 0));
        assert_eq!(timed_out(block_on(tallies.wait_for(7).timeout(short)).unwrap_err()), (7, 0));
        assert!(begun.elapsed() >= 2 * short);
        tallies.pause().unwrap();
    }
    tallies.resume().unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| block_on(tallies.wait_for(50).timeout(LONG)));
        let blocks = scope.spawn(|| tallies.wait_for(50).wait());
        let looks = scope.spawn(|| block_on(tallies.view()));
        fill(&store, 50, 3, &mut fastrand::Rng::with_seed(9));
        assert_eq!(waits.join().unwrap().unwrap().get(), 50);
        assert_eq!(blocks.join().unwrap().unwrap().get(), 50);
        assert!(looks.join().unwrap().is_ok());
    });
    // Who waits for what does not come is told that it does not.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| tallies.wait_for(51).wait());
        let awaits = scope.spawn(|| block_on(tallies.wait_for(51).timeout(LONG)));
        std::thread::sleep(Duration::from_millis(10));
        store.clone().close().unwrap();
        for ended in [waits.join().unwrap(), awaits.join().unwrap()] {
            assert!(
                matches!(ended, Err(ProjectionError::Stopped { position, .. }) if position.get() == 50)
            );
        }
    });
    assert!(matches!(tallies.view().wait(), Ok(view) if view.position().get() == 50));
    assert!(matches!(tallies.resume(), Err(ProjectionError::Stopped { .. })));
    assert!(matches!(tallies.pause(), Err(ProjectionError::Stopped { .. })));
}

#[test]
fn what_cannot_run_is_refused_before_anything_runs() {
    let store = memory_store();
    let start = |lanes| store.project(Tallies::default()).lanes(lanes).start();
    for lanes in [0, PROJECTION_LANES_MAX + 1] {
        assert!(matches!(start(lanes), Err(ProjectionError::Lanes { lanes: n }) if n == lanes));
    }
    let first = start(1).unwrap();
    assert!(matches!(start(1), Err(ProjectionError::Running { name }) if &*name == "tallies"));
    first.stop().unwrap();
    let second = start(PROJECTION_LANES_MAX).unwrap();
    assert_eq!(store.consumers().len(), PROJECTION_LANES_MAX);
    drop(second);
    assert!(store.consumers().is_empty());
    store.clone().close().unwrap();
    assert!(matches!(start(1), Err(ProjectionError::Stopped { .. })));
}

#[test]
fn what_was_saved_of_events_that_the_log_has_not_is_refused_or_built_anew() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    fill(&store, 100, 5, &mut fastrand::Rng::with_seed(10));
    let older = disk.fork();
    fill(&store, 100, 5, &mut fastrand::Rng::with_seed(11));
    let tallies = store.project(Tallies::default()).start().unwrap();
    tallies.wait_for(200).timeout(LONG).wait().unwrap();
    drop(tallies);
    store.close().unwrap();
    // The log of before, with the snapshots of now.
    for name in disk.file_names() {
        if name.starts_with("snapshots-") {
            older.write_file(&name, &disk.read_file(&name));
        }
    }
    let store = open(&older);
    let head = store.head().get();
    let refused = store.project(Tallies::default()).start().unwrap_err();
    assert!(
        matches!(&refused, ProjectionError::PastHead { position, head: end, .. }
            if position.get() == 200 && end.get() == head),
        "{refused}"
    );
    // Once the log has other events there, what was saved is of no use, and that is noticed.
    fill(&store, 200, 5, &mut fastrand::Rng::with_seed(12));
    let tallies = store.project(Tallies::default()).start().unwrap();
    tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    check(&store, &tallies);
    drop(tallies);
    let tallies = store.project(Tallies::default()).rebuild(true).start().unwrap();
    tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    check(&store, &tallies);
}

/// What is done between crashes: two lanes, saved often, while events are appended.
fn project_and_append(disk: &MemoryDisk, random: &mut fastrand::Rng) {
    let store = open(disk);
    let tallies = store.project(Tallies::default()).lanes(2).save_every(20).start().unwrap();
    for _ in 0..6 {
        fill(&store, 40, 9, random);
        tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    }
    drop(tallies);
    store.close().unwrap();
}

#[test]
fn after_any_crash_each_event_is_in_the_state_once() {
    let seed = seed(13);
    println!("{}", replay("projections", "after_any_crash_each_event_is_in_the_state_once", seed));
    let mut random = fastrand::Rng::with_seed(seed);
    let disk = MemoryDisk::new();
    project_and_append(&disk, &mut random);
    disk.start_recording();
    project_and_append(&disk, &mut random);
    let trace = disk.trace();
    let few = Exploration { sectors_each_max: 2, sector_subsets: 1, ..Exploration::quick() };
    let (mut states, mut resumed, mut known) = (0, 0, BTreeSet::new());
    for point in trace.crash_points().step_by(7) {
        for state in point.states(&few) {
            if !known.insert(state.fingerprint()) {
                continue;
            }
            let store = open(&state.disk());
            let again = Tallies::default();
            let tallies = store.project(again.clone()).lanes(2).start().unwrap();
            tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
            assert_eq!(check(&store, &tallies), store.head().get(), "{state}");
            let findings = store.snapshots().verify(|_| {}).unwrap().findings;
            assert_eq!(findings, [""; 0], "{state}");
            states += 1;
            resumed += u64::from(again.applied.load(Ordering::Relaxed) < store.head().get());
        }
    }
    assert!(states > 50 && resumed > 10, "{states} states, {resumed} of them resumed");
}

#[test]
fn a_store_that_is_open_for_reading_projects_and_saves_nothing() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    fill(&store, 300, 5, &mut fastrand::Rng::with_seed(14));
    store.close().unwrap();
    let before = disk.file_names();
    let reader = Store::options().open_read_only_on(Arc::new(disk.clone())).unwrap();
    let tallies = reader.project(Tallies::default()).lanes(2).save_every(1).start().unwrap();
    tallies.wait_for(300).timeout(LONG).wait().unwrap();
    check(&reader, &tallies);
    tallies.stop().unwrap();
    assert_eq!(disk.file_names(), before);
}
