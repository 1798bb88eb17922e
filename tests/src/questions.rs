//! Questions to a store, and the obvious answers: a list of all events, looked through from one end to the
//! other.
//!
//! Owns the model of what a store holds, random events of which many share names, and random questions of
//! every shape. The tests of queries call it; it reads through the public API only.

#![allow(clippy::unwrap_used, reason = "it is a part of tests, and a test that cannot go on fails")]

use std::collections::BTreeSet;

use fastrand::Rng;
use stratalog::{EventId, EventRef, NewEvent, Query, Receipt, Store, Timestamp};

use crate::oracle::{Seen, all, stream};

/// What a category is asked for by; the last two have no streams.
const CATEGORIES: [&str; 6] = ["order", "seat", "a", "once", "ledger", "absent"];

/// The name of a stream: of several categories, some with hundreds of streams, and of none.
fn some_stream(random: &mut Rng) -> String {
    match random.u8(0..12) {
        0 => "ledger".to_owned(),
        1 => "-7".to_owned(),
        2 => "a-b-c".to_owned(),
        3 => format!("once-{}", random.u16(..)),
        4..6 => format!("seat-{}", random.u8(0..40)),
        _ => format!("order-{}", random.u8(0..5)),
    }
}

/// An event type: few are common, many are rare.
fn some_type(random: &mut Rng) -> String {
    match random.u8(0..10) {
        0..5 => "taken".to_owned(),
        5..7 => "freed".to_owned(),
        7..9 => "paid".to_owned(),
        _ => format!("rare-{}", random.u8(0..30)),
    }
}

/// A tag: one that most events have, few that are common, many that are rare.
fn some_tag(random: &mut Rng) -> String {
    match random.u8(0..10) {
        0..3 => "all".to_owned(),
        3..8 => format!("seat:{}", random.u8(0..6)),
        _ => format!("rare:{}", random.u8(..)),
    }
}

/// A random event: up to four tags, now and then one of them twice, with a chosen id or none. Its payload has
/// fewer bytes than `bytes_max`.
pub fn some_event(random: &mut Rng, bytes_max: usize) -> NewEvent {
    let payload = vec![random.u8(..); random.usize(0..bytes_max)];
    let mut event = NewEvent::bytes(some_type(random), payload);
    let mut tags: Vec<String> = Vec::new();
    for _ in 0..random.u8(0..5) {
        let again = random.u8(0..8) == 0;
        let tag = tags.first().filter(|_| again).cloned();
        tags.push(tag.unwrap_or_else(|| some_tag(random)));
    }
    event = event.tags(tags);
    if random.bool() { event.id(some_id(random)) } else { event }
}

/// An id that no other event has, sometimes from either end of their order. None says when it was made.
fn some_id(random: &mut Rng) -> EventId {
    let mut bytes = random.u128(..).to_be_bytes();
    match random.u8(0..20) {
        0 => bytes[..8].fill(0),
        1 => bytes[..8].fill(0xff),
        _ => bytes[6] = 0x40 | bytes[6] & 0xf,
    }
    EventId::from_bytes(bytes)
}

/// One append: its stream and its events.
pub fn some_append(random: &mut Rng, bytes_max: usize) -> (String, Vec<NewEvent>) {
    let count = [1, 1, 1, 2, 3, 6][random.usize(0..6)];
    let events = (0..count).map(|_| some_event(random, bytes_max / count)).collect();
    (some_stream(random), events)
}

/// The conditions of an item of a query.
#[derive(Debug, Clone, Default)]
pub struct Item {
    /// An event must have one of them, unless there are none.
    pub types: Vec<String>,
    /// An event must have all of them.
    pub tags: Vec<String>,
    /// The stream that it must be of.
    pub stream: Option<String>,
    /// The category that its stream must be of.
    pub category: Option<String>,
}

