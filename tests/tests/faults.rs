//! Faults of the device and of the space on it while a store is open, one behaviour each.
//!
//! What happens to files between two openings is in `files.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "the store spells its own names"
)]

use std::sync::Arc;
use std::time::Duration;

use stratalog::disk::{
    CrashPoint, Disk, Exploration, Fault, FaultError, FaultPlan, MemoryDisk, OpKind,
};
use stratalog::{
    AppendError, Case, CloseError, Expect, NewEvent, OpenError, Options, Receipt, Store,
};
use stratalog_tests::oracle::judge;
use stratalog_tests::script::{Known, Script};
use stratalog_tests::watchdog;

const SCRIPT: Script = Script::small(11);

fn options() -> Options {
    Store::options().segment_bytes(64 << 10)
}

fn open(disk: &MemoryDisk) -> Store {
    options().open_on(Arc::new(disk.clone())).unwrap()
}

fn reopened(disk: &MemoryDisk, known: Known) -> (Store, usize) {
    let store = open(disk);
    let contents = judge(&store, SCRIPT, known).unwrap();
    (store, contents.units)
}

fn event() -> NewEvent {
    NewEvent::bytes("type", vec![3; 1_000])
}

/// The log's writes of batches fail from the `skip`th on, `times` times.
fn failing_writes(skip: u64, times: u64, fault: Fault) -> FaultPlan {
    FaultPlan::new().inject(OpKind::WriteDurable, "segment-", skip, times, fault)
}

