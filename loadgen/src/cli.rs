//! The command line.
//!
//! Owns what a user can ask for, with defaults and bounds. `main` calls it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use stratalog::SnapshotOptions;
use stratalog::limits::{SNAPSHOT_MEMORY_MAX, SNAPSHOT_MEMORY_MIN, TAGS_MAX};

use crate::projections::PROJECTIONS_MAX;

/// Measures an event store under load, against what the device does by itself.
///
/// Without a subcommand it gives a tour of about half a minute: the device's ceiling, five ways to append,
/// a scan, streams read at random, and opening after a kill.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub tour: Tour,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Args)]
pub(crate) struct Tour {
    /// How long each part of the tour runs.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = duration)]
    pub seconds: Duration,
    /// After each way to append, read everything back and compare it with what was acknowledged.
    #[arg(long)]
    pub verify: bool,
    /// Where the tour's temporary folder is made.
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Appends, and measures it.
    Run(Box<Run>),
    /// Reads, or opens after a kill, and measures it.
    Read(Read),
    /// Measures the device and the memory by themselves.
    Ceiling(Ceiling),
    /// Prints `R stream version crc32` for every event of a store, in order, then `END`.
    Dump(Dump),
    /// Appends until it is killed: the child of `read --mode open`.
    #[command(hide = true)]
    AppendUntilKilled(AppendUntilKilled),
}

/// The stores that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreName {
    /// The store of this project.
    Stratalog,
    /// WAL, synchronous FULL, a writer thread that batches.
    #[cfg(feature = "sqlite")]
    Sqlite,
    /// No store: every append is acknowledged at once, which shows what the load generator takes
    /// itself. With exact expectations only.
    None,
}

impl StoreName {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stratalog => "stratalog",
            #[cfg(feature = "sqlite")]
            Self::Sqlite => "sqlite",
            Self::None => "none",
        }
    }
}

/// What is expected of a stream at each append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Expected {
    /// Nothing.
    Any,
    /// The version that the client knows, or no stream for its first event. After a conflict, the version that the
    /// stream will have with what is on its way.
    Exact,
    /// As `exact`, but after a conflict the version up to which events can be read already, as of a client that decides
    /// by them.
    Decided,
}

/// The condition that each append has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConditionName {
    /// No condition.
    None,
    /// No event behind the newest position that is known of one of 100,000 tags, chosen at random, has that tag.
    After,
    /// No event has the tag, which is a fresh one.
    Exists,
}

impl ConditionName {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::After => "after",
            Self::Exists => "exists",
        }
    }
}

/// Where the store is, and where figures go.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The store's directory, which is kept; without it, a temporary folder in the working directory.
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Which store.
    #[arg(long, value_name = "NAME", default_value = "stratalog")]
    pub store: StoreName,
    /// Writes the figures to this file, as one JSON object.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Leaves the ceiling out.
    #[arg(long)]
    pub no_ceiling: bool,
}

