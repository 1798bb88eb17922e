//! A signal to one thread: something may have changed.

use std::time::Duration;

use super::{Ordering, WaitWord};

const QUIET: u32 = 0;
const SLEEPING: u32 = 1;
const GIVEN: u32 = 2;

/// Wakes one thread, which waits for it. Given twice before it is waited for, it counts once; given while
/// nobody sleeps, it costs no system call.
#[derive(Debug)]
pub(crate) struct Signal(WaitWord);

impl Default for Signal {
    fn default() -> Self {
        Self(WaitWord::new(QUIET))
    }
}

impl Signal {
    /// What was written before is seen by the thread that waits.
    pub(crate) fn give(&self) {
        if self.0.swap(GIVEN, Ordering::AcqRel) == SLEEPING {
            self.0.wake_one();
        }
    }

    /// Waits until the signal was given since the last call, or for `timeout`; says whether it was.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        if self.0.exchange(QUIET, SLEEPING) {
            self.0.sleep(SLEEPING, timeout);
        }
        // A wake-up without a reason is as good as a timeout: the caller looks for itself.
        self.0.swap(QUIET, Ordering::AcqRel) == GIVEN
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_signal_that_was_given_before_is_not_waited_for() {
        let signal = Signal::default();
        signal.give();
        signal.give();
        assert!(signal.wait(None));
        assert!(!signal.wait(Some(Duration::from_millis(1))));
    }

    #[test]
    fn a_signal_wakes_the_thread_that_waits() {
        let signal = Signal::default();
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let begun = Instant::now();
                while !signal.wait(Some(Duration::from_mins(1))) {}
                begun.elapsed()
            });
            std::thread::sleep(Duration::from_millis(20));
            signal.give();
            assert!(waiter.join().unwrap() < Duration::from_secs(50));
        });
    }
}
