//! Every kind of question to stores of random histories, against a list that is looked through: while segments
//! are sealed and their runs merged, after reopenings and kills; and beside many writers.
//!
//! `STRATALOG_QUERY_CASES=50000 cargo test --release -p stratalog-tests --test queries` tries more histories.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use stratalog::disk::{Fault, FaultError, FaultPlan, MemoryDisk, OpKind};
use stratalog::limits::{
    APPEND_TAGS_MAX, NAME_BYTES_MAX, QUERY_ITEMS_MAX, QUERY_TERMS_MAX, TAGS_MAX,
};
use stratalog::{
    AppendError, Case, EncodeError, Expect, InvalidName, InvalidQuery, NewEvent, Query, ReadError,
    ReaderQuery, Store, Timestamp,
};
use stratalog_tests::index_files::{levels, wait_for_rest, wait_until_whole};
use stratalog_tests::oracle::Seen;
use stratalog_tests::questions::{Item, Model, Question, some_append};
use stratalog_tests::{seed, watchdog};

const CASES: &str = "STRATALOG_QUERY_CASES";
/// One history in so many is long enough that runs of merged runs are merged.
const LONG_ONE_IN: u64 = 64;
/// How many questions are asked after each step.
const QUESTIONS: usize = 5;

fn open(disk: &MemoryDisk) -> Store {
    Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone())).unwrap()
}

/// A read that goes on while the store does.
struct Kept {
    question: Question,
    reader: ReaderQuery,
    found: Vec<u64>,
}

struct History {
    random: Rng,
    disk: MemoryDisk,
    store: Store,
    model: Model,
    kept: Option<Kept>,
    /// Payloads have fewer bytes than this: what decides how many events a segment has.
    bytes_max: usize,
    /// How many appends a step has at most.
    appends_max: usize,
    /// The most levels of merged runs that were seen.
    levels: u32,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let is_long = seed.is_multiple_of(LONG_ONE_IN);
        let bytes_max = if is_long { 12_000 } else { [40, 800, 6_000][random.usize(0..3)] };
        let appends_max = if is_long { 120 } else { 60 };
        let (model, kept) = (Model::default(), None);
        Self { random, disk, store, model, kept, bytes_max, appends_max, levels: 0 }
    }

    fn step(&mut self) {
        match self.random.u8(0..10) {
            0..6 => self.append(),
            6 => std::thread::sleep(Duration::from_micros(self.random.u64(0..3_000))),
            7 => wait_for_rest(&self.disk),
            8 => self.reopen(),
            _ => self.read_only(),
        }
        self.levels = self.levels.max(levels(&self.disk));
        self.read_on();
        self.model.ask_some(&self.store, &mut self.random, QUESTIONS);
    }

    fn append(&mut self) {
        for _ in 0..self.random.usize(1..self.appends_max) {
            let (stream, events) = some_append(&mut self.random, self.bytes_max);
            let receipt = self.store.append(&stream, Expect::Any, &events).wait().unwrap();
            self.model.append(&stream, events, &receipt);
        }
        self.model.learn(&self.store);
    }

    /// Begins a read that is gone on with after later steps, or goes on with it: what was appended meanwhile is
    /// found, wherever it stands by now.
    fn read_on(&mut self) {
        let Some(kept) = &mut self.kept else {
            let question = Question::random(&mut self.random, &self.model);
            let mut reader = question.reader(&self.store);
            let first = if self.random.bool() { reader.next_batch().unwrap() } else { None };
            let found = first.iter().flatten().map(|event| event.position().get()).collect();
            // Backwards, what is found was there when the read was begun.
            self.kept = (!question.backward).then_some(Kept { question, reader, found });
            return;
        };
        while let Some(batch) = kept.reader.next_batch().unwrap() {
            for event in &batch {
                self.model.compare(&Seen::of(event));
                kept.found.push(event.position().get());
            }
        }
        assert_eq!(kept.found, self.model.answer(&kept.question), "{:?}", kept.question);
        if self.random.u8(0..3) == 0 {
            self.kept = None;
        }
    }

    /// Closes the store, or kills it, and opens it again.
    fn reopen(&mut self) {
        self.kept = None;
        let kill = self.random.bool();
        if kill {
            let killed = self.disk.fork();
            self.store = open(&killed);
            self.disk = killed;
        } else {
            self.store.clone().close().unwrap();
            // A closed store is read as before.
            self.model.ask_some(&self.store, &mut self.random, 1);
            self.store = open(&self.disk);
        }
        let wanted = if kill { Case::CleanEnd } else { Case::RecordedEnd };
        assert!(self.store.opened_as() == wanted || self.model.head() == 0);
    }

    /// Asks a store that was opened for reading only, as it was killed at this moment.
    fn read_only(&mut self) {
        let killed = self.disk.fork();
        let store = Store::options().open_read_only_on(Arc::new(killed)).unwrap();
        self.model.ask_some(&store, &mut self.random, QUESTIONS);
    }

    fn end(mut self) -> u32 {
        wait_for_rest(&self.disk);
        self.levels = self.levels.max(levels(&self.disk));
        self.model.ask_some(&self.store, &mut self.random, 4 * QUESTIONS);
        wait_until_whole(&self.store);
        assert_eq!(self.store.verify(|_, _| {}).unwrap().events, self.model.head());
        self.levels
    }
}

