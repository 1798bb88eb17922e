//! Loads: states of streams at random from their snapshots, and in between the same states from all events.
//!
//! An empty store is filled with typed events, and a snapshot of each stream is taken when it has all events but the last
//! ones. Then the store is opened anew, so that no compaction goes on, and everything is read, and each stream that will be
//! loaded is loaded once, so that the device and the first touch of a page have no part in it. Loads and replays take turns
//! for as long as each other. That both come to the same is looked at before, and that each load has begun with a snapshot
//! all the time. A replay looks for a snapshot too, and finds none: where streams have few events, that is most of it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use stratalog::{Folded, Loaded, Policy, SnapshotError, Taking};

use super::fill::{INFLIGHT, producer};
use super::{Plan, WARMUP};
use crate::AnyError;
use crate::clients::producers;
use crate::clients::window::{Clock, Recorded, Recorder, Tally};
use crate::process::Memory;
use crate::report::states;
use crate::snapshots;
use crate::target::Target;
use crate::workload::Payloads;
use crate::workload::ledger::{Ledgers, Replays};
use crate::workload::streams::{Name, Names};
use crate::workload::tags::Tagging;

/// How many snapshots are on their way while one of each stream is taken; the store skips what is more than it has room for.
const TAKING: usize = 512;
/// How long a snapshot is asked for again that the store does not take now.
const PATIENCE: Duration = Duration::from_mins(1);
/// After which time it is.
const PAUSE: Duration = Duration::from_millis(10);
/// Out of how many streams those are drawn that are loaded, if there are more: they are spread over all. So the sizes of
/// stores differ, and what is hot does not.
const HOT: usize = 100_000;
/// Of how many streams both states are compared before anything is measured.
const COMPARED: usize = 100;

/// A store that was filled.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub events: u64,
    /// What taking snapshots took, and what came of it; none where it was filled before.
    pub taken: Option<(states::Taking, states::Snapshots)>,
}

/// Fills an empty store, and takes a snapshot of each stream.
pub(super) fn fill<T: Target>(plan: &Plan, folder: &Path) -> Result<Filled, AnyError> {
    let target = T::open_with_snapshots(folder, plan.states.settings.options(), None)?;
    let store = target.store()?;
    let (streams, behind) = (plan.streams as u64, plan.states.behind);
    let events = target.content()?.events;
    if events > 0 {
        let keys = store.snapshots().stats()?.keys;
        target.close()?;
        return if keys == streams {
            Ok(Filled { events, taken: None })
        } else {
            let text = "streams of this store have a snapshot: it was not filled by --mode loads with as many --streams";
            Err(format!("{keys} {text}").into())
        };
    }
    let names = Names::Made(plan.streams);
    let payloads = Payloads::new(true, plan.payload_bytes, plan.seed)?;
    let clock = Clock::start(Duration::ZERO, None);
    let client =
        producer(&names, payloads, Tagging::Drawn(0), plan.seed, plan.fill - streams * behind);
    let mut client = producers::run(&target, client, INFLIGHT, &clock)?;
    let (before, began) = (Memory::now()?, Instant::now());
    take_all(&store.folded::<Ledgers>(), &names)?;
    let (took, after) = (began.elapsed(), Memory::now()?);
    client.go_on(streams * behind);
    producers::run(&target, client, INFLIGHT, &clock)?;
    let events = target.content()?.events;
    let snapshots = store.snapshots();
    let snapshots = snapshots::close(target, Some(&snapshots))?;
    let taking = states::Taking {
        snapshot_us_mean: Some(took.as_secs_f64() * 1e6 / streams as f64),
        rss_before_bytes: Some(before.rss),
        rss_after_bytes: Some(after.rss),
        anonymous_before_bytes: Some(before.anonymous),
        anonymous_after_bytes: Some(after.anonymous),
    };
    Ok(Filled { events, taken: Some((taking, snapshots)) })
}

/// Takes a snapshot of each stream.
fn take_all(ledgers: &Folded<Ledgers>, names: &Names) -> Result<(), AnyError> {
    let mut on_their_way: VecDeque<(usize, Taking)> = VecDeque::with_capacity(TAKING);
    let wait = |(number, taking): (usize, Taking)| {
        let (mut taken, began) = (taking.wait(), Instant::now());
        while matches!(taken, Err(SnapshotError::NotNow { .. })) && began.elapsed() < PATIENCE {
            std::thread::sleep(PAUSE);
            taken = ledgers.take(&names.get(number)).wait();
        }
        taken.map(|_| ())
    };
    for number in 0..names.len() {
        if on_their_way.len() == TAKING {
            on_their_way.pop_front().map_or(Ok(()), wait)?;
        }
        on_their_way.push_back((number, ledgers.take(&names.get(number))));
    }
    on_their_way.into_iter().try_for_each(wait)?;
    Ok(())
}

