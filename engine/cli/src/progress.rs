//! Progress on stderr: only on a terminal, and only for work that takes a while.
//!
//! Owns when and how progress is shown. Calls `indicatif`; `import`, `events`, `verify` and `snapshots` call it.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// What is done sooner than this needs no progress.
const QUIET: Duration = Duration::from_millis(500);
/// How often the clock is asked: looking at it for every event would cost more than the event.
const STEPS_BETWEEN_LOOKS: u32 = 256;

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    Bytes,
    Events,
}

/// A bar on stderr, once the work has taken a while.
#[derive(Debug)]
pub(crate) struct Progress {
    unit: Unit,
    total: Option<u64>,
    began: Instant,
    terminal: bool,
    steps: u32,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new(unit: Unit, total: Option<u64>) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { unit, total, began: Instant::now(), terminal, steps: 0, bar: None }
    }

    /// Work that is done in small steps got this far.
    pub(crate) fn step(&mut self, done: u64) {
        if self.steps == 0 {
            self.set(done);
        }
        self.steps = (self.steps + 1) % STEPS_BETWEEN_LOOKS;
    }

    /// The work got this far.
    pub(crate) fn set(&mut self, done: u64) {
        if !self.terminal || (self.bar.is_none() && self.began.elapsed() < QUIET) {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| bar(self.unit, self.total));
        bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // The line is made free for what is said next.
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(unit: Unit, total: Option<u64>) -> ProgressBar {
    let template = match (unit, total) {
        (Unit::Bytes, Some(_)) => "{bar:40} {bytes} of {total_bytes}, {eta} to go",
        (Unit::Bytes, None) => "{spinner} {bytes}",
        (Unit::Events, Some(_)) => "{bar:40} {human_pos} of {human_len} events, {eta} to go",
        (Unit::Events, None) => "{spinner} {human_pos} events",
    };
    let style = match total {
        Some(_) => ProgressStyle::default_bar(),
        None => ProgressStyle::default_spinner(),
    };
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    // A template that indicatif does not take would be a mistake of ours, and the default shows as much.
    bar.with_style(style.clone().template(template).unwrap_or(style))
}
