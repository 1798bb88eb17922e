//! A damaged file gives an error or the right answer, never a wrong one and never a panic.

use super::*;
use crate::index::layout::{Header, PAGE_BYTES};
use crate::limits::SECTOR_BYTES;

fn model() -> Model {
    let shape = Shape { events: 5000, streams: 900, hashes: 0 };
    Model::draw(shape, &mut fastrand::Rng::with_seed(3))
}

/// Asks for everything and compares what is answered; counts the answers that were errors.
fn check_all_answers(file: &[u8], model: &Model, rng: &mut fastrand::Rng) -> usize {
    let Ok(index) = SealedIndex::open(file, &model.stamp()) else { return 1 };
    let mut errors = 0;
    let mut seen = |is_error: bool| errors += usize::from(is_error);
    for (ordinal, event) in (0..).zip(&model.events) {
        let answer = index.offset(ordinal);
        assert!(answer.is_err() || answer == Ok(Some(event.offset)));
        seen(answer.is_err());
    }
    match index.offsets(0..u32::MAX) {
        Ok(offsets) => assert!(offsets.eq(model.events.iter().map(|event| event.offset))),
        Err(_) => seen(true),
    }
    for (name, (hash, first_version, ordinals)) in &model.streams {
        let answer = model.find(&index, *hash, name);
        seen(answer.is_err());
        let Ok(found) = answer else { continue };
        let found = found.expect("a present term is found or its page is damaged");
        assert_eq!(found.first_version(), *first_version);
        assert_eq!(found.len() as usize, ordinals.len());
        let list: Result<Vec<_>, _> = found.forward(0).collect();
        seen(list.is_err());
        assert!(list.is_err() || list.as_ref() == Ok(ordinals));
        let i = rng.u32(..found.len());
        let one = found.get(i);
        seen(one.is_err());
        assert!(one.is_err() || one == Ok(Some(ordinals[i as usize])));
    }
    for _ in 0..50 {
        let name = rng.u64(..).to_le_bytes();
        let answer = model.find(&index, Term::stream(&name).xxh3_64(), &name);
        seen(answer.is_err());
        assert!(answer.is_err() || answer.is_ok_and(|found| found.is_none()));
    }
    for (type_ref, event_type) in (0..).zip(TYPES) {
        let answer = index.event_type(type_ref);
        seen(answer.is_err());
        assert!(answer.is_err() || answer == Ok(Some(event_type)));
    }
    errors
}

