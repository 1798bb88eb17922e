//! Holds `docs/snapshot_files.md` against what the encoders write.

use super::document::{check, table};
use super::*;
use crate::format::snapshot::{
    Entry, RecordFields, RecordKey, SnapshotsFooter, Stamp, place_record, write_header, write_page,
    write_record,
};
use crate::format::snapshot_drops::StoredDrops;

const DOC: &str = include_str!("../../../../docs/snapshot_files.md");

#[test]
fn the_table_of_the_header_of_snapshots_is_what_is_written() {
    let mut block = vec![0; BLOCK_BYTES];
    write_header(&IDENTITY, CREATED_AT, &mut block);
    assert!(block[SNAPSHOTS_HEADER_BYTES..].iter().all(|byte| *byte == 0));
    let fields = [
        ("magic: `STRATSNP`", b"STRATSNP".into()),
        ("format version", u32s(FORMAT_VERSION)),
        ("checksum", crc(&[&block[..12], &block[16..SNAPSHOTS_HEADER_BYTES]])),
        ("store id", STORE.0.into()),
        ("number", u64s(1)),
        ("salt", u64s(SALT)),
        ("creation time", i64s(CREATED_AT)),
    ];
    check(DOC, "## Header", SNAPSHOTS_HEADER_BYTES, &block, &fields);
}

#[test]
fn the_table_of_the_record_of_a_snapshot_is_what_is_written() {
    let fields = RecordFields {
        kind: RECORD_RKYV,
        state_version: 0x0102,
        fingerprint: 0x1122_3344_5566_7788_99aa_bbcc_ddee_ff00,
        sequence: 0x0304_0506_0708,
        taken_at: -0x1314_1516,
    };
    let stamp = Stamp {
        position: 0x2122_2324,
        version: 0x3132_3334,
        event_id: *b"sixteen of an id",
        frame_crc: 0x4142_4344,
    };
    let of = RecordKey { kind: KEY_STREAM, key: b"ticket-1", state: b"ticket" };
    let mut record = Vec::new();
    write_record(&fields, of, &stamp, b"a state", &mut record);
    place_record(&key(), 4096, &mut record);
    let expected = [
        ("length", u32s(128)),
        ("checksum", keyed(4096, &[&record[..4], &record[8..]])),
        ("kind", vec![RECORD_RKYV]),
        ("key kind", vec![KEY_STREAM]),
        ("key length", u16s(8)),
        ("state name length", u16s(6)),
        ("state version", u32s(0x0102)),
        ("payload length", u32s(7)),
        ("sequence", u64s(0x0304_0506_0708)),
        ("position", u64s(0x2122_2324)),
        ("stream version", u64s(0x3132_3334)),
        ("event id", b"sixteen of an id".into()),
        ("fingerprint", fields.fingerprint.to_le_bytes().into()),
        ("taken at", i64s(-0x1314_1516)),
        ("frame checksum", u32s(0x4142_4344)),
    ];
    check(DOC, "## Record", SNAPSHOT_HEADER_BYTES, &record, &expected);
    assert_eq!(&record[SNAPSHOT_HEADER_BYTES..], b"a stateticket-1ticket\0\0\0\0\0\0\0\0\0\0\0");
    let hashed = [&[KEY_STREAM][..], &u16s(6), b"ticket", b"ticket-1"].concat();
    assert_eq!(of.hash(), xxhash_rust::xxh3::xxh3_64(&hashed));
}

#[test]
fn the_tables_of_the_index_of_snapshots_are_what_is_written() {
    let entry = Entry {
        hash: 0x1122_3344_5566_7788,
        sequence: 0x0304_0506_0708,
        offset: 0x12340,
        bytes: 0x80,
    };
    let mut page = vec![0; BLOCK_BYTES];
    write_page(&key(), 8192, &[entry], &mut page);
    let fields = [
        ("hash", u64s(entry.hash)),
        ("sequence", u64s(entry.sequence)),
        ("offset", u32s(0x1234)),
        ("length", u32s(8)),
    ];
    check(DOC, "### Entry", SNAPSHOT_ENTRY_BYTES, &page, &fields);
    let entries = SNAPSHOT_PAGE_ENTRIES * SNAPSHOT_ENTRY_BYTES;
    let fields = [
        ("entries", page[..entries].to_vec()),
        ("checksum", keyed(8192, &[&page[..entries], &page[entries + 4..]])),
        ("count", u32s(1)),
    ];
    check(DOC, "## Index", BLOCK_BYTES, &page, &fields);
}

#[test]
fn the_table_of_the_footer_of_snapshots_is_what_is_written() {
    let footer = SnapshotsFooter {
        records_end: 0x12340,
        entries: 0x0203,
        first_sequence: 0x1112,
        last_sequence: 0x2122,
    };
    let mut block = vec![0; BLOCK_BYTES];
    footer.write(&key(), &mut block);
    assert!(block[SNAPSHOTS_FOOTER_BYTES..].iter().all(|byte| *byte == 0));
    let offset = footer.file_bytes() - BLOCK;
    let fields = [
        ("magic: `STRATSNF`", b"STRATSNF".into()),
        ("format version", u32s(FORMAT_VERSION)),
        ("checksum", keyed(offset, &[&block[..12], &block[16..SNAPSHOTS_FOOTER_BYTES]])),
        ("records end", u64s(0x12340)),
        ("entries", u64s(0x0203)),
        ("first sequence", u64s(0x1112)),
        ("last sequence", u64s(0x2122)),
    ];
    check(DOC, "## Footer", SNAPSHOTS_FOOTER_BYTES, &block, &fields);
}

#[test]
fn the_table_of_what_was_dropped_is_what_is_written() {
    let drops = StoredDrops { all: 0x1112, keys: vec![(0x2122, 0x3132)] };
    let bytes = drops.write(STORE);
    let fields = [
        ("magic: `STRATSND`", b"STRATSND".into()),
        ("format version", u32s(FORMAT_VERSION)),
        ("checksum", crc(&[&bytes[..12], &bytes[16..]])),
        ("store id", STORE.0.into()),
        ("all", u64s(0x1112)),
        ("count", u64s(1)),
    ];
    check(DOC, "## What was dropped", DROPS_HEADER_BYTES, &bytes, &fields);
    let key = [&u64s(0x2122)[..], &u64s(0x3132)].concat();
    assert_eq!(bytes[DROPS_HEADER_BYTES..], key);
    assert_eq!(key.len(), DROP_BYTES);
}

#[test]
fn the_names_and_the_constants_of_snapshots_in_the_document_are_those_of_the_code() {
    let rows = table(DOC, "# The files of snapshots");
    let found: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let expected = [
        names::snapshots(1),
        names::open_snapshots(1),
        names::next(&names::snapshots(1)),
        names::SNAPSHOT_DROPS.into(),
    ];
    assert_eq!(found, expected);
    macro_rules! values {
        ($($name:ident)*) => { [$((stringify!($name), u128::try_from($name).unwrap())),*] };
    }
    let values = values! {
        SNAPSHOTS_HEADER_BYTES SNAPSHOT_HEADER_BYTES SNAPSHOT_ENTRY_BYTES SNAPSHOT_PAGE_ENTRIES
        SNAPSHOTS_FOOTER_BYTES RECORD_JSON RECORD_RKYV KEY_STREAM KEY_LANE DROPS_HEADER_BYTES
        DROP_BYTES
    };
    for (row, (name, value)) in table(DOC, "## Constants").iter().zip(values) {
        assert_eq!(*row, [format!("`{name}`"), value.to_string()]);
    }
}
