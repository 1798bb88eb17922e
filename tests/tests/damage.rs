//! Single damages to a closed store: what is read afterwards is right and complete, or an error names
//! the file that is damaged. Nothing is missing silently, nothing is wrong, nothing panics or hangs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "the store spells its own names"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fastrand::Rng;
use stratalog::disk::{Disk, MemoryDisk};
use stratalog::{Case, EventId, Expect, NewEvent, OpenError, ReadError, Store};
use stratalog_tests::oracle::{Seen, all, stream};
use stratalog_tests::{seed, watchdog};

const EVENTS: u64 = 2_000;
const STREAMS: u64 = 20;
const BLOCK: usize = 4096;
const SECTOR: usize = 512;

/// A closed store, as files, and what it holds.
struct Closed {
    files: Vec<(String, Vec<u8>)>,
    events: Vec<Seen>,
    segment_bytes: u64,
}

impl Closed {
    /// Appends the events in units of one to five, so that batches are many and of varied size.
    fn new(segment_bytes: u64, seed: u64) -> Arc<Self> {
        let mut random = Rng::with_seed(seed);
        let disk = MemoryDisk::new();
        let options = Store::options().segment_bytes(segment_bytes);
        let store = options.open_on(Arc::new(disk.clone())).unwrap();
        let mut next = 0;
        while next < EVENTS {
            let count = random.u64(1..6).min(EVENTS - next);
            let stream = format!("stream-{}", random.u64(0..STREAMS));
            let events = (next..next + count).map(|number| {
                let bytes = random.usize(0..if number % 50 == 0 { 2_000 } else { 240 });
                let payload: Vec<u8> =
                    std::iter::repeat_with(|| random.u8(..)).take(bytes).collect();
                NewEvent::bytes(format!("type-{}", number % 5), payload)
                    .id(EventId::from_bytes((u128::from(number) + 1).to_be_bytes()))
            });
            let _ = store.append(&stream, Expect::Any, events.collect::<Vec<_>>()).wait().unwrap();
            next += count;
        }
        let events = all(store.read_all().forward()).unwrap();
        assert_eq!(events.len() as u64, EVENTS);
        store.close().unwrap();
        // Opened once more, so that every sealed segment has its index, whatever the close waited for.
        let store = options.open_on(Arc::new(disk.clone())).unwrap();
        assert_eq!(store.opened_as(), Case::RecordedEnd);
        assert!(store.torn_tail().is_empty(), "a closed store has no torn tail");
        store.close().unwrap();
        let files: Vec<_> = disk
            .file_names()
            .into_iter()
            .map(|name| (name.clone(), disk.read_file(&name)))
            .collect();
        let sealed = files.iter().filter(|(name, _)| name.ends_with(".table")).count();
        assert_eq!(sealed > 0, segment_bytes < 1 << 20, "{sealed} segments are sealed");
        Arc::new(Self { files, events, segment_bytes })
    }
}

/// The files of a store, by name.
type Files = [(String, Vec<u8>)];

/// What was done to a file, for the message of a failure.
#[derive(Debug)]
#[expect(dead_code, reason = "`what` is only printed")]
struct Damage {
    /// The file, or the two of a swap.
    files: Vec<String>,
    what: String,
}

/// Damages one thing, and says what; none where what was chosen changes nothing.
fn damage(files: &mut Vec<(String, Vec<u8>)>, random: &mut Rng) -> Option<Damage> {
    let logs = (0..files.len()).filter(|file| files[*file].0.ends_with(".log"));
    let logs: Vec<_> = logs.collect();
    // More often the log than what can be made anew from it.
    let any = random.usize(0..files.len());
    let file = if random.u8(0..10) < 6 { logs[random.usize(0..logs.len())] } else { any };
    let kind = random.u8(0..16);
    let (name, length) = (files[file].0.clone(), files[file].1.len());
    if kind == 15 {
        files.remove(file);
        return Some(Damage { files: vec![name], what: "deleted".into() });
    }
    if length == 0 {
        return None;
    }
    let bytes = &mut files[file].1;
    let before = bytes.clone();
    let one = vec![name.clone()];
    let damage = match kind {
        0..4 => {
            let (at, bit) = (random.usize(0..length), random.u8(0..8));
            bytes[at] ^= 1 << bit;
            Damage { files: one, what: format!("bit {bit} of byte {at}") }
        }
        4..7 => {
            let at = random.usize(0..length);
            let end = length.min(at + 16);
            bytes[at..end].iter_mut().for_each(|byte| *byte = random.u8(..));
            Damage { files: one, what: format!("16 bytes from {at} on") }
        }
        7..9 => zero(bytes, SECTOR, random, one),
        9..11 => zero(bytes, BLOCK, random, one),
        11..13 => return swap(files, file, random),
        _ => {
            let to = random.usize(0..length);
            bytes.truncate(to);
            Damage { files: one, what: format!("cut to {to} of {length}") }
        }
    };
    (files[file].1 != before).then_some(damage)
}

