//! A damaged file gives an error or the right answer, never a wrong one and never a panic.

use super::super::layout::{CHECKSUM_BYTES, Content, Header, Section};
use super::super::pages::PageSeed;
use super::table::TableModel;
use super::*;
use crate::index::IndexDamage;
use crate::limits::SECTOR_BYTES;

fn log() -> Vec<ModelEvent> {
    draw(Shape { events: 5000, streams: 900, hashes: 0 }, &mut fastrand::Rng::with_seed(3))
}

fn table_model() -> TableModel {
    TableModel::draw(5000, &mut fastrand::Rng::with_seed(3))
}

/// Asks a run for everything and compares what is answered; counts the answers that were errors.
fn check_run_answers(
    file: &[u8],
    model: &Model<'_>,
    lists: &BTreeMap<Key, Vec<u32>>,
    rng: &mut fastrand::Rng,
) -> usize {
    let Ok(run) = TermRun::open(file, &model.stamp) else { return 1 };
    let mut errors = 0;
    let mut seen = |is_error: bool| errors += usize::from(is_error);
    assert_eq!((run.terms() as usize, run.events() as usize), (lists.len(), model.events.len()));
    for ((hash, kind), list) in lists {
        let answer = run.find(*hash, *kind);
        seen(answer.is_err());
        let Ok(found) = answer else { continue };
        let found = found.expect("a present term is found or its page is damaged");
        assert_eq!(found.len() as usize, list.len());
        let all: Result<Vec<_>, _> = found.forward(0).collect();
        seen(all.is_err());
        assert!(all.is_err() || all.as_ref() == Ok(list));
        let i = rng.u32(..found.len());
        let one = found.get(i);
        seen(one.is_err());
        assert!(one.is_err() || one == Ok(Some(list[i as usize])));
        let ordinal = rng.u32(..5000);
        let below = found.lower_bound(ordinal);
        seen(below.is_err());
        let expected = list.partition_point(|posting| *posting < ordinal);
        assert!(below.is_err() || below.is_ok_and(|below| below as usize == expected));
    }
    for _ in 0..50 {
        let answer = run.find(TermHash(rng.u64(..)), TermKind::Stream);
        seen(answer.is_err());
        assert!(answer.is_err() || answer.is_ok_and(|found| found.is_none()));
    }
    for (ordinal, event) in (0..).zip(model.events) {
        let answer: Result<Vec<_>, _> = run.find_id(event.id).and_then(Iterator::collect);
        seen(answer.is_err());
        assert!(answer.is_err() || answer.is_ok_and(|found| found == [ordinal]));
    }
    errors
}

fn check_table_answers(file: &[u8], model: &TableModel, rng: &mut fastrand::Rng) -> usize {
    let Ok(table) = SegmentTable::open(file, &model.stamp()) else { return 1 };
    let mut errors = 0;
    let mut seen = |is_error: bool| errors += usize::from(is_error);
    for (ordinal, offset) in (0..).zip(&model.offsets) {
        let answer = table.offset(ordinal);
        seen(answer.is_err());
        assert!(answer.is_err() || answer == Ok(Some(*offset)));
    }
    match table.offsets(0..u32::MAX) {
        Ok(offsets) => assert!(offsets.eq(model.offsets.iter().copied())),
        Err(_) => seen(true),
    }
    for _ in 0..20 {
        let time = *rng.choice(&model.times).unwrap();
        let (answer, first) = (table.around(time), model.first_at(time));
        seen(answer.is_err());
        assert!(
            answer.is_err() || answer.is_ok_and(|range| range.start <= first && first <= range.end)
        );
    }
    for (answer, event_type) in table.types().zip(TYPES) {
        seen(answer.is_err());
        assert!(answer.is_err() || answer == Ok(event_type));
    }
    errors
}

/// One random damage; nothing where it happened to change nothing.
fn damage(whole: &[u8], rng: &mut fastrand::Rng) -> Option<Vec<u8>> {
    let mut file = whole.to_vec();
    let pages = file.len() / PAGE_BYTES;
    match rng.u8(..7) {
        0..3 => {
            let at = rng.usize(..file.len());
            file[at] ^= 1 << rng.u8(..8);
        }
        3 => {
            let sector = rng.usize(..file.len() / SECTOR_BYTES) * SECTOR_BYTES;
            file[sector..sector + SECTOR_BYTES].fill(0);
        }
        4 => {
            let page = rng.usize(..pages) * PAGE_BYTES;
            file[page..page + PAGE_BYTES].fill(0);
        }
        5 => {
            let (a, b) = (rng.usize(..pages) * PAGE_BYTES, rng.usize(..pages) * PAGE_BYTES);
            for i in 0..PAGE_BYTES {
                file.swap(a + i, b + i);
            }
        }
        _ => file.truncate(rng.usize(..file.len())),
    }
    (file != whole).then_some(file)
}

