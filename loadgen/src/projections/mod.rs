//! Projections beside a load: that they run, how far they fall behind, and whether they have counted each event once.
//!
//! Owns the order of things: started before the load, watched while it runs, drained and stopped after it, and held against
//! the log. `counts` is what they count, `work` what makes some of them slow. `run` calls it.

mod counts;
mod work;

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use stratalog::{ConsumerStats, Position, Store};

use self::counts::{Counted, Counting};
use self::work::Work;
use crate::AnyError;
use crate::cli::Run;
use crate::clients::window::{Clock, nanos};
use crate::report::states;
use crate::target::Target;
use crate::workload::streams::Names;

pub(crate) use self::counts::PROJECTIONS_MAX;

/// How much more than counting an event a slow projection does for it.
const SLOWER_BY: f64 = 9.0;
/// How often it is looked at how far they are behind.
const SAMPLE: Duration = Duration::from_millis(250);

/// How many there are to be, and what the slow ones of them, the last, do for each event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    count: usize,
    slow: usize,
    work: Work,
}

impl Plan {
    /// What is asked for, if it is. Measures how long counting takes, where some are to be slow.
    pub(crate) fn of(arguments: &Run, names: &Names) -> Result<Option<Self>, AnyError> {
        let Some(count) = arguments.projections else { return Ok(None) };
        let slow = arguments.slow.unwrap_or(0);
        let work = match slow {
            0 => Work::NONE,
            _ => Work::of_counting(SLOWER_BY, names, arguments.seed)?,
        };
        Ok(Some(Self { count, slow, work }))
    }
}

/// Projections that run.
pub(crate) struct Projections {
    plan: Plan,
    store: Store,
    all: Vec<Box<dyn Counting>>,
}

/// What a projection has counted, up to a position.
#[derive(Debug)]
pub(crate) struct Outcome {
    number: usize,
    counted: Counted,
    position: Position,
}

impl Projections {
    /// Starts them. What the store has already is counted when this returns.
    pub(crate) fn start<T: Target>(plan: Plan, target: &T) -> Result<Self, AnyError> {
        let store = target.store()?.clone();
        let quick = plan.count - plan.slow;
        let work = |number| if number < quick { Work::NONE } else { plan.work };
        let all = (0..plan.count).map(|number| counts::start(&store, number, work(number)));
        let all: Vec<_> = all.collect::<Result<_, _>>()?;
        let projections = Self { plan, store, all };
        projections.wait()?;
        Ok(projections)
    }

    /// Waits until all have counted what there is now.
    fn wait(&self) -> Result<(), AnyError> {
        let head = self.store.head();
        self.all.iter().try_for_each(|projection| projection.wait_for(head))
    }

    /// Starts to look how far they are behind, until the load ends.
    pub(crate) fn watch(&self, clock: &Clock) -> Result<Lag, AnyError> {
        let (store, clock) = (self.store.clone(), clock.clone());
        let thread = std::thread::Builder::new().name("projection-lag".into());
        Ok(Lag(thread.spawn(move || lag_max(&store, &clock))?))
    }

    /// After the load has ended: has them count what is left, and stops them. Gives the figures and, where `keeps` says so,
    /// what each has counted.
    pub(crate) fn finish(
        self,
        lag: Lag,
        keeps: bool,
    ) -> Result<(states::Projections, Vec<Outcome>), AnyError> {
        let begun = Instant::now();
        let lag_at_end = lag_now(&self.store);
        self.wait()?;
        let drain_seconds = begun.elapsed().as_secs_f64();
        let lag_max = lag.0.join().map_err(|_| "the watch over the projections panicked")?;
        let Plan { count, slow, .. } = self.plan;
        let lanes: Vec<_> = self.all.iter().flat_map(|projection| projection.lanes()).collect();
        let (quick, slow_ones) = lanes.split_at(count - slow);
        let figures = states::Projections {
            count: Some(count),
            slow: Some(slow),
            events: Some(lanes.iter().map(|lane| lane.events).sum()),
            lag_events_max: Some(lag_max.max(lag_at_end)),
            ns_per_event: mean_nanos(quick),
            ns_per_event_slow: mean_nanos(slow_ones),
            drain_seconds: Some(drain_seconds),
        };
        let kept = self.all.iter().enumerate().filter(|_| keeps).map(|(number, projection)| {
            let (counted, position) = projection.counted()?;
            Ok(Outcome { number, counted, position })
        });
        let kept = kept.collect::<Result<_, AnyError>>()?;
        self.all.into_iter().try_for_each(Counting::stop)?;
        Ok((figures, kept))
    }
}

