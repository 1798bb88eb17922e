//! Events on stdout, one line each.
//!
//! Owns the order and the end of what is printed. Calls the library's export for the shape; `export`, `query` and `tail`
//! call it.

use std::io::{self, BufWriter, Write};

use stratalog::export::write_event;
use stratalog::{Batch, ReadError};

use crate::output::{OutputError, Reader, closed_is_fine};
use crate::progress::{Progress, Unit};

const OUTPUT_BUFFER_BYTES: usize = 1 << 18;

/// Why not everything was printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrintError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// How printing ended, if it did not reach the end.
#[derive(Debug)]
enum Stop {
    Read(ReadError),
    Write(io::Error),
}

/// How far printing is, for whoever watches it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent {
    /// It goes up to this position, and how far it is shows in an event's position.
    UpTo(u64),
    /// Nobody knows how many events there are; they are counted.
    Unknown,
}

/// Prints batches up to the last; leaves out events before a position. What was read before an error is
/// printed before it is told. Says whether somebody is left to print to.
pub(crate) fn print(
    extent: Extent,
    from: u64,
    next_batch: impl FnMut() -> Result<Option<Batch>, ReadError>,
) -> Result<Reader, PrintError> {
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    match print_to(&mut out, extent, from, next_batch) {
        Ok(()) => Ok(closed_is_fine(out.flush())?),
        Err(Stop::Write(error)) => {
            // What is left in the buffer cannot be written either, and is not tried again.
            let _ = out.into_parts();
            Ok(closed_is_fine(Err(error))?)
        }
        Err(Stop::Read(error)) => {
            closed_is_fine(out.flush())?;
            Err(error.into())
        }
    }
}

fn print_to(
    out: &mut impl Write,
    extent: Extent,
    from: u64,
    mut next_batch: impl FnMut() -> Result<Option<Batch>, ReadError>,
) -> Result<(), Stop> {
    let total = match extent {
        Extent::UpTo(last) => Some(last),
        Extent::Unknown => None,
    };
    let (mut progress, mut printed) = (Progress::new(Unit::Events, total), 0);
    while let Some(batch) = next_batch().map_err(Stop::Read)? {
        for event in &batch {
            let position = event.position().get();
            if position >= from {
                write_event(event, out).map_err(Stop::Write)?;
                printed += 1;
            }
            progress.step(total.map_or(printed, |_| position));
        }
    }
    Ok(())
}
