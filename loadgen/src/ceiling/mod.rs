//! The ceiling: what the device, the memory and the processors do by themselves, in the folder where the store is.
//!
//! Owns its measurement; `processors` has what concerns those. Everything goes through the same calls as the store's own writes, over blocks
//! that were written and synced before: past the page cache and durable with each write, where the file
//! system can. `run`, `read` and the tour divide what a store does by the mean of what is measured before
//! and after it.

mod processors;

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use stratalog::disk::{AlignedBuf, Disk, DiskFile, PwriteDisk, write_all_at, write_all_durable_at};
use stratalog::limits::BLOCK_BYTES;

use crate::AnyError;
use crate::clients::window::{histogram, nanos};

/// The length of the file that is written over, again from its beginning when its end is reached.
const FILE_BYTES: u64 = 128 << 20;
/// The length of one write while the file is prepared.
const PREPARE_BYTES: usize = 1 << 20;
/// The length of a large write.
const LARGE_BYTES: usize = 256 << 10;
/// How many large writes are on their way at a time.
const LARGE_INFLIGHT: u64 = 4;
/// The memory that is summed.
const MEMORY_BYTES: u64 = 1 << 30;
/// How often it is summed; the best counts.
const SUMS: u32 = 3;
/// Two measurements that differ by more than this part of the larger one are of two different devices.
const STABLE_WITHIN: f64 = 0.2;
/// The folder of the scratch file, below that of the store: stores leave folders in theirs alone.
const FOLDER: &str = "ceiling";

/// What the device, the memory and the processors do.
#[derive(Debug, Clone)]
pub(crate) struct Ceiling {
    /// The median of a durable write of 4 KiB.
    pub write_4k_p50_ns: f64,
    /// How many of them one thread makes in a second, one after the other.
    pub write_4k_per_second: f64,
    /// Durable writes of 256 KiB, four at a time.
    pub write_256k_bytes_per_second: f64,
    /// Summing a mapped file that is in memory, with one thread.
    pub memory_sum_bytes_per_second: Option<f64>,
    /// A word to another processor and back, each time that it was measured. It is no part of what has to be stable:
    /// it says beside what the figures belong.
    pub processors_round_trip_ns: Vec<f64>,
    /// Whether the measurements that it was made of agree.
    pub stable: bool,
    /// How the folder is written.
    pub disk: String,
}

/// What is measured, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub small: Duration,
    pub large: Duration,
    pub memory: bool,
}

impl Extent {
    /// Before and after a load.
    pub(crate) const DEVICE: Self =
        Self { small: Duration::from_millis(1500), large: Duration::from_secs(1), memory: false };
    /// For itself, or beside a scan.
    pub(crate) const ALL: Self = Self { memory: true, ..Self::DEVICE };
    /// Between the loads of the tour.
    pub(crate) const SHORT: Self = Self {
        small: Duration::from_millis(600),
        large: Duration::from_millis(300),
        memory: false,
    };
}

impl Ceiling {
    /// The ceiling while something ran between two measurements: their mean.
    pub(crate) fn around(before: &Self, after: &Self) -> Self {
        let near = |one: f64, other: f64| (one - other).abs() <= STABLE_WITHIN * one.max(other);
        let figures = [
            (before.write_4k_p50_ns, after.write_4k_p50_ns),
            (before.write_4k_per_second, after.write_4k_per_second),
            (before.write_256k_bytes_per_second, after.write_256k_bytes_per_second),
        ];
        let memory = before.memory_sum_bytes_per_second.zip(after.memory_sum_bytes_per_second);
        let mean = |figure: usize| f64::midpoint(figures[figure].0, figures[figure].1);
        Self {
            write_4k_p50_ns: mean(0),
            write_4k_per_second: mean(1),
            write_256k_bytes_per_second: mean(2),
            memory_sum_bytes_per_second: memory
                .map(|(one, other)| f64::midpoint(one, other))
                .or(before.memory_sum_bytes_per_second)
                .or(after.memory_sum_bytes_per_second),
            processors_round_trip_ns: [before, after]
                .into_iter()
                .flat_map(|measured| measured.processors_round_trip_ns.iter().copied())
                .collect(),
            stable: figures.into_iter().chain(memory).all(|(one, other)| near(one, other)),
            disk: after.disk.clone(),
        }
    }

    /// Measures in a folder, which is there and is left as it was.
    pub(crate) fn measure(folder: &Path, extent: Extent) -> Result<Self, AnyError> {
        let scratch = folder.join(FOLDER);
        let measured = measure(&scratch, extent);
        let removed = std::fs::remove_dir_all(&scratch);
        let measured = measured.map_err(|error| format!("measuring the ceiling: {error}"))?;
        removed?;
        Ok(measured)
    }
}

