//! A run gives what the model gives.

use super::super::records::{COUNT_MAX, IdEntry};
use super::super::run_writer::{Figures, RunWriter};
use super::super::write::into_memory;
use super::*;

const SHAPES: [Shape; 8] = [
    Shape { events: 0, streams: 1, hashes: 0 },
    Shape { events: 1, streams: 1, hashes: 0 },
    Shape { events: 3000, streams: 1, hashes: 0 },
    Shape { events: 3000, streams: 40, hashes: 0 },
    Shape { events: 3000, streams: 3000, hashes: 0 },
    Shape { events: 2000, streams: 200, hashes: 1 },
    Shape { events: 2000, streams: 200, hashes: 2 },
    Shape { events: 2000, streams: 200, hashes: 17 },
];

#[test]
fn a_run_gives_each_term_and_each_id_as_the_model_has_them() {
    for shape in SHAPES {
        for round in 0..3 {
            let seed = shape.events as u64 * 31 + shape.streams as u64 * 7 + round;
            eprintln!("seed {seed}: {} events, {} streams", shape.events, shape.streams);
            let mut rng = fastrand::Rng::with_seed(seed);
            let log = draw(shape, &mut rng);
            let model = whole(&log);
            check_run(&model.run_bytes(), &model, &mut rng);
        }
    }
}

/// Events that have just these terms, each in the events of its list.
pub(super) fn log_of_lists(events: u32, lists: &[Vec<u32>]) -> Vec<ModelEvent> {
    let mut log: Vec<_> = (0..events)
        .map(|ordinal| {
            let mut id = [0; 16];
            id[12..].copy_from_slice(&ordinal.to_be_bytes());
            ModelEvent { id, version: 1, terms: Vec::new() }
        })
        .collect();
    for (number, list) in (0_u32..).zip(lists) {
        let bytes = number.to_le_bytes().to_vec();
        let hash = Term::tag(&bytes).xxh3_64();
        for ordinal in list {
            log[*ordinal as usize].terms.push((hash, TermKind::Tag, bytes.clone()));
        }
    }
    log
}

/// Lists of all lengths that matter: neighbours at the start and at the end, and scattered ones.
pub(super) fn lists_of_all_lengths(events: u32, rng: &mut fastrand::Rng) -> Vec<Vec<u32>> {
    let mut lists = Vec::new();
    for len in [1, 2, 3, 127, 128, 129, 255, 256, 257, 1000, 100_000] {
        lists.push((0..len.min(events)).collect());
        lists.push((events.saturating_sub(len)..events).collect());
        let all: Vec<u32> = (0..events).collect();
        let mut list = rng.choose_multiple(all, len.min(events / 2).max(1) as usize);
        list.sort_unstable();
        lists.push(list);
    }
    lists
}

#[test]
fn a_list_of_every_length_is_read_as_it_was_written() {
    let mut rng = fastrand::Rng::with_seed(5);
    let log = log_of_lists(110_000, &lists_of_all_lengths(110_000, &mut rng));
    let model = whole(&log);
    let bytes = model.run_bytes();
    let run = TermRun::open(&bytes[..], &model.stamp).unwrap();
    run.verify_all().unwrap();
    for ((hash, kind), list) in model.lists() {
        check_list(run.find(hash, kind).unwrap().unwrap(), &list, &mut rng);
    }
}

#[test]
fn neighbours_take_next_to_nothing() {
    let bytes = |step: u32| {
        let list = (0..100_000).filter(|ordinal| ordinal % step == 0).collect();
        let log = log_of_lists(100_000, &[list]);
        whole(&log).run_bytes().len()
    };
    let without = bytes(200_000);
    // A skip point and a byte for each block; every other event takes a bit more.
    assert!(bytes(1) - without < 100_000 / 128 * 9 + 2 * PAGE_BYTES);
    assert!(bytes(2) - without < 50_000 / 128 * (9 + 16) + 2 * PAGE_BYTES);
}

#[test]
fn a_list_that_its_entry_cannot_count_says_itself_how_long_it_is() {
    let events = COUNT_MAX + 200;
    let lists = [(COUNT_MAX - 1, 0..COUNT_MAX - 1), (COUNT_MAX, 150..COUNT_MAX + 150)];
    let lists = lists.into_iter().chain([(events, 0..events), (2, 7..9)]);
    let stamp = Stamp { events: events.into(), ..whole(&[]).stamp };
    let mut file = Vec::new();
    let mut sink = into_memory::<()>(&mut file);
    let mut writer = RunWriter::new(&stamp, 4, &mut sink).unwrap();
    for (hash, (count, list)) in (0..).zip(lists.clone()) {
        let list = || list.clone().map(Ok::<_, ()>);
        writer.term(TermHash(hash), TermKind::Category.code(), count, list).unwrap();
    }
    for ordinal in 0..events {
        writer.id(IdEntry { key: ordinal / 3, ordinal }).unwrap();
    }
    let figures = Figures { streams_created: 0, least_id: [0; 16], greatest_id: [9; 16] };
    let bytes = writer.finish(&figures).unwrap();
    drop(sink);
    assert_eq!(bytes, file.len() as u64);
    let run = TermRun::open(&file[..], &stamp).unwrap();
    run.verify_all().unwrap();
    for (hash, (count, list)) in (0..).zip(lists) {
        let found = run.find(TermHash(hash), TermKind::Category).unwrap().unwrap();
        assert_eq!(found.len(), count);
        assert!(found.forward(0).map(Result::unwrap).eq(list.clone()));
        assert_eq!(found.get(count - 1), Ok(Some(list.end - 1)));
        assert_eq!(found.get(count), Ok(None));
        assert_eq!(found.lower_bound(list.start + count / 2), Ok(count / 2));
    }
}

