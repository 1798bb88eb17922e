//! Prints what the index costs; asserts nothing. `docs/index.md` quotes it.
//!
//! `cargo test --release -p stratalog --lib index::measure -- --ignored --nocapture`

use std::hint::black_box;
use std::time::Instant;

use super::*;

const EVENTS: u32 = 100_000;
const SEGMENT_BYTES: u64 = 64 << 20;

fn nanoseconds_each(what: &str, times: u32, mut run: impl FnMut()) {
    let start = Instant::now();
    run();
    let each = start.elapsed().as_secs_f64() * 1e9 / f64::from(times);
    println!("  {what:<38}{each:>9.1} ns");
}

fn stamp() -> Stamp {
    Stamp {
        store_id: [1; 16],
        segment: 1,
        salt: 1,
        first_position: 0,
        events: EVENTS.into(),
        chain: [1; 16],
    }
}

fn measure(streams: u32) {
    println!("{EVENTS} events over {streams} streams");
    let mut rng = fastrand::Rng::with_seed(1);
    let names: Vec<_> = (0..streams).map(|n| format!("customer-{n:024}").into_bytes()).collect();
    let hashes: Vec<_> = names.iter().map(|name| Term::stream(name).xxh3_64()).collect();
    let mut order: Vec<_> = (0..EVENTS).map(|event| (event % streams) as usize).collect();
    rng.shuffle(&mut order);
    let (mut writer, live) = LiveIndex::new(SEGMENT_BYTES);
    let (mut first, mut later) = (vec![], vec![]);
    let mut known = vec![false; names.len()];
    for &stream in &order {
        let list = if known[stream] { &mut later } else { &mut first };
        // Side by side in memory, as a caller has the name at hand that it appends to.
        list.push((hashes[stream], names[stream].clone()));
        known[stream] = true;
    }
    let mut offset = 0;
    let mut feed = |what: &str, list: &[(TermHash, Vec<u8>)]| {
        if list.is_empty() {
            return;
        }
        nanoseconds_each(what, u32::try_from(list.len()).unwrap(), || {
            for (hash, name) in list {
                let ordinal = writer.push_event(offset);
                offset += 16;
                let term = Term::stream(name);
                match writer.find(*hash, term) {
                    Some(id) => {
                        black_box(writer.head(id));
                        writer.append(id, ordinal);
                    }
                    None => drop(black_box(writer.create(*hash, term, ordinal, 0))),
                }
            }
        });
    };
    feed("live: event of a new stream", &first);
    feed("live: event of a known stream", &later);
    nanoseconds_each("live: look-up, clip and last posting", EVENTS, || {
        for &stream in &order {
            let found = live.lookup(hashes[stream], Term::stream(&names[stream]));
            black_box(found.map(|found| found.below(EVENTS - 100).backward(u32::MAX).next()));
        }
    });
    nanoseconds_each("hash of a name", EVENTS, || {
        for &stream in &order {
            black_box(Term::stream(&names[stream]).xxh3_64());
        }
    });
    let types = [EventType { schema_version: 1, fingerprint: 1, name: "Ordered" }];
    let mut file = Vec::new();
    nanoseconds_each("sealing, an event", EVENTS, || {
        file = seal(&live, &stamp(), &types).unwrap();
    });
    println!(
        "  {:<38}{:>9.2}",
        "bytes an event",
        f64::from(u32::try_from(file.len() - 4096).unwrap()) / f64::from(EVENTS)
    );
    println!("  {:<38}{:>9}", "bytes", file.len());
    let index = SealedIndex::open(&file[..], &stamp()).unwrap();
    nanoseconds_each("sealed: verify, an event", EVENTS, || index.verify_all().unwrap());
    for round in ["first time", "again"] {
        nanoseconds_each(&format!("sealed: look-up, {round}"), EVENTS, || {
            for &stream in &order {
                let mut found = index.lookup(hashes[stream], TermKind::Stream).unwrap();
                black_box(
                    found.next().map(|found| found.map(|found| found.len())).unwrap().unwrap(),
                );
            }
        });
    }
    nanoseconds_each("sealed: look-up of an absent term", EVENTS, || {
        for _ in 0..EVENTS {
            let mut found = index.lookup(TermHash(rng.u64(..)), TermKind::Stream).unwrap();
            black_box(found.next().is_none());
        }
    });
    let term = index.stream_terms().next().unwrap().unwrap();
    nanoseconds_each("sealed: a random posting", EVENTS, || {
        for _ in 0..EVENTS {
            black_box(term.get(rng.u32(..term.len())).unwrap());
        }
    });
    let walks = 10_000_u32.div_ceil(term.len());
    nanoseconds_each("sealed: walking, a posting", walks * term.len(), || {
        for _ in 0..walks {
            black_box(term.forward(0).map(Result::unwrap).max());
        }
    });
    nanoseconds_each("sealed: an event's offset", EVENTS, || {
        for _ in 0..EVENTS {
            black_box(index.offset(rng.u32(..EVENTS)).unwrap());
        }
    });
}

#[test]
#[ignore = "it prints timings"]
fn costs() {
    let start = Instant::now();
    for _ in 0..100 {
        black_box(LiveIndex::new(SEGMENT_BYTES));
    }
    println!("an empty live index: {:?}", start.elapsed() / 100);
    for streams in [1, 100, 10_000, EVENTS] {
        measure(streams);
    }
}
