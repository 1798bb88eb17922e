//! Tests of the memory disk: what a crash may leave, and how it fails.

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSlice};

use super::trace::Change;
use super::*;
use crate::disk::{AlignedBuf, read_full_at, write_all_at, write_all_durable_at};
use crate::limits::{BLOCK, BLOCK_BYTES, SECTOR_BYTES};

fn filled(blocks: usize, byte: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(blocks * BLOCK_BYTES).unwrap();
    buf.fill(byte);
    buf
}

fn durable(file: &Arc<dyn DiskFile>, byte: u8, offset: u64) {
    write_all_durable_at(file.as_ref(), &[&filled(1, byte)], offset).unwrap();
}

fn volatile(file: &Arc<dyn DiskFile>, byte: u8, offset: u64) {
    write_all_at(file.as_ref(), &filled(1, byte), offset).unwrap();
}

/// A disk with an empty, durable file `a`, recording from here on.
fn recording() -> (MemoryDisk, Arc<dyn DiskFile>) {
    let disk = MemoryDisk::new();
    let file = disk.create("a").unwrap();
    disk.start_recording();
    (disk, file)
}

/// Every state that a crash anywhere in the trace may leave.
fn states(disk: &MemoryDisk) -> Vec<CrashState> {
    let points = disk.trace().crash_points();
    points.flat_map(|point| point.states(&Exploration::default())).collect()
}

/// The states that a crash after everything may leave.
fn last_states(disk: &MemoryDisk) -> Vec<CrashState> {
    let point = disk.trace().crash_points().last().unwrap();
    point.states(&Exploration::default()).collect()
}

/// The states of a crash while the operation with this number is under way.
fn states_within(disk: &MemoryDisk, op: usize) -> Vec<CrashState> {
    let trace = disk.trace();
    let begin = |event: &Event| matches!(event, Event::Begin(begun) if *begun == op);
    let index = trace.0.events.iter().position(begin).unwrap() + 1;
    trace.crash_points().nth(index).unwrap().states(&Exploration::default()).collect()
}

/// The names on the disk of each state.
fn names(states: &[CrashState]) -> BTreeSet<Vec<String>> {
    states.iter().map(|state| state.disk().file_names()).collect()
}

/// What the file `a` is in each state.
fn contents(states: &[CrashState]) -> BTreeSet<Vec<u8>> {
    states.iter().map(|state| state.disk().read_file("a")).collect()
}

/// The first byte of each sector.
fn sectors(content: &[u8]) -> Vec<u8> {
    content.iter().step_by(SECTOR_BYTES).copied().collect()
}

#[test]
fn a_durable_write_survives_every_crash() {
    let (disk, file) = recording();
    for (mark, block) in [(1, 0), (2, 1), (3, 2)] {
        durable(&file, 7, block * BLOCK);
        disk.mark(mark);
    }
    let mut most = 0;
    for state in states(&disk) {
        let content = state.disk().read_file("a");
        let acknowledged = state.marks().len() * BLOCK_BYTES;
        assert!(content.len() >= acknowledged, "{state}");
        assert!(content[..acknowledged].iter().all(|&byte| byte == 7), "{state}");
        most = most.max(acknowledged);
    }
    assert_eq!(most, 3 * BLOCK_BYTES);
}

#[test]
fn a_durable_write_makes_nothing_else_durable() {
    let (disk, file) = recording();
    volatile(&file, 1, 0);
    durable(&file, 2, BLOCK);
    let contents = contents(&last_states(&disk));
    assert!(contents.iter().all(|content| content.len() == 2 * BLOCK_BYTES));
    assert!(contents.iter().all(|content| content[BLOCK_BYTES..] == filled(1, 2)[..]));
    let firsts: BTreeSet<u8> = contents.iter().map(|content| content[0]).collect();
    assert_eq!(firsts, BTreeSet::from([0, 1]));
}

#[test]
fn a_volatile_write_may_be_lost_until_the_file_is_synced() {
    let (disk, file) = recording();
    volatile(&file, 1, 0);
    assert!(contents(&last_states(&disk)).contains(&vec![]));
    file.sync().unwrap();
    assert_eq!(contents(&last_states(&disk)), BTreeSet::from([filled(1, 1).to_vec()]));
}

