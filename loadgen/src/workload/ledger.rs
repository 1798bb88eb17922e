//! A state that typed events are folded into: about four KiB of texts and maps, of whatever stream.
//!
//! Owns the fold and what is in the state. A state has the same length after one event as after a million, whatever the
//! events' payloads are, so that figures about snapshots compare: all branches are there from the beginning, and all texts
//! are equally long. It depends on nothing but the events.

use std::collections::BTreeMap;

use stratalog::rkyv::with::AsVec;
use stratalog::rkyv::{Archive, Deserialize, Serialize, rancor, to_bytes};
use stratalog::{EventSet, Fold, Layout, State};

use super::typed::{ArchivedPosted, Posted};
use crate::AnyError;

/// How many branches there are: an event changes one of them.
const BRANCHES: u32 = 32;
/// How many of the last notes are kept.
const RECENT: usize = 18;
/// The length of a note.
const NOTE_BYTES: usize = 48;
/// The length of a branch's name.
const NAME_BYTES: usize = 16;

/// What the events of a stream come to.
#[derive(Debug, Clone, PartialEq, Eq, Layout, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
pub(crate) struct Books {
    events: u64,
    #[rkyv(with = AsVec)]
    branches: BTreeMap<String, Branch>,
    /// The newest is the last.
    recent: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Layout, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
pub(crate) struct Branch {
    balance: i64,
    entries: u64,
    last_note: String,
}

/// The state of which snapshots are taken.
#[derive(Debug, State, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "ledger", version = 1)]
pub(crate) struct Ledger {
    pub books: Books,
}

/// The same under another name, of which none are taken, so that it is always replayed.
#[derive(Debug, State, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "replayed-ledger", version = 1)]
pub(crate) struct Replayed {
    pub books: Books,
}

/// The events of typed loads.
#[derive(EventSet)]
pub(crate) enum Entries {
    Posted(Posted),
}

/// The fold into a [`Ledger`].
#[derive(Debug)]
pub(crate) struct Ledgers;

/// The fold into a [`Replayed`].
#[derive(Debug)]
pub(crate) struct Replays;

impl Fold for Ledgers {
    type State = Ledger;
    type Events = Entries;

    fn initial() -> Ledger {
        Ledger { books: Books::new() }
    }

    fn evolve(ledger: &mut Ledger, EntriesRef::Posted(posted): EntriesRef<'_>) {
        ledger.books.post(posted);
    }
}

impl Fold for Replays {
    type State = Replayed;
    type Events = Entries;

    fn initial() -> Replayed {
        Replayed { books: Books::new() }
    }

    fn evolve(replayed: &mut Replayed, EntriesRef::Posted(posted): EntriesRef<'_>) {
        replayed.books.post(posted);
    }
}

impl Ledger {
    /// The length of its archive.
    ///
    /// # Errors
    /// What rkyv reports.
    pub(crate) fn archived_bytes(&self) -> Result<usize, AnyError> {
        Ok(to_bytes::<rancor::Error>(self)?.len())
    }
}

impl Books {
    fn new() -> Self {
        let blank = " ".repeat(NOTE_BYTES);
        let branch = Branch { balance: 0, entries: 0, last_note: blank.clone() };
        let name = |number| text(&name_of(number)).to_owned();
        Self {
            events: 0,
            branches: (0..BRANCHES).map(|number| (name(number), branch.clone())).collect(),
            recent: vec![blank; RECENT],
        }
    }

    fn post(&mut self, posted: &ArchivedPosted) {
        let name = name_of(posted.branch.to_native() % BRANCHES);
        let Some(branch) = self.branches.get_mut(text(&name)) else {
            unreachable!("all branches are there from the beginning")
        };
        self.events += 1;
        branch.entries += 1;
        branch.balance = branch.balance.wrapping_add(posted.amount.to_native());
        write_note(posted, &mut branch.last_note);
        // The oldest one's memory takes the newest.
        self.recent.rotate_left(1);
        if let Some(newest) = self.recent.last_mut() {
            newest.clone_from(&branch.last_note);
        }
    }
}

/// The name of a branch; all are equally long.
fn name_of(number: u32) -> [u8; NAME_BYTES] {
    let mut name = *b"branch-000000000";
    let digit = |digit: u32| b"0123456789"[digit as usize % 10];
    name[NAME_BYTES - 2] = digit(number / 10);
    name[NAME_BYTES - 1] = digit(number);
    name
}

fn text(name: &[u8; NAME_BYTES]) -> &str {
    str::from_utf8(name).expect("it is ASCII")
}

/// Makes `note` the number and the note of an event, cut or filled up to one length.
fn write_note(posted: &ArchivedPosted, note: &mut String) {
    let number = posted.number.to_native().to_be_bytes();
    let halves = number.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = halves.map(|half| char::from(b"0123456789abcdef"[usize::from(half)]));
    let letters = posted.note.chars().filter(char::is_ascii).chain(std::iter::repeat(' '));
    note.clear();
    note.extend(digits.chain(letters).take(NOTE_BYTES));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stratalog::disk::MemoryDisk;
    use stratalog::{Expect, Policy, Store};

    use super::*;
    use crate::workload::typed::Postings;

    /// A store with so many events of so many bytes in a stream.
    fn store_with(events: u64, payload_bytes: usize) -> Store {
        let store = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
        let postings = Postings::new(payload_bytes, 7).unwrap();
        let mut value = postings.blank();
        for number in 0..events {
            postings.fill(&mut value, 3, number);
            store.append("s", Expect::Any, std::slice::from_ref(&value)).wait().unwrap();
        }
        store
    }

    #[test]
    fn a_state_is_as_long_after_one_event_as_after_many_whatever_they_are() {
        let mut lengths = Vec::new();
        for (events, payload_bytes) in [(1, 48), (1, 256), (200, 48), (200, 256), (200, 1000)] {
            let store = store_with(events, payload_bytes);
            let ledger = store.load::<Ledgers>("s").unwrap().into_state();
            assert_eq!(ledger.books.events, events);
            let posted: u64 = ledger.books.branches.values().map(|branch| branch.entries).sum();
            assert_eq!(posted, events);
            lengths.push(ledger.archived_bytes().unwrap());
        }
        assert!(lengths.iter().all(|&bytes| bytes == lengths[0]), "{lengths:?}");
        assert!(lengths[0].abs_diff(4096) < 64, "{lengths:?}");
    }

    #[test]
    fn a_state_from_a_snapshot_is_the_one_that_is_replayed() {
        let store = store_with(120, 256);
        let ledgers = store.folded::<Ledgers>().snapshots(Policy::never());
        ledgers.take("s").wait().unwrap();
        let postings = Postings::new(256, 7).unwrap();
        let mut value = postings.blank();
        postings.fill(&mut value, 3, 120);
        store.append("s", Expect::Any, std::slice::from_ref(&value)).wait().unwrap();
        let loaded = ledgers.load("s").unwrap();
        assert_eq!((loaded.replayed(), loaded.snapshot_version()), (1, Some(119)));
        let replayed = store.load::<Replays>("s").unwrap();
        assert_eq!((replayed.replayed(), replayed.snapshot_version()), (121, None));
        assert_eq!(loaded.state().books, replayed.state().books);
    }

    #[test]
    fn states_of_other_events_differ() {
        let books =
            |events| store_with(events, 48).load::<Replays>("s").unwrap().into_state().books;
        assert_eq!(books(40), books(40));
        assert_ne!(books(40), books(41));
    }
}
