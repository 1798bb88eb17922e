//! `stratalog export`.
//!
//! Owns the order and the end of what is printed. Calls the store's readers, and `line` for the shape;
//! `main` calls it.

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use stratalog::{Batch, ReadError, Store};

use crate::line;
use crate::output::closed_is_fine;
use crate::progress::{Progress, Unit};

const OUTPUT_BUFFER_BYTES: usize = 1 << 18;

/// How printing ended, if it did not reach the end.
#[derive(Debug)]
enum Stop {
    Read(ReadError),
    Write(io::Error),
}

/// Prints the events of the store in a directory: of one stream or of all, from a position on.
pub(crate) fn run(directory: &Path, stream: Option<&str>, from: u64) -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_read_only(directory)?;
    let mut out = BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock());
    let stopped = match stream {
        None => {
            let mut reader = store.read_all().from(from).forward();
            print(&mut out, 0, store.head().get(), || reader.next_batch())
        }
        Some(stream) => {
            let mut reader = store.read_stream(stream).forward();
            print(&mut out, from, store.head().get(), || reader.next_batch())
        }
    };
    // What was read before an error is printed before it is told.
    match stopped {
        Ok(()) => closed_is_fine(out.flush())?,
        Err(Stop::Write(error)) => {
            // What is left in the buffer cannot be written either, and is not tried again.
            let _ = out.into_parts();
            closed_is_fine(Err(error))?;
        }
        Err(Stop::Read(error)) => {
            closed_is_fine(out.flush())?;
            return Err(error.into());
        }
    }
    Ok(())
}

/// Prints batches up to the last; leaves out events before a position.
fn print(
    out: &mut impl Write,
    from: u64,
    last: u64,
    mut next_batch: impl FnMut() -> Result<Option<Batch>, ReadError>,
) -> Result<(), Stop> {
    let mut progress = Progress::new(Unit::Events, Some(last));
    while let Some(batch) = next_batch().map_err(Stop::Read)? {
        for event in &batch {
            let position = event.position().get();
            if position >= from {
                line::print(event, out).map_err(Stop::Write)?;
            }
            progress.step(position);
        }
    }
    Ok(())
}
