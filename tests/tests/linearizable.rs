//! Recorded histories of several threads that append, transact, guard what they append and repeat it, while their store is killed
//! or its disk fails, or the power is cut: can they be explained by the meaning of the calls (`specification`)?

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::cast_possible_truncation, reason = "a history has some hundred calls")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use stratalog::disk::{Exploration, Fault, FaultError, FaultPlan, MemoryDisk, OpKind};
use stratalog::{AppendError, ConditionKind, EventId, Expect, Store};
use stratalog_tests::block_on::block_on;
use stratalog_tests::specification::{Answer, Asked, Call, Event, Log, Unit, stream_name};
use stratalog_tests::{seed, watchdog};

const CASES: &str = "STRATALOG_LINEARIZABLE_CASES";
const THREADS: u64 = 4;
/// The most calls of a thread until the store is killed or closed.
const CALLS: usize = 100;
const STREAMS: u64 = 3;
const TYPES: u64 = 2;
const TAGS: u64 = 4;

/// What the threads of a history share.
struct Shared {
    clock: AtomicU64,
    /// The number of the next event.
    event: AtomicU64,
    /// What was called, also what was not answered yet.
    units: Mutex<Vec<Unit>>,
}

impl Shared {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }
}

fn some_asked(random: &mut Rng) -> Asked {
    let event_type = (random.u8(0..3) == 0).then(|| random.u64(..TYPES));
    let tags = match random.u8(0..8) {
        0 => Vec::new(),
        1 => vec![random.u64(..TAGS), random.u64(..TAGS)],
        _ => vec![random.u64(..TAGS)],
    };
    Asked { event_type, tags }
}

/// An event that no other is like.
fn some_event(random: &mut Rng, shared: &Shared, stream: u64, ids: bool) -> Event {
    let payload = shared.event.fetch_add(1, Ordering::Relaxed);
    let id = ids.then(|| {
        if random.bool() {
            return EventId::random();
        }
        let mut bytes = [0x55; 16];
        bytes[8..].copy_from_slice(&payload.to_be_bytes());
        EventId::from_bytes(bytes)
    });
    let tags = (0..TAGS).filter(|_| random.u8(0..4) == 0).collect();
    Event { stream, event_type: random.u64(..TYPES), tags, payload, id }
}

fn some_expect(random: &mut Rng, store: &Store, stream: u64) -> Expect {
    let head = || store.stream_head(&stream_name(stream)).unwrap();
    match random.u8(0..8) {
        0 => Expect::NoStream,
        1 => Expect::Exists,
        2 | 3 => head().map_or(Expect::NoStream, Expect::Version),
        // What others may have claimed, or what is behind that.
        4 => Expect::Version(head().map_or(0, |last| last + 1) + random.u64(0..3)),
        _ => Expect::Any,
    }
}

/// A unit of which nothing was there before.
fn some_unit(random: &mut Rng, store: &Store, shared: &Shared) -> Unit {
    let mut unit = Unit::default();
    let ids = random.u8(0..4) > 0;
    let parts = [1, 1, 1, 2, 3][random.usize(0..5)];
    let checked = if parts > 1 || random.u8(0..4) == 0 { random.usize(0..2) } else { 0 };
    let head = store.head().get();
    for part in 0..parts + checked {
        let stream = random.u64(..STREAMS);
        if unit.streams.iter().all(|(known, _)| *known != stream) {
            unit.streams.push((stream, some_expect(random, store, stream)));
        }
        for _ in 0..if part < parts { random.u8(1..4) } else { 0 } {
            unit.events.push(some_event(random, shared, stream, ids));
        }
    }
    if random.u8(0..20) == 0 {
        // Now and then it only checks.
        unit.events.clear();
    }
    for _ in 0..random.u8(0..3) {
        let asked = some_asked(random);
        unit.conditions.push(match random.u8(0..8) {
            0 => (asked, ConditionKind::FailIfExists, 0),
            _ => (asked, ConditionKind::FailIf, head),
        });
    }
    unit
}

/// A unit that was called before, by whomever; often changed a little.
fn some_repeated(random: &mut Rng, shared: &Shared) -> Option<Unit> {
    let mut unit = {
        let units = shared.units.lock().unwrap();
        // Mostly one of the last, which may be in flight.
        let most = if random.bool() { 6 } else { units.len().max(1) };
        let back = random.usize(0..most);
        units[..units.len().saturating_sub(back)].last()?.clone()
    };
    // Only what brings an id again can be told from something new.
    unit.events.first()?.id?;
    match random.u8(0..16) {
        0 => drop(unit.events.pop()),
        1 => {
            let stream = unit.streams[0].0;
            let ids = random.bool();
            let another = some_event(random, shared, stream, ids);
            unit.events.push(another);
        }
        2 => unit.events[0].payload += 1_000_000,
        3 => {
            let last = unit.events.len() - 1;
            unit.events.swap(0, last);
        }
        4 => {
            let others = unit.streams.len() == 1;
            let stream = (unit.streams[0].0 + 1) % STREAMS;
            if others {
                unit.streams[0] = (stream, Expect::Any);
                unit.events.iter_mut().for_each(|event| event.stream = stream);
            }
        }
        5 => unit.streams[0].1 = Expect::Version(random.u64(0..20)),
        6 => unit.conditions.clear(),
        _ => {}
    }
    (!unit.events.is_empty()).then_some(unit)
}

