//! Readers: threads that read whole streams, or query tags, at random beside the clients that append.

use std::thread::JoinHandle;

use super::window::{self, Clock, Recorded, Recorder, Tally};
use crate::AnyError;
use crate::target::Target;
use crate::workload::streams::Names;
use crate::workload::tags::{TAGS, Tag};

/// Threads that read and are running.
#[derive(Debug)]
pub(crate) struct Readers {
    threads: Vec<JoinHandle<Result<Recorder, AnyError>>>,
}

impl Readers {
    /// Starts that many threads; each does this with its number and a recorder.
    pub(crate) fn start(
        readers: usize,
        read: impl Fn(usize, Recorder) -> Result<Recorder, AnyError> + Clone + Send + 'static,
    ) -> Result<Self, AnyError> {
        let (mut threads, latencies) = (Vec::new(), window::latencies());
        for reader in 0..readers {
            let (read, recorder) = (read.clone(), Recorder::sharing(&latencies));
            threads.push(
                std::thread::Builder::new()
                    .name("reader".into())
                    .spawn(move || read(reader, recorder))?,
            );
        }
        Ok(Self { threads })
    }

    /// Starts that many threads that read whole streams.
    pub(crate) fn of_streams<T: Target>(
        readers: usize,
        target: &T,
        names: &Names,
        seed: u64,
        clock: &Clock,
    ) -> Result<Self, AnyError> {
        let (target, names, clock) = (target.clone(), names.clone(), clock.clone());
        Self::start(readers, move |reader, recorder| {
            // Other numbers than those of the clients that append.
            let random = fastrand::Rng::with_seed(!seed.wrapping_add(reader as u64));
            read(&target, &names, random, recorder, &clock)
        })
    }

    /// Starts that many threads that query tags of those that are drawn.
    pub(crate) fn of_tags<T: Target>(
        readers: usize,
        target: &T,
        seed: u64,
        clock: &Clock,
    ) -> Result<Self, AnyError> {
        let (target, clock) = (target.clone(), clock.clone());
        Self::start(readers, move |reader, recorder| {
            // Other numbers than those of the clients and of the readers of streams.
            let seed = seed.rotate_left(32).wrapping_add(reader as u64);
            query(&target, fastrand::Rng::with_seed(seed), recorder, &clock)
        })
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

/// Reads one stream after the other until the load is over.
pub(crate) fn read<T: Target>(
    target: &T,
    names: &Names,
    mut random: fastrand::Rng,
    recorder: Recorder,
    clock: &Clock,
) -> Result<Recorder, AnyError> {
    again(recorder, clock, || {
        let mut touched = Touched::default();
        let name = names.get(random.usize(..names.len()));
        target.read_stream(&name, |event| touched.touch(event.payload))?;
        Ok(Some(touched.tally()))
    })
}

/// Queries one tag after the other until the load is over.
fn query<T: Target>(
    target: &T,
    mut random: fastrand::Rng,
    recorder: Recorder,
    clock: &Clock,
) -> Result<Recorder, AnyError> {
    again(recorder, clock, || {
        let mut touched = Touched::default();
        let tag = Tag::drawn(random.u32(..TAGS));
        target.query(&tag, |event| touched.touch(event.payload))?;
        Ok(Some(touched.tally()))
    })
}

/// Reads again and again until the load is over, or there is nothing more to read. What has no event yet
/// does not count.
pub(crate) fn again(
    mut recorder: Recorder,
    clock: &Clock,
    mut once: impl FnMut() -> Result<Option<Tally>, AnyError>,
) -> Result<Recorder, AnyError> {
    let mut now = clock.now();
    while now < clock.end() {
        let since = now;
        let Some(done) = once()? else { break };
        now = clock.now();
        if done.events > 0 {
            recorder.record(clock, since, now, done);
        }
    }
    Ok(recorder)
}

/// Events whose payloads were read.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    tally: Tally,
    sum: u64,
}

impl Touched {
    /// Reads an event's payload.
    pub(crate) fn touch(&mut self, payload: &[u8]) {
        self.tally.add(Tally { events: 1, bytes: payload.len() as u64 });
        self.sum = touch(self.sum, payload);
    }

    /// How many they were.
    pub(crate) fn tally(self) -> Tally {
        std::hint::black_box(self.sum);
        self.tally
    }
}

/// Reads every byte of a payload, eight at a time.
pub(crate) fn touch(sum: u64, payload: &[u8]) -> u64 {
    let (words, rest) = payload.as_chunks::<8>();
    let words = words.iter().fold(sum, |sum, word| sum.wrapping_add(u64::from_le_bytes(*word)));
    rest.iter().fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}
