//! `loadgen run`: one load on a new store, and what came of it.
//!
//! Owns the order of things: ceiling, store, clients, ceiling, verification. `main` and the tour call it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use stratalog::limits::TAGS_MAX;
use stratalog::{Snapshots, Store};

use crate::AnyError;
use crate::acks::Acks;
use crate::ceiling::{Ceiling, Extent};
use crate::cli::{ConditionName, Expected, Run, StoreName};
use crate::clients::client::{Checks, Client, Habits, Repeats, Work, split};
use crate::clients::pacing::{Pace, Schedule, Slips};
use crate::clients::readers::Readers;
use crate::clients::window::{Clock, Latencies, Progress, Recorded, Recorder, latencies};
use crate::clients::{Kind, Running};
use crate::folder::Folder;
use crate::process;
use crate::projections::{self, Outcome, Plan, Projections};
use crate::read::fill;
use crate::report::environment::Environment;
use crate::report::json::{
    Append, Condition, Latency, Query, Read, Report, Resources, Retry, Workload,
};
use crate::report::live::Live;
use crate::report::percentiles;
use crate::report::table;
use crate::snapshots::{self, Log};
use crate::target::{self, Committed, Target};
use crate::verify::{self, Account};
use crate::workload::Payloads;
use crate::workload::conditions::Conditions;
use crate::workload::input::Input;
use crate::workload::streams::{Choice, Names, Share};
use crate::workload::tags::Tagging;

/// How long a load counts where nothing else is said.
const DURATION: Duration = Duration::from_secs(10);
/// How often it is looked at how far a load is.
const LOOK: Duration = Duration::from_millis(25);
/// How often that is shown.
const LOOKS_BETWEEN_SHOWS: u32 = 8;
/// How many writers there are where no clients are asked for.
const WRITERS: usize = 64;

/// Runs it as the command line says. Says whether everything was as it should be.
pub(crate) fn run<T: Target>(arguments: &Run) -> Result<bool, AnyError> {
    let place = &arguments.place;
    let folder = Folder::create(place.dir.as_deref())?;
    let measure = || Ceiling::measure(folder.path(), Extent::DEVICE);
    let before = if place.no_ceiling { None } else { Some(measure()?) };
    let (mut report, latency) = load::<T>(arguments, folder.path())?;
    if let Some(before) = before {
        report.compare(&Ceiling::around(&before, &measure()?));
    }
    let text = table::report(&report);
    if arguments.acks.as_ref().is_some_and(|path| path.as_os_str() == "-") {
        eprintln!("{text}");
    } else {
        println!("{text}");
    }
    if let Some(path) = &place.json {
        report.write(path)?;
    }
    if let Some(path) = &arguments.hdr {
        percentiles::write(&latency, path)?;
    }
    folder.close()?;
    Ok(report.verified != Some(false))
}

/// The kind of clients that is asked for, and how many.
fn clients_of(arguments: &Run) -> (Kind, usize) {
    match (arguments.tasks, arguments.producers) {
        (Some(tasks), _) => (Kind::Tasks, tasks),
        (_, Some(producers)) => (Kind::Producers { inflight: arguments.inflight }, producers),
        _ => (Kind::Writers, arguments.writers.unwrap_or(WRITERS)),
    }
}

