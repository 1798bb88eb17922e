//! `loadgen read`: what reading takes, and opening after a kill.
//!
//! Owns scans and streams; `fill` makes the store that is read, `queries` asks for tags, `loads` for states, `open`
//! kills and opens. `main` and the tour call it. Of the few files with `unsafe`.

pub(crate) mod fill;
mod loads;
pub(crate) mod open;
mod queries;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::AnyError;
use crate::ceiling::{Ceiling, Extent};
use crate::cli::{Mode, Payload, Read as Arguments, SnapshotSettings, StoreName};
use crate::clients::readers::{self, touch};
use crate::clients::window::{Clock, Recorded, Recorder, nanos};
use crate::folder::Folder;
use crate::process;
use crate::report::environment::Environment;
use crate::report::json::{Latency, Read, Report, Resources, Workload};
use crate::report::{states, table};
use crate::target::{self, Target};
use crate::workload::streams::Names;
use crate::workload::tags::{TURN_EVENTS, Tagging};
use crate::workload::typed::ArchivedPosted;

pub(crate) use fill::fill;
use loads::Filled;

/// How often a log is scanned at least; the median counts.
const SCANS_MIN: usize = 3;
/// What a store is filled with where nothing else is said, and in how many streams.
const EVENTS: u64 = 1_000_000;
const STREAMS: usize = 10_000;
/// How long streams are read before it counts.
const WARMUP: Duration = Duration::from_millis(500);

/// What is read, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub store: StoreName,
    pub mode: Mode,
    pub fill: u64,
    pub streams: usize,
    pub payload_bytes: usize,
    /// What a scan reads payloads as.
    pub payload: Payload,
    pub duration: Duration,
    /// How many threads query.
    pub readers: usize,
    /// Whether they find nothing in the page cache at first.
    pub cold: bool,
    pub seed: u64,
    pub states: States,
}

/// What states are loaded of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct States {
    /// How many events each stream has.
    pub stream_events: u64,
    /// How many of them are not in its snapshot.
    pub behind: u64,
    pub settings: SnapshotSettings,
}

impl States {
    fn of(arguments: &Arguments) -> Self {
        /// What one stream has, and each of several.
        const EVENTS: [u64; 2] = [100_000, 4];
        const BEHIND: [usize; 2] = [100, 0];
        let several = usize::from(arguments.streams.is_some());
        Self {
            stream_events: arguments.stream_events.unwrap_or(EVENTS[several]),
            behind: arguments.behind.unwrap_or(BEHIND[several]) as u64,
            settings: arguments.snapshot_settings,
        }
    }
}

impl Plan {
    fn of(arguments: &Arguments) -> Result<Self, AnyError> {
        let states = States::of(arguments);
        let loads = arguments.mode == Mode::Loads;
        let streams = arguments.streams.unwrap_or(if loads { 1 } else { STREAMS });
        let fill = if loads { streams as u64 * states.stream_events } else { EVENTS };
        let plan = Self {
            store: arguments.place.store,
            mode: arguments.mode,
            fill: arguments.fill.unwrap_or(fill),
            streams,
            payload_bytes: arguments.payload_bytes,
            payload: arguments.payload,
            duration: arguments.duration,
            readers: arguments.readers.unwrap_or(1),
            cold: arguments.cold,
            seed: arguments.seed,
            states,
        };
        plan.check(arguments)?;
        Ok(plan)
    }

    /// The tags that a store is filled with.
    fn tagging(&self) -> Tagging {
        match self.mode {
            Mode::Queries => Tagging::InTurn(self.fill / TURN_EVENTS),
            Mode::Scan | Mode::Streams | Mode::Open | Mode::Loads => Tagging::Drawn(0),
        }
    }

