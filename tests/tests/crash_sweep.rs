//! Every crash of a workload, on a disk that keeps what it promised and any part of the rest.
//!
//! A workload is recorded; at each moment of the record the machine crashes; for each of the states that
//! the crash may leave, the store is opened and judged, appended to and opened again. A crash must
//! never keep a store from opening, whether the file system keeps the changes of a directory in order
//! or, as POSIX allows, in none. Then the opening itself crashes, at each of its moments, and the next
//! one must come to the same end.
//!
//! The short version, which runs by default, takes every state of whole writes and of torn ones, and
//! crashes inside a part of the recoveries. `STRATALOG_SWEEP=long` runs longer workloads and crashes
//! inside all of them: `STRATALOG_SWEEP=long cargo test --release -p stratalog-tests --test crash_sweep`.
//! The threads of a store interleave differently in each run, so that a seed fixes what is appended and
//! which sectors are torn, but not every record; a failure prints the state in full.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "the store spells its own names"
)]

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use stratalog::disk::{CrashPoint, CrashState, Exploration, MemoryDisk, Trace};
use stratalog::limits::MERGED_AT_ONCE;
use stratalog::{Case, Options, Store};
use stratalog_tests::index_files::{levels, runs, wait_for_rest};
use stratalog_tests::oracle::{Contents, judge, judge_queries};
use stratalog_tests::script::{Known, Script};
use stratalog_tests::seed;

const THREADS: usize = 2;

fn long() -> bool {
    std::env::var("STRATALOG_SWEEP").is_ok_and(|value| value == "long")
}

fn options() -> Options {
    Store::options().segment_bytes(64 << 10)
}

fn open(options: &Options, disk: &MemoryDisk) -> Result<Store, String> {
    options.open_on(Arc::new(disk.clone())).map_err(|error| format!("not opened: {error}"))
}

/// A recorded workload.
struct Recorded {
    options: Options,
    script: Script,
    trace: Trace,
    /// What was known when recording began.
    before: Known,
    /// How many units were appended when it ended.
    units: usize,
    /// The first moment at which it crashes.
    from: usize,
}

/// Opens, appends and closes on `disk`, which holds the units before `units`, and records it.
fn record(
    options: &Options,
    script: Script,
    disk: &MemoryDisk,
    units: std::ops::Range<usize>,
) -> Recorded {
    let before = Known::exactly(units.start);
    let end = units.end;
    disk.start_recording();
    let store = open(options, disk).expect("the disk is whole");
    let (known, failed) = script.run(&store, disk, units);
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(known, Known::exactly(end));
    store.close().expect("the disk is whole");
    let (options, trace) = (options.clone(), disk.trace());
    Recorded { options, script, trace, before, units: end, from: 0 }
}

/// Counts, and what was seen.
#[derive(Default)]
struct Sweep {
    states: AtomicU64,
    recoveries: AtomicU64,
    inner_states: AtomicU64,
    /// The most batches that were being written where it crashed.
    batches: AtomicUsize,
    /// States with a merged run that was not whole, and with one beside a run that it was merged from.
    merging: AtomicU64,
    merged: AtomicU64,
    seen: Mutex<HashSet<(u128, Known)>>,
    inner_seen: Mutex<HashSet<(u128, usize)>>,
}

impl Sweep {
    /// Whether a state is new, and counts it.
    fn is_new(&self, state: &CrashState, known: Known) -> bool {
        self.states.fetch_add(1, Ordering::Relaxed);
        self.seen.lock().unwrap().insert((state.fingerprint(), known))
    }

    fn count_merges(&self, disk: &MemoryDisk) {
        let is_unfinished = |name: &String| is_of_merge(name) && name.ends_with(".next");
        let merging = disk.file_names().iter().any(is_unfinished);
        self.merging.fetch_add(u64::from(merging), Ordering::Relaxed);
        let merged = runs(disk).windows(2).any(|pair| pair[1].0 <= pair[0].1);
        self.merged.fetch_add(u64::from(merged), Ordering::Relaxed);
    }

    fn open(&self, options: &Options, disk: &MemoryDisk) -> Result<Store, String> {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
        open(options, disk)
    }
}

/// Which states have more done to them than being opened: one in so many.
struct Share {
    /// The store goes on: an append, a close, another opening.
    goes_on: u64,
    /// The recovery crashes.
    crashes: u64,
    /// Each name is asked for.
    queries: u64,
    /// How often each write in flight is garbled, for a store that relies on nothing.
    garbled: usize,
    /// Writes are so large that few of their parts are taken: which of them are kept is what matters.
    large: bool,
}

