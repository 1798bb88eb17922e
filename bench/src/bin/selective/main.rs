//! What a selective query costs beside UmaDB: ten events that lie far apart in a large store, from a cold
//! and a hot page cache, by several threads.
//!
//! `cargo run --release -p stratalog-bench --features umadb --bin selective -- DIRECTORY` fills
//! `DIRECTORY/stratalog-EVENTS` and `DIRECTORY/umadb-EVENTS` with the same events, as far as they are not
//! there yet, and measures in rounds, in which the stores take turns. Each time a store is opened with its
//! files dropped from the page cache, and asked for tags at random, each once, for some seconds; then for
//! the same tags again. All get the same tags in the same order, and every event that comes is checked.
//! UmaDB is measured in each way in which it reads, and compared with is the one that turns out best.
//! The options are `--events` (10,000,000), `--readers` (16), `--seconds` (5), `--rounds` (3), and
//! `--umadb-cache-mb` (half of the memory).
//!
//! What a query reads from the disk, `read KiB`, says how cold the cold pass was: where its product with
//! the number of queries nears the store's size, most was in the page cache by the end.

mod cache;
mod readers;
mod stores;
mod workload;

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use stores::Subject;
use workload::Workload;

type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: selective DIRECTORY [--events N] [--readers N] [--seconds N] [--rounds N] \
                     [--umadb-cache-mb N]";

struct Arguments {
    directory: PathBuf,
    events: u64,
    readers: usize,
    seconds: u64,
    rounds: u64,
    umadb_cache_mb: usize,
}

/// What one store did in one round.
struct Figures {
    store: &'static str,
    round: u64,
    opening: Duration,
    cold: readers::Pass,
    /// What was read from the disk for the cold pass, in bytes.
    read_bytes: u64,
    hot: readers::Pass,
}

fn main() -> Result<(), Failure> {
    let arguments = parse(std::env::args().skip(1))?;
    let workload = Workload::new(arguments.events)?;
    let subjects = Subject::all(arguments.umadb_cache_mb);
    // The ways of one store share its files, and only the first finds them to be filled.
    for subject in subjects {
        fill(subject, &arguments, workload)?;
    }
    let mut found = Vec::new();
    for round in 1..=arguments.rounds {
        let order = workload.order(round);
        let mut turns = subjects;
        // Backwards every other time, so that nobody always comes after the same one.
        if round % 2 == 0 {
            turns.reverse();
        }
        for subject in turns {
            found.push(measure(subject, round, &order, &arguments, workload)?);
        }
    }
    found.sort_by_key(|figures| (figures.store, figures.round));
    report(&arguments, &subjects, &found);
    Ok(())
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, Failure> {
    let mut arguments = Arguments {
        directory: words.next().filter(|word| !word.starts_with('-')).ok_or(USAGE)?.into(),
        events: 10_000_000,
        readers: 16,
        seconds: 5,
        rounds: 3,
        umadb_cache_mb: cache::memory_mb()? / 2,
    };
    while let Some(option) = words.next() {
        let value = words.next().ok_or(USAGE)?.replace('_', "");
        match option.as_str() {
            "--events" => arguments.events = value.parse()?,
            "--readers" => arguments.readers = value.parse()?,
            "--seconds" => arguments.seconds = value.parse()?,
            "--rounds" => arguments.rounds = value.parse()?,
            "--umadb-cache-mb" => arguments.umadb_cache_mb = value.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    let Arguments { readers, seconds, rounds, umadb_cache_mb, .. } = arguments;
    if readers == 0 || seconds == 0 || rounds == 0 || umadb_cache_mb == 0 {
        return Err("readers, seconds, rounds and the cache are at least 1".into());
    }
    Ok(arguments)
}

/// Appends what the store does not have yet, so that a filling that was interrupted goes on.
fn fill(subject: Subject, arguments: &Arguments, workload: Workload) -> Result<(), Failure> {
    let directory = subject.directory(arguments);
    std::fs::create_dir_all(&directory)?;
    let store = subject.open(&directory)?;
    let there = store.head()?;
    let begun = Instant::now();
    for numbers in workload.appends(there) {
        store.append(workload, numbers)?;
    }
    let there_now = store.head()?;
    store.settle()?;
    store.close()?;
    if there_now != workload.events() {
        return Err(format!("{} has {there_now} events", directory.display()).into());
    }
    if there_now > there {
        let (count, name) = (there_now - there, subject.name());
        println!("{name}: {count} events filled in {:.1} s", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

fn measure(
    subject: Subject,
    round: u64,
    order: &[u64],
    arguments: &Arguments,
    workload: Workload,
) -> Result<Figures, Failure> {
    let directory = subject.directory(arguments);
    let (name, dropped) = (subject.name(), cache::drop_files(&directory)?);
    println!("round {round}, {name}: {dropped}");
    let begun = Instant::now();
    let store = subject.open(&directory)?;
    let opening = begun.elapsed();
    let patience = Duration::from_secs(arguments.seconds);
    let pass = |tags| readers::pass(store.as_ref(), workload, tags, arguments.readers, patience);
    let before = cache::bytes_read()?;
    let cold = pass(order)?;
    let read_bytes = cache::bytes_read()? - before;
    let hot = pass(&order[..cold.queries()])?;
    store.close()?;
    Ok(Figures { store: name, round, opening, cold, read_bytes, hot })
}

fn report(arguments: &Arguments, subjects: &[Subject], found: &[Figures]) {
    println!(
        "\n{} events, {} readers, {} s; UmaDB's cache: {} MB\n\
         {:<24} {:>6} {:>10} {:>8} {:>12} {:>10} {:>10} {:>12} {:>10}",
        arguments.events,
        arguments.readers,
        arguments.seconds,
        arguments.umadb_cache_mb,
        "store",
        "round",
        "opening ms",
        "queries",
        "cold ev/s",
        "p50 us",
        "read KiB",
        "hot ev/s",
        "p50 us",
    );
    for figures in found {
        let queries = figures.cold.queries() as u64;
        println!(
            "{:<24} {:>6} {:>10.1} {queries:>8} {:>12.0} {:>10.1} {:>10.1} {:>12.0} {:>10.1}",
            figures.store,
            figures.round,
            figures.opening.as_secs_f64() * 1e3,
            figures.cold.events_per_second(),
            figures.cold.p50_us(),
            readers::ratio(figures.read_bytes, queries << 10),
            figures.hot.events_per_second(),
            figures.hot.p50_us(),
        );
    }
    let medians = |figure: fn(&Figures) -> f64| {
        let of = |subject: &Subject| {
            let rounds = found.iter().filter(|figures| figures.store == subject.name());
            (readers::median(rounds.map(figure).collect()), subject.name())
        };
        subjects.iter().map(of).collect::<Vec<_>>()
    };
    compare("cold, events/s", &medians(|figures| figures.cold.events_per_second()));
    compare("hot, queries/s of one reader by p50", &medians(|figures| 1e6 / figures.hot.p50_us()));
}

/// Compares the first with the best of the others, of medians of which more is better.
fn compare(what: &str, medians: &[(f64, &str)]) {
    let Some(((ours, name), others)) = medians.split_first() else { return };
    let best = others.iter().max_by(|one, other| one.0.total_cmp(&other.0));
    if let Some((theirs, other)) = best {
        println!("{what}: {name} {ours:.0}, {other} {theirs:.0}, ratio {:.2}", ours / theirs);
    }
}