#[test]
fn a_failed_write_poisons_the_writer_and_nothing_is_retried() {
    for fault in [
        Fault::Fail(FaultError::Io),
        Fault::FailTorn { error: FaultError::Io, seed: 1 },
        Fault::FailTorn { error: FaultError::Io, seed: 2 },
        Fault::Fail(FaultError::NoSpace),
    ] {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let (known, failed) = SCRIPT.run(&store, &disk, 0..20);
        assert!(failed.is_none());
        disk.set_faults(failing_writes(0, 1, fault));
        disk.start_recording();
        let unit = SCRIPT.unit(20);
        let ids: Vec<_> = stratalog_ids(&unit.events);
        match store.append(&unit.stream, Expect::Any, &unit.events).wait() {
            Err(AppendError::Unknown { event_ids, .. }) => assert_eq!(event_ids, ids),
            other => panic!("{fault:?}: {other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
        let tried = disk.trace().len();
        for _ in 0..3 {
            let again = store.append(&unit.stream, Expect::Any, &unit.events).wait();
            assert!(matches!(again, Err(AppendError::Unknown { .. })), "{fault:?}: {again:?}");
            let other = SCRIPT.unit(21);
            let other = store.append(&other.stream, Expect::Any, &other.events).wait();
            assert!(matches!(other, Err(AppendError::Poisoned(_))), "{fault:?}: {other:?}");
        }
        assert_eq!(disk.trace().len(), tried, "{fault:?}: nothing is written any more");
        assert_eq!(judge(&store, SCRIPT, known).unwrap().units, 20, "reading goes on");
        assert!(matches!(store.close(), Err(CloseError::Poisoned(_))));
        let copy = disk.fork();
        reopened(&copy, Known { acknowledged: 20, submitted: 21 });
    }
}

/// The ids that the events of a script have, as a receipt would give them.
fn stratalog_ids(events: &[NewEvent]) -> Vec<stratalog::EventId> {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
    let receipt = store.append("ids", Expect::Any, events).wait().unwrap();
    receipt.event_ids().to_vec()
}

#[test]
fn what_was_submitted_behind_a_failed_write_is_unknown_too() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    disk.set_faults(failing_writes(3, u64::MAX, Fault::Fail(FaultError::Io)));
    let (known, failed) = SCRIPT.run(&store, &disk, 0..50);
    assert!(
        matches!(failed, Some(AppendError::Unknown { .. } | AppendError::Poisoned(_))),
        "{failed:?}"
    );
    drop(store);
    disk.set_faults(FaultPlan::new());
    reopened(&disk, known);
}

/// What became of a failure among queued writes.
#[derive(Default)]
struct Struck {
    acknowledged: usize,
    unknown: usize,
    /// How many batches were being written when the failure was reported.
    beside: usize,
}

#[test]
fn a_failure_among_queued_writes_ends_what_is_behind_it_as_unknown() {
    const NUMBERS: u64 = 4;
    let faults = [
        Fault::Fail(FaultError::Io),
        Fault::FailTorn { error: FaultError::Io, seed: 1 },
        Fault::FailTorn { error: FaultError::NoSpace, seed: 2 },
        Fault::Die,
    ];
    let (mut acknowledged, mut beside) = (0, 0);
    for number in 0..NUMBERS {
        let mut failures = 0;
        for (seed, fault) in (0..16).zip(faults.into_iter().cycle()) {
            let struck = watchdog::within(Duration::from_mins(1), "a queued append", move || {
                failure_among_queued(seed, number, fault)
            });
            failures += u64::from(struck.unknown > 0);
            acknowledged += u64::from(struck.acknowledged > 0);
            beside += u64::from(struck.beside > 0);
        }
        assert!(failures > 0, "write {number} never failed");
    }
    println!("{acknowledged} failures behind acknowledged appends, {beside} beside other writes");
    assert!(acknowledged > 0 && beside > 0, "no failure was in the middle");
}

/// Fails the write of this number of a store that writes large batches through a queue.
fn failure_among_queued(seed: u64, number: u64, fault: Fault) -> Struck {
    let at = |what: &str| format!("seed {seed}, write {number}, {fault:?}: {what}");
    let script = Script::large(seed);
    let options = Store::options().segment_bytes(1 << 20);
    let disk = MemoryDisk::with_queue(seed);
    let store = options.open_on(Arc::new(disk.clone())).unwrap();
    disk.start_recording();
    disk.set_faults(failing_writes(number, 1, fault));
    let mut pending = Vec::new();
    for unit in (0..16).map(|unit| script.unit(unit)) {
        let submitted = loop {
            match store.append(&unit.stream, Expect::Any, &unit.events).submit() {
                Err(AppendError::Busy) => std::thread::yield_now(),
                other => break other,
            }
        };
        match submitted {
            Ok(one) => pending.push(one),
            Err(AppendError::Poisoned(_)) => break,
            // A device that is gone makes no segments either.
            Err(AppendError::Segment(_)) if fault == Fault::Die => break,
            Err(other) => panic!("{}", at(&other.to_string())),
        }
    }
    let mut struck = Struck::default();
    for (unit, one) in pending.into_iter().enumerate() {
        match one.wait() {
            Ok(_) => {
                assert_eq!(struck.unknown, 0, "{}", at("acknowledged behind a failure"));
                struck.acknowledged += 1;
            }
            Err(AppendError::Unknown { event_ids, .. }) => {
                let ids = stratalog_ids(&script.unit(unit).events);
                assert_eq!(event_ids, ids, "{}", at("the ids of others"));
                struck.unknown += 1;
            }
            Err(other) => panic!("{}", at(&format!("unit {unit}: {other}"))),
        }
    }
    let Struck { acknowledged, unknown, .. } = struck;
    if unknown == 0 {
        // All was in fewer batches than that.
        return struck;
    }
    let again = |unit: usize| {
        let unit = script.unit(unit);
        store.append(&unit.stream, Expect::Any, &unit.events).wait()
    };
    let lost = again(acknowledged);
    assert!(matches!(lost, Err(AppendError::Unknown { .. })), "{}", at(&format!("{lost:?}")));
    if acknowledged > 0 {
        // What is durable is known as ever.
        let known = again(0);
        assert!(known.as_ref().is_ok_and(Receipt::is_repeated), "{}", at(&format!("{known:?}")));
    }
    let shown = judge(&store, script, Known::exactly(acknowledged));
    shown.unwrap_or_else(|wrong| panic!("{}", at(&format!("while it is open: {wrong}"))));
    assert!(matches!(store.close(), Err(CloseError::Poisoned(_))), "{}", at("closed well"));

    // The machine crashes: when the failure is reported, and when everything has ended.
    let points: Vec<_> = disk.trace().crash_points().collect();
    let failed = points.iter().position(|point| point.to_string().contains("which failed"));
    if let Some(failed) = failed {
        struck.beside = batches_under_way(&points[failed]);
        // Only the segments before it, which are whole, may still get their footers.
        let segment = segment_written(&points[failed]);
        let behind = points[failed + 1..]
            .iter()
            .find(|point| point.to_string().contains("(in [") && segment_written(point) >= segment);
        assert!(behind.is_none(), "{}\n{}", at("written behind a failure"), disk.trace());
    }
    let known = Known { acknowledged, submitted: acknowledged + unknown };
    let few = Exploration { sectors_each_max: 2, sector_subsets: 1, ..Exploration::quick() };
    for point in failed.map(|failed| &points[failed]).into_iter().chain(points.last()) {
        for state in point.states(&few).take(12) {
            let store = options.open_on(Arc::new(state.disk()));
            let store =
                store.unwrap_or_else(|error| panic!("{}", at(&format!("{error}: {state}"))));
            let judged = judge(&store, script, known);
            judged.unwrap_or_else(|wrong| panic!("{}", at(&format!("{wrong}: {state}"))));
        }
    }
    struck
}

/// The segment of the durable write that began or ended just before; none where it was something else.
fn segment_written(point: &CrashPoint) -> Option<String> {
    let last = point.to_string();
    let (_, name) = last.split_once("WriteDurable segment-")?;
    Some(name.chars().take_while(char::is_ascii_digit).collect())
}

/// How many batches are being written.
fn batches_under_way(point: &CrashPoint) -> usize {
    point.writes_under_way().filter(|name| name.starts_with("segment-")).count()
}

#[test]
fn an_unknown_outcome_says_which_write_failed() {
    // The one who waits may be woken before everything else is told: so, many times.
    for round in 0..200 {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        disk.set_faults(failing_writes(0, u64::MAX, Fault::Fail(FaultError::Io)));
        match store.append("stream", Expect::Any, [event()]).wait() {
            Err(AppendError::Unknown { reason, .. }) => {
                assert!(reason.segment == 1 && reason.offset > 0, "round {round}: {reason}");
            }
            other => panic!("{other:?}"),
        }
        let next = store.append("stream", Expect::Any, [event()]).wait();
        assert!(matches!(next, Err(AppendError::Poisoned(_))), "round {round}: {next:?}");
    }
}

#[test]
fn a_flush_does_not_say_well_of_what_failed() {
    for pause in [Duration::ZERO, Duration::from_millis(20)] {
        for round in 0..50 {
            let disk = MemoryDisk::new();
            let store = open(&disk);
            disk.set_faults(failing_writes(0, u64::MAX, Fault::Fail(FaultError::Io)));
            let pending = store.append("stream", Expect::Any, [event()]).submit().unwrap();
            std::thread::sleep(pause);
            let flushed = store.flush();
            assert!(
                matches!(flushed, Err(AppendError::Poisoned(_))),
                "round {round}, flushed {pause:?} after the submit: {flushed:?}"
            );
            assert!(pending.wait().is_err());
        }
    }
}

#[test]
fn short_writes_are_completed_before_they_are_acknowledged() {
    for bytes in [0, 512, 1_000, 4_096, 5_000] {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let plan = failing_writes(0, 3, Fault::Short(bytes));
        disk.set_faults(plan.inject(OpKind::WriteDurable, "segment-", 9, 1, Fault::Short(bytes)));
        disk.start_recording();
        let (known, failed) = SCRIPT.run(&store, &disk, 0..30);
        if bytes == 0 {
            assert!(failed.is_some(), "a write that makes no progress fails");
        } else {
            assert!(failed.is_none(), "{bytes}: {failed:?}");
        }
        let exploration = Exploration::quick();
        for point in disk.trace().crash_points() {
            let at = Known::at(Known::exactly(0), point.marks());
            for state in point.states(&exploration).take(3) {
                let store = options().open_on(Arc::new(state.disk())).unwrap();
                judge(&store, SCRIPT, at).unwrap_or_else(|wrong| panic!("{wrong}: {state}"));
            }
        }
        drop(store);
        reopened(&disk.fork(), known);
    }
}

/// Appends of about 1 KiB until one fails, and how many did not.
fn fill(store: &Store, most: usize) -> (usize, Option<AppendError>) {
    for done in 0..most {
        if let Err(error) = store.append("fill", Expect::Any, [event()]).wait() {
            return (done, Some(error));
        }
    }
    (most, None)
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_room_again() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    std::thread::sleep(Duration::from_millis(20));
    disk.set_capacity(disk.used());
    let (appended, failed) = fill(&store, 1_000);
    assert!(matches!(failed, Some(AppendError::NoSpace(_))), "{failed:?}");
    assert!(appended > 40, "the segments that were there are used: {appended}");
    for _ in 0..3 {
        let (more, failed) = fill(&store, 1_000);
        assert!(matches!(failed, Some(AppendError::NoSpace(_))), "{more}: {failed:?}");
    }
    assert_eq!(store.head().get(), appended as u64, "reading goes on");
    let copy = disk.fork();
    disk.set_capacity(u64::MAX);
    // What failed before is tried again before it is reported.
    store.append("fill", Expect::Any, [event()]).wait().unwrap();
    let (more, failed) = fill(&store, 200);
    assert!(failed.is_none(), "{failed:?}");
    let head = store.head().get();
    assert_eq!(head, (appended + more + 1) as u64);
    store.close().unwrap();
    assert_eq!(open(&disk).head().get(), head);
    assert_eq!(open(&copy).head().get(), appended as u64, "killed while the disk was full");
}

#[test]
fn a_store_on_a_full_disk_can_be_closed_and_opened_and_read() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let (_, failed) = fill(&store, 20);
    assert!(failed.is_none());
    std::thread::sleep(Duration::from_millis(20));
    disk.set_capacity(disk.used());
    let (more, _) = fill(&store, 1_000);
    store.close().unwrap();
    let copy = disk.fork();
    copy.set_capacity(copy.used());
    let store = open(&copy);
    assert_eq!(store.opened_as(), Case::RecordedEnd);
    assert_eq!(store.head().get(), 20 + more as u64);
}

