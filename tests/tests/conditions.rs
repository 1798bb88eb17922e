//! Conditions of appends: against an obvious model, among appends that are on their way, by many threads at once, and
//! with everything that can be wrong with them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use stratalog::disk::{Fault, FaultError, FaultPlan, MemoryDisk, OpKind};
use stratalog::limits::CONDITIONS_MAX;
use stratalog::{
    Append, AppendError, ConditionKind, EventId, Expect, FailedCheck, NewEvent, Pending, Position,
    Query, Store,
};
use stratalog_tests::block_on::block_on;
use stratalog_tests::questions::{Model, Question, some_append};
use stratalog_tests::{seed, watchdog};

const CASES: &str = "STRATALOG_CONDITION_CASES";

fn open(disk: &MemoryDisk) -> Store {
    Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone())).unwrap()
}

fn tagged(tag: &str) -> NewEvent {
    NewEvent::bytes("noted", b"".as_slice()).tag(tag)
}

/// The conditions that an append failed, with the positions of what fails them.
fn failed(error: &AppendError) -> Vec<(usize, ConditionKind, u64)> {
    let (AppendError::Conflict(conflict) | AppendError::AlreadyThere(conflict)) = error else {
        panic!("no conflict: {error}")
    };
    let conditions = conflict.conditions();
    conditions.map(|f| (f.condition(), f.kind(), f.position().get())).collect()
}

// --- against a model

/// What should become of an append.
#[derive(Debug)]
enum Answer {
    First(u64),
    Failed(Refusal),
}

#[derive(Debug)]
struct Refusal {
    /// Whether its stream is not as expected.
    stream: bool,
    /// Which conditions do not hold.
    conditions: Vec<(usize, ConditionKind, u64)>,
    /// All of them.
    asked: Vec<Question>,
    /// Whether everything that it is based on was durable when it was submitted: otherwise it may be judged later, when
    /// more has come.
    at_once: bool,
}

struct History {
    random: Rng,
    disk: MemoryDisk,
    store: Store,
    model: Model,
    on_their_way: VecDeque<(Pending, Answer)>,
    bytes_max: usize,
    /// How many appends were refused, and how many were not.
    counts: [u64; 2],
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let disk = MemoryDisk::new();
        let store = open(&disk);
        let bytes_max = [40, 400, 4_000][random.usize(0..3)];
        let (model, on_their_way) = (Model::default(), VecDeque::new());
        Self { random, disk, store, model, on_their_way, bytes_max, counts: [0; 2] }
    }

    fn step(&mut self) {
        match self.random.u8(0..100) {
            0..94 => self.append(),
            94..97 => self.settle(0),
            _ => self.reopen(),
        }
    }

    /// Submits an append with conditions, and notes what should become of it.
    fn append(&mut self) {
        let (stream, events) = some_append(&mut self.random, self.bytes_max);
        let ids: Vec<EventId> = events.iter().map(|_| EventId::random()).collect();
        let head = self.model.stream_head(&stream);
        let expect = match self.random.u8(0..8) {
            0 => Expect::NoStream,
            1 => Expect::Exists,
            2 => Expect::Version(self.random.u64(0..4)),
            3 => head.map_or(Expect::NoStream, Expect::Version),
            _ => Expect::Any,
        };
        let with_ids = events.iter().cloned().zip(&ids).map(|(event, id)| event.id(*id));
        let mut append = self.store.append(&stream, expect, with_ids);
        let (mut conditions, mut asked) = (Vec::new(), Vec::new());
        for condition in 0..self.random.usize(0..4) {
            let (question, kind);
            (append, question, kind) = self.condition(append);
            let first = self.model.answer(&question).first().copied();
            conditions.extend(first.map(|position| (condition, kind, position)));
            asked.push(question);
        }
        let holds = match expect {
            Expect::Any => true,
            Expect::NoStream => head.is_none(),
            Expect::Exists => head.is_some(),
            Expect::Version(version) => head == Some(version),
        };
        let answer = if holds && conditions.is_empty() {
            let first = self.model.head() + 1;
            self.model.place(&stream, events.into_iter().zip(ids));
            Answer::First(first)
        } else {
            let at_once = self.on_their_way.is_empty();
            Answer::Failed(Refusal { stream: !holds, conditions, asked, at_once })
        };
        self.counts[usize::from(matches!(answer, Answer::First(_)))] += 1;
        let pending = loop {
            match append.try_submit() {
                Ok(pending) => break pending,
                Err(AppendError::Busy) => std::thread::yield_now(),
                Err(error) => {
                    // Not before it is known that this is the outcome.
                    check(&self.model, Err(error), &answer);
                    return;
                }
            }
        };
        self.on_their_way.push_back((pending, answer));
        let most = self.random.usize(0..24);
        self.settle(most);
    }

    fn condition(&mut self, append: Append) -> (Append, Question, ConditionKind) {
        let question = Question::random(&mut self.random, &self.model);
        let mut question = Question { items: question.items, ..Question::default() };
        let query = question.query();
        if self.random.u8(0..3) == 0 {
            return (append.fail_if_exists(query), question, ConditionKind::FailIfExists);
        }
        // Mostly what came last, as of somebody who has just read.
        let head = self.model.head();
        let back =
            if self.random.bool() { self.random.u64(0..8) } else { self.random.u64(0..=head) };
        let after = head.saturating_sub(back);
        question.after = Some(after);
        (append.fail_if(query, after), question, ConditionKind::FailIf)
    }

    /// Waits until only so many are on their way.
    fn settle(&mut self, most: usize) {
        while self.on_their_way.len() > most {
            let (pending, answer) = self.on_their_way.pop_front().unwrap();
            check(&self.model, pending.wait(), &answer);
        }
    }

    fn reopen(&mut self) {
        self.settle(0);
        self.model.learn(&self.store);
        if self.random.bool() {
            self.disk = self.disk.fork();
        } else {
            self.store.clone().close().unwrap();
        }
        self.store = open(&self.disk);
    }
}

