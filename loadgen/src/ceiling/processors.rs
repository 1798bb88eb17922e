//! How long it takes two processors to pass a word to and fro.
//!
//! Part of the ceiling: what many threads or tasks share travels this way, and on a virtual machine it depends on where
//! the host runs its processors at the moment. Beside each other it takes a fifth of what it takes across the caches that
//! they do not share, and the host may move them at any time.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often the word goes to and fro between two looks at the clock.
const ROUND_TRIPS: u32 = 1_000;
/// How often that is timed; the best counts, in which neither thread was interrupted.
const TIMES: u32 = 20;

/// The time of a round trip in nanoseconds; none where there is only one processor.
pub(super) fn round_trip_ns() -> Option<f64> {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        return None;
    }
    let word = AtomicU32::new(0);
    let mut best = Duration::MAX;
    thread::scope(|scope| {
        scope.spawn(|| (0..TIMES * ROUND_TRIPS).for_each(|trip| answer(&word, 2 * trip + 1)));
        for time in 0..TIMES {
            let began = Instant::now();
            let trips = time * ROUND_TRIPS..(time + 1) * ROUND_TRIPS;
            trips.for_each(|trip| {
                word.store(2 * trip + 1, Ordering::Release);
                wait_for(&word, 2 * trip + 2);
            });
            best = best.min(began.elapsed());
        }
    });
    Some(best.as_secs_f64() * 1e9 / f64::from(ROUND_TRIPS))
}

fn answer(word: &AtomicU32, value: u32) {
    wait_for(word, value);
    word.store(value + 1, Ordering::Release);
}

fn wait_for(word: &AtomicU32, value: u32) {
    while word.load(Ordering::Acquire) != value {
        spin_loop();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_word_goes_to_and_fro() {
        let several =
            std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
        let measured = super::round_trip_ns();
        assert_eq!(measured.is_some(), several);
        assert!(measured.is_none_or(|nanoseconds| nanoseconds > 1.0));
    }
}