#[test]
fn a_sync_of_another_file_makes_nothing_durable() {
    let (disk, file) = recording();
    let other = disk.create("b").unwrap();
    volatile(&file, 1, 0);
    other.sync().unwrap();
    disk.sync_dir().unwrap();
    assert!(contents(&last_states(&disk)).contains(&vec![]));
}

#[test]
fn a_crash_within_a_sync_may_lose_what_it_covers() {
    let (disk, file) = recording();
    volatile(&file, 1, 0);
    file.sync().unwrap();
    assert!(contents(&states_within(&disk, 1)).contains(&vec![]));
}

#[test]
fn a_write_that_ends_during_a_sync_is_not_covered_by_it() {
    let change = |byte: u8, offset| {
        let data = filled(1, byte).to_vec().into();
        Action::File {
            inode: 1,
            change: Change::Write { offset, data, mask: None },
            durable: false,
        }
    };
    let op = |kind, action| Op { kind, name: "a".to_owned(), action };
    let (disk, file) = recording();
    let base = disk.trace().0.base.clone();
    drop(file);
    let mut recording = Recording { base, ..Recording::default() };
    let early = recording.begin(op(OpKind::Write, change(1, 0)));
    recording.events.push(Event::End { op: early, well: true });
    let late = recording.begin(op(OpKind::Write, change(2, BLOCK)));
    let sync = recording.begin(op(OpKind::Sync, Action::Sync { inode: 1 }));
    recording.events.push(Event::End { op: late, well: true });
    recording.events.push(Event::End { op: sync, well: true });
    let point = Trace(Arc::new(recording)).crash_points().last().unwrap();
    assert_eq!(point.in_flight(), 1);
    let states: Vec<_> = point.states(&Exploration::default()).collect();
    assert!(contents(&states).contains(&filled(1, 1).to_vec()));
    assert!(contents(&states).iter().all(|content| content[..BLOCK_BYTES] == filled(1, 1)[..]));
}

#[test]
fn a_write_in_flight_may_be_torn_at_any_sector() {
    let disk = MemoryDisk::new();
    disk.write_file("a", &filled(2, 1));
    let file = disk.open("a", Access::Write).unwrap();
    disk.start_recording();
    write_all_durable_at(file.as_ref(), &[&filled(2, 2)], 0).unwrap();
    let contents = contents(&states_within(&disk, 0));
    let torn: BTreeSet<Vec<u8>> = contents.iter().map(|content| sectors(content)).collect();
    for at in 0..16 {
        let prefix: Vec<u8> = (0..16).map(|sector| if sector < at { 2 } else { 1 }).collect();
        let without: Vec<u8> = (0..16).map(|sector| if sector == at { 1 } else { 2 }).collect();
        assert!(torn.contains(&prefix), "a tear at sector {at}");
        assert!(torn.contains(&without), "sector {at} missing");
    }
    assert!(torn.contains(&vec![1; 16]) && torn.contains(&vec![2; 16]));
    assert!(torn.len() > 34 + 40, "and subsets by chance");
    // No sector is ever torn itself.
    assert!(
        contents.iter().all(|content| content.chunks(SECTOR_BYTES).all(|one| one == [one[0]; 512]))
    );
}

#[test]
fn a_write_behind_the_end_may_leave_the_length_without_the_data() {
    let (disk, file) = recording();
    durable(&file, 1, 0);
    let contents = contents(&states_within(&disk, 0));
    assert!(contents.contains(&vec![]));
    assert!(contents.contains(&vec![0; BLOCK_BYTES]));
    assert!(contents.contains(&filled(1, 1)[..SECTOR_BYTES]));
    assert!(contents.contains(&filled(1, 1).to_vec()));
}

#[test]
fn writes_in_flight_survive_in_every_combination() {
    let (disk, file) = recording();
    for block in 0..4 {
        volatile(&file, 1, block * BLOCK);
    }
    file.allocate(4 * BLOCK).unwrap();
    let found: BTreeSet<Vec<u8>> = contents(&last_states(&disk))
        .iter()
        .filter(|content| content.len() == 4 * BLOCK_BYTES)
        .map(|content| sectors(content).chunks(8).map(|block| block[0]).collect())
        .collect();
    for mask in 0..16_u8 {
        assert!(
            found.contains(&(0..4).map(|bit| mask >> bit & 1).collect::<Vec<u8>>()),
            "{mask:b}"
        );
    }
}

