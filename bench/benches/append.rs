//! What an append costs where the disk costs next to nothing: encoding, sequencing, filling, committing
//! and waking.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stratalog::{AppendError, Expect, Pending};
use stratalog_bench::{event, memory_store};

/// How many submitted appends are on their way at once.
const WINDOW: usize = 1024;

/// Appends `count` times so many events and waits each time.
fn wait(count: u64, events: u64) -> Duration {
    let store = memory_store();
    let event = event();
    let began = Instant::now();
    for _ in 0..count {
        let events = (0..events).map(|_| &event);
        store.append("account-000000000001", Expect::Any, events).wait().expect("it succeeds");
    }
    let elapsed = began.elapsed();
    assert_eq!(store.head().get(), count * events);
    elapsed
}

/// Submits `count` events, and waits for the oldest where as many as the window has are on their way.
fn submit(count: u64) -> Duration {
    let store = memory_store();
    let event = event();
    let mut on_their_way: VecDeque<Pending> = VecDeque::with_capacity(WINDOW);
    let began = Instant::now();
    for version in 0..count {
        if on_their_way.len() == WINDOW {
            wait_for_oldest(&mut on_their_way);
        }
        let expect = version.checked_sub(1).map_or(Expect::NoStream, Expect::Version);
        loop {
            match store.append("account-000000000001", expect, [&event]).submit() {
                Ok(pending) => break on_their_way.push_back(pending),
                Err(AppendError::Busy) => wait_for_oldest(&mut on_their_way),
                Err(error) => panic!("the append fails: {error}"),
            }
        }
    }
    while !on_their_way.is_empty() {
        wait_for_oldest(&mut on_their_way);
    }
    let elapsed = began.elapsed();
    assert_eq!(store.head().get(), count);
    elapsed
}

/// Submits `count` events, as many as the window has at once, and waits for these off the clock: what a
/// caller's thread spends on encoding, claiming a place and filling it.
fn claim_and_fill(count: u64) -> Duration {
    let store = memory_store();
    let event = event();
    let mut on_their_way: VecDeque<Pending> = VecDeque::with_capacity(WINDOW);
    let (mut elapsed, mut submitted) = (Duration::ZERO, 0);
    while submitted < count {
        let began = Instant::now();
        while submitted < count && on_their_way.len() < WINDOW {
            match store.append("account-000000000001", Expect::Any, [&event]).submit() {
                Ok(pending) => on_their_way.push_back(pending),
                Err(AppendError::Busy) => break,
                Err(error) => panic!("the append fails: {error}"),
            }
            submitted += 1;
        }
        elapsed += began.elapsed();
        while !on_their_way.is_empty() {
            wait_for_oldest(&mut on_their_way);
        }
    }
    assert_eq!(store.head().get(), count);
    elapsed
}

fn wait_for_oldest(on_their_way: &mut VecDeque<Pending>) {
    match on_their_way.pop_front() {
        Some(pending) => drop(pending.wait().expect("it succeeds")),
        // The store is busy with something else, such as its next segment.
        None => std::thread::yield_now(),
    }
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for events in [1, 64] {
        group.throughput(Throughput::Elements(events));
        group.bench_function(format!("wait/{events}"), |bencher| {
            bencher.iter_custom(|count| wait(count, events));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function(format!("submit/window {WINDOW}"), |bencher| {
        bencher.iter_custom(submit);
    });
    group.bench_function("claim and fill", |bencher| bencher.iter_custom(claim_and_fill));
    group.finish();
}

criterion_group! {
    name = append;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = benches
}
criterion_main!(append);
