//! What reading costs beside what the memory gives: the whole log, and one stream of it, hot.
//!
//! `cargo run --release -p stratalog-bench --bin reading -- DIRECTORY EVENTS` fills the directory as `large`
//! does, if there is no store in it, and measures in rounds: the sum of a populated mapping of 1 GiB, a scan
//! of the whole log that sums every payload, and single streams. The figure that holds on other machines is
//! the scan's part of the memory's. Frames' checksums are checked each time, as always. A third argument,
//! `scan` or `streams`, reads just that over and over, for a profiler.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use memmap2::{Mmap, MmapOptions};
use stratalog::Store;
use stratalog_bench::{STREAM_EVENTS, fill_scattered, scattered_name, sum};

const SUM_BYTES: usize = 1 << 30;
const ROUNDS: usize = 9;
/// Streams that are read in each round.
const STREAMS_READ: u64 = 2_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(events)) = (arguments.next(), arguments.next()) else {
        return Err("usage: reading DIRECTORY EVENTS".into());
    };
    let (directory, events) = (Path::new(&directory), events.replace('_', "").parse::<u64>()?);
    let streams = (events / STREAM_EVENTS).max(1);
    if !directory.join("manifest").exists() {
        let store = Store::open(directory)?;
        fill_scattered(&store, streams)?;
        store.close()?;
    }
    if let Some(what) = arguments.next() {
        return again(directory, events, streams, &what);
    }
    let memory = mapping(&directory.with_extension("sum"))?;
    let store = Store::options().open_read_only(directory)?;
    println!("first scan: {}", scan(&store, events)?);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        std::hint::black_box(sum(&memory));
        let memory = rate(SUM_BYTES, begun.elapsed());
        let scan = scan(&store, events)?;
        let streams = read_streams(&store, streams)?;
        let p = |part: usize| streams[streams.len() * part / 100].as_secs_f64() * 1e6;
        println!(
            "memory {memory:.1} GB/s; scan {:.2} GB/s of frames, {:.1} ns an event, {:.3} of the memory's; \
             a stream of {STREAM_EVENTS}: p50 {:.1}, p99 {:.1} µs",
            scan.frames,
            scan.nanos,
            scan.frames / memory,
            p(50),
            p(99),
        );
        rounds.push((memory, scan.frames, scan.frames / memory, p(50)));
    }
    let middle = |figure: fn(&(f64, f64, f64, f64)) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    println!(
        "medians: memory {:.1} GB/s, scan {:.2} GB/s, ratio {:.3}, stream {:.1} µs",
        middle(|round| round.0),
        middle(|round| round.1),
        middle(|round| round.2),
        middle(|round| round.3),
    );
    Ok(())
}

/// Reads the same many times, and nothing else.
fn again(directory: &Path, events: u64, streams: u64, what: &str) -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_read_only(directory)?;
    let mut nanos = Vec::new();
    for _ in 0..3 * ROUNDS {
        nanos.push(match what {
            "scan" => scan(&store, events)?.nanos,
            "streams" => {
                let times = read_streams(&store, streams)?;
                times[times.len() / 2].as_secs_f64() * 1e9
            }
            _ => return Err("what is read is `scan` or `streams`".into()),
        });
    }
    nanos.sort_unstable_by(f64::total_cmp);
    println!("{what}: best {:.1} ns, median {:.1} ns", nanos[0], nanos[nanos.len() / 2]);
    Ok(())
}

/// A mapped file of [`SUM_BYTES`] in the page cache, every page of which is in the page table.
fn mapping(path: &Path) -> Result<Mmap, Box<dyn Error>> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    fs::remove_file(path)?;
    file.set_len(SUM_BYTES as u64)?;
    // SAFETY: the file has no name any more, and nothing here writes to it or cuts it.
    Ok(unsafe { MmapOptions::new().populate().map(&file)? })
}

struct Scan {
    /// GB/s.
    frames: f64,
    nanos: f64,
}

impl std::fmt::Display for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} GB/s of frames, {:.1} ns an event", self.frames, self.nanos)
    }
}

fn scan(store: &Store, events: u64) -> Result<Scan, Box<dyn Error>> {
    /// Of an event of [`fill_scattered`].
    const FRAME_BYTES: usize = 336;
    let begun = Instant::now();
    let (mut found, mut total) = (0, 0_u64);
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch()? {
        found += batch.len();
        for event in &batch {
            total = total.wrapping_add(sum(event.payload()));
        }
    }
    let took = begun.elapsed();
    std::hint::black_box(total);
    if found as u64 != events {
        return Err(format!("the log has {found} events").into());
    }
    Ok(Scan {
        frames: rate(found * FRAME_BYTES, took),
        nanos: took.as_secs_f64() * 1e9 / ratio(found),
    })
}

/// How long each of some streams takes, from the shortest on.
fn read_streams(store: &Store, streams: u64) -> Result<Vec<Duration>, Box<dyn Error>> {
    let mut times = (0..streams.min(STREAMS_READ))
        .map(|number| read_stream(store, &scattered_name(number * 13, streams)))
        .collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(times)
}

fn read_stream(store: &Store, name: &str) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    let (mut found, mut total) = (0, 0_u64);
    let mut reader = store.read_stream(name).forward();
    while let Some(batch) = reader.next_batch()? {
        found += batch.len();
        for event in &batch {
            total = total.wrapping_add(sum(event.payload()));
        }
    }
    let took = begun.elapsed();
    std::hint::black_box(total);
    if found as u64 != STREAM_EVENTS {
        return Err(format!("a stream has {found} events").into());
    }
    Ok(took)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn ratio(number: usize) -> f64 {
    number as f64
}

fn rate(bytes: usize, took: Duration) -> f64 {
    ratio(bytes) / took.as_secs_f64() / 1e9
}