/// Each client has streams of its own, every stream whose number is the client's modulo their count, so
/// that it knows their versions. Only where there are fewer streams than clients do clients share them;
/// then exact expectations conflict, and are tried again.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub place: Place,

    /// Threads that block for each append [default: 64].
    #[arg(long, value_name = "N", value_parser = count, group = "clients")]
    pub writers: Option<usize>,
    /// tokio tasks that await each append.
    #[arg(long, value_name = "N", value_parser = count, group = "clients")]
    pub tasks: Option<usize>,
    /// Threads that keep appends on their way.
    #[arg(long, value_name = "N", value_parser = count, group = "clients")]
    pub producers: Option<usize>,
    /// How many appends each producer keeps on their way.
    #[arg(long, value_name = "N", value_parser = count, default_value_t = 1024)]
    pub inflight: usize,
    /// Sends this many appends a second, all clients together, whether the store keeps up or not;
    /// latencies count from the time when each was to be sent.
    #[arg(long, value_name = "R", value_parser = positive)]
    pub rate: Option<f64>,

    /// The length of a payload.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = payload)]
    pub payload: usize,
    /// Appends values of a type, with two texts and a list, whose archives are as long as `--payload` says, or up to 7
    /// bytes shorter: they are multiples of 8. Each is encoded when it is appended; where events have tags, conditions or
    /// ids of the client's, an event is made of it first.
    #[arg(long)]
    pub typed: bool,
    /// Folds the events of each stream into a state of 4 KiB, of texts and maps, and has a snapshot of it taken in the
    /// background each N events of a stream, which is asked for whenever an append was acknowledged. States are folded
    /// from types: it needs `--typed`, and what it is compared with is the same load without `--snapshots`. Only for
    /// stratalog. With `--verify`, the state of each stream is compared with what all of its events come to.
    #[arg(long, value_name = "every=N", value_parser = every, requires = "typed")]
    pub snapshots: Option<u64>,
    #[command(flatten)]
    pub snapshot_settings: SnapshotSettings,
    /// Writes a line of CSV for each second to this file: how many events were acknowledged, the latencies of that second
    /// once it counts, and what there is of snapshots.
    #[arg(long, value_name = "FILE", requires = "snapshots")]
    pub snapshot_log: Option<PathBuf>,
    /// Has N projections follow the log meanwhile, 16 at most, each of which counts the events by type and by stream, in one
    /// lane, and is saved as the store does by default. Only for stratalog. Afterwards it is measured how long they take
    /// until they have counted everything. With `--verify`, the counts of each are compared with what the log has.
    #[arg(long, value_name = "N", value_parser = projections)]
    pub projections: Option<usize>,
    /// K of the projections do about ten times as much for each event: after counting it they compute something, for nine
    /// times as long as counting one takes a thread that has a processor for itself, which is measured before the load.
    #[arg(long, value_name = "K", value_parser = projections, requires = "projections")]
    pub slow: Option<usize>,
    /// Events in an append; a latency is that of an append.
    #[arg(long, value_name = "N", value_parser = count, default_value_t = 1)]
    pub batch: usize,
    /// How many streams there are.
    #[arg(long, value_name = "N", value_parser = count, default_value_t = 10_000)]
    pub streams: usize,
    /// Chooses streams by Zipf's law with this exponent [default: uniform].
    #[arg(long, value_name = "THETA", value_parser = theta)]
    pub zipf: Option<f64>,
    /// What is expected of a stream at each append.
    #[arg(long, value_name = "WHAT", default_value = "exact")]
    pub expect: Expected,
    /// Threads that read whole streams at random meanwhile.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = count_or_none)]
    pub readers: usize,
    /// How many different tags each event has, out of 100,000 at random; at most 64.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = tags)]
    pub tags: usize,
    /// The condition that each append has. All of its events have the tag that it is about, before those of `--tags`.
    #[arg(long, value_name = "WHAT", default_value = "none")]
    pub condition: ConditionName,
    /// So many percent of the appends are sent twice with the same event ids, and are to be recognised: by producers
    /// while the first is on its way, by others once it was acknowledged. All events have ids of the client's then,
    /// UUIDs of version 7. What is recognised is no event, and its latency is not counted.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    pub retries: f64,
    /// Fills the store with so many events first, in other streams, each with one of the tags of `--tags`.
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with_all = ["verify", "input"])]
    pub fill: u64,
    /// Threads that query one of those tags at random meanwhile, and read all events that have it. What
    /// finds no event is not counted.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = count_or_none)]
    pub queries: usize,
    /// Replays a log in JSON Lines (`stream`, `type`, `timestamp`, `data`), each stream in its order,
    /// and ends with the file; there is no warm-up then.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "typed", "snapshots", "batch", "streams", "zipf", "tags", "condition", "retries", "warmup"])]
    pub input: Option<PathBuf>,
    /// What is random begins with this number.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// How long it counts, in seconds [default: 10, or to the end of the input].
    #[arg(long, value_name = "S", value_parser = duration)]
    pub duration: Option<Duration>,
    /// How long it runs before it counts, in seconds.
    #[arg(long, value_name = "S", default_value = "1", value_parser = duration_or_none)]
    pub warmup: Duration,
    /// Ends early when this many bytes of payloads were acknowledged, or of the log were written.
    #[arg(long, value_name = "B", default_value_t = 8 << 30)]
    pub max_bytes: u64,

    /// Afterwards reads everything back and compares it with what was acknowledged.
    #[arg(long)]
    pub verify: bool,
    /// Writes a line `S stream version crc32` before an event is appended and `A stream version crc32`
    /// once it is acknowledged, to this file or, for `-`, to stdout; the report goes to stderr then.
    #[arg(long, value_name = "FILE")]
    pub acks: Option<PathBuf>,
    /// Writes the distribution of latencies to this file, as percentiles in nanoseconds.
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
}

