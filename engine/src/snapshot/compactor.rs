//! The compactor: the background thread that keeps the garbage of snapshots within its bounds.
//!
//! Nobody waits for it. It is rung when a segment was sealed, compacts until nothing is worth it, and gives way to commits,
//! see `pace`. What it has begun when the store is closed is left out, and never matters.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pace::{Commits, Pace};
use super::room::Room;
use super::segments::{NotCompacted, Slack};
use crate::commit;
use crate::log::{Bell, Called};

/// How long a compaction that failed waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// How long it rests, at most, before it looks whether somebody waits who has no time.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(super) struct Compactor {
    bell: Bell,
    /// By which it is seen how long commits take.
    commits: Arc<commit::Figures>,
}

impl Compactor {
    pub(super) fn new(commits: Arc<commit::Figures>) -> Self {
        Self { bell: Bell::default(), commits }
    }

    /// There may be something to do.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    pub(super) fn stop(&self) {
        self.bell.stop();
    }

    /// The thread.
    pub(super) fn run(&self, room: &Room) {
        let mut again_at = None;
        loop {
            let Called { stop, .. } = self.bell.wait(again_at.take());
            if stop {
                return;
            }
            loop {
                match self.compact(room) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(NotCompacted::Ended) => {
                        again_at = Some(Instant::now() + LOOK_EVERY);
                        break;
                    }
                    Err(NotCompacted::File(error)) => {
                        room.segments.figures.failed(&error);
                        again_at = Some(Instant::now() + RETRY_AFTER);
                        break;
                    }
                }
            }
        }
    }

    /// Does one compaction, if one is worth it.
    fn compact(&self, room: &Room) -> Result<bool, NotCompacted> {
        let mut pace = Pace::new(room.segments.options.compaction_rate, self.commits());
        let mut begun = Instant::now();
        let compacted = room.segments.compact(Slack::Half, &mut |bytes| {
            let rest = pace.worked(bytes, begun.elapsed(), self.commits());
            let until = Instant::now() + rest;
            // Also without a rest: whether it is to end.
            while !self.bell.is_stopped() && !room.segments.is_hurried() {
                let now = Instant::now();
                if now >= until {
                    pace.rested(self.commits());
                    begun = now;
                    return ControlFlow::Continue(());
                }
                self.bell.wait(Some(until.min(now + LOOK_EVERY)));
            }
            ControlFlow::Break(())
        })?;
        Ok(compacted.is_some())
    }

    fn commits(&self) -> Commits {
        let figures = self.commits.read();
        Commits { batches: figures.batches, nanos: figures.batch_nanos }
    }
}
