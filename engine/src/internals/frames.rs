//! Encoding, checksums, and the walk over frames.

use crate::format::checksum::{SegmentIdentity, SegmentKey, StoreId};
use crate::format::constants::RECORD_BYTES;
use crate::format::frame::{FrameParts, FramePlace, complete};
use crate::format::scan::{Record, records};

/// A segment that exists nowhere, for frames to stand in.
#[derive(Debug)]
pub struct Segment(SegmentKey);

impl Default for Segment {
    fn default() -> Self {
        let store = StoreId([7; 16]);
        Self(SegmentKey::new(SegmentIdentity { store, segment: 1, salt: 0x5A17 }))
    }
}

impl Segment {
    /// Appends the frame of an event to `out`, without its place: what a caller's thread does outside of
    /// any lock.
    pub fn encode(&self, stream: &str, payload: &[u8], out: &mut Vec<u8>) {
        let parts = FrameParts {
            kind: RECORD_BYTES,
            stream,
            id: [9; 16],
            occurred_at: None,
            correlation: None,
            causation: None,
            tags: &[],
            metadata: &[],
        };
        parts.encode(out, payload);
    }

    /// Fills in an encoded frame's place, and its checksum.
    pub fn complete(&self, frame: &mut [u8], offset: u64, position: u64) {
        let place = FramePlace { offset, type_ref: 0, position, version: position, recorded_at: 0 };
        complete(frame, &self.0, &place);
    }

    /// Whether the checksum of a frame is the one that it should have at this offset.
    pub fn is_good(&self, offset: u64, frame: &[u8]) -> bool {
        self.0.record_is_good(offset, frame)
    }

    /// How many whole events stand in `content`, each checked for its checksum and its structure, up to
    /// the first that is not.
    pub fn walk(&self, offset: u64, content: &[u8]) -> usize {
        records(&self.0, offset, content)
            .map_while(Result::ok)
            .filter(|(_, record)| matches!(record, Record::Event(_)))
            .count()
    }
}