#[test]
fn many_writes_in_flight_are_tried_alone_missing_and_by_chance() {
    let (disk, file) = recording();
    for block in 0..20 {
        volatile(&file, 1, block * BLOCK);
    }
    let point = disk.trace().crash_points().last().unwrap();
    assert_eq!(point.in_flight(), 20);
    let coarse = Exploration { sectors_each_max: 0, sector_subsets: 0, ..Exploration::default() };
    let states: Vec<_> = point.states(&coarse).collect();
    let kept: BTreeSet<Vec<u8>> = contents(&states)
        .iter()
        .map(|content| {
            (0..20).map(|at| content.get(at * BLOCK_BYTES).copied().unwrap_or(0)).collect()
        })
        .collect();
    for one in 0..20 {
        assert!(kept.contains(&(0..20).map(|at| u8::from(at == one)).collect::<Vec<u8>>()));
        assert!(kept.contains(&(0..20).map(|at| u8::from(at != one)).collect::<Vec<u8>>()));
    }
    assert!(kept.len() >= 42 + 60);
}

#[test]
fn zeroes_in_flight_may_reach_a_part() {
    let disk = MemoryDisk::new();
    disk.write_file("a", &filled(256, 1));
    let file = disk.open("a", Access::Write).unwrap();
    disk.start_recording();
    file.zero(0, 256 * BLOCK).unwrap();
    let ones: BTreeSet<usize> = contents(&last_states(&disk))
        .iter()
        .map(|content| sectors(content).iter().map(|&byte| usize::from(byte)).sum::<usize>() / 8)
        .collect();
    assert!(ones.is_superset(&BTreeSet::from([0, 128, 256])) && ones.len() > 3, "{ones:?}");
}

#[test]
fn an_unsynced_truncation_may_not_have_happened() {
    let (disk, file) = recording();
    durable(&file, 1, 0);
    file.truncate(10).unwrap();
    let lens: BTreeSet<usize> = contents(&last_states(&disk)).iter().map(Vec::len).collect();
    assert_eq!(lens, BTreeSet::from([10, BLOCK_BYTES]));
}

#[test]
fn what_is_durable_is_not_undone_by_what_comes_before_it() {
    let (disk, file) = recording();
    volatile(&file, 1, 0);
    durable(&file, 2, 0);
    for content in contents(&last_states(&disk)) {
        assert_eq!(content, filled(1, 2).to_vec());
    }
}

#[test]
fn an_unsynced_directory_entry_may_be_lost() {
    let disk = MemoryDisk::new();
    disk.start_recording();
    let file = disk.create("a").unwrap();
    durable(&file, 1, 0);
    file.sync().unwrap();
    assert_eq!(names(&last_states(&disk)), BTreeSet::from([vec![], vec!["a".to_owned()]]));
    disk.sync_dir().unwrap();
    assert_eq!(names(&last_states(&disk)), BTreeSet::from([vec!["a".to_owned()]]));
    assert_eq!(contents(&last_states(&disk)), BTreeSet::from([filled(1, 1).to_vec()]));
}

#[test]
fn a_removal_may_be_undone_until_the_directory_is_synced() {
    let (disk, file) = recording();
    durable(&file, 1, 0);
    drop(file);
    disk.unlink("a").unwrap();
    let found = last_states(&disk);
    assert_eq!(names(&found), BTreeSet::from([vec![], vec!["a".to_owned()]]));
    let undone = found.iter().find(|state| !state.disk().file_names().is_empty()).unwrap();
    assert_eq!(undone.disk().read_file("a"), filled(1, 1).to_vec());
    disk.sync_dir().unwrap();
    assert_eq!(names(&last_states(&disk)), BTreeSet::from([vec![]]));
}

#[test]
fn a_rename_is_old_or_new_never_neither() {
    let disk = MemoryDisk::new();
    disk.write_file("a", b"old");
    disk.start_recording();
    let file = disk.create("a.tmp").unwrap();
    durable(&file, 2, 0);
    disk.rename("a.tmp", "a").unwrap();
    disk.mark(1);
    disk.sync_dir().unwrap();
    disk.mark(2);
    let mut seen = BTreeSet::new();
    for state in states(&disk) {
        let content = state.disk().read_file("a");
        assert!(content == b"old" || content == filled(1, 2)[..], "{state}");
        assert!(state.marks().len() < 2 || content != b"old", "{state}");
        seen.insert((content == b"old", state.disk().file_names().len()));
    }
    // Old alone, old beside the temporary file, new alone, and new with both names.
    assert_eq!(seen, BTreeSet::from([(true, 1), (true, 2), (false, 1), (false, 2)]));
}

