//! What the format costs by itself, in the processor's caches: encoding an event, completing its frame,
//! checking a checksum, and walking over frames. Uses the engine's feature `internals`.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stratalog::internals::Segment;
use stratalog_bench::PAYLOAD_BYTES;

/// Of 20 bytes.
const STREAM: &str = "account-000000000001";
/// Where frames begin: any multiple of 16 will do.
const OFFSET: u64 = 12_384;
/// Few enough to stay in a processor's second cache.
const WALKED: u64 = 512;

/// One complete frame for this offset.
fn frame(segment: &Segment, payload_bytes: usize, offset: u64, position: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    segment.encode(STREAM, &vec![0x5A; payload_bytes], &mut frame);
    segment.complete(&mut frame, offset, position);
    frame
}

fn benches(criterion: &mut Criterion) {
    let segment = Segment::default();
    let mut group = criterion.benchmark_group("format");
    for payload_bytes in [64, PAYLOAD_BYTES, 4_096, 65_536] {
        let mut frame = frame(&segment, payload_bytes, OFFSET, 1);
        assert!(segment.is_good(OFFSET, &frame) && !segment.is_good(OFFSET + 16, &frame));
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(BenchmarkId::new("checksum", payload_bytes), |bencher| {
            bencher.iter(|| segment.is_good(black_box(OFFSET), black_box(&frame)));
        });
        group.bench_function(BenchmarkId::new("complete", payload_bytes), |bencher| {
            bencher.iter(|| segment.complete(black_box(&mut frame), OFFSET, 1));
        });
        let payload = vec![0x5A; payload_bytes];
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new("encode", payload_bytes), |bencher| {
            bencher.iter(|| {
                out.clear();
                segment.encode(black_box(STREAM), black_box(&payload), &mut out);
            });
        });
        assert_eq!(out.len(), frame.len());
    }
    let mut content = Vec::new();
    for position in 1..=WALKED {
        let offset = OFFSET + content.len() as u64;
        content.extend(frame(&segment, PAYLOAD_BYTES, offset, position));
    }
    group.throughput(Throughput::Bytes(content.len() as u64));
    group.bench_function(format!("walk/{WALKED} frames"), |bencher| {
        bencher.iter(|| assert_eq!(segment.walk(OFFSET, black_box(&content)) as u64, WALKED));
    });
    group.finish();
}

criterion_group! {
    name = format;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = benches
}
criterion_main!(format);