/// How the store keeps snapshots.
#[derive(Debug, Clone, Copy, Default, Args)]
pub(crate) struct SnapshotSettings {
    /// How much memory snapshots may take, in MiB [default: the store's].
    #[arg(long, value_name = "MIB", value_parser = snapshot_memory)]
    pub snapshot_memory: Option<u64>,
    /// How many MiB a second the compaction of snapshots reads at most [default: the store's].
    #[arg(long, value_name = "MIB", value_parser = snapshot_rate)]
    pub snapshot_rate: Option<u64>,
}

impl SnapshotSettings {
    /// Whether any was given.
    pub(crate) fn is_given(&self) -> bool {
        self.snapshot_memory.or(self.snapshot_rate).is_some()
    }

    /// What the store is opened with.
    pub(crate) fn options(&self) -> SnapshotOptions {
        let mut options = SnapshotOptions::new();
        if let Some(bytes) = self.memory_bytes() {
            options = options.memory_bytes(bytes);
        }
        if let Some(bytes) = self.rate_bytes() {
            options = options.compaction_rate(bytes);
        }
        options
    }

    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.snapshot_memory.map(|mebibytes| mebibytes << 20)
    }

    /// Of a second.
    pub(crate) fn rate_bytes(&self) -> Option<u64> {
        self.snapshot_rate.map(|mebibytes| mebibytes << 20)
    }
}

/// What `read` measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Reading the whole log, one thread, hot.
    Scan,
    /// Reading whole streams at random, one thread.
    Streams,
    /// Querying tags at random that have 10 events each, scattered over the log. An empty store is filled
    /// with such events.
    Queries,
    /// Opening after a kill in the middle of writing.
    Open,
    /// Loading states of 4 KiB from the snapshots of their streams, and, in between, the same from all of their events. An
    /// empty store is filled with typed events, and a snapshot of each stream is taken. Hot; with `--streams`, of streams
    /// at random, out of 100,000 where there are more. Only for stratalog.
    Loads,
}

impl Mode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Streams => "streams",
            Self::Queries => "queries",
            Self::Open => "open",
            Self::Loads => "loads",
        }
    }
}

/// What payloads are read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Payload {
    /// Bytes, of which each is read.
    Bytes,
    /// The type of `run --typed`: each value is checked, and every field read.
    Typed,
    /// The same without a check. The first scan, which does not count, has checked all of them.
    Unchecked,
}

impl Payload {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Typed => "typed",
            Self::Unchecked => "unchecked",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Read {
    #[command(flatten)]
    pub place: Place,
    /// How many events an empty store is filled with first [default: 1000000; with `--mode loads`, see there].
    #[arg(long, value_name = "N", value_parser = fill)]
    pub fill: Option<u64>,
    /// How many streams they are in, in turns [default: 10000, or 1 with `--mode loads`].
    #[arg(long, value_name = "N", value_parser = count)]
    pub streams: Option<usize>,
    /// With `--mode loads`, how many events each stream has [default: 100000, or 4 with `--streams`].
    #[arg(long, value_name = "N", value_parser = fill)]
    pub stream_events: Option<u64>,
    /// With `--mode loads`, how many of them came after the stream's snapshot [default: 100, or 0 with `--streams`].
    #[arg(long, value_name = "N", value_parser = count_or_none)]
    pub behind: Option<usize>,
    #[command(flatten)]
    pub snapshot_settings: SnapshotSettings,
    /// The length of their payloads.
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = payload)]
    pub payload_bytes: usize,
    /// What a scan reads payloads as. Other than as bytes, an empty store is filled with typed events.
    #[arg(long, value_name = "WHAT", default_value = "bytes")]
    pub payload: Payload,
    /// What is measured.
    #[arg(long, value_name = "MODE")]
    pub mode: Mode,
    /// How long scans, streams and queries are read, and states are loaded, in seconds.
    #[arg(long, value_name = "S", default_value = "3", value_parser = duration)]
    pub duration: Duration,
    /// Threads that query, with `--mode queries` [default: 1].
    #[arg(long, value_name = "N", value_parser = count)]
    pub readers: Option<usize>,
    /// With `--mode queries`, drops the page cache of the store's files first, and queries no tag twice;
    /// otherwise everything is read once before it counts.
    #[arg(long)]
    pub cold: bool,
    /// What is random begins with this number.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Ceiling {
    /// The folder to measure in, made where there is none; without it, the working directory.
    #[arg(long, value_name = "PATH", default_value = ".")]
    pub dir: PathBuf,
    /// Writes the figures to this file, as one JSON object.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// The store's directory.
    pub dir: PathBuf,
    /// Which store.
    #[arg(long, value_name = "NAME", default_value = "stratalog")]
    pub store: StoreName,
    /// Opens it for writing first, which recovers it after a crash; otherwise nothing is changed.
    #[arg(long)]
    pub recover: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AppendUntilKilled {
    pub dir: PathBuf,
    #[arg(long, default_value = "stratalog")]
    pub store: StoreName,
}

