//! Measures event stores under load, against what the device does by itself.
//!
//! The rooms: `cli` is what can be asked for; `workload` what is appended; `clients` who appends, and how
//! each waits; `target` the stores; `ceiling` what the device does; `run`, `read` and `tour` put them
//! together; `acks`, `verify` and `dump` say whether anything was lost, `snapshots` whether states are
//! right, and `projections` whether read models are; `report` shows the figures.

#![expect(clippy::cast_precision_loss, reason = "figures to look at, far below 2^53")]

mod acks;
mod ceiling;
mod cli;
mod clients;
mod dump;
mod folder;
mod process;
mod projections;
mod read;
mod report;
mod run;
mod snapshots;
mod target;
mod tour;
mod verify;
mod workload;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser as _;

use crate::ceiling::{Ceiling, Extent};
use crate::cli::{Arguments, Command, StoreName};
use crate::folder::Folder;
use crate::read::open;
use crate::report::environment::Environment;
use crate::report::json::Report;
use crate::report::table;
use crate::target::stratalog::Stratalog;

/// What every part can fail with; it is only ever shown.
type AnyError = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Calls a function for the store that is asked for.
macro_rules! with_store {
    ($name:expr, $function:ident :: $item:ident ( $($argument:expr),* )) => {
        match $name {
            StoreName::Stratalog => $function::$item::<Stratalog>($($argument),*),
            #[cfg(feature = "sqlite")]
            StoreName::Sqlite => $function::$item::<target::sqlite::Sqlite>($($argument),*),
            StoreName::None => $function::$item::<target::none::NoStore>($($argument),*),
        }
    };
}

/// Does what is asked for. Says whether everything was as it should be.
fn start(arguments: &Arguments) -> Result<bool, AnyError> {
    match &arguments.command {
        Some(Command::Run(run)) => with_store!(run.place.store, run::run(run)),
        Some(Command::Dump(dump)) => {
            with_store!(dump.store, dump::dump(&dump.dir, dump.recover)).map(|()| true)
        }
        Some(Command::Ceiling(arguments)) => measure_ceiling(arguments).map(|()| true),
        Some(Command::Read(read)) => with_store!(read.place.store, read::run(read)).map(|()| true),
        Some(Command::AppendUntilKilled(child)) => {
            with_store!(child.store, open::append_until_killed(&child.dir)).map(|()| true)
        }
        None => tour::tour(&arguments.tour),
    }
}

fn measure_ceiling(arguments: &cli::Ceiling) -> Result<(), AnyError> {
    let folder = Folder::open(Some(&arguments.dir))?;
    let ceiling = Ceiling::measure(folder.path(), Extent::ALL)?;
    let mut report = Report { environment: Environment::of(folder.path()), ..Report::default() };
    report.workload.mode = "ceiling";
    report.environment.backend = Some(ceiling.disk.clone());
    report.compare(&ceiling);
    println!("{}", table::report(&report));
    arguments.json.as_deref().map_or(Ok(()), |path| report.write(path))
}