#[test]
fn an_ordering_file_system_keeps_a_prefix_of_the_directory_changes() {
    let disk = MemoryDisk::new();
    disk.start_recording();
    for name in ["1", "2", "3"] {
        disk.create(name).unwrap();
    }
    let point = disk.trace().crash_points().last().unwrap();
    let ordered = Exploration { posix_directory: false, ..Exploration::default() };
    let found: Vec<_> = point.states(&ordered).collect();
    let found: BTreeSet<String> = names(&found).iter().map(|names| names.concat()).collect();
    assert_eq!(found, ["", "1", "12", "123"].map(str::to_owned).into());
    let any = names(&last_states(&disk));
    assert_eq!(any.len(), 8);
}

#[test]
fn a_sync_that_failed_proves_nothing_even_when_the_next_one_succeeds() {
    let (disk, file) = recording();
    volatile(&file, 1, 0);
    disk.set_faults(FaultPlan::new().inject(OpKind::Sync, "", 0, 1, Fault::Fail(FaultError::Io)));
    file.sync().unwrap_err();
    file.sync().unwrap();
    assert!(contents(&last_states(&disk)).contains(&vec![]));
    volatile(&file, 2, 0);
    file.sync().unwrap();
    assert_eq!(contents(&last_states(&disk)), BTreeSet::from([filled(1, 2).to_vec()]));
}

#[test]
fn a_sync_that_lies_makes_nothing_durable() {
    let (disk, file) = recording();
    disk.set_faults(FaultPlan::new().inject(OpKind::Sync, "", 0, 1, Fault::Lose));
    volatile(&file, 1, 0);
    file.sync().unwrap();
    assert!(contents(&last_states(&disk)).contains(&vec![]));
}

