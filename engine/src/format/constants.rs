//! Magic numbers, versions, sizes and field offsets, as in `docs/file_format.md`.

/// The version that this library writes, and the newest that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;

pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"STRATSEG";
pub(crate) const FOOTER_MAGIC: [u8; 8] = *b"STRATFTR";
pub(crate) const WITNESS_MAGIC: [u8; 8] = *b"STRATWIT";
pub(crate) const MANIFEST_MAGIC: [u8; 8] = *b"STRATMAN";
pub(crate) const SNAPSHOTS_MAGIC: [u8; 8] = *b"STRATSNP";
pub(crate) const SNAPSHOTS_FOOTER_MAGIC: [u8; 8] = *b"STRATSNF";
pub(crate) const DROPS_MAGIC: [u8; 8] = *b"STRATSND";
pub(crate) const BATCH_MAGIC: [u8; 4] = *b"SBAT";

pub(crate) const SEGMENT_HEADER_BYTES: usize = 80;
pub(crate) const WITNESS_BYTES: usize = 72;
pub(crate) const FOOTER_BYTES: usize = 128;
pub(crate) const BATCH_HEADER_BYTES: usize = 96;
pub(crate) const BATCH_CHAIN_OFFSET: usize = 80;
pub(crate) const FRAME_HEADER_BYTES: usize = 60;
pub(crate) const DEFINITION_HEADER_BYTES: usize = 40;
pub(crate) const MANIFEST_HEADER_BYTES: usize = 128;
pub(crate) const MANIFEST_SEGMENT_BYTES: usize = 128;
pub(crate) const MANIFEST_TYPE_BYTES: usize = 32;
pub(crate) const SNAPSHOTS_HEADER_BYTES: usize = 64;
pub(crate) const DROPS_HEADER_BYTES: usize = 64;
pub(crate) const DROP_BYTES: usize = 16;
pub(crate) const SNAPSHOTS_FOOTER_BYTES: usize = 64;
pub(crate) const SNAPSHOT_HEADER_BYTES: usize = 96;
pub(crate) const SNAPSHOT_ENTRY_BYTES: usize = 24;
/// How many entries a page of the index of a segment of snapshots has, but for the last; its count and its checksum stand
/// behind them.
pub(crate) const SNAPSHOT_PAGE_ENTRIES: usize = 170;

/// Where in its segment each witness slot stands.
pub(crate) const WITNESS_OFFSETS: [u64; 2] = [4096, 8192];

/// Kinds of records.
pub(crate) const RECORD_BYTES: u8 = 1;
pub(crate) const RECORD_JSON: u8 = 2;
pub(crate) const RECORD_RKYV: u8 = 3;
pub(crate) const RECORD_DEFINITION: u8 = 0x40;

/// Kinds of keys of snapshots.
pub(crate) const KEY_STREAM: u8 = 1;
/// The key of a snapshot names a projection and one of its lanes.
pub(crate) const KEY_LANE: u8 = 2;

/// Flags of an event frame: which optional parts it has, in this order. All others are refused;
/// 0x40 is reserved for compressed and 0x80 for encrypted payloads.
pub(crate) const FLAG_OCCURRED: u8 = 0x01;
pub(crate) const FLAG_CORRELATION: u8 = 0x02;
pub(crate) const FLAG_CAUSATION: u8 = 0x04;
pub(crate) const FLAG_TAGS: u8 = 0x08;
pub(crate) const FLAG_METADATA: u8 = 0x10;
pub(crate) const FLAGS_KNOWN: u8 =
    FLAG_OCCURRED | FLAG_CORRELATION | FLAG_CAUSATION | FLAG_TAGS | FLAG_METADATA;

/// A flag of a batch header: the next batch begins on the next block. All others are refused.
pub(crate) const BATCH_FLAG_NEXT_FRESH: u16 = 0x01;

/// Flags of the manifest: the last writer never rewrote a block; the types of the sealed segments are listed. All others
/// are refused.
pub(crate) const MANIFEST_FLAG_STRICT: u32 = 0x01;
pub(crate) const MANIFEST_FLAG_TYPES: u32 = 0x02;
pub(crate) const MANIFEST_FLAGS_KNOWN: u32 = MANIFEST_FLAG_STRICT | MANIFEST_FLAG_TYPES;

/// States of a segment in the manifest.
pub(crate) const STATE_PREPARED: u32 = 1;
pub(crate) const STATE_CUT: u32 = 2;
pub(crate) const STATE_SEALED: u32 = 3;

const _: () = {
    use crate::limits::{BLOCK_BYTES, RECORD_ALIGN, SECTOR_BYTES, SEGMENT_HEAD_BYTES};
    assert!(BATCH_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));
    assert!(BATCH_CHAIN_OFFSET + 16 == BATCH_HEADER_BYTES);
    assert!(SEGMENT_HEADER_BYTES <= SECTOR_BYTES);
    assert!(WITNESS_BYTES <= SECTOR_BYTES);
    assert!(SNAPSHOT_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));
    assert!(SNAPSHOT_PAGE_ENTRIES * SNAPSHOT_ENTRY_BYTES + 6 <= BLOCK_BYTES);
    assert!(FOOTER_BYTES <= SECTOR_BYTES);
    assert!(WITNESS_OFFSETS[0] == BLOCK_BYTES as u64);
    assert!(WITNESS_OFFSETS[1] + BLOCK_BYTES as u64 == SEGMENT_HEAD_BYTES);
};