fn measure(scratch: &Path, extent: Extent) -> Result<Ceiling, AnyError> {
    let disk = PwriteDisk::open(scratch)?;
    let file = disk.create("scratch")?;
    prepare(&*file)?;
    disk.sync_dir()?;
    let (latency, elapsed) = write_small(&*file, extent.small)?;
    let large = write_large(&*file, extent.large)?;
    drop(file);
    disk.unlink("scratch")?;
    let memory = if extent.memory { Some(sum_memory(&disk)?) } else { None };
    Ok(Ceiling {
        write_4k_p50_ns: latency.value_at_quantile(0.5) as f64,
        write_4k_per_second: latency.len() as f64 / elapsed.as_secs_f64(),
        write_256k_bytes_per_second: large,
        memory_sum_bytes_per_second: memory,
        processors_round_trip_ns: processors::round_trip_ns().into_iter().collect(),
        stable: true,
        disk: disk.describe(),
    })
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
fn write_small(
    file: &dyn DiskFile,
    duration: Duration,
) -> Result<(Histogram<u64>, Duration), AnyError> {
    let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
    let mut latency = histogram();
    let began = Instant::now();
    let mut since = Duration::ZERO;
    for offset in (0..FILE_BYTES).step_by(BLOCK_BYTES).cycle() {
        block[..8].copy_from_slice(&latency.len().to_le_bytes());
        write_all_durable_at(file, &[&block], offset)?;
        let now = began.elapsed();
        latency.saturating_record(nanos(now.saturating_sub(since)));
        since = now;
        if now >= duration {
            break;
        }
    }
    Ok((latency, since))
}

/// Writes large parts durably, four at a time, and gives bytes a second. Four threads do it, each
/// in its part of the file: `io_uring` with four in flight was measured to be no faster beyond the noise.
fn write_large(file: &dyn DiskFile, duration: Duration) -> Result<f64, AnyError> {
    let part = FILE_BYTES / LARGE_INFLIGHT;
    let began = Instant::now();
    let bytes: Result<Vec<u64>, AnyError> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..LARGE_INFLIGHT)
            .map(|number| {
                let offsets = (number * part..(number + 1) * part).step_by(LARGE_BYTES).cycle();
                scope.spawn(move || overwrite(file, offsets, began, duration))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| AnyError::from("a writer panicked"))?)
            .collect()
    });
    Ok(bytes?.iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64())
}

fn overwrite(
    file: &dyn DiskFile,
    offsets: impl Iterator<Item = u64>,
    began: Instant,
    duration: Duration,
) -> Result<u64, AnyError> {
    let content = AlignedBuf::zeroed(LARGE_BYTES)?;
    let mut bytes = 0;
    for offset in offsets {
        write_all_durable_at(file, &[&content], offset)?;
        bytes += LARGE_BYTES as u64;
        if began.elapsed() >= duration {
            break;
        }
    }
    Ok(bytes)
}

/// Sums a mapped file that is in memory, and gives bytes a second. Its blocks are reserved and never
/// written, so that the device has no part in it.
fn sum_memory(disk: &PwriteDisk) -> Result<f64, AnyError> {
    let file = disk.create("memory")?;
    file.allocate(MEMORY_BYTES)?;
    let map = file.map()?;
    // The first pass brings it into memory.
    std::hint::black_box(sum(&map));
    let mut best = Duration::MAX;
    for _ in 0..SUMS {
        let began = Instant::now();
        std::hint::black_box(sum(std::hint::black_box(&map)));
        best = best.min(began.elapsed());
    }
    disk.unlink("memory")?;
    Ok(MEMORY_BYTES as f64 / best.as_secs_f64())
}

/// The sum of the eight-byte words, in lanes that the compiler puts into vector registers.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    const LANES: usize = 32;
    let mut lanes = [0_u64; LANES];
    let (rows, rest) = bytes.as_chunks::<{ LANES * 8 }>();
    for row in rows {
        let (words, _) = row.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_add(u64::from_le_bytes(*word));
        }
    }
    let (words, rest) = rest.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let bytes = rest.iter().map(|byte| u64::from(*byte));
    lanes.into_iter().chain(words).chain(bytes).fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling(write_4k_per_second: f64, memory: Option<f64>) -> Ceiling {
        Ceiling {
            write_4k_p50_ns: 100_000.0,
            write_4k_per_second,
            write_256k_bytes_per_second: 1e9,
            memory_sum_bytes_per_second: memory,
            processors_round_trip_ns: vec![write_4k_per_second],
            stable: true,
            disk: String::new(),
        }
    }

    #[test]
    fn a_ceiling_that_moves_by_more_than_a_fifth_is_not_stable() {
        let around =
            |one, other| Ceiling::around(&ceiling(one, None), &ceiling(other, None)).stable;
        assert!(around(10_000.0, 8_000.0));
        assert!(around(8_000.0, 10_000.0));
        assert!(!around(10_000.0, 7_900.0));
        let memory = |one, other| ceiling(1.0, Some(one)).stable_with(&ceiling(1.0, Some(other)));
        assert!(memory(20e9, 17e9));
        assert!(!memory(20e9, 15e9));
    }

    impl Ceiling {
        fn stable_with(&self, after: &Self) -> bool {
            Self::around(self, after).stable
        }
    }

    #[test]
    fn a_ceiling_around_something_is_the_mean() {
        let around = Ceiling::around(&ceiling(10_000.0, None), &ceiling(9_000.0, None));
        assert!((around.write_4k_per_second - 9_500.0).abs() < 1e-6);
        assert_eq!(around.processors_round_trip_ns, [10_000.0, 9_000.0]);
    }

    #[test]
    fn every_byte_is_summed_once() {
        let bytes: Vec<u8> = (0..=250).cycle().take(100_003).collect();
        let (words, rest) = bytes.as_chunks::<8>();
        let expected = words.iter().map(|word| u64::from_le_bytes(*word));
        let expected = expected.chain(rest.iter().map(|&byte| u64::from(byte)));
        assert_eq!(sum(&bytes), expected.fold(0, u64::wrapping_add));
    }
}