#[test]
fn the_same_trace_and_seed_give_the_same_states() {
    let run = |seed| -> Vec<(u128, String)> {
        let (disk, file) = recording();
        let other = disk.create("b").unwrap();
        volatile(&file, 1, 0);
        durable(&other, 2, BLOCK);
        file.zero(0, 8 * BLOCK).unwrap();
        disk.rename("b", "c").unwrap();
        let exploration = Exploration { seed, ..Exploration::default() };
        let points = disk.trace().crash_points();
        let states = points.flat_map(|point| point.states(&exploration));
        states.map(|state| (state.fingerprint(), state.to_string())).collect()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn equal_states_have_equal_fingerprints_and_others_do_not() {
    let (disk, file) = recording();
    let other = disk.create("b").unwrap();
    volatile(&file, 1, 0);
    durable(&other, 2, 0);
    let found = states(&disk);
    let by_content: BTreeSet<Vec<(String, Vec<u8>)>> = found
        .iter()
        .map(|state| {
            let disk = state.disk();
            disk.file_names()
                .into_iter()
                .map(|name| (name.clone(), disk.read_file(&name)))
                .collect()
        })
        .collect();
    let by_hash: BTreeSet<u128> = found.iter().map(CrashState::fingerprint).collect();
    assert_eq!(by_content.len(), by_hash.len());
}

#[test]
fn a_crash_state_can_be_written_and_crash_again() {
    let (disk, file) = recording();
    durable(&file, 1, 0);
    let state = last_states(&disk).remove(0);
    let again = state.disk();
    again.start_recording();
    let reopened = again.open("a", Access::Write).unwrap();
    durable(&reopened, 2, BLOCK);
    assert!(again.open("a", Access::Write).unwrap().try_lock().unwrap());
    for content in contents(&states(&again)) {
        assert_eq!(content[..BLOCK_BYTES], filled(1, 1)[..]);
    }
    assert_eq!(state.disk().read_file("a").len(), BLOCK_BYTES, "the state itself is as it was");
}

#[test]
fn a_fork_is_independent() {
    let disk = MemoryDisk::new();
    disk.write_file("a", &filled(100, 1));
    let lock = disk.try_lock("a").unwrap();
    let fork = disk.fork();
    fork.flip_bit("a", 5000, 3);
    disk.write_file("b", b"x");
    assert_eq!((disk.read_file("a")[5000], fork.read_file("a")[5000]), (1, 9));
    assert_eq!(fork.file_names(), ["a"]);
    assert!(lock.is_some() && fork.try_lock("a").unwrap().is_some());
}

#[test]
fn short_writes_are_continued() {
    for short in [1, 4095, 4096, 4097, 10_000] {
        let fault = Fault::Short(short);
        let plan = FaultPlan::new().inject(OpKind::Write, "a", 0, 2, fault).inject(
            OpKind::WriteDurable,
            "a",
            0,
            2,
            fault,
        );
        let disk = MemoryDisk::with_faults(plan);
        let file = disk.create("a").unwrap();
        let (one, two) = (filled(3, 1), filled(2, 2));
        write_all_at(file.as_ref(), &one, 0).unwrap();
        write_all_durable_at(file.as_ref(), &[&one, &two], 3 * BLOCK).unwrap();
        assert_eq!(disk.read_file("a"), [&one[..], &one[..], &two[..]].concat(), "{short}");
    }
}

#[test]
fn writes_that_never_progress_are_given_up() {
    for short in [0, 100] {
        let plan =
            FaultPlan::new().inject(OpKind::WriteDurable, "", 0, u64::MAX, Fault::Short(short));
        let file = MemoryDisk::with_faults(plan).create("a").unwrap();
        let error = write_all_durable_at(file.as_ref(), &[&filled(1, 1)], 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriteZero);
    }
}

#[test]
fn short_reads_are_continued() {
    let disk = MemoryDisk::new();
    disk.write_file("a", &filled(3, 1));
    disk.set_faults(FaultPlan::new().inject(OpKind::Read, "", 0, 1, Fault::Short(BLOCK_BYTES)));
    let file = disk.open("a", Access::Read).unwrap();
    let mut buf = AlignedBuf::zeroed(4 * BLOCK_BYTES).unwrap();
    assert_eq!(read_full_at(file.as_ref(), &mut buf, 0).unwrap(), 3 * BLOCK_BYTES);
}

#[test]
fn faults_strike_where_and_when_they_are_told() {
    let disk = MemoryDisk::new();
    disk.set_faults(
        FaultPlan::new()
            .inject(OpKind::WriteDurable, "b", 1, 1, Fault::Fail(FaultError::Io))
            .inject(OpKind::Read, "", 0, 1, Fault::Fail(FaultError::Kind(ErrorKind::TimedOut))),
    );
    let (a, b) = (disk.create("a").unwrap(), disk.create("b").unwrap());
    let buf = filled(1, 1);
    let write = |file: &Arc<dyn DiskFile>| file.write_durable_at(&[IoSlice::new(&buf)], 0);
    write(&a).unwrap();
    write(&a).unwrap();
    write(&b).unwrap();
    assert_eq!(write(&b).unwrap_err().raw_os_error(), Some(5));
    write(&b).unwrap();
    let mut buf = filled(1, 1);
    assert_eq!(a.read_at(&mut buf, 0).unwrap_err().kind(), ErrorKind::TimedOut);
    a.read_at(&mut buf, 0).unwrap();
}

#[test]
fn a_write_may_fail_after_some_of_its_sectors() {
    let fault = Fault::FailTorn { error: FaultError::NoSpace, seed: 3 };
    let disk = MemoryDisk::new();
    disk.write_file("a", &filled(4, 1));
    let file = disk.open("a", Access::Write).unwrap();
    disk.set_faults(FaultPlan::new().inject_any("a", 0, 1, fault));
    let error = write_all_durable_at(file.as_ref(), &[&filled(4, 2)], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let sectors: BTreeSet<u8> = sectors(&disk.read_file("a")).into_iter().collect();
    assert_eq!(sectors, BTreeSet::from([1, 2]));
}

#[test]
fn a_write_may_be_lost_or_go_elsewhere_and_report_success() {
    let disk = MemoryDisk::new();
    disk.write_file("a", &filled(3, 1));
    let file = disk.open("a", Access::Write).unwrap();
    disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "a", 0, 1, Fault::Lose).inject(
        OpKind::WriteDurable,
        "a",
        0,
        1,
        Fault::Misdirect(2 * BLOCK),
    ));
    durable(&file, 2, 0);
    assert_eq!(disk.read_file("a"), filled(3, 1).to_vec());
    durable(&file, 3, 0);
    assert_eq!(disk.read_file("a"), [&filled(2, 1)[..], &filled(1, 3)[..]].concat());
}

#[test]
fn a_dead_device_fails_everything_and_keeps_what_it_had() {
    let (disk, file) = recording();
    durable(&file, 1, 0);
    disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "", 0, 1, Fault::Die));
    assert!(file.write_durable_at(&[IoSlice::new(&filled(1, 2))], 0).is_err());
    assert!(file.len().is_err() && file.sync().is_err() && file.map().is_err());
    assert!(
        disk.list().is_err() && disk.create("b").is_err() && disk.open("a", Access::Read).is_err()
    );
    assert!(disk.try_lock("l").is_err() && disk.sync_dir().is_err());
    assert_eq!(contents(&last_states(&disk)), BTreeSet::from([filled(1, 1).to_vec()]));
    disk.set_dead(false);
    assert_eq!(file.len().unwrap(), BLOCK);
}