    /// Whether its parts go together.
    fn check(&self, arguments: &Arguments) -> Result<(), AnyError> {
        if self.mode != Mode::Queries && (self.cold || arguments.readers.is_some()) {
            return Err("--readers and --cold are for --mode queries".into());
        }
        if self.mode != Mode::Scan && self.payload != Payload::Bytes {
            return Err("--payload typed and unchecked are for --mode scan".into());
        }
        if self.mode == Mode::Queries && !self.fill.is_multiple_of(TURN_EVENTS) {
            let text = format!("with --mode queries, --fill must be a multiple of {TURN_EVENTS}");
            return Err(text.into());
        }
        if self.mode == Mode::Loads {
            self.check_loads(arguments)
        } else {
            check_no_loads(arguments)
        }
    }

    fn check_loads(&self, arguments: &Arguments) -> Result<(), AnyError> {
        if self.store != StoreName::Stratalog {
            return Err(target::without_states());
        }
        if arguments.fill.is_some() {
            return Err(
                "with --mode loads, --stream-events and --streams say what is filled".into()
            );
        }
        if self.states.behind >= self.states.stream_events {
            return Err(
                "--behind must be less than --stream-events, so that a snapshot has some".into()
            );
        }
        if self.fill > u64::from(u32::MAX) {
            return Err(format!("{} events are too many", table::whole(self.fill)).into());
        }
        Ok(())
    }
}

fn check_no_loads(arguments: &Arguments) -> Result<(), AnyError> {
    let given = arguments.stream_events.is_some()
        || arguments.behind.is_some()
        || arguments.snapshot_settings.is_given();
    if given {
        let text =
            "--stream-events, --behind, --snapshot-memory and --snapshot-rate are for --mode loads";
        return Err(text.into());
    }
    Ok(())
}

/// Does what the command line says.
pub(crate) fn run<T: Target>(arguments: &Arguments) -> Result<(), AnyError> {
    let place = &arguments.place;
    let plan = Plan::of(arguments)?;
    let folder = Folder::open(place.dir.as_deref())?;
    let filled = if plan.mode == Mode::Loads {
        loads::fill::<T>(&plan, folder.path())?
    } else {
        Filled { events: fill::<T>(&plan, folder.path())?, taken: None }
    };
    let events = filled.events;
    if events != plan.fill {
        eprintln!("the store has {} events already: it is read as it is", table::whole(events));
    }
    let extent = if plan.mode == Mode::Scan { Extent::ALL } else { Extent::DEVICE };
    let ceiling = || Ceiling::measure(folder.path(), extent);
    let before = if place.no_ceiling { None } else { Some(ceiling()?) };
    let mut report = measure::<T>(&plan, folder.path())?;
    if let Some((taking, snapshots)) = filled.taken {
        report.loads.taking = taking;
        report.snapshots = snapshots;
    }
    if let Some(before) = before {
        report.compare(&Ceiling::around(&before, &ceiling()?));
    }
    println!("{}", table::report(&report));
    if let Some(path) = &place.json {
        report.write(path)?;
    }
    folder.close()
}

/// Measures a store that was filled.
pub(crate) fn measure<T: Target>(plan: &Plan, folder: &Path) -> Result<Report, AnyError> {
    process::forget_rss_peak();
    let cpu_before = process::cpu_seconds();
    let (queries, loads) = (plan.mode == Mode::Queries, plan.mode == Mode::Loads);
    let mut report = Report {
        store: Some(plan.store.as_str()),
        workload: Workload {
            mode: plan.mode.as_str(),
            payload_bytes: Some(plan.payload_bytes),
            streams: Some(plan.streams),
            seed: Some(plan.seed),
            duration_seconds: (plan.mode != Mode::Open).then_some(plan.duration.as_secs_f64()),
            readers: queries.then_some(plan.readers),
            tags: queries.then_some(1),
            cold: queries.then_some(plan.cold),
            typed: loads.then_some(true),
            snapshot_memory_bytes: plan.states.settings.memory_bytes(),
            snapshot_rate_bytes_per_second: plan.states.settings.rate_bytes(),
            fill: Some(plan.fill),
            ..Workload::default()
        },
        environment: Environment::of(folder),
        ..Report::default()
    };
    if plan.mode == Mode::Open {
        open::measure::<T>(plan.store, folder, &mut report)?;
    } else {
        let target = if loads {
            T::open_with_snapshots(folder, plan.states.settings.options(), None)?
        } else {
            T::open(folder)?
        };
        report.environment.backend = Some(target.backend());
        match plan.mode {
            Mode::Scan => report.read = scan(&target, plan.payload, plan.duration)?,
            Mode::Queries => report.query = queries::measure(&target, plan, folder)?,
            Mode::Loads => {
                report.loads = loads::measure(&target, plan, folder)?;
                report.snapshots = states::Snapshots::there(&target.store()?.snapshots().stats()?);
            }
            Mode::Streams | Mode::Open => report.read = read_streams(&target, plan)?,
        }
        target.close()?;
    }
    report.resources = Resources {
        cpu_seconds: Some(process::cpu_seconds() - cpu_before),
        rss_peak_bytes: Some(process::rss_peak_bytes()?),
    };
    Ok(report)
}

