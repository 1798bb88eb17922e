//! One bounded channel of `crossbeam-channel` for each consumer; an event is shared by counting references.

use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use super::{Events, ROOM_EVENTS, Round, Tally, race};

/// One thread sends each event into every channel, and waits where one is full.
///
/// # Panics
/// Where a consumer has not received all events.
pub fn run(events: &Events, consumers: usize) -> Round {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..consumers).map(|_| bounded::<Arc<[u8]>>(ROOM_EVENTS)).unzip();
    let consume = |receiver: Receiver<Arc<[u8]>>| {
        move || {
            let mut tally = Tally::default();
            receiver.iter().for_each(|payload| tally.take(&payload));
            tally
        }
    };
    race(events, receivers.into_iter().map(consume).collect(), move || {
        for payload in &events.payloads {
            for sender in &senders {
                sender.send(Arc::clone(payload)).expect("the consumer is there");
            }
        }
    })
}
