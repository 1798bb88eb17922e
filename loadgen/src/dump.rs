//! `loadgen dump`: everything in a store, in the lines of the protocol of acknowledgements.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use crate::AnyError;
use crate::acks;
use crate::target::Target;

/// Prints `R stream version crc32` for every event in the order of positions, then `END`.
pub(crate) fn dump<T: Target>(folder: &Path, recover: bool) -> Result<(), AnyError> {
    let target = if recover {
        // A store that is not there is not made.
        T::open_read_only(folder)?.close()?;
        T::open(folder)?
    } else {
        T::open_read_only(folder)?
    };
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    target.read_all(|event| {
        Ok(acks::line(&mut out, 'R', event.stream, event.version, event.checksum())?)
    })?;
    writeln!(out, "END")?;
    out.flush()?;
    target.close()
}