impl Item {
    /// Conditions of any kind: those of an event that there is, or any names.
    fn random(random: &mut Rng, model: &Model) -> Self {
        let known = random.choice(&model.events).filter(|_| random.u8(0..4) > 0);
        let mut item = Self::default();
        if random.u8(0..3) == 0 {
            for _ in 0..random.u8(0..4) {
                item.types.push(some_type(random));
            }
            item.types.extend(known.map(|known| known.event.event_type().to_owned()));
        }
        if random.u8(0..5) < 3 {
            match known {
                Some(known) => {
                    let tags = known.event.iter_tags().filter(|_| random.bool());
                    item.tags.extend(tags.map(str::to_owned));
                }
                None => item.tags.extend((0..random.u8(0..3)).map(|_| some_tag(random))),
            }
        }
        if random.u8(0..5) == 0 {
            let name = known.map(|known| known.stream.clone());
            item.stream = Some(name.unwrap_or_else(|| some_stream(random)));
        }
        if random.u8(0..5) == 0 {
            let name = known.and_then(|known| category_of(&known.stream));
            let name = name.unwrap_or_else(|| CATEGORIES[random.usize(0..CATEGORIES.len())]);
            item.category = Some(name.to_owned());
        }
        item
    }

    fn matches(&self, seen: &Seen) -> bool {
        let has = |tag: &String| seen.event.iter_tags().any(|other| other == tag);
        let is_type = |name: &String| name == seen.event.event_type();
        (self.types.is_empty() || self.types.iter().any(is_type))
            && self.tags.iter().all(has)
            && self.stream.as_ref().is_none_or(|name| *name == seen.stream)
            && self.category.as_ref().is_none_or(|name| category_of(&seen.stream) == Some(name))
    }

    fn query(&self) -> Query {
        let mut query = Query::any().types(&self.types).tags(&self.tags);
        if let Some(stream) = &self.stream {
            query = query.stream(stream);
        }
        if let Some(category) = &self.category {
            query = query.category(category);
        }
        query
    }
}

/// What stands before the first hyphen, if anything does.
fn category_of(stream: &str) -> Option<&str> {
    stream.find('-').filter(|at| *at > 0).map(|at| &stream[..at])
}

/// A query and how it is read.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// `None` asks for all events.
    pub items: Option<Vec<Item>>,
    /// Only behind this position.
    pub after: Option<u64>,
    /// Only from this position on; where both are given, it is the one that counts.
    pub from: Option<u64>,
    /// Only before this position.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: Option<u64>,
    /// From the last one back.
    pub backward: bool,
}

impl Question {
    /// One item.
    pub fn of(item: Item) -> Self {
        Self { items: Some(vec![item]), ..Self::default() }
    }

    /// A question of any shape.
    pub fn random(random: &mut Rng, model: &Model) -> Self {
        let items = match random.u8(0..16) {
            0 => None,
            1 => Some(0),
            2..10 => Some(1),
            _ => Some(random.u8(2..5)),
        };
        let items = items.map(|count| (0..count).map(|_| Item::random(random, model)).collect());
        let mut somewhere = |one_in: u8| {
            let at = random.u64(0..model.head() + 4);
            let at = if random.u8(0..40) == 0 { u64::MAX } else { at };
            (random.u8(0..one_in) == 0).then_some(at)
        };
        let (after, from, before) = (somewhere(4), somewhere(4), somewhere(3));
        let limit = (random.u8(0..3) == 0).then(|| random.u64(0..24));
        Self { items, after, from, before, limit, backward: random.bool() }
    }

    /// The query that asks for it.
    pub fn query(&self) -> Query {
        match &self.items {
            None => Query::all(),
            Some(items) => items.iter().fold(Query::none(), |query, item| query.or(item.query())),
        }
    }

    /// The reader that answers it.
    pub fn reader(&self, store: &Store) -> stratalog::ReaderQuery {
        let mut read = store.query(self.query());
        if let Some(after) = self.after {
            read = read.after(after);
        }
        if let Some(from) = self.from {
            read = read.from(from);
        }
        if let Some(before) = self.before {
            read = read.before(before);
        }
        if let Some(limit) = self.limit {
            read = read.limit(limit);
        }
        if self.backward { read.backward() } else { read.forward() }
    }

    fn is_wanted(&self, seen: &Seen) -> bool {
        let is_behind = match (self.from, self.after) {
            (Some(from), _) => seen.position >= from,
            (None, Some(after)) => seen.position > after,
            (None, None) => true,
        };
        is_behind
            && self.before.is_none_or(|before| seen.position < before)
            && self.items.as_ref().is_none_or(|items| items.iter().any(|item| item.matches(seen)))
    }
}

/// What a store should hold: every event, in its order.
#[derive(Debug, Default)]
pub struct Model {
    /// The event at position 1 first. Its time is known once it was read back.
    pub events: Vec<Seen>,
    /// The ids of the events.
    ids: Vec<EventId>,
    /// How many of them were read back.
    learned: usize,
}

