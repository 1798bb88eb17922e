//! Filling an empty store: quickly, with one producer, and each stream's events scattered over the whole
//! log.

use std::path::Path;

use super::Plan;
use crate::AnyError;
use crate::clients::client::{Client, Habits, Work};
use crate::clients::pacing::Pace;
use crate::clients::producers;
use crate::clients::window::{Clock, Recorder};
use crate::target::Target;
use crate::workload::payloads::Pool;
use crate::workload::streams::{Choice, Names, Share};
use crate::workload::tags::Tagging;

/// How many appends are on their way while a store is filled.
pub(super) const INFLIGHT: usize = 8192;

/// Fills a store that has no events; says how many it has then.
pub(crate) fn fill<T: Target>(plan: &Plan, folder: &Path) -> Result<u64, AnyError> {
    let target = T::open(folder)?;
    let mut events = target.content()?.events;
    if events == 0 {
        let names = Names::Made(plan.streams);
        let pool = Pool::new(plan.payload_bytes, plan.seed);
        let client = producer(&names, pool, plan.tagging(), plan.seed, plan.fill);
        producers::run(&target, client, INFLIGHT, &Clock::start(std::time::Duration::ZERO, None))?;
        events = target.content()?.events;
    }
    target.close()?;
    Ok(events)
}

/// A producer of so many events, in streams that take turns.
pub(super) fn producer(
    names: &Names,
    pool: Pool,
    tagging: Tagging,
    seed: u64,
    limit: u64,
) -> Client {
    let share = Share::of(0, 1, names.len());
    let work = Work::Made { pool, tagging, batch: 1, choice: Choice::Turns, seed, limit };
    let habits = Habits { exact: true, ledger: false, acks: None, pace: Pace::Closed };
    Client::new(0, names, share, work, habits, Recorder::new())
}