/// Calls a unit, in one of the ways in which it can be called.
fn call(random: &mut Rng, store: &Store, unit: &Unit) -> Result<Answer, AppendError> {
    let is_append = unit.streams.len() == 1 && !unit.events.is_empty() && random.bool();
    let soon = Duration::from_micros(50);
    let happened = |first: Option<stratalog::Position>, repeated| {
        Ok(Answer::Happened { first: first.map(stratalog::Position::get), repeated })
    };
    if is_append {
        let (stream, expect) = unit.streams[0];
        let events = unit.events.iter().map(Event::new_event);
        let mut append = store.append(&stream_name(stream), expect, events);
        for (asked, kind, after) in &unit.conditions {
            append = match kind {
                ConditionKind::FailIf => append.fail_if(asked.query(), *after),
                ConditionKind::FailIfExists => append.fail_if_exists(asked.query()),
            };
        }
        let receipt = match random.u8(0..4) {
            0 => append.wait()?,
            1 => block_on(append)?,
            2 => {
                let receipt = append.within(soon).wait()?;
                receipt.durable().wait()?;
                receipt
            }
            _ => submit(|| append.try_submit())?.wait()?,
        };
        return happened(Some(receipt.first_position()), receipt.is_repeated());
    }
    let mut transaction = store.transaction();
    // Neighbours of one stream in one call or several; what is expected of a stream is said where it is named first.
    let mut rest = &unit.events[..];
    let mut said: Vec<u64> = Vec::new();
    while let Some(first) = rest.first() {
        let (stream, length) =
            (first.stream, rest.iter().take_while(|e| e.stream == first.stream).count());
        let (events, others) = rest.split_at(random.usize(1..=length));
        let expect = unit.streams.iter().find(|(known, _)| *known == stream).unwrap().1;
        let expect = if said.contains(&stream) { Expect::Any } else { expect };
        said.push(stream);
        let events = events.iter().map(Event::new_event);
        transaction = transaction.append(&stream_name(stream), expect, events);
        rest = others;
    }
    for (stream, expect) in &unit.streams {
        if !said.contains(stream) || random.bool() {
            transaction = transaction.expect(&stream_name(*stream), *expect);
        }
    }
    for (asked, kind, after) in &unit.conditions {
        transaction = match kind {
            ConditionKind::FailIf => transaction.fail_if(asked.query(), *after),
            ConditionKind::FailIfExists => transaction.fail_if_exists(asked.query()),
        };
    }
    let receipt = match random.u8(0..4) {
        0 => transaction.commit().wait()?,
        1 => block_on(transaction.commit())?,
        2 => {
            let receipt = transaction.within(soon).commit().wait()?;
            receipt.durable().wait()?;
            receipt
        }
        _ => {
            let mut commit = transaction.commit();
            submit(|| commit.try_submit())?.wait()?
        }
    };
    assert_eq!(receipt.event_ids().len(), unit.events.len());
    happened(receipt.first_position(), receipt.is_repeated())
}

/// Submits as soon as there is room for it.
fn submit<T>(mut submit: impl FnMut() -> Result<T, AppendError>) -> Result<T, AppendError> {
    loop {
        match submit() {
            Err(AppendError::Busy) => std::thread::yield_now(),
            submitted => return submitted,
        }
    }
}

/// Calls at random until it is told to stop, first what was lost before; records all of it.
fn run_thread(
    store: &Store,
    shared: &Shared,
    mut random: Rng,
    lost: Vec<Unit>,
    stopped: &AtomicBool,
    answered: impl Fn(u64),
) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut lost = lost.into_iter();
    while calls.len() < CALLS && !stopped.load(Ordering::SeqCst) {
        let unit = match lost.next() {
            Some(lost) => Some(lost),
            None if random.u8(0..3) == 0 => some_repeated(&mut random, shared),
            None => Some(some_unit(&mut random, store, shared)),
        };
        let Some(unit) = unit else { continue };
        shared.units.lock().unwrap().push(unit.clone());
        let called = shared.tick();
        let answer = call(&mut random, store, &unit).unwrap_or_else(|error| Answer::of(&error));
        assert!(answer.rests_on() <= store.head().get(), "an answer that is not durable");
        let (at, is_lost) = (shared.tick(), answer == Answer::Lost);
        answered(at);
        calls.push(Call { unit, called, answered: at, answer });
        if is_lost {
            break;
        }
    }
    calls
}

/// How a store ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Closed,
    Killed,
    Failed(Fault),
    PowerCut,
}

