//! Measures stratalog under a small fixed load, against what the device does by itself.
//!
//! Each load runs on a store of its own in a temporary folder, which is removed afterwards. Between the
//! loads the device's ceiling is measured in the same folder, so that a figure always has the device's
//! beside it.

#![expect(clippy::cast_precision_loss, reason = "figures to look at, far below 2^53")]

mod ceiling;
mod load;
mod report;
mod verify;
mod workload;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use stratalog::Store;

use crate::ceiling::Ceiling;
use crate::load::{LOADS, Load, Measured};

/// What every part of a run can fail with; it is only ever shown.
type AnyError = Box<dyn Error + Send + Sync>;

/// Appends small events to a temporary store and compares the rate with the device's own.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How long each load runs.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// After each load, read everything back and compare it with what was acknowledged. The
    /// bookkeeping takes a little of the rate.
    #[arg(long)]
    verify: bool,
    /// Where the temporary folder is made.
    #[arg(long, value_name = "PATH", default_value = ".")]
    dir: PathBuf,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("it must be from 0.1 to 3600".to_owned())
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), AnyError> {
    let folder = tempfile::Builder::new().prefix("loadgen-").tempdir_in(&arguments.dir)?;
    let duration = Duration::from_secs_f64(arguments.seconds);
    let scratch = folder.path().join("ceiling");
    let mut before = ceiling::measure(&scratch)?;
    report::heading(&before, arguments.seconds);
    for load in &LOADS {
        let path = folder.path().join("store");
        let (measured, log_bytes_per_event) = run_load(load, &path, duration, arguments.verify)?;
        // The next load gets the whole device and none of this one's files.
        std::fs::remove_dir_all(&path)?;
        let after = ceiling::measure(&scratch)?;
        let around = Ceiling::around(&before, &after);
        report::row(load, &measured, log_bytes_per_event, &around);
        before = after;
    }
    report::reading(arguments.verify);
    folder.close()?;
    Ok(())
}

/// Runs a load on a store of its own, and checks what it left.
fn run_load(
    load: &Load,
    path: &Path,
    duration: Duration,
    verify: bool,
) -> Result<(Measured, f64), AnyError> {
    let store = Store::open(path)?;
    let measured = load.run(&store, duration, verify)?;
    let stats = store.stats()?;
    if stats.events != measured.events {
        let acknowledged = measured.events;
        return Err(format!("{acknowledged} events acknowledged, {} stored", stats.events).into());
    }
    store.close()?;
    if verify {
        let store = Store::options().open_read_only(path)?;
        verify::check(&store, &measured.ledger)
            .map_err(|error| format!("{}: {error}", load.name))?;
    }
    Ok((measured, stats.log_bytes_per_event()))
}
