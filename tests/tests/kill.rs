//! A process that is killed while it writes loses nothing that it has acknowledged.
//!
//! A child process, this test binary again, opens a store in the target folder and appends from several
//! threads: some wait for each append, one has many on their way, one is answered before its events are
//! durable. It says on its standard output what it is about to append (`S stream version checksum`) and
//! what was acknowledged as durable (`A stream version`). It is killed by SIGKILL at a random moment, and
//! the store is opened and judged here: acknowledged ⊆ recovered ⊆ submitted. Most rounds go on in the
//! store of the round before.
//!
//! `STRATALOG_KILL_ROUNDS=500 cargo test --release -p stratalog-tests --test kill` runs more of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use stratalog::{AppendError, Expect, NewEvent, Options, Store};
use stratalog_tests::seed;

/// Set for a child: the directory of its store.
const CHILD: &str = "STRATALOG_KILL_CHILD";
const ROUNDS: &str = "STRATALOG_KILL_ROUNDS";
/// A fresh store every so many rounds.
const STORE_ROUNDS: u64 = 10;
/// How long a child may take before it has appended anything.
const PATIENCE: Duration = Duration::from_mins(1);
const IN_FLIGHT: usize = 300;

fn options() -> Options {
    Store::options().segment_bytes(1 << 20)
}

/// The payload of an event: which unit it belongs to, and bytes that only this attempt has.
fn payload(unit_first: u64, unit_events: u64, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = format!("{unit_first}:{unit_events}:").into_bytes();
    let filler = random.usize(16..1_500);
    bytes.extend(std::iter::repeat_with(|| random.u8(b'a'..=b'z')).take(filler));
    bytes
}

/// The unit that a payload says that its event belongs to: its first version, and how many it has.
fn unit_of(payload: &[u8]) -> (u64, u64) {
    let text = std::str::from_utf8(payload).unwrap();
    let mut parts = text.split(':').map(str::parse);
    (parts.next().unwrap().unwrap(), parts.next().unwrap().unwrap())
}

/// One thread of a child.
struct Appender<'a> {
    store: &'a Store,
    stream: String,
    next: u64,
    random: fastrand::Rng,
}

impl<'a> Appender<'a> {
    fn new(store: &'a Store, stream: &str) -> Self {
        let next = store.stream_head(stream).unwrap().map_or(0, |last| last + 1);
        Self { store, stream: stream.into(), next, random: fastrand::Rng::new() }
    }

    /// The next unit, said to be submitted: its events, and the version of the last one.
    fn unit(&mut self) -> (Vec<NewEvent>, u64) {
        let (first, count) = (self.next, self.random.u64(1..4));
        self.next += count;
        let mut said = String::new();
        let events = (first..first + count)
            .map(|version| {
                let payload = payload(first, count, &mut self.random);
                let checksum = crc32fast::hash(&payload);
                said.extend(format!("S {} {version} {checksum:08x}\n", self.stream).chars());
                NewEvent::bytes("appended", payload)
            })
            .collect();
        say(&said);
        (events, first + count - 1)
    }

    fn append(&self, events: &[NewEvent]) -> stratalog::Append {
        self.store.append(&self.stream, Expect::Any, events)
    }

    fn acknowledged(&self, version: u64) {
        say(&format!("A {} {version}\n", self.stream));
    }

    fn waits(mut self) {
        loop {
            let (events, last) = self.unit();
            assert_eq!(self.append(&events).wait().unwrap().version(), last);
            self.acknowledged(last);
        }
    }

    fn submits(mut self) {
        let mut on_their_way = VecDeque::new();
        loop {
            let (events, last) = self.unit();
            let mut append = self.append(&events);
            loop {
                match append.try_submit() {
                    Ok(pending) => break on_their_way.push_back((pending, last)),
                    Err(AppendError::Busy) if on_their_way.is_empty() => std::thread::yield_now(),
                    Err(AppendError::Busy) => self.settle(&mut on_their_way),
                    Err(error) => panic!("{error}"),
                }
            }
            if on_their_way.len() > IN_FLIGHT {
                self.settle(&mut on_their_way);
            }
        }
    }

