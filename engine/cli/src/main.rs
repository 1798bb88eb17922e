//! The `stratalog` command: arguments, exit statuses, and how errors are told.
//!
//! Owns what the user types and what the shell gets back. Calls one module for each subcommand.

mod changes;
mod events;
mod export;
mod filters;
mod import;
mod line;
mod output;
mod progress;
mod query;
mod snapshots;
mod stats;
mod tail;
mod time;
mod verify;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

/// The variable that says which of the store's own messages are shown on stderr.
const LOG_VARIABLE: &str = "STRATALOG_LOG";

/// What clap ends with as well, where the arguments are wrong.
const USAGE_STATUS: u8 = 2;

/// Imports into, exports from, queries, follows and looks after stratalog event stores.
///
/// Exit status: 0 for good, 1 for damage, refusal or bad input, 2 for wrong usage. Everything but
/// `import`, `snapshots DIR compact` and `snapshots DIR drop` only reads, and works beside a program that
/// writes to the store. `STRATALOG_LOG` (off, error, warn, info, debug, trace; default warn) says which
/// messages of the store are shown on stderr.
#[derive(Debug, Parser)]
#[command(name = "stratalog", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Appends the events of a file in JSON Lines, each line on its own.
    ///
    /// A line is an object with `stream`, `type`, `timestamp` (RFC 3339) and `data` (any JSON; its text
    /// is kept). It may have `id`, `correlation_id` and `causation_id` (UUIDs), `tags` (an array of
    /// strings) and `metadata` (any JSON; its text is kept). `data_base64` and `metadata_base64` stand
    /// for bytes that are no JSON. Of what `export` adds, `version` must be the line's own version, and
    /// `position` is ignored: the store gives positions anew. Other fields, and fields that are there
    /// twice, are errors, and so are blank lines and lines of more than 32 MiB.
    ///
    /// The n-th line of a stream is that stream's version n, counted from 0. Where the store has that
    /// version and it is equal, the line is skipped; where it differs, the import stops. So an import
    /// that was interrupted is resumed by running it again. A broken line stops the import before that
    /// line; everything before it is in the store. Memory grows with the number of streams in the file,
    /// not with its length.
    Import {
        /// The store's directory; made where there is none.
        dir: PathBuf,
        /// The file to read, or `-` for stdin.
        file: PathBuf,
    },
    /// Prints events in JSON Lines, in the order of the log.
    ///
    /// Each line has `position`, `stream`, `version`, `type`, `timestamp` (when it occurred; where that
    /// was not said, when it was recorded), `id`, where they were given `correlation_id`,
    /// `causation_id`, `tags` and `metadata`, and `data`. Bytes that are no JSON are printed as
    /// `metadata_base64` and `data_base64`. Text is printed as it was given, but line breaks between
    /// the tokens of `data` become spaces.
    Export {
        /// The store's directory.
        dir: PathBuf,
        /// Prints this stream only.
        #[arg(long, value_name = "S")]
        stream: Option<String>,
        /// Prints events at this position and behind it only.
        #[arg(long, value_name = "P", default_value_t = 0)]
        from: u64,
    },
    /// Prints the events that meet all conditions, in the lines of `export`.
    ///
    /// Without a condition it prints everything. Several types are alternatives; tags must all be there.
    /// `--since` goes by when an event was recorded, which is what the order of the log goes by too, and
    /// not by when it occurred, which its `timestamp` may say.
    Query {
        /// The store's directory.
        dir: PathBuf,
        #[command(flatten)]
        conditions: query::Conditions,
    },
    /// Prints the last events that meet all conditions, or those from a position on, in the lines of `export`.
    ///
    /// With `--follow` it then prints what is appended, as it becomes durable, also by another process, and also when
    /// that closes the store and opens it again; every line is written out within a moment. It ends when it is
    /// interrupted, and, with status 0, when nobody reads its output any more. To go on later where it ended, give
    /// `--from` the position behind that of the last line.
    Tail {
        /// The store's directory.
        dir: PathBuf,
        #[command(flatten)]
        wanted: tail::Wanted,
    },
    /// Prints figures about a store.
    Stats {
        /// The store's directory.
        dir: PathBuf,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Checks all that is stored of the log and its indexes, and changes nothing.
    ///
    /// Reads it from the disk, past the page cache: every checksum, the chain of batches, the footers
    /// and every index entry. Exit status 1 where something is not as it should be. Snapshots, which are
    /// caches, are checked by `snapshots DIR verify`.
    Verify {
        /// The store's directory.
        dir: PathBuf,
        /// Prints one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Lists, checks, compacts and drops the snapshots of folded states.
    ///
    /// Snapshots are caches: whatever becomes of them, no event is lost, and every state is loaded, though
    /// it may take longer.
    Snapshots {
        /// The store's directory.
        dir: PathBuf,
        #[command(subcommand)]
        action: snapshots::Action,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(message) = log_to_stderr() {
        eprintln!("error: {message}");
        return ExitCode::from(USAGE_STATUS);
    }
    match run(&arguments.command) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("error: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Import { dir, file } => import::run(dir, file)?,
        Command::Export { dir, stream, from } => export::run(dir, stream.as_deref(), *from)?,
        Command::Query { dir, conditions } => query::run(dir, conditions)?,
        Command::Tail { dir, wanted } => tail::run(dir, wanted)?,
        Command::Stats { dir, json } => stats::run(dir, *json)?,
        Command::Verify { dir, json } => return Ok(status(verify::run(dir, *json)?)),
        Command::Snapshots { dir, action } => return Ok(status(snapshots::run(dir, action)?)),
    }
    Ok(ExitCode::SUCCESS)
}

fn status(is_clean: bool) -> ExitCode {
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn log_to_stderr() -> Result<(), String> {
    let level = match std::env::var_os(LOG_VARIABLE) {
        None => LevelFilter::WARN,
        Some(text) => text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
            format!(
                "{LOG_VARIABLE} is {}; it may be off, error, warn, info, debug or trace",
                text.display()
            )
        })?,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .init();
    Ok(())
}

/// An error with its causes. Some errors tell their cause in their own text; it is not told twice.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": caused by ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Told>>,
    }

    #[test]
    fn the_arguments_are_well_formed() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn causes_are_told_once() {
        let told = |text, source: Option<Told>| Told { text, source: source.map(Box::new) };
        let error = told("reading x failed: no disk", Some(told("no disk", None)));
        assert_eq!(chain(&error), "reading x failed: no disk");
        let error = told("the import stopped", Some(error));
        assert_eq!(chain(&error), "the import stopped: caused by reading x failed: no disk");
    }
}
