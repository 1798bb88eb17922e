//! `loadgen read`: what reading takes, and opening after a kill.
//!
//! Owns scans and streams; `fill` makes the store that is read, `queries` asks for tags, `open` kills and
//! opens. `main` and the tour call it. Of the few files with `unsafe`.

pub(crate) mod fill;
pub(crate) mod open;
mod queries;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::AnyError;
use crate::ceiling::{Ceiling, Extent};
use crate::cli::{Mode, Payload, Read as Arguments, StoreName};
use crate::clients::readers::{self, touch};
use crate::clients::window::{Clock, Recorded, Recorder, nanos};
use crate::folder::Folder;
use crate::process;
use crate::report::environment::Environment;
use crate::report::json::{Latency, Read, Report, Resources, Workload};
use crate::report::table;
use crate::target::Target;
use crate::workload::streams::Names;
use crate::workload::tags::{TURN_EVENTS, Tagging};
use crate::workload::typed::ArchivedPosted;

pub(crate) use fill::fill;

/// How often a log is scanned at least; the median counts.
const SCANS_MIN: usize = 3;
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
}

impl Plan {
    /// The tags that a store is filled with.
    fn tagging(&self) -> Tagging {
        match self.mode {
            Mode::Queries => Tagging::InTurn(self.fill / TURN_EVENTS),
            Mode::Scan | Mode::Streams | Mode::Open => Tagging::Drawn(0),
        }
    }

    /// Whether its parts go together.
    fn check(&self, readers: Option<usize>) -> Result<(), AnyError> {
        if self.mode != Mode::Queries && (self.cold || readers.is_some()) {
            return Err("--readers and --cold are for --mode queries".into());
        }
        if self.mode != Mode::Scan && self.payload != Payload::Bytes {
            return Err("--payload typed and unchecked are for --mode scan".into());
        }
        if self.mode == Mode::Queries && !self.fill.is_multiple_of(TURN_EVENTS) {
            let text = format!("with --mode queries, --fill must be a multiple of {TURN_EVENTS}");
            return Err(text.into());
        }
        Ok(())
    }
}

/// Does what the command line says.
pub(crate) fn run<T: Target>(arguments: &Arguments) -> Result<(), AnyError> {
    let place = &arguments.place;
    let plan = Plan {
        store: place.store,
        mode: arguments.mode,
        fill: arguments.fill,
        streams: arguments.streams,
        payload_bytes: arguments.payload_bytes,
        payload: arguments.payload,
        duration: arguments.duration,
        readers: arguments.readers.unwrap_or(1),
        cold: arguments.cold,
        seed: arguments.seed,
    };
    plan.check(arguments.readers)?;
    let folder = Folder::open(place.dir.as_deref())?;
    let events = fill::<T>(&plan, folder.path())?;
    if events != plan.fill {
        eprintln!("the store has {} events already: it is read as it is", table::whole(events));
    }
    let extent = if plan.mode == Mode::Scan { Extent::ALL } else { Extent::DEVICE };
    let ceiling = || Ceiling::measure(folder.path(), extent);
    let before = if place.no_ceiling { None } else { Some(ceiling()?) };
    let mut report = measure::<T>(&plan, folder.path())?;
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
    let queries = plan.mode == Mode::Queries;
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
            fill: Some(plan.fill),
            ..Workload::default()
        },
        environment: Environment::of(folder),
        ..Report::default()
    };
    if plan.mode == Mode::Open {
        open::measure::<T>(plan.store, folder, &mut report)?;
    } else {
        let target = T::open(folder)?;
        report.environment.backend = Some(target.backend());
        match plan.mode {
            Mode::Scan => report.read = scan(&target, plan.payload, plan.duration)?,
            Mode::Queries => report.query = queries::measure(&target, plan, folder)?,
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