fn check(model: &Model, outcome: Result<stratalog::Receipt, AppendError>, answer: &Answer) {
    match (outcome, answer) {
        (Ok(receipt), Answer::First(first)) => assert_eq!(receipt.first_position().get(), *first),
        (Err(error), Answer::Failed(refusal)) => {
            let (AppendError::Conflict(conflict) | AppendError::AlreadyThere(conflict)) = &error
            else {
                panic!("{error}, not {answer:?}")
            };
            let failed = failed(&error);
            let is_exists =
                |(_, kind, _): &(usize, ConditionKind, u64)| *kind == ConditionKind::FailIfExists;
            assert_eq!(matches!(error, AppendError::AlreadyThere(_)), failed.iter().any(is_exists));
            if refusal.at_once {
                assert_eq!(failed, refusal.conditions, "{error}");
                assert_eq!(conflict.streams().count(), usize::from(refusal.stream), "{error}");
            }
            assert!(
                refusal.conditions.iter().all(|condition| failed.contains(condition)),
                "{error}"
            );
            for (condition, _, position) in failed {
                let first = model.answer(&refusal.asked[condition]).first().copied();
                assert_eq!(first, Some(position), "{error}");
            }
        }
        (outcome, answer) => panic!("{outcome:?}, not {answer:?}"),
    }
}

#[test]
fn conditions_are_judged_as_by_a_list_of_all_events() {
    let cases = std::env::var(CASES).map_or(60, |text| text.parse().expect("a number of cases"));
    let first = seed::seed(1);
    let mut counts = [0; 2];
    for seed in first..first + cases {
        let replay =
            seed::replay("conditions", "conditions_are_judged_as_by_a_list_of_all_events", seed);
        let done = watchdog::within(Duration::from_mins(2), &replay, move || {
            let mut history = History::new(seed);
            for _ in 0..400 {
                history.step();
            }
            history.settle(0);
            history.model.learn(&history.store);
            history.counts
        });
        counts = [counts[0] + done[0], counts[1] + done[1]];
    }
    println!("{} appends were refused, {} were not", counts[0], counts[1]);
    assert!(counts.iter().all(|count| *count > 3_000 * cases / 60), "{counts:?}");
}

// --- among appends that are on their way

