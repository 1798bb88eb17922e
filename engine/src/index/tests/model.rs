//! The live index gives what the model gives.

use super::*;
use crate::limits::{APPEND_EVENTS_MAX, APPEND_TAGS_MAX};

const SHAPES: [Shape; 7] = [
    Shape { events: 0, streams: 1, hashes: 0 },
    Shape { events: 1, streams: 1, hashes: 0 },
    Shape { events: 3000, streams: 1, hashes: 0 },
    Shape { events: 3000, streams: 40, hashes: 0 },
    Shape { events: 3000, streams: 3000, hashes: 0 },
    Shape { events: 2000, streams: 200, hashes: 1 },
    Shape { events: 2000, streams: 200, hashes: 17 },
];

fn for_each_model(rounds: u64, check: impl Fn(&Model, &mut fastrand::Rng)) {
    for shape in SHAPES {
        for round in 0..rounds {
            let seed = shape.events as u64 * 31 + shape.streams as u64 * 7 + round;
            eprintln!("seed {seed}: {} events, {} streams", shape.events, shape.streams);
            let mut rng = fastrand::Rng::with_seed(seed);
            let model = Model::draw(Shape { events: shape.events, ..shape }, &mut rng);
            check(&model, &mut rng);
        }
    }
}

fn some_ordinal(model: &Model, rng: &mut fastrand::Rng) -> u32 {
    rng.u32(..=u32::try_from(model.events.len()).unwrap() + 3)
}

fn count_below(ordinals: &[u32], below: u32) -> u32 {
    u32::try_from(ordinals.partition_point(|ordinal| *ordinal < below)).unwrap()
}

#[test]
fn the_live_index_gives_each_event_and_each_stream_as_the_model_has_them() {
    for_each_model(3, |model, rng| {
        let (writer, live) = model.live();
        assert_eq!(live.events() as usize, model.events.len());
        for (ordinal, event) in (0..).zip(&model.events) {
            assert_eq!(live.extent(ordinal), Some(event.offset.into()));
        }
        assert_eq!(live.extent(live.events()), None);
        for (name, (hash, first_version, ordinals)) in &model.streams {
            let term = Term::stream(name);
            let found = live.lookup(*hash, term).unwrap();
            let len = u32::try_from(ordinals.len()).unwrap();
            let head = Head { first_version: *first_version, count: len };
            assert_eq!(writer.lookup(*hash, term), Some(head));
            assert_eq!(writer.find(*hash, term).map(|id| writer.head(id)), Some(head));
            assert_eq!((found.first_version(), found.len()), (*first_version, len));
            for (i, ordinal) in (0..).zip(ordinals) {
                assert_eq!(found.get(i), Some(*ordinal));
            }
            assert_eq!(found.get(len), None);
            let from = rng.u32(..len + 2);
            let skipped = (from as usize).min(ordinals.len());
            assert!(found.forward(from).eq(ordinals[skipped..].iter().copied()));
            let taken = (from as usize + 1).min(ordinals.len());
            assert!(found.backward(from).eq(ordinals[..taken].iter().rev().copied()));
            let below = some_ordinal(model, rng);
            let visible = count_below(ordinals, below);
            assert_eq!(found.visible(below), visible);
            let clipped = found.below(below);
            assert_eq!(clipped.get(visible), None);
            assert!(clipped.forward(0).eq(ordinals[..visible as usize].iter().copied()));
            assert!(clipped.backward(u32::MAX).eq(clipped.forward(0).rev()));
        }
        let absent = Term::stream(b"absent");
        for hash in [absent.xxh3_64(), TermHash(0), TermHash(u64::MAX)] {
            assert!(live.lookup(hash, absent).is_none());
        }
    });
}

#[test]
fn the_smallest_frames_with_the_worst_lists_fit_into_a_segment() {
    // Two postings a stream waste most of their chunks; one stream for all reaches the highest level.
    for streams in [1, 2, 3, 7] {
        let (mut writer, live) = LiveIndex::new(LiveRoom::for_all_of(SEGMENT_BYTES));
        let events = events_max(SEGMENT_BYTES);
        for event in 0..events {
            let ordinal = writer.push_event(0);
            let name = if streams == 2 { event / 2 } else { event % streams };
            let name = name.to_le_bytes();
            let term = Term::stream(&name);
            let hash = term.xxh3_64();
            match writer.find(hash, term) {
                Some(id) => writer.append(id, ordinal..ordinal + 1),
                None => drop(writer.create(hash, term, ordinal, 0)),
            }
        }
        assert_eq!(u64::from(live.events()), events);
    }
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "ordinal 0 is not behind the last"))]
fn a_posting_that_does_not_increase_is_refused() {
    let (mut writer, _) = LiveIndex::new(LiveRoom::for_all_of(SEGMENT_BYTES));
    let ordinal = writer.push_event(0);
    let term = Term::stream(b"a");
    writer.insert(term.xxh3_64(), term, ordinal, 0);
    writer.insert(term.xxh3_64(), term, ordinal, 1);
}