fn zero(bytes: &mut [u8], unit: usize, random: &mut Rng, files: Vec<String>) -> Damage {
    let at = random.usize(0..bytes.len()) / unit * unit;
    let end = bytes.len().min(at + unit);
    bytes[at..end].fill(0);
    Damage { files, what: format!("zeroes in {at}..{end}") }
}

/// Swaps two blocks, of one file or of two.
fn swap(files: &mut [(String, Vec<u8>)], one: usize, random: &mut Rng) -> Option<Damage> {
    let other = if random.bool() { one } else { random.usize(0..files.len()) };
    let block = |file: usize, random: &mut Rng| {
        let blocks = files[file].1.len() / BLOCK;
        (blocks > 0).then(|| random.usize(0..blocks) * BLOCK)
    };
    let (from, to) = (block(one, random)?, block(other, random)?);
    let first = files[one].1[from..from + BLOCK].to_vec();
    let second = files[other].1[to..to + BLOCK].to_vec();
    files[one].1[from..from + BLOCK].copy_from_slice(&second);
    files[other].1[to..to + BLOCK].copy_from_slice(&first);
    let names = vec![files[one].0.clone(), files[other].0.clone()];
    (first != second).then(|| Damage { files: names, what: format!("swapped {from} and {to}") })
}

/// What became of reading a damaged store.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    Reported(String),
}

/// Reads everything in every way: right, or an error. Anything else is described as wrong.
fn read(store: &Store, events: &[Seen]) -> Result<Verdict, String> {
    let mut reported = Verdict::Right;
    let mut note = |read: Result<Vec<Seen>, ReadError>, right: Vec<Seen>, what: &str| match read {
        Ok(found) if found == right => Ok(()),
        Ok(found) => Err(format!("{what}: {} events instead of {}", found.len(), right.len())),
        Err(error) => {
            reported = Verdict::Reported(describe(&error));
            Ok(())
        }
    };
    note(all(store.read_all().forward()), events.to_vec(), "forwards")?;
    note(all(store.read_all().backward()), events.iter().rev().cloned().collect(), "backwards")?;
    let mut head_error = None;
    for number in 0..STREAMS {
        let name = format!("stream-{number}");
        let right: Vec<_> = events.iter().filter(|seen| seen.stream == name).cloned().collect();
        let last = right.last().map(|seen| seen.version);
        note(stream(store.read_stream(&name).forward()), right, &name)?;
        match store.stream_head(&name) {
            Ok(head) if head == last => {}
            Ok(head) => return Err(format!("the head of {name} is {head:?}, not {last:?}")),
            Err(error) => head_error = Some(error),
        }
    }
    if store.head().get() != events.len() as u64 {
        return Err(format!("the head is {}", store.head()));
    }
    Ok(head_error.map_or(reported, |error| Verdict::Reported(describe(&error))))
}

/// What an error names: the file.
fn describe(error: &ReadError) -> String {
    match error {
        ReadError::Damaged { segment, .. } => format!("segment-{segment:010}.log"),
        ReadError::File(error) => error.file.clone(),
        other => format!("nothing: {other}"),
    }
}

fn judge(
    opened: Result<Store, OpenError>,
    closed: &Closed,
    damage: &Damage,
) -> Result<Verdict, String> {
    let verdict = match opened {
        Ok(store) => read(&store, &closed.events)?,
        Err(OpenError::Refused(refusal)) => Verdict::Reported(refusal.file().to_owned()),
        Err(OpenError::File(error)) => Verdict::Reported(error.file.clone()),
        Err(OpenError::NotFound { .. }) => Verdict::Reported("manifest".to_owned()),
        Err(other) => return Err(format!("opened with {other}")),
    };
    match &verdict {
        Verdict::Reported(file) if !damage.files.contains(file) => {
            Err(format!("{file} is reported"))
        }
        _ => Ok(verdict),
    }
}

/// Does one damage, and judges what the store shows through `open`.
fn one(
    closed: &Closed,
    seed: u64,
    open: &dyn Fn(&Files, bool) -> Result<Store, OpenError>,
) -> Option<[Verdict; 2]> {
    let mut random = Rng::with_seed(seed);
    let (files, damage) = std::iter::repeat_with(|| {
        let mut files = closed.files.clone();
        let damage = damage(&mut files, &mut random);
        damage.map(|damage| (files, damage))
    })
    .take(20)
    .flatten()
    .next()?;
    Some([false, true].map(|read_only| {
        judge(open(&files, read_only), closed, &damage).unwrap_or_else(|wrong| {
            panic!("{damage:?}, read-only {read_only}, seed {seed}: {wrong}")
        })
    }))
}

