//! What the index costs: memory and look-ups at many streams, bytes an event, and what appends feel of a merge.
//!
//! - `terms DIRECTORY streams N` fills a store with an event for each of N streams, if there is none, and looks
//!   heads of streams up, cold ones at random. Run it with two numbers a factor of ten apart.
//! - `terms DIRECTORY bytes N` fills a store with N events of 100,000 streams, 14 types and two tags of 1,000 values, and
//!   says what the index takes, at once and when its runs are merged.
//! - `terms DIRECTORY merging SECONDS` appends from 64 threads, and compares latencies while a merge was being
//!   written with the others. Segments are of 8 MiB, so that merges are often.
//!
//! With `cargo run --release -p stratalog-bench --bin terms -- …`.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use stratalog::{Expect, NewEvent, Store};
use stratalog_bench::{PAYLOAD_BYTES, scatter, scattered_name};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, what, number] = &arguments[..] else {
        return Err("usage: terms DIRECTORY streams|bytes|merging NUMBER".into());
    };
    let (directory, number) = (Path::new(directory), number.replace('_', "").parse::<u64>()?);
    match &**what {
        "streams" => streams(directory, number),
        "bytes" => bytes(directory, number),
        "merging" => merging(directory, Duration::from_secs(number)),
        _ => Err(format!("{what:?} is none of streams, bytes and merging").into()),
    }
}

fn is_empty(directory: &Path) -> bool {
    !directory.join("manifest").exists()
}

fn streams(directory: &Path, streams: u64) -> Result<(), Box<dyn Error>> {
    const LOOKS: usize = 100_000;
    if is_empty(directory) {
        let store = Store::open(directory)?;
        let mut own_max = 0;
        let begun = Instant::now();
        let step = streams.div_ceil(100).max(1);
        for start in (0..streams).step_by(usize::try_from(step)?) {
            scatter(&store, start..(start + step).min(streams), streams)?;
            own_max = status("RssAnon")?.max(own_max);
        }
        println!("filled in {:.1} s", begun.elapsed().as_secs_f64());
        println!("memory of its own, at most: {} MiB", own_max / 1024);
        store.close()?;
    }
    let begun = Instant::now();
    let store = Store::open(directory)?;
    println!("opened in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    settle(&store, directory)?;
    print_sizes(&store)?;
    let mut numbers = (0_u64..).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % streams);
    let mut look = || -> Result<Duration, Box<dyn Error>> {
        let name = scattered_name(numbers.next().unwrap_or_default(), streams);
        let begun = Instant::now();
        let head = store.stream_head(&name)?;
        let took = begun.elapsed();
        if head.is_none() {
            return Err(format!("{name} has no head").into());
        }
        Ok(took)
    };
    for round in ["first", "second"] {
        let times = (0..LOOKS).map(|_| look()).collect::<Result<Vec<_>, _>>()?;
        print_times(&format!("head of a stream, {round} round"), times);
    }
    let absent = |n: usize| {
        let name = format!("absent-{n}");
        let begun = Instant::now();
        let head = store.stream_head(&name);
        head.map(|_| begun.elapsed())
    };
    let times = (0..LOOKS).map(absent).collect::<Result<Vec<_>, _>>()?;
    print_times("head of a stream that there is not", times);
    let own = status("RssAnon")? / 1024;
    println!("memory of its own, in the end: {own} MiB");
    Ok(store.close()?)
}

fn bytes(directory: &Path, events: u64) -> Result<(), Box<dyn Error>> {
    if !is_empty(directory) {
        return Err("there is a store in the directory already".into());
    }
    let store = Store::open(directory)?;
    let mut random = 1_u64;
    let mut draw = |below: u64| {
        // A generator of Lehmer's, with the constant of L'Ecuyer: enough for what is only to be scattered.
        random = random.wrapping_mul(0xda94_2042_e4dd_58b5).wrapping_add(1);
        (random >> 33) % below
    };
    for _ in 0..events {
        let event = NewEvent::bytes(format!("type-{:02}", draw(14)), vec![7; PAYLOAD_BYTES])
            .tag(format!("one:{}", draw(1_000)))
            .tag(format!("two:{}", draw(1_000)));
        let mut append =
            store.append(&format!("stream-{:013}", draw(STREAMS)), Expect::Any, [event]);
        loop {
            match append.try_submit() {
                Ok(_) => break,
                Err(stratalog::AppendError::Busy) => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
    }
    store.flush()?;
    print_sizes(&store)?;
    settle(&store, directory)?;
    print_sizes(&store)?;
    Ok(store.close()?)
}

fn print_sizes(store: &Store) -> Result<(), Box<dyn Error>> {
    let stats = store.stats()?;
    println!(
        "{} events in {} segments, {} runs; index: {} bytes, of sealed segments {:.1} an event",
        stats.events,
        stats.segments,
        stats.runs,
        stats.index_bytes,
        ratio(stats.index_bytes, stats.indexed_events),
    );
    Ok(())
}

/// Waits until nothing is merged any more.
fn settle(store: &Store, directory: &Path) -> Result<(), Box<dyn Error>> {
    const QUIET: Duration = Duration::from_millis(500);
    let mut last = (store.stats()?.runs, Instant::now());
    while last.1.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(10));
        let runs = store.stats()?.runs;
        if runs != last.0 || is_merging(directory) {
            last = (runs, Instant::now());
        }
    }
    Ok(())
}

