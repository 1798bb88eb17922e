//! How fast the next segment is zeroed, and whether it is.
//!
//! Zeroing serves latency: a durable write over blocks that were written before takes half as long as one
//! into blocks that are only reserved. But it doubles what the device has to write. So it is spread over
//! half of the time in which the segment before fills up, and left out where it would keep the device from the log.
//! The same for bringing sealed segments back into memory, of which each step has to leave the device alone for longer
//! than it takes. Pure: the maintainer tells it what happened, and when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::prepare::STEP_BYTES;
use super::warming;

/// The longest rest between two steps.
const REST_MAX: Duration = Duration::from_millis(100);
/// A sealed segment is brought back no faster than with this rest between two steps.
const WARMING_REST_MIN: Duration = Duration::from_millis(2);
/// And no slower than with this, so that it is soon there, unless the device takes long for a step.
const WARMING_REST_MAX: Duration = Duration::from_millis(4);
/// The device rests so many times as long as a step of that takes it.
const WARMING_RESTS: f64 = 9.0;
/// How many steps are looked back at.
const STEPS_KEPT: usize = 9;
/// With fewer nothing is left out.
const STEPS_TO_JUDGE: usize = 5;

/// Zeroing pays where it takes no more than this part of the time that the log takes for as many bytes: where it takes
/// more, the device has little to spare, and what it writes of zeroes it does not write of the log.
const ZEROING_PART_MAX: f64 = 0.4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the segment that takes appends was taken into use, and how many bytes it has.
    active: Option<(Instant, u64)>,
    /// How long a byte of the log took lately, in seconds.
    seconds_per_byte: Option<f64>,
    /// How long the last steps of the segment that is being made took, in seconds, the oldest first.
    steps: VecDeque<f64>,
    /// How long such a step took when that was last known, in seconds: how fast the device is.
    device: Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "rates")]
impl Pace {
    /// The segment of `bytes` that was prepared has been taken into use: the one before is full.
    pub(super) fn rolled(&mut self, bytes: u64, now: Instant) {
        if let Some((since, before)) = self.active.replace((now, bytes)) {
            let seconds = now.saturating_duration_since(since).as_secs_f64();
            self.seconds_per_byte = Some(seconds / before.max(1) as f64);
        }
        // Whether the next one can be zeroed in time is found out anew.
        self.steps.clear();
    }

    /// How long to rest between two of the steps in which so many bytes of a sealed segment are brought back into
    /// memory; none where the log grows so fast that the device has no time for it.
    pub(super) fn warms(&self, bytes: usize) -> Option<Duration> {
        let step =
            self.device.map_or(0.0, |step| step / STEP_BYTES as f64 * warming::STEP_BYTES as f64);
        let rest_min = (WARMING_RESTS * step).max(WARMING_REST_MIN.as_secs_f64());
        let rest_max = rest_min.max(WARMING_REST_MAX.as_secs_f64());
        let steps = bytes.div_ceil(warming::STEP_BYTES).max(1);
        let rest = self.fills_in().map_or(rest_max, |fills| 0.5 * fills / steps as f64);
        (rest >= rest_min).then(|| Duration::from_secs_f64(rest.min(rest_max)))
    }

    /// Whether zeroing so many bytes is worth what it takes from the log.
    pub(super) fn pays(&self, bytes: u64) -> bool {
        match (self.fills_in(), self.step()) {
            (Some(fills), Some(step)) => step * steps(bytes) <= ZEROING_PART_MAX * fills,
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
        self.device = self.step().or(self.device);
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
        let warms = |time| filling_in(time).warms(64 << 20);
        // A step takes the device a quarter of a millisecond.
        assert_eq!(warms(Duration::from_millis(1500)).unwrap().as_micros(), 2929);
        assert_eq!(warms(Duration::from_mins(1)), Some(WARMING_REST_MAX));
        assert_eq!(warms(Duration::from_secs(1)), None);
        assert_eq!(Pace::default().warms(64 << 20), Some(WARMING_REST_MAX));
    }

    #[test]
    fn a_slow_device_is_not_kept_busy_with_bringing_segments_back() {
        let mut pace = filling_in(Duration::from_secs(4));
        assert_eq!(pace.warms(64 << 20), Some(WARMING_REST_MAX));
        for _ in 0..STEPS_KEPT {
            pace.stepped(Duration::from_millis(4), SEGMENT);
        }
        // A step of a millisecond, and nine to rest: there is time for some of it only.
        assert_eq!(pace.warms(64 << 20), None);
        assert_eq!(pace.warms(8 << 20), Some(Duration::from_millis(9)));
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
    fn zeroing_that_takes_much_of_the_time_of_the_log_is_left_out() {
        // 64 steps of a millisecond.
        assert!(filling_in(Duration::from_millis(161)).pays(SEGMENT));
        let mut pace = filling_in(Duration::from_millis(159));
        assert!(!pace.pays(SEGMENT));
        // It is tried again with the next segment.
        pace.rolled(SEGMENT, Instant::now() + Duration::from_mins(1));
        assert!(pace.pays(SEGMENT));
    }
}
