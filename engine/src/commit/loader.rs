//! Filling a live segment with batches that were read back, when a store is opened.
//!
//! Used by recovery alone, before anybody else knows of the segment.

use std::sync::Arc;

use super::chunk::ChunkRef;
use super::entering::{Gap, enter};
use super::live::{LiveSegment, LiveStart};
use super::read_chunk::ReadChunk;
use crate::disk::DiskFile;
use crate::format::FormatError;
use crate::format::batch::BatchHeader;
use crate::format::checksum::SegmentKey;
use crate::format::constants::BATCH_HEADER_BYTES;
use crate::format::extent::Extent;
use crate::format::frame::Frame;
use crate::format::scan::{Record, checked_records};
use crate::index::{FETCH_TERMS_MAX, LiveRoom, LiveWriter, Term, TermHash};

/// See the module.
#[derive(Debug)]
pub(crate) struct Loader {
    live: Arc<LiveSegment>,
    writer: LiveWriter,
    /// The memory of the last batch.
    chunk: Option<ReadChunk>,
}

/// An event to be indexed.
struct Located<'a> {
    extent: Extent,
    hash: TermHash,
    frame: Frame<'a>,
}

impl Loader {
    pub(crate) fn new(
        key: SegmentKey,
        file: Arc<dyn DiskFile>,
        file_bytes: u64,
        start: &LiveStart,
    ) -> Self {
        // What was written with room for a larger index has to fit.
        let room = LiveRoom::for_all_of(file_bytes);
        let (live, writer) = LiveSegment::new(key, file, file_bytes, room, start);
        Self { live, writer, chunk: None }
    }

    pub(crate) fn live(&self) -> &Arc<LiveSegment> {
        &self.live
    }

    /// Takes the next batch of the segment, of which header and content were found to be good, and which
    /// this memory holds. Its records must be dense in positions, in type numbers, and in the versions of
    /// each stream.
    ///
    /// # Errors
    /// [`FormatError`]; the segment is of no use then.
    pub(crate) fn load(
        &mut self,
        header: &BatchHeader,
        chunk: &ReadChunk,
    ) -> Result<(), FormatError> {
        let bytes = chunk.bytes(header.offset..header.end()).ok_or(FormatError::Short)?;
        if !self.chunk.as_ref().is_some_and(|known| known.is(chunk)) {
            self.live.add_filled_chunk(header.offset, ChunkRef::clone(chunk.chunk()));
            self.chunk = Some(chunk.clone());
        }
        chunk.publish(header.end());

        let content = &bytes[BATCH_HEADER_BYTES..];
        let records_at = header.offset + BATCH_HEADER_BYTES as u64;
        let mut taken = self.live.content();
        let (mut position, mut count) = (header.first_position, 0);
        let mut group = Vec::with_capacity(FETCH_TERMS_MAX.min(header.events as usize));
        // The checksum of the batch was checked, which covers those of its records.
        for record in checked_records(records_at, content) {
            count += 1;
            match record? {
                (_, Record::Definition { type_ref, event_type }) => {
                    if self.live.types.push(event_type) != type_ref {
                        return Err(FormatError::Field("type_ref"));
                    }
                }
                (at, Record::Event(frame)) => {
                    if frame.position() != position {
                        return Err(FormatError::Field("position"));
                    }
                    group.push(self.locate(at, frame)?);
                    if group.len() == FETCH_TERMS_MAX {
                        self.index(&mut group)?;
                    }
                    position += 1;
                    taken.recorded_last = frame.recorded_at();
                }
            }
        }
        self.index(&mut group)?;
        if position != header.first_position + u64::from(header.events) || count != header.records {
            return Err(FormatError::Field("events"));
        }
        taken.data_end = header.end();
        taken.events += u64::from(header.events);
        taken.batches += 1;
        taken.chain = header.chain;
        self.live.set_content(taken);
        Ok(())
    }

    fn locate<'a>(&self, at: u64, frame: Frame<'a>) -> Result<Located<'a>, FormatError> {
        if frame.type_ref() >= self.live.types.len() {
            return Err(FormatError::Field("type_ref"));
        }
        let extent = frame.extent_at(at)?;
        Ok(Located { extent, hash: Term::stream(frame.stream_bytes()).xxh3_64(), frame })
    }

    /// Indexes some events, in their order.
    fn index(&mut self, group: &mut Vec<Located<'_>>) -> Result<(), FormatError> {
        if group.len() > 1 {
            let mut hashes = [TermHash(0); FETCH_TERMS_MAX];
            for (hash, located) in hashes.iter_mut().zip(&*group) {
                *hash = located.hash;
            }
            self.writer.fetch(&hashes[..group.len()]);
        }
        for Located { extent, hash, frame } in group.drain(..) {
            let event_type = self.live.types.get(frame.type_ref());
            let event_type = event_type.ok_or(FormatError::Field("type_ref"))?;
            enter(&mut self.writer, extent, hash, &frame, event_type)
                .map_err(|Gap| FormatError::Field("version"))?;
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> (Arc<LiveSegment>, LiveWriter) {
        (self.live, self.writer)
    }
}
