//! One load: threads that append to their own streams until the time is over, and what came of it.
//!
//! No two threads share a stream, so every append knows exactly which version it has to expect.

use std::collections::VecDeque;
use std::sync::Barrier;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use stratalog::{Append, AppendError, Pending, Receipt, Store};

use crate::AnyError;
use crate::workload::{self, Account, STREAMS};

/// What a load does.
#[derive(Debug)]
pub(crate) struct Load {
    pub name: &'static str,
    writers: usize,
    way: Way,
}

/// How a writer waits for what it appends.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// For each append, before the next.
    Wait,
    /// For the oldest of this many that are on their way.
    Submit { window: usize },
}

/// The loads of a run, in their order.
pub(crate) const LOADS: [Load; 3] = [
    Load { name: "1 thread, wait", writers: 1, way: Way::Wait },
    Load { name: "64 threads, wait", writers: 64, way: Way::Wait },
    Load { name: "1 thread, 4096 submitted", writers: 1, way: Way::Submit { window: 4096 } },
];

/// What came of a load.
#[derive(Debug)]
pub(crate) struct Measured {
    pub events: u64,
    /// From the first append to the last acknowledgement.
    pub elapsed: Duration,
    /// From each call to its acknowledgement, in nanoseconds.
    pub latency: Histogram<u64>,
    /// What was acknowledged, stream by stream; all zero where no ledger was kept.
    pub ledger: Vec<Account>,
}

impl Load {
    /// Runs it; everything that was appended is acknowledged when this returns.
    pub(crate) fn run(
        &self,
        store: &Store,
        duration: Duration,
        ledger: bool,
    ) -> Result<Measured, AnyError> {
        let start = Barrier::new(self.writers + 1);
        let (elapsed, written) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.writers)
                .map(|number| {
                    let start = &start;
                    scope.spawn(move || {
                        let writer = Writer::new(store, number, self.writers, ledger);
                        start.wait();
                        writer.run(self.way, duration)
                    })
                })
                .collect();
            start.wait();
            let began = Instant::now();
            let written: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
            (began.elapsed(), written)
        });
        let mut measured = Measured {
            events: 0,
            elapsed,
            latency: histogram(),
            ledger: vec![Account::default(); STREAMS],
        };
        for writer in written {
            let writer = writer.map_err(|_| "a writer panicked")??;
            measured.events += writer.latency.len();
            measured.latency.add(&writer.latency)?;
            for stream in writer.streams {
                measured.ledger[stream.number] = stream.acknowledged;
            }
        }
        Ok(measured)
    }
}

/// One thread of a load.
#[derive(Debug)]
struct Writer<'a> {
    store: &'a Store,
    streams: Vec<Stream>,
    random: fastrand::Rng,
    latency: Histogram<u64>,
    /// Whether to keep account of what is acknowledged.
    ledger: bool,
}

/// A stream, of which only one thread knows.
#[derive(Debug)]
struct Stream {
    number: usize,
    name: String,
    next_version: u64,
    acknowledged: Account,
}

/// An append whose acknowledgement was not seen yet.
#[derive(Debug)]
struct OnItsWay {
    /// Its index in [`Writer::streams`].
    stream: usize,
    version: u64,
    since: Instant,
    pending: Pending,
}

impl<'a> Writer<'a> {
    /// The writer that has every stream whose number is `number` modulo `writers`.
    fn new(store: &'a Store, number: usize, writers: usize, ledger: bool) -> Self {
        let streams = (number..STREAMS).step_by(writers).map(|number| Stream {
            number,
            name: workload::stream_name(number),
            next_version: 0,
            acknowledged: Account::default(),
        });
        Self {
            store,
            streams: streams.collect(),
            random: fastrand::Rng::with_seed(number as u64),
            latency: histogram(),
            ledger,
        }
    }

    /// Appends until the time is over, and waits for all of it.
    fn run(mut self, way: Way, duration: Duration) -> Result<Self, AnyError> {
        let until = Instant::now() + duration;
        match way {
            Way::Wait => self.wait_for_each(until)?,
            Way::Submit { window } => self.keep_submitted(window, until)?,
        }
        Ok(self)
    }

    fn wait_for_each(&mut self, until: Instant) -> Result<(), AnyError> {
        loop {
            let since = Instant::now();
            if since >= until {
                return Ok(());
            }
            let (stream, version) = self.choose();
            let receipt = self.append(stream, version).wait()?;
            self.acknowledge(stream, version, since, &receipt)?;
        }
    }

    fn keep_submitted(&mut self, window: usize, until: Instant) -> Result<(), AnyError> {
        let mut on_their_way: VecDeque<OnItsWay> = VecDeque::with_capacity(window);
        loop {
            let since = Instant::now();
            if since >= until {
                break;
            }
            if on_their_way.len() == window {
                self.wait_for_oldest(&mut on_their_way)?;
            }
            let (stream, version) = self.choose();
            loop {
                match self.append(stream, version).submit() {
                    Ok(pending) => {
                        on_their_way.push_back(OnItsWay { stream, version, since, pending });
                        break;
                    }
                    // The store holds as much as it will: what it has must go first.
                    Err(AppendError::Busy) if !on_their_way.is_empty() => {
                        self.wait_for_oldest(&mut on_their_way)?;
                    }
                    // It waits for something else, such as its next segment.
                    Err(AppendError::Busy) => std::thread::yield_now(),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        while !on_their_way.is_empty() {
            self.wait_for_oldest(&mut on_their_way)?;
        }
        Ok(())
    }

    fn wait_for_oldest(&mut self, on_their_way: &mut VecDeque<OnItsWay>) -> Result<(), AnyError> {
        let Some(OnItsWay { stream, version, since, pending }) = on_their_way.pop_front() else {
            return Ok(());
        };
        let receipt = pending.wait()?;
        self.acknowledge(stream, version, since, &receipt)
    }

    /// The stream that is next, and the version that its event will have.
    fn choose(&mut self) -> (usize, u64) {
        let index = self.random.usize(..self.streams.len());
        let stream = &mut self.streams[index];
        let version = stream.next_version;
        stream.next_version += 1;
        (index, version)
    }

    fn append(&self, stream: usize, version: u64) -> Append {
        let Stream { number, name, .. } = &self.streams[stream];
        self.store.append(name, workload::expect(version), [workload::event(*number, version)])
    }

    fn acknowledge(
        &mut self,
        stream: usize,
        version: u64,
        since: Instant,
        receipt: &Receipt,
    ) -> Result<(), AnyError> {
        self.latency.saturating_record(nanos(since.elapsed()));
        let stream = &mut self.streams[stream];
        if receipt.version() != version {
            let (name, found) = (&stream.name, receipt.version());
            return Err(format!("{name}: version {version} was acknowledged as {found}").into());
        }
        if self.ledger {
            let payload = workload::payload(stream.number, version);
            stream.acknowledged.add(receipt.position().get(), &payload);
        }
        Ok(())
    }
}

/// Latencies of 1 ns to 60 s, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

/// A duration as a histogram takes it.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