/// Sweeps over all crashes of a recorded workload, and gives what it saw.
fn sweep(name: &str, recorded: &Recorded, share: &Share) -> Sweep {
    let begun = Instant::now();
    let seed = seed::seed(1);
    let sweep = Sweep::default();
    let mut full = Exploration { seed, garbled: share.garbled, ..Exploration::default() };
    if share.large {
        full = of_large_writes(full);
    }
    // Where a segment is made or sealed beside the batches, the parts of each multiply with the others:
    // the short version takes fewer of them there.
    let fewer = Exploration {
        sectors_each_max: full.sectors_each_max.min(16),
        sector_subsets: full.sector_subsets.min(8),
        ..full
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let sweep = &sweep;
            scope.spawn(move || {
                let points = recorded.trace.crash_points().skip(recorded.from);
                for point in points.filter(|point| point.index() % THREADS == thread) {
                    let known = Known::at(recorded.before, point.marks());
                    let batches = batches(&point);
                    let many = point.in_flight() > 2 && !long();
                    for state in point.states(if many { &fewer } else { &full }) {
                        if !sweep.is_new(&state, known) {
                            continue;
                        }
                        sweep.batches.fetch_max(batches, Ordering::Relaxed);
                        if let Err(wrong) = examine(sweep, recorded, &state, known, share) {
                            panic!(
                                "{wrong}\n{known:?}\n{state}\nrepeat with: {}",
                                seed::replay("crash_sweep", name, seed)
                            );
                        }
                    }
                }
            });
        }
    });
    println!(
        "{name}: {} crash points, {} states, {} of them distinct, {} inside recoveries; \
         {} recoveries, {:.1} s",
        recorded.trace.len() + 1,
        sweep.states.load(Ordering::Relaxed),
        sweep.seen.lock().unwrap().len(),
        sweep.inner_states.load(Ordering::Relaxed),
        sweep.recoveries.load(Ordering::Relaxed),
        begun.elapsed().as_secs_f64(),
    );
    sweep
}

/// Few of the parts of each write.
fn of_large_writes(exploration: Exploration) -> Exploration {
    Exploration {
        whole_all_max: exploration.whole_all_max.min(4),
        whole_subsets: 6,
        sectors_each_max: 2,
        sector_subsets: 1,
        ..exploration
    }
}

/// Opens one state, and opens it again: crashed while open, and after going on.
fn examine(
    sweep: &Sweep,
    recorded: &Recorded,
    state: &CrashState,
    known: Known,
    share: &Share,
) -> Result<(), String> {
    let disk = state.disk();
    sweep.count_merges(&disk);
    let chosen = |one_in: u64| state.fingerprint().is_multiple_of(u128::from(one_in));
    let crashes = chosen(share.crashes);
    if crashes {
        disk.start_recording();
    }
    let store = sweep.open(&recorded.options, &disk)?;
    let trace = crashes.then(|| disk.trace());
    let contents = judge(&store, recorded.script, known)?;
    if chosen(share.queries) {
        judge_queries(&store)?;
    }
    let script = recorded.script;
    if let Some(trace) = trace {
        let quick = Exploration::quick();
        let exploration = if share.large { of_large_writes(quick) } else { quick };
        crash_inside(sweep, &trace, recorded, &contents, &exploration)?;
    }
    if chosen(share.goes_on) {
        // The process is killed while the store is open, and it is opened again.
        let killed = disk.fork();
        same(&sweep.open(&recorded.options, &killed)?, script, &contents, "after a kill")?;
        let (more, failed) = script.run(&store, &disk, contents.units..contents.units + 2);
        if let Some(error) = failed {
            return Err(format!("no append after recovery: {error}"));
        }
        store.close().map_err(|error| format!("not closed: {error}"))?;
        let store = sweep.open(&recorded.options, &disk)?;
        if store.opened_as() != Case::RecordedEnd || !store.torn_tail().is_empty() {
            return Err(format!("a closed store opened as {}", store.opened_as()));
        }
        judge(&store, script, more).map_err(|wrong| format!("after going on: {wrong}"))?;
        let found = store.verify(|_, _| {}).map_err(|error| format!("verify: {error}"))?;
        let is_log = |file: &str| !file.ends_with(".index") && !file.ends_with(".table");
        let log_is_good = found.findings.iter().all(|finding| !is_log(finding.file()));
        if !log_is_good {
            return Err(format!("verify: {:?}", found.findings));
        }
    }
    Ok(())
}

fn same(store: &Store, script: Script, contents: &Contents, when: &str) -> Result<(), String> {
    let again = judge(store, script, Known::exactly(contents.units));
    let again = again.map_err(|wrong| format!("{when}: {wrong}"))?;
    if again == *contents { Ok(()) } else { Err(format!("{when} the events are others")) }
}

