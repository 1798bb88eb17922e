//! Conditional appends beside tephra and UmaDB, the other embedded stores that have them.
//!
//! `cargo run --release -p stratalog-bench --features conditional --bin conditional -- DIRECTORY` makes a store in
//! `DIRECTORY/NAME` for each measurement, and removes it afterwards. Many writers append units of some events, each about
//! one tag of 100,000 that is drawn at random from the writer's own share, on the condition that no event behind the
//! newest position that the writer knows of has that tag; so every append succeeds. Each is waited for until it is
//! durable. Writers are threads that sleep meanwhile, or tasks on as many threads as there are processors. The stores
//! take turns; the figures are medians of the rounds. The options are `--writers` (64), `--as` (both: threads,tasks),
//! `--batches` (1,64,512), `--seconds` (4), `--rounds` (3) and `--stores` (all: stratalog,tephra,umadb).

mod stores;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stores::{Appends, Unit};

type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: conditional DIRECTORY [--writers N] [--as threads,tasks] [--batches N,N,...] [--seconds N] [--rounds N] [--stores NAME,NAME,...]";
const TAGS: u64 = 100_000;

/// What a writer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Threads,
    Tasks,
}

impl Manner {
    const ALL: [Self; 2] = [Self::Threads, Self::Tasks];

    fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Tasks => "tasks",
        }
    }
}

struct Arguments {
    directory: PathBuf,
    writers: u64,
    manners: Vec<Manner>,
    batches: Vec<usize>,
    seconds: u64,
    rounds: usize,
    stores: Vec<&'static str>,
}

fn main() -> Result<(), Failure> {
    let arguments = parse(std::env::args().skip(1))?;
    std::fs::create_dir_all(&arguments.directory)?;
    println!(
        "{} writers, {} rounds of {} s, medians (least to most) of events/s",
        arguments.writers, arguments.rounds, arguments.seconds
    );
    for &manner in &arguments.manners {
        for &batch in &arguments.batches {
            compare(manner, batch, &arguments)?;
        }
    }
    Ok(())
}

