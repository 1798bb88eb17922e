//! Projections whose code fails or panics, whose log is damaged, and whose process is killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stratalog::disk::MemoryDisk;
use stratalog::{
    AnyEvent, Applied, EventRef, FailureCause, Phase, Projected, Projection, ProjectionError,
    ProjectionFailure, Store,
};
use stratalog_tests::block_on::block_on;
use stratalog_tests::projections::{Tallies, Tally, check, expected, fill, open, options};

const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_millis(1);

/// Waits until the projection stands still, and gives why.
fn failure_of<P: Projection>(projected: &Projected<P>) -> Arc<ProjectionFailure> {
    match projected.wait_for(u64::MAX).timeout(LONG).wait() {
        Err(ProjectionError::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_event_that_fails_for_a_while_is_tried_again_and_is_in_the_state_once() {
    for panics in [false, true] {
        let store = open(&MemoryDisk::new());
        fill(&store, 1_000, 10, &mut fastrand::Rng::with_seed(1));
        let tries = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&tries);
        let tallies = Tallies::failing(move |event| {
            let fails =
                event.position().get() == 700 && counted.fetch_add(1, Ordering::Relaxed) < 3;
            assert!(!(fails && panics), "as it is told");
            if fails { Err("as it is told".into()) } else { Ok(()) }
        });
        let tallies = store.project(tallies).backoff(SHORT).save_every(300).lanes(2);
        let tallies = tallies.start().unwrap();
        tallies.wait_for(1_000).timeout(LONG).wait().unwrap();
        assert_eq!((check(&store, &tallies), tries.load(Ordering::Relaxed)), (1_000, 4));
        let status = tallies.status();
        assert_eq!((status.phase, status.failure.is_none()), (Phase::Running, true));
        tallies.stop().unwrap();
    }
}

#[test]
fn an_event_that_goes_on_failing_stops_the_projection_before_it_and_no_other() {
    for lanes in [1, 3] {
        let store = open(&MemoryDisk::new());
        fill(&store, 1_000, 10, &mut fastrand::Rng::with_seed(2));
        let (fails, applied) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        let (told, count) = (Arc::clone(&fails), Arc::clone(&applied));
        let tallies = Tallies::failing(move |event| {
            if event.position().get() == 700 && told.load(Ordering::Relaxed) {
                count.fetch_add(1, Ordering::Relaxed);
                return Err("the printer is on fire".into());
            }
            Ok(())
        });
        let tallies =
            store.project(tallies).retries(3).backoff(SHORT).lanes(lanes).start().unwrap();
        let other = store.project(Others).start().unwrap();
        let failure = failure_of(&tallies);
        assert_eq!((failure.position.get(), failure.attempts), (700, 4));
        assert_eq!(applied.load(Ordering::Relaxed), 4);
        let event = store.read_all().from(700).limit(1).forward().next_batch().unwrap().unwrap();
        let stream = event.get(0).unwrap().stream();
        assert_eq!(failure.stream, Some((stream.into(), "happened".into())));
        assert!(
            matches!(&failure.cause, FailureCause::Failed(e) if e.to_string() == "the printer is on fire")
        );
        let said = failure.to_string();
        assert!(said.contains("position 700") && said.contains("on fire"), "{said}");
        let status = tallies.status();
        assert_eq!((status.phase, status.failure.unwrap().position.get()), (Phase::Failed, 700));
        // Everything before it is there, and nothing of it.
        if lanes == 1 {
            assert_eq!(tallies.position().get(), 699);
            assert_eq!(check(&store, &tallies), 699);
            assert!(tallies.wait_for(699).timeout(LONG).wait().is_ok());
        }
        assert!(matches!(block_on(tallies.wait_for(700)), Err(ProjectionError::Failed(_))));
        assert!(matches!(tallies.pause(), Err(ProjectionError::Failed(_))));
        // Others go on, and so do appends.
        fill(&store, 100, 10, &mut fastrand::Rng::with_seed(3));
        other.wait_for(1_100).timeout(LONG).wait().unwrap();
        // It is not mended: it has all its tries again.
        tallies.resume().unwrap();
        assert_eq!(failure_of(&tallies).attempts, 4);
        fails.store(false, Ordering::Relaxed);
        tallies.resume().unwrap();
        tallies.wait_for(1_100).timeout(LONG).wait().unwrap();
        assert_eq!(check(&store, &tallies), 1_100);
        assert_eq!(tallies.status().phase, Phase::Running);
        tallies.stop().unwrap();
    }
}

#[test]
fn one_that_stands_still_can_be_stopped_and_goes_on_from_before_the_event() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    fill(&store, 500, 10, &mut fastrand::Rng::with_seed(4));
    let fails = |event: EventRef<'_>| {
        if event.position().get() == 321 { Err("no".into()) } else { Ok(()) }
    };
    let tallies = store.project(Tallies::failing(fails)).retries(0).start().unwrap();
    // With those before it, and by itself.
    assert_eq!(failure_of(&tallies).attempts, 2);
    assert!(
        matches!(tallies.stop(), Err(ProjectionError::Failed(failure)) if failure.position.get() == 321)
    );
    store.close().unwrap();
    let store = open(&disk);
    let mended = Tallies::default();
    let tallies = store.project(mended.clone()).start().unwrap();
    tallies.wait_for(500).timeout(LONG).wait().unwrap();
    assert_eq!((check(&store, &tallies), mended.applied.load(Ordering::Relaxed)), (500, 180));
}