/// Crashes at each moment of a recovery: the next one must show the same.
fn crash_inside(
    sweep: &Sweep,
    trace: &Trace,
    recorded: &Recorded,
    contents: &Contents,
    exploration: &Exploration,
) -> Result<(), String> {
    for point in trace.crash_points() {
        for state in point.states(exploration) {
            let key = (state.fingerprint(), contents.units);
            if !sweep.inner_seen.lock().unwrap().insert(key) {
                continue;
            }
            sweep.inner_states.fetch_add(1, Ordering::Relaxed);
            let at = |wrong: String| format!("crashed inside recovery at {state}\n{wrong}");
            let store = sweep.open(&recorded.options, &state.disk()).map_err(at)?;
            same(&store, recorded.script, contents, "after a crash of recovery").map_err(at)?;
        }
    }
    Ok(())
}

fn share() -> Share {
    if long() {
        Share { goes_on: 1, crashes: 1, queries: 1, garbled: 0, large: false }
    } else {
        Share { goes_on: 16, crashes: 40, queries: 16, garbled: 0, large: false }
    }
}

#[test]
fn a_new_store_survives_every_crash() {
    let script = Script::small(seed::seed(1));
    let disk = MemoryDisk::new();
    let recorded = record(&options(), script, &disk, 0..if long() { 600 } else { 100 });
    sweep("a_new_store_survives_every_crash", &recorded, &share());
}

#[test]
fn a_closed_store_that_is_opened_again_survives_every_crash() {
    let script = Script::small(seed::seed(2));
    let disk = MemoryDisk::new();
    let before = record(&options(), script, &disk, 0..80).units;
    let recorded =
        record(&options(), script, &disk.fork(), before..before + if long() { 300 } else { 60 });
    sweep("a_closed_store_that_is_opened_again_survives_every_crash", &recorded, &share());
}

#[test]
fn a_store_with_a_torn_tail_survives_every_crash_of_its_recovery() {
    let script = Script::small(seed::seed(3));
    let first = record(&options(), script, &MemoryDisk::new(), 0..150);
    let (disk, units) = torn(&first);
    let recorded = record(&options(), script, &disk, units..units + if long() { 300 } else { 60 });
    sweep(
        "a_store_with_a_torn_tail_survives_every_crash_of_its_recovery",
        &recorded,
        &Share { crashes: share().crashes / 2 + 1, ..share() },
    );
}

#[test]
fn a_store_that_never_rewrites_a_block_survives_every_garbled_write() {
    let script = Script::small(seed::seed(5));
    let disk = MemoryDisk::new();
    let strict = options().strict_blocks(true);
    let recorded = record(&strict, script, &disk, 0..if long() { 300 } else { 60 });
    let share = Share { garbled: 64, ..share() };
    sweep("a_store_that_never_rewrites_a_block_survives_every_garbled_write", &recorded, &share);
}

/// How many writes of batches were to be under way at once, at some moment of a workload.
const WRITES_AT_ONCE: usize = 3;
/// About every fifth recording of such a workload has a moment like that.
const RECORDINGS_MAX: u64 = 400;

/// Large batches on a disk that takes several writes at a time and ends them in any order.
fn sweep_in_flight(name: &str, seed: u64, options: &Options) {
    let seed = seed::seed(seed);
    let script = Script::large(seed);
    let mut most = 0;
    // Whether a write is joined by others depends on the threads as well: recorded until one is.
    let recorded = (0..RECORDINGS_MAX).find_map(|more| {
        let disk = MemoryDisk::with_queue(seed.wrapping_add(more << 32));
        let recorded = record(options, script, &disk, 0..if long() { 80 } else { 14 });
        most = most.max(recorded.trace.crash_points().map(|point| batches(&point)).max()?);
        (most >= WRITES_AT_ONCE).then_some(recorded)
    });
    let recorded = recorded.unwrap_or_else(|| {
        panic!("no more than {most} writes of batches were ever under way at once")
    });
    let share = Share { crashes: share().crashes * 50, large: true, ..share() };
    let visited = sweep(name, &recorded, &share).batches.into_inner();
    assert!(visited >= WRITES_AT_ONCE, "{visited} writes at once where the sweep crashed");
}

/// How many batches of one segment are being written. Nothing else is durably written to a segment while
/// there are some: neither a witness nor the footer.
fn batches(point: &CrashPoint) -> usize {
    let mut writes: BTreeMap<&str, usize> = BTreeMap::new();
    for name in point.writes_under_way().filter(|name| name.starts_with("segment-")) {
        *writes.entry(name).or_default() += 1;
    }
    writes.into_values().max().unwrap_or(0)
}

