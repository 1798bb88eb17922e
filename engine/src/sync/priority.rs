//! Letting other threads go first.

use rustix::process::setpriority_process;

/// A tenth of what another thread gets of a processor that both want, as Linux weighs it. Less, and what is done in
/// the background would not be done at all on a machine that has no time to spare.
const NICE: i32 = 10;

/// Has the system prefer other threads to the calling one, for the rest of its life. Where the system does not let it,
/// nothing is wrong.
pub(crate) fn let_others_go_first() {
    // On Linux a thread has a priority of its own; none named is the calling one.
    if let Err(error) = setpriority_process(None, NICE) {
        tracing::debug!(%error, "a background thread has the priority of all others");
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_lets_others_go_first_ends_all_the_same() {
        let done = std::thread::spawn(|| {
            let_others_go_first();
            (0..100_000_u64).sum::<u64>()
        });
        assert_eq!(done.join().unwrap(), 4_999_950_000);
    }
}