/// As [`Tallies`], under another name.
struct Others;

impl Projection for Others {
    type State = Tally;
    type Events = AnyEvent;

    const NAME: &'static str = "others";

    fn initial(&self) -> Tally {
        Tally::default()
    }

    fn apply(&self, state: &mut Tally, event: EventRef<'_>, _: EventRef<'_>) -> Applied {
        state.add(event);
        Ok(())
    }
}

/// One whose key panics at an event.
struct Keyed(Arc<AtomicBool>);

impl Projection for Keyed {
    type State = Tally;
    type Events = AnyEvent;

    const NAME: &'static str = "keyed";

    fn initial(&self) -> Tally {
        Tally::default()
    }

    fn key<'a>(&self, event: EventRef<'a>) -> &'a [u8] {
        assert!(event.position().get() != 50 || !self.0.load(Ordering::Relaxed), "it has no key");
        event.stream().as_bytes()
    }

    fn apply(&self, state: &mut Tally, event: EventRef<'_>, _: EventRef<'_>) -> Applied {
        state.add(event);
        Ok(())
    }
}

#[test]
fn a_key_that_panics_is_a_failure_of_each_lane() {
    let store = open(&MemoryDisk::new());
    fill(&store, 100, 10, &mut fastrand::Rng::with_seed(5));
    let panics = Arc::new(AtomicBool::new(true));
    let keyed = store.project(Keyed(Arc::clone(&panics))).retries(1).backoff(SHORT).lanes(2);
    let keyed = keyed.start().unwrap();
    let failure = failure_of(&keyed);
    assert_eq!(failure.position.get(), 50);
    assert!(matches!(&failure.cause, FailureCause::Panicked(said) if &**said == "it has no key"));
    panics.store(false, Ordering::Relaxed);
    // Both may have failed, one after the other.
    while keyed.wait_for(100).timeout(LONG).wait().is_err() {
        keyed.resume().unwrap();
    }
    let view = keyed.view().wait().unwrap();
    assert_eq!(view.states().map(Tally::events).sum::<u64>(), 100);
}

#[test]
fn one_that_is_being_tried_again_can_be_paused_and_stopped() {
    let store = open(&MemoryDisk::new());
    fill(&store, 100, 10, &mut fastrand::Rng::with_seed(6));
    let fails = |event: EventRef<'_>| {
        if event.position().get() == 60 { Err("never".into()) } else { Ok(()) }
    };
    let tallies = store.project(Tallies::failing(fails)).retries(u32::MAX);
    let tallies = tallies.backoff(Duration::from_millis(20)).start().unwrap();
    tallies.wait_for(59).timeout(LONG).wait().unwrap();
    while tallies.status().failure.is_none() {
        std::thread::yield_now();
    }
    assert_eq!(tallies.pause().unwrap().get(), 59);
    assert_eq!(check(&store, &tallies), 59);
    tallies.resume().unwrap();
    let begun = Instant::now();
    assert_eq!(tallies.stop().unwrap().get(), 59);
    assert!(begun.elapsed() < LONG);
}