#[test]
fn an_append_on_its_way_is_compared_with_those_before_it_and_no_others() {
    let store = open(&MemoryDisk::new());
    let exists = |tag: &str| Query::any().types(["noted"]).tags([tag]);
    let mut pendings = Vec::new();
    for number in 0..200 {
        let tag = format!("t:{number}");
        let once = |tag: &str| {
            store.append("s", Expect::Any, [tagged(tag)]).fail_if_exists(exists(tag)).submit()
        };
        pendings.push((once(&tag).unwrap(), once(&tag).unwrap(), number));
        // Another event with the tag is not what is asked for.
        let other = NewEvent::bytes("seen", b"".as_slice()).tag(format!("t:{}", number + 1));
        drop(store.append("s", Expect::Any, [other]).submit().unwrap());
    }
    for (first, second, number) in pendings {
        let position = first.wait().unwrap().position().get();
        assert_eq!(position, 2 * number + 1);
        let error = second.wait().unwrap_err();
        assert!(matches!(error, AppendError::AlreadyThere(_)), "{error}");
        assert_eq!(failed(&error), [(0, ConditionKind::FailIfExists, position)]);
    }
    assert_eq!(store.head().get(), 400);
}

#[test]
fn every_way_to_wait_comes_to_the_same_answer() {
    let store = open(&MemoryDisk::new());
    let once =
        || store.append("s", Expect::Any, [tagged("a")]).fail_if(Query::any().tags(["a"]), 0);
    // Not durable for a while.
    let accepted =
        store.append("s", Expect::Any, [tagged("a")]).within(Duration::from_secs(50)).wait();
    let position = accepted.unwrap().position().get();
    let expected = [(0, ConditionKind::FailIf, position)];
    // Who waits for the answer does not wait for the fifty seconds.
    assert_eq!(failed(&once().wait().unwrap_err()), expected);
    assert_eq!(failed(&block_on(once()).unwrap_err()), expected);
    let pending = once().submit();
    assert_eq!(failed(&pending.and_then(Pending::wait).unwrap_err()), expected);
    let within = once().within(Duration::from_secs(50)).wait();
    assert_eq!(failed(&within.unwrap_err()), expected);
    drop(store.append("s", Expect::Any, [tagged("b")]).submit().unwrap());
    let b = || Query::any().tags(["b"]);
    let pending =
        store.append("s", Expect::Any, [tagged("b")]).fail_if_exists(b()).submit().unwrap();
    let error = block_on(pending).unwrap_err();
    assert_eq!(failed(&error), [(0, ConditionKind::FailIfExists, position + 1)]);
}

#[test]
fn what_an_answer_waits_for_may_be_lost() {
    let disk = MemoryDisk::new();
    let store = open(&disk);
    store.append("s", Expect::Any, [tagged("a")]).wait().unwrap();
    let accepted = store.append("s", Expect::Any, [tagged("b")]).within(Duration::from_secs(50));
    let accepted = accepted.wait().unwrap();
    let fault = Fault::Fail(FaultError::Io);
    disk.set_faults(FaultPlan::new().inject(OpKind::WriteDurable, "segment-", 0, 1, fault));
    let again = store.append("s", Expect::Any, [tagged("b")]);
    let error = again.fail_if_exists(Query::any().tags(["b"])).wait().unwrap_err();
    assert!(matches!(error, AppendError::Poisoned(_)), "{error}");
    assert!(matches!(accepted.durable().wait(), Err(AppendError::Unknown { .. })));
    drop(store);
    let store = open(&disk);
    let again = store.append("s", Expect::Any, [tagged("a")]);
    let error = again.fail_if_exists(Query::any().tags(["a"])).wait().unwrap_err();
    assert_eq!(failed(&error), [(0, ConditionKind::FailIfExists, 1)]);
}

// --- by many at once

