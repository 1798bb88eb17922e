//! Conditional appends beside tephra and UmaDB, the other embedded stores that have them.
//!
//! `cargo run --release -p stratalog-bench --features conditional --bin conditional -- DIRECTORY` makes a store in
//! `DIRECTORY/NAME` for each measurement, and removes it afterwards. Many threads append units of some events, each about
//! one tag of 100,000 that is drawn at random from the thread's own share, on the condition that no event behind the
//! newest position that the thread knows of has that tag; so every append succeeds. Each is waited for until it is
//! durable. The stores take turns; the figures are medians of the rounds. The options are `--threads` (64), `--batches`
//! (1,64,512), `--seconds` (4), `--rounds` (3) and `--stores` (all: stratalog,tephra,umadb).

mod stores;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stores::{Appends, Unit};

type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: conditional DIRECTORY [--threads N] [--batches N,N,...] [--seconds N] [--rounds N] [--stores NAME,NAME,...]";
const TAGS: u64 = 100_000;

struct Arguments {
    directory: PathBuf,
    threads: u64,
    batches: Vec<usize>,
    seconds: u64,
    rounds: usize,
    stores: Vec<&'static str>,
}

fn main() -> Result<(), Failure> {
    let arguments = parse(std::env::args().skip(1))?;
    std::fs::create_dir_all(&arguments.directory)?;
    println!(
        "{} threads, {} rounds of {} s, medians (least to most) of events/s",
        arguments.threads, arguments.rounds, arguments.seconds
    );
    for &batch in &arguments.batches {
        let mut rates = vec![Vec::new(); arguments.stores.len()];
        for round in 0..arguments.rounds {
            for turn in 0..rates.len() {
                // Backwards every other time, so that nobody always comes after the same one.
                let store = if round % 2 == 0 { turn } else { rates.len() - 1 - turn };
                rates[store].push(measure(arguments.stores[store], batch, &arguments)?);
            }
        }
        for rates in &mut rates {
            rates.sort_unstable_by(f64::total_cmp);
        }
        let median = |store: usize| rates[store][rates[store].len() / 2];
        for (store, name) in arguments.stores.iter().enumerate() {
            let (least, most) = (rates[store][0], rates[store][rates[store].len() - 1]);
            println!(
                "{batch:>4} events an append, {name:<10} {:>10.0} ({least:.0} to {most:.0}){}",
                median(store),
                if store == 0 {
                    String::new()
                } else {
                    let times = median(0) / median(store);
                    format!(", {} has {times:.2} times as many", arguments.stores[0])
                }
            );
        }
    }
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, Failure> {
    let directory = words.next().filter(|word| !word.starts_with('-')).ok_or(USAGE)?.into();
    let mut arguments = Arguments {
        directory,
        threads: 64,
        batches: vec![1, 64, 512],
        seconds: 4,
        rounds: 3,
        stores: stores::NAMES.to_vec(),
    };
    while let Some(option) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match option.as_str() {
            "--threads" => arguments.threads = value.parse()?,
            "--batches" => {
                arguments.batches = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--seconds" => arguments.seconds = value.parse()?,
            "--rounds" => arguments.rounds = value.parse()?,
            "--stores" => {
                let known = |name| stores::NAMES.into_iter().find(|known| *known == name);
                arguments.stores =
                    value.split(',').map(known).collect::<Option<_>>().ok_or(USAGE)?;
            }
            _ => return Err(USAGE.into()),
        }
    }
    let sound = (1..=TAGS).contains(&arguments.threads) && arguments.rounds > 0;
    if sound && !arguments.batches.contains(&0) { Ok(arguments) } else { Err(USAGE.into()) }
}

/// How many events a second a new store takes, after a second that does not count.
fn measure(name: &str, batch: usize, arguments: &Arguments) -> Result<f64, Failure> {
    let directory = arguments.directory.join(name);
    if directory.exists() {
        return Err(format!("{} is there already", directory.display()).into());
    }
    let rate = run(name, &directory, batch, arguments);
    if directory.is_dir() {
        std::fs::remove_dir_all(&directory)?;
    }
    rate
}

#[expect(clippy::cast_precision_loss, reason = "a load has fewer than 2^52 events")]
fn run(name: &str, directory: &Path, batch: usize, arguments: &Arguments) -> Result<f64, Failure> {
    let store = stores::open(name, directory)?;
    let counted = AtomicU64::new(0);
    let began = Instant::now();
    let counts_from = began + Duration::from_secs(1);
    let ends = counts_from + Duration::from_secs(arguments.seconds);
    std::thread::scope(|scope| {
        let (store, counted) = (&*store, &counted);
        let run = |thread| {
            scope.spawn(move || {
                append(store, thread, batch, arguments.threads, [counts_from, ends], counted)
            })
        };
        let threads: Vec<_> = (0..arguments.threads).map(run).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;
    store.close()?;
    Ok(counted.into_inner() as f64 / arguments.seconds as f64)
}

/// Appends about the tags of one thread until the end; counts the events of what was acknowledged in time.
fn append(
    store: &dyn Appends,
    thread: u64,
    batch: usize,
    threads: u64,
    [counts_from, ends]: [Instant; 2],
    counted: &AtomicU64,
) -> Result<(), Failure> {
    let mut random = fastrand::Rng::with_seed(thread);
    let mut newest = vec![0; usize::try_from(TAGS / threads)?.max(1)];
    loop {
        let own = random.usize(..newest.len());
        let tag = format!("entity-{:06}", own as u64 * threads + thread);
        newest[own] = store.append(&Unit { tag: &tag, after: newest[own], events: batch })?;
        let now = Instant::now();
        if now >= ends {
            return Ok(());
        }
        if now >= counts_from {
            counted.fetch_add(batch as u64, Ordering::Relaxed);
        }
    }
}
