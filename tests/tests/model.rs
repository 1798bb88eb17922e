//! Random histories against an obvious model: two vectors and a map.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::case_sensitive_file_extension_comparisons,
    reason = "the store spells its own names"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use stratalog::disk::MemoryDisk;
use stratalog::{AppendError, Case, Conflict, Expect, NewEvent, Pending, Store};
use stratalog_tests::oracle::{Seen, all, stream};
use stratalog_tests::{seed, watchdog};

const CASES: u64 = 1_000;
const STEPS: u64 = 60;
const STREAMS: u64 = 6;

/// What the store should hold.
#[derive(Debug, Default)]
struct Model {
    /// Stream, version, event; the index is the position less one.
    log: Vec<(String, u64, NewEvent)>,
    heads: BTreeMap<String, u64>,
}

impl Model {
    fn head(&self, stream: &str) -> Option<u64> {
        self.heads.get(stream).copied()
    }

    fn holds(&self, stream: &str, expect: Expect) -> bool {
        is_as_expected(self.head(stream), expect)
    }

    fn append(&mut self, stream: &str, events: &[NewEvent]) {
        for event in events {
            let version = self.head(stream).map_or(0, |last| last + 1);
            self.heads.insert(stream.to_owned(), version);
            self.log.push((stream.to_owned(), version, event.clone()));
        }
    }
}

fn is_as_expected(head: Option<u64>, expect: Expect) -> bool {
    match expect {
        Expect::Any => true,
        Expect::NoStream => head.is_none(),
        Expect::Exists => head.is_some(),
        Expect::Version(version) => head == Some(version),
    }
}

/// That a stream with this head, which may not be durable yet, is not as an append or a check expected it.
fn check_conflict(conflict: &Conflict, head: Option<u64>) {
    let conflict = conflict.streams().next().expect("it is about one stream");
    assert_eq!(conflict.claimed(), head);
    assert!(conflict.actual() <= head, "{conflict}");
    assert!(!is_as_expected(conflict.actual(), conflict.expected()), "{conflict}");
}

/// What an append will answer, once it is waited for.
enum Answer {
    /// The first position and version.
    Receipt(u64, u64, usize),
    Conflict(Option<u64>),
}

