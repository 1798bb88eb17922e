//! Recorded histories of several threads, checked against the meaning of versions and conditions: there must be one order
//! of all appends, true to the times at which they were called and answered, in which each answer is the right one.
//!
//! Positions give the order of the appends that happened. So what is left to find is a place in it for each refusal: a
//! prefix of the log, no shorter than what had been acknowledged when the append was called, and without anything that
//! was called after it was answered, at which exactly the checks that it names fail, with what it says of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::cast_possible_truncation, reason = "a history has some hundred events")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use stratalog::disk::MemoryDisk;
use stratalog::{Append, AppendError, ConditionKind, Expect, FailedCheck, NewEvent, Query, Store};
use stratalog_tests::block_on::block_on;
use stratalog_tests::{seed, watchdog};

const CASES: &str = "STRATALOG_LINEARIZABLE_CASES";
const THREADS: u64 = 4;
const APPENDS: usize = 150;
const STREAMS: u64 = 3;
const TYPES: u64 = 2;
const TAGS: u64 = 4;

/// What an append asks of events: of one of the types, or of any, with all of these tags.
#[derive(Debug, Clone)]
struct Asked {
    event_type: Option<u64>,
    tags: Vec<u64>,
}

impl Asked {
    fn random(random: &mut Rng) -> Self {
        let event_type = (random.u8(0..3) == 0).then(|| random.u64(..TYPES));
        let tags = match random.u8(0..8) {
            0 => Vec::new(),
            1 => vec![random.u64(..TAGS), random.u64(..TAGS)],
            _ => vec![random.u64(..TAGS)],
        };
        Self { event_type, tags }
    }

    fn query(&self) -> Query {
        let types = self.event_type.map(|event_type| format!("type-{event_type}"));
        Query::any().types(types).tags(self.tags.iter().map(|tag| format!("tag-{tag}")))
    }

    fn matches(&self, event: &Event) -> bool {
        self.event_type.is_none_or(|event_type| event_type == event.of_type)
            && self.tags.iter().all(|tag| event.tags.contains(tag))
    }
}

#[derive(Debug, Clone)]
struct Event {
    stream: u64,
    /// The number of its type.
    of_type: u64,
    tags: Vec<u64>,
}

impl Event {
    fn new_event(&self) -> NewEvent {
        NewEvent::bytes(format!("type-{}", self.of_type), b"".as_slice())
            .tags(self.tags.iter().map(|tag| format!("tag-{tag}")))
    }
}

/// One append, as its thread saw it.
#[derive(Debug)]
struct Call {
    stream: u64,
    expect: Expect,
    conditions: Vec<(Asked, ConditionKind, u64)>,
    events: Vec<Event>,
    /// When it was called and answered, by a clock that all threads share.
    called: u64,
    answered: u64,
    answer: Answer,
}

