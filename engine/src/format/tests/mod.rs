//! Holds `docs/file_format.md` against what the encoders write: every row of its tables, its constants,
//! its test vectors and its example.
//!
//! The example is golden. A test that fails here says that the format has changed: that takes a new
//! [`FORMAT_VERSION`], a reader for the old one and a line in the version history, not new bytes.

mod document;
mod snapshots;

use self::document::Field;
use super::batch::BatchHeader;
use super::checksum::{Chain, SegmentIdentity, SegmentKey, StoreId};
use super::constants::*;
use super::definition::EventType;
use super::footer::{self, SegmentContent};
use super::frame::{FrameParts, FramePlace, complete};
use super::manifest::{CleanEnd, Manifest, SegmentEntry, SegmentState};
use super::segment::SegmentHeader;
use super::stored_types::StoredTypes;
use super::witness::Witness;
use crate::limits::*;
use crate::log::names;

const DOC: &str = include_str!("../../../../docs/file_format.md");

fn table(heading: &str) -> Vec<Vec<&'static str>> {
    document::table(DOC, heading)
}

fn check(heading: &str, length: usize, bytes: &[u8], fields: &[Field]) {
    document::check(DOC, heading, length, bytes, fields);
}

fn u16s(value: u16) -> Vec<u8> {
    value.to_le_bytes().into()
}

fn u32s(value: u32) -> Vec<u8> {
    value.to_le_bytes().into()
}

fn u64s(value: u64) -> Vec<u8> {
    value.to_le_bytes().into()
}

fn i64s(value: i64) -> Vec<u8> {
    value.to_le_bytes().into()
}

/// CRC-32 as the document describes it, of these parts.
fn crc(parts: &[&[u8]]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    u32s(hasher.finalize())
}

/// The keyed checksum as the document describes it.
fn keyed(offset: u64, parts: &[&[u8]]) -> Vec<u8> {
    let identity = [&STORE.0[..], &u64s(1), &u64s(SALT)].concat();
    let key = xxhash_rust::xxh3::xxh3_64(&identity).to_le_bytes();
    let mut all: Vec<&[u8]> = vec![&key];
    let offset = u64s(offset);
    all.push(&offset);
    all.extend(parts);
    crc(&all)
}

const STORE: StoreId = StoreId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
const SALT: u64 = 0x1122_3344_5566_7788;
const IDENTITY: SegmentIdentity = SegmentIdentity { store: STORE, segment: 1, salt: SALT };
const CREATED_AT: i64 = 1_750_000_000_000_000_000;

fn key() -> SegmentKey {
    SegmentKey::new(IDENTITY)
}

fn content() -> SegmentContent {
    SegmentContent {
        data_end: 0x12340,
        first_position: 0x2122,
        events: 0x3132,
        first_sequence: 0x4142,
        batches: 0x1112,
        chain: Chain(*b"chain of content"),
        recorded_last: -0x5152_5354_5556,
    }
}

fn content_bytes() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    content().write(&mut bytes);
    bytes
}

/// The segment header of the example.
fn example_segment() -> Vec<u8> {
    let header = SegmentHeader { identity: IDENTITY, epoch: 1, created_at: CREATED_AT };
    let mut block = vec![0; BLOCK_BYTES];
    header.write(&mut block);
    block.truncate(SEGMENT_HEADER_BYTES);
    block
}

/// The batch of the example, and its chain.
fn example_batch() -> (Vec<u8>, Chain) {
    let offset = SEGMENT_HEAD_BYTES;
    let mut content = Vec::new();
    let at = offset + BATCH_HEADER_BYTES as u64;
    let event_type = EventType { name: "opened".into(), schema_version: 0, fingerprint: 0 };
    event_type.encode(&key(), at, 0, &mut content);
    let frame_at = content.len();
    let parts = FrameParts {
        kind: RECORD_JSON,
        stream: "ticket-1",
        id: *uuid::Uuid::from_u128(0x0197_6d5e_4c00_7abc_8def_0123_4567_89ab).as_bytes(),
        occurred_at: None,
        correlation: None,
        causation: None,
        tags: &[],
        metadata: &[],
    };
    parts.encode(&mut content, br#"{"by":"ada"}"#);
    let place = FramePlace {
        offset: at + frame_at as u64,
        type_ref: 0,
        position: 1,
        version: 0,
        recorded_at: CREATED_AT + 1,
    };
    complete(&mut content[frame_at..], &key(), &place);
    let mut header = BatchHeader {
        epoch: 1,
        sequence: 1,
        offset,
        first_position: 1,
        durable_sequence: 0,
        durable_position: 0,
        bytes: u32::try_from(BATCH_HEADER_BYTES + content.len()).unwrap(),
        events: 1,
        records: 2,
        window: 1,
        next_is_fresh: false,
        content_crc: 0,
        chain: Chain::default(),
    };
    let mut bytes = vec![0; BATCH_HEADER_BYTES];
    header.seal(&key(), Chain::origin(STORE), &content, &mut bytes);
    bytes.extend(content);
    (bytes, header.chain)
}

/// Sixteen bytes a line, with their offset and as text.
fn dump(offset: usize, bytes: &[u8]) -> String {
    let line = |(number, line): (usize, &[u8])| {
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = line.iter().map(|byte| match byte {
            0x20..=0x7e => char::from(*byte),
            _ => '.',
        });
        format!("{:08x}  {}  |{}|\n", offset + 16 * number, hex.join(" "), text.collect::<String>())
    };
    bytes.chunks(16).enumerate().map(line).collect()
}

/// The fenced blocks of the document.
fn fenced() -> Vec<&'static str> {
    DOC.split("```\n").skip(1).step_by(2).collect()
}

