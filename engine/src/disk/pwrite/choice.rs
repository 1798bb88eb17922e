//! Whether several durable writes at a time go through a ring: owns [`Choice`], made by a trial.
//!
//! It calls the ring and the files of the directory. `PwriteDisk` asks it when a queue is first wanted,
//! which is on the thread that will use it and while nothing waits for the disk.
//!
//! Which way is faster depends on the device: where one cannot be told to write through its cache by the
//! write itself, the kernel ends an asynchronous durable write on a thread of its own, which costs time
//! that only writes at the same time win back.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Directory;
use super::file::PwriteFile;
use super::open;
use crate::disk::uring::UringQueue;
use crate::disk::{
    AlignedBuf, DiskFile, QueuedWrite, WriteParts, WriteQueue as _, write_all_durable_at,
};

/// What is tried: so many writes of so many bytes, at once and one after the other.
const WRITES: usize = 4;
const WRITE_BYTES: usize = 64 << 10;
/// How often, on places of the file one behind the other. The first time does not count.
const ROUNDS: usize = 6;
/// A trial on a slow device ends after the round in which so much time has passed.
const TRIAL_MAX: Duration = Duration::from_millis(20);
/// The file that is written to, in bytes: a place for every round.
const FILE_BYTES: usize = ROUNDS * WRITES * WRITE_BYTES;

/// What was found.
#[derive(Debug)]
pub(super) enum Choice {
    /// The median of the time that the writes took, one way and the other.
    Tried { ring: Duration, plain: Duration },
    /// Could not be tried; why.
    Plain(io::Error),
}

impl Choice {
    pub(super) fn is_ring(&self) -> bool {
        matches!(self, Self::Tried { ring, plain } if ring < plain)
    }

    /// Tries both ways, on a file without a name in the directory.
    pub(super) fn try_in(directory: &Arc<Directory>) -> Self {
        let choice = try_both(directory)
            .map_or_else(Self::Plain, |(ring, plain)| Self::Tried { ring, plain });
        let (dir, ring) = (directory.path.display(), choice.is_ring());
        tracing::info!(%dir, ring, found = %choice, "tried how to make several durable writes");
        choice
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tried { ring, plain } => write!(
                f,
                "{WRITES} × {} KiB in {} µs by io_uring, in {} µs one after the other",
                WRITE_BYTES >> 10,
                ring.as_micros(),
                plain.as_micros()
            ),
            Self::Plain(error) => write!(f, "no io_uring: {error}"),
        }
    }
}

fn try_both(directory: &Arc<Directory>) -> io::Result<(Duration, Duration)> {
    let mut queue = UringQueue::new(WRITES)?;
    let file = File::from(open::nameless(&directory.fd)?);
    let file: Arc<dyn DiskFile> = Arc::new(PwriteFile::new(Arc::clone(directory), file, true));
    let mut buf = AlignedBuf::zeroed(FILE_BYTES)?;
    buf.fill(0xA5);
    write_all_durable_at(file.as_ref(), &[&buf], 0)?;
    let mut parts = Vec::new();
    for _ in 0..WRITES {
        let mut buf = AlignedBuf::zeroed(WRITE_BYTES)?;
        buf.fill(0x5A);
        parts.push(Box::new(buf) as Box<dyn WriteParts>);
    }

    let (mut ring, mut plain) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for round in 0..ROUNDS {
        let place = |write: usize| ((round * WRITES + write) * WRITE_BYTES) as u64;
        let at = Instant::now();
        for (tag, parts) in (0_u64..).zip(parts.drain(..)) {
            let offset = place(usize::try_from(tag).unwrap_or(0));
            queue.submit(QueuedWrite { file: Arc::clone(&file), offset, parts, tag })?;
        }
        while queue.in_flight() > 0 {
            if let Some(ended) = queue.wait()? {
                ended.result?;
                parts.push(ended.parts);
            }
        }
        ring.push(at.elapsed());

        let at = Instant::now();
        for write in 0..WRITES {
            write_all_durable_at(file.as_ref(), &[&buf[..WRITE_BYTES]], place(write))?;
        }
        plain.push(at.elapsed());
        if begun.elapsed() > TRIAL_MAX {
            break;
        }
    }
    Ok((median(ring), median(plain)))
}

/// The median of all rounds but the first, if there are others.
fn median(mut rounds: Vec<Duration>) -> Duration {
    if rounds.len() > 1 {
        rounds.remove(0);
    }
    rounds.sort_unstable();
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_way_is_chosen_and_both_are_told() {
        let micros = Duration::from_micros;
        let faster = Choice::Tried { ring: micros(200), plain: micros(400) };
        let slower = Choice::Tried { ring: micros(400), plain: micros(400) };
        assert!(faster.is_ring() && !slower.is_ring());
        let told = faster.to_string();
        assert!(told.contains("200 µs by io_uring") && told.contains("400 µs one"), "{told}");
        assert!(!Choice::Plain(io::ErrorKind::Unsupported.into()).is_ring());
    }

    #[test]
    fn the_first_round_does_not_count_where_there_are_others() {
        let rounds = |micros: &[u64]| micros.iter().copied().map(Duration::from_micros).collect();
        assert_eq!(median(rounds(&[900, 3, 1, 2])), Duration::from_micros(2));
        assert_eq!(median(rounds(&[900])), Duration::from_micros(900));
    }
}