#[test]
fn a_damaged_run_never_gives_a_wrong_answer() {
    let log = log();
    let model = whole(&log);
    let lists = model.lists();
    let file = model.run_bytes();
    assert_eq!(check_run_answers(&file, &model, &lists, &mut fastrand::Rng::with_seed(0)), 0);
    for seed in 0..1000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let Some(damaged) = damage(&file, &mut rng) else { continue };
        eprintln!("seed {seed}");
        check_run_answers(&damaged, &model, &lists, &mut rng);
        let run = TermRun::open(&damaged[..], &model.stamp);
        assert!(run.and_then(|run| run.verify_all()).is_err(), "the damage went unnoticed");
    }
}

#[test]
fn a_damaged_table_never_gives_a_wrong_answer() {
    let model = table_model();
    let file = model.bytes();
    assert_eq!(check_table_answers(&file, &model, &mut fastrand::Rng::with_seed(0)), 0);
    for seed in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let Some(damaged) = damage(&file, &mut rng) else { continue };
        eprintln!("seed {seed}");
        check_table_answers(&damaged, &model, &mut rng);
        let table = SegmentTable::open(&damaged[..], &model.stamp());
        assert!(table.and_then(|table| table.verify_all()).is_err(), "the damage went unnoticed");
    }
}

#[test]
fn nothing_follows_an_error_in_a_list() {
    let mut rng = fastrand::Rng::with_seed(4);
    // Each block takes 128 to 200 bytes, so that the list lies on many pages.
    let mut list = rng.choose_multiple(0..200_000, 100_000);
    list.sort_unstable();
    let log = run::log_of_lists(200_000, std::slice::from_ref(&list));
    let model = whole(&log);
    let mut file = model.run_bytes();
    let header = Header::parse(&file, Content::Run, &model.stamp).unwrap();
    let postings = header.section(Section::Postings);
    file[postings.start + postings.len() * 2 / 3] ^= 1;
    let run = TermRun::open(&file[..], &model.stamp).unwrap();
    let hash = Term::tag(&0_u32.to_le_bytes()).xxh3_64();
    let found = run.find(hash, TermKind::Tag).unwrap().unwrap();
    let mut forward = found.forward(0);
    let right = forward.by_ref().take_while(Result::is_ok).map(Result::unwrap);
    let right: Vec<_> = right.collect();
    assert!(!right.is_empty() && right.len() < list.len() && list.starts_with(&right));
    assert_eq!((forward.next(), forward.next_back()), (None, None));
    let mut backward = found.backward(u32::MAX);
    let right = backward.by_ref().take_while(Result::is_ok).map(Result::unwrap);
    let right: Vec<_> = right.collect();
    assert!(!right.is_empty() && right.len() < list.len());
    assert!(list.iter().rev().take(right.len()).eq(&right));
    assert_eq!(backward.next(), None);
}

/// Uses a run in all ways, whatever it answers.
fn use_run(run: &TermRun<&[u8]>, model: &Model<'_>) {
    for (_, _, list) in run.all_terms().flatten() {
        let _ = (list.get(list.len() / 2), list.lower_bound(2000));
        list.forward(0).for_each(drop);
        list.backward(u32::MAX).for_each(drop);
    }
    for event in model.events.iter().step_by(7) {
        for (hash, kind, _) in &event.terms {
            let _ = run.find(*hash, *kind);
        }
        let _ = run.find_id(event.id).map(Iterator::count);
    }
    let _ = run.verify_all();
    let stamp = Stamp { first_segment: 0, last_segment: 9, ..model.stamp };
    let _ = merge(&[run], &stamp, &|| Ok(()), &mut |_, _: &[u8]| Ok::<_, ()>(()));
}

fn use_table(table: &SegmentTable<&[u8]>) {
    for time in [i64::MIN, -4000, 0, i64::MAX] {
        let _ = table.around(time);
    }
    table.types().for_each(drop);
    let _ = table.verify_all();
}

