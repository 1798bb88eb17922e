//! How fast the next segment is zeroed, and whether it is.
//!
//! Zeroing serves latency: a durable write over blocks that were written before takes half as long as one
//! into blocks that are only reserved. But it doubles what the device has to write. So it is spread over
//! half of the time in which the segment before fills up, and left out where it would not be done by then.
//! Pure: the maintainer tells it what happened, and when.

use std::time::{Duration, Instant};

use super::prepare::STEP_BYTES;

/// A log whose segments take this long to fill up leaves the device time for more.
const CALM_FILL: Duration = Duration::from_millis(250);
/// The longest rest between two steps.
const REST_MAX: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the segment that takes appends was taken into use, and how many bytes it has.
    active: Option<(Instant, u64)>,
    /// How long a byte of the log took lately, in seconds.
    seconds_per_byte: Option<f64>,
    /// How long a step took lately, in seconds: a moving mean.
    step_seconds: Option<f64>,
}

impl Pace {
    /// The segment of `bytes` that was prepared has been taken into use: the one before is full.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn rolled(&mut self, bytes: u64, now: Instant) {
        if let Some((since, before)) = self.active.replace((now, bytes)) {
            let seconds = now.saturating_duration_since(since).as_secs_f64();
            self.seconds_per_byte = Some(seconds / before.max(1) as f64);
        }
        // What a step took is old by now, if it was long enough for zeroing to be left out.
        self.step_seconds = self.step_seconds.map(|step| step * 0.9);
    }

    /// Whether the log grows so slowly that the device has room for what only may be of use.
    pub(super) fn is_calm(&self) -> bool {
        self.fills_in().is_none_or(|fills| fills >= CALM_FILL.as_secs_f64())
    }

    /// Whether zeroing so many bytes will be done before the active segment is full.
    pub(super) fn pays(&self, bytes: u64) -> bool {
        match (self.fills_in(), self.step_seconds) {
            (Some(fills), Some(step)) => step * steps(bytes) <= 0.8 * fills,
            _ => true,
        }
    }

    /// A step took so long; how long to rest before the next, where a segment of `bytes` is zeroed.
    pub(super) fn stepped(&mut self, took: Duration, bytes: u64) -> Duration {
        let took = took.as_secs_f64();
        self.step_seconds =
            Some(self.step_seconds.map_or(took, |mean| mean.mul_add(0.9, took * 0.1)));
        let Some(fills) = self.fills_in() else { return Duration::ZERO };
        let budget = 0.5 * fills / steps(bytes);
        Duration::from_secs_f64((budget - took).clamp(0.0, REST_MAX.as_secs_f64()))
    }

    /// How long the active segment takes to fill up, in seconds.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn fills_in(&self) -> Option<f64> {
        Some(self.seconds_per_byte? * self.active?.1 as f64)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn steps(bytes: u64) -> f64 {
    bytes.div_ceil(STEP_BYTES).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 64 << 20;

    /// A log whose segments of 64 MiB fill up in this time, and whose steps take 1 ms.
    fn filling_in(time: Duration) -> Pace {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.rolled(SEGMENT, start);
        pace.rolled(SEGMENT, start + time);
        pace.stepped(Duration::from_millis(1), SEGMENT);
        pace
    }

    #[test]
    fn the_first_segments_are_zeroed_without_rest() {
        let mut pace = Pace::default();
        assert!(pace.pays(SEGMENT));
        assert_eq!(pace.stepped(Duration::from_millis(1), SEGMENT), Duration::ZERO);
    }

    #[test]
    fn zeroing_takes_half_of_the_time_that_there_is() {
        let mut pace = filling_in(Duration::from_millis(640));
        assert!(pace.pays(SEGMENT));
        // 64 steps in 320 ms: 5 ms each, of which one is work.
        let rest = pace.stepped(Duration::from_millis(1), SEGMENT);
        assert_eq!(rest.as_millis(), 4);
    }

    #[test]
    fn a_slow_log_does_not_make_it_endless() {
        let mut pace = filling_in(Duration::from_hours(1));
        assert_eq!(pace.stepped(Duration::from_millis(1), SEGMENT), REST_MAX);
    }

    #[test]
    fn a_fast_log_is_not_calm() {
        assert!(Pace::default().is_calm());
        assert!(!filling_in(CALM_FILL / 2).is_calm());
        assert!(filling_in(CALM_FILL * 2).is_calm());
    }

    #[test]
    fn what_would_not_be_done_in_time_is_left_out() {
        let mut pace = filling_in(Duration::from_millis(70));
        assert!(!pace.pays(SEGMENT));
        // Until the log is slower again.
        pace.rolled(SEGMENT, Instant::now() + Duration::from_mins(1));
        assert!(pace.pays(SEGMENT));
    }
}
