//! What it costs to give the same events to several consumers, how soon one that sleeps is told, and how fast one catches up.
//!
//! `cargo run --release -p stratalog-bench --bin fan_out -- DIRECTORY [PART [EVENTS]]` prints three parts, or just the one that
//! is named, with so many events; in each, what is compared is measured in turns, and medians are printed.
//!
//! `consumers`: events of 256 bytes (default: 20,000, which caches hold, and 100,000, which they do not) to 1, 4 and 16 consumers, each of which counts them and reads their
//! first word: subscriptions to a store whose events are in the unsealed tail; a bounded channel of `crossbeam-channel` for
//! each; the broadcast channel of `tokio`; the ring of `disruptor`, in two forms; and a loop over the events where they are in memory. See the module `fan_out` for what each does. It prints the
//! processor's time for an event and consumer, that of who sends, and the time that went by.
//!
//! `latency`: how long after the end of a commit a sleeping subscriber of an idle store has the event, beside what the
//! machine needs to wake one thread.
//!
//! `catch-up`: how many events a second a subscription receives from the first of all (default: 10,000,000) on, while
//! appends go on; beside a plain scan with the same appends, and without.
//!
//! A fourth one, `hot`, only runs when it is asked for: one subscription reads the unsealed tail over and over, for a
//! profiler.
//!
//! Stores are made in the directory, and removed at the end.

mod catch_up;
mod consumers;
mod latency;
mod stamped;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next() else {
        return Err(
            "usage: fan_out DIRECTORY [consumers | latency | catch-up | hot [EVENTS]]".into()
        );
    };
    let directory = Path::new(&directory);
    let part = arguments.next();
    let events = arguments.next().map(|text| text.replace('_', "").parse()).transpose()?;
    if let Some(part) = &part
        && !["consumers", "latency", "catch-up", "hot"].contains(&part.as_str())
    {
        return Err("a part is `consumers`, `latency`, `catch-up` or `hot`".into());
    }
    let wants = |name: &str| part.as_deref().is_none_or(|part| part == name);
    if wants("consumers") {
        match events {
            Some(events) => consumers::measure(events),
            None => [20_000, 100_000].into_iter().for_each(consumers::measure),
        }
    }
    if wants("latency") {
        let events = events.unwrap_or(5_000);
        in_store(&directory.join("latency"), |directory| latency::measure(directory, events))?;
    }
    if wants("catch-up") {
        let events = events.unwrap_or(10_000_000);
        in_store(&directory.join("catch-up"), |directory| catch_up::measure(directory, events))?;
    }
    if part.as_deref() == Some("hot") {
        consumers::again(events.unwrap_or(20_000));
    }
    Ok(())
}

/// Measures in a directory that is made for it, and removed.
fn in_store(
    directory: &Path,
    measure: impl FnOnce(&Path) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    if directory.exists() {
        return Err(format!("{} is there already", directory.display()).into());
    }
    std::fs::create_dir_all(directory)?;
    let measured = measure(directory);
    std::fs::remove_dir_all(directory)?;
    measured
}

/// The one in the middle.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
