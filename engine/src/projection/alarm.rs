//! The time at which those are to look again who wait in tasks.
//!
//! Owns the earliest of their times. A lane keeps it: it sleeps no longer than until then.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

/// Nobody waits for any time.
const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(super) struct Alarm {
    begun: Instant,
    /// In nanoseconds from then on.
    next: AtomicU64,
}

impl Alarm {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), next: AtomicU64::new(NEVER) }
    }

    /// Has it ring at that time; `wake` wakes the lane, where that is earlier than it knows.
    pub(super) fn set(&self, at: Instant, wake: impl FnOnce()) {
        let nanos = at.saturating_duration_since(self.begun).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(NEVER);
        if self.next.fetch_min(nanos, Ordering::AcqRel) > nanos {
            wake();
        }
    }

    /// When it rings; none where nobody waits for it.
    pub(super) fn next(&self) -> Option<Instant> {
        let nanos = self.next.load(Ordering::Acquire);
        (nanos != NEVER).then(|| self.begun + Duration::from_nanos(nanos))
    }

    /// Whether it rings now. Then it is not set any more.
    pub(super) fn rings(&self) -> bool {
        let nanos = self.next.load(Ordering::Acquire);
        nanos != NEVER
            && self.begun.elapsed() >= Duration::from_nanos(nanos)
            && self.next.swap(NEVER, Ordering::AcqRel) != NEVER
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    #[test]
    fn it_rings_once_at_the_earliest_time() {
        let alarm = Alarm::new();
        assert!(!alarm.rings() && alarm.next().is_none());
        let (mut woken, now) = (0, Instant::now());
        alarm.set(now + Duration::from_hours(1), || woken += 1);
        alarm.set(now, || woken += 1);
        alarm.set(now + Duration::from_mins(1), || woken += 1);
        assert_eq!(woken, 2);
        assert!(alarm.rings() && !alarm.rings());
    }
}
