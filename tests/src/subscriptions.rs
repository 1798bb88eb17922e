//! Stores that are followed, and what a subscription has received of them.
//!
//! Owns the rules that every subscription keeps, which are checked with each message; and appends of random events. The
//! tests of subscriptions call it; it uses the public API only.

#![allow(clippy::unwrap_used, reason = "it is a part of tests, and a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use stratalog::disk::MemoryDisk;
use stratalog::{Expect, Message, NewEvent, Store, SubscribeError, Subscription};

use crate::oracle::Seen;
use crate::questions::{Model, some_append};

/// How long a test may take, on a machine that has other things to do.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Opens the store of a disk in memory, with small segments, so that some are sealed.
///
/// # Panics
/// Where it cannot be opened.
pub fn open(disk: &MemoryDisk) -> Store {
    Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone())).unwrap()
}

/// How many segments of the log there are.
pub fn segments(disk: &MemoryDisk) -> usize {
    let is_log = |name: &&String| name.starts_with("segment-") && name.contains(".log");
    disk.file_names().iter().filter(is_log).count()
}

/// Appends so many random events at least; others may do so as well.
///
/// # Panics
/// Where an append fails.
pub fn append_some(store: &Store, random: &mut Rng, events: usize) {
    let mut appended = 0;
    while appended < events {
        let (stream, events) = some_append(random, 1_000);
        appended += events.len();
        store.append(&stream, Expect::Any, &events).wait().unwrap();
    }
}

/// As [`append_some`], of a store to which nobody else appends, and noted in its model.
///
/// # Panics
/// As [`append_some`], and where an event is not where the model has it.
pub fn append_noted(store: &Store, model: &mut Model, random: &mut Rng, events: usize) {
    let wanted = model.head() + events as u64;
    while model.head() < wanted {
        let (stream, events) = some_append(random, 1_000);
        let receipt = store.append(&stream, Expect::Any, &events).wait().unwrap();
        model.append(&stream, events, &receipt);
    }
    model.learn(store);
}

/// Appends so many events of one type to one stream, some KiB to each append.
///
/// # Panics
/// As [`append_some`].
pub fn append_plain(store: &Store, stream: &str, events: usize) {
    let event = NewEvent::bytes("noted", vec![7; 100]);
    let mut left = events;
    while left > 0 {
        let now = left.min(40);
        store.append(stream, Expect::Any, std::iter::repeat_n(&event, now)).wait().unwrap();
        left -= now;
    }
}

/// What one subscription has received.
#[derive(Debug, Default)]
pub struct Received {
    /// The events.
    pub events: Vec<Seen>,
    /// The head of the log, each time that it was caught up.
    pub caught_up: Vec<u64>,
    /// How far it was behind, each time that it was told so.
    pub fell_behind: Vec<u64>,
}

impl Received {
    /// The position of the last event, or of the last head that was told.
    pub fn position(&self) -> u64 {
        let last = self.events.last().map_or(0, |seen| seen.position);
        last.max(self.caught_up.last().copied().unwrap_or(0))
    }

    /// The positions of the events.
    pub fn positions(&self) -> Vec<u64> {
        self.events.iter().map(|seen| seen.position).collect()
    }

    /// Notes a message.
    ///
    /// # Panics
    /// Where it is not one that may come next.
    pub fn take(&mut self, message: &Message) {
        match message {
            Message::Events(batch) => {
                assert!(!batch.is_empty(), "a batch without events");
                for event in batch {
                    let seen = Seen::of(event);
                    assert!(seen.position > self.position(), "{seen:?} behind {}", self.position());
                    self.events.push(seen);
                }
            }
            Message::CaughtUp(position) => {
                assert_eq!(self.caught_up.len(), self.fell_behind.len(), "caught up once more");
                assert!(position.get() >= self.position(), "{position} before {}", self.position());
                self.caught_up.push(position.get());
            }
            Message::FellBehind { events, .. } => {
                assert_eq!(self.caught_up.len(), self.fell_behind.len() + 1, "not caught up");
                self.fell_behind.push(*events);
            }
        }
    }

    /// Receives until it is told that everything was received.
    ///
    /// # Panics
    /// Where a message is not one that may come next, or an error comes.
    pub fn catch_up(&mut self, subscription: &mut Subscription) {
        let before = self.caught_up.len();
        while self.caught_up.len() == before {
            self.take(&subscription.recv().unwrap());
        }
    }

    /// Receives until the store is closed.
    ///
    /// # Panics
    /// As [`Received::catch_up`].
    pub fn take_all(&mut self, subscription: &mut Subscription) {
        loop {
            match subscription.recv() {
                Ok(message) => self.take(&message),
                Err(SubscribeError::Closed) => return,
                Err(error) => panic!("{error} behind {}", self.position()),
            }
        }
    }
}