/// Reads the whole log with one thread, every byte of every payload, again and again. The first time
/// brings it into memory and does not count; what is read as a type is checked then, in any case.
fn scan<T: Target>(target: &T, payload: Payload, duration: Duration) -> Result<Read, AnyError> {
    let content = target.content()?;
    let once = |payload: Payload| -> Result<Duration, AnyError> {
        let (began, mut events, mut sum) = (Instant::now(), 0_u64, 0);
        let typed = |value: &ArchivedPosted| {
            events += 1;
            sum = value.touch(sum);
        };
        match payload {
            Payload::Bytes => target.scan(|payload| {
                events += 1;
                sum = touch(sum, payload);
            })?,
            Payload::Typed => target.scan_typed(typed)?,
            // SAFETY: it was called with `Typed` first, which has succeeded, and nobody appends: the store is open for
            // writing in this process, so in no other one, and this process does not.
            Payload::Unchecked => unsafe { target.scan_unchecked(typed) }?,
        }
        std::hint::black_box(sum);
        if events == content.events {
            Ok(began.elapsed())
        } else {
            Err(format!("{} events are there, {events} were read", content.events).into())
        }
    };
    once(if payload == Payload::Unchecked { Payload::Typed } else { payload })?;
    let (began, mut scans) = (Instant::now(), Vec::new());
    while scans.len() < SCANS_MIN || began.elapsed() < duration {
        scans.push(once(payload)?);
    }
    let seconds = median(&mut scans).as_secs_f64();
    Ok(Read {
        payload: Some(payload.as_str()),
        events_per_second: Some(content.events as f64 / seconds),
        bytes_per_second: Some(content.log_bytes as f64 / seconds),
        ..Read::default()
    })
}

/// Reads whole streams at random with one thread, after a scan that brings them into memory.
fn read_streams<T: Target>(target: &T, plan: &Plan) -> Result<Read, AnyError> {
    target.scan(|payload| {
        std::hint::black_box(payload);
    })?;
    let names = Names::Made(plan.streams);
    let random = fastrand::Rng::with_seed(plan.seed);
    let clock = Clock::start(WARMUP, Some(plan.duration));
    let reader = readers::read(target, &names, random, Recorder::new(), &clock)?;
    let mut recorded = Recorded::new();
    recorded.add(&reader)?;
    if recorded.counted.events == 0 {
        return Err("none of the streams has an event".into());
    }
    let seconds = plan.duration.as_secs_f64();
    Ok(Read {
        events_per_second: Some(recorded.counted.events as f64 / seconds),
        bytes_per_second: Some(recorded.counted.bytes as f64 / seconds),
        stream_p50_ns: Latency::of(&recorded.latency).p50,
        ..Read::default()
    })
}

/// The middle one, or the later of the two.
fn median<V: Ord + Copy>(values: &mut [V]) -> V {
    values.sort_unstable();
    values[values.len() / 2]
}

/// The median of durations in nanoseconds.
fn median_nanos(durations: &mut [Duration]) -> u64 {
    nanos(median(durations))
}
