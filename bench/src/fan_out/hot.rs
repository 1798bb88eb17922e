//! Subscriptions to a store whose events are in the memory of its unsealed tail.

use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::limits::SEGMENT_BYTES_MAX;
use stratalog::{AppendError, Expect, Message, NewEvent, Position, Store, Subscription};

use super::{Events, Round, Tally, race};
use crate::stream_name;

/// The streams that the events are in.
const STREAMS: usize = 100;
/// The events of one append.
const APPEND_EVENTS: usize = 50;

/// A store that has all events behind a position, none of which is in a sealed segment.
#[derive(Debug)]
pub struct Hot {
    store: Store,
    after: Position,
}

impl Hot {
    /// Fills a store on a disk in memory. Its segments double in size: so there is first as much of something else as makes
    /// the segment that is being written large enough for all events.
    ///
    /// # Panics
    /// Where an append fails.
    pub fn new(events: &Events) -> Self {
        const OTHER_BYTES: usize = 1 << 20;
        let other = NewEvent::bytes("other", vec![0; OTHER_BYTES]);
        let new_events = new_events(events);
        let segments = |store: &Store| store.stats().expect("the store is readable").segments;
        let mut others = 1;
        loop {
            let store = open();
            for _ in 0..others {
                store.append("other", Expect::Any, [&other]).wait().expect("the append succeeds");
            }
            let (after, before) = (store.head(), segments(&store));
            append(&store, &new_events);
            if segments(&store) == before {
                return Self { store, after };
            }
            others *= 2;
        }
    }

    /// Whether all events are in the unsealed tail alone: the index files are of sealed segments. To be asked after what was
    /// measured, too; it reads the tail.
    ///
    /// # Panics
    /// Where the store cannot be read.
    pub fn is_hot(&self) -> bool {
        let stats = self.store.stats().expect("the store is readable");
        stats.indexed_events <= self.after.get() && stats.events > self.after.get()
    }

    /// So many subscriptions begin at the same position, and each receives events until it has caught up.
    ///
    /// # Panics
    /// Where a subscription fails, or events are missing.
    pub fn drain(&self, events: &Events, consumers: usize) -> Round {
        let drain = || {
            let mut subscription = self.subscribe();
            move || {
                let mut tally = Tally::default();
                while receive(&mut subscription, &mut tally) {}
                tally
            }
        };
        race(events, (0..consumers).map(|_| drain()).collect(), || ())
    }

    fn subscribe(&self) -> Subscription {
        self.store.subscribe().after(self.after).start().expect("the subscription starts")
    }
}

/// The events are appended to a new store, some at a time and without waiting for each append, while so many
/// subscriptions follow: it is over when all have received the last event. Segments become full meanwhile, and are sealed.
///
/// # Panics
/// Where an append or a subscription fails.
pub fn follow(events: &Events, consumers: usize) -> Round {
    let store = open();
    let follow = || {
        let mut subscription = store.subscribe().start().expect("the subscription starts");
        move || {
            let mut tally = Tally::default();
            while tally.events < events.count() {
                receive(&mut subscription, &mut tally);
            }
            tally
        }
    };
    let consumers = (0..consumers).map(|_| follow()).collect();
    let new_events = new_events(events);
    race(events, consumers, || append(&store, &new_events))
}

/// Receives one message; false where it is that everything was received.
fn receive(subscription: &mut Subscription, tally: &mut Tally) -> bool {
    match subscription.recv().expect("the log is readable") {
        Message::Events(batch) => batch.iter().for_each(|event| tally.take(event.payload())),
        Message::CaughtUp(_) => return false,
        Message::FellBehind { .. } => {}
    }
    true
}

fn open() -> Store {
    let options = Store::options().segment_bytes(SEGMENT_BYTES_MAX);
    options.open_on(Arc::new(MemoryDisk::new())).expect("the store opens")
}

fn new_events(events: &Events) -> Vec<NewEvent> {
    let event = |payload: &Arc<[u8]>| NewEvent::bytes("entry-posted", payload.to_vec());
    events.payloads.iter().map(event).collect()
}

fn append(store: &Store, events: &[NewEvent]) {
    let names: Vec<_> = (0..STREAMS as u64).map(stream_name).collect();
    for (events, name) in events.chunks(APPEND_EVENTS).zip(names.iter().cycle()) {
        let append = || store.append(name, Expect::Any, events);
        match append().submit() {
            Ok(_) => {}
            Err(AppendError::Busy) => drop(append().wait().expect("the append succeeds")),
            Err(error) => panic!("the append fails: {error}"),
        }
    }
    store.flush().expect("all of it is durable");
}