#[test]
fn a_store_with_several_writes_in_flight_survives_every_crash() {
    let options = Store::options().segment_bytes(1 << 20);
    let name = "a_store_with_several_writes_in_flight_survives_every_crash";
    sweep_in_flight(name, 6, &options);
}

#[test]
fn a_strict_store_with_several_writes_in_flight_survives_every_crash() {
    let options = Store::options().segment_bytes(1 << 20).strict_blocks(true);
    let name = "a_strict_store_with_several_writes_in_flight_survives_every_crash";
    sweep_in_flight(name, 7, &options);
}

/// Whether a file is a run of several segments, whole or not.
fn is_of_merge(name: &str) -> bool {
    let name = name.strip_suffix(".next").unwrap_or(name);
    let numbers = name.strip_prefix("terms-").and_then(|rest| rest.strip_suffix(".index"));
    numbers.and_then(|numbers| numbers.split_once('-')).is_some_and(|(first, last)| first != last)
}

#[test]
fn a_store_that_merges_its_runs_survives_every_crash() {
    let script = Script::small(seed::seed(8));
    let disk = MemoryDisk::new();
    let store = open(&options(), &disk).unwrap();
    let mut units = 0;
    let mut append = |store: &Store, disk: &MemoryDisk, more: usize| {
        let (known, failed) = script.run(store, disk, units..units + more);
        assert!(failed.is_none(), "{failed:?}");
        units = known.acknowledged;
        known
    };
    // One segment less than are merged.
    let mut before = Known::exactly(0);
    while runs(&disk).len() + 1 < MERGED_AT_ONCE {
        before = append(&store, &disk, 4);
    }
    store.close().unwrap();
    let disk = disk.fork();
    disk.start_recording();
    let store = open(&options(), &disk).unwrap();
    while runs(&disk).len() + 1 == MERGED_AT_ONCE {
        append(&store, &disk, 4);
    }
    // Beside the merge, or behind it.
    let Known { acknowledged, .. } = append(&store, &disk, 3);
    wait_for_rest(&disk);
    assert!(levels(&disk) > 0);
    store.close().unwrap();
    let mut recorded = Recorded {
        options: options(),
        script,
        trace: disk.trace(),
        before,
        units: acknowledged,
        from: 0,
    };
    let has_merge = |point: &CrashPoint| {
        let state = point.states(&Exploration::quick()).next();
        state.is_some_and(|state| state.disk().file_names().iter().any(|name| is_of_merge(name)))
    };
    let first = recorded.trace.crash_points().position(|point| has_merge(&point));
    // What is before is what the other sweeps go through.
    recorded.from = first.expect("it was merged").saturating_sub(2);
    let name = "a_store_that_merges_its_runs_survives_every_crash";
    // Which pieces of a merged run are kept is what matters, and not which of their sectors.
    let share = Share { queries: share().queries / 4 + 1, large: true, ..share() };
    let seen = sweep(name, &recorded, &share);
    let (merging, merged) = (seen.merging.into_inner(), seen.merged.into_inner());
    println!("{merging} states with a merged run that is not whole, {merged} beside its parts");
    assert!(merging > 0 && merged > 0, "{merging}, {merged}");
}

/// A state of a crash late in a workload that recovery has to cut, and how many units are left.
fn torn(recorded: &Recorded) -> (MemoryDisk, usize) {
    let points: Vec<_> = recorded.trace.crash_points().collect();
    for point in points.iter().rev() {
        for state in point.states(&Exploration::quick()) {
            let disk = state.disk();
            let store =
                open(&recorded.options, &disk).expect("a crash never keeps a store from opening");
            if !store.torn_tail().is_empty() {
                let known = Known::at(recorded.before, point.marks());
                let contents = judge(&store, recorded.script, known).expect("it is sound");
                return (state.disk(), contents.units);
            }
        }
    }
    panic!("no crash of the workload tears a batch");
}

#[test]
fn the_cost_of_an_opening_is_known() {
    let script = Script::small(4);
    let disk = MemoryDisk::new();
    record(&options(), script, &disk, 0..120);
    let count: u32 = 200;
    let disks: Vec<_> = (0..count).map(|_| disk.fork()).collect();
    let begun = Instant::now();
    let stores: Vec<_> = disks.iter().map(|disk| open(&options(), disk).unwrap()).collect();
    let opened = begun.elapsed();
    drop(stores);
    let closed = begun.elapsed().checked_sub(opened).unwrap_or_default();
    println!("a closed store opens in {:?} and closes in {:?}", opened / count, closed / count);
}
