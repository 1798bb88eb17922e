//! How fast the next segment is zeroed, and whether it is.
//!
//! Zeroing serves latency: a durable write over blocks that were written before takes half as long as one
//! into blocks that are only reserved. But it doubles what the device has to write. So it is spread over
//! half of the time in which the segment before fills up, and left out where it would not be done by then.
//! Pure: the maintainer tells it what happened, and when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::prepare::STEP_BYTES;

/// The longest rest between two steps.
const REST_MAX: Duration = Duration::from_millis(100);
/// A sealed segment is brought back no faster than with this rest between two steps: a step takes the
/// device a tenth of that.
const WARMING_REST_MIN: Duration = Duration::from_millis(2);
/// And no slower than with this, so that it is soon there.
const WARMING_REST_MAX: Duration = Duration::from_millis(4);
/// How many steps are looked back at.
const STEPS_KEPT: usize = 9;
/// With fewer nothing is left out.
const STEPS_TO_JUDGE: usize = 5;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the segment that takes appends was taken into use, and how many bytes it has.
    active: Option<(Instant, u64)>,
    /// How long a byte of the log took lately, in seconds.
    seconds_per_byte: Option<f64>,
    /// How long the last steps of the segment that is being made took, in seconds, the oldest first.
    steps: VecDeque<f64>,
}

impl Pace {
    /// The segment of `bytes` that was prepared has been taken into use: the one before is full.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn rolled(&mut self, bytes: u64, now: Instant) {
        if let Some((since, before)) = self.active.replace((now, bytes)) {
            let seconds = now.saturating_duration_since(since).as_secs_f64();
            self.seconds_per_byte = Some(seconds / before.max(1) as f64);
        }
        // Whether the next one can be zeroed in time is found out anew.
        self.steps.clear();
    }

    /// How long to rest between two of the `steps` in which a sealed segment is brought back into memory;
    /// none where the log grows so fast that the device has no time for it.
    pub(super) fn warms(&self, steps: usize) -> Option<Duration> {
        let Some(fills) = self.fills_in() else { return Some(WARMING_REST_MAX) };
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rest = 0.5 * fills / steps.max(1) as f64;
        let rest = Duration::from_secs_f64(rest.min(WARMING_REST_MAX.as_secs_f64()));
        (rest >= WARMING_REST_MIN).then_some(rest)
    }

    /// Whether zeroing so many bytes will be done before the active segment is full.
    pub(super) fn pays(&self, bytes: u64) -> bool {
        match (self.fills_in(), self.step()) {
            (Some(fills), Some(step)) => step * steps(bytes) <= 0.8 * fills,
            _ => true,
        }
    }

    /// A step took so long; how long to rest before the next, where a segment of `bytes` is zeroed.
    pub(super) fn stepped(&mut self, took: Duration, bytes: u64) -> Duration {
        let took = took.as_secs_f64();
        if self.steps.len() == STEPS_KEPT {
            self.steps.pop_front();
        }
        self.steps.push_back(took);
        let Some(fills) = self.fills_in() else { return Duration::ZERO };
        let budget = 0.5 * fills / steps(bytes);
        Duration::from_secs_f64((budget - took).clamp(0.0, REST_MAX.as_secs_f64()))
    }

    /// How long a step takes: the median of the last ones, since the device may be busy with a sync for
    /// as long as it takes for many. None where there were too few.
    fn step(&self) -> Option<f64> {
        if self.steps.len() < STEPS_TO_JUDGE {
            return None;
        }
        let mut steps: Vec<f64> = self.steps.iter().copied().collect();
        steps.sort_unstable_by(f64::total_cmp);
        Some(steps[steps.len() / 2])
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
        for _ in 0..STEPS_TO_JUDGE {
            pace.stepped(Duration::from_millis(1), SEGMENT);
        }
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
    fn a_segment_is_brought_back_in_half_of_the_time_that_the_next_one_takes_to_fill_up() {
        let rest = filling_in(Duration::from_millis(1500)).warms(256).unwrap();
        assert_eq!(rest.as_micros(), 2929);
        assert_eq!(filling_in(Duration::from_mins(1)).warms(256), Some(WARMING_REST_MAX));
        assert_eq!(filling_in(Duration::from_secs(1)).warms(256), None);
        assert_eq!(Pace::default().warms(256), Some(WARMING_REST_MAX));
    }

    #[test]
    fn a_few_slow_steps_are_no_reason_to_leave_it_out() {
        let mut pace = filling_in(Duration::from_millis(640));
        for _ in 0..STEPS_KEPT / 2 {
            pace.stepped(Duration::from_millis(50), SEGMENT);
            assert!(pace.pays(SEGMENT));
        }
        pace.stepped(Duration::from_millis(50), SEGMENT);
        assert!(!pace.pays(SEGMENT));
    }

    #[test]
    fn what_would_not_be_done_in_time_is_left_out() {
        let mut pace = filling_in(Duration::from_millis(70));
        assert!(!pace.pays(SEGMENT));
        // It is tried again with the next segment.
        pace.rolled(SEGMENT, Instant::now() + Duration::from_mins(1));
        assert!(pace.pays(SEGMENT));
    }
}