#[test]
fn a_prepared_segment_that_cannot_grow_is_not_lost() {
    for times in [1, 2] {
        let disk = MemoryDisk::new();
        // The spare of this store has 64 KiB.
        let store = open(&disk);
        let (_, failed) = fill(&store, 3);
        assert!(failed.is_none());
        std::thread::sleep(Duration::from_millis(20));
        store.close().unwrap();
        // An append that needs more than that, while growing it fails.
        let large = Store::options().segment_bytes(4 << 20);
        let store = large.open_on(Arc::new(disk.clone())).unwrap();
        let no_space = Fault::Fail(FaultError::NoSpace);
        disk.set_faults(FaultPlan::new().inject(OpKind::Allocate, "segment-", 0, times, no_space));
        let append = || {
            let event = NewEvent::bytes("large", vec![5; 200 << 10]);
            store.append("large", Expect::Any, [event]).wait()
        };
        let mut appended = 0;
        for _ in 0..12 {
            appended += u64::from(append().is_ok());
        }
        assert!(appended >= 8, "{appended} of 12");
        std::thread::sleep(Duration::from_millis(20));
        let killed = disk.fork();
        store.close().unwrap();
        for disk in [disk, killed] {
            for _ in 0..3 {
                let store = large.open_on(Arc::new(disk.clone())).unwrap();
                assert_eq!(store.head().get(), 3 + appended);
                let found = store.verify(|_, _| {}).unwrap();
                assert!(found.is_clean(), "{found:?}");
                store.close().unwrap();
            }
        }
    }
}

