//! Ends a test that hangs, since a hang is a finding and not a reason to wait for ever.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Runs `work` on a thread of its own, and fails where it does not end in time.
///
/// # Panics
/// Where `work` panics, with its message; and where it has not ended after `limit`. Then its thread goes
/// on, until the process ends.
pub fn within<T: Send + 'static>(
    limit: Duration,
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || {
        // The receiver is gone only where the test has failed already.
        let _ = sender.send(work());
    });
    match receiver.recv_timeout(limit) {
        Ok(done) => {
            thread.join().expect("it has sent its result");
            done
        }
        Err(RecvTimeoutError::Timeout) => panic!("{what} did not end within {limit:?}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(()) => unreachable!("it ends by sending or by a panic"),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}
