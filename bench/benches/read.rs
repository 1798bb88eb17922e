//! What reading costs where the disk costs next to nothing: finding events, checking their checksums,
//! and handing them out. Nearly all of what is read is sealed.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stratalog::disk::MemoryDisk;
use stratalog::{EventRef, Store};
use stratalog_bench::{PAYLOAD_BYTES, fill, open, stream_name, sum};

const EVENTS: u64 = 100_000;
const STREAMS: u64 = 1_000;
/// Small segments, so that only the last few thousand events are not sealed.
const SEGMENT_BYTES: u64 = 1 << 20;

/// A store that was filled, closed and opened again.
fn reopened() -> Store {
    let disk = MemoryDisk::new();
    let options = Store::options().segment_bytes(SEGMENT_BYTES);
    let store = open(&options, &disk);
    fill(&store, EVENTS, STREAMS);
    store.close().expect("the store closes");
    let store = open(&options, &disk);
    let verification = store.verify(|_, _| {}).expect("the store is readable");
    assert!(verification.is_clean(), "{:?}", verification.findings);
    assert_eq!(verification.events, EVENTS);
    store
}

/// Takes from an event what a user takes: every byte of its payload.
fn look_at(event: EventRef<'_>) -> usize {
    let payload = event.payload();
    std::hint::black_box((event.version(), sum(payload)));
    payload.len()
}

fn scan(store: &Store) {
    let (mut events, mut bytes) = (0, 0);
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch().expect("the log is readable") {
        events += batch.len() as u64;
        bytes += batch.iter().map(look_at).sum::<usize>();
    }
    assert_eq!(events, EVENTS);
    assert_eq!(bytes as u64, EVENTS * PAYLOAD_BYTES as u64);
}

fn read_stream(store: &Store, name: &str) {
    let (mut events, mut bytes) = (0, 0);
    let mut reader = store.read_stream(name).forward();
    while let Some(batch) = reader.next_batch().expect("the stream is readable") {
        events += batch.len() as u64;
        bytes += batch.iter().map(look_at).sum::<usize>();
    }
    assert_eq!(events, EVENTS / STREAMS);
    assert_eq!(bytes as u64, events * PAYLOAD_BYTES as u64);
}

/// Little but looking for a stream, from the last segment on.
fn read_last(store: &Store, name: &str) {
    let mut reader = store.read_stream(name).limit(1).backward();
    let batch = reader.next_batch().expect("the stream is readable").expect("it has events");
    assert_eq!(batch.iter().map(look_at).sum::<usize>(), PAYLOAD_BYTES);
}

fn benches(criterion: &mut Criterion) {
    let store = reopened();
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function("all of 100,000", |bencher| bencher.iter(|| scan(&store)));
    group.throughput(Throughput::Elements(EVENTS / STREAMS));
    let mut streams = (0..STREAMS).map(stream_name).cycle();
    group.bench_function("a stream of 100 in 100,000", |bencher| {
        bencher.iter(|| read_stream(&store, &streams.next().expect("a cycle has no end")));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("the last event of a stream", |bencher| {
        bencher.iter(|| read_last(&store, &streams.next().expect("a cycle has no end")));
    });
    group.finish();
}

criterion_group! {
    name = read;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = benches
}
criterion_main!(read);
