//! A line that shows how far a load is: on stderr, and only on a terminal.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};

/// See the module.
#[derive(Debug)]
pub(crate) struct Live {
    bar: Option<ProgressBar>,
}

impl Live {
    pub(crate) fn new() -> Self {
        let style = ProgressStyle::default_spinner().template("{spinner} {msg}");
        let bar = match style {
            Ok(style) if io::stderr().is_terminal() => {
                Some(ProgressBar::new_spinner().with_style(style))
            }
            _ => None,
        };
        Self { bar }
    }

    /// Shows this in place of what was shown; `text` is made only where there is a terminal.
    pub(crate) fn show(&self, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text());
            bar.tick();
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // The line is made free for what is said next.
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
