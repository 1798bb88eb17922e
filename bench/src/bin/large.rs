//! What a large store costs: opening it, and reading one stream of it, from a cold and a hot cache.
//!
//! `cargo run --release -p stratalog-bench --bin large -- DIRECTORY EVENTS` fills the directory with a store
//! of that many events, if there is none, in streams of 100 that lie scattered over all of it, and
//! measures. Run it with two numbers a factor of ten apart: what should not grow with the data does not.
//! The cold figures need the right to drop the page cache, and are left out without it.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use stratalog::Store;
use stratalog_bench::{PAYLOAD_BYTES, STREAM_EVENTS, fill_scattered, scattered_name};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(events)) = (arguments.next(), arguments.next()) else {
        return Err("usage: large DIRECTORY EVENTS".into());
    };
    let (directory, events) = (Path::new(&directory), events.replace('_', "").parse::<u64>()?);
    let streams = (events / STREAM_EVENTS).max(1);
    if !directory.join("manifest").exists() {
        fill(directory, streams * STREAM_EVENTS, streams)?;
    }
    openings(directory)?;
    reads(directory, streams)
}

fn fill(directory: &Path, events: u64, streams: u64) -> Result<(), Box<dyn Error>> {
    let store = Store::open(directory)?;
    let begun = Instant::now();
    fill_scattered(&store, streams)?;
    let seconds = begun.elapsed().as_secs_f64();
    let stats = store.stats()?;
    println!(
        "filled with {events} events in {seconds:.1} s; {} segments, {:.1} log bytes and {:.1} index \
         bytes an event",
        stats.segments,
        stats.log_bytes_per_event(),
        ratio(stats.index_bytes, stats.events),
    );
    println!("memory of its own, afterwards: {} MiB", status("RssAnon")? / 1024);
    Ok(store.close()?)
}

fn openings(directory: &Path) -> Result<(), Box<dyn Error>> {
    let open = || -> Result<Duration, Box<dyn Error>> {
        let begun = Instant::now();
        let store = Store::open(directory)?;
        let took = begun.elapsed();
        store.close()?;
        Ok(took)
    };
    let hot = (0..9).map(|_| open()).collect::<Result<_, _>>()?;
    println!("opening, hot: {:.1} ms", median(hot).as_secs_f64() * 1e3);
    if drop_cache() {
        let cold = open()?;
        println!("opening, cold: {:.1} ms", cold.as_secs_f64() * 1e3);
    }
    Ok(())
}

fn reads(directory: &Path, streams: u64) -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_read_only(directory)?;
    let read = |number: u64| -> Result<Duration, Box<dyn Error>> {
        let begun = Instant::now();
        let mut reader = store.read_stream(&scattered_name(number * 13, streams)).forward();
        let mut count = 0;
        while let Some(batch) = reader.next_batch()? {
            count += batch.iter().filter(|event| event.payload().len() == PAYLOAD_BYTES).count();
        }
        if count as u64 != STREAM_EVENTS {
            return Err(format!("a stream has {count} events").into());
        }
        Ok(begun.elapsed())
    };
    if drop_cache() {
        let before = bytes_read()?;
        let first = read(1)?;
        let first_bytes = bytes_read()? - before;
        let next = (2..12).map(read).collect::<Result<_, _>>()?;
        let next_bytes = (bytes_read()? - before - first_bytes) / 10;
        println!(
            "a stream of {STREAM_EVENTS}, cold: {:.1} ms and {} KiB read; ten more: {:.1} ms and {} KiB each",
            first.as_secs_f64() * 1e3,
            first_bytes / 1024,
            median(next).as_secs_f64() * 1e3,
            next_bytes / 1024,
        );
    }
    let rounds = streams.min(2_000);
    for number in 0..rounds {
        read(number)?;
    }
    let hot = (0..rounds).map(read).collect::<Result<_, _>>()?;
    println!("a stream of {STREAM_EVENTS}, hot: {:.1} µs", median(hot).as_secs_f64() * 1e6);
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
fn ratio(bytes: u64, events: u64) -> f64 {
    bytes as f64 / events.max(1) as f64
}

/// Empties the page cache, where this is allowed.
fn drop_cache() -> bool {
    let dropped = fs::write("/proc/sys/vm/drop_caches", "3");
    if let Err(error) = &dropped {
        println!("no cold figure: the page cache cannot be dropped ({error})");
    }
    dropped.is_ok()
}

/// The bytes that this process had read from the disk.
fn bytes_read() -> Result<u64, Box<dyn Error>> {
    field(&fs::read_to_string("/proc/self/io")?, "read_bytes:")
}

/// A figure of this process's memory, in KiB.
fn status(name: &str) -> Result<u64, Box<dyn Error>> {
    field(&fs::read_to_string("/proc/self/status")?, name)
}

fn field(text: &str, name: &str) -> Result<u64, Box<dyn Error>> {
    let line = text.lines().find(|line| line.starts_with(name)).ok_or("the field is missing")?;
    Ok(line.split_whitespace().nth(1).ok_or("the field is empty")?.parse()?)
}