#[test]
fn a_file_whose_checksums_match_its_nonsense_never_panics() {
    // Who can forge checksums can make the index say anything, but not crash the process.
    let log = log();
    let (model, table_model) = (whole(&log), table_model());
    let (run_bytes, table_bytes) = (model.run_bytes(), table_model.bytes());
    for seed in 0..500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        eprintln!("seed {seed}");
        let file = nonsense(&run_bytes, Content::Run, &model.stamp, &mut rng);
        use_run(&TermRun::open(&file[..], &model.stamp).unwrap(), &model);
        let file = nonsense(&table_bytes, Content::Table, &table_model.stamp(), &mut rng);
        use_table(&SegmentTable::open(&file[..], &table_model.stamp()).unwrap());
    }
}

/// A file with random bytes in it, few or many, and the checksums that they have.
fn nonsense(whole: &[u8], content: Content, stamp: &Stamp, rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut file = whole.to_vec();
    let header = Header::parse(whole, content, stamp).unwrap();
    for _ in 0..rng.usize(1..200) {
        let at = rng.usize(PAGE_BYTES..header.pages() * PAGE_BYTES);
        file[at] = rng.u8(..);
    }
    forge_checksums(&mut file, header);
    file
}

fn forge_checksums(file: &mut [u8], mut header: Header) {
    let seed = PageSeed::new(header.content, &header.stamp);
    let (content, table) = file.split_at_mut(header.pages() * PAGE_BYTES);
    for (page, bytes) in content.chunks(PAGE_BYTES).enumerate().skip(1) {
        let checksum = seed.crc32(u32::try_from(page).unwrap(), bytes);
        let at = page * CHECKSUM_BYTES;
        table[at..at + CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }
    header.checksum_table = seed.crc32(u32::try_from(header.pages()).unwrap(), table);
    file[..PAGE_BYTES].copy_from_slice(&header.to_page());
}

#[test]
fn what_contradicts_itself_under_checksums_that_match_is_noticed() {
    let log = log();
    let (model, table_model) = (whole(&log), table_model());
    let forged = |bytes: &[u8], content, stamp: &Stamp, change: &dyn Fn(&Header, &mut [u8])| {
        let mut file = bytes.to_vec();
        let header = Header::parse(bytes, content, stamp).unwrap();
        change(&header, &mut file);
        forge_checksums(&mut file, header);
        file
    };
    let sections = Content::Run.sections();
    for section in &sections[..sections.len() - 1] {
        // A high bit in the middle of a section, and its last byte.
        for half in [true, false] {
            let file = forged(&model.run_bytes(), Content::Run, &model.stamp, &|header, file| {
                let range = header.section(*section);
                let at = if half { range.start + range.len() / 2 } else { range.end - 1 };
                // Of a filter, a bit that is missing is what matters.
                file[at / 32 * 32..][..32].iter_mut().for_each(|byte| *byte = !*byte);
            });
            let run = TermRun::open(&file[..], &model.stamp).unwrap();
            assert!(run.verify_all().is_err(), "{}", section.name());
        }
    }
    let sections = Content::Table.sections();
    for section in &sections[..sections.len() - 1] {
        let stamp = table_model.stamp();
        let file = forged(&table_model.bytes(), Content::Table, &stamp, &|header, file| {
            let range = header.section(*section);
            file[range.start + range.len() / 2 / 8 * 8..][..8].reverse();
        });
        let table = SegmentTable::open(&file[..], &stamp).unwrap();
        assert!(table.verify_all().is_err(), "{}", section.name());
    }
}

#[test]
fn a_header_that_claims_what_cannot_be_is_refused() {
    let log = log();
    let (model, table_model) = (whole(&log), table_model());
    let (run_bytes, table_bytes) = (model.run_bytes(), table_model.bytes());
    for seed in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        eprintln!("seed {seed}");
        let at = rng.usize(88..264);
        let byte = rng.u8(..);
        let forged = |whole: &[u8]| {
            let mut file = whole.to_vec();
            file[at] = byte;
            let checksum = crc32fast::hash(&file[..PAGE_BYTES - 4]);
            file[PAGE_BYTES - 4..PAGE_BYTES].copy_from_slice(&checksum.to_le_bytes());
            file
        };
        let file = forged(&run_bytes);
        if let Ok(run) = TermRun::open(&file[..], &model.stamp) {
            use_run(&run, &model);
        }
        let file = forged(&table_bytes);
        if let Ok(table) = SegmentTable::open(&file[..], &table_model.stamp()) {
            use_table(&table);
        }
    }
}