/// The calls between an opening of a store and its end; and what is on the disk then.
fn run_until(
    end: End,
    disk: &MemoryDisk,
    shared: &Shared,
    random: &mut Rng,
    mut lost: Vec<Unit>,
) -> (Vec<Call>, MemoryDisk) {
    if matches!(end, End::PowerCut) {
        disk.start_recording();
    }
    let store = Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone())).unwrap();
    let stopped = AtomicBool::new(false);
    let (mut calls, ended, image) = std::thread::scope(|scope| {
        let (store, stopped) = (&store, &stopped);
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let random = random.fork();
                let own = lost.split_off(lost.len() - lost.len() / (THREADS - thread) as usize);
                scope.spawn(move || {
                    run_thread(store, shared, random, own, stopped, |at| disk.mark(at))
                })
            })
            .collect();
        std::thread::sleep(Duration::from_micros(random.u64(0..4_000)));
        let mut ended = u64::MAX;
        let mut image = None;
        match end {
            End::Closed | End::PowerCut => {}
            End::Killed => {
                // Nobody knows what is answered from here on.
                ended = shared.tick();
                image = Some(disk.fork());
                stopped.store(true, Ordering::SeqCst);
            }
            End::Failed(fault) => {
                let plan = FaultPlan::new();
                disk.set_faults(plan.inject(OpKind::WriteDurable, "segment-", 0, u64::MAX, fault));
            }
        }
        let calls: Vec<Call> =
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (calls, ended, image)
    });
    // What was answered before the power was cut, and what is on the disk then.
    let cut = matches!(end, End::PowerCut).then(|| {
        let points: Vec<_> = disk.trace().crash_points().collect();
        let point = &points[random.usize(0..points.len())];
        let most = random.usize(0..20);
        let state = point.states(&Exploration::quick()).take(most + 1).last().unwrap();
        (state.marks().to_vec(), state.disk())
    });
    let over = shared.tick();
    for call in &mut calls {
        let told = cut.as_ref().is_none_or(|(marks, _)| marks.contains(&call.answered));
        if call.answered > ended || !told {
            call.answer = Answer::Lost;
        }
        if call.answer == Answer::Lost {
            call.answered = over;
        }
    }
    // What was submitted is written, and the lock let go.
    drop(store);
    let image = cut.map(|(_, disk)| disk).or(image);
    (calls, image.unwrap_or_else(|| disk.fork()))
}

/// How many units of a history happened, how many calls were repetitions, how many were refused, how many brought an id that
/// was there, and how many were lost.
fn history(seed: u64) -> [usize; 5] {
    let mut random = Rng::with_seed(seed);
    let shared = Shared {
        clock: AtomicU64::new(1),
        event: AtomicU64::new(0),
        units: Mutex::new(Vec::new()),
    };
    // Every other history is of a disk that takes several writes at once.
    let queue = seed.is_multiple_of(2).then_some(seed);
    let mut disk = MemoryDisk::new();
    let (mut calls, mut lost): (Vec<Call>, Vec<Unit>) = (Vec::new(), Vec::new());
    for phase in 0..3 {
        disk.set_queue(queue);
        let end = match random.u8(0..7) {
            _ if phase == 2 => End::Closed,
            0 => End::Closed,
            1 => End::Failed(Fault::Fail(FaultError::Io)),
            2 => End::Failed(Fault::FailTorn { error: FaultError::Io, seed }),
            3 | 4 => End::PowerCut,
            _ => End::Killed,
        };
        let (phase, image) = run_until(end, &disk, &shared, &mut random, lost);
        lost = phase.iter().filter(|c| c.answer == Answer::Lost).map(|c| c.unit.clone()).collect();
        calls.extend(phase);
        disk = image;
    }
    let store = Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk)).unwrap();
    let mut events = Vec::new();
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch().unwrap() {
        events.extend(batch.iter().map(Event::read));
    }
    let log = Log::explain(events, &calls);
    log.check_placed();
    for call in &calls {
        log.check_answer(call);
    }
    let count = |is: fn(&Answer) -> bool| calls.iter().filter(|call| is(&call.answer)).count();
    [
        log.units(),
        count(|answer| matches!(answer, Answer::Happened { repeated: true, .. })),
        count(|answer| matches!(answer, Answer::Refused(_))),
        count(|answer| matches!(answer, Answer::Exists { .. })),
        count(|answer| matches!(answer, Answer::Lost)),
    ]
}

#[test]
fn histories_of_several_threads_are_linearizable() {
    let cases = std::env::var(CASES).map_or(48, |text| text.parse().expect("a number of cases"));
    let first = seed::seed(1);
    let mut counts = [0; 5];
    for seed in first..first + cases {
        let test = "histories_of_several_threads_are_linearizable";
        let replay = seed::replay("linearizable", test, seed);
        let done = watchdog::within(Duration::from_mins(2), &replay, move || history(seed));
        counts.iter_mut().zip(done).for_each(|(count, done)| *count += done);
    }
    let [happened, repeated, refused, exists, lost] = counts;
    println!(
        "{happened} units happened, {repeated} calls were recognised, {refused} refused, {exists} \
         brought an id that was there, {lost} were lost"
    );
    let cases = usize::try_from(cases).unwrap();
    assert!(happened > 20 * cases && refused > 20 * cases && repeated > 10 * cases, "{counts:?}");
    assert!(exists > cases && lost > cases / 2, "{counts:?}");
}
