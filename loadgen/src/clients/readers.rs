//! Readers: threads that read whole streams at random beside the clients that append.

use std::thread::JoinHandle;

use super::window::{self, Clock, Recorded, Recorder, Tally};
use crate::AnyError;
use crate::target::Target;
use crate::workload::streams::Names;

/// Readers that are running.
#[derive(Debug)]
pub(crate) struct Readers {
    threads: Vec<JoinHandle<Result<Recorder, AnyError>>>,
}

impl Readers {
    /// Starts that many of them.
    pub(crate) fn start<T: Target>(
        readers: usize,
        target: &T,
        names: &Names,
        seed: u64,
        clock: &Clock,
    ) -> Result<Self, AnyError> {
        let (mut threads, latencies) = (Vec::new(), window::latencies());
        for reader in 0..readers {
            let (target, names, clock) = (target.clone(), names.clone(), clock.clone());
            // Other numbers than those of the clients that append.
            let random = fastrand::Rng::with_seed(!seed.wrapping_add(reader as u64));
            let recorder = Recorder::sharing(&latencies);
            threads.push(
                std::thread::Builder::new()
                    .name("reader".into())
                    .spawn(move || read(&target, &names, random, recorder, &clock))?,
            );
        }
        Ok(Self { threads })
    }

    /// Waits for all of them.
    pub(crate) fn join(self) -> Result<Recorded, AnyError> {
        let mut recorded = Recorded::new();
        for thread in self.threads {
            recorded.add(&thread.join().map_err(|_| "a reader panicked")??)?;
        }
        Ok(recorded)
    }
}

/// Reads one stream after the other until the load is over. A stream that has no event yet does not
/// count.
pub(crate) fn read<T: Target>(
    target: &T,
    names: &Names,
    mut random: fastrand::Rng,
    mut recorder: Recorder,
    clock: &Clock,
) -> Result<Recorder, AnyError> {
    let mut now = clock.now();
    while now < clock.end() {
        let since = now;
        let mut done = Tally::default();
        let mut sum = 0;
        target.read_stream(&names.get(random.usize(..names.len())), |event| {
            done.add(Tally { events: 1, bytes: event.payload.len() as u64 });
            sum = touch(sum, event.payload);
        })?;
        std::hint::black_box(sum);
        now = clock.now();
        if done.events > 0 {
            recorder.record(clock, since, now, done);
        }
    }
    Ok(recorder)
}

/// Reads every byte of a payload, eight at a time.
pub(crate) fn touch(sum: u64, payload: &[u8]) -> u64 {
    let (words, rest) = payload.as_chunks::<8>();
    let words = words.iter().fold(sum, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}
