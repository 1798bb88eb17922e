//! The ring of the crate `disruptor`: one producer, and consumers that go over the same slots beside each other.
//!
//! An event is copied into its slot; a consumer reads it there. It is measured in two forms: as its documentation begins, with
//! handlers on threads of the ring that spin while there is nothing ([`run`]), which with more threads than processors takes the
//! time of those who are waited for; and with consumers that poll on threads of their own and let others run where there is
//! nothing, as the producer does where the ring is full ([`poll`]), which is what such a machine asks for.

use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use disruptor::{
    BusySpin, BusySpinWithSpinLoopHint, EventPoller, Polling, Producer, SingleProducerBarrier,
    build_single_producer,
};

use super::{Events, Lap, ROOM_EVENTS, Round, Start, Tally, race};
use crate::PAYLOAD_BYTES;

/// How many events are published at once, and how many a consumer takes before it says that it is done with them.
const BATCH_EVENTS: usize = 64;

/// A slot of the ring, on cache lines of its own.
#[repr(align(64))]
struct Slot([u8; PAYLOAD_BYTES]);

impl Slot {
    fn empty() -> Self {
        Self([0; PAYLOAD_BYTES])
    }
}

/// One thread publishes, some at a time, to handlers on the ring's own threads.
///
/// # Panics
/// Where a consumer has not received all events.
pub fn run(events: &Events, consumers: usize) -> Round {
    let (laps, ended) = mpsc::channel();
    let start = Arc::new(Barrier::new(consumers + 1));
    let last = events.count();
    let begin = || {
        let start = Arc::clone(&start);
        move || (Start::with(&start), Tally::default())
    };
    let handle = || {
        let laps = laps.clone();
        move |(begun, tally): &mut (Start, Tally), slot: &Slot, _, _| {
            tally.take(&slot.0);
            if tally.events == last {
                laps.send(begun.end(*tally)).expect("it is waited for");
            }
        }
    };
    let builder = build_single_producer(ROOM_EVENTS, Slot::empty, BusySpinWithSpinLoopHint);
    let builder = builder.handle_events_and_state_with(handle(), begin());
    let sent = if consumers == 1 {
        send(events, builder.build(), &start)
    } else {
        let mut builder = builder.handle_events_and_state_with(handle(), begin());
        for _ in 2..consumers {
            builder = builder.handle_events_and_state_with(handle(), begin());
        }
        send(events, builder.build(), &start)
    };
    // The ring has ended, and with it its threads: whoever has not told by now never will.
    drop(laps);
    let received: Vec<_> = ended.iter().collect();
    assert_eq!(received.len(), consumers, "every consumer has received all events");
    Round::of(events, &sent, &received)
}

/// Publishes on a thread of its own, and waits until the ring has ended.
fn send(events: &Events, mut producer: impl Producer<Slot> + Send, start: &Barrier) -> Lap<()> {
    let send = || {
        let begun = Start::with(start);
        for payloads in events.payloads.chunks(BATCH_EVENTS) {
            producer.batch_publish(payloads.len(), |slots| {
                for (slot, payload) in slots.zip(payloads) {
                    slot.0.copy_from_slice(payload);
                }
            });
        }
        begun.end(())
    };
    thread::scope(|scope| scope.spawn(send).join().expect("the producer does not panic"))
}

/// One thread publishes, some at a time, to consumers that poll.
///
/// # Panics
/// Where a consumer has not received all events.
pub fn poll(events: &Events, consumers: usize) -> Round {
    let builder = build_single_producer(ROOM_EVENTS, Slot::empty, BusySpin);
    let (first, builder) = builder.new_event_poller();
    let mut pollers = vec![first];
    if consumers == 1 {
        return with(events, pollers, builder.build());
    }
    let (second, mut builder) = builder.new_event_poller();
    pollers.push(second);
    while pollers.len() < consumers {
        let (poller, more) = builder.new_event_poller();
        pollers.push(poller);
        builder = more;
    }
    with(events, pollers, builder.build())
}

type Poller = EventPoller<Slot, SingleProducerBarrier>;

fn with(events: &Events, pollers: Vec<Poller>, mut producer: impl Producer<Slot> + Send) -> Round {
    let consume = |mut poller: Poller| {
        move || {
            let mut tally = Tally::default();
            loop {
                match poller.take(BATCH_EVENTS as u64) {
                    Ok(mut batch) => (&mut batch).for_each(|slot| tally.take(&slot.0)),
                    Err(Polling::NoEvents) => thread::yield_now(),
                    Err(Polling::Shutdown) => return tally,
                }
            }
        }
    };
    race(events, pollers.into_iter().map(consume).collect(), move || {
        for payloads in events.payloads.chunks(BATCH_EVENTS) {
            loop {
                let published = producer.try_batch_publish(payloads.len(), |slots| {
                    for (slot, payload) in slots.zip(payloads) {
                        slot.0.copy_from_slice(payload);
                    }
                });
                if published.is_ok() {
                    break;
                }
                thread::yield_now();
            }
        }
    })
}
