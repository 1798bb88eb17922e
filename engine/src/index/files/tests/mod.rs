//! Tests of both kinds of file, against an obvious model out of the standard library's collections.
//!
//! Owns the model and how files are made of it. The tests stand by what they ask: `table`, `run`,
//! `merge`, `damage`.

mod damage;
mod merge;
mod run;
mod table;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::*;
use crate::index::{LiveIndex, LiveRoom, LiveWriter, Term, TermHash, TermKind};

/// Holds some hundred thousand postings.
const SEGMENT_BYTES: u64 = 32 << 20;
const FIRST_POSITION: u64 = 1_000_000;
const PAGE_BYTES: usize = crate::limits::BLOCK_BYTES;

const TYPES: [EventType<'static>; 3] = [
    EventType { schema_version: 1, fingerprint: 7, name: "Ordered" },
    EventType { schema_version: 2, fingerprint: u128::MAX, name: "Ordered" },
    EventType { schema_version: 9, fingerprint: 0, name: "Versandt-über-Nacht" },
];

/// What a dictionary is ordered by.
type Key = (TermHash, TermKind);

/// One event of a model log. Its first term is its stream.
struct ModelEvent {
    id: [u8; 16],
    version: u64,
    terms: Vec<(TermHash, TermKind, Vec<u8>)>,
}

/// A stretch of a log as a plain list: that of some neighbouring segments.
struct Model<'a> {
    stamp: Stamp,
    events: &'a [ModelEvent],
}

/// How a model's log is drawn.
#[derive(Clone, Copy)]
struct Shape {
    events: usize,
    streams: usize,
    /// All hashes come from so many; zero gives each term its own.
    hashes: u64,
}

fn hash_of(kind: TermKind, bytes: &[u8], hashes: u64) -> TermHash {
    let hash = Term { kind, bytes }.xxh3_64();
    match hashes {
        0 => hash,
        // The same ones for all kinds, spread over the whole range with the extremes among them.
        _ => TermHash((hash.0 % hashes).wrapping_mul(u64::MAX / hashes.max(2))),
    }
}

/// A log whose streams begin with version 0 or, like those that the log before it had, with another.
fn draw(shape: Shape, rng: &mut fastrand::Rng) -> Vec<ModelEvent> {
    let mut versions = BTreeMap::new();
    let mut log = Vec::new();
    for ordinal in 0..shape.events {
        // Small numbers are drawn more often, so that some lists are long and many are short.
        let number = rng.usize(..shape.streams).min(rng.usize(..shape.streams));
        let stream = if rng.u8(..4) == 0 { 0 } else { number };
        let first = if stream.is_multiple_of(3) { 0 } else { stream as u64 * 100 };
        let next = versions.entry(stream).or_insert(first);
        let version = *next;
        *next += 1;
        let mut names = vec![
            (TermKind::Stream, format!("order-{stream}")),
            (TermKind::Category, "order".to_owned()),
            (TermKind::Type, format!("type-{}", rng.u8(..14))),
        ];
        let tag = rng.usize(..200);
        names.extend((0..rng.usize(..3)).map(|i| (TermKind::Tag, format!("tag-{}", tag + i))));
        if version == 0 {
            names.push((TermKind::StreamsOf, "order".to_owned()));
        }
        let mut id = [0; 16];
        rng.fill(&mut id);
        // Begins with what grows, as ids of version 7 do.
        id[..4].copy_from_slice(&u32::try_from(ordinal / 3).unwrap().to_be_bytes());
        let terms = names.into_iter().map(|(kind, name)| {
            let bytes = name.into_bytes();
            (hash_of(kind, &bytes, shape.hashes), kind, bytes)
        });
        log.push(ModelEvent { id, version, terms: terms.collect() });
    }
    log
}

/// A part of a log, as one segment or several that have these numbers.
fn part(log: &[ModelEvent], events: Range<usize>, segments: Range<u64>) -> Model<'_> {
    let stamp = Stamp {
        store_id: [3; 16],
        first_segment: segments.start,
        last_segment: segments.end - 1,
        salt: 0x1234_5678_9abc_def0,
        first_position: FIRST_POSITION + events.start as u64,
        events: events.len() as u64,
        chain: [1; 16],
    };
    Model { stamp, events: &log[events] }
}

fn whole(log: &[ModelEvent]) -> Model<'_> {
    part(log, 0..log.len(), 0..1)
}

fn live_of(events: &[ModelEvent]) -> (LiveWriter, Arc<LiveIndex>) {
    let (mut writer, live) = LiveIndex::new(LiveRoom::for_all_of(SEGMENT_BYTES));
    for event in events {
        let ordinal = writer.push_event(0);
        for (hash, kind, bytes) in &event.terms {
            let term = Term { kind: *kind, bytes };
            if term.kind == TermKind::Tag {
                writer.enter_tag(*hash, ordinal);
                continue;
            }
            match writer.find(*hash, term) {
                Some(id) => writer.append(id, ordinal..ordinal + 1),
                None => drop(writer.create(*hash, term, ordinal, event.version)),
            }
        }
    }
    (writer, live)
}