/// Loads the streams of a store that [`fill`] has filled, and that was just opened.
pub(super) fn measure<T: Target>(
    target: &T,
    plan: &Plan,
    folder: &Path,
) -> Result<states::Loads, AnyError> {
    let store = target.store()?;
    let streams = Streams {
        names: Names::Made(plan.streams),
        hot: plan.streams.min(HOT),
        ledgers: store.folded::<Ledgers>().snapshots(Policy::never()),
        replays: store.folded::<Replays>().snapshots(Policy::never()),
    };
    read_files(folder)?;
    target.scan(|payload| {
        std::hint::black_box(payload);
    })?;
    for number in 0..streams.hot {
        streams.load(number)?;
    }
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let state_bytes = streams.compare(&mut random)?;
    let clock = Clock::start(WARMUP, Some(plan.duration));
    let (mut loads, mut replays) = (Recorder::new(), Recorder::new());
    let mut behind = 0;
    let mut now = clock.now();
    while now < clock.end() {
        let (since, replayed) = (now, streams.replay(random.usize(..streams.hot))?);
        now = clock.now();
        let done = |events| Tally { events, bytes: 0 };
        replays.record(&clock, since, now, done(replayed.replayed()));
        drop(replayed);
        let until = now + (now - since);
        while now < until {
            let number = random.usize(..streams.hot);
            let since = clock.now();
            let loaded = streams.load(number)?;
            now = clock.now();
            loads.record(&clock, since, now, done(loaded.replayed()));
            behind = behind.max(loaded.replayed());
        }
        now = clock.now();
    }
    let (mut loaded, mut replayed) = (Recorded::new(), Recorded::new());
    loaded.add(&loads)?;
    replayed.add(&replays)?;
    if loaded.latency.is_empty() || replayed.latency.is_empty() {
        return Err("no load or no replay has ended in time: give a longer --duration".into());
    }
    Ok(states::Loads {
        stream_events: Some(plan.states.stream_events),
        events_behind: Some(behind),
        state_bytes: Some(state_bytes),
        ..states::Loads::of(&loaded.latency, &replayed.latency)
    })
}

/// The streams, and the two ways to their states.
struct Streams {
    names: Names,
    /// How many of them are loaded.
    hot: usize,
    ledgers: Folded<Ledgers>,
    replays: Folded<Replays>,
}

impl Streams {
    /// The name of one of those that are loaded.
    fn name(&self, number: usize) -> Name<'_> {
        self.names.get(number * (self.names.len() / self.hot))
    }

    fn load(&self, number: usize) -> Result<Loaded<Ledgers>, AnyError> {
        let name = self.name(number);
        let loaded = self.ledgers.load(&name)?;
        if loaded.snapshot_version().is_none() {
            return Err(format!("{}: no snapshot was found", &*name).into());
        }
        Ok(loaded)
    }

    fn replay(&self, number: usize) -> Result<Loaded<Replays>, AnyError> {
        Ok(self.replays.load(&self.name(number))?)
    }

    /// Holds what loads come to against what replays come to. Says how long a state's archive is.
    fn compare(&self, random: &mut fastrand::Rng) -> Result<u64, AnyError> {
        let mut bytes = 0;
        for _ in 0..COMPARED.min(self.hot) {
            let number = random.usize(..self.hot);
            let (loaded, replayed) = (self.load(number)?, self.replay(number)?);
            let is_same = loaded.version() == replayed.version()
                && loaded.state().books == replayed.state().books;
            if !is_same {
                let name = &*self.name(number);
                return Err(format!("{name}: a load and a replay come to different states").into());
            }
            bytes = loaded.state().archived_bytes()? as u64;
        }
        Ok(bytes)
    }
}

/// Has the kernel keep the files in a folder in memory, as far as there is room.
fn read_files(folder: &Path) -> Result<(), AnyError> {
    let mut buffer = vec![0; 1 << 20];
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            let mut file = File::open(&path)?;
            while file.read(&mut buffer)? > 0 {}
        }
    }
    Ok(())
}