/// Each thread counts what there is, and appends the number if nothing has come since. No two may append the same.
#[test]
fn decisions_of_many_threads_are_as_if_made_one_after_the_other() {
    const THREADS: u64 = 4;
    const EACH: u64 = 300;
    let store = open(&MemoryDisk::new());
    let conflicts = AtomicU64::new(0);
    let counted = || Query::any().types(["counted"]).tags(["counter:7"]);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, conflicts) = (&store, &conflicts);
            scope.spawn(move || {
                let mut done = 0;
                while done < EACH {
                    let mut reader = store.query(counted()).backward();
                    let last = reader.next_batch().unwrap();
                    let last = last.as_ref().and_then(|batch| batch.get(0));
                    let number = last.map_or(0, |event| {
                        u64::from_le_bytes(event.payload().try_into().unwrap()) + 1
                    });
                    let event = NewEvent::bytes("counted", number.to_le_bytes()).tag("counter:7");
                    let stream = format!("thread-{thread}");
                    let append = store.append(&stream, Expect::Any, [event]);
                    match append.fail_if(counted(), reader.head()).wait() {
                        Ok(_) => done += 1,
                        Err(AppendError::Conflict(conflict)) => {
                            // What it tells of can be read.
                            let unseen = conflict.conditions().next().unwrap().position();
                            assert!(unseen > reader.head() && unseen <= store.head());
                            conflicts.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(other) => panic!("{other}"),
                    }
                    // What has nothing to do with it, in between.
                    let other = tagged("counter:8");
                    drop(store.append(&stream, Expect::Any, [other]).submit());
                }
            });
        }
    });
    let mut reader = store.query(counted()).forward();
    let mut next = 0;
    while let Some(batch) = reader.next_batch().unwrap() {
        for event in &batch {
            assert_eq!(event.payload(), u64::to_le_bytes(next));
            next += 1;
        }
    }
    assert_eq!(next, THREADS * EACH);
    println!("{} conflicts", conflicts.into_inner());
}

// --- what can be wrong

#[test]
fn whatever_is_wrong_with_a_condition_is_an_error_of_its_own_and_nothing_is_appended() {
    let store = open(&MemoryDisk::new());
    store.append("s", Expect::Any, [tagged("a")]).wait().unwrap();
    let append = || store.append("s", Expect::Any, [tagged("a")]);
    let a = || Query::any().tags(["a"]);

    let error = append().fail_if(a(), 1).fail_if(a(), 2).wait().unwrap_err();
    let AppendError::AfterHead { condition: 1, after, head } = error else { panic!("{error}") };
    assert_eq!((after, head), (Position::from(2), Position::from(1)));
    assert!(matches!(
        append().fail_if(a(), u64::MAX).submit(),
        Err(AppendError::AfterHead { condition: 0, .. })
    ));

    let nameless = Query::any().tags([""]);
    let error = append().fail_if(a(), 1).fail_if_exists(nameless).wait().unwrap_err();
    assert!(matches!(error, AppendError::Query { condition: 1, .. }), "{error}");

    let with = |count: usize| (0..count).fold(append(), |append, _| append.fail_if(a(), 1));
    assert!(matches!(with(CONDITIONS_MAX + 1).wait(), Err(AppendError::TooManyConditions)));
    assert_eq!(store.head().get(), 1);
    assert_eq!(with(CONDITIONS_MAX).wait().unwrap().version(), 1);

    // What is wrong with the events is said first.
    let none: [NewEvent; 0] = [];
    let error = store.append("s", Expect::Any, none).fail_if(a(), u64::MAX).wait().unwrap_err();
    assert!(matches!(error, AppendError::Empty { .. }), "{error}");
    assert_eq!(store.head().get(), 2);
}

#[test]
fn all_checks_that_failed_are_reported_and_what_is_there_before_what_has_changed() {
    let store = open(&MemoryDisk::new());
    for tag in ["a", "b", "c"] {
        store.append("s", Expect::Any, [tagged(tag)]).wait().unwrap();
    }
    let of = |tag: &str| Query::any().tags([tag]);
    let append = store.append("s", Expect::Version(7), [tagged("a")]);
    let append = append.fail_if(of("a"), 1).fail_if(of("b"), 1).fail_if(of("none"), 0);
    let error = append.fail_if(Query::all(), 0).wait().unwrap_err();
    let AppendError::Conflict(conflict) = &error else { panic!("{error}") };
    assert!(matches!(&conflict.failed()[0], FailedCheck::Stream(s) if s.actual() == Some(2)));
    assert_eq!(failed(&error), [(1, ConditionKind::FailIf, 2), (3, ConditionKind::FailIf, 1)]);
    println!("{error}");

    let append = store.append("s", Expect::Version(7), [tagged("a")]).fail_if(of("b"), 1);
    let error = append.fail_if_exists(of("c")).wait().unwrap_err();
    assert!(matches!(&error, AppendError::AlreadyThere(c) if c.failed().len() == 3), "{error}");
    // An empty list of items matches nothing, whatever there is.
    store.append("s", Expect::Any, [tagged("a")]).fail_if_exists(Query::none()).wait().unwrap();
}
