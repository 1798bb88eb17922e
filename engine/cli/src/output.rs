//! What goes to stdout.
//!
//! Owns the rule for a reader that has gone away. Called by every subcommand.

use std::io::{self, Write};

/// Writing to stdout failed for another reason than a closed pipe.
#[derive(Debug, thiserror::Error)]
#[error("writing to stdout failed")]
pub(crate) struct OutputError(#[source] io::Error);

/// A pipe that was closed by its reader has got what the reader wanted: that is no failure.
pub(crate) fn closed_is_fine(written: io::Result<()>) -> Result<(), OutputError> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(OutputError(error)),
        _ => Ok(()),
    }
}

/// Prints a text and ends its line.
pub(crate) fn print(text: &str) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    closed_is_fine(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}
