//! How fast a subscription that begins at the beginning catches up while the log grows.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use stratalog::{AppendError, Expect, Message, Store};
use stratalog_bench::fan_out::Tally;
use stratalog_bench::{STREAM_EVENTS, event, fill_scattered};

use crate::median;

const ROUNDS: usize = 7;
/// So many events are appended while it is read, then nothing for so long, and so on.
const APPEND_EVENTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(1);

/// How many events a second were read, and how many were appended meanwhile.
type Rates = (f64, f64);

pub fn measure(directory: &Path, events: u64) -> Result<(), Box<dyn Error>> {
    let store = Store::open(directory)?;
    fill_scattered(&store, (events / STREAM_EVENTS).max(1))?;
    let stats = store.stats()?;
    println!(
        "{} events of 256 bytes, {} of them in sealed segments, all in the page cache",
        stats.events, stats.indexed_events
    );
    // The first to read something maps it.
    scan(&store)?;
    let (mut subscribed, mut scanned, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        subscribed.push(beside_appends(&store, || subscribe(&store))?);
        scanned.push(beside_appends(&store, || scan(&store))?);
        alone.push((scan(&store)?, 0.0));
    }
    let middle = |rates: &[Rates]| median(rates.iter().map(|rates| rates.0).collect());
    let print = |what: &str, rates: &[Rates]| {
        println!(
            "  {what:<28}{:>7.2} M events/s, {:.3} of the plain scan's; {:.0} appended a second",
            middle(rates) / 1e6,
            middle(rates) / middle(&alone),
            median(rates.iter().map(|rates| rates.1).collect())
        );
    };
    print("subscription, with appends", &subscribed);
    print("plain scan, with appends", &scanned);
    print("plain scan", &alone);
    Ok(store.close()?)
}

/// Reads while another thread appends; see [`APPEND_EVENTS`].
fn beside_appends(
    store: &Store,
    read: impl FnOnce() -> Result<f64, Box<dyn Error>>,
) -> Result<Rates, Box<dyn Error>> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writing = scope.spawn(|| -> Result<f64, AppendError> {
            let (begun, event) = (Instant::now(), event());
            let mut appended = 0;
            while !done.load(Ordering::Relaxed) {
                let events = (0..APPEND_EVENTS).map(|_| &event);
                store.append("account-1", Expect::Any, events).wait()?;
                appended += APPEND_EVENTS;
                thread::sleep(PAUSE);
            }
            Ok(f64::from(appended) / begun.elapsed().as_secs_f64())
        });
        let read = read();
        done.store(true, Ordering::Relaxed);
        let appended = writing.join().map_err(|_| "the appender panicked")??;
        Ok((read?, appended))
    })
}

/// Receives everything until it has caught up, and says how many events a second.
fn subscribe(store: &Store) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut subscription = store.subscribe().start()?;
    loop {
        match subscription.recv()? {
            Message::Events(batch) => batch.iter().for_each(|event| tally.take(event.payload())),
            Message::CaughtUp(_) => return Ok(rate(tally, begun)),
            Message::FellBehind { .. } => {}
        }
    }
}

/// Reads everything until there is no more, and says how many events a second.
fn scan(store: &Store) -> Result<f64, Box<dyn Error>> {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch()? {
        batch.iter().for_each(|event| tally.take(event.payload()));
    }
    Ok(rate(tally, begun))
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(tally: Tally, begun: Instant) -> f64 {
    std::hint::black_box(tally).events as f64 / begun.elapsed().as_secs_f64()
}