#[test]
fn the_example_in_the_document_is_what_the_encoders_write() {
    let head = usize::try_from(SEGMENT_HEAD_BYTES).unwrap();
    let expected = [dump(0, &example_segment()), dump(head, &example_batch().0)];
    let blocks = fenced();
    assert_eq!(blocks.len(), expected.len());
    for (found, expected) in blocks.iter().zip(&expected) {
        assert!(found == expected, "the format has changed; the encoders write\n{expected}");
    }
}

#[test]
fn the_example_in_the_document_is_read_back() {
    let bytes: Vec<Vec<u8>> = fenced()
        .iter()
        .map(|block| {
            let lines = block.lines().map(|line| line.split("  ").nth(1).unwrap());
            lines
                .flat_map(|line| line.split(' '))
                .map(|b| u8::from_str_radix(b, 16).unwrap())
                .collect()
        })
        .collect();
    assert_eq!(SegmentHeader::parse(&bytes[0]).unwrap().identity, IDENTITY);
    let header = BatchHeader::parse(&key(), SEGMENT_HEAD_BYTES, &bytes[1]).unwrap();
    let records_at = SEGMENT_HEAD_BYTES + BATCH_HEADER_BYTES as u64;
    let content = &bytes[1][BATCH_HEADER_BYTES..];
    assert!(header.content_is_good(&key(), content));
    assert!(header.follows(Chain::origin(STORE), &bytes[1]));
    let key = key();
    let read = super::scan::records(&key, records_at, content).map(Result::unwrap);
    assert_eq!(read.count(), 2);
}

#[test]
fn the_test_vectors_in_the_document_are_right() {
    let identity = [&STORE.0[..], &u64s(1), &u64s(SALT)].concat();
    let chain = example_batch().1;
    let values = [
        format!("{:08x}", crc32fast::hash(b"123456789")),
        format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&identity)),
        format!("{:08x}", key().checksum(SEGMENT_HEAD_BYTES, [b"abc", b""])),
        format!("{:?}", Chain::origin(STORE)),
        format!("{chain:?}"),
    ];
    let rows: Vec<_> = DOC.lines().skip_while(|line| *line != "| of | is |").skip(2).collect();
    for (row, value) in rows.iter().zip(&values) {
        assert!(row.ends_with(&format!("| `{value}` |")), "{row}: it is {value}");
    }
    let keyed_by_hand = keyed(SEGMENT_HEAD_BYTES, &[b"abc"]);
    assert_eq!(keyed_by_hand, u32s(key().checksum(SEGMENT_HEAD_BYTES, [b"abc", b""])));
}

#[test]
fn the_table_of_the_segment_header_is_what_is_written() {
    let header = SegmentHeader { identity: IDENTITY, epoch: 0x3132, created_at: -0x4142_4344 };
    let mut block = vec![0; BLOCK_BYTES];
    header.write(&mut block);
    assert!(block[SEGMENT_HEADER_BYTES..].iter().all(|byte| *byte == 0));
    check(
        "### Segment header",
        SEGMENT_HEADER_BYTES,
        &block,
        &[
            ("magic: `STRATSEG`", b"STRATSEG".into()),
            ("format version", u32s(FORMAT_VERSION)),
            ("checksum", crc(&[&block[..12], &block[16..SEGMENT_HEADER_BYTES]])),
            ("store id", STORE.0.into()),
            ("segment number", u64s(1)),
            ("salt", u64s(SALT)),
            ("epoch", u64s(0x3132)),
            ("creation time", i64s(-0x4142_4344)),
            ("block bytes", u32s(u32::try_from(BLOCK_BYTES).unwrap())),
            ("record alignment", u32s(u32::try_from(RECORD_ALIGN).unwrap())),
        ],
    );
}