/// Runs histories of the seeds from `first` on, on two threads; gives how many had runs that were merged once,
/// and twice.
fn histories(test: &str, first: u64, cases: u64) -> (u64, u64) {
    let (once, twice) = (&AtomicU64::new(0), &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                for seed in (first..first + cases).filter(|seed| seed % 2 == thread) {
                    let run = std::panic::catch_unwind(|| {
                        let mut history = History::new(seed);
                        let is_long = seed.is_multiple_of(LONG_ONE_IN);
                        let steps = if is_long { 16 } else { history.random.usize(2..12) };
                        (0..steps).for_each(|_| history.step());
                        history.end()
                    });
                    match run {
                        Ok(levels) => {
                            once.fetch_add(u64::from(levels > 0), Ordering::Relaxed);
                            twice.fetch_add(u64::from(levels > 1), Ordering::Relaxed);
                        }
                        Err(panic) => {
                            eprintln!("repeat with: {}", seed::replay("queries", test, seed));
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
            });
        }
    });
    (once.load(Ordering::Relaxed), twice.load(Ordering::Relaxed))
}

#[test]
fn questions_to_random_histories_are_answered_as_by_a_list() {
    let test = "questions_to_random_histories_are_answered_as_by_a_list";
    let cases = std::env::var(CASES).map_or(2_000, |cases| cases.parse().unwrap());
    let first = seed::seed(1);
    let limit = Duration::from_mins(2) + Duration::from_millis(100) * u32::try_from(cases).unwrap();
    watchdog::within(limit, "the histories", move || {
        let (once, twice) = histories(test, first, cases);
        println!("{once} of {cases} histories had merged runs, {twice} had runs merged twice");
        assert!(once >= cases / 8, "merging was hardly tested: {once}");
        assert!(twice >= cases / LONG_ONE_IN / 4, "merging twice was hardly tested: {twice}");
    });
}

/// What a writer appends as its `number`th event: its names say in which answers it belongs.
fn numbered(writer: u64, number: u64) -> (String, NewEvent) {
    let mut payload = format!("{writer}/{number}/").into_bytes();
    payload.resize(300 + usize::try_from(number * 37 % 600).unwrap(), b'x');
    let tags = [format!("writer:{writer}"), format!("rest:{}", number % 7), "all".to_owned()];
    let event = NewEvent::bytes(format!("type-{}", number % 3), payload).tags(tags);
    (format!("w{writer}-{}", number / EVENTS_EACH), event)
}

const WRITERS: u64 = 3;
/// How many events each writer appends.
const NUMBERED: u64 = 2_400;
/// How many of them are one append and one stream.
const EVENTS_EACH: u64 = 12;

