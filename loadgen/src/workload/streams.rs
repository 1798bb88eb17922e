//! Which streams there are, which of them a client has, and which comes next.
//!
//! Owns names and shares. Each client has streams that no other one appends to, so that it knows their
//! versions without asking; only where there are fewer streams than clients do several share one.

use std::ops::Deref;
use std::sync::Arc;

use super::zipf::AliasTable;

/// The names of all streams by their numbers.
#[derive(Debug, Clone)]
pub(crate) enum Names {
    /// So many, each made when it is needed, which is faster than looking it up where there are many.
    Made(usize),
    Listed(Arc<[Box<str>]>),
}

/// The name of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Name<'a> {
    Made([u8; NAME_BYTES]),
    Listed(&'a str),
}

/// The length of the names that are made.
const NAME_BYTES: usize = 20;

impl Names {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Made(streams) => *streams,
            Self::Listed(names) => names.len(),
        }
    }

    /// The name of a stream.
    pub(crate) fn get(&self, number: usize) -> Name<'_> {
        match self {
            Self::Made(_) => Name::numbered(number),
            Self::Listed(names) => Name::Listed(&names[number]),
        }
    }

    /// All names, by their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Name<'_>> {
        (0..self.len()).map(|number| self.get(number))
    }
}

impl Name<'_> {
    fn numbered(mut number: usize) -> Self {
        let mut bytes = *b"account-000000000000";
        for digit in bytes.iter_mut().rev() {
            if number == 0 {
                break;
            }
            *digit = b"0123456789"[number % 10];
            number /= 10;
        }
        Self::Made(bytes)
    }
}

impl Deref for Name<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Made(bytes) => str::from_utf8(bytes).expect("it is ASCII"),
            Self::Listed(name) => name,
        }
    }
}

/// The streams of one client. It knows each by its slot, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    first: usize,
    step: usize,
    slots: usize,
    /// Whether other clients append to them too.
    pub shared: bool,
}

impl Share {
    /// Every stream whose number is `client` modulo `clients`; where that leaves some clients without
    /// one, a single stream that others have as well.
    pub(crate) fn of(client: usize, clients: usize, streams: usize) -> Self {
        if streams < clients {
            return Self { first: client % streams, step: 1, slots: 1, shared: true };
        }
        Self::disjoint(client, clients, streams)
    }

    /// Every stream whose number is `client` modulo `clients`, which may be none.
    pub(crate) fn disjoint(client: usize, clients: usize, streams: usize) -> Self {
        let slots = streams.saturating_sub(client).div_ceil(clients);
        Self { first: client, step: clients, slots, shared: false }
    }

    /// How many streams it has.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// The number of the stream in a slot.
    pub(crate) fn stream(&self, slot: usize) -> usize {
        self.first + slot * self.step
    }

    /// The slot of a stream that is in this share.
    pub(crate) fn slot(&self, stream: usize) -> usize {
        (stream - self.first) / self.step
    }
}

/// Which slot of a share comes next.
#[derive(Debug)]
pub(crate) enum Chooser {
    Uniform(usize),
    /// By Zipf's law over the numbers of all streams: a client draws from its own with their weights.
    Zipf(AliasTable),
    /// One after the other, and again from the first.
    Turns {
        slots: usize,
        next: usize,
    },
}

/// How streams are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Choice {
    Uniform,
    /// With this exponent.
    Zipf(f64),
    Turns,
}

impl Chooser {
    pub(crate) fn new(share: &Share, choice: Choice) -> Self {
        match choice {
            Choice::Uniform => Self::Uniform(share.slots),
            Choice::Turns => Self::Turns { slots: share.slots, next: 0 },
            Choice::Zipf(theta) => {
                Self::Zipf(AliasTable::zipf((0..share.slots).map(|slot| share.stream(slot)), theta))
            }
        }
    }

    pub(crate) fn choose(&mut self, random: &mut fastrand::Rng) -> usize {
        match self {
            Self::Uniform(slots) => random.usize(..*slots),
            Self::Zipf(table) => table.choose(random),
            Self::Turns { slots, next } => {
                let slot = *next;
                *next = if slot + 1 == *slots { 0 } else { slot + 1 };
                slot
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_has_one_client_where_there_are_enough() {
        for (clients, streams) in [(1, 1), (3, 10), (64, 10_000), (7, 7)] {
            let mut owners = vec![0; streams];
            for client in 0..clients {
                let share = Share::of(client, clients, streams);
                assert!(!share.shared);
                for slot in 0..share.slots() {
                    owners[share.stream(slot)] += 1;
                    assert_eq!(share.slot(share.stream(slot)), slot);
                }
            }
            assert!(owners.iter().all(|&owners| owners == 1), "{clients} clients: {owners:?}");
        }
    }

    #[test]
    fn clients_share_streams_where_there_are_too_few() {
        let shares: Vec<_> = (0..5).map(|client| Share::of(client, 5, 2)).collect();
        assert!(shares.iter().all(|share| share.shared && share.slots() == 1));
        let streams: Vec<_> = shares.iter().map(|share| share.stream(0)).collect();
        assert_eq!(streams, [0, 1, 0, 1, 0]);
        assert_eq!(Share::disjoint(4, 5, 2).slots(), 0);
    }

    #[test]
    fn turns_go_round() {
        let mut chooser = Chooser::new(&Share::of(0, 1, 3), Choice::Turns);
        let mut random = fastrand::Rng::with_seed(1);
        let slots: Vec<_> = (0..5).map(|_| chooser.choose(&mut random)).collect();
        assert_eq!(slots, [0, 1, 2, 0, 1]);
    }

    #[test]
    fn names_have_twenty_bytes_and_differ() {
        let names = Names::Made(1000);
        assert!(names.iter().all(|name| name.len() == NAME_BYTES));
        assert_eq!(&*names.get(0), "account-000000000000");
        assert_eq!(&*names.get(907), "account-000000000907");
    }
}