#[test]
fn the_table_of_the_witness_is_what_is_written() {
    let witness = Witness {
        counter: 0x1112,
        epoch: 0x2122,
        durable_sequence: 0x3132,
        durable_position: 0x4142,
        data_end: 0x5152,
        chain: Chain(*b"chain of witness"),
    };
    let mut block = vec![0; BLOCK_BYTES];
    witness.write(&key(), WITNESS_OFFSETS[1], &mut block);
    check(
        "### Witness",
        WITNESS_BYTES,
        &block,
        &[
            ("magic: `STRATWIT`", b"STRATWIT".into()),
            ("checksum", keyed(WITNESS_OFFSETS[1], &[&block[..8], &block[12..WITNESS_BYTES]])),
            ("counter", u64s(0x1112)),
            ("epoch", u64s(0x2122)),
            ("sequence", u64s(0x3132)),
            ("last durable position", u64s(0x4142)),
            ("data end", u64s(0x5152)),
            ("chain", b"chain of witness".into()),
        ],
    );
}

#[test]
fn the_table_of_the_batch_header_is_what_is_written() {
    let content = vec![7; 0x120];
    let mut header = BatchHeader {
        epoch: 0x1112,
        sequence: 0x2122,
        offset: 0x3130,
        first_position: 0x4142,
        durable_sequence: 0x2021,
        durable_position: 0x4041,
        bytes: 0x180,
        events: 0x7,
        records: 0x9,
        window: 3,
        next_is_fresh: true,
        content_crc: 0,
        chain: Chain::default(),
    };
    let mut bytes = [0; BATCH_HEADER_BYTES];
    let before = Chain(*b"the chain before");
    header.seal(&key(), before, &content, &mut bytes);
    let chained = [&before.0[..], &bytes[8..BATCH_CHAIN_OFFSET]].concat();
    let chain = xxhash_rust::xxh3::xxh3_128(&chained).to_le_bytes();
    check(
        "### Batch header",
        BATCH_HEADER_BYTES,
        &bytes,
        &[
            ("magic: `SBAT`", b"SBAT".into()),
            ("checksum of the header", keyed(0x3130, &[&bytes[..4], &bytes[8..]])),
            ("epoch", u64s(0x1112)),
            ("sequence", u64s(0x2122)),
            ("offset", u64s(0x3130)),
            ("first position", u64s(0x4142)),
            ("durable sequence", u64s(0x2021)),
            ("durable position", u64s(0x4041)),
            ("bytes", u32s(0x180)),
            ("events", u32s(7)),
            ("records", u32s(9)),
            ("window", u16s(3)),
            ("flags", u16s(BATCH_FLAG_NEXT_FRESH)),
            ("checksum of the content", keyed(0x3130, &[&content])),
            ("chain", chain.into()),
        ],
    );
}

#[test]
fn the_table_of_the_event_frame_and_what_follows_it_is_what_is_written() {
    let tags: [Box<str>; 2] = ["t1".into(), "tag2".into()];
    let parts = FrameParts {
        kind: RECORD_BYTES,
        stream: "stream",
        id: *b"id of this event",
        occurred_at: Some(0x6162_6364),
        correlation: Some(*b"its  correlation"),
        causation: Some(*b"what   caused it"),
        tags: &tags,
        metadata: b"meta",
    };
    let mut frame = Vec::new();
    parts.encode(&mut frame, b"payload");
    let place = FramePlace {
        offset: 0x3130,
        type_ref: 0x1112,
        position: 0x2122,
        version: 0x3132,
        recorded_at: 0x4142_4344,
    };
    complete(&mut frame, &key(), &place);
    let known = FLAG_OCCURRED | FLAG_CORRELATION | FLAG_CAUSATION | FLAG_TAGS | FLAG_METADATA;
    check(
        "### Event frame",
        FRAME_HEADER_BYTES,
        &frame,
        &[
            ("length", u32s(u32::try_from(frame.len()).unwrap())),
            ("checksum", keyed(0x3130, &[&frame[..4], &frame[8..]])),
            ("kind", vec![RECORD_BYTES]),
            ("flags", vec![known]),
            ("stream length", u16s(6)),
            ("type", u32s(0x1112)),
            ("position", u64s(0x2122)),
            ("version", u64s(0x3132)),
            ("event id", b"id of this event".into()),
            ("recorded at", i64s(0x4142_4344)),
            ("payload length", u32s(7)),
        ],
    );
    // What follows, in the order that the document gives.
    let follows: [&[u8]; 11] = [
        b"stream",
        &i64s(0x6162_6364),
        b"its  correlation",
        b"what   caused it",
        &u16s(2),
        &u16s(2),
        b"t1",
        &u16s(4),
        b"tag2",
        &u32s(4),
        b"meta",
    ];
    let mut expected = frame[..FRAME_HEADER_BYTES].to_vec();
    expected.extend(follows.concat());
    expected.resize(expected.len().next_multiple_of(RECORD_ALIGN), 0);
    expected.extend(b"payload");
    expected.resize(expected.len().next_multiple_of(RECORD_ALIGN), 0);
    assert_eq!(frame, expected);
}

