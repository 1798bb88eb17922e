//! Tasks: tokio tasks that await each append before the next.
//!
//! They run on as many threads as there are processors. An open loop is not paced by the runtime's timer,
//! which counts in milliseconds, but by a thread that wakes each task when its time has come.

use std::sync::Arc;

use tokio::sync::Notify;

use super::client::{Client, end_of};
use super::pacing::{Pace, Schedule, Turn};
use super::window::Clock;
use super::writers::wake_in_time;
use crate::AnyError;
use crate::target::{Append as _, Refused, Target};

/// The pacing thread does not look more often than this.
const PACE_NS: u64 = 20_000;

/// Runs all tasks until the load is over.
pub(crate) fn run<T: Target>(
    target: &T,
    clients: Vec<Client>,
    clock: &Clock,
) -> Result<Vec<Client>, AnyError> {
    let threads = std::thread::available_parallelism()?.get();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build()?;
    let bells: Vec<Arc<Notify>> = clients.iter().map(|_| Arc::default()).collect();
    let schedules: Vec<Schedule> = clients
        .iter()
        .filter_map(|client| match &client.pace {
            Pace::Closed => None,
            Pace::Open(schedule) => Some(schedule.clone()),
        })
        .collect();
    let tasks: Vec<_> = clients
        .into_iter()
        .zip(&bells)
        .map(|(client, bell)| {
            let (target, clock, bell) = (target.clone(), clock.clone(), Arc::clone(bell));
            runtime.spawn(async move {
                let outcome = append(&target, client, &clock, &bell).await;
                if outcome.is_err() {
                    clock.end_now();
                }
                outcome
            })
        })
        .collect();
    ring(schedules, &bells, clock, || tasks.iter().all(tokio::task::JoinHandle::is_finished));
    runtime.block_on(async {
        let mut clients = Vec::new();
        for task in tasks {
            clients.push(task.await.map_err(|_| "a task panicked")??);
        }
        Ok(clients)
    })
}

/// Appends until the load is over.
async fn append<T: Target>(
    target: &T,
    mut client: Client,
    clock: &Clock,
    bell: &Notify,
) -> Result<Client, AnyError> {
    let mut now = clock.now();
    loop {
        let since = match client.pace.turn(now, clock.end()) {
            Turn::Send { since } => since,
            Turn::Wait { .. } => {
                // Rung early it comes here again, so a bell that was rung before does no harm.
                bell.notified().await;
                now = clock.now();
                continue;
            }
            Turn::Over => break,
        };
        let Some(mut draft) = client.next() else { break };
        client.sending(&draft)?;
        let acknowledged = loop {
            let expect = client.expect(&draft);
            let (stream, events) = (client.stream(&draft), client.events(&draft));
            let append = target.append(&stream, expect, draft.condition(), events);
            match append.finish().await {
                Ok(acknowledged) => break acknowledged,
                Err(Refused::Conflict(ends)) => client.conflicted(&mut draft, ends)?,
                Err(Refused::Condition(at)) => client.condition_failed(&mut draft, at),
                Err(Refused::Failed(error)) => return Err(error),
            }
        };
        now = clock.now();
        client.acknowledged(clock, &draft, acknowledged, since, now)?;
        if draft.is_sent_twice() {
            let expect = client.expect(&draft);
            let (stream, events) = (client.stream(&draft), client.events(&draft));
            let append = target.append(&stream, expect, draft.condition(), events);
            let acknowledged = append.finish().await.map_err(Refused::into_error)?;
            client.repeated(&draft, acknowledged)?;
            now = clock.now();
        }
    }
    client.finish(end_of(clock));
    Ok(client)
}

/// Rings for every send when its time has come, and for everybody at the end. Without schedules there is
/// nothing to ring for. `done` says whether all tasks have ended by themselves; it is asked only where
/// the load has no end of its own.
fn ring(
    mut schedules: Vec<Schedule>,
    bells: &[Arc<Notify>],
    clock: &Clock,
    done: impl Fn() -> bool,
) {
    if schedules.is_empty() {
        return;
    }
    wake_in_time();
    // The clients take turns, so their sends come in the order of their numbers.
    'load: loop {
        for (schedule, bell) in schedules.iter_mut().zip(bells) {
            loop {
                let (now, end) = (clock.now(), clock.end());
                let intended = schedule.intended();
                if now >= end || intended >= end {
                    break 'load;
                }
                if end == u64::MAX && done() {
                    return;
                }
                if intended <= now {
                    break;
                }
                clock.sleep_until(intended.max(now + PACE_NS).min(end));
            }
            schedule.sent(clock.now());
            bell.notify_one();
        }
    }
    clock.sleep_until(clock.end());
    for bell in bells {
        bell.notify_one();
    }
}