/// Runs the load on a new store in a folder, and verifies it.
pub(crate) fn load<T: Target>(
    arguments: &Run,
    folder: &Path,
) -> Result<(Report, Histogram<u64>), AnyError> {
    let (kind, count) = clients_of(arguments);
    let (names, work) = prepare(arguments, count)?;
    check(arguments, kind, arguments.input.is_some() || names.len() >= count)?;
    let plan = Plan::of(arguments, &names)?;
    process::forget_rss_peak();
    let acks = arguments.acks.as_deref().map(Acks::open).transpose()?;
    let (target, snapshots) = opened::<T>(arguments, folder)?;
    let projections = plan.map(|plan| Projections::start(plan, &target)).transpose()?;
    let backend = target.backend();
    let written_before = process::written_bytes()?;
    let duration = match (arguments.duration, &arguments.input) {
        (None, Some(_)) => None,
        (duration, _) => Some(duration.unwrap_or(DURATION)),
    };
    let warmup = if arguments.input.is_some() { Duration::ZERO } else { arguments.warmup };
    let latencies = latencies();
    let clients = made(arguments, &names, work, acks.as_ref(), &latencies);
    let progress: Vec<Arc<Progress>> =
        clients.iter().map(|client| Arc::clone(client.recorder.progress())).collect();
    let clock = Clock::start(warmup, duration);
    let Run { readers, queries, seed, .. } = *arguments;
    let readers = Readers::of_streams(readers, &target, &names, seed, &clock)?;
    let askers = Readers::of_tags(queries, &target, seed, &clock)?;
    let log = snapshots
        .clone()
        .zip(arguments.snapshot_log.as_deref())
        .map(|(snapshots, path)| Log::start(path, snapshots, &latencies, &progress, &clock))
        .transpose()?;
    let lag = projections.as_ref().map(|running| running.watch(&clock)).transpose()?;
    let running = Running::start(kind, &target, clients, &clock)?;
    let watched = watch(&target, &clock, &running, &progress, arguments.max_bytes);
    let joined = running.join();
    clock.end_now();
    let (read, asked) = (readers.join()?, askers.join()?);
    log.map_or(Ok(()), Log::join)?;
    let clients = joined?;
    let followed = projections.zip(lag);
    let followed = followed.map(|(running, lag)| running.finish(lag, arguments.verify));
    let (projections, outcomes) = followed.transpose()?.unwrap_or_default();
    let written = process::written_bytes()? - written_before;

    let mut recorded = Recorded::new();
    let (mut conflicts, mut slips) = (0, Slips::default());
    for client in &clients {
        recorded.add(&client.recorder)?;
        conflicts += client.conflicts();
        slips.add(client.slips());
    }
    let content = target.content()?;
    let end = if duration.is_none() { recorded.last } else { watched.end };
    let seconds = end.saturating_sub(clock.counts_from()) as f64 / 1e9;
    let rss_peak_bytes = process::rss_peak_bytes()?;
    let snapshots = snapshots::close(target, snapshots.as_ref())?;
    let appended = content.events.saturating_sub(arguments.fill);
    if appended != recorded.all.events {
        let (found, acknowledged) = (appended, recorded.all.events);
        return Err(format!("{acknowledged} events were acknowledged, {found} are there").into());
    }
    let with_states = arguments.snapshots.is_some();
    let verified =
        arguments.verify.then(|| verified::<T>(folder, &names, &clients, with_states, &outcomes));
    let committed = watched.after.minus(&watched.before);
    let per = |amount: f64, count: u64| (count > 0).then(|| amount / count as f64);
    let report = Report {
        store: Some(arguments.place.store.as_str()),
        workload: Workload {
            late: arguments.rate.map(|_| slips.late),
            skipped: arguments.rate.map(|_| slips.skipped),
            ended_early: Some(watched.full),
            ..workload(arguments, kind, count, names.len(), warmup)
        },
        environment: Environment { backend: Some(backend), ..Environment::of(folder) },
        append: Append {
            events: Some(recorded.counted.events),
            conflicts: Some(conflicts),
            seconds: Some(seconds),
            events_per_second: (seconds > 0.0).then(|| recorded.counted.events as f64 / seconds),
            bytes_per_second: (seconds > 0.0).then(|| recorded.counted.bytes as f64 / seconds),
            latency_ns: Latency::of(&recorded.latency),
            batch_events_mean: per(committed.events as f64, committed.batches),
            write_amplification: per(written as f64, recorded.all.bytes),
            log_bytes_per_event: per(content.log_bytes as f64, content.events),
        },
        condition: conditions(arguments, &clients),
        retry: retries(arguments, &clients),
        read: readers_read(arguments, &read, seconds),
        query: if queries > 0 { Query::of(&asked, seconds) } else { Query::default() },
        snapshots,
        projections,
        resources: Resources {
            cpu_seconds: Some(watched.after.cpu_seconds - watched.before.cpu_seconds),
            rss_peak_bytes: Some(rss_peak_bytes),
        },
        verified,
        ..Report::default()
    };
    Ok((report, recorded.latency))
}

/// A new store in a folder, filled as the command line says, and its snapshots, where some are asked for.
fn opened<T: Target>(arguments: &Run, folder: &Path) -> Result<(T, Option<Snapshots>), AnyError> {
    if arguments.fill > 0 {
        let Run { typed, payload, seed, .. } = *arguments;
        let payloads = Payloads::new(typed, payload, seed)?;
        fill::before_load::<T>(folder, arguments.fill, payloads, seed)?;
    }
    let target = match arguments.snapshots {
        None => T::open(folder)?,
        every => T::open_with_snapshots(folder, arguments.snapshot_settings.options(), every)?,
    };
    let snapshots = arguments.snapshots.map(|_| target.store().map(Store::snapshots));
    let snapshots = snapshots.transpose()?;
    Ok((target, snapshots))
}

