//! The same events to several consumers at once, in four ways: out of a store's unsealed tail, through channels, through a
//! broadcast, and through a ring.
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
use std::thread;
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

/// What one thread took.
struct Lap<T> {
    begun: Instant,
    ended: Instant,
    time: Duration,
    value: T,
}

impl<T> Lap<T> {
    fn run(start: &Barrier, what: impl FnOnce() -> T) -> Self {
        start.wait();
        let (begun, time) = (Instant::now(), thread_time());
        let value = what();
        Self { begun, time: thread_time().saturating_sub(time), ended: Instant::now(), value }
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
        let consumers: Vec<_> = consumers
            .into_iter()
            .map(|consumer| scope.spawn(move || Lap::run(start, consumer)))
            .collect();
        let producer = scope.spawn(move || Lap::run(start, producer));
        let producer = producer.join().expect("the producer does not panic");
        let (mut begun, mut ended) = (producer.begun, producer.ended);
        let mut time = Duration::ZERO;
        for consumer in consumers {
            let lap = consumer.join().expect("a consumer does not panic");
            assert_eq!(lap.value, events.all);
            begun = begun.min(lap.begun);
            ended = ended.max(lap.ended);
            time += lap.time;
        }
        Round { wall: ended - begun, consumers: time, producer: producer.time }
    })
}