#[test]
fn the_table_of_the_definition_record_is_what_is_written() {
    let event_type =
        EventType { name: "opened".into(), schema_version: 0x2122, fingerprint: 0x3132 << 64 };
    let mut bytes = Vec::new();
    event_type.encode(&key(), 0x3130, 0x1112, &mut bytes);
    check(
        "### Definition record",
        DEFINITION_HEADER_BYTES,
        &bytes,
        &[
            ("length", u32s(48)),
            ("checksum", keyed(0x3130, &[&bytes[..4], &bytes[8..]])),
            ("kind: `RECORD_DEFINITION`", vec![RECORD_DEFINITION]),
            ("name length", u16s(6)),
            ("type", u32s(0x1112)),
            ("schema version", u32s(0x2122)),
            ("fingerprint", (0x3132_u128 << 64).to_le_bytes().into()),
        ],
    );
    assert_eq!(bytes[DEFINITION_HEADER_BYTES..], *b"opened\0\0");
}

#[test]
fn the_tables_of_the_footer_and_its_content_are_what_is_written() {
    let mut block = vec![0; BLOCK_BYTES];
    footer::write(&key(), &content(), &mut block);
    let parts = [&block[..12], &block[16..FOOTER_BYTES]];
    check(
        "### Footer",
        FOOTER_BYTES,
        &block,
        &[
            ("magic: `STRATFTR`", b"STRATFTR".into()),
            ("format version", u32s(FORMAT_VERSION)),
            ("checksum", keyed(0x13000, &parts)),
            ("segment number", u64s(1)),
            ("content", content_bytes()),
        ],
    );
    assert!(block[FOOTER_BYTES..].iter().all(|byte| *byte == 0));
    check(
        "### Content",
        64,
        &content_bytes(),
        &[
            ("data end", u64s(0x12340)),
            ("first position", u64s(0x2122)),
            ("events", u64s(0x3132)),
            ("first sequence", u64s(0x4142)),
            ("batches", u64s(0x1112)),
            ("recorded last", i64s(-0x5152_5354_5556)),
            ("chain", b"chain of content".into()),
        ],
    );
}

