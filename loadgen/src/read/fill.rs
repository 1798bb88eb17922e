//! Filling an empty store: quickly, with one producer, and each stream's events scattered over the whole
//! log.

use std::path::Path;
use std::time::Duration;

use super::Plan;
use crate::AnyError;
use crate::cli::{Expected, Payload};
use crate::clients::client::{Client, Habits, Work};
use crate::clients::pacing::Pace;
use crate::clients::producers;
use crate::clients::window::{Clock, Recorder};
use crate::target::Target;
use crate::workload::Payloads;
use crate::workload::conditions::Conditions;
use crate::workload::streams::{Choice, Names, Share};
use crate::workload::tags::Tagging;

/// How many appends are on their way while a store is filled.
pub(super) const INFLIGHT: usize = 8192;
/// In how many streams the events are that are there before a load.
const FILLED_STREAMS: usize = 10_000;

/// Fills an empty store before a load, with one tag on each event, in streams that the load does not use.
pub(crate) fn before_load<T: Target>(
    folder: &Path,
    events: u64,
    payloads: Payloads,
    seed: u64,
) -> Result<(), AnyError> {
    let target = T::open(folder)?;
    let streams = (0..FILLED_STREAMS).map(|number| format!("filled-{number:05}").into());
    let names = Names::Listed(streams.collect());
    let client = producer(&names, payloads, Tagging::Drawn(1), seed, events);
    producers::run(&target, client, INFLIGHT, &Clock::start(Duration::ZERO, None))?;
    target.close()
}

/// Fills a store that has no events; says how many it has then.
pub(crate) fn fill<T: Target>(plan: &Plan, folder: &Path) -> Result<u64, AnyError> {
    let target = T::open(folder)?;
    let mut events = target.content()?.events;
    if events == 0 {
        let names = Names::Made(plan.streams);
        let typed = plan.payload != Payload::Bytes;
        let payloads = Payloads::new(typed, plan.payload_bytes, plan.seed)?;
        let client = producer(&names, payloads, plan.tagging(), plan.seed, plan.fill);
        producers::run(&target, client, INFLIGHT, &Clock::start(Duration::ZERO, None))?;
        events = target.content()?.events;
    }
    target.close()?;
    Ok(events)
}

/// A producer of so many events, in streams that take turns.
pub(super) fn producer(
    names: &Names,
    payloads: Payloads,
    tagging: Tagging,
    seed: u64,
    limit: u64,
) -> Client {
    let share = Share::of(0, 1, names.len());
    let (conditions, choice) = (Conditions::None, Choice::Turns);
    let retries = 0.0;
    let work = Work::Made { payloads, tagging, conditions, retries, batch: 1, choice, seed, limit };
    let expected = Expected::Exact;
    let habits = Habits { expected, ledger: false, acks: None, pace: Pace::Closed };
    Client::new(0, names, share, work, habits, Recorder::new())
}