    fn settle(&self, on_their_way: &mut VecDeque<(stratalog::Pending, u64)>) {
        let (pending, last) = on_their_way.pop_front().unwrap();
        assert_eq!(pending.wait().unwrap().version(), last);
        self.acknowledged(last);
    }

    fn does_not_wait(mut self) {
        loop {
            let mut receipts = Vec::new();
            for _ in 0..20 {
                let (events, last) = self.unit();
                let append = self.append(&events).within(Duration::from_millis(3));
                receipts.push((append.wait().unwrap(), last));
            }
            for (receipt, last) in receipts {
                receipt.durable().wait().unwrap();
                self.acknowledged(last);
            }
        }
    }
}

/// One write for all of it, past the harness's own output.
fn say(lines: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(lines.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Does nothing where it is run as a test; the other test runs it as a child.
#[test]
fn a_child_appends_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let store = options().open(directory).unwrap();
    std::thread::scope(|scope| {
        for stream in ["wait-1", "wait-2", "wait-3"] {
            let appender = Appender::new(&store, stream);
            scope.spawn(move || appender.waits());
        }
        let appender = Appender::new(&store, "submit-1");
        scope.spawn(move || appender.submits());
        let appender = Appender::new(&store, "early-1");
        scope.spawn(move || appender.does_not_wait());
    });
}

/// What a child has said.
#[derive(Debug, Default)]
struct Said {
    /// By stream and version, the checksum.
    submitted: HashMap<(String, u64), u32>,
    /// By stream, how many events are durable.
    acknowledged: HashMap<String, u64>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["S", stream, version, checksum] => {
                let checksum = u32::from_str_radix(checksum, 16).unwrap();
                self.submitted.insert((stream.into(), version.parse().unwrap()), checksum);
            }
            ["A", stream, version] => {
                let events = version.parse::<u64>().unwrap() + 1;
                let known = self.acknowledged.entry(stream.into()).or_default();
                *known = events.max(*known);
            }
            // What the harness says of the test.
            _ => {}
        }
    }
}

/// An event as it was recovered.
#[derive(Debug, Clone, PartialEq)]
struct Recovered {
    stream: String,
    version: u64,
    checksum: u32,
    unit: (u64, u64),
}

/// The streams' checksums, version by version, as a round left them.
type Known = HashMap<String, Vec<u32>>;

/// Judges what was recovered: what the round before had left is there, what was acknowledged since then
/// too, and there is nothing that was not submitted.
fn judge(before: &Known, said: &Said, recovered: &[Recovered]) -> Result<Known, String> {
    let mut streams: HashMap<&str, Vec<&Recovered>> = HashMap::new();
    for event in recovered {
        let stream = streams.entry(&event.stream).or_default();
        if event.version != stream.len() as u64 {
            return Err(format!("version {} of {} is out of order", event.version, event.stream));
        }
        stream.push(event);
    }
    let mut known = Known::new();
    for (stream, events) in &streams {
        let before = before.get(*stream).map_or(&[][..], Vec::as_slice);
        for event in events {
            let Recovered { version, checksum, unit: (first, count), .. } = **event;
            let expected = usize::try_from(version).ok().and_then(|at| before.get(at).copied());
            let expected =
                expected.or_else(|| said.submitted.get(&(event.stream.clone(), version)).copied());
            if expected != Some(checksum) {
                return Err(format!("version {version} of {stream} was not submitted like this"));
            }
            if first + count > events.len() as u64 {
                return Err(format!("the unit of {stream} from version {first} on is torn"));
            }
        }
        known.insert((*stream).into(), events.iter().map(|event| event.checksum).collect());
    }
    let there = |stream: &str| known.get(stream).map_or(0, |events| events.len() as u64);
    for (stream, events) in before {
        if there(stream) < events.len() as u64 {
            return Err(format!("{stream} has lost what it had when it was opened before"));
        }
    }
    for (stream, events) in &said.acknowledged {
        if there(stream) < *events {
            return Err(format!(
                "{events} of {stream} were acknowledged, {} are there",
                there(stream)
            ));
        }
    }
    Ok(known)
}