impl Model<'_> {
    fn ids(&self) -> Vec<([u8; 16], u32)> {
        self.events.iter().map(|event| event.id).zip(0..).collect()
    }

    fn run_bytes(&self) -> Vec<u8> {
        seal_run(&live_of(self.events).1, &self.stamp, self.ids()).unwrap()
    }

    /// The ordinals of the terms of a kind that share a hash, each once.
    fn lists(&self) -> BTreeMap<Key, Vec<u32>> {
        let mut lists: BTreeMap<Key, Vec<u32>> = BTreeMap::new();
        for (ordinal, event) in (0..).zip(self.events) {
            for (hash, kind, _) in &event.terms {
                let list = lists.entry((*hash, *kind)).or_default();
                if list.last() != Some(&ordinal) {
                    list.push(ordinal);
                }
            }
        }
        lists
    }

    fn streams_created(&self) -> u64 {
        self.events.iter().filter(|event| event.version == 0).count() as u64
    }
}

/// Checks everything that a run says against the model.
fn check_run(bytes: &[u8], model: &Model<'_>, rng: &mut fastrand::Rng) {
    assert!(bytes.len().is_multiple_of(PAGE_BYTES));
    let run = TermRun::open(bytes, &model.stamp).unwrap();
    run.verify_all().unwrap();
    assert_eq!(run.file().len(), bytes.len());
    let lists = model.lists();
    let events = u32::try_from(model.events.len()).unwrap();
    assert_eq!((run.events(), run.first_position()), (events, model.stamp.first_position));
    assert_eq!(run.terms() as usize, lists.len());
    assert_eq!(run.postings(), lists.values().map(|list| list.len() as u64).sum::<u64>());
    assert_eq!(run.streams_created(), model.streams_created());
    let mut expected = lists.iter();
    for term in run.all_terms() {
        let (hash, kind_code, postings) = term.unwrap();
        let (key, list) = expected.next().unwrap();
        assert_eq!((hash, kind_code), (key.0, key.1.code()));
        assert_eq!(postings.len() as usize, list.len());
    }
    assert!(expected.next().is_none());
    for ((hash, kind), list) in &lists {
        check_list(run.find(*hash, *kind).unwrap().unwrap(), list, rng);
    }
    for _ in 0..200 {
        let key = (TermHash(rng.u64(..)), TermKind::from_code(rng.u8(1..=6)).unwrap());
        assert!(run.find(key.0, key.1).unwrap().is_none() || lists.contains_key(&key));
    }
    for (hash, kind) in lists.keys() {
        let other = TermKind::from_code(kind.code() % 6 + 1).unwrap();
        assert_eq!(run.find(*hash, other).unwrap().is_some(), lists.contains_key(&(*hash, other)));
    }
    check_ids(&run, model, rng);
}

fn check_list(found: SealedPostings<'_>, list: &[u32], rng: &mut fastrand::Rng) {
    let len = u32::try_from(list.len()).unwrap();
    assert_eq!(found.len(), len);
    let all = |range: &mut dyn Iterator<Item = Result<u32, _>>| -> Vec<u32> {
        range.map(Result::unwrap).collect()
    };
    assert_eq!(all(&mut found.forward(0)), list);
    let from = rng.u32(..len + 2);
    let skipped = (from as usize).min(list.len());
    assert_eq!(all(&mut found.forward(from)), &list[skipped..]);
    let taken = (from as usize + 1).min(list.len());
    assert!(all(&mut found.backward(from)).iter().eq(list[..taken].iter().rev()));
    for i in [0, rng.u32(..len), len - 1] {
        assert_eq!(found.get(i), Ok(Some(list[i as usize])));
    }
    assert_eq!((found.get(len), found.get(u32::MAX)), (Ok(None), Ok(None)));
    // From both ends by turns, up to where they meet.
    let (a, b) = (rng.u32(..=len), rng.u32(..=len));
    let mut expected = list[a.min(b) as usize..a.max(b) as usize].iter().copied();
    let mut range: SealedRange<'_> = found.range(a.min(b)..a.max(b));
    for _ in 0..300.min(expected.len() + 1) {
        if rng.bool() {
            assert_eq!(range.next().transpose().unwrap(), expected.next());
        } else {
            assert_eq!(range.next_back().transpose().unwrap(), expected.next_back());
        }
    }
    assert_eq!(all(&mut range), expected.collect::<Vec<_>>());
    let below = |ordinal| u32::try_from(list.partition_point(|posting| *posting < ordinal));
    let places = (0..list.len()).filter(|i| i % 128 < 2 || i % 128 > 126 || i % 37 == 0);
    for i in places {
        for ordinal in [list[i].saturating_sub(1), list[i], list[i] + 1] {
            assert_eq!(found.lower_bound(ordinal), Ok(below(ordinal).unwrap()));
        }
    }
    assert_eq!(found.lower_bound(0), Ok(0));
    assert_eq!(found.lower_bound(u32::MAX), Ok(len));
}

fn check_ids(run: &TermRun<&[u8]>, model: &Model<'_>, rng: &mut fastrand::Rng) {
    for (ordinal, event) in (0..).zip(model.events) {
        let found: Vec<u32> = run.find_id(event.id).unwrap().map(Result::unwrap).collect();
        assert!(found.contains(&ordinal), "the id of event {ordinal}");
        assert!(found.is_sorted() && found.len() < 3, "{found:?}");
    }
    let mut candidates = 0;
    for _ in 0..1000 {
        let mut id = [0; 16];
        rng.fill(&mut id);
        // Half of them lie between the least and the greatest.
        if let Some(event) = rng.choice(model.events)
            && rng.bool()
        {
            id[..4].copy_from_slice(&event.id[..4]);
        }
        if model.events.iter().all(|event| event.id != id) {
            candidates += run.find_id(id).unwrap().count();
        }
    }
    assert!(candidates < 10, "{candidates} of 1000 absent ids");
}