/// What is said of a call's checks.
#[derive(Debug, PartialEq, Eq)]
struct Judgement {
    stream: Stream,
    /// The conditions that do not hold, with the positions of what fails them.
    conditions: Vec<(usize, u64)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Stream {
    AsExpected,
    /// The version of its last event.
    Last(Option<u64>),
}

#[derive(Debug)]
enum Answer {
    Appended { first_position: u64, first_version: u64 },
    Refused(Judgement),
}

impl Answer {
    fn of(outcome: Result<stratalog::Receipt, AppendError>, store: &Store) -> Self {
        let conflict = match outcome {
            Ok(receipt) => {
                let first_version = receipt.versions().start;
                return Self::Appended {
                    first_position: receipt.first_position().get(),
                    first_version,
                };
            }
            Err(AppendError::Conflict(conflict) | AppendError::AlreadyThere(conflict)) => conflict,
            Err(other) => panic!("{other}"),
        };
        let (mut stream, mut conditions) = (Stream::AsExpected, Vec::new());
        for check in conflict.failed() {
            match check {
                FailedCheck::Stream(failed) => stream = Stream::Last(failed.actual()),
                FailedCheck::Condition(failed) => {
                    assert!(failed.position() <= store.head(), "an answer that is not durable");
                    conditions.push((failed.condition(), failed.position().get()));
                }
                other => panic!("{other}"),
            }
        }
        Self::Refused(Judgement { stream, conditions })
    }
}

/// Submits an append as soon as there is room for it.
fn submit(mut append: Append) -> Result<stratalog::Pending, AppendError> {
    loop {
        match append.try_submit() {
            Err(AppendError::Busy) => std::thread::yield_now(),
            submitted => return submitted,
        }
    }
}

/// Appends at random, mostly about what came last, and records it.
fn run_thread(store: &Store, clock: &AtomicU64, seed: u64) -> Vec<Call> {
    let mut random = Rng::with_seed(seed);
    let tick = || clock.fetch_add(1, Ordering::SeqCst);
    (0..APPENDS)
        .map(|_| {
            let stream = random.u64(..STREAMS);
            let events: Vec<Event> = (0..random.u8(1..4))
                .map(|_| {
                    let tags = (0..TAGS).filter(|_| random.u8(0..4) == 0).collect();
                    Event { stream, of_type: random.u64(..TYPES), tags }
                })
                .collect();
            let name = format!("stream-{stream}");
            let head = store.head().get();
            let expect = match random.u8(0..6) {
                0 => Expect::NoStream,
                1 => Expect::Exists,
                2 | 3 => {
                    store.stream_head(&name).unwrap().map_or(Expect::NoStream, Expect::Version)
                }
                _ => Expect::Any,
            };
            let conditions: Vec<_> = (0..random.u8(0..3))
                .map(|_| match random.u8(0..8) {
                    0 => (Asked::random(&mut random), ConditionKind::FailIfExists, 0),
                    _ => (Asked::random(&mut random), ConditionKind::FailIf, head),
                })
                .collect();
            let mut append = store.append(&name, expect, events.iter().map(Event::new_event));
            for (asked, kind, after) in &conditions {
                append = match kind {
                    ConditionKind::FailIf => append.fail_if(asked.query(), *after),
                    ConditionKind::FailIfExists => append.fail_if_exists(asked.query()),
                };
            }
            let called = tick();
            let outcome = match random.u8(0..3) {
                0 => append.wait(),
                1 => block_on(append),
                _ => submit(append).and_then(stratalog::Pending::wait),
            };
            let answered = tick();
            let answer = Answer::of(outcome, store);
            Call { stream, expect, conditions, events, called, answered, answer }
        })
        .collect()
}

/// The order of what happened.
struct Log<'a> {
    /// With the first position of each.
    appended: Vec<(u64, &'a Call)>,
    events: Vec<&'a Event>,
}

impl<'a> Log<'a> {
    fn of(calls: &'a [Call]) -> Self {
        let first = |call: &'a Call| match call.answer {
            Answer::Appended { first_position, .. } => Some((first_position, call)),
            Answer::Refused(_) => None,
        };
        let mut appended: Vec<_> = calls.iter().filter_map(first).collect();
        appended.sort_unstable_by_key(|(first, _)| *first);
        let events = appended.iter().flat_map(|(_, call)| &call.events).collect();
        Self { appended, events }
    }

    fn head(&self, stream: u64, upto: usize) -> Option<u64> {
        let count = self.events[..upto].iter().filter(|event| event.stream == stream).count();
        count.checked_sub(1).map(|last| last as u64)
    }

    /// What the checks of a call come to behind so many events.
    fn judge(&self, call: &Call, upto: usize) -> Judgement {
        let head = self.head(call.stream, upto);
        let holds = match call.expect {
            Expect::Any => true,
            Expect::NoStream => head.is_none(),
            Expect::Exists => head.is_some(),
            Expect::Version(version) => head == Some(version),
        };
        let first = |asked: &Asked, after: u64| {
            let mut behind = (after + 1..).zip(&self.events[..upto][(after as usize).min(upto)..]);
            behind.find(|(_, event)| asked.matches(event)).map(|(position, _)| position)
        };
        let failed = call.conditions.iter().enumerate();
        let failed = failed.filter_map(|(n, (asked, _, after))| Some((n, first(asked, *after)?)));
        let stream = if holds { Stream::AsExpected } else { Stream::Last(head) };
        Judgement { stream, conditions: failed.collect() }
    }

