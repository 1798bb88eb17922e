//! The live and the sealed index give what the model gives.

use super::*;

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
            assert_eq!(live.offset(ordinal), Some(event.offset));
        }
        assert_eq!(live.offset(live.events()), None);
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
fn the_sealed_index_gives_each_event_and_each_stream_as_the_model_has_them() {
    for_each_model(3, |model, rng| {
        let bytes = model.sealed_bytes();
        assert!(bytes.len().is_multiple_of(crate::limits::BLOCK_BYTES));
        let index = SealedIndex::open(&bytes[..], &model.stamp()).unwrap();
        index.verify_all().unwrap();
        assert_eq!(index.events() as usize, model.events.len());
        assert_eq!(index.terms() as usize, model.streams.len());
        assert_eq!(index.first_position(), model.stamp().first_position);
        let created = model.streams.values().filter(|(_, first, _)| *first == 0).count();
        assert_eq!(index.streams_created(), created as u64);
        for (ordinal, event) in (0..).zip(&model.events) {
            assert_eq!(index.offset(ordinal), Ok(Some(event.offset)));
        }
        assert_eq!(index.offset(index.events()), Ok(None));
        let (a, b) = (some_ordinal(model, rng), some_ordinal(model, rng));
        let range = (a as usize).min(model.events.len())..(b as usize).min(model.events.len());
        let expected = model.events.get(range).unwrap_or_default();
        assert!(index.offsets(a..b).unwrap().eq(expected.iter().map(|event| event.offset)));
        for (name, (hash, first_version, ordinals)) in &model.streams {
            let found = model.find(&index, *hash, name).unwrap().unwrap();
            let len = u32::try_from(ordinals.len()).unwrap();
            assert_eq!((found.first_version(), found.len()), (*first_version, len));
            let i = rng.u32(..len);
            assert_eq!(found.get(i), Ok(Some(ordinals[i as usize])));
            assert_eq!(found.get(len), Ok(None));
            let from = rng.u32(..len + 2);
            let skipped = (from as usize).min(ordinals.len());
            let forward: Result<Vec<_>, _> = found.forward(from).collect();
            assert_eq!(forward.unwrap(), &ordinals[skipped..]);
            let taken = (from as usize + 1).min(ordinals.len());
            let backward: Result<Vec<_>, _> = found.backward(from).collect();
            assert!(backward.unwrap().iter().eq(ordinals[..taken].iter().rev()));
            let below = some_ordinal(model, rng);
            assert_eq!(found.visible(below), Ok(count_below(ordinals, below)));
        }
        let absent = Term::stream(b"absent");
        assert!(model.find(&index, absent.xxh3_64(), b"absent").unwrap().is_none());
        assert!(model.find(&index, TermHash(u64::MAX), b"absent").unwrap().is_none());
        let types: Result<Vec<_>, _> = index.types().collect();
        assert_eq!(types.unwrap(), TYPES);
        assert_eq!(index.event_type(2), Ok(Some(TYPES[2])));
        assert_eq!(index.event_type(3), Ok(None));
    });
}

#[test]
fn sealing_and_rebuilding_give_the_same_bytes() {
    for_each_model(1, |model, _| {
        let mut builder = IndexBuilder::new(model.stamp(), SEGMENT_BYTES);
        for event in &model.events {
            let ordinal = builder.event(event.offset).unwrap();
            let term = Term::stream(&event.stream);
            builder.posting(event.hash, term, ordinal, event.version).unwrap();
        }
        for (type_ref, event_type) in (0..).zip(TYPES) {
            assert_eq!(builder.event_type(event_type), Ok(type_ref));
        }
        assert!(builder.finish().unwrap() == model.sealed_bytes());
    });
}

#[test]
fn sealing_takes_no_event_behind_the_stamp() {
    let mut rng = fastrand::Rng::with_seed(11);
    let shape = Shape { events: 2000, streams: 300, hashes: 0 };
    let mut model = Model::draw(shape, &mut rng);
    let (_, live) = model.live();
    model.events.truncate(700);
    for (_, _, ordinals) in model.streams.values_mut() {
        ordinals.retain(|ordinal| *ordinal < 700);
    }
    let bytes = seal(&live, &model.stamp(), &TYPES).unwrap();
    assert!(bytes == model.sealed_bytes());
    SealedIndex::open(&bytes[..], &model.stamp()).unwrap().verify_all().unwrap();
}

#[test]
fn a_rebuild_from_a_log_that_contradicts_itself_is_refused() {
    let stamp = Stamp { events: 2, ..Model::default().stamp() };
    let term = Term::stream(b"a");
    let hash = term.xxh3_64();
    let mut builder = IndexBuilder::new(stamp, SEGMENT_BYTES);
    builder.event(1).unwrap();
    builder.posting(hash, term, 0, 5).unwrap();
    let order = Err(BuildError::Order { ordinal: 1 });
    assert_eq!(builder.posting(hash, term, 1, 6), order, "not added yet");
    builder.event(2).unwrap();
    let version = BuildError::Version { ordinal: 1, version: 7, expected: 6 };
    assert_eq!(builder.posting(hash, term, 1, 7), Err(version));
    builder.posting(hash, term, 1, 6).unwrap();
    assert_eq!(builder.posting(hash, term, 1, 7), order, "the event has the term already");
    builder.event(3).unwrap();
    let given = BuildError::Events { stamped: 2, given: 3 };
    assert_eq!(builder.finish(), Err(given));
}

#[test]
fn a_rebuild_takes_no_more_events_than_a_segment_holds() {
    let segment_bytes = SEGMENT_HEAD_BYTES + 10 * FRAME_BYTES_MIN;
    let mut builder = IndexBuilder::new(Model::default().stamp(), segment_bytes);
    for offset in 0..10 {
        builder.event(offset).unwrap();
    }
    assert_eq!(builder.event(10), Err(BuildError::TooManyEvents { max: 10 }));
}

#[test]
fn the_smallest_frames_with_the_worst_lists_fit_into_a_segment() {
    // Two postings a stream waste most of their chunks; one stream for all reaches the highest level.
    for streams in [1, 2, 3, 7] {
        let (mut writer, live) = LiveIndex::new(SEGMENT_BYTES);
        let events = events_max(SEGMENT_BYTES);
        for event in 0..events {
            let ordinal = writer.push_event(0);
            let name = if streams == 2 { event / 2 } else { event % streams };
            let name = name.to_le_bytes();
            let term = Term::stream(&name);
            let hash = term.xxh3_64();
            match writer.find(hash, term) {
                Some(id) => writer.append(id, ordinal),
                None => drop(writer.create(hash, term, ordinal, 0)),
            }
        }
        assert_eq!(u64::from(live.events()), events);
    }
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "ordinal 0 is not behind the last"))]
fn a_posting_that_does_not_increase_is_refused() {
    let (mut writer, _) = LiveIndex::new(SEGMENT_BYTES);
    let ordinal = writer.push_event(0);
    let term = Term::stream(b"a");
    writer.insert(term.xxh3_64(), term, ordinal, 0);
    writer.insert(term.xxh3_64(), term, ordinal, 1);
}
