//! What opening a store costs after a crash: the scan of the unsealed tail, and its live index.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use stratalog::disk::MemoryDisk;
use stratalog::{Case, Store};
use stratalog_bench::{fill, open};

const EVENTS: u64 = 150_000;
const STREAMS: u64 = 1_000;
/// The segments that these events fill: of 1, 2, 4, 8 and 16 MiB. What remains stands in the next one.
const SEALED: usize = 5;
/// How long sealing them may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A disk as a crash left it, and how many bytes of its tail are in use.
fn crashed() -> (MemoryDisk, u64) {
    let disk = MemoryDisk::new();
    let store = open(&Store::options(), &disk);
    fill(&store, EVENTS, STREAMS);
    let deadline = Instant::now() + PATIENCE;
    let is_index = |name: &&String| Path::new(name).extension() == Some(OsStr::new("index"));
    let indexes = || disk.file_names().iter().filter(is_index).count();
    while indexes() < SEALED {
        assert!(Instant::now() < deadline, "the full segments are sealed in the background");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(indexes(), SEALED);
    let bytes = store.stats().expect("the store is readable").log_bytes;
    let crashed = disk.fork();
    store.close().expect("the store closes");
    let sealed: u64 = (0..SEALED).map(|power| 1 << (20 + power)).sum();
    (crashed, bytes.saturating_sub(sealed))
}

fn benches(criterion: &mut Criterion) {
    let (disk, tail_bytes) = crashed();
    assert!(tail_bytes > 1 << 20, "there is a tail worth scanning: {tail_bytes} bytes");
    let mut group = criterion.benchmark_group("open");
    group.throughput(Throughput::Bytes(tail_bytes));
    group.bench_function("after a crash", |bencher| {
        let reopen = |disk: MemoryDisk| {
            let store = open(&Store::options(), &disk);
            assert_eq!(store.opened_as(), Case::CleanEnd);
            assert_eq!(store.head().get(), EVENTS);
            store
        };
        bencher.iter_batched(|| disk.fork(), reopen, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group! {
    name = opening;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = benches
}
criterion_main!(opening);
