//! A read model for the tests of projections, and what it must come to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stratalog::disk::MemoryDisk;
use stratalog::limits::SNAPSHOT_MEMORY_MIN;
use stratalog::rkyv::with::AsVec;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{
    AnyEvent, Applied, EventRef, Expect, NewEvent, Options, Projected, Projection, SnapshotOptions,
    State, Store,
};

/// What is known of a stream.
#[derive(Archive, Serialize, Deserialize, stratalog::Layout, Debug, Default, Clone, PartialEq)]
#[rkyv(crate = stratalog::rkyv)]
pub struct OfStream {
    /// How many events it has.
    pub events: u64,
    /// Depends on each event, on their order, and on how often each was applied.
    pub digest: u64,
}

/// What is known of all streams.
#[derive(State, Archive, Serialize, Deserialize, Debug, Default, Clone, PartialEq)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "tally", version = 1)]
pub struct Tally {
    /// By the streams' names.
    #[rkyv(with = AsVec)]
    pub streams: BTreeMap<String, OfStream>,
}

impl Tally {
    /// Adds an event.
    pub fn add(&mut self, event: EventRef<'_>) {
        let stream = self.streams.entry(event.stream().to_owned()).or_default();
        stream.events += 1;
        let said = [event.position().get(), event.version(), event.payload().len() as u64];
        for number in said {
            stream.digest = stream.digest.wrapping_mul(0x0100_0000_01b3).wrapping_add(number + 1);
        }
    }

    /// How many events it has.
    pub fn events(&self) -> u64 {
        self.streams.values().map(|stream| stream.events).sum()
    }
}

/// What becomes of an event: nothing, or how it fails.
pub type Fails = dyn Fn(EventRef<'_>) -> Applied + Send + Sync;

/// Projects every event into a [`Tally`].
#[derive(Clone)]
pub struct Tallies {
    /// How many events were applied, each time counted.
    pub applied: Arc<AtomicU64>,
    /// Asked after each event was applied.
    pub fails: Arc<Fails>,
}

impl Default for Tallies {
    fn default() -> Self {
        Self { applied: Arc::default(), fails: Arc::new(|_| Ok(())) }
    }
}

impl Tallies {
    /// One of which events fail.
    pub fn failing(fails: impl Fn(EventRef<'_>) -> Applied + Send + Sync + 'static) -> Self {
        Self { fails: Arc::new(fails), ..Self::default() }
    }
}

impl Projection for Tallies {
    type State = Tally;
    type Events = AnyEvent;

    const NAME: &'static str = "tallies";

    fn initial(&self) -> Tally {
        Tally::default()
    }

    fn apply(&self, state: &mut Tally, event: EventRef<'_>, _: EventRef<'_>) -> Applied {
        // Before it can fail: what it leaves is to be thrown away.
        state.add(event);
        self.applied.fetch_add(1, Ordering::Relaxed);
        (self.fails)(event)
    }
}

/// Small segments of both kinds.
pub fn options() -> Options {
    let snapshots = SnapshotOptions::new().memory_bytes(SNAPSHOT_MEMORY_MIN);
    Store::options().segment_bytes(1 << 17).snapshots(snapshots)
}

/// Opens the store of a disk in memory.
///
/// # Panics
/// Where it cannot be opened.
pub fn open(disk: &MemoryDisk) -> Store {
    options().open_on(Arc::new(disk.clone())).expect("the store opens")
}

/// Appends so many events to streams at random, in appends of up to five.
///
/// # Panics
/// Where an append fails.
pub fn fill(store: &Store, events: usize, streams: usize, random: &mut fastrand::Rng) {
    let mut left = events;
    while left > 0 {
        let count = random.usize(1..=5).min(left);
        let event = |n: u8| NewEvent::bytes("happened", vec![n; usize::from(n) % 40]);
        let batch: Vec<_> = (0..count).map(|_| event(random.u8(..))).collect();
        let stream = format!("s-{}", random.usize(..streams));
        store.append(&stream, Expect::Any, batch).wait().expect("the append succeeds");
        left -= count;
    }
}

/// What the events of a store come to, up to a position.
///
/// # Panics
/// Where they cannot be read.
pub fn expected(store: &Store, upto: u64) -> Tally {
    let mut tally = Tally::default();
    let mut reader = store.read_all().before(upto + 1).forward();
    while let Some(batch) = reader.next_batch().expect("the log can be read") {
        batch.iter().for_each(|event| tally.add(event));
    }
    tally
}

/// Checks that a projection's state is what the log comes to, up to the position that it says it reflects: each event once,
/// those of a stream in their order, each stream in one lane. Gives that position.
///
/// # Panics
/// Where it is not.
pub fn check(store: &Store, tallies: &Projected<Tallies>) -> u64 {
    let view = tallies.view().wait().expect("there is a view");
    let mut all = Tally::default();
    for state in view.states() {
        for (stream, known) in &state.streams {
            let before = all.streams.insert(stream.clone(), known.clone());
            assert!(before.is_none(), "{stream} is in two lanes");
        }
    }
    let position = view.position().get();
    assert_eq!(all, expected(store, position), "at position {position}");
    position
}