#[test]
fn a_closed_store_whose_clone_can_still_read_can_be_opened_again() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let (_, failed) = fill(&store, 3);
    assert!(failed.is_none());
    let (clone, mut reader) = (store.clone(), store.read_all().forward());
    store.close().unwrap();
    let again = open(&disk);
    assert_eq!(reader.next_batch().unwrap().map(|batch| batch.len()), Some(3));
    assert!(matches!(
        clone.append("fill", Expect::Any, [event()]).wait(),
        Err(AppendError::Closed)
    ));
    assert_eq!(again.head().get(), 3);
}

/// Any single operation fails, wherever it is: the store may be poisoned or refuse appends for a while,
/// but what it acknowledged is there when it is opened again, and it can be.
#[test]
fn no_single_failure_loses_what_was_acknowledged_or_keeps_the_store_from_opening() {
    let faults = [
        Fault::Fail(FaultError::Io),
        Fault::Fail(FaultError::NoSpace),
        Fault::FailTorn { error: FaultError::Io, seed: 0 },
        Fault::FailTorn { error: FaultError::Io, seed: 1 },
        Fault::Die,
    ];
    let mut cases = 0;
    for fault in faults {
        for number in 0..130 {
            cases += 1;
            let known = watchdog::within(Duration::from_mins(1), "an append", move || {
                single_failure(number, fault)
            });
            if known.is_none() {
                break;
            }
        }
    }
    println!("{cases} single failures");
}

/// Enough for the log to go on into a second segment, and for the first to be sealed.
const UNITS: usize = 90;