#[test]
fn a_full_disk_refuses_what_grows_and_lets_go_on_when_space_is_freed() {
    let disk = MemoryDisk::new();
    disk.set_capacity(4 * BLOCK);
    let (a, b) = (disk.create("a").unwrap(), disk.create("b").unwrap());
    a.allocate(3 * BLOCK).unwrap();
    assert_eq!(b.allocate(2 * BLOCK).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(b.zero(0, 2 * BLOCK).unwrap_err().kind(), ErrorKind::StorageFull);
    let full = write_all_durable_at(b.as_ref(), &[&filled(2, 1)], 0).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    assert!(b.is_empty().unwrap());
    durable(&b, 1, 10 * BLOCK);
    durable(&a, 2, 2 * BLOCK);
    assert_eq!(disk.used(), 4 * BLOCK);
    a.truncate(BLOCK).unwrap();
    b.zero(0, BLOCK).unwrap();
    disk.unlink("b").unwrap();
    assert_eq!(disk.used(), BLOCK);
    a.allocate(4 * BLOCK).unwrap();
}

#[test]
fn faults_by_chance_are_the_same_for_the_same_seed() {
    let run = |plan: FaultPlan| -> Vec<String> {
        let disk = MemoryDisk::with_faults(plan);
        let mut outcomes = Vec::new();
        for number in 0..50_u8 {
            let Ok(file) = disk.create(&number.to_string()) else { continue };
            let buf = filled(2, number);
            outcomes.push(format!("{:?}", file.write_durable_at(&[IoSlice::new(&buf)], 0)));
            outcomes.push(format!("{:?} {:?}", file.sync(), disk.sync_dir()));
        }
        outcomes.push(format!("{:x}", disk.state().image.fingerprint()));
        outcomes
    };
    for seed in 0..10 {
        assert_eq!(run(FaultPlan::seeded(seed, 4)), run(FaultPlan::seeded(seed, 4)));
        assert_eq!(run(FaultPlan::seeded_lies(seed, 4)), run(FaultPlan::seeded_lies(seed, 4)));
    }
    assert_ne!(run(FaultPlan::seeded(1, 4)), run(FaultPlan::seeded(2, 4)));
}

#[test]
fn overlapping_writes_of_several_threads_are_recorded_in_pairs() {
    let (disk, file) = recording();
    std::thread::scope(|scope| {
        for block in 0..4 {
            let (disk, file) = (&disk, &file);
            scope.spawn(move || {
                for round in 0..20 {
                    durable(file, 1, (block + 4 * round) * BLOCK);
                    disk.mark(block + 4 * round);
                }
            });
        }
    });
    let exploration = Exploration::quick();
    for point in disk.trace().crash_points() {
        assert!(point.in_flight() <= 4);
        for state in point.states(&exploration) {
            let content = state.disk().read_file("a");
            for mark in state.marks() {
                let at = usize::try_from(*mark).unwrap() * BLOCK_BYTES;
                assert!(content[at..at + BLOCK_BYTES].iter().all(|&byte| byte == 1), "{state}");
            }
        }
    }
}

#[test]
fn a_sparse_terabyte_is_explored_at_no_cost() {
    let (disk, file) = recording();
    file.allocate(1 << 40).unwrap();
    file.zero(0, 1 << 40).unwrap();
    file.sync().unwrap();
    durable(&file, 1, (1 << 40) - BLOCK);
    for state in states(&disk) {
        let disk = state.disk();
        assert!(disk.list().unwrap()[0].bytes <= 1 << 40, "{state}");
    }
}

#[test]
fn a_file_without_a_name_is_forgotten_with_its_last_handle() {
    let disk = MemoryDisk::new();
    let files = || disk.state().image.files.len();
    let (file, again) = (disk.create("a").unwrap(), disk.open("a", Access::Read).unwrap());
    disk.create("b").unwrap();
    disk.rename("b", "a").unwrap();
    assert_eq!(files(), 2);
    drop(file);
    assert_eq!(files(), 2);
    drop(again);
    assert_eq!(files(), 1);
    let lock = disk.try_lock("a").unwrap();
    assert!(disk.try_lock("a").unwrap().is_none());
    disk.unlink("a").unwrap();
    assert_eq!(files(), 1);
    drop(lock);
    assert_eq!(files(), 0);
}

#[test]
fn a_create_that_is_lost_leaves_a_file_without_a_name() {
    let disk = MemoryDisk::new();
    disk.set_faults(FaultPlan::new().inject(OpKind::Create, "a", 0, 1, Fault::Lose));
    let file = disk.create("a").unwrap();
    durable(&file, 1, 0);
    assert_eq!(file.len().unwrap(), BLOCK);
    assert!(disk.list().unwrap().is_empty());
    disk.create("a").unwrap();
}

#[test]
fn a_create_that_fails_may_have_happened() {
    let mut found = BTreeSet::new();
    for seed in 0..10 {
        let fault = Fault::FailTorn { error: FaultError::Io, seed };
        let disk =
            MemoryDisk::with_faults(FaultPlan::new().inject(OpKind::Create, "", 0, 1, fault));
        disk.create("a").unwrap_err();
        found.insert(disk.file_names().len());
        for entry in disk.list().unwrap() {
            assert_eq!(entry.bytes, 0);
        }
    }
    assert_eq!(found, BTreeSet::from([0, 1]));
}

#[test]
fn a_durable_write_that_failed_is_durable_only_after_a_sync() {
    let (disk, file) = recording();
    let fault = Fault::FailTorn { error: FaultError::Io, seed: 3 };
    disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "", 0, 1, fault));
    file.write_durable_at(&[IoSlice::new(&filled(1, 1))], 0).unwrap_err();
    let written = disk.read_file("a");
    assert!(!written.is_empty());
    let found = contents(&last_states(&disk));
    assert!(found.contains(&vec![]) && found.contains(&written));
    file.sync().unwrap();
    assert_eq!(contents(&last_states(&disk)), BTreeSet::from([written]));
}

