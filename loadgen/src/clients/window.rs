//! The time of a load: what counts, what came of it, and how far it is.
//!
//! Owns the clock that all clients share and the recorder that each has for itself. Nothing here is
//! written by two threads for each event: the end of the load moves at most a few times, and latencies go to
//! the histogram that all share some dozens at a time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::AnyError;

/// The longest latency that is recorded as it is.
const LATENCY_NS_MAX: u64 = 100_000_000_000;
/// How many latencies a client keeps before it gives them to the histogram that all share. A histogram for
/// each of a thousand clients would take more memory than the processor's caches have.
const KEPT: usize = 64;
/// How long it keeps them at most, in nanoseconds, where somebody looks at each second: they are found in that one.
const KEPT_NS: u64 = 100_000_000;

/// The latencies of all clients of a load.
pub(crate) type Latencies = Arc<Mutex<Histogram<u64>>>;

/// When a load begins to count and when it ends, in nanoseconds since it began.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    began: Instant,
    counts_from: u64,
    end: Arc<AtomicU64>,
}

impl Clock {
    /// A load that begins now; without a duration it ends by itself.
    pub(crate) fn start(warmup: Duration, duration: Option<Duration>) -> Self {
        let counts_from = nanos(warmup);
        let end = duration.map_or(u64::MAX, |duration| counts_from.saturating_add(nanos(duration)));
        Self { began: Instant::now(), counts_from, end: Arc::new(AtomicU64::new(end)) }
    }

    /// The present.
    pub(crate) fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    /// From when on it counts.
    pub(crate) fn counts_from(&self) -> u64 {
        self.counts_from
    }

    /// When it ends; [`u64::MAX`] where that is not known.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Ends the load at once, unless it has ended.
    pub(crate) fn end_now(&self) {
        self.end.fetch_min(self.now(), Ordering::Relaxed);
    }

    /// Blocks until then.
    pub(crate) fn sleep_until(&self, then: u64) {
        let now = self.now();
        if then > now {
            std::thread::sleep(Duration::from_nanos(then - now));
        }
    }
}

/// What a client has done so far, for whoever looks on: written by the client alone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Progress {
    /// Acknowledged events, of the warm-up too.
    pub events: AtomicU64,
    /// The bytes of their payloads.
    pub bytes: AtomicU64,
}

/// What one client counts.
#[derive(Debug)]
pub(crate) struct Recorder {
    progress: Arc<Progress>,
    all: Tally,
    /// What was acknowledged while it counted.
    counted: Tally,
    latencies: Latencies,
    /// Those that the histogram does not have yet.
    kept: Vec<u64>,
    /// When it got those that it has, and for how long it can wait for more.
    given_at: u64,
    kept_ns: u64,
    /// When the last of what counted was acknowledged.
    last: u64,
}

/// Events, and the bytes of their payloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub events: u64,
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, more: Self) {
        self.events += more.events;
        self.bytes += more.bytes;
    }
}

impl Recorder {
    /// The recorder of a client that is alone.
    pub(crate) fn new() -> Self {
        Self::sharing(&latencies())
    }

    /// The recorder of one of several clients.
    pub(crate) fn sharing(latencies: &Latencies) -> Self {
        Self {
            progress: Arc::default(),
            all: Tally::default(),
            counted: Tally::default(),
            latencies: Arc::clone(latencies),
            kept: Vec::with_capacity(KEPT),
            given_at: 0,
            kept_ns: u64::MAX,
            last: 0,
        }
    }

    /// Has latencies be given to the histogram within a tenth of a second, where `looked_at` says that somebody looks at
    /// each second.
    pub(crate) fn looked_at(mut self, looked_at: bool) -> Self {
        self.kept_ns = if looked_at { KEPT_NS } else { u64::MAX };
        self
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Something that began at `since` was done at `now`. Gives whether it counts.
    pub(crate) fn record(&mut self, clock: &Clock, since: u64, now: u64, done: Tally) -> bool {
        self.all.add(done);
        // Plain stores: nobody else writes them.
        self.progress.events.store(self.all.events, Ordering::Relaxed);
        self.progress.bytes.store(self.all.bytes, Ordering::Relaxed);
        let counts = now >= clock.counts_from && now <= clock.end();
        if counts {
            self.counted.add(done);
            self.kept.push(now - since);
            // The clock may be another one than before, which has begun anew.
            let is_late = now.saturating_sub(self.given_at) > self.kept_ns;
            if self.kept.len() == KEPT || is_late {
                self.given_at = now;
                let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
                self.kept.drain(..).for_each(|nanos| latencies.saturating_record(nanos));
            }
            self.last = now;
        }
        counts
    }
}

/// What came of all recorders of a load.
#[derive(Debug)]
pub(crate) struct Recorded {
    /// Of the warm-up too, and of what was on its way at the end.
    pub all: Tally,
    pub counted: Tally,
    pub latency: Histogram<u64>,
    pub last: u64,
}

impl Recorded {
    pub(crate) fn new() -> Self {
        Self { all: Tally::default(), counted: Tally::default(), latency: histogram(), last: 0 }
    }

    pub(crate) fn add(&mut self, recorder: &Recorder) -> Result<(), AnyError> {
        self.all.add(recorder.all);
        self.counted.add(recorder.counted);
        // Of those that share it, the first brings what all of them gave.
        let mut latencies = recorder.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        self.latency.add(&*latencies)?;
        latencies.reset();
        recorder.kept.iter().for_each(|nanos| self.latency.saturating_record(*nanos));
        self.last = self.last.max(recorder.last);
        Ok(())
    }
}

/// An empty histogram for clients that share it.
pub(crate) fn latencies() -> Latencies {
    Arc::new(Mutex::new(histogram()))
}

/// A histogram of nanoseconds, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order")
}

/// A duration as a number.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Tally = Tally { events: 1, bytes: 10 };

    #[test]
    fn only_what_is_acknowledged_inside_the_window_counts() {
        let clock = Clock::start(Duration::from_nanos(100), Some(Duration::from_nanos(50)));
        let mut recorder = Recorder::new();
        for (since, now, counts) in
            [(0, 99, false), (90, 100, true), (140, 150, true), (140, 151, false)]
        {
            assert_eq!(recorder.record(&clock, since, now, ONE), counts, "{now}");
        }
        let mut sum = Recorded::new();
        sum.add(&recorder).unwrap();
        assert_eq!(sum.all, Tally { events: 4, bytes: 40 });
        assert_eq!(sum.counted, Tally { events: 2, bytes: 20 });
        assert_eq!((sum.latency.len(), sum.latency.max(), sum.last), (2, 10, 150));
    }

    #[test]
    fn an_end_is_only_moved_forward() {
        let clock = Clock::start(Duration::ZERO, None);
        assert_eq!(clock.end(), u64::MAX);
        clock.end_now();
        let end = clock.end();
        assert!(end < u64::MAX);
        clock.end_now();
        assert_eq!(clock.end(), end);
    }
}
