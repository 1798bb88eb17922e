//! A table gives what the model gives.

use super::*;

/// A segment's events as plain lists.
pub(super) struct TableModel {
    pub(super) offsets: Vec<u32>,
    pub(super) times: Vec<i64>,
}

impl TableModel {
    pub(super) fn draw(events: usize, rng: &mut fastrand::Rng) -> Self {
        let (mut offset, mut time) = (768, -5000);
        let (mut offsets, mut times) = (Vec::new(), Vec::new());
        for _ in 0..events {
            offsets.push(offset);
            times.push(time);
            offset += rng.u32(5..40);
            // Many events have the time of the one before, as those of one append do.
            time += if rng.u8(..200) == 0 { rng.i64(1..1000) } else { 0 };
        }
        Self { offsets, times }
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp { events: self.offsets.len() as u64, ..whole(&[]).stamp }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let times = self.times.iter().step_by(TIMES_EVERY as usize).copied();
        table_file(&self.stamp(), self.offsets.iter().copied(), times, &TYPES).unwrap()
    }

    /// The first event that was recorded at or after the time.
    pub(super) fn first_at(&self, time: i64) -> u32 {
        u32::try_from(self.times.partition_point(|recorded| *recorded < time)).unwrap()
    }
}

const EVENTS: [usize; 8] = [0, 1, 255, 256, 257, 512, 3000, 5000];

#[test]
fn a_table_gives_each_offset_and_each_type_as_the_model_has_them() {
    for events in EVENTS {
        eprintln!("seed {events}");
        let mut rng = fastrand::Rng::with_seed(events as u64);
        let model = TableModel::draw(events, &mut rng);
        let bytes = model.bytes();
        assert!(bytes.len().is_multiple_of(PAGE_BYTES));
        let table = SegmentTable::open(&bytes[..], &model.stamp()).unwrap();
        table.verify_all().unwrap();
        assert_eq!(table.events() as usize, events);
        assert_eq!(table.file().len(), bytes.len());
        for (ordinal, offset) in (0..).zip(&model.offsets) {
            assert_eq!(table.offset(ordinal), Ok(Some(*offset)));
        }
        assert_eq!(table.offset(table.events()), Ok(None));
        let (a, b) = (rng.u32(..=table.events() + 3), rng.u32(..=table.events() + 3));
        let range = (a as usize).min(events)..(b as usize).min(events);
        let expected = model.offsets.get(range).unwrap_or_default();
        assert!(table.offsets(a..b).unwrap().eq(expected.iter().copied()));
        assert!(table.offsets(a..b).unwrap().rev().eq(expected.iter().rev().copied()));
        let types: Result<Vec<_>, _> = table.types().collect();
        assert_eq!((types.unwrap(), table.event_types()), (TYPES.to_vec(), 3));
    }
}

#[test]
fn the_first_event_of_a_time_lies_in_the_range_around_it_or_at_its_end() {
    for events in EVENTS {
        eprintln!("seed {events}");
        let model = TableModel::draw(events, &mut fastrand::Rng::with_seed(events as u64));
        let bytes = model.bytes();
        let table = SegmentTable::open(&bytes[..], &model.stamp()).unwrap();
        let each = model.times.iter().flat_map(|time| [time - 1, *time, time + 1]);
        for time in each.chain([i64::MIN, i64::MAX]) {
            let (around, first) = (table.around(time).unwrap(), model.first_at(time));
            assert!(around.start <= first && first <= around.end, "{first} in {around:?}");
            assert!(around.len() < TIMES_EVERY as usize);
            assert!(around.end as usize <= events);
        }
    }
}

#[test]
fn a_time_that_the_table_has_needs_no_search() {
    let offsets = 0..1000_u32;
    let times = [10, 20, 20, 30];
    let stamp = Stamp { events: 1000, ..whole(&[]).stamp };
    let bytes = table_file(&stamp, offsets, times.into_iter(), &[]).unwrap();
    let table = SegmentTable::open(&bytes[..], &stamp).unwrap();
    assert_eq!(table.around(10), Ok(0..0));
    assert_eq!(table.around(20), Ok(1..256));
    assert_eq!(table.around(21), Ok(513..768));
    assert_eq!(table.around(31), Ok(769..1000));
    assert_eq!(table.types().count(), 0);
}

#[test]
fn a_table_is_not_built_of_what_contradicts_itself() {
    let stamp = Stamp { events: 300, ..whole(&[]).stamp };
    let build = |events: u32, times: &[i64], types: &[EventType<'_>]| {
        table_file(&stamp, 0..events, times.iter().copied(), types).map(drop)
    };
    assert_eq!(build(300, &[1, 1], &TYPES), Ok(()));
    let events = BuildError::Events { stamped: 300, given: 299 };
    assert_eq!(build(299, &[1, 1], &TYPES), Err(events));
    let times = |given| Err(BuildError::Times { expected: 2, given });
    assert_eq!(build(300, &[1], &TYPES), times(1));
    assert_eq!(build(300, &[1, 2, 3], &TYPES), times(3));
    assert_eq!(build(300, &[2, 1], &TYPES), Err(BuildError::TimeOrder { ordinal: 256 }));
    let name = "x".repeat(257);
    let long = EventType { schema_version: 1, fingerprint: 1, name: &name };
    let type_name = BuildError::TypeName { type_ref: 1, bytes: 257 };
    assert_eq!(build(300, &[1, 1], &[TYPES[0], long]), Err(type_name));
    let max = crate::limits::SEGMENT_TYPES_MAX;
    let many = vec![TYPES[0]; max + 1];
    assert_eq!(build(300, &[1, 1], &many), Err(BuildError::TooManyTypes { max }));
    let max = crate::index::SEGMENT_EVENTS_MAX;
    let stamp = Stamp { events: max + 1, ..stamp };
    let offsets = 0..u32::try_from(max + 1).unwrap();
    let refused = table_file(&stamp, offsets, std::iter::empty(), &[]).map(drop);
    assert_eq!(refused, Err(BuildError::TooManyEvents { max }));
}