#[test]
fn of_two_syncs_at_once_the_one_that_failed_leaves_doubt() {
    let op = |kind, action| Op { kind, name: "a".to_owned(), action };
    let (disk, _file) = recording();
    let base = disk.trace().0.base.clone();
    let mut recording = Recording { base, ..Recording::default() };
    let change = Change::Allocate { bytes: BLOCK };
    let write =
        recording.begin(op(OpKind::Allocate, Action::File { inode: 1, change, durable: false }));
    recording.events.push(Event::End { op: write, well: true });
    let failing = recording.begin(op(OpKind::Sync, Action::Sync { inode: 1 }));
    let other = recording.begin(op(OpKind::Sync, Action::Sync { inode: 1 }));
    recording.events.push(Event::End { op: failing, well: false });
    recording.events.push(Event::End { op: other, well: true });
    let point = Trace(Arc::new(recording)).crash_points().last().unwrap();
    assert_eq!(point.in_flight(), 1);
}

#[test]
fn only_durable_writes_that_have_not_ended_are_under_way() {
    let (disk, file) = recording();
    volatile(&file, 1, 0);
    durable(&file, 2, BLOCK);
    let points = disk.trace().crash_points();
    let found: Vec<_> = points
        .map(|point| (point.in_flight(), point.writes_under_way().map(str::to_owned).collect()))
        .collect();
    let (none, one) = (Vec::<String>::new(), vec!["a".to_owned()]);
    // Before all, in and after the first write, in and after the second.
    assert_eq!(
        found,
        [(0, none.clone()), (1, none.clone()), (1, none.clone()), (2, one), (1, none)]
    );
}