#[test]
fn the_tables_of_the_manifest_are_what_is_written() {
    let entry = |number, state| SegmentEntry { number, salt: SALT, file_bytes: 0x20000, state };
    let opened =
        EventType { name: "opened".into(), schema_version: 0x2122, fingerprint: 0x3132 << 64 };
    let mut types = StoredTypes::NONE;
    types.add([(&opened, 0x4142)].into_iter());
    let manifest = Manifest {
        store: STORE,
        generation: 0x1112,
        epoch: 0x2122,
        created_at: -0x3132,
        strict: true,
        clean_end: Some(CleanEnd {
            segment: 0x4142,
            data_end: 0x5152,
            last_sequence: 0x6162,
            last_position: 0x7172,
            chain: Chain(*b"the chain at end"),
        }),
        segments: vec![
            entry(0x8182, SegmentState::Sealed(content())),
            entry(0x8183, SegmentState::Cut(content())),
            entry(0x8184, SegmentState::Prepared),
        ],
        types,
    };
    let mut bytes = vec![0; usize::try_from(manifest.encoded_bytes()).unwrap()];
    manifest.encode(&mut bytes);
    let types_at = MANIFEST_HEADER_BYTES + 3 * MANIFEST_SEGMENT_BYTES;
    let used = types_at + MANIFEST_TYPE_BYTES + 16;
    check(
        "### Manifest header",
        MANIFEST_HEADER_BYTES,
        &bytes,
        &[
            ("magic: `STRATMAN`", b"STRATMAN".into()),
            ("format version", u32s(FORMAT_VERSION)),
            ("checksum", crc(&[&bytes[..12], &bytes[16..used]])),
            ("used", u64s(used as u64)),
            ("store id", STORE.0.into()),
            ("generation", u64s(0x1112)),
            ("epoch", u64s(0x2122)),
            ("creation time", i64s(-0x3132)),
            ("segments", u32s(3)),
            ("clean: 1", u32s(1)),
            ("clean segment", u64s(0x4142)),
            ("clean data end", u64s(0x5152)),
            ("clean last sequence", u64s(0x6162)),
            ("clean last position", u64s(0x7172)),
            ("clean chain", b"the chain at end".into()),
            ("flags", u32s(MANIFEST_FLAG_STRICT | MANIFEST_FLAG_TYPES)),
            ("types", u32s(1)),
        ],
    );
    let states = [STATE_SEALED, STATE_CUT, STATE_PREPARED];
    check(
        "### Manifest type record",
        MANIFEST_TYPE_BYTES,
        &bytes[types_at..used],
        &[
            ("events", u64s(0x4142)),
            ("schema version", u32s(0x2122)),
            ("name length", u16s(6)),
            ("fingerprint", (0x3132_u128 << 64).to_le_bytes().into()),
        ],
    );
    assert_eq!(bytes[types_at + MANIFEST_TYPE_BYTES..used], *b"opened\0\0\0\0\0\0\0\0\0\0");
    let records = bytes[MANIFEST_HEADER_BYTES..types_at].chunks_exact(MANIFEST_SEGMENT_BYTES);
    for ((record, state), number) in records.zip(states).zip(0x8182..) {
        let content = if state == STATE_PREPARED { vec![0; 64] } else { content_bytes() };
        check(
            "### Manifest segment record",
            MANIFEST_SEGMENT_BYTES,
            record,
            &[
                ("segment number", u64s(number)),
                ("salt", u64s(SALT)),
                ("file bytes", u64s(0x20000)),
                ("state", u32s(state)),
                ("content", content),
            ],
        );
    }
}

#[test]
fn the_constants_in_the_document_are_those_of_the_code() {
    macro_rules! values {
        ($($name:ident)*) => { [$((stringify!($name), u128::try_from($name).unwrap())),*] };
    }
    let values = values! {
        FORMAT_VERSION BLOCK_BYTES SECTOR_BYTES RECORD_ALIGN SEGMENT_HEAD_BYTES SEGMENT_FOOT_BYTES
        SEGMENT_BYTES_MIN SEGMENT_BYTES_MAX SEGMENTS_MAX SEGMENT_TYPES_MAX LISTED_TYPES_MAX BATCH_BYTES_LARGE
        NAME_BYTES_MIN NAME_BYTES_MAX TAGS_MAX METADATA_BYTES_MAX
        RECORD_BYTES RECORD_JSON RECORD_RKYV RECORD_DEFINITION
        FLAG_OCCURRED FLAG_CORRELATION FLAG_CAUSATION FLAG_TAGS FLAG_METADATA
        BATCH_FLAG_NEXT_FRESH MANIFEST_FLAG_STRICT MANIFEST_FLAG_TYPES STATE_PREPARED STATE_CUT STATE_SEALED
    };
    let rows = table("## Constants");
    assert_eq!(rows.len(), values.len());
    for (row, (name, value)) in rows.iter().zip(values) {
        assert_eq!(*row, [format!("`{name}`"), value.to_string()]);
    }
    // The flags are listed in the order of their bits.
    let flags: Vec<_> = DOC.lines().filter(|line| line.starts_with("| `FLAG_")).take(5).collect();
    let known = ["OCCURRED", "CORRELATION", "CAUSATION", "TAGS", "METADATA"];
    assert!(flags.iter().zip(known).all(|(row, name)| row.contains(&format!("`FLAG_{name}`"))));
}

#[test]
fn the_names_in_the_document_exist_in_the_code() {
    let code = concat!(include_str!("../constants.rs"), include_str!("../../limits.rs"));
    let upper =
        |word: &str| word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    for word in DOC.split('`').filter(|word| upper(word)) {
        assert!(code.contains(&format!("const {word}:")), "{word}");
    }
    assert!(include_str!("../../commit/batch.rs").contains("fn next_offset("));
}

#[test]
fn the_file_names_in_the_document_are_those_of_the_code() {
    let rows = table("## Files");
    let found: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let expected = [
        names::MANIFEST.into(),
        names::MANIFEST_NEXT.into(),
        names::LOCK.into(),
        names::segment(1),
        names::table(1),
        names::run(1, 8),
        names::next(&names::table(1)),
        names::torn(1, 2),
        names::snapshots(1),
    ];
    assert_eq!(found, expected);
}