/// From the command line's bounds, a stream's or an event's number fits into 32 bits.
const COUNT_MAX: usize = 100_000_000;
const PAYLOAD_BYTES_MAX: usize = 15 << 20;

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no such number"))
}

fn within<T: PartialOrd + std::fmt::Display>(value: T, from: &T, to: &T) -> Result<T, String> {
    if value >= *from && value <= *to {
        Ok(value)
    } else {
        Err(format!("it must be from {from} to {to}"))
    }
}

fn count(text: &str) -> Result<usize, String> {
    within(number(text)?, &1, &COUNT_MAX)
}

fn count_or_none(text: &str) -> Result<usize, String> {
    within(number(text)?, &0, &COUNT_MAX)
}

fn fill(text: &str) -> Result<u64, String> {
    within(number(text)?, &1, &u64::from(u32::MAX))
}

fn payload(text: &str) -> Result<usize, String> {
    within(number(text)?, &0, &PAYLOAD_BYTES_MAX)
}

fn tags(text: &str) -> Result<usize, String> {
    within(number(text)?, &0, &TAGS_MAX)
}

fn percent(text: &str) -> Result<f64, String> {
    within(number(text)?, &0.0, &100.0)
}

fn projections(text: &str) -> Result<usize, String> {
    within(number(text)?, &1, &PROJECTIONS_MAX)
}

fn every(text: &str) -> Result<u64, String> {
    let events = text.strip_prefix("every=").ok_or("it must be every=N")?;
    within(number(events)?, &1, &u64::from(u32::MAX))
}

fn snapshot_memory(text: &str) -> Result<u64, String> {
    within(number(text)?, &(SNAPSHOT_MEMORY_MIN >> 20), &(SNAPSHOT_MEMORY_MAX >> 20))
}

fn snapshot_rate(text: &str) -> Result<u64, String> {
    within(number(text)?, &1, &(1 << 20))
}

fn positive(text: &str) -> Result<f64, String> {
    within(number(text)?, &0.001, &1e9)
}

fn theta(text: &str) -> Result<f64, String> {
    within(number(text)?, &0.0, &10.0)
}

fn duration(text: &str) -> Result<Duration, String> {
    within(number(text)?, &0.1, &1e6).map(Duration::from_secs_f64)
}

fn duration_or_none(text: &str) -> Result<Duration, String> {
    within(number(text)?, &0.0, &1e6).map(Duration::from_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn kinds_of_clients_exclude_each_other() {
        let parse = |words: &str| Arguments::try_parse_from(words.split(' '));
        assert!(parse("loadgen run --writers 2").is_ok());
        assert!(parse("loadgen run --writers 2 --tasks 2").is_err());
        assert!(parse("loadgen run --input x --payload 3").is_err());
        assert!(parse("loadgen run --input x --tags 3").is_err());
        assert!(parse("loadgen run --input x --typed").is_err());
        assert!(parse("loadgen run --typed --tags 3").is_ok());
        assert!(parse("loadgen run --tags 64").is_ok());
        assert!(parse("loadgen run --typed --snapshots every=50 --snapshot-log x").is_ok());
        for refused in [
            "--snapshots every=50",
            "--typed --snapshots 50",
            "--typed --snapshots every=0",
            "--typed --snapshot-log x",
            "--typed --snapshots every=5 --snapshot-memory 3",
            "--typed --snapshots every=5 --snapshot-rate 0",
            "--input x --snapshots every=5",
        ] {
            assert!(parse(&format!("loadgen run {refused}")).is_err(), "{refused}");
        }
        for accepted in
            ["--projections 1", "--projections 16 --slow 16", "--input x --projections 2"]
        {
            assert!(parse(&format!("loadgen run {accepted}")).is_ok(), "{accepted}");
        }
        for refused in
            ["--projections 0", "--projections 17", "--slow 1", "--projections 2 --slow 0"]
        {
            assert!(parse(&format!("loadgen run {refused}")).is_err(), "{refused}");
        }
        assert!(parse("loadgen run --tags 65").is_err());
        assert!(parse("loadgen run --duration 0").is_err());
        assert!(parse("loadgen --seconds 2 --verify --dir x").is_ok());
    }
}
