//! The ring of the crate `disruptor`: one producer, and consumers that go over the same slots beside each other.
//!
//! An event is copied into its slot; a consumer reads it there. Of the ways to wait, those that the crate brings spin, or sleep
//! for a fixed time: with more threads than processors the one takes the time of those who are waited for, and the other is
//! long beside an event. So consumers poll on threads of their own and let others run where there is nothing, as the producer
//! does where the ring is full.

use std::thread;

use disruptor::{
    BusySpin, EventPoller, Polling, Producer, SingleProducerBarrier, build_single_producer,
};

use super::{Events, ROOM_EVENTS, Round, Tally, race};
use crate::PAYLOAD_BYTES;

/// How many events are published at once, and how many a consumer takes before it says that it is done with them.
const BATCH_EVENTS: usize = 64;

/// A slot of the ring, on cache lines of its own.
#[repr(align(64))]
struct Slot([u8; PAYLOAD_BYTES]);

/// One thread publishes, some at a time.
///
/// # Panics
/// Where a consumer has not received all events.
pub fn run(events: &Events, consumers: usize) -> Round {
    let slot = || Slot([0; PAYLOAD_BYTES]);
    let builder = build_single_producer(ROOM_EVENTS, slot, BusySpin);
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