    /// Whether everything that was appended has its place, in an order that is true to the calls, with checks that held.
    fn check_appended(&self) {
        let mut next = 1;
        let mut called_last = 0;
        for (first, call) in &self.appended {
            assert_eq!(*first, next, "positions have a gap");
            let upto = (next - 1) as usize;
            let right = Judgement { stream: Stream::AsExpected, conditions: Vec::new() };
            assert_eq!(self.judge(call, upto), right, "{call:?}");
            let Answer::Appended { first_version, .. } = call.answer else { unreachable!() };
            assert_eq!(first_version, self.head(call.stream, upto).map_or(0, |last| last + 1));
            // What comes behind in the order was not answered before what is before it was called.
            assert!(call.answered > called_last, "{call:?}");
            called_last = called_last.max(call.called);
            next += call.events.len() as u64;
        }
    }

    /// Whether there is a place for a refusal.
    fn check_refused(&self, call: &Call) {
        let Answer::Refused(judgement) = &call.answer else { return };
        let before = self.appended.iter().filter(|(_, other)| other.answered < call.called);
        let shortest = before.map(|(first, other)| first - 1 + other.events.len() as u64).max();
        let shortest = shortest.unwrap_or(0);
        let behind = self.appended.iter().filter(|(_, other)| other.called > call.answered);
        let longest = behind.map(|(first, _)| first - 1).min().unwrap_or(self.events.len() as u64);
        let ends = self.appended.iter().map(|(first, other)| first - 1 + other.events.len() as u64);
        let mut places =
            [0].into_iter().chain(ends).filter(|end| (shortest..=longest).contains(end));
        assert!(
            places.any(|end| self.judge(call, end as usize) == *judgement),
            "nowhere from {shortest} to {longest}: {call:?}"
        );
    }
}

/// How many appends of a history happened, and how many were refused.
fn history(disk: &MemoryDisk, seed: u64) -> [usize; 2] {
    let store = Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone())).unwrap();
    let clock = AtomicU64::new(1);
    let calls: Vec<Call> = std::thread::scope(|scope| {
        let (store, clock) = (&store, &clock);
        let run = |thread| scope.spawn(move || run_thread(store, clock, seed * THREADS + thread));
        let threads: Vec<_> = (0..THREADS).map(run).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let log = Log::of(&calls);
    assert_eq!(store.head().get(), log.events.len() as u64);
    log.check_appended();
    for call in &calls {
        log.check_refused(call);
    }
    [log.appended.len(), calls.len() - log.appended.len()]
}

#[test]
fn histories_of_several_threads_are_linearizable() {
    let cases = std::env::var(CASES).map_or(24, |text| text.parse().expect("a number of cases"));
    let first = seed::seed(1);
    let mut counts = [0; 2];
    for seed in first..first + cases {
        let test = "histories_of_several_threads_are_linearizable";
        let replay = seed::replay("linearizable", test, seed);
        let done = watchdog::within(Duration::from_mins(2), &replay, move || {
            // Every other history is of a disk that takes several writes at once.
            let takes_several = seed.is_multiple_of(2);
            let disk = if takes_several { MemoryDisk::with_queue(seed) } else { MemoryDisk::new() };
            history(&disk, seed)
        });
        counts = [counts[0] + done[0], counts[1] + done[1]];
    }
    println!("{} appends happened, {} were refused", counts[0], counts[1]);
    assert!(counts.iter().all(|count| *count > 20 * usize::try_from(cases).unwrap()), "{counts:?}");
}
