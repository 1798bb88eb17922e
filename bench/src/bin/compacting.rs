//! How fast snapshots are compacted when nothing paces it, beside what the device does.
//!
//! `cargo run --release -p stratalog-bench --bin compacting -- DIRECTORY [STREAMS]` takes a snapshot of 4 KiB of each stream
//! (default: 100,000) in a new store in the directory, then one more of every second one, so that half of what was sealed
//! first is garbage, and compacts. It does that three times, and measures before each how many bytes a second the device
//! takes, in writes of 256 KiB, four at a time, each durable. It also says how long a walk over all indexes takes, and how
//! long the store takes to be opened, with its snapshots and without: run it with numbers a factor of ten apart. The store
//! is removed at the end.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stratalog::disk::{AlignedBuf, Disk, PwriteDisk, write_all_durable_at};
use stratalog::rkyv::with::AsVec;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{
    Event, EventSet, Expect, Fold, Policy, SnapshotError, SnapshotOptions, State, Store, Taking,
};

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "counted", version = 1)]
struct Counted {
    by: u64,
}

#[derive(EventSet)]
enum Counts {
    Counted(Counted),
}

#[derive(State, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "ledger", version = 1)]
struct Ledger {
    total: u64,
    #[rkyv(with = AsVec)]
    lines: BTreeMap<String, String>,
}

struct Ledgers;

impl Fold for Ledgers {
    type State = Ledger;
    type Events = Counts;

    fn initial() -> Ledger {
        let line = |n| (format!("a line of the ledger, {n}"), "what stands in it: ".repeat(5));
        Ledger { total: 0, lines: (0..28).map(line).collect() }
    }

    fn evolve(ledger: &mut Ledger, event: CountsRef<'_>) {
        match event {
            CountsRef::Counted(counted) => ledger.total += counted.by.to_native(),
        }
    }
}

/// How many snapshots wait at a time.
const WINDOW: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next() else {
        return Err("usage: compacting DIRECTORY [STREAMS]".into());
    };
    let streams: u64 =
        arguments.next().map_or(Ok(100_000), |text| text.replace('_', "").parse())?;
    let directory = Path::new(&directory);
    if directory.join("manifest").exists() {
        return Err("there is a store in the directory already".into());
    }
    let mut ratios = Vec::new();
    for round in 0..3 {
        // Half of the first ones is as much garbage as is left alone, so that it is still there.
        let store = open(directory)?;
        take(&store, &(0..streams).collect::<Vec<_>>())?;
        store.close()?;
        let store = open(directory)?;
        take(&store, &(0..streams).step_by(2).collect::<Vec<_>>())?;
        store.close()?;

        let device = device(directory)?;
        let store = open(directory)?;
        let before = store.snapshots().stats()?;
        let begun = Instant::now();
        let compacted = store.snapshots().compact()?;
        let took = begun.elapsed();
        let walk = Instant::now();
        let after = store.snapshots().stats()?;
        let walk = walk.elapsed();
        let rate = per_second(compacted.moved_bytes, took);
        ratios.push(rate / device);
        println!(
            "round {round}: moved {:.0} MB in {:.2} s: {:.0} MB/s, {:.2} of the device's {:.0} MB/s; \
             {:.0} MB became {:.0} MB, {:.0} MB of them live; {} segments became {}; a walk over \
             their indexes takes {:.1} ms",
            mega(compacted.moved_bytes),
            took.as_secs_f64(),
            rate / 1e6,
            rate / device,
            device / 1e6,
            mega(before.disk_bytes),
            mega(after.disk_bytes),
            mega(after.live_bytes),
            before.segments,
            after.segments,
            walk.as_secs_f64() * 1e3,
        );
        store.close()?;
        let with = opening(directory)?;
        let store = open(directory)?;
        store.snapshots().drop_all()?;
        store.close()?;
        let without = opening(directory)?;
        println!("the store is opened in {with:.1} ms, and in {without:.1} ms without snapshots");
    }
    ratios.sort_by(f64::total_cmp);
    println!("median: {:.2} of the device", ratios[ratios.len() / 2]);
    Ok(std::fs::remove_dir_all(directory)?)
}

fn open(directory: &Path) -> Result<Store, Box<dyn Error>> {
    let snapshots = SnapshotOptions::new().kept(1).checks(0);
    Ok(Store::options().snapshots(snapshots).open(directory)?)
}

/// How long it takes to open the store, in milliseconds: the median of some.
fn opening(directory: &Path) -> Result<f64, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..9 {
        let begun = Instant::now();
        let store = open(directory)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        store.close()?;
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Appends to streams, and takes a snapshot of each.
fn take(store: &Store, streams: &[u64]) -> Result<(), Box<dyn Error>> {
    let ledgers = store.folded::<Ledgers>().snapshots(Policy::never());
    let name = |stream: u64| format!("ledger-{stream}");
    for window in streams.chunks(WINDOW) {
        let appended: Result<Vec<_>, _> = window
            .iter()
            .map(|stream| store.append(&name(*stream), Expect::Any, [Counted { by: 1 }]).submit())
            .collect();
        for pending in appended? {
            pending.wait()?;
        }
        let taken: Vec<_> = window.iter().map(|stream| ledgers.take(&name(*stream))).collect();
        for (stream, outcome) in window.iter().zip(taken.into_iter().map(Taking::wait)) {
            let mut outcome = outcome;
            while matches!(outcome, Err(SnapshotError::NotNow { .. })) {
                std::thread::sleep(Duration::from_millis(5));
                outcome = ledgers.take(&name(*stream)).wait();
            }
            outcome?;
        }
    }
    Ok(())
}

/// How many bytes a second the device takes: durable writes of 256 KiB over blocks that were written before, four at a time.
fn device(directory: &Path) -> Result<f64, Box<dyn Error>> {
    const WRITE_BYTES: usize = 256 << 10;
    const FILE_BYTES: u64 = 256 << 20;
    let folder = directory.join("device");
    std::fs::create_dir_all(&folder)?;
    let disk = PwriteDisk::open(&folder)?;
    let file = disk.create("scratch")?;
    file.allocate(FILE_BYTES)?;
    file.zero(0, FILE_BYTES)?;
    file.sync()?;
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (next, file) = (Arc::clone(&next), Arc::clone(&file));
            std::thread::spawn(move || -> std::io::Result<()> {
                let buffer = AlignedBuf::zeroed(WRITE_BYTES)?;
                while begun.elapsed() < Duration::from_secs(1) {
                    let at = next.fetch_add(WRITE_BYTES as u64, Ordering::Relaxed) % FILE_BYTES;
                    write_all_durable_at(&*file, &[&buffer], at)?;
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    let rate = per_second(next.load(Ordering::Relaxed), begun.elapsed());
    drop(file);
    std::fs::remove_dir_all(folder)?;
    Ok(rate)
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / time.as_secs_f64()
}

fn mega(bytes: u64) -> f64 {
    per_second(bytes, Duration::from_secs(1)) / 1e6
}