impl Model {
    /// The position of the last event.
    pub fn head(&self) -> u64 {
        self.events.len() as u64
    }

    /// Notes what was appended and acknowledged, by whoever appends alone.
    ///
    /// # Panics
    /// Where the receipt says another place.
    pub fn append(&mut self, stream: &str, events: Vec<NewEvent>, receipt: &Receipt) {
        assert_eq!(receipt.first_position().get(), self.head() + 1, "the first position");
        assert_eq!(receipt.event_ids().len(), events.len());
        self.place(stream, events.into_iter().zip(receipt.event_ids().iter().copied()));
    }

    /// Gives events with these ids the next places.
    pub fn place(&mut self, stream: &str, events: impl IntoIterator<Item = (NewEvent, EventId)>) {
        let version = self.stream_head(stream).map_or(0, |last| last + 1);
        for ((event, id), version) in events.into_iter().zip(version..) {
            let position = self.head() + 1;
            let event = event.id(id);
            self.ids.push(id);
            let stream = stream.to_owned();
            self.events.push(Seen { position, stream, version, recorded: 0, event });
        }
    }

    /// Adds the next event of a store to which others append, as it was read.
    ///
    /// # Panics
    /// Where it is not the next one.
    pub fn follow(&mut self, event: EventRef<'_>) {
        let seen = Seen::of(event);
        assert_eq!(seen.position, self.head() + 1, "the positions have a gap");
        self.events.push(seen);
        self.ids.push(event.id());
        self.learned = self.events.len();
    }

    /// The id of the event at an index of [`Model::events`].
    pub fn id(&self, index: usize) -> EventId {
        self.ids[index]
    }

    /// The version of a stream's last event.
    pub fn stream_head(&self, stream: &str) -> Option<u64> {
        self.events.iter().rfind(|seen| seen.stream == stream).map(|seen| seen.version)
    }

    /// Reads back what was not read back before, compares it, and notes when it was recorded.
    ///
    /// # Panics
    /// Where the store shows something else.
    pub fn learn(&mut self, store: &Store) {
        let read = all(store.read_all().after(self.learned as u64).forward()).unwrap();
        assert_eq!(read.len(), self.events.len() - self.learned, "events that were read back");
        for (known, read) in self.events[self.learned..].iter_mut().zip(read) {
            known.recorded = read.recorded;
            assert_eq!(*known, read);
        }
        self.learned = self.events.len();
    }

    /// The positions that answer a question, in the order of the read.
    pub fn answer(&self, question: &Question) -> Vec<u64> {
        let wanted = self.events.iter().filter(|seen| question.is_wanted(seen));
        let mut positions: Vec<u64> = wanted.map(|seen| seen.position).collect();
        if question.backward {
            positions.reverse();
        }
        let limit = question.limit.and_then(|limit| usize::try_from(limit).ok());
        positions.truncate(limit.unwrap_or(usize::MAX));
        positions
    }

    /// Asks a store that holds exactly this a question.
    ///
    /// # Panics
    /// Where the answer is another one.
    pub fn ask(&self, store: &Store, question: &Question) {
        let mut reader = question.reader(store);
        assert_eq!(reader.head().get(), self.head(), "the head before {question:?}");
        let mut found = Vec::new();
        while let Some(batch) = reader.next_batch().unwrap() {
            assert!(!batch.is_empty(), "an empty batch of {question:?}");
            for event in &batch {
                self.compare(&Seen::of(event));
                found.push(event.position().get());
            }
        }
        assert_eq!(found, self.answer(question), "{question:?} of {} events", self.head());
        assert_eq!(reader.head().get(), self.head(), "the head behind {question:?}");
        assert!(reader.next_batch().unwrap().is_none(), "more behind the end of {question:?}");
    }

    /// Compares an event with the one that has its position.
    ///
    /// # Panics
    /// Where it is another one.
    pub fn compare(&self, seen: &Seen) {
        let index = usize::try_from(seen.position).unwrap() - 1;
        assert_eq!(*seen, self.events[index], "at position {}", seen.position);
    }