/// Whether a merged run is being written.
fn is_merging(directory: &Path) -> bool {
    let Ok(entries) = fs::read_dir(directory) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let run = name.strip_prefix("terms-").and_then(|name| name.strip_suffix(".index.next"));
        run.and_then(|run| run.split_once('-')).is_some_and(|(first, last)| first != last)
    })
}

/// Threads that append while runs are merged.
const THREADS: u64 = 64;
/// Streams of the events, where it does not matter how many there are.
const STREAMS: u64 = 100_000;

fn merging(directory: &Path, duration: Duration) -> Result<(), Box<dyn Error>> {
    let store = Store::options().segment_bytes(8 << 20).open(directory)?;
    let (merges, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let begun = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, merges, stop) = (&store, &merges, &stop);
                scope.spawn(move || append_until(store, thread, merges, stop))
            })
            .collect();
        let mut seconds = 0.0;
        while begun.elapsed() < duration {
            let now = is_merging(directory);
            merges.store(now, Ordering::Relaxed);
            let looked = Instant::now();
            std::thread::sleep(Duration::from_millis(2));
            seconds += if now { looked.elapsed().as_secs_f64() } else { 0.0 };
        }
        stop.store(true, Ordering::Relaxed);
        println!("merging took {seconds:.1} s of {:.1} s", begun.elapsed().as_secs_f64());
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no thread panics"))
            .collect::<Vec<_>>()
    });
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for latencies in latencies {
        for (took, merging) in latencies.map_err(|error| error.to_string())? {
            if merging { with.push(took) } else { without.push(took) }
        }
    }
    if with.is_empty() || without.is_empty() {
        return Err("there was no merge, or nothing else: run it longer".into());
    }
    let with = print_times("an append while a run was merged", with);
    let without = print_times("an append otherwise", without);
    println!(
        "p99 while merging to p99 otherwise: {:.2}",
        with.as_secs_f64() / without.as_secs_f64()
    );
    print_sizes(&store)?;
    Ok(store.close()?)
}

/// What each append of a thread took, and whether a run was merged when it began.
fn append_until(
    store: &Store,
    thread: u64,
    merges: &AtomicBool,
    stop: &AtomicBool,
) -> Result<Vec<(Duration, bool)>, stratalog::AppendError> {
    let mut latencies = Vec::new();
    let mut number = thread;
    while !stop.load(Ordering::Relaxed) {
        let event = NewEvent::bytes("entry-posted", vec![7; PAYLOAD_BYTES])
            .tag(format!("tag-{}", number % 1_000));
        let stream = scattered_name(number, STREAMS);
        let merging = merges.load(Ordering::Relaxed);
        let begun = Instant::now();
        store.append(&stream, Expect::Any, [event]).wait()?;
        latencies.push((begun.elapsed(), merging));
        number += THREADS;
    }
    Ok(latencies)
}

/// Prints the percentiles of some times, and gives the 99th.
fn print_times(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "{what}: p50 {:.1} µs, p99 {:.1} µs ({} of them)",
        at(50).as_secs_f64() * 1e6,
        at(99).as_secs_f64() * 1e6,
        times.len()
    );
    at(99)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn ratio(bytes: u64, events: u64) -> f64 {
    bytes as f64 / events.max(1) as f64
}

/// A figure of this process's memory, in KiB.
fn status(name: &str) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with(name)).ok_or("the field is missing")?;
    Ok(line.split_whitespace().nth(1).ok_or("the field is empty")?.parse()?)
}
