//! What the index of one segment costs an event or a look-up: live, as appends feed it, and sealed. Streams
//! are taken at random, so that what belongs to one has mostly left the processor's caches.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use stratalog::internals::{LiveTerms, SealedTerms, Stream};

const SEGMENT_BYTES: u64 = 64 << 20;
/// Events of a segment with payloads of some hundred bytes.
const EVENTS: u32 = 100_000;
/// Among how many streams they are.
const STREAMS: [usize; 3] = [1, 10_000, EVENTS as usize];

/// Streams, and which of them each event is of: every one as often as every other.
struct Load {
    streams: Vec<Stream>,
    order: Vec<usize>,
}

impl Load {
    fn new(streams: usize) -> Self {
        let mut order: Vec<usize> = (0..EVENTS as usize).map(|event| event % streams).collect();
        fastrand::Rng::with_seed(1).shuffle(&mut order);
        let streams = (0..streams).map(|n| Stream::new(&format!("customer-{n:024}"))).collect();
        Self { streams, order }
    }

    /// The streams of the events, in their order; from the first again after the last.
    fn events(&self) -> impl Iterator<Item = &Stream> {
        self.order.iter().cycle().map(|stream| &self.streams[*stream])
    }

    /// An index of all its events.
    fn live(&self) -> LiveTerms {
        let mut live = LiveTerms::new(SEGMENT_BYTES);
        fill(&mut live, self.events().take(EVENTS as usize));
        live
    }
}

fn fill<'a>(live: &mut LiveTerms, streams: impl IntoIterator<Item = &'a Stream>) {
    for stream in streams {
        live.claim(stream);
    }
}

/// Claims `count` events of streams that the index knows.
fn claim_known(load: &Load, count: u64) -> Duration {
    let mut left = count;
    let mut elapsed = Duration::ZERO;
    while left > 0 {
        let mut live = LiveTerms::new(SEGMENT_BYTES);
        fill(&mut live, &load.streams);
        // Copied, as an append has its stream's name and hash at hand.
        let round: Vec<Stream> =
            (0..left.min(EVENTS.into())).zip(load.events()).map(|(_, next)| next.clone()).collect();
        let began = Instant::now();
        fill(&mut live, &round);
        elapsed += began.elapsed();
        left -= round.len() as u64;
    }
    elapsed
}

fn live(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("live index");
    for streams in STREAMS {
        let load = Load::new(streams);
        group.throughput(Throughput::Elements(1));
        if streams < EVENTS as usize {
            group.bench_function(format!("claim, known/{streams}"), |bencher| {
                bencher.iter_custom(|count| claim_known(&load, count));
            });
        }
        let live = load.live();
        let mut events = load.events();
        group.bench_function(format!("last event/{streams}"), |bencher| {
            bencher.iter(|| live.last(events.next().expect("it is endless"), EVENTS - 100));
        });
        group.throughput(Throughput::Elements(streams as u64));
        if streams > 1 {
            group.bench_function(format!("claim, new/{streams}"), |bencher| {
                let empty = || LiveTerms::new(SEGMENT_BYTES);
                let claim = |mut live: LiveTerms| {
                    fill(&mut live, &load.streams);
                    live
                };
                bencher.iter_batched(empty, claim, BatchSize::LargeInput);
            });
        }
        group.throughput(Throughput::Elements(EVENTS.into()));
        group.bench_function(format!("seal/{streams}"), |bencher| bencher.iter(|| live.seal()));
    }
    group.finish();
}

fn sealed(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sealed index");
    for streams in STREAMS {
        let load = Load::new(streams);
        let bytes = load.live().seal().expect("it can be built");
        println!("{streams} streams: {} bytes for {EVENTS} events", bytes.len());
        let sealed = SealedTerms::open(bytes, EVENTS).expect("it is sound");
        let mut events = load.events();
        let mut next = || events.next().expect("it is endless");
        let each = EVENTS / u32::try_from(streams).expect("it is one of the above");
        assert_eq!(sealed.count(next()), Some(each));
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("count/{streams}"), |bencher| {
            bencher.iter(|| sealed.count(next()));
        });
        let absent: Vec<Stream> = (0..1024).map(|n| Stream::new(&format!("absent-{n}"))).collect();
        let mut absent = absent.iter().cycle();
        group.bench_function(format!("count of none/{streams}"), |bencher| {
            bencher.iter(|| sealed.count(absent.next().expect("it is endless")));
        });
        let mut random = fastrand::Rng::with_seed(2);
        group.bench_function(format!("a random posting/{streams}"), |bencher| {
            bencher.iter(|| sealed.posting(next(), random.u32(..each)));
        });
        group.throughput(Throughput::Elements(each.into()));
        group.bench_function(format!("walk/{streams}"), |bencher| {
            bencher.iter(|| black_box(sealed.walk(next())));
        });
    }
    group.finish();
}

criterion_group! {
    name = index;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = live, sealed
}
criterion_main!(index);