fn write_numbered(store: &Store, writer: u64) {
    for first in (0..NUMBERED).step_by(usize::try_from(EVENTS_EACH).unwrap()) {
        let events = (first..first + EVENTS_EACH).map(|number| numbered(writer, number).1);
        let (stream, _) = numbered(writer, first);
        let events: Vec<_> = events.collect();
        let receipt = store.append(&stream, Expect::NoStream, events).wait().unwrap();
        assert_eq!(receipt.versions(), 0..EVENTS_EACH);
    }
}

/// Follows the log up to a position, and sees that each writer's events are there in their order.
fn follow(store: &Store, model: &mut Model, upto: u64) {
    let mut reader = store.read_all().after(model.head()).before(upto + 1).forward();
    while let Some(batch) = reader.next_batch().unwrap() {
        for event in &batch {
            model.follow(event);
        }
    }
    assert_eq!(model.head(), upto);
}

/// A question about what the writers append.
fn about_writers(random: &mut Rng) -> Question {
    let mut item = Item::default();
    let writer = random.u64(0..WRITERS);
    match random.u8(0..6) {
        0 => item.tags = vec!["all".to_owned()],
        1 => item.tags = vec![format!("writer:{writer}"), format!("rest:{}", random.u8(0..7))],
        2 => item.types = vec!["type-0".to_owned(), "type-2".to_owned()],
        3 => item.category = Some(format!("w{writer}")),
        4 => item.stream = Some(format!("w{writer}-{}", random.u64(0..NUMBERED / EVENTS_EACH))),
        _ => {
            item.types = vec![format!("type-{}", random.u8(0..3))];
            item.tags = vec![format!("rest:{}", random.u8(0..7))];
            item.category = Some(format!("w{writer}"));
        }
    }
    let items = Some(vec![item, Item { tags: vec!["absent".to_owned()], ..Item::default() }]);
    Question { items, backward: random.bool(), ..Question::default() }
}

/// Asks over and over until told to stop: each answer is, up to the head that the reader names, exactly what the
/// log has. Gives how often it asked.
fn ask_beside_writers(store: &Store, seed: u64, stop: &AtomicBool) -> u64 {
    let mut random = Rng::with_seed(seed);
    let mut model = Model::default();
    let mut rounds = 0;
    loop {
        let is_last = stop.load(Ordering::Acquire);
        let mut question = about_writers(&mut random);
        let mut reader = question.reader(store);
        let known = model.head();
        let mut found = Vec::new();
        while let Some(batch) = reader.next_batch().unwrap() {
            found.extend(batch.iter().map(Seen::of));
        }
        let head = reader.head().get();
        assert!(head >= known, "the head goes back from {known} to {head}");
        follow(store, &mut model, head);
        question.before = Some(head + 1);
        let positions: Vec<u64> = found.iter().map(|seen| seen.position).collect();
        assert_eq!(positions, model.answer(&question), "{question:?} up to {head}");
        for seen in &found {
            model.compare(seen);
        }
        if let Some(index) = random.choice(0..model.events.len()) {
            ask_about_one(store, &model, index);
        }
        rounds += 1;
        if is_last {
            assert_eq!(model.head(), WRITERS * NUMBERED);
            in_order(&model);
            return rounds;
        }
    }
}

/// Asks in the other ways about an event that is known, while others are appended.
fn ask_about_one(store: &Store, model: &Model, index: usize) {
    let seen = &model.events[index];
    let found = store.find(model.id(index)).unwrap().expect("it was read");
    model.compare(&Seen::of(found.event()));
    let first = model.events.partition_point(|other| other.recorded < seen.recorded) as u64 + 1;
    let found = store.at_time(Timestamp::from_nanos(seen.recorded)).unwrap();
    assert_eq!(found.map(stratalog::Position::get), Some(first));
    assert_eq!(store.stream_head(&seen.stream).unwrap(), Some(EVENTS_EACH - 1));
    let (category, _) = seen.stream.split_once('-').unwrap();
    let streams: Vec<_> = store.streams(category).map(Result::unwrap).collect();
    let wanted = (0..streams.len()).map(|number| Box::from(format!("{category}-{number}")));
    assert!(wanted.eq(streams.iter().cloned()), "the streams of {category}: {streams:?}");
    assert!(streams.contains(&(&*seen.stream).into()), "{} is not listed", seen.stream);
}