    /// Asks a store that holds exactly this some random questions of each kind.
    ///
    /// # Panics
    /// Where an answer is another one than the model's.
    pub fn ask_some(&self, store: &Store, random: &mut Rng, questions: usize) {
        for _ in 0..questions {
            self.ask(store, &Question::random(random, self));
        }
        self.list_streams(store, CATEGORIES[random.usize(0..CATEGORIES.len())]);
        let id = random.choice(&self.ids).filter(|_| random.u8(0..4) > 0).copied();
        self.find(store, id.unwrap_or_else(|| some_id(random)));
        let known = random.choice(&self.events);
        let times = [i64::MIN, 0, i64::MAX];
        let around = known.map(|known| known.recorded + random.i64(-1..2));
        for time in around.into_iter().chain(random.choice(times)) {
            self.at_time(store, time);
        }
        let name = known.filter(|_| random.u8(0..4) > 0).map(|known| known.stream.clone());
        self.read_stream(store, &name.unwrap_or_else(|| some_stream(random)), random);
    }

    /// Asks for everything that the index knows: each name alone, each id and each time.
    ///
    /// # Panics
    /// Where an answer is another one than the model's.
    pub fn ask_everything(&self, store: &Store) {
        let of = |item: Item| self.ask(store, &Question::of(item));
        self.ask(store, &Question::default());
        let types: BTreeSet<&str> =
            self.events.iter().map(|seen| seen.event.event_type()).collect();
        let tags: BTreeSet<&str> =
            self.events.iter().flat_map(|seen| seen.event.iter_tags()).collect();
        let streams: BTreeSet<&str> = self.events.iter().map(|seen| &*seen.stream).collect();
        for name in types {
            of(Item { types: vec![name.to_owned()], ..Item::default() });
        }
        for name in tags {
            of(Item { tags: vec![name.to_owned()], ..Item::default() });
        }
        for name in streams {
            of(Item { stream: Some(name.to_owned()), ..Item::default() });
            assert_eq!(store.stream_head(name).unwrap(), self.stream_head(name), "{name}");
        }
        for name in CATEGORIES {
            of(Item { category: Some(name.to_owned()), ..Item::default() });
            self.list_streams(store, name);
        }
        for (seen, id) in self.events.iter().zip(&self.ids) {
            self.find(store, *id);
            self.at_time(store, seen.recorded);
        }
    }

    fn list_streams(&self, store: &Store, category: &str) {
        let first = self.events.iter().filter(|seen| seen.version == 0);
        let first = first.filter(|seen| category_of(&seen.stream) == Some(category));
        let wanted: Vec<&str> = first.map(|seen| &*seen.stream).collect();
        let found: Vec<Box<str>> = store.streams(category).map(Result::unwrap).collect();
        assert!(
            found.iter().map(|name| &**name).eq(wanted.iter().copied()),
            "{category}: {found:?}"
        );
    }

    fn find(&self, store: &Store, id: EventId) {
        let found = store.find(id).unwrap();
        assert_eq!(found.is_some(), self.ids.contains(&id), "the event {id}");
        if let Some(found) = found {
            assert_eq!(found.event().id(), id, "what was found by its id");
            self.compare(&Seen::of(found.event()));
        }
    }

    fn at_time(&self, store: &Store, time: i64) {
        let first = self.events.iter().find(|seen| seen.recorded >= time);
        let found = store.at_time(Timestamp::from_nanos(time)).unwrap();
        let found = found.map(stratalog::Position::get);
        assert_eq!(found, first.map(|seen| seen.position), "what was recorded at {time}");
    }

    fn read_stream(&self, store: &Store, name: &str, random: &mut Rng) {
        assert_eq!(store.stream_head(name).unwrap(), self.stream_head(name), "the head of {name}");
        let from = (random.u8(0..3) == 0).then(|| random.u64(0..20));
        let backward = random.bool();
        let of_stream = self.events.iter().filter(|seen| seen.stream == name);
        let is_wanted = |seen: &&Seen| match from {
            Some(from) if backward => seen.version <= from,
            Some(from) => seen.version >= from,
            None => true,
        };
        let mut wanted: Vec<&Seen> = of_stream.filter(is_wanted).collect();
        let mut read = store.read_stream(name);
        if let Some(from) = from {
            read = read.from(from);
        }
        let found = stream(if backward { read.backward() } else { read.forward() }).unwrap();
        if backward {
            wanted.reverse();
        }
        assert!(found.iter().eq(wanted), "{name} from {from:?}, backward {backward}");
    }
}
