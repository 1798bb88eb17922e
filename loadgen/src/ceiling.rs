//! The device's ceiling: how many blocks a second it makes durable, one after the other, over blocks
//! that were written before. No log that waits for each commit can commit more often.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use stratalog::disk::{AlignedBuf, Disk, DiskFile, PwriteDisk, write_all_at, write_all_durable_at};
use stratalog::limits::BLOCK_BYTES;

use crate::AnyError;
use crate::load::{histogram, nanos};

/// How long it is measured.
const DURATION: Duration = Duration::from_millis(1500);
/// The length of the file that is written over, again from its beginning when its end is reached.
const FILE_BYTES: u64 = 64 << 20;
/// The length of one write while the file is prepared.
const PREPARE_BYTES: usize = 1 << 20;
/// Two measurements that differ by more than this part of the larger one are of two different devices.
const STABLE_WITHIN: f64 = 0.2;

/// What the device does by itself.
#[derive(Debug, Clone)]
pub(crate) struct Ceiling {
    pub writes_per_second: f64,
    /// Of one write.
    pub p50_micros: f64,
    pub p99_micros: f64,
    /// Whether the measurements that it was made of agree.
    pub stable: bool,
    /// How the folder is written.
    pub disk: String,
}

impl Ceiling {
    /// The ceiling while something ran between two measurements: their mean.
    pub(crate) fn around(before: &Self, after: &Self) -> Self {
        let (one, other) = (before.writes_per_second, after.writes_per_second);
        Self {
            writes_per_second: f64::midpoint(one, other),
            p50_micros: f64::midpoint(before.p50_micros, after.p50_micros),
            p99_micros: f64::midpoint(before.p99_micros, after.p99_micros),
            stable: (one - other).abs() <= STABLE_WITHIN * one.max(other),
            disk: after.disk.clone(),
        }
    }
}

/// Measures it in a folder that is made for it and removed again.
pub(crate) fn measure(folder: &Path) -> Result<Ceiling, AnyError> {
    let disk = PwriteDisk::open(folder)?;
    let file = disk.create("scratch")?;
    prepare(&*file)?;
    disk.sync_dir()?;
    let (latency, elapsed) = overwrite(&*file)?;
    drop(file);
    std::fs::remove_dir_all(folder)?;
    Ok(Ceiling {
        writes_per_second: latency.len() as f64 / elapsed.as_secs_f64(),
        p50_micros: micros(&latency, 0.5),
        p99_micros: micros(&latency, 0.99),
        stable: true,
        disk: disk.describe(),
    })
}

/// A quantile of recorded nanoseconds, in microseconds.
pub(crate) fn micros(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1000.0
}

/// Writes every block once, so that none is written for the first time while it counts.
fn prepare(file: &dyn DiskFile) -> Result<(), AnyError> {
    file.allocate(FILE_BYTES)?;
    let mut content = AlignedBuf::zeroed(PREPARE_BYTES)?;
    content.fill(0xA5);
    for offset in (0..FILE_BYTES).step_by(PREPARE_BYTES) {
        write_all_at(file, &content, offset)?;
    }
    Ok(file.sync()?)
}

/// Writes one block after the other durably, and gives the nanoseconds of each and the time of all.
fn overwrite(file: &dyn DiskFile) -> Result<(Histogram<u64>, Duration), AnyError> {
    let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
    let mut latency = histogram();
    let began = Instant::now();
    let mut offsets = (0..FILE_BYTES).step_by(BLOCK_BYTES).cycle();
    while began.elapsed() < DURATION
        && let Some(offset) = offsets.next()
    {
        block[..8].copy_from_slice(&latency.len().to_le_bytes());
        let since = Instant::now();
        write_all_durable_at(file, &[&block], offset)?;
        latency.saturating_record(nanos(since.elapsed()));
    }
    Ok((latency, began.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling(writes_per_second: f64) -> Ceiling {
        let (p50_micros, p99_micros) = (100.0, 200.0);
        Ceiling { writes_per_second, p50_micros, p99_micros, stable: true, disk: String::new() }
    }

    #[test]
    fn a_ceiling_that_moves_by_more_than_a_fifth_is_not_stable() {
        let around = |one, other| Ceiling::around(&ceiling(one), &ceiling(other));
        assert!(around(10_000.0, 8_000.0).stable);
        assert!(around(8_000.0, 10_000.0).stable);
        assert!(!around(10_000.0, 7_900.0).stable);
        assert!((around(10_000.0, 8_000.0).writes_per_second - 9_000.0).abs() < 1e-6);
    }
}
