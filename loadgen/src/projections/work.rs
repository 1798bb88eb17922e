//! What makes a projection slow: work for the processor, so many times as much as counting an event is.
//!
//! Owns how much that is, which is measured before the load: how long counting takes here, and how long a step of work.
//! It is counted in steps, not in time, so that a slow projection that has to wait for a processor has as much to do as one
//! that has not. The parent module calls it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use stratalog::disk::MemoryDisk;
use stratalog::{Batch, Expect, NewEvent, Store};

use super::counts::Counted;
use crate::AnyError;
use crate::workload::streams::Names;

/// How many events are counted to measure how long that takes, in so many streams at most, of so many bytes.
const EVENTS: u32 = 50_000;
const STREAMS_MAX: usize = 10_000;
const PAYLOAD_BYTES: usize = 256;
/// How many steps of work are done to measure how long one takes.
const STEPS: u32 = 1_000_000;
/// How often each is measured. The fastest time is the one in which nothing else had the processor.
const ROUNDS: usize = 3;

/// So many steps of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    steps: u32,
}

impl Work {
    pub(crate) const NONE: Self = Self { steps: 0 };

    /// As much as counting an event of one of these streams is, so many times.
    pub(super) fn of_counting(times: f64, names: &Names, seed: u64) -> Result<Self, AnyError> {
        let steps = times * count_nanos(names, seed)? / step_nanos();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is above 0, and what is too much for it becomes the most that there is"
        )]
        Ok(Self { steps: steps.ceil() as u32 })
    }

    /// Does it.
    #[inline]
    pub(super) fn do_it(self) {
        let mut word = u64::from(self.steps);
        for _ in 0..self.steps {
            word = black_box(word.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29));
        }
    }
}

/// How long a step takes.
fn step_nanos() -> f64 {
    let work = Work { steps: STEPS };
    fastest(|| work.do_it()) / f64::from(STEPS)
}

/// How long it takes to count an event, with what goes with each: finding it in what was read.
fn count_nanos(names: &Names, seed: u64) -> Result<f64, AnyError> {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new()))?;
    let mut random = fastrand::Rng::with_seed(seed);
    let event = [NewEvent::bytes("measured", vec![0; PAYLOAD_BYTES])];
    for _ in 0..EVENTS {
        let stream = names.get(random.usize(..names.len().min(STREAMS_MAX)));
        store.append(&stream, Expect::Any, &event).wait()?;
    }
    let (mut batches, mut reader) = (Vec::new(), store.read_all().forward());
    while let Some(batch) = reader.next_batch()? {
        batches.push(batch);
    }
    let mut counted = Counted::default();
    let mut count = || batches.iter().flat_map(Batch::iter).for_each(|event| counted.add(event));
    // The streams' names are there then.
    count();
    Ok(fastest(count) / f64::from(EVENTS))
}

/// The shortest time that something takes, in nanoseconds.
fn fastest(mut act: impl FnMut()) -> f64 {
    let times = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        act();
        begun.elapsed().as_nanos() as f64
    });
    times.fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_work_where_some_is_asked_for() {
        let names = Names::Made(100);
        assert!(Work::of_counting(9.0, &names, 1).unwrap().steps > 0);
        assert_eq!(Work::of_counting(0.0, &names, 1).unwrap(), Work::NONE);
    }
}
