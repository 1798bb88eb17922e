//! The tour: what `loadgen` does without a subcommand, in about half a minute.
//!
//! Owns which loads it shows. Calls `run` and `read` for each, on new stores in one temporary folder.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;

use crate::AnyError;
use crate::ceiling::{Ceiling, Extent};
use crate::cli::{Arguments, Command, Mode, Payload, StoreName, Tour};
use crate::folder::Folder;
use crate::read::{self, Plan, States};
use crate::report::environment::Environment;
use crate::report::json::Report;
use crate::report::table::{self, Line};
use crate::run;
use crate::target::stratalog::Stratalog;

/// The ways to append that are shown: each is what `loadgen run` would be given.
const APPENDS: [(&str, &str); 4] = [
    ("append: 1 writer", "--writers 1"),
    ("append: 64 writers", "--writers 64"),
    ("append: 1,024 tasks", "--tasks 1024"),
    ("append: 1 producer, 8,192 in flight", "--producers 1 --inflight 8192"),
];
/// The ways to read.
const READS: [(&str, Mode); 3] = [
    ("read: scan, one thread", Mode::Scan),
    ("read: streams of 100 at random", Mode::Streams),
    ("open after a kill", Mode::Open),
];
/// How long each load runs before it counts.
const WARMUP_SECONDS: &str = "0.5";

const READING: &str = "How to read it: compare the ratios, not the rates, and only in rows whose ceiling was stable: \
p50 / ceiling is how many durable 4 KiB writes of this device fit into the median append, events / write how \
many events become durable for each such write that the device could make meanwhile, and MB/s / ceiling the \
part of the device's bandwidth that payloads reach (for the scan, the part of the memory's).";

/// Gives the tour. Says whether everything that was verified was there.
pub(crate) fn tour(tour: &Tour) -> Result<bool, AnyError> {
    let folder = Folder::temporary(&tour.dir)?;
    let store = folder.path().join("store");
    let measure = |memory| Ceiling::measure(folder.path(), Extent { memory, ..Extent::SHORT });
    let mut before = measure(false)?;
    let mut environment = Environment::of(folder.path());
    environment.backend = Some(before.disk.clone());
    let seconds = tour.seconds.as_secs_f64();
    println!("{}", environment.describe());
    println!("256-byte payloads, 10,000 streams, exact expected versions, {seconds} s each");
    println!("{}", ceiling_line(&before));
    let mut lines = Vec::new();
    for (name, words) in APPENDS {
        eprintln!("{name} ...");
        let mut report = append(words, tour, &store)?;
        let after = measure(false)?;
        report.compare(&Ceiling::around(&before, &after));
        before = after;
        lines.push(Line { name, report });
    }
    lines.extend(read(tour.seconds, &store, measure)?);
    println!("{}\n\n{READING}", table::tour(&lines));
    folder.close()?;
    Ok(lines.iter().all(|line| line.report.verified != Some(false)))
}

/// Runs a load on a store of its own, which is removed afterwards.
fn append(words: &str, tour: &Tour, store: &Path) -> Result<Report, AnyError> {
    let seconds = tour.seconds.as_secs_f64().to_string();
    let fixed = ["loadgen", "run", "--duration", &seconds, "--warmup", WARMUP_SECONDS];
    let verify = tour.verify.then_some("--verify");
    let words = fixed.into_iter().chain(verify).chain(words.split(' '));
    let Some(Command::Run(arguments)) = Arguments::try_parse_from(words)?.command else {
        return Err("the tour runs a load".into());
    };
    std::fs::create_dir_all(store)?;
    let (report, _) = run::load::<Stratalog>(&arguments, store)?;
    std::fs::remove_dir_all(store)?;
    Ok(report)
}

/// Reads in each way from one store.
fn read(
    duration: Duration,
    store: &Path,
    measure: impl Fn(bool) -> Result<Ceiling, AnyError>,
) -> Result<Vec<Line>, AnyError> {
    let plan = |mode| Plan {
        store: StoreName::Stratalog,
        mode,
        fill: 1_000_000,
        streams: 10_000,
        payload_bytes: 256,
        payload: Payload::Bytes,
        duration,
        readers: 1,
        cold: false,
        seed: 1,
        states: States::default(),
    };
    eprintln!("filling a store to read ...");
    read::fill::<Stratalog>(&plan(Mode::Scan), store)?;
    let before = measure(true)?;
    let mut reports = Vec::new();
    for (name, mode) in READS {
        eprintln!("{name} ...");
        reports.push((name, read::measure::<Stratalog>(&plan(mode), store)?));
    }
    let around = Ceiling::around(&before, &measure(true)?);
    let lines = reports.into_iter().map(|(name, mut report)| {
        report.compare(&around);
        Line { name, report }
    });
    Ok(lines.collect())
}

fn ceiling_line(ceiling: &Ceiling) -> String {
    format!(
        "device ceiling at the start: {} durable 4 KiB writes/s, p50 {:.0} µs; 256 KiB x 4: {} MB/s",
        table::rounded(ceiling.write_4k_per_second),
        ceiling.write_4k_p50_ns / 1e3,
        table::megabytes(ceiling.write_256k_bytes_per_second),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_load_of_the_tour_is_one_that_can_be_asked_for() {
        for (_, words) in APPENDS {
            let words = ["loadgen", "run"].into_iter().chain(words.split(' '));
            assert!(Arguments::try_parse_from(words).is_ok());
        }
    }
}
