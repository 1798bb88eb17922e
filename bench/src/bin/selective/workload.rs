//! The events that both stores get, and the order in which their tags are asked for.

use std::ops::Range;

use stratalog_bench::{PAYLOAD_BYTES, sum};

use crate::Failure;

/// How many events each tag has.
pub const TAG_EVENTS: u64 = 10;
/// How many events one append has.
const APPEND_EVENTS: u64 = 1_000;
const TYPES: u64 = 14;

/// Events by number, from 0 on: those of one tag lie a tenth of all events apart.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    tags: u64,
}

impl Workload {
    pub fn new(events: u64) -> Result<Self, Failure> {
        if events == 0 || !events.is_multiple_of(TAG_EVENTS) {
            return Err(format!("the number of events is a multiple of {TAG_EVENTS}").into());
        }
        Ok(Self { tags: events / TAG_EVENTS })
    }

    pub fn events(self) -> u64 {
        self.tags * TAG_EVENTS
    }

    /// The events of each append behind the first ones, which are there already.
    pub fn appends(self, there: u64) -> impl Iterator<Item = Range<u64>> {
        let events = self.events();
        let step = usize::try_from(APPEND_EVENTS).unwrap_or(usize::MAX);
        (there..events).step_by(step).map(move |first| first..events.min(first + APPEND_EVENTS))
    }

    pub fn event_type(number: u64) -> String {
        format!("type-{:02}", number % TYPES)
    }

    /// The tag of an event.
    pub fn tag(self, number: u64) -> String {
        tag_name(number % self.tags)
    }

    pub fn payload(number: u64) -> Vec<u8> {
        number.to_le_bytes().repeat(PAYLOAD_BYTES / size_of::<u64>())
    }

    /// All tags in an order of this round's.
    pub fn order(self, round: u64) -> Vec<u64> {
        let mut order: Vec<u64> = (0..self.tags).collect();
        fastrand::Rng::with_seed(round).shuffle(&mut order);
        order
    }

    /// Whether this is the payload of the tag's event at this place among its events. Takes every byte
    /// into account.
    pub fn is_payload(self, tag: u64, place: u64, payload: &[u8]) -> bool {
        let number = tag + place * self.tags;
        let words = (PAYLOAD_BYTES / size_of::<u64>()) as u64;
        payload.len() == PAYLOAD_BYTES
            && payload.starts_with(&number.to_le_bytes())
            && sum(payload) == number.wrapping_mul(words)
    }
}

pub fn tag_name(tag: u64) -> String {
    format!("ten-{tag}")
}