struct History {
    random: Rng,
    disk: MemoryDisk,
    store: Store,
    model: Model,
    pending: Vec<(Pending, Answer)>,
    bytes_max: u64,
    /// The seed of the disk's queue, where it has one.
    queue: Option<u64>,
    /// The most writes that were in flight in it, on the disks before this one.
    queued_most: usize,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let disk = MemoryDisk::new();
        // Each thread of the test has as many seeds of both kinds.
        let queue = (seed / 2).is_multiple_of(2).then_some(seed);
        disk.set_queue(queue);
        let (store, bytes_max) = open(&disk, &mut random);
        assert_eq!(store.opened_as(), Case::Fresh);
        let (model, pending) = (Model::default(), Vec::new());
        Self { random, disk, store, model, pending, bytes_max, queue, queued_most: 0 }
    }

    fn step(&mut self) {
        match self.random.u8(0..20) {
            0 if self.queue.is_some() => self.append_large(),
            0..9 => self.append(),
            9..11 => self.check(),
            11..14 => self.read_all(),
            14..17 => self.read_stream(),
            17 => self.settle(),
            18 => assert!(self.store.flush().is_ok()),
            _ => self.reopen(),
        }
    }

    fn stream(&mut self) -> String {
        format!("stream-{}", self.random.u64(0..STREAMS))
    }

    fn expect(&mut self, stream: &str) -> Expect {
        let head = self.model.head(stream);
        match self.random.u8(0..8) {
            0..3 => Expect::Any,
            3 => Expect::NoStream,
            4 => Expect::Exists,
            5 => Expect::Version(self.random.u64(0..5)),
            _ => head.map_or(Expect::NoStream, Expect::Version),
        }
    }

    fn events(&mut self) -> Vec<NewEvent> {
        let count = [1, 1, 1, 2, 3, 7][self.random.usize(0..6)];
        let most = usize::try_from(self.bytes_max).unwrap() / 2 / count;
        let events = (0..count).map(|_| {
            let bytes = match self.random.u8(0..12) {
                0 => 0,
                1 => self.random.usize(0..most.min(200_000)),
                _ => self.random.usize(0..400.min(most)),
            };
            let payload: Vec<u8> = (0..bytes)
                .map(|_| if self.random.bool() { 0 } else { self.random.u8(..) })
                .collect();
            let event = NewEvent::bytes(format!("type-{}", self.random.u8(0..9)), payload);
            let event = event.id(stratalog::EventId::random());
            if self.random.bool() { event } else { event.tags(["a", "b"]).metadata(*b"m") }
        });
        events.collect()
    }

    fn append(&mut self) {
        let (stream, events) = (self.stream(), self.events());
        let expect = self.expect(&stream);
        let answer = if self.model.holds(&stream, expect) {
            let first = self.model.log.len() as u64 + 1;
            let version = self.model.head(&stream).map_or(0, |last| last + 1);
            self.model.append(&stream, &events);
            Answer::Receipt(first, version, events.len())
        } else {
            Answer::Conflict(self.model.head(&stream))
        };
        if self.random.bool() {
            let result = self.store.append(&stream, expect, &events).wait();
            check_answer(result, &answer);
            return;
        }
        self.submit(&stream, expect, &events, answer);
    }

    /// Some appends in a row, each so large that it is a batch of its own where the segments allow it.
    fn append_large(&mut self) {
        for _ in 0..self.random.u8(2..5) {
            let most = usize::try_from(self.bytes_max).unwrap() / 2;
            let mut payload = vec![0; self.random.usize(64 << 10..160 << 10).min(most)];
            self.random.fill(&mut payload);
            let (stream, event) = (self.stream(), NewEvent::bytes("type-large", payload));
            let events = [event.id(stratalog::EventId::random())];
            let first = self.model.log.len() as u64 + 1;
            let version = self.model.head(&stream).map_or(0, |last| last + 1);
            self.model.append(&stream, &events);
            self.submit(&stream, Expect::Any, &events, Answer::Receipt(first, version, 1));
        }
    }

    fn submit(&mut self, stream: &str, expect: Expect, events: &[NewEvent], answer: Answer) {
        let pending = loop {
            match self.store.append(stream, expect, events).submit() {
                Err(AppendError::Busy) => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        self.pending.push((pending, answer));
    }

    fn check(&mut self) {
        let stream = self.stream();
        let expect = self.expect(&stream);
        let head = self.model.head(&stream);
        match self.store.check(&stream, expect).wait() {
            Ok(found) => assert!(self.model.holds(&stream, expect) && found == head, "{expect}"),
            Err(AppendError::Conflict(conflict)) => {
                assert!(!self.model.holds(&stream, expect), "{conflict}");
                check_conflict(&conflict, head);
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Waits for what was submitted, so that the model and what is durable are the same.
    fn settle(&mut self) {
        for (pending, answer) in self.pending.drain(..) {
            check_answer(pending.wait(), &answer);
        }
    }

    fn read_all(&mut self) {
        self.settle();
        let end = self.model.log.len() as u64;
        assert_eq!(self.store.head().get(), end);
        let (mut first, mut last, mut limit) = (1, end, u64::MAX);
        let mut read = self.store.read_all();
        let somewhere = |random: &mut Rng| random.u64(0..end + 4);
        match self.random.u8(0..3) {
            0 => {
                let after = somewhere(&mut self.random);
                read = read.after(after);
                first = after + 1;
            }
            1 => {
                let from = somewhere(&mut self.random);
                read = read.from(from);
                first = from.max(1);
            }
            _ => {}
        }
        if self.random.bool() {
            let before = somewhere(&mut self.random);
            read = read.before(before);
            last = last.min(before.saturating_sub(1));
        }
        if self.random.bool() {
            limit = self.random.u64(0..20);
            read = read.limit(limit);
        }
        let mut wanted: Vec<u64> = (first..=last).collect();
        let backward = self.random.bool();
        let seen = all(if backward { read.backward() } else { read.forward() }).unwrap();
        if backward {
            wanted.reverse();
        }
        wanted.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        self.compare(&seen, &wanted);
    }

    fn read_stream(&mut self) {
        self.settle();
        let name = self.stream();
        assert_eq!(self.store.stream_head(&name).unwrap(), self.model.head(&name));
        let mut positions = (1..).zip(&self.model.log).filter(|(_, (stream, ..))| *stream == name);
        let positions: Vec<u64> = positions.by_ref().map(|(position, _)| position).collect();
        let mut read = self.store.read_stream(&name);
        let from = self.random.bool().then(|| self.random.usize(0..positions.len() + 3));
        if let Some(from) = from {
            read = read.from(from as u64);
        }
        let limit = if self.random.bool() { self.random.usize(0..10) } else { usize::MAX };
        read = read.limit(limit as u64);
        let backward = self.random.bool();
        let mut wanted = if backward {
            let upto = from.map_or(positions.len(), |from| (from + 1).min(positions.len()));
            positions[..upto].iter().rev().copied().collect::<Vec<_>>()
        } else {
            positions[from.unwrap_or(0).min(positions.len())..].to_vec()
        };
        wanted.truncate(limit);
        let seen = stream(if backward { read.backward() } else { read.forward() }).unwrap();
        self.compare(&seen, &wanted);
    }

    fn compare(&self, seen: &[Seen], wanted: &[u64]) {
        let found: Vec<u64> = seen.iter().map(|seen| seen.position).collect();
        assert_eq!(found, wanted);
        for seen in seen {
            let (stream, version, event) =
                &self.model.log[usize::try_from(seen.position).unwrap() - 1];
            assert_eq!((&seen.stream, seen.version), (stream, *version));
            assert_eq!(seen.event, *event);
        }
    }

    /// The most writes that were in flight at once in the disk's queue.
    fn queued_most(&self) -> usize {
        self.queued_most.max(self.disk.queued_most())
    }

    fn reopen(&mut self) {
        let kill = self.random.u8(0..3) == 0;
        if kill {
            self.settle();
            // The process is killed with everything durable, at a moment of rest or not.
            if self.random.bool() {
                std::thread::sleep(Duration::from_millis(6));
            }
            let killed = self.disk.fork();
            killed.set_queue(self.queue);
            self.queued_most = self.queued_most();
            let (store, bytes_max) = open(&killed, &mut self.random);
            assert_eq!(store.opened_as(), Case::CleanEnd);
            (self.disk, self.store, self.bytes_max) = (killed, store, bytes_max);
        } else {
            let end = self.random.bool();
            if end {
                self.settle();
                self.store.clone().close().unwrap();
            }
            // Dropping it writes what was submitted.
            let placeholder = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
            drop(std::mem::replace(&mut self.store, placeholder));
            self.settle();
            let (store, bytes_max) = open(&self.disk, &mut self.random);
            assert_eq!(store.opened_as(), Case::RecordedEnd);
            (self.store, self.bytes_max) = (store, bytes_max);
        }
        assert!(self.store.torn_tail().is_empty());
        assert_eq!(self.store.head().get(), self.model.log.len() as u64);
    }
}

fn open(disk: &MemoryDisk, random: &mut Rng) -> (Store, u64) {
    let bytes = (64 << 10) << random.u32(0..7);
    let store = Store::options().segment_bytes(bytes).open_on(Arc::new(disk.clone())).unwrap();
    (store, stratalog::limits::append_bytes_max(bytes))
}

fn check_answer(result: Result<stratalog::Receipt, AppendError>, answer: &Answer) {
    match (result, answer) {
        (Ok(receipt), Answer::Receipt(position, version, count)) => {
            assert_eq!(receipt.first_position().get(), *position);
            assert_eq!(receipt.versions(), *version..*version + *count as u64);
        }
        (Err(AppendError::Conflict(conflict)), Answer::Conflict(head)) => {
            check_conflict(&conflict, *head);
        }
        (Ok(receipt), Answer::Conflict(_)) => panic!("no conflict: {receipt:?}"),
        (Err(error), _) => panic!("{error}"),
    }
}

#[test]
fn random_histories_agree_with_a_plain_model() {
    let first = seed::seed(1);
    watchdog::within(Duration::from_mins(2), "a history", move || {
        let (queued, beside) = (&AtomicU64::new(0), &AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..2 {
                scope.spawn(move || {
                    for seed in (first..first + CASES).filter(|seed| seed % 2 == thread) {
                        let run = std::panic::catch_unwind(|| {
                            let mut history = History::new(seed);
                            (0..STEPS).for_each(|_| history.step());
                            history.settle();
                            history.read_all();
                            let found = history.store.verify(|_, _| {}).unwrap();
                            assert!(found.is_clean(), "{found:?}");
                            let most = history.queued_most();
                            queued.fetch_add(u64::from(most > 0), Ordering::Relaxed);
                            beside.fetch_add(u64::from(most > 1), Ordering::Relaxed);
                        });
                        if let Err(panic) = run {
                            let test = "random_histories_agree_with_a_plain_model";
                            eprintln!("repeat with: {}", seed::replay("model", test, seed));
                            std::panic::resume_unwind(panic);
                        }
                    }
                });
            }
        });
        let (queued, beside) = (queued.load(Ordering::Relaxed), beside.load(Ordering::Relaxed));
        println!("{queued} histories wrote through a queue, {beside} several batches at once");
        assert!(queued >= CASES / 4 && beside > 0, "the queue was hardly used: {queued}, {beside}");
    });
}