#[test]
fn damage_of_the_log_stops_it_where_it_is() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    fill(&store, 3_000, 10, &mut fastrand::Rng::with_seed(7));
    store.close().unwrap();
    let is_log = |name: &String| name.starts_with("segment-") && name.contains(".log");
    let segment = disk.file_names().into_iter().find(is_log).unwrap();
    disk.flip_bit(&segment, 40_000, 3);
    let store = open(&disk);
    let tallies = store.project(Tallies::default()).retries(1).backoff(SHORT).start().unwrap();
    let failure = failure_of(&tallies);
    assert!(matches!(failure.cause, FailureCause::Read(_)), "{failure}");
    assert_eq!(failure.position.get(), tallies.position().get() + 1);
    check(&store, &tallies);
    assert!(store.consumers()[0].lag.is_none());
}

#[test]
fn a_state_that_cannot_be_saved_is_seen_and_goes_on() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let tallies = store.project(Tallies::default()).save_every(10).start().unwrap();
    // More than half of a segment of snapshots, of which the smallest has 1 MiB: some 30,000 streams, most of them with one append.
    let streams = 1_000_000;
    fill(&store, 90_000, streams, &mut fastrand::Rng::with_seed(8));
    tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    let begun = Instant::now();
    while tallies.status().save_error.is_none() {
        assert!(begun.elapsed() < LONG, "{:?}", tallies.status());
        fill(&store, 10, streams, &mut fastrand::Rng::new());
        tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
    }
    let view = tallies.view().wait().unwrap();
    assert_eq!(*view.state(), expected(&store, view.position().get()));
    let stopped = tallies.stop();
    assert!(matches!(stopped, Err(ProjectionError::Snapshot(_))), "{stopped:?}");
    let again = store.project(Tallies::default()).start().unwrap();
    again.wait_for(store.head()).timeout(LONG).wait().unwrap();
    check(&store, &again);
}

/// Set for a child: the directory of its store.
const CHILD: &str = "STRATALOG_PROJECTION_CHILD";
const ROUNDS: &str = "STRATALOG_PROJECTION_KILLS";

#[test]
fn a_child_that_projects_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let store = options().open(directory).unwrap();
    let tallies = store.project(Tallies::default()).lanes(2).save_every(150).start().unwrap();
    println!("begun");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| fill(&store, usize::MAX, 30, &mut fastrand::Rng::new()));
        }
        loop {
            tallies.wait_for(store.head()).wait().unwrap();
        }
    });
}

#[test]
fn each_event_is_in_the_state_once_after_the_process_was_killed() {
    let rounds = std::env::var(ROUNDS).map_or(12, |text| text.parse().unwrap());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("projections-killed");
    let _ = std::fs::remove_dir_all(&directory);
    let mut resumed = 0;
    for round in 0..rounds {
        let child = "a_child_that_projects_until_it_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", child, "--nocapture"])
            .env(CHILD, &directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut said = child.stdout.take().unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("begun") {
            let mut byte = [0];
            assert_eq!(said.read(&mut byte).unwrap(), 1, "round {round}: the child has ended");
            seen.push(byte[0]);
        }
        std::thread::sleep(Duration::from_millis(fastrand::u64(1..200)));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = options().open(&directory).unwrap();
        let again = Tallies::default();
        let tallies = store.project(again.clone()).lanes(2).start().unwrap();
        tallies.wait_for(store.head()).timeout(LONG).wait().unwrap();
        let head = check(&store, &tallies);
        assert_eq!(head, store.head().get(), "round {round}");
        resumed += u64::from(again.applied.load(Ordering::Relaxed) < head);
        if round % 2 == 0 {
            // As it would be left by another kill.
            std::mem::forget(tallies);
            drop(store);
        }
    }
    assert!(resumed > 0, "no round went on from what was saved");
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_projection_may_hold_the_store_and_close_it() {
    struct Closes(std::sync::Mutex<Option<Store>>);
    impl Projection for Closes {
        type State = Tally;
        type Events = AnyEvent;
        const NAME: &'static str = "closes";
        fn initial(&self) -> Tally {
            Tally::default()
        }
        fn apply(&self, state: &mut Tally, event: EventRef<'_>, _: EventRef<'_>) -> Applied {
            state.add(event);
            if event.position().get() == 30 {
                self.0.lock().unwrap().take().unwrap().close()?;
            }
            Ok(())
        }
    }
    let store = open(&MemoryDisk::new());
    let closes = store.project(Closes(Some(store.clone()).into())).start().unwrap();
    fill(&store, 30, 3, &mut fastrand::Rng::with_seed(9));
    let ended = closes.wait_for(31).timeout(LONG).wait();
    assert!(matches!(ended, Err(ProjectionError::Stopped { .. })), "{ended:?}");
    drop(closes);
}
