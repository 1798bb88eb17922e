//! The same events to several consumers at once, in several ways: out of a store's unsealed tail, through channels, through a
//! broadcast, and through a ring, in two forms.
//!
//! In each way a consumer counts the events and sums the first word of each payload, and what it has found is compared with
//! what was given. All payloads are in memory before the clock runs, so nobody pays for making them. A store has its events
//! already, and a consumer of it reads them; of the others somebody must send while they receive, whose time is counted by
//! itself. Threads are there before the clock runs.

pub mod broadcast;
pub mod channels;
pub mod hot;
pub mod ring;

use std::sync::{Arc, Barrier};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::PAYLOAD_BYTES;

/// How many events a channel, the broadcast and the ring have room for: some 1 MiB, as a chunk of a store's tail.
pub const ROOM_EVENTS: usize = 4096;

/// What is given to consumers.
#[derive(Debug)]
pub struct Events {
    payloads: Vec<Arc<[u8]>>,
    all: Tally,
}

/// What a consumer makes of its events.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub events: u64,
    /// The sum of their numbers, which their payloads begin with.
    pub sum: u64,
}

/// What one fan-out took.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// From the moment at which the first thread ran until the last one had ended.
    pub wall: Duration,
    /// The processor's time of all consumers, with what they spend on waiting.
    pub consumers: Duration,
    /// The processor's time of the thread that sends; next to nothing where there is none.
    pub producer: Duration,
}

impl Events {
    /// So many, with payloads of [`PAYLOAD_BYTES`].
    pub fn new(events: u64) -> Self {
        let mut all = Tally::default();
        let payloads = (0..events).map(|number| {
            let mut payload = [0x5A; PAYLOAD_BYTES];
            payload[..8].copy_from_slice(&number.to_le_bytes());
            all.take(&payload);
            payload.as_slice().into()
        });
        Self { payloads: payloads.collect(), all }
    }

    /// So many consumers go over them where they are, with nothing in between: what the machine's memory gives.
    ///
    /// # Panics
    /// Where the system has no thread to give.
    pub fn walk(&self, consumers: usize) -> Round {
        let walk = || {
            let mut tally = Tally::default();
            self.payloads.iter().for_each(|payload| tally.take(std::hint::black_box(payload)));
            tally
        };
        race(self, vec![walk; consumers], || ())
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.all.events
    }
}

impl Tally {
    /// One event more.
    ///
    /// # Panics
    /// Where the payload has no word.
    #[inline]
    pub fn take(&mut self, payload: &[u8]) {
        let number = payload.first_chunk().expect("a payload begins with its number");
        self.events += 1;
        self.sum = self.sum.wrapping_add(u64::from_le_bytes(*number));
    }
}

/// The processor's time of the calling thread.
///
/// # Panics
/// Where it is negative.
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().expect("a thread's time is no less than none")
}

/// When a thread began, with those that it races.
struct Start {
    begun: Instant,
    time: Duration,
}

/// What one thread took.
struct Lap<T> {
    begun: Instant,
    ended: Instant,
    time: Duration,
    value: T,
}

impl Start {
    /// Waits for the others.
    fn with(others: &Barrier) -> Self {
        others.wait();
        Self { begun: Instant::now(), time: thread_time() }
    }

    fn end<T>(&self, value: T) -> Lap<T> {
        let time = thread_time().saturating_sub(self.time);
        Lap { begun: self.begun, ended: Instant::now(), time, value }
    }
}

impl Round {
    /// # Panics
    /// Where a consumer has not found what was given.
    fn of(events: &Events, producer: &Lap<()>, consumers: &[Lap<Tally>]) -> Self {
        let (mut begun, mut ended) = (producer.begun, producer.ended);
        let mut time = Duration::ZERO;
        for lap in consumers {
            assert_eq!(lap.value, events.all);
            begun = begun.min(lap.begun);
            ended = ended.max(lap.ended);
            time += lap.time;
        }
        Self { wall: ended - begun, consumers: time, producer: producer.time }
    }
}

/// Lets consumers and a producer run at once, each on a thread of its own.
///
/// # Panics
/// Where a consumer has not found what was given.
fn race<C>(events: &Events, consumers: Vec<C>, producer: impl FnOnce() + Send) -> Round
where
    C: FnOnce() -> Tally + Send,
{
    let start = Barrier::new(consumers.len() + 1);
    let start = &start;
    thread::scope(|scope| {
        let run = |consumer: C| {
            scope.spawn(move || {
                let begun = Start::with(start);
                begun.end(consumer())
            })
        };
        let consumers: Vec<_> = consumers.into_iter().map(run).collect();
        let producer = scope.spawn(move || {
            let begun = Start::with(start);
            producer();
            begun.end(())
        });
        let producer = producer.join().expect("the producer does not panic");
        let join =
            |thread: ScopedJoinHandle<'_, _>| thread.join().expect("a consumer does not panic");
        let consumers: Vec<_> = consumers.into_iter().map(join).collect();
        Round::of(events, &producer, &consumers)
    })
}
