//! What goes to stdout.
//!
//! Owns the rule for a reader that has gone away. Called by every subcommand.

use std::io::{self, Write};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Writing to stdout failed for another reason than a closed pipe.
#[derive(Debug, thiserror::Error)]
#[error("writing to stdout failed")]
pub(crate) struct OutputError(#[source] io::Error);

/// Whoever reads what goes to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    There,
    Gone,
}

/// A pipe that was closed by its reader has got what the reader wanted: that is no failure.
pub(crate) fn closed_is_fine(written: io::Result<()>) -> Result<Reader, OutputError> {
    match written {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(OutputError(error)),
    }
}

/// Prints a text and ends its line.
pub(crate) fn print(text: &str) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    closed_is_fine(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))?;
    Ok(())
}

/// Does nothing for that time, or until whoever reads stdout goes away, which is noticed at once.
pub(crate) fn pause(time: Duration) -> Reader {
    let stdout = io::stdout();
    // Nothing is asked for: what is told all the same is that the other end was closed.
    let mut asked = [PollFd::new(&stdout, PollFlags::empty())];
    let waited = Timespec::try_from(time).map(|time| poll(&mut asked, Some(&time)));
    match waited {
        Ok(Ok(0)) => Reader::There,
        Ok(Ok(_)) => Reader::Gone,
        // It cannot be asked, or a signal came in between: the next line finds out.
        _ => {
            std::thread::sleep(time);
            Reader::There
        }
    }
}