/// One random damage; nothing where it happened to change nothing.
fn damage(whole: &[u8], rng: &mut fastrand::Rng) -> Option<Vec<u8>> {
    let mut file = whole.to_vec();
    let pages = file.len() / PAGE_BYTES;
    match rng.u8(..6) {
        0..3 => {
            let at = rng.usize(..file.len());
            file[at] ^= 1 << rng.u8(..8);
        }
        3 => {
            let sector = rng.usize(..file.len() / SECTOR_BYTES) * SECTOR_BYTES;
            file[sector..sector + SECTOR_BYTES].fill(0);
        }
        4 => {
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
fn a_damaged_file_never_gives_a_wrong_answer() {
    let model = model();
    let whole = model.sealed_bytes();
    assert_eq!(check_all_answers(&whole, &model, &mut fastrand::Rng::with_seed(0)), 0);
    for seed in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let Some(file) = damage(&whole, &mut rng) else { continue };
        eprintln!("seed {seed}");
        check_all_answers(&file, &model, &mut rng);
        let index = SealedIndex::open(&file[..], &model.stamp());
        let verified = index.and_then(|index| index.verify_all());
        assert!(verified.is_err(), "the damage went unnoticed");
    }
}

#[test]
fn a_file_whose_checksums_match_its_nonsense_never_panics() {
    // Who can forge checksums can make the index say anything, but not crash the process.
    let model = model();
    let whole = model.sealed_bytes();
    let header = Header::parse(&whole, &model.stamp()).unwrap();
    let table = header.pages() * PAGE_BYTES;
    for seed in 0..500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut file = whole.clone();
        for _ in 0..rng.usize(1..200) {
            let at = rng.usize(PAGE_BYTES..table);
            file[at] = rng.u8(..);
        }
        forge_checksums(&mut file, header.clone());
        eprintln!("seed {seed}");
        let index = SealedIndex::open(&file[..], &model.stamp()).unwrap();
        for term in index.stream_terms().flatten() {
            let _ = (term.get(term.len() / 2), term.visible(2000));
            term.forward(0).for_each(drop);
            term.backward(u32::MAX).for_each(drop);
        }
        for (hash, ..) in model.streams.values() {
            let _ = index.lookup(*hash, TermKind::Stream).map(Iterator::count);
        }
        index.types().for_each(drop);
        let _ = index.verify_all();
    }
}

fn forge_checksums(file: &mut [u8], mut header: Header) {
    let seed = pages::PageSeed::new(&header.stamp);
    let (content, table) = file.split_at_mut(header.pages() * PAGE_BYTES);
    for (page, bytes) in content.chunks(PAGE_BYTES).enumerate().skip(1) {
        let checksum = seed.crc32(u32::try_from(page).unwrap(), bytes);
        table[page * 4..page * 4 + 4].copy_from_slice(&checksum.to_le_bytes());
    }
    header.checksum_table = seed.crc32(u32::try_from(header.pages()).unwrap(), table);
    file[..PAGE_BYTES].copy_from_slice(&header.to_page());
}

#[test]
fn a_header_that_claims_what_cannot_be_is_refused() {
    let model = model();
    let whole = model.sealed_bytes();
    for seed in 0..2000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut file = whole.clone();
        let at = rng.usize(104..228);
        file[at] = rng.u8(..);
        let checksum = crc32fast::hash(&file[..PAGE_BYTES - 4]);
        file[PAGE_BYTES - 4..PAGE_BYTES].copy_from_slice(&checksum.to_le_bytes());
        eprintln!("seed {seed}");
        if let Ok(index) = SealedIndex::open(&file[..], &model.stamp()) {
            let _ = index.verify_all();
            index.types().for_each(drop);
            index.stream_terms().for_each(drop);
        }
    }
}

#[test]
fn an_index_of_something_else_is_refused_by_the_field_that_differs() {
    let model =
        Model::draw(Shape { events: 10, streams: 3, hashes: 0 }, &mut fastrand::Rng::with_seed(1));
    let bytes = model.sealed_bytes();
    let stamp = model.stamp();
    let others = [
        (Stamp { store_id: [0; 16], ..stamp }, "store id"),
        (Stamp { segment: 6, ..stamp }, "segment number"),
        (Stamp { salt: 1, ..stamp }, "salt"),
        (Stamp { first_position: 1, ..stamp }, "first position"),
        (Stamp { events: 11, ..stamp }, "number of events"),
        (Stamp { chain: [0; 16], ..stamp }, "chain"),
    ];
    for (other, field) in others {
        let opened = SealedIndex::open(&bytes[..], &other).map(drop);
        assert_eq!(opened, Err(IndexDamage::Foreign { field }));
    }
}

#[test]
fn each_damage_is_called_what_it_is() {
    let model = model();
    let whole = model.sealed_bytes();
    let open = |file: &[u8]| SealedIndex::open(file, &model.stamp()).map(drop);
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
    assert_eq!(open(&changed(8)), Err(IndexDamage::Version { found: 0, supported: 1 }));
    assert_eq!(open(&changed(500)), Err(IndexDamage::HeaderChecksum));
    let file = changed(PAGE_BYTES + 10);
    let index = SealedIndex::open(&file[..], &model.stamp()).unwrap();
    assert_eq!(index.offset(0), Err(IndexDamage::Page { page: 1 }));
    assert_eq!(index.offset(1024), Ok(Some(model.events[1024].offset)));
    let file = changed(whole.len() - 1);
    let index = SealedIndex::open(&file[..], &model.stamp()).unwrap();
    assert_eq!(index.offset(0), Err(IndexDamage::ChecksumTable));
}