#[test]
fn an_event_is_found_by_each_of_its_terms_and_by_its_id() {
    let (mut writer, live) = LiveIndex::new(LiveRoom::for_all_of(SEGMENT_BYTES));
    let ids: Vec<TermHash> = (0..100_u128).map(|n| Term::id(&n.to_le_bytes()).xxh3_64()).collect();
    for (ordinal, id) in (0..).zip(&ids) {
        assert_eq!(writer.push_event(ordinal.into()), ordinal);
        let category = if ordinal % 10 < 7 { b"a" } else { b"b" };
        writer.enter_category(Term::category(category).xxh3_64(), category, ordinal..ordinal + 1);
        // Two types of one name are one term.
        let name: &[u8] = if ordinal % 3 == 2 { b"two" } else { b"one" };
        writer.enter_type(ordinal % 3, name, ordinal..ordinal + 1);
        if ordinal % 2 == 0 {
            writer.enter_tag(Term::tag(b"a").xxh3_64(), ordinal);
        }
        writer.enter_ids([*id]);
    }
    let check = |term: Term<'_>, has: &dyn Fn(u32) -> bool| {
        let found = live.lookup(term.xxh3_64(), term).unwrap();
        assert!(found.forward(0).eq((0..100).filter(|ordinal| has(*ordinal))), "{term:?}");
    };
    check(Term::category(b"a"), &|ordinal| ordinal % 10 < 7);
    check(Term::category(b"b"), &|ordinal| ordinal % 10 >= 7);
    check(Term::event_type(b"one"), &|ordinal| ordinal % 3 < 2);
    check(Term::event_type(b"two"), &|ordinal| ordinal % 3 == 2);
    check(Term::tag(b"a"), &|ordinal| ordinal % 2 == 0);
    assert!(live.lookup(Term::stream(b"a").xxh3_64(), Term::stream(b"a")).is_none());
    for (ordinal, id) in (0..).zip(&ids) {
        assert!(live.ids(*id).any(|found| found == ordinal));
    }
}

#[test]
fn an_index_is_full_by_what_it_takes_and_has_room_for_the_largest_append_then() {
    const BYTES_MAX: u64 = 1 << 20;
    let (mut writer, live) = LiveIndex::new(LiveRoom::bounded(SEGMENT_BYTES_MAX, BYTES_MAX));
    let mut number = 0_u64;
    let mut add = |writer: &mut LiveWriter| {
        let ordinal = writer.push_event(0);
        // Longer than what stands in an entry, so that the names count too.
        let name = format!("a name that is rather long, and the number {number}");
        let term = Term::event_type(name.as_bytes());
        writer.enter(term.xxh3_64(), term, ordinal..ordinal + 1);
        number += 1;
    };
    while !writer.is_full() {
        add(&mut writer);
    }
    let taken = writer.bytes();
    assert!((BYTES_MAX..BYTES_MAX + 200).contains(&taken), "{taken}");
    let ordinal = writer.push_event(0);
    let most = APPEND_EVENTS_MAX as u64 * PLAIN_TERMS_MAX;
    for number in 0_u64..most {
        let name = number.to_le_bytes();
        let term = Term::event_type(&name);
        writer.enter(term.xxh3_64(), term, ordinal..ordinal + 1);
    }
    for number in 0..APPEND_TAGS_MAX as u64 {
        writer.enter_tag(TermHash(number), ordinal);
    }
    assert!(u64::from(live.events()) > 1);
    // Somebody looks for one of them, which takes memory too.
    let taken = writer.bytes();
    assert!(live.lookup(TermHash(1), Term::tag(b"a")).is_some());
    assert!(writer.bytes() > taken);
    writer.bound(u64::MAX);
    assert!(!writer.is_full());
}

#[test]
fn many_lists_that_double_at_once_fit_into_an_index_that_is_not_full() {
    const SHARE: u64 = 32 << 20;
    for count in [1, 2, 3, 4] {
        let (mut writer, live) = LiveIndex::new(LiveRoom::bounded(64 << 20, SHARE));
        let names: Vec<[u8; 4]> = (0..count).map(u32::to_le_bytes).collect();
        let terms = names.iter().map(|name| Term::event_type(name));
        let ids: Vec<_> = terms.map(|term| (term.xxh3_64(), term)).collect();
        let most = events_max(64 << 20);
        while !writer.is_full() && u64::from(live.events()) < most {
            let ordinal = writer.push_event(0);
            for (hash, term) in &ids {
                writer.enter(*hash, *term, ordinal..ordinal + 1);
            }
        }
        assert!(live.events() > 60_000, "{count} terms: {}", live.events());
    }
}