/// Fails the operation of this number; none where there is no such one.
fn single_failure(number: u64, fault: Fault) -> Option<Known> {
    let at = |what: &str| format!("operation {number}, {fault:?}: {what}");
    let disk = MemoryDisk::with_faults(FaultPlan::new().inject_any("", number, 1, fault));
    disk.start_recording();
    let store = match options().open_on(Arc::new(disk.clone())) {
        Ok(store) => store,
        Err(OpenError::File(_)) => {
            disk.set_dead(false);
            let store = options().open_on(Arc::new(disk.clone()));
            store.unwrap_or_else(|error| panic!("{}", at(&format!("opened again: {error}"))))
        }
        Err(error) => panic!("{}", at(&error.to_string())),
    };
    let mut known = Known::exactly(0);
    let mut failures = 0;
    while known.acknowledged < UNITS && failures < 3 {
        let (more, failed) = SCRIPT.run(&store, &disk, known.acknowledged..UNITS);
        known = more;
        match failed {
            // Nothing was claimed: it can be tried again.
            Some(AppendError::NoSpace(_) | AppendError::Segment(_))
                if known.acknowledged == known.submitted =>
            {
                failures += 1;
            }
            Some(_) => break,
            None => {}
        }
    }
    let trace = disk.trace();
    drop(store);
    disk.set_dead(false);
    disk.set_faults(FaultPlan::new());
    let check = |disk: &MemoryDisk, known: Known, when: &str| {
        let store = options().open_on(Arc::new(disk.clone()));
        let store = store.unwrap_or_else(|error| panic!("{}", at(&format!("{when}: {error}"))));
        judge(&store, SCRIPT, known).unwrap_or_else(|wrong| panic!("{}", at(&wrong)));
    };
    // The machine crashes after the failure, at some of the moments, with all or nothing kept.
    let exploration =
        Exploration { sectors_each_max: 0, sector_subsets: 0, ..Exploration::quick() };
    for point in
        trace.crash_points().filter(|point| (point.index() as u64 + number).is_multiple_of(31))
    {
        let known = Known::at(Known::exactly(0), point.marks());
        for state in point.states(&exploration).take(8) {
            check(&state.disk(), known, &state.to_string());
        }
    }
    check(&disk.fork(), known, "opened again");
    let operations = disk.trace().len() as u64 / 2;
    (number < operations).then_some(known)
}

#[test]
fn a_lost_write_is_noticed_and_nothing_behind_it_is_missing_silently() {
    for skip in 0..30 {
        lies_are_noticed(skip, Fault::Lose);
    }
}

#[test]
fn a_misdirected_write_is_noticed_and_nothing_behind_it_is_missing_silently() {
    for skip in 0..30 {
        lies_are_noticed(skip, Fault::Misdirect((3 + skip % 9) * 4096));
    }
}

/// The device has not all that it said it had: refused, reported, or all there after all.
fn lies_are_noticed(skip: u64, fault: Fault) {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    disk.set_faults(failing_writes(skip, 1, fault));
    let (known, failed) = SCRIPT.run(&store, &disk, 0..100);
    // What an append has to look up may be noticed to be damaged already.
    assert!(matches!(failed, None | Some(AppendError::Lookup { .. })), "write {skip}: {failed:?}");
    let killed = disk.fork();
    store.close().unwrap();
    for (disk, how) in [(disk, "closed"), (killed, "killed")] {
        match options().open_on(Arc::new(disk.clone())) {
            Err(OpenError::Refused(_)) => {}
            Err(error) => panic!("write {skip}, {how}: {error}"),
            Ok(store) => {
                let judged = judge(&store, SCRIPT, known);
                let reported = judged.as_ref().is_err_and(|wrong| wrong.contains("is damaged at"));
                assert!(judged.is_ok() || reported, "write {skip}, {how}: {judged:?}");
            }
        }
    }
}

#[test]
fn a_dead_disk_ends_appends_and_a_living_one_opens_again() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let (known, failed) = SCRIPT.run(&store, &disk, 0..30);
    assert!(failed.is_none(), "{failed:?}");
    disk.set_dead(true);
    let unit = SCRIPT.unit(30);
    assert!(store.append(&unit.stream, Expect::Any, &unit.events).wait().is_err());
    assert!(disk.list().is_err());
    assert!(store.close().is_err());
    disk.set_dead(false);
    reopened(&disk, Known { submitted: 31, ..known });
}