/// The clients, each with its work. All memory is taken before the clock starts.
fn made(
    arguments: &Run,
    names: &Names,
    work: Vec<Work>,
    acks: Option<&Acks>,
    latencies: &Latencies,
) -> Vec<Client> {
    let count = work.len();
    let client = |(number, work)| {
        let share = match arguments.input {
            None => Share::of(number, count, names.len()),
            Some(_) => Share::disjoint(number, count, names.len()),
        };
        let schedule = |rate| Pace::Open(Schedule::new(rate, number, count));
        let pace = arguments.rate.map_or(Pace::Closed, schedule);
        let expected = arguments.expect;
        let habits = Habits { expected, ledger: arguments.verify, acks: acks.cloned(), pace };
        let recorder = Recorder::sharing(latencies);
        let recorder = recorder.looked_at(arguments.snapshot_log.is_some());
        Client::new(number, names, share, work, habits, recorder)
    };
    work.into_iter().enumerate().map(client).collect()
}

/// What came of the conditions, where there were any.
fn conditions(arguments: &Run, clients: &[Client]) -> Condition {
    if arguments.condition == ConditionName::None {
        return Condition::default();
    }
    let sum = |of: fn(&Checks) -> u64| Some(clients.iter().map(|client| of(client.checks())).sum());
    Condition { checked: sum(|checks| checks.checked), conflicts: sum(|checks| checks.conflicts) }
}

/// What came of appends that were sent twice, where there were any.
fn retries(arguments: &Run, clients: &[Client]) -> Retry {
    if arguments.retries == 0.0 {
        return Retry::default();
    }
    let sum =
        |of: fn(&Repeats) -> u64| Some(clients.iter().map(|client| of(client.repeats())).sum());
    Retry { sent: sum(|repeats| repeats.sent), recognised: sum(|repeats| repeats.recognised) }
}

/// Whether its parts go together, where each client has streams of its own or not.
fn check(arguments: &Run, kind: Kind, disjoint: bool) -> Result<(), AnyError> {
    if !disjoint && matches!(kind, Kind::Producers { .. }) {
        return Err("each producer needs a stream of its own: ask for more streams".into());
    }
    if !disjoint && arguments.acks.is_some() {
        return Err("--acks needs a stream for each client: ask for more streams".into());
    }
    if arguments.condition != ConditionName::None && arguments.tags == TAGS_MAX {
        let text = "--condition needs a tag of its own: give one less than the most to --tags";
        return Err(text.into());
    }
    if arguments.retries > 0.0 && arguments.place.store != StoreName::Stratalog {
        return Err("--retries needs a store that recognises repeated appends: stratalog".into());
    }
    if arguments.snapshots.is_some() && arguments.place.store != StoreName::Stratalog {
        return Err(target::without_states());
    }
    if arguments.snapshots.is_none() && arguments.snapshot_settings.is_given() {
        return Err("--snapshot-memory and --snapshot-rate are for --snapshots".into());
    }
    if arguments.projections.is_some() && arguments.place.store != StoreName::Stratalog {
        return Err("--projections needs a store that has some: stratalog".into());
    }
    if arguments.slow > arguments.projections {
        return Err("--slow is of the projections: give it no more than --projections".into());
    }
    if arguments.queries > 0 && arguments.tags == 0 {
        return Err("--queries looks for tags, and no event has one: give --tags 1 or more".into());
    }
    Ok(())
}

/// The streams, and each client's work.
fn prepare(arguments: &Run, clients: usize) -> Result<(Names, Vec<Work>), AnyError> {
    if let Some(path) = &arguments.input {
        let Input { names, events } = Input::read(path)?;
        return Ok((names, split(events, clients).into_iter().map(Work::Replay).collect()));
    }
    let Run { payload, typed, batch, zipf, seed, .. } = *arguments;
    let payloads = Payloads::new(typed, payload, seed)?;
    let choice = zipf.map_or(Choice::Uniform, Choice::Zipf);
    let tagging = Tagging::Drawn(arguments.tags);
    let conditions = match arguments.condition {
        ConditionName::None => Conditions::None,
        // A producer's later appends could not wait for one that is tried again.
        ConditionName::After => Conditions::after(arguments.producers.is_some()),
        ConditionName::Exists => Conditions::Exists,
    };
    let made = || Work::Made {
        payloads: payloads.clone(),
        tagging,
        conditions: conditions.clone(),
        retries: arguments.retries,
        batch,
        choice,
        seed,
        limit: u64::MAX,
    };
    Ok((Names::Made(arguments.streams), (0..clients).map(|_| made()).collect()))
}

/// What the process and the store have done at some moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    cpu_seconds: f64,
    committed: Committed,
}

impl Moment {
    fn now<T: Target>(target: &T) -> Self {
        Self { cpu_seconds: process::cpu_seconds(), committed: target.committed() }
    }

    fn minus(&self, before: &Self) -> Committed {
        let (after, before) = (self.committed, before.committed);
        Committed {
            events: after.events - before.events,
            batches: after.batches - before.batches,
            bytes: after.bytes - before.bytes,
        }
    }
}

/// What was seen of a load from outside.
#[derive(Debug)]
struct Watched {
    /// When it began to count.
    before: Moment,
    /// When it ended.
    after: Moment,
    end: u64,
    /// Whether it ended since it had written as much as it may.
    full: bool,
}

