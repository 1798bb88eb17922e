//! What it takes until 1, 4 and 16 consumers have all counted the same events: subscriptions to a store, and what else is used
//! to hand events to several threads.
//!
//! `cargo bench -p stratalog-bench --bench fan_out`. The module `stratalog_bench::fan_out` says what each way does. The first
//! group reads what a store has in its unsealed tail; the other ways have to send it meanwhile, by reference but for the ring,
//! which copies. In the second group the store has to take it first: each event is appended, which is checksums, an index, and
//! a write to a disk in memory, while the subscriptions follow. It stands by itself, as none of the other ways keeps anything.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stratalog_bench::fan_out::hot::{Hot, follow};
use stratalog_bench::fan_out::{Events, Round, broadcast, channels, ring};

const EVENTS: u64 = 100_000;
const CONSUMERS: [usize; 3] = [1, 4, 16];

fn benches(criterion: &mut Criterion) {
    let events = Events::new(EVENTS);
    let mut group = criterion.benchmark_group("fan-out");
    let mut measure = |name: &str, consumers: usize, run: &dyn Fn(&Events, usize) -> Round| {
        group.throughput(Throughput::Elements(EVENTS * consumers as u64));
        group.bench_function(BenchmarkId::new(name, consumers), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| run(&events, consumers).wall).sum());
        });
    };
    let hot = Hot::new(&events);
    for consumers in CONSUMERS {
        measure("stratalog", consumers, &|events, consumers| hot.drain(events, consumers));
        measure("crossbeam-channel", consumers, &channels::run);
        measure("tokio broadcast", consumers, &broadcast::run);
        measure("disruptor", consumers, &ring::run);
        measure("disruptor, polled", consumers, &ring::poll);
    }
    group.finish();
    assert!(hot.is_hot(), "nothing was sealed meanwhile");
    drop(hot);

    let mut group = criterion.benchmark_group("fan-out with appends");
    for consumers in CONSUMERS {
        group.throughput(Throughput::Elements(EVENTS * consumers as u64));
        group.bench_function(BenchmarkId::new("stratalog", consumers), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| follow(&events, consumers).wall).sum());
        });
    }
    group.finish();
}

criterion_group! {
    name = fan_out;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = benches
}
criterion_main!(fan_out);