/// Each writer's events are in the order in which it appended them.
fn in_order(model: &Model) {
    let mut next = vec![0; usize::try_from(WRITERS).unwrap()];
    for seen in &model.events {
        let writer = usize::from(seen.stream.as_bytes()[1] - b'0');
        let (stream, event) = numbered(writer as u64, next[writer]);
        assert_eq!((&seen.stream, seen.event.payload()), (&stream, event.payload()));
        next[writer] += 1;
    }
}

/// Writers append while readers ask.
fn ask_while_written(store: &Store) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let readers: Vec<_> =
            (0..3).map(|seed| scope.spawn(move || ask_beside_writers(store, seed, stop))).collect();
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write_numbered(store, writer))).collect();
        let ended: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Release);
        for ended in ended {
            ended.unwrap();
        }
        let rounds: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        println!("{rounds} answers beside {} events", WRITERS * NUMBERED);
        assert!(rounds > 10, "hardly anything was asked");
    });
}

#[test]
fn answers_beside_writers_are_exact_up_to_the_head_that_they_name() {
    watchdog::within(Duration::from_mins(1), "asking beside writers", || {
        let disk = MemoryDisk::new();
        let store = open(&disk);
        ask_while_written(&store);
        wait_for_rest(&disk);
        assert!(levels(&disk) > 0, "nothing was merged");
        wait_until_whole(&store);
    });
    watchdog::within(Duration::from_mins(1), "asking beside writers", || {
        let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let options = Store::options().segment_bytes(64 << 10);
        let store = options.open(root.path().join("store")).unwrap();
        ask_while_written(&store);
        wait_until_whole(&store);
        store.close().unwrap();
        let store = options.open_read_only(root.path().join("store")).unwrap();
        let mut model = Model::default();
        follow(&store, &mut model, WRITERS * NUMBERED);
        model.ask_everything(&store);
    });
}

/// What is wrong with a query, as both readers of it report it again and again.
fn wrong(store: &Store, query: &Query) -> InvalidQuery {
    let read = store.query(query.clone());
    let mut readers = [read.clone().forward(), read.clone().limit(0).forward(), read.backward()];
    let mut errors = readers.iter_mut().flat_map(|reader| {
        assert_eq!(reader.head(), store.head());
        [reader.next_batch(), reader.next_batch()]
    });
    let Some(Err(ReadError::Query(first))) = errors.next() else { panic!("{query:?} is taken") };
    for error in errors {
        assert!(matches!(error, Err(ReadError::Query(same)) if same == first), "{query:?}");
    }
    first
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("name-{number}")).collect()
}