/// Does `count` damages, each to a fresh copy, under a watchdog, and prints how they ended.
fn many(
    name: &'static str,
    closed: &Arc<Closed>,
    count: usize,
    open: impl Fn(usize, &Files, bool) -> Result<Store, OpenError> + Send + Sync + 'static,
) {
    let first = seed::seed(1);
    let closed = Arc::clone(closed);
    let (right, reported) = watchdog::within(Duration::from_mins(2), name, move || {
        let (right, reported) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let worker = || loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                let open = |files: &[_], read_only| open(number, files, read_only);
                let verdicts = one(&closed, first + number as u64, &open).into_iter().flatten();
                for verdict in verdicts {
                    let counter = if verdict == Verdict::Right { &right } else { &reported };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            };
            scope.spawn(worker);
            scope.spawn(worker);
        });
        (right.into_inner(), reported.into_inner())
    });
    println!(
        "{name}: {count} damages from seed {first} on, each opened twice: \
         {right} right, {reported} reported"
    );
    assert_eq!(right + reported, 2 * count);
}

fn in_memory(name: &'static str, segment_bytes: u64) {
    let closed = Closed::new(segment_bytes, 9);
    many(name, &closed, 700, move |_, files, read_only| {
        let disk = MemoryDisk::new();
        for (name, bytes) in files {
            disk.write_file(name, bytes);
        }
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let options = Store::options().segment_bytes(segment_bytes);
        if read_only { options.open_read_only_on(disk) } else { options.open_on(disk) }
    });
}

#[test]
fn seven_hundred_damages_to_small_segments_are_noticed_or_do_not_matter() {
    in_memory("seven_hundred_damages_to_small_segments_are_noticed_or_do_not_matter", 64 << 10);
}

#[test]
fn seven_hundred_damages_to_a_single_segment_are_noticed_or_do_not_matter() {
    in_memory("seven_hundred_damages_to_a_single_segment_are_noticed_or_do_not_matter", 1 << 20);
}

#[test]
fn what_opens_in_spite_of_damage_goes_on_and_survives_a_kill() {
    let segment_bytes = 64 << 10;
    let closed = Closed::new(segment_bytes, 9);
    let options = Store::options().segment_bytes(segment_bytes);
    let first = seed::seed(1);
    let mut gone_on = 0;
    for seed in first..first + 300 {
        let mut random = Rng::with_seed(seed);
        let mut files = closed.files.clone();
        let Some(damage) = damage(&mut files, &mut random) else { continue };
        let disk = MemoryDisk::new();
        for (name, bytes) in &files {
            disk.write_file(name, bytes);
        }
        let Ok(store) = options.open_on(Arc::new(disk.clone())) else { continue };
        if read(&store, &closed.events) != Ok(Verdict::Right) {
            continue;
        }
        gone_on += 1;
        // Enough for the log to go on into the next segment, and the one behind.
        let mut events = closed.events.clone();
        let more = random.usize(1..80);
        for number in 0..more {
            let event = NewEvent::bytes("more", vec![1; 2_000]);
            let receipt = store.append("stream-0", Expect::Any, [event]).wait();
            let receipt = receipt.unwrap_or_else(|error| panic!("seed {seed}, {number}: {error}"));
            assert_eq!(receipt.position().get(), events.len() as u64 + number as u64 + 1);
        }
        events.extend(all(store.read_all().after(EVENTS).forward()).unwrap());
        assert_eq!(events.len(), closed.events.len() + more);
        let killed = disk.fork();
        let opened = options.open_on(Arc::new(killed));
        let opened = opened.unwrap_or_else(|error| {
            panic!("{damage:?}, seed {seed}, killed after {more} more appends: {error}")
        });
        let verdict = read(&opened, &events);
        assert_eq!(verdict, Ok(Verdict::Right), "{damage:?}, seed {seed}, {more} more appends");
    }
    println!("{gone_on} of 300 damages did not keep the store from going on");
}

#[test]
fn a_hundred_damages_in_a_real_directory_are_noticed_or_do_not_matter() {
    let closed = Closed::new(64 << 10, 10);
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let bytes = closed.segment_bytes;
    let name = "a_hundred_damages_in_a_real_directory_are_noticed_or_do_not_matter";
    let path = root.path().to_owned();
    many(name, &closed, 100, move |number, files, read_only| {
        let directory = path.join(format!("{number}-{read_only}"));
        put(&directory, files);
        let options = Store::options().segment_bytes(bytes);
        if read_only { options.open_read_only(&directory) } else { options.open(&directory) }
    });
}

fn put(directory: &Path, files: &Files) {
    std::fs::create_dir_all(directory).unwrap();
    for (name, bytes) in files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}
