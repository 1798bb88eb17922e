//! States that are loaded, compared with what the same events come to by hand: old versions, splits, unknown types.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::rkyv::with::AsVec;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{
    DecodeReason, Event, EventSet, Expect, Fold, LoadError, NewEvent, State, Store, Unknown,
};
use stratalog_tests::seed;

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "counted", version = 1)]
struct CountedV1 {
    what: String,
}

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "counted", version = 2, from = CountedV1)]
struct Counted {
    what: String,
    times: u32,
}

impl From<CountedV1> for Counted {
    fn from(old: CountedV1) -> Self {
        Self { what: old.what, times: 1 }
    }
}

/// Became two events.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "moved", version = 1)]
struct Moved {
    from: String,
    to: String,
}

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "taken", version = 1)]
struct Taken {
    what: String,
}

#[derive(EventSet)]
#[event_set(split(Moved, with = taken_and_counted))]
enum Stock {
    Counted(Counted),
    Taken(Taken),
}

fn taken_and_counted(moved: Moved) -> [Stock; 2] {
    [Taken { what: moved.from }.into(), Counted { what: moved.to, times: 1 }.into()]
}

#[derive(State, Archive, Serialize, Deserialize, Debug, Default, PartialEq)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "stock", version = 1)]
struct Shelf {
    #[rkyv(with = AsVec)]
    counts: BTreeMap<String, i64>,
    events: u64,
}

struct Shelves;

fn evolve(shelf: &mut Shelf, event: StockRef<'_>) {
    let (what, change) = match event {
        StockRef::Counted(counted) => (&*counted.what, i64::from(counted.times.to_native())),
        StockRef::Taken(taken) => (&*taken.what, -1),
    };
    *shelf.counts.entry(what.to_owned()).or_default() += change;
    shelf.events += 1;
}

impl Fold for Shelves {
    type State = Shelf;
    type Events = Stock;

    fn initial() -> Shelf {
        Shelf::default()
    }

    fn evolve(shelf: &mut Shelf, event: StockRef<'_>) {
        evolve(shelf, event);
    }
}

/// The same, but for what it does not know.
struct Tolerant;

impl Fold for Tolerant {
    type State = Shelf;
    type Events = Stock;

    const NAME: &'static str = "stock-tolerant";
    const UNKNOWN: Unknown = Unknown::Skip;

    fn initial() -> Shelf {
        Shelf::default()
    }

    fn evolve(shelf: &mut Shelf, event: StockRef<'_>) {
        evolve(shelf, event);
    }
}

#[test]
fn a_loaded_state_is_what_its_events_come_to_by_hand() {
    let seed = seed::seed(7);
    println!(
        "{}",
        seed::replay("folds", "a_loaded_state_is_what_its_events_come_to_by_hand", seed)
    );
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..40 {
        let disk = Arc::new(MemoryDisk::new());
        let store = Store::options().segment_bytes(1 << 16).open_on(disk).unwrap();
        let mut shelves: BTreeMap<String, (Shelf, u64)> = BTreeMap::new();
        for _ in 0..random.usize(..300) {
            let stream = format!("shelf-{}", random.u8(..5));
            let name = |random: &mut fastrand::Rng| format!("thing-{}", random.u8(..4));
            let (shelf, events) = shelves.entry(stream.clone()).or_default();
            let mut count = |what: &str, change: i64| {
                *shelf.counts.entry(what.to_owned()).or_default() += change;
                shelf.events += 1;
            };
            let event = match random.u8(..4) {
                0 => {
                    let what = name(&mut random);
                    count(&what, 1);
                    NewEvent::of(&CountedV1 { what })
                }
                1 => {
                    let (what, times) = (name(&mut random), random.u32(..100));
                    count(&what, times.into());
                    NewEvent::of(&Counted { what, times })
                }
                2 => {
                    let (from, to) = (name(&mut random), name(&mut random));
                    count(&from, -1);
                    count(&to, 1);
                    NewEvent::of(&Moved { from, to })
                }
                _ => {
                    let what = name(&mut random);
                    count(&what, -1);
                    NewEvent::of(&Taken { what })
                }
            };
            *events += 1;
            // So that there are sealed segments.
            let event = event.metadata(vec![7; random.usize(..2_000)]);
            store.append(&stream, Expect::Any, [event]).wait().unwrap();
        }
        for (stream, (shelf, events)) in &shelves {
            let loaded = store.load::<Shelves>(stream).unwrap();
            assert_eq!(loaded.state(), shelf, "{stream}");
            assert_eq!(loaded.replayed(), *events);
            assert_eq!(loaded.version(), store.stream_head(stream).unwrap());
            assert_eq!(loaded.expect(), Expect::Version(events - 1));
        }
    }
}

#[test]
fn a_stream_without_events_has_the_initial_state() {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
    let loaded = store.load::<Shelves>("shelf-1").unwrap();
    assert_eq!(loaded.expect(), Expect::NoStream);
    assert_eq!((loaded.version(), loaded.position(), loaded.replayed()), (None, None, 0));
    assert_eq!(loaded.into_state(), Shelf::default());
    assert!(matches!(store.load::<Shelves>(""), Err(LoadError::Read(_))));
}

#[test]
fn what_a_fold_does_not_know_ends_it_unless_it_says_otherwise() {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
    let events =
        [NewEvent::of(&Counted { what: "a".into(), times: 2 }), NewEvent::bytes("unknown", *b"x")];
    store.append("shelf-1", Expect::NoStream, &events).wait().unwrap();
    let Err(LoadError::Decode(error)) = store.load::<Shelves>("shelf-1") else {
        panic!("it was loaded");
    };
    assert!(matches!(error.reason(), DecodeReason::UnknownType));
    assert_eq!((error.stream(), error.version()), ("shelf-1", 1));
    let loaded = store.load::<Tolerant>("shelf-1").unwrap();
    assert_eq!(loaded.state().counts["a"], 2);
    assert_eq!(loaded.expect(), Expect::Version(1), "it has seen the event that it left out");
}