/// Has the stores take turns, and prints their rates.
fn compare(manner: Manner, batch: usize, arguments: &Arguments) -> Result<(), Failure> {
    let mut rates = vec![Vec::new(); arguments.stores.len()];
    for round in 0..arguments.rounds {
        for turn in 0..rates.len() {
            // Backwards every other time, so that nobody always comes after the same one.
            let store = if round % 2 == 0 { turn } else { rates.len() - 1 - turn };
            rates[store].push(measure(arguments.stores[store], manner, batch, arguments)?);
        }
    }
    for rates in &mut rates {
        rates.sort_unstable_by(f64::total_cmp);
    }
    let median = |store: usize| rates[store][rates[store].len() / 2];
    for (store, name) in arguments.stores.iter().enumerate() {
        let (least, most) = (rates[store][0], rates[store][rates[store].len() - 1]);
        println!(
            "{:<7} {batch:>4} events an append, {name:<10} {:>10.0} ({least:.0} to {most:.0}){}",
            manner.name(),
            median(store),
            if store == 0 {
                String::new()
            } else {
                let times = median(0) / median(store);
                format!(", {} has {times:.2} times as many", arguments.stores[0])
            }
        );
    }
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, Failure> {
    let directory = words.next().filter(|word| !word.starts_with('-')).ok_or(USAGE)?.into();
    let mut arguments = Arguments {
        directory,
        writers: 64,
        manners: Manner::ALL.to_vec(),
        batches: vec![1, 64, 512],
        seconds: 4,
        rounds: 3,
        stores: stores::NAMES.to_vec(),
    };
    while let Some(option) = words.next() {
        let value = words.next().ok_or(USAGE)?;
        match option.as_str() {
            "--writers" => arguments.writers = value.parse()?,
            "--as" => {
                let known = |name| Manner::ALL.into_iter().find(|known| known.name() == name);
                arguments.manners =
                    value.split(',').map(known).collect::<Option<_>>().ok_or(USAGE)?;
            }
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
    let sound = (1..=TAGS).contains(&arguments.writers) && arguments.rounds > 0;
    if sound && !arguments.batches.contains(&0) { Ok(arguments) } else { Err(USAGE.into()) }
}

/// How many events a second a new store takes, after a second that does not count.
fn measure(
    name: &str,
    manner: Manner,
    batch: usize,
    arguments: &Arguments,
) -> Result<f64, Failure> {
    let directory = arguments.directory.join(name);
    if directory.exists() {
        return Err(format!("{} is there already", directory.display()).into());
    }
    let rate = run(name, &directory, manner, batch, arguments);
    if directory.is_dir() {
        std::fs::remove_dir_all(&directory)?;
    }
    rate
}

#[expect(clippy::cast_precision_loss, reason = "a load has fewer than 2^52 events")]
fn run(
    name: &str,
    directory: &Path,
    manner: Manner,
    batch: usize,
    arguments: &Arguments,
) -> Result<f64, Failure> {
    let load = Arc::new(Load {
        store: stores::open(name, directory)?,
        batch,
        counts_from: Instant::now() + Duration::from_secs(1),
        counts_for: Duration::from_secs(arguments.seconds),
        counted: AtomicU64::new(0),
    });
    let writers = (0..arguments.writers).map(|number| Writer::new(number, arguments.writers));
    match manner {
        Manner::Threads => append_by_threads(&load, writers)?,
        Manner::Tasks => append_by_tasks(&load, writers)?,
    }
    let load = Arc::into_inner(load).ok_or("a writer has not ended")?;
    load.store.close()?;
    Ok(load.counted.into_inner() as f64 / arguments.seconds as f64)
}

/// What all writers have in common.
struct Load {
    store: Box<dyn Appends>,
    batch: usize,
    counts_from: Instant,
    counts_for: Duration,
    counted: AtomicU64,
}

impl Load {
    /// An append was acknowledged: counts its events where that was in time. False at the end.
    fn counts(&self) -> bool {
        let now = Instant::now();
        let goes_on = now < self.counts_from + self.counts_for;
        if goes_on && now >= self.counts_from {
            self.counted.fetch_add(self.batch as u64, Ordering::Relaxed);
        }
        goes_on
    }
}

/// Draws the tags of one writer, and knows what it has appended about each.
struct Writer {
    number: u64,
    writers: u64,
    random: fastrand::Rng,
    newest: Vec<u64>,
}

impl Writer {
    fn new(number: u64, writers: u64) -> Self {
        let share = usize::try_from(TAGS / writers).unwrap_or(usize::MAX).max(1);
        let random = fastrand::Rng::with_seed(number);
        Self { number, writers, random, newest: vec![0; share] }
    }

    /// The next tag, and which of its own that is.
    fn draw(&mut self) -> (usize, String) {
        let own = self.random.usize(..self.newest.len());
        (own, format!("entity-{:06}", own as u64 * self.writers + self.number))
    }
}

fn append_by_threads(
    load: &Arc<Load>,
    writers: impl Iterator<Item = Writer>,
) -> Result<(), Failure> {
    let run = |mut writer: Writer| {
        let load = Arc::clone(load);
        std::thread::spawn(move || -> Result<(), Failure> {
            loop {
                let (own, tag) = writer.draw();
                let unit = Unit { tag: &tag, after: writer.newest[own], events: load.batch };
                writer.newest[own] = load.store.append(unit)?;
                if !load.counts() {
                    return Ok(());
                }
            }
        })
    };
    let threads: Vec<_> = writers.map(run).collect();
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
}

fn append_by_tasks(load: &Arc<Load>, writers: impl Iterator<Item = Writer>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let run = |mut writer: Writer| {
        let load = Arc::clone(load);
        runtime.spawn(async move {
            loop {
                let (own, tag) = writer.draw();
                let unit = Unit { tag: &tag, after: writer.newest[own], events: load.batch };
                writer.newest[own] = load.store.append_async(unit).await?;
                if !load.counts() {
                    return Ok::<(), Failure>(());
                }
            }
        })
    };
    let tasks: Vec<_> = writers.map(run).collect();
    runtime.block_on(async {
        for task in tasks {
            task.await??;
        }
        Ok(())
    })
}