#[test]
fn a_file_of_something_else_is_refused_by_the_field_that_differs() {
    let log = draw(Shape { events: 10, streams: 3, hashes: 0 }, &mut fastrand::Rng::with_seed(1));
    let model = whole(&log);
    let table_model = TableModel::draw(10, &mut fastrand::Rng::with_seed(1));
    let (run, table) = (model.run_bytes(), table_model.bytes());
    let stamp = model.stamp;
    assert_eq!(stamp, table_model.stamp());
    let others = [
        (Stamp { store_id: [0; 16], ..stamp }, "store id"),
        (Stamp { first_segment: 6, ..stamp }, "first segment"),
        (Stamp { last_segment: 6, ..stamp }, "last segment"),
        (Stamp { salt: 1, ..stamp }, "salt"),
        (Stamp { first_position: 1, ..stamp }, "first position"),
        (Stamp { events: 11, ..stamp }, "number of events"),
        (Stamp { chain: [0; 16], ..stamp }, "chain"),
    ];
    for (other, field) in others {
        let foreign = Err(IndexDamage::Foreign { field });
        assert_eq!(TermRun::open(&run[..], &other).map(drop), foreign);
        assert_eq!(SegmentTable::open(&table[..], &other).map(drop), foreign);
    }
    let foreign = Err(IndexDamage::Foreign { field: "content" });
    assert_eq!(TermRun::open(&table[..], &stamp).map(drop), foreign);
    assert_eq!(SegmentTable::open(&run[..], &stamp).map(drop), foreign);
}

#[test]
fn a_page_of_the_table_does_not_pass_as_one_of_the_run() {
    let log = draw(Shape { events: 10, streams: 3, hashes: 0 }, &mut fastrand::Rng::with_seed(1));
    let model = whole(&log);
    let table = TableModel::draw(10, &mut fastrand::Rng::with_seed(1)).bytes();
    let mut run = model.run_bytes();
    let checksums = Header::parse(&run, Content::Run, &model.stamp).unwrap().pages() * PAGE_BYTES;
    let of_table =
        Header::parse(&table, Content::Table, &model.stamp).unwrap().pages() * PAGE_BYTES;
    // The page with the checksum that it has in its own file.
    run[PAGE_BYTES..2 * PAGE_BYTES].copy_from_slice(&table[PAGE_BYTES..2 * PAGE_BYTES]);
    let mut header = Header::parse(&run, Content::Run, &model.stamp).unwrap();
    run[checksums + 4..checksums + 8].copy_from_slice(&table[of_table + 4..of_table + 8]);
    let seed = PageSeed::new(Content::Run, &model.stamp);
    header.checksum_table = seed.crc32(u32::try_from(header.pages()).unwrap(), &run[checksums..]);
    run[..PAGE_BYTES].copy_from_slice(&header.to_page());
    let run = TermRun::open(&run[..], &model.stamp).unwrap();
    assert_eq!(run.verify_all(), Err(IndexDamage::Page { page: 1 }));
}

#[test]
fn each_damage_is_called_what_it_is() {
    let model = table_model();
    let whole = model.bytes();
    let open = |file: &[u8]| SegmentTable::open(file, &model.stamp()).map(drop);
    let expected = whole.len() as u64;
    assert_eq!(open(&[]), Err(IndexDamage::Short { bytes: 0, expected: 4096 }));
    let bytes = expected - 1;
    assert_eq!(open(&whole[..whole.len() - 1]), Err(IndexDamage::Short { bytes, expected }));
    let changed = |at: usize| {
        let mut file = whole.clone();
        file[at] ^= 1;
        file
    };
    assert_eq!(open(&changed(0)), Err(IndexDamage::Magic));
    assert_eq!(open(&changed(8)), Err(IndexDamage::Version { found: 3, supported: 2 }));
    assert_eq!(open(&changed(500)), Err(IndexDamage::HeaderChecksum));
    let file = changed(PAGE_BYTES + 10);
    let table = SegmentTable::open(&file[..], &model.stamp()).unwrap();
    assert_eq!(table.offset(0), Err(IndexDamage::Page { page: 1 }));
    assert_eq!(table.offset(1024), Ok(Some(model.offsets[1024])));
    let file = changed(whole.len() - 1);
    let table = SegmentTable::open(&file[..], &model.stamp()).unwrap();
    assert_eq!(table.offset(0), Err(IndexDamage::ChecksumTable));
}