/// Opens the store that a killed child left, and reads everything.
fn recover(directory: &Path) -> Vec<Recovered> {
    let store = options().open(directory).unwrap();
    let mut recovered = Vec::new();
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch().unwrap() {
        for event in &batch {
            assert_eq!(event.position().get(), recovered.len() as u64 + 1, "positions are dense");
            recovered.push(Recovered {
                stream: event.stream().into(),
                version: event.version(),
                checksum: crc32fast::hash(event.payload()),
                unit: unit_of(event.payload()),
            });
        }
    }
    assert_eq!(store.head().get(), recovered.len() as u64);
    store.close().unwrap();
    recovered
}

/// Runs a child, kills it some time after its first word, and gives what it said until then.
fn run_and_kill(directory: &Path, after: Duration) -> Said {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_child_appends_until_it_is_killed", "--nocapture"])
        .env(CHILD, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (first_word, heard) = channel();
    let listener = std::thread::spawn(move || {
        let (mut said, mut line) = (Said::default(), String::new());
        while output.read_line(&mut line).unwrap() > 0 {
            // The last line may have been cut off.
            if let Some(line) = line.strip_suffix('\n') {
                said.hear(line);
            }
            if line.starts_with("A ") {
                let _ = first_word.send(());
            }
            line.clear();
        }
        said
    });
    heard.recv_timeout(PATIENCE).expect("the child appends");
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    listener.join().unwrap()
}

#[test]
fn what_a_killed_process_acknowledged_is_recovered() {
    let rounds = std::env::var(ROUNDS).map_or(50, |rounds| rounds.parse().unwrap());
    let seed = seed::seed(1);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut events, mut acknowledged) = (0, 0);
    let mut round = 0;
    while round < rounds {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut known = Known::new();
        for _ in 0..STORE_ROUNDS.min(rounds - round) {
            let after = Duration::from_micros(random.u64(0..60_000));
            let said = run_and_kill(directory.path(), after);
            let recovered = recover(directory.path());
            known = judge(&known, &said, &recovered)
                .unwrap_or_else(|what| panic!("round {round} of seed {seed}: {what}"));
            acknowledged += said.acknowledged.len();
            round += 1;
        }
        events += known.values().map(Vec::len).sum::<usize>();
    }
    println!("{rounds} rounds, {events} events survived");
    assert!(acknowledged > 0 && events > 0, "the children did nothing");
}

fn recovered(version: u64, checksum: u32, unit: (u64, u64)) -> Recovered {
    Recovered { stream: "s".into(), version, checksum, unit }
}

/// A child that has submitted three events, of which the first is acknowledged.
fn said() -> Said {
    let mut said = Said::default();
    for line in ["running 1 test", "S s 0 0000000a", "S s 1 0000000b", "S s 2 0000000c", "A s 0"] {
        said.hear(line);
    }
    said
}

#[test]
fn the_judge_takes_what_is_right_and_nothing_else() {
    let judged = |events: &[Recovered]| judge(&Known::new(), &said(), events).map(|_| ());
    let one = recovered(0, 10, (0, 1));
    assert_eq!(judged(std::slice::from_ref(&one)), Ok(()));
    let unit = [recovered(1, 11, (1, 2)), recovered(2, 12, (1, 2))];
    assert_eq!(judged(&[one.clone(), unit[0].clone(), unit[1].clone()]), Ok(()));
    // Lost, changed, torn, doubled, never submitted.
    assert!(judged(&[]).is_err());
    assert!(judged(&[recovered(0, 99, (0, 1))]).is_err());
    assert!(judged(&[one.clone(), unit[0].clone()]).is_err());
    assert!(judged(&[one.clone(), one.clone()]).is_err());
    let unheard = [one.clone(), unit[0].clone(), unit[1].clone(), recovered(3, 13, (3, 1))];
    assert!(judged(&unheard).is_err());
}

#[test]
fn the_judge_misses_what_an_earlier_round_had() {
    let before = Known::from([("s".to_string(), vec![7, 8])]);
    let judged = |events: &[Recovered]| judge(&before, &said(), events).map(|_| ());
    assert_eq!(judged(&[recovered(0, 7, (0, 1)), recovered(1, 8, (1, 1))]), Ok(()));
    assert!(judged(&[recovered(0, 7, (0, 1))]).is_err());
    assert!(judged(&[recovered(0, 7, (0, 1)), recovered(1, 9, (1, 1))]).is_err());
}
