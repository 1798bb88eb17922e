//! Filling a live segment with batches that were read back, when a store is opened.
//!
//! Used by recovery alone, before anybody else knows of the segment.

use std::sync::Arc;

use super::chunk::Chunk;
use super::live::{LiveSegment, LiveStart};
use crate::disk::DiskFile;
use crate::format::FormatError;
use crate::format::batch::BatchHeader;
use crate::format::checksum::SegmentKey;
use crate::format::constants::BATCH_HEADER_BYTES;
use crate::format::frame::Frame;
use crate::format::scan::{Record, checked_records};
use crate::index::{LiveWriter, Term};
use crate::limits::{BLOCK, CHUNK_BYTES, RECORD_ALIGN};

/// See the module.
#[derive(Debug)]
pub(crate) struct Loader {
    live: Arc<LiveSegment>,
    writer: LiveWriter,
    chunk: Option<Arc<Chunk>>,
}

/// Why a batch whose checksums are good cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Memory(#[from] std::io::Error),
}

impl Loader {
    pub(crate) fn new(
        key: SegmentKey,
        file: Arc<dyn DiskFile>,
        file_bytes: u64,
        start: &LiveStart,
    ) -> Self {
        let (live, writer) = LiveSegment::new(key, file, file_bytes, start);
        Self { live, writer, chunk: None }
    }

    pub(crate) fn live(&self) -> &Arc<LiveSegment> {
        &self.live
    }

    /// Takes the next batch of the segment, of which header and content were found to be good. Its records
    /// must be dense in positions, in type numbers, and in the versions of each stream.
    ///
    /// # Errors
    /// [`LoadError`]; the segment is of no use then.
    pub(crate) fn load(&mut self, header: &BatchHeader, bytes: &[u8]) -> Result<(), LoadError> {
        let chunk = self.chunk_for(header)?;
        // The gap behind a large batch.
        drop(chunk.claim(header.offset - chunk.claimed()));
        let mut claim = chunk.claim(u64::from(header.bytes)).ok_or(FormatError::Short)?;
        claim.bytes_mut().copy_from_slice(bytes);
        drop(claim);
        // SAFETY: nobody but this loader claims bytes of this chunk, and it has dropped all its claims.
        unsafe { chunk.publish(header.end()) };

        let content = &bytes[BATCH_HEADER_BYTES..];
        let records_at = header.offset + BATCH_HEADER_BYTES as u64;
        let mut taken = self.live.content();
        let (mut position, mut count) = (header.first_position, 0);
        // The checksum of the batch was checked, which covers those of its records.
        for record in checked_records(records_at, content) {
            count += 1;
            match record? {
                (_, Record::Definition { type_ref, event_type }) => {
                    if self.live.types.push(event_type) != type_ref {
                        return Err(FormatError::Field("type_ref").into());
                    }
                }
                (at, Record::Event(frame)) => {
                    if frame.position() != position {
                        return Err(FormatError::Field("position").into());
                    }
                    self.index(at, &frame)?;
                    position += 1;
                    taken.recorded_last = frame.recorded_at();
                }
            }
        }
        if position != header.first_position + u64::from(header.events) || count != header.records {
            return Err(FormatError::Field("events").into());
        }
        taken.data_end = header.end();
        taken.events += u64::from(header.events);
        taken.batches += 1;
        taken.chain = header.chain;
        self.live.set_content(taken);
        Ok(())
    }

    fn index(&mut self, at: u64, frame: &Frame<'_>) -> Result<(), FormatError> {
        if frame.type_ref() >= self.live.types.len() {
            return Err(FormatError::Field("type_ref"));
        }
        let units =
            u32::try_from(at / RECORD_ALIGN as u64).map_err(|_| FormatError::Field("offset"))?;
        let term = Term::stream(frame.stream_bytes());
        let hash = term.xxh3_64();
        let ordinal = self.writer.push_event(units);
        match self.writer.find(hash, term) {
            Some(id) if self.writer.head(id).next_version() == frame.version() => {
                self.writer.append(id, ordinal);
            }
            Some(_) => return Err(FormatError::Field("version")),
            None => {
                self.writer.create(hash, term, ordinal, frame.version());
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> (Arc<LiveSegment>, LiveWriter) {
        (self.live, self.writer)
    }

    fn chunk_for(&mut self, header: &BatchHeader) -> std::io::Result<Arc<Chunk>> {
        if let Some(chunk) = self.chunk.as_ref().filter(|chunk| header.end() <= chunk.end()) {
            return Ok(Arc::clone(chunk));
        }
        let base = crate::format::align_down(header.offset, BLOCK);
        let needed = usize::try_from(header.end() - base).unwrap_or(usize::MAX);
        let room = usize::try_from(self.live.file_bytes.saturating_sub(base)).unwrap_or(usize::MAX);
        let chunk = self.live.add_chunk(header.offset, room.min(CHUNK_BYTES).max(needed))?;
        self.chunk = Some(Arc::clone(&chunk));
        Ok(chunk)
    }
}