#[test]
fn whatever_is_wrong_with_a_query_is_reported_by_its_readers() {
    use InvalidQuery as Wrong;
    let empty = open(&MemoryDisk::new());
    let store = open(&MemoryDisk::new());
    store.append("s", Expect::NoStream, [NewEvent::bytes("t", *b"").tag("x")]).wait().unwrap();
    let any = Query::any;
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    for store in [&empty, &store] {
        let wrong = |query: &Query| wrong(store, query);
        let narrowings: [fn(&str) -> Query; 4] = [
            |name| Query::any().tags([name]),
            |name| Query::all().types(["u", name]),
            |name| Query::any().stream(name),
            |name| Query::none().or(Query::any().category(name)),
        ];
        for narrowed in narrowings {
            let name = |bad: &str| match wrong(&narrowed(bad)) {
                Wrong::Name(name) => name,
                other => panic!("{other}"),
            };
            assert!(matches!(name(""), InvalidName::Empty { .. }));
            assert!(matches!(name(&long), InvalidName::Long { bytes, .. } if bytes == long.len()));
            assert!(matches!(name("a\nb"), InvalidName::Control { .. }));
            assert!(matches!(name("\u{85}"), InvalidName::Control { .. }));
            let mut longest = store.query(narrowed(&long[1..])).forward();
            assert!(longest.next_batch().unwrap().is_none(), "nothing has that name");
        }
        let category = wrong(&any().category("order-7"));
        assert_eq!(category, Wrong::Hyphen { category: "order-7".into() });
        let two = any().or(any().stream("a")).stream("a").stream("b");
        let (first, second) = ("a".into(), "b".into());
        assert_eq!(wrong(&two), Wrong::TwoStreams { item: 2, first, second });
        let two = any().category("a").category("b");
        let (first, second) = ("a".into(), "b".into());
        assert_eq!(wrong(&two), Wrong::TwoCategories { item: 1, first, second });
        let items = |count: usize| {
            names(count).iter().fold(Query::none(), |query, tag| query.or(any().tags([tag])))
        };
        let many = QUERY_ITEMS_MAX + 1;
        assert_eq!(wrong(&items(many)), Wrong::TooManyItems { items: many });
        let many = names(QUERY_TERMS_MAX + 1);
        assert_eq!(wrong(&any().types(&many)), Wrong::TooManyTypes { item: 1 });
        assert_eq!(wrong(&any().tags(&many)), Wrong::TooManyTags { item: 1 });
        // As many as there may be, some of them twice.
        let most = names(QUERY_TERMS_MAX);
        for query in [
            items(QUERY_ITEMS_MAX),
            any().types(&most).types(&most),
            any().tags(&most).tags(&most[1..]),
        ] {
            let mut reader = store.query(query).forward();
            assert!(reader.next_batch().unwrap().is_none());
            assert_eq!(reader.head(), store.head());
        }
        for bad in ["", "a\nb", &long] {
            let mut streams = store.streams(bad);
            let first = streams.next();
            assert!(matches!(first, Some(Err(ReadError::Query(Wrong::Name(_))))), "{bad:?}");
            assert!(streams.next().is_none(), "behind an error there is nothing");
            assert!(matches!(store.stream_head(bad), Err(ReadError::Name(_))), "{bad:?}");
        }
        // A name of streams, but of no category that there could be.
        let hyphen = store.streams("order-7").next();
        assert!(matches!(hyphen, Some(Err(ReadError::Query(Wrong::Hyphen { .. })))));
    }
}

#[test]
fn an_event_with_bad_tags_is_refused_and_found_by_none_of_them() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    let bad_tags = [vec![String::new()], vec![long], vec!["a\tb".to_owned()], names(TAGS_MAX + 1)];
    for bad in bad_tags {
        let events = ["good", "bad"].map(|tag| NewEvent::bytes("t", *b"").tag(tag));
        let [good, event] = events;
        let event = event.tags(bad);
        let error = store.append("s-1", Expect::Any, [good, event]).wait().unwrap_err();
        let AppendError::Invalid(error) = error else { panic!("{error}") };
        assert!(matches!(error, EncodeError::Name(_) | EncodeError::Tags { count: 66 }), "{error}");
    }
    let model = Model::default();
    for tag in ["good", "bad", "name-0"] {
        model.ask(&store, &Question::of(Item { tags: vec![tag.into()], ..Item::default() }));
    }
    model.ask_everything(&store);
    assert_eq!(store.stream_head("s-1").unwrap(), None);
}

#[test]
fn an_append_with_as_many_tags_as_it_may_have_is_found_by_each() {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
    let count = APPEND_TAGS_MAX / TAGS_MAX;
    let fullest = NewEvent::bytes("t", *b"").tags((0..TAGS_MAX).map(|tag| tag.to_string()));
    let mut events = vec![fullest; count];
    events.push(NewEvent::bytes("t", *b"").tag("more"));
    let error = store.append("s", Expect::Any, &events).wait().unwrap_err();
    assert!(matches!(error, AppendError::TooManyTags { .. }), "{error}");
    assert_eq!(store.head().get(), 0);
    events.pop();
    events.push(NewEvent::bytes("t", *b""));
    let receipt = store.append("s", Expect::Any, &events).wait().unwrap();
    let mut model = Model::default();
    model.append("s", events, &receipt);
    model.learn(&store);
    for tag in ["0", "63", "more"] {
        for backward in [false, true] {
            let question = Question::of(Item { tags: vec![tag.into()], ..Item::default() });
            model.ask(&store, &Question { backward, ..question });
        }
    }
}