/// Watches a load until it is over, and ends it when it has written as much as it may.
fn watch<T: Target>(
    target: &T,
    clock: &Clock,
    running: &Running,
    progress: &[Arc<Progress>],
    max_bytes: u64,
) -> Watched {
    let live = Live::new();
    let (mut full, mut looks) = (false, 0);
    let (mut shown_events, mut shown_at) = (0, 0);
    let mut look = |now: u64| {
        let sum = |of: fn(&Progress) -> u64| progress.iter().map(|one| of(one)).sum::<u64>();
        let bytes = sum(|one| one.bytes.load(Ordering::Relaxed)).max(target.committed().bytes);
        if bytes >= max_bytes {
            full = true;
            clock.end_now();
        }
        looks += 1;
        if looks % LOOKS_BETWEEN_SHOWS == 0 {
            live.show(|| {
                let events = sum(|one| one.events.load(Ordering::Relaxed));
                let rate = (events - shown_events) as f64 * 1e9 / (now - shown_at).max(1) as f64;
                (shown_events, shown_at) = (events, now);
                let (seconds, rate) = (now as f64 / 1e9, table::rounded(rate));
                format!("{seconds:.0} s, {} events, {rate} events/s", table::whole(events))
            });
        }
    };
    let mut before = None;
    loop {
        let (now, end) = (clock.now(), clock.end());
        if before.is_none() && now >= clock.counts_from() {
            before = Some(Moment::now(target));
        }
        if now >= end || !running.is_alive() {
            break;
        }
        look(now);
        let begins = if before.is_none() { clock.counts_from() } else { u64::MAX };
        let next = now + crate::clients::window::nanos(LOOK);
        clock.sleep_until(next.min(begins).min(end));
    }
    let after = Moment::now(target);
    let end = clock.end();
    Watched { before: before.unwrap_or(after), after, end, full }
}

fn verified<T: Target>(
    folder: &Path,
    names: &Names,
    clients: &[Client],
    with_states: bool,
    outcomes: &[Outcome],
) -> bool {
    let mut accounts = vec![Account::default(); names.len()];
    for client in clients {
        client.settle(&mut accounts);
    }
    let outcome = T::open_read_only(folder).and_then(|target| {
        verify::check(&target, names, &accounts)?;
        if with_states {
            snapshots::check(&target, names, outcomes.len())?;
        }
        projections::check(&target, outcomes)?;
        target.close()
    });
    if let Err(error) = &outcome {
        eprintln!("verification failed: {error}");
    }
    outcome.is_ok()
}

fn readers_read(arguments: &Run, read: &Recorded, seconds: f64) -> Read {
    if arguments.readers == 0 || seconds <= 0.0 {
        return Read::default();
    }
    Read {
        events_per_second: Some(read.counted.events as f64 / seconds),
        bytes_per_second: Some(read.counted.bytes as f64 / seconds),
        stream_p50_ns: Latency::of(&read.latency).p50,
        ..Read::default()
    }
}

fn workload(
    arguments: &Run,
    kind: Kind,
    count: usize,
    streams: usize,
    warmup: Duration,
) -> Workload {
    let made = arguments.input.is_none();
    let (clients, inflight) = match kind {
        Kind::Writers => ("writers", None),
        Kind::Tasks => ("tasks", None),
        Kind::Producers { inflight } => ("producers", Some(inflight)),
    };
    Workload {
        mode: "run",
        clients: Some(clients),
        count: Some(count),
        inflight,
        rate: arguments.rate,
        payload_bytes: made.then_some(arguments.payload),
        typed: Some(arguments.typed),
        batch: made.then_some(arguments.batch),
        streams: Some(streams),
        zipf: arguments.zipf,
        expect: Some(match arguments.expect {
            Expected::Any => "any",
            Expected::Exact => "exact",
            Expected::Decided => "decided",
        }),
        readers: Some(arguments.readers),
        tags: made.then_some(arguments.tags),
        condition: made.then_some(arguments.condition.as_str()),
        retries_percent: made.then_some(arguments.retries),
        queries: Some(arguments.queries),
        snapshots_every: arguments.snapshots,
        snapshot_memory_bytes: arguments.snapshot_settings.memory_bytes(),
        snapshot_rate_bytes_per_second: arguments.snapshot_settings.rate_bytes(),
        input: arguments.input.as_ref().map(|path| path.display().to_string()),
        seed: Some(arguments.seed),
        duration_seconds: arguments
            .duration
            .or(made.then_some(DURATION))
            .map(|duration| duration.as_secs_f64()),
        warmup_seconds: Some(warmup.as_secs_f64()),
        max_bytes: Some(arguments.max_bytes),
        ..Workload::default()
    }
}