#[test]
fn a_run_whose_sections_do_not_fit_into_32_bits_is_not_begun() {
    let begun = |events, terms| {
        let stamp = Stamp { events, ..whole(&[]).stamp };
        RunWriter::new(&stamp, terms, &mut |_, _: &[u8]| Ok::<_, ()>(())).is_some()
    };
    assert!(begun((1 << 29) - 1, (1 << 28) - 1));
    assert!(!begun(1 << 29, 0), "the ids");
    assert!(!begun(1 << 32, 0), "the ordinals");
    assert!(!begun(0, 1 << 28), "the dictionary");
    assert!(!begun(0, 1 << 32), "the number of terms");
}

#[test]
fn sealing_takes_no_event_behind_the_stamp() {
    let mut rng = fastrand::Rng::with_seed(11);
    let log = draw(Shape { events: 2000, streams: 300, hashes: 0 }, &mut rng);
    let model = part(&log, 0..700, 0..1);
    let bytes = seal_run(&live_of(&log).1, &model.stamp, model.ids()).unwrap();
    assert!(bytes == model.run_bytes());
    check_run(&bytes, &model, &mut rng);
}

#[test]
fn the_order_in_which_ids_are_given_does_not_matter() {
    let mut rng = fastrand::Rng::with_seed(12);
    let log = draw(Shape { events: 500, streams: 30, hashes: 0 }, &mut rng);
    let model = whole(&log);
    let mut ids = model.ids();
    rng.shuffle(&mut ids);
    assert!(seal_run(&live_of(&log).1, &model.stamp, ids).unwrap() == model.run_bytes());
}

#[test]
fn a_run_is_not_built_of_what_contradicts_the_stamp() {
    let log = draw(Shape { events: 10, streams: 3, hashes: 0 }, &mut fastrand::Rng::with_seed(1));
    let model = whole(&log);
    let live = live_of(&log).1;
    let sealed = |stamp: &Stamp, ids| seal_run(&live, stamp, ids).map(drop);
    let more = Stamp { events: 11, ..model.stamp };
    let events = Err(BuildError::Events { stamped: 11, given: 10 });
    assert_eq!(sealed(&more, model.ids()), events);
    let mut ids = model.ids();
    ids.pop();
    let events = Err(BuildError::Events { stamped: 10, given: 9 });
    assert_eq!(sealed(&model.stamp, ids.clone()), events);
    for ordinal in [3, 10, u32::MAX] {
        let mut ids = ids.clone();
        ids.push(([0; 16], ordinal));
        assert_eq!(sealed(&model.stamp, ids), Err(BuildError::Order { ordinal }));
    }
}

#[test]
fn an_id_outside_of_the_least_and_the_greatest_is_not_looked_for() {
    let log = log_of_lists(1000, &[]);
    let model = whole(&log);
    let mut bytes = model.run_bytes();
    // Nothing but the header is whole.
    bytes[PAGE_BYTES..].fill(0xff);
    let run = TermRun::open(&bytes[..], &model.stamp).unwrap();
    let above = 1000_u128.to_be_bytes();
    assert_eq!(run.find_id(above).unwrap().count(), 0);
    assert!(run.find_id(999_u128.to_be_bytes()).is_err());
}

#[test]
fn an_absent_term_is_known_by_one_block_of_the_filter() {
    let mut rng = fastrand::Rng::with_seed(8);
    let log = draw(Shape { events: 3000, streams: 3000, hashes: 0 }, &mut rng);
    let model = whole(&log);
    let bytes = model.run_bytes();
    let run = TermRun::open(&bytes[..], &model.stamp).unwrap();
    // All but the filter and the header is damaged, so that whoever looks further fails.
    let mut damaged = bytes.clone();
    let header = run.header().clone();
    let filter = header.section(layout::Section::Filter);
    let dictionary = header.section(layout::Section::Dictionary);
    damaged[PAGE_BYTES..filter.start].fill(0xff);
    damaged[dictionary.start..dictionary.end].fill(0xff);
    let damaged = TermRun::open(&damaged[..], &model.stamp).unwrap();
    let absent = 10_000;
    let further = (0..absent)
        .filter(|_| damaged.find(TermHash(rng.u64(..)), TermKind::Stream).is_err())
        .count();
    assert!(further * 50 < absent, "{further} of {absent}");
    for (hash, kind) in model.lists().keys() {
        assert!(damaged.find(*hash, *kind).is_err(), "a present term is missing in the filter");
    }
}