#[test]
fn an_empty_store_answers_with_nothing_and_a_read_that_was_begun_before_finds_what_comes() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    let mut random = Rng::with_seed(3);
    let mut model = Model::default();
    for _ in 0..300 {
        model.ask_some(&store, &mut random, 1);
    }
    let read_only = Store::options().open_read_only_on(Arc::new(disk.fork())).unwrap();
    model.ask_some(&read_only, &mut random, 50);
    let begun = |store: &Store| {
        let all = || store.query(Query::all());
        let tagged = || store.query(Query::any().tags(["x"]));
        [all(), tagged(), all().from(0), all().after(0), tagged().before(2)]
            .map(stratalog::ReadQuery::forward)
    };
    let mut readers = begun(&store);
    for reader in &mut readers {
        assert!(reader.next_batch().unwrap().is_none());
        assert_eq!(reader.head().get(), 0);
    }
    let events = vec![NewEvent::bytes("t", *b"").tag("x")];
    let receipt = store.append("s", Expect::NoStream, &events).wait().unwrap();
    model.append("s", events, &receipt);
    model.learn(&store);
    for mut reader in readers.into_iter().chain(begun(&store)) {
        let batch = reader.next_batch().unwrap().expect("it is durable");
        assert_eq!((batch.len(), reader.head().get()), (1, 1));
        assert!(reader.next_batch().unwrap().is_none());
    }
    // Before the first event there is none.
    for question in [
        Question { before: Some(1), ..Question::default() },
        Question { before: Some(0), ..Question::default() },
        Question { from: Some(2), ..Question::default() },
        Question { after: Some(u64::MAX), ..Question::default() },
    ] {
        for backward in [false, true] {
            assert!(model.answer(&question).is_empty());
            model.ask(&store, &Question { backward, ..question.clone() });
        }
    }
}

/// A store whose second segment was cut off before its first event, and cannot be sealed; so that there is one
/// without events among those that are read from memory. Its log goes on behind.
fn with_an_empty_segment() -> (MemoryDisk, Store, Model) {
    let torn = (0..64).find_map(|seed| {
        let disk = MemoryDisk::new();
        let fault = Fault::FailTorn { error: FaultError::Io, seed };
        let second = "segment-0000000002";
        disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, second, 0, 1, fault));
        let store = open(&disk);
        let mut model = Model::default();
        loop {
            let events = vec![NewEvent::bytes("t", vec![7; 9_000]).tag("x")];
            match store.append("s-1", Expect::Any, &events).wait() {
                Ok(receipt) => model.append("s-1", events, &receipt),
                Err(_) => break,
            }
        }
        let killed = disk.fork();
        let fails = Fault::Fail(FaultError::Io);
        killed.set_faults(FaultPlan::new().inject(
            OpKind::WriteDurable,
            second,
            0,
            u64::MAX,
            fails,
        ));
        let store = open(&killed);
        (store.opened_as() == Case::TornTail).then_some((killed, store, model))
    });
    let (disk, store, mut model) = torn.expect("one of these seeds leaves a part of the batch");
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(1));
        let events = vec![NewEvent::bytes("t", *b"behind").tag("x")];
        let receipt = store.append("s-2", Expect::Any, &events).wait().unwrap();
        model.append("s-2", events, &receipt);
    }
    model.learn(&store);
    (disk, store, model)
}

#[test]
fn every_question_is_answered_across_a_segment_that_was_cut_before_its_first_event() {
    let (disk, store, model) = with_an_empty_segment();
    assert!(!disk.file_names().contains(&"segment-0000000002.table".to_owned()), "it was sealed");
    let read_only = Store::options().open_read_only_on(Arc::new(disk.fork())).unwrap();
    for store in [&store, &read_only] {
        model.ask_everything(store);
        let mut random = Rng::with_seed(seed::seed(1));
        (0..200).for_each(|_| model.ask_some(store, &mut random, 2));
    }
}
