//! Threads that let others run before they sleep.
//!
//! Owns whether a thread that waits for its batch does so, one of many that wait. A thread that has slept is owed some of
//! its processor, by Linux's scheduler, and so are all of those that the end of a batch has woken: together they are served
//! before the commit thread, which runs for a part of each batch, and its next write stands still behind them, at every
//! of the steps in which a thread of the system or the commit thread itself has to go on: it is written, flushed, told.
//! A thread that lets others run gives up what it is owed. It does so a few times, looking in between whether the batch
//! has ended, and sleeps then.
//!
//! Where other threads compute, they would be served before the one that gives way, each for milliseconds. So the time
//! is taken, and where more than one wait in `LATE_WEIGHT` is late, nobody gives way for some thousand waits; then one
//! thread tries again. Calls `sync` only; the tickets call it.

use std::time::Instant;

use crate::limits::{GIVES_WAY_THREADS_MIN, GIVES_WAY_TIMES, LATE_AFTER, LATE_WAITS};
use crate::sync::{AtomicU32, Ordering, yield_now};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct GivingWay {
    /// For how many waits nobody gives way. What two threads do to these counts at once may get lost: they say how many,
    /// not how many exactly.
    suspended: AtomicU32,
    /// Grows with each wait that was late, by [`LATE_WEIGHT`], and shrinks with each that was not.
    lateness: AtomicU32,
}

/// So many waits that are not late make up for one that is.
const LATE_WEIGHT: u32 = 16;
/// Nobody gives way any more when the lateness comes to this: five waits that were late in a row.
const LATENESS_MAX: u32 = 5 * LATE_WEIGHT;

impl GivingWay {
    /// Whether those who wait for a batch are to give way, where so many threads have waited for the one before.
    pub(crate) fn pays(threads: u32) -> bool {
        threads >= GIVES_WAY_THREADS_MIN
    }

    /// Lets others run, until the batch has ended, as it seems, or that was enough.
    pub(super) fn give_way(&self, has_ended: impl Fn() -> bool) {
        if let Some(turn) = self.begin() {
            self.end(turn, is_late(has_ended));
        }
    }

    /// A wait: whether it gives way, and as what.
    fn begin(&self) -> Option<Turn> {
        let suspended = self.suspended.load(Ordering::Relaxed);
        let (turn, next) = match suspended {
            0 => return Some(Turn::OneOfMany),
            // Nobody else tries before this one has.
            1 => (Some(Turn::Trial), LATE_WAITS),
            _ => (None, suspended - 1),
        };
        self.suspended.store(next, Ordering::Relaxed);
        turn
    }

    /// It has given way.
    fn end(&self, turn: Turn, is_late: bool) {
        let before = self.lateness.load(Ordering::Relaxed);
        let lateness = if is_late { before + LATE_WEIGHT } else { before.saturating_sub(1) };
        if lateness >= LATENESS_MAX || (is_late && turn == Turn::Trial) {
            self.suspended.store(LATE_WAITS, Ordering::Relaxed);
            self.lateness.store(0, Ordering::Relaxed);
            return;
        }
        if lateness != before {
            self.lateness.store(lateness, Ordering::Relaxed);
        }
        if turn == Turn::Trial {
            self.suspended.store(0, Ordering::Relaxed);
        }
    }
}

/// As what a thread gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    OneOfMany,
    /// The first one after some thousand waits.
    Trial,
}

/// Lets others run some times; whether that took too long.
fn is_late(has_ended: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    for _ in 0..GIVES_WAY_TIMES {
        yield_now();
        if began.elapsed() > LATE_AFTER {
            return true;
        }
        if has_ended() {
            break;
        }
    }
    false
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    /// How many of so many waits give way, all of which are in time, or late.
    fn waits(giving_way: &GivingWay, count: u32, is_late: bool) -> u32 {
        let turns = (0..count).filter_map(|_| giving_way.begin());
        turns.map(|turn| giving_way.end(turn, is_late)).map(|()| 1).sum()
    }

    #[test]
    fn threads_that_come_back_late_give_way_no_more_until_one_that_tries_is_in_time() {
        let giving_way = GivingWay::default();
        assert_eq!(waits(&giving_way, 100, false), 100);
        assert_eq!(waits(&giving_way, 100, true), 5);
        // One tries again, and is late as well.
        assert_eq!(waits(&giving_way, LATE_WAITS, true), 1);
        assert_eq!(waits(&giving_way, LATE_WAITS, true), 1);
        // One tries again, and is in time.
        assert!(waits(&giving_way, LATE_WAITS, false) >= 1);
        assert_eq!(waits(&giving_way, 100, false), 100);
    }

    #[test]
    fn while_one_tries_again_nobody_else_does() {
        let giving_way = GivingWay::default();
        waits(&giving_way, 5, true);
        waits(&giving_way, LATE_WAITS - 1, true);
        let trial = giving_way.begin().unwrap();
        assert_eq!(trial, Turn::Trial);
        assert_eq!(giving_way.begin(), None);
        giving_way.end(trial, false);
        assert_eq!(giving_way.begin(), Some(Turn::OneOfMany));
    }

    #[test]
    fn a_late_one_now_and_then_changes_nothing() {
        let giving_way = GivingWay::default();
        for _ in 0..1_000 {
            assert_eq!(waits(&giving_way, 1, true) + waits(&giving_way, LATE_WEIGHT, false), 17);
        }
    }

    #[test]
    fn a_thread_gives_way_until_its_batch_has_ended_and_not_for_ever() {
        let asked = std::cell::Cell::new(0);
        let asks = |ended_at: u32| {
            asked.set(0);
            let _ = is_late(|| {
                asked.set(asked.get() + 1);
                asked.get() == ended_at
            });
            asked.get()
        };
        assert!(asks(2) <= 2);
        assert!(asks(u32::MAX) <= GIVES_WAY_TIMES);
    }
}