/// A thread that finds how many events the projection that is farthest behind was behind at most.
#[derive(Debug)]
pub(crate) struct Lag(JoinHandle<u64>);

fn lag_max(store: &Store, clock: &Clock) -> u64 {
    let mut most = 0;
    loop {
        clock.sleep_until((clock.now() + nanos(SAMPLE)).min(clock.end()));
        if clock.now() >= clock.end() {
            return most;
        }
        most = most.max(lag_now(store));
    }
}

/// Of all consumers, which are these projections.
fn lag_now(store: &Store) -> u64 {
    store.consumers().iter().map(|lane| lane.lag_events).max().unwrap_or(0)
}

/// The mean of what these take for an event, where any has had one.
fn mean_nanos(lanes: &[ConsumerStats]) -> Option<f64> {
    let busy = lanes.iter().filter(|lane| lane.events > 0);
    let (sum, count) =
        busy.fold((0.0, 0_u32), |(sum, count), lane| (sum + lane.nanos_per_event, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Holds what each projection has counted against the log: by type and by stream, each event once.
pub(crate) fn check<T: Target>(target: &T, outcomes: &[Outcome]) -> Result<(), AnyError> {
    if outcomes.is_empty() {
        return Ok(());
    }
    let store = target.store()?;
    let (mut there, mut reader) = (Counted::default(), store.read_all().forward());
    while let Some(batch) = reader.next_batch()? {
        batch.iter().for_each(|event| there.add(event));
    }
    outcomes.iter().try_for_each(|outcome| compare(outcome, &there, store.head()))
}

fn compare(outcome: &Outcome, there: &Counted, head: Position) -> Result<(), AnyError> {
    let Outcome { number, counted, position } = outcome;
    if *position != head {
        return Err(format!("projection {number} came to position {position} of {head}").into());
    }
    let types = counted.of_type.keys().chain(there.of_type.keys());
    let of_type = |of: &Counted, name: &str| of.of_type.get(name).copied();
    let streams = counted.of_stream.keys().chain(there.of_stream.keys());
    let of_stream = |of: &Counted, name: &str| of.of_stream.get(name).copied();
    agree(types, |name| (of_type(counted, name), of_type(there, name)))
        .and_then(|()| agree(streams, |name| (of_stream(counted, name), of_stream(there, name))))
        .map_err(|difference| format!("projection {number}: {difference}").into())
}

/// Whether the two counts are the same, of each name.
fn agree<'a>(
    mut names: impl Iterator<Item = &'a String>,
    counts: impl Fn(&str) -> (Option<u64>, Option<u64>),
) -> Result<(), String> {
    names.try_for_each(|name| match counts(name) {
        (counted, there) if counted == there => Ok(()),
        (counted, there) => {
            let (counted, there) = (counted.unwrap_or(0), there.unwrap_or(0));
            Err(format!("{counted} events of {name} were counted, {there} are in the log"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(types: &[(&str, u64)], streams: &[(&str, u64)]) -> Counted {
        let owned = |(name, events): &(&str, u64)| ((*name).to_owned(), *events);
        Counted {
            of_type: types.iter().map(owned).collect(),
            of_stream: streams.iter().map(owned).collect(),
        }
    }

    #[test]
    fn a_projection_that_has_counted_otherwise_is_found() {
        let there = counted(&[("x", 3)], &[("a", 2), ("b", 1)]);
        let verdict = |counted, position| {
            let outcome = Outcome { number: 4, counted, position: Position::from(position) };
            compare(&outcome, &there, Position::from(3)).map_err(|error| error.to_string())
        };
        verdict(there.clone(), 3).unwrap();
        for (other, told) in [
            (counted(&[("x", 4)], &[("a", 2), ("b", 1)]), "4 events of x were counted, 3 are"),
            (counted(&[("x", 3)], &[("a", 3), ("b", 1)]), "3 events of a were counted, 2 are"),
            (counted(&[("x", 3)], &[("a", 2)]), "0 events of b were counted, 1 are"),
            (counted(&[("x", 3), ("y", 1)], &[("a", 2), ("b", 1)]), "1 events of y were counted"),
        ] {
            let error = verdict(other, 3).unwrap_err();
            assert!(error.starts_with("projection 4: ") && error.contains(told), "{error}");
        }
        assert!(verdict(there.clone(), 2).unwrap_err().contains("position 2 of 3"));
    }
}
