//! Threads that query tags, each tag once, and what that took.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::stores::Opened;
use crate::workload::{TAG_EVENTS, Workload, tag_name};

/// What the threads did together.
#[derive(Debug)]
pub struct Pass {
    /// From the beginning of the first query to the end of the last.
    elapsed: Duration,
    /// How long each query took, from the shortest on.
    times: Vec<Duration>,
}

impl Pass {
    pub fn queries(&self) -> usize {
        self.times.len()
    }

    pub fn events_per_second(&self) -> f64 {
        ratio(self.times.len() as u64 * TAG_EVENTS, 1) / self.elapsed.as_secs_f64()
    }

    /// The median of a query, in microseconds.
    pub fn p50_us(&self) -> f64 {
        self.times.get(self.times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }
}

/// What one thread did.
struct Share {
    begun: Instant,
    ended: Instant,
    times: Vec<Duration>,
}

/// Queries the tags from the first on, until all were asked for or the time is up.
pub fn pass(
    store: &dyn Opened,
    workload: Workload,
    tags: &[u64],
    readers: usize,
    patience: Duration,
) -> Result<Pass, Failure> {
    let next = AtomicUsize::new(0);
    let ready = Barrier::new(readers);
    let read = || -> Result<Share, Failure> {
        ready.wait();
        let begun = Instant::now();
        let mut times = Vec::new();
        while begun.elapsed() < patience
            && let Some(tag) = tags.get(next.fetch_add(1, Ordering::Relaxed))
        {
            times.push(query(store, workload, *tag)?);
        }
        Ok(Share { begun, ended: Instant::now(), times })
    };
    let shares: Vec<Share> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..readers).map(|_| scope.spawn(read)).collect();
        let shares =
            threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked")?);
        shares.collect::<Result<_, Failure>>()
    })?;
    // By the readers' own clocks: with more threads than processors, a thread that only watches may begin
    // to do so when they are long at work, or done.
    let begun = shares.iter().map(|share| share.begun).min().ok_or("no readers")?;
    let ended = shares.iter().map(|share| share.ended).max().ok_or("no readers")?;
    let mut times: Vec<Duration> = shares.into_iter().flat_map(|share| share.times).collect();
    times.sort_unstable();
    Ok(Pass { elapsed: ended - begun, times })
}

/// Queries a tag, and checks that all of its events come and nothing else.
fn query(store: &dyn Opened, workload: Workload, tag: u64) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let name = tag_name(tag);
    let (mut found, mut right) = (0, 0);
    store.query(&name, &mut |payload| {
        right += u64::from(workload.is_payload(tag, found, payload));
        found += 1;
    })?;
    let took = begun.elapsed();
    if (found, right) != (TAG_EVENTS, TAG_EVENTS) {
        return Err(format!("{name} has {found} events, {right} of them right").into());
    }
    Ok(took)
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
pub fn ratio(one: u64, other: u64) -> f64 {
    one as f64 / other.max(1) as f64
}
