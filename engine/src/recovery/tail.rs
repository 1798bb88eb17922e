//! The tail's batches in the order of their chain, up to the place where they end.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::ahead::{Ahead, Planned, Use};
use super::cases::Case;
use super::reader::SegmentReader;
use super::structure::{TailFile, refusal};
use crate::commit::{LiveSegment, LiveStart, Loader, ReadChunk};
use crate::disk::DiskFile;
use crate::error::{FileError, OpenError};
use crate::format::FormatError;
use crate::format::batch::BatchHeader;
use crate::format::checksum::{Chain, SegmentKey};
use crate::format::constants::{BATCH_HEADER_BYTES, WITNESS_OFFSETS};
use crate::format::definition::EventType;
use crate::format::footer::{self, SegmentContent};
use crate::format::manifest::{CleanEnd, Manifest, SegmentEntry, SegmentState};
use crate::format::witness::Witness;
use crate::index::LiveWriter;
use crate::limits::{BLOCK_BYTES, SEGMENT_HEAD_BYTES};
use crate::log::names;

/// Where the valid log ends, in its own terms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogEnd {
    pub chain: Chain,
    pub next_sequence: u64,
    pub next_position: u64,
    pub recorded_last: i64,
}

/// A segment of the tail, as far as its batches were read.
#[derive(Debug)]
pub(crate) struct TailSegment {
    pub entry: SegmentEntry,
    pub listed: bool,
    pub key: SegmentKey,
    pub file: Arc<dyn DiskFile>,
    pub reader: SegmentReader,
    /// What was read; none where the log's order did not reach it.
    loaded: Option<Loader>,
    /// Where the next batch would begin.
    pub next_offset: u64,
    /// The greatest epoch of its batches.
    epoch: u64,
    /// The newest good witness.
    pub witness: Option<Witness>,
}

/// Good batches that stand in the same memory.
#[derive(Debug)]
struct Batches {
    chunk: ReadChunk,
    headers: Vec<BatchHeader>,
}

/// A batch whose checksums are good, and whose records contradict it.
#[derive(Debug)]
struct Contradiction {
    offset: u64,
    error: FormatError,
}

impl Batches {
    fn load(&self, loader: &mut Loader) -> Result<(), Contradiction> {
        for header in &self.headers {
            let contradiction = |error| Contradiction { offset: header.offset, error };
            loader.load(header, &self.chunk).map_err(contradiction)?;
        }
        Ok(())
    }
}

/// What the tail holds.
#[derive(Debug)]
pub(crate) struct Tail {
    pub segments: Vec<TailSegment>,
    pub end: LogEnd,
    /// The segment in which P is: where the valid batches end. One past the last where all are cut.
    pub stop: usize,
    /// The greatest epoch of its batches; 0 where it has none.
    pub epoch: u64,
    /// Whether P is where an end was recorded, if one was, and where that is.
    pub recorded: Option<(bool, CleanEnd)>,
}

impl TailSegment {
    fn new(file: TailFile) -> io::Result<Self> {
        let TailFile { entry, listed, key, file } = file;
        let reader = SegmentReader::new(entry.number, Arc::clone(&file))?;
        let mut segment = Self {
            entry,
            listed,
            key,
            file,
            reader,
            loaded: None,
            next_offset: SEGMENT_HEAD_BYTES,
            epoch: 0,
            witness: None,
        };
        for offset in WITNESS_OFFSETS {
            let block = segment.reader.bytes(offset, BLOCK_BYTES)?;
            let found = Witness::parse(&segment.key, offset, block);
            if found.map(|found| found.counter) > segment.witness.map(|known| known.counter) {
                segment.witness = found;
            }
        }
        Ok(segment)
    }

    pub(crate) fn number(&self) -> u64 {
        self.entry.number
    }

    /// What of it is valid; none where the log's order did not reach it.
    pub(crate) fn content(&self) -> Option<SegmentContent> {
        self.loaded.as_ref().map(|loaded| loaded.live().content())
    }

    /// The types of its events, as far as they were read.
    pub(super) fn types(&self) -> impl Iterator<Item = &EventType> {
        self.loaded.iter().flat_map(|loaded| loaded.live().types.iter())
    }

    /// Its events, for readers and for the writer; none where the log's order did not reach it.
    pub(crate) fn take_live(&mut self) -> Option<(Arc<LiveSegment>, LiveWriter)> {
        self.loaded.take().map(Loader::finish)
    }

    pub(super) fn begin(&mut self, end: &LogEnd) {
        let start = LiveStart {
            first_position: end.next_position,
            first_sequence: end.next_sequence,
            chain: end.chain,
            recorded_last: end.recorded_last,
        };
        let file = Arc::clone(&self.file);
        let bytes = self.entry.file_bytes;
        self.loaded = Some(Loader::new(self.key.clone(), file, bytes, &start));
    }

    /// The header at `offset`, if it is that of the batch that follows `end`.
    fn following(&mut self, offset: u64, end: &LogEnd) -> io::Result<Option<BatchHeader>> {
        let bytes = self.reader.bytes(offset, BATCH_HEADER_BYTES)?;
        let header = BatchHeader::parse(&self.key, offset, bytes).ok().filter(|header| {
            header.sequence == end.next_sequence
                && header.first_position == end.next_position
                && header.follows(end.chain, bytes)
        });
        Ok(header)
    }

    /// Takes the valid batches from the next one on, no farther than `limit`. Where much is read, what was
    /// found to be good is indexed by a thread, while the next batches are checked.
    fn read_batches(
        &mut self,
        ahead: &mut Ahead,
        end: &mut LogEnd,
        limit: Option<u64>,
    ) -> Result<(), OpenError> {
        /// How many chunks of good batches may wait to be indexed.
        const CHUNKS_WAITING: usize = 4;
        let mut loader = self.loaded.take().expect("a segment is begun before it is read");
        let (walked, indexed) = if ahead.is_running() {
            std::thread::scope(|scope| {
                let (good, batches) = sync_channel::<Batches>(CHUNKS_WAITING);
                let loader = &mut loader;
                let load = move || batches.into_iter().try_for_each(|batches| batches.load(loader));
                let loading = std::thread::Builder::new()
                    .name("stratalog-load".into())
                    .spawn_scoped(scope, load)
                    .map_err(|error| FileError::new("starting", "a thread", error))?;
                let walked = self.walk(ahead, end, limit, |batches| good.send(batches).is_ok());
                drop(good);
                let indexed = loading.join();
                let indexed = indexed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                Ok::<_, OpenError>((walked, indexed))
            })?
        } else {
            let mut indexed = Ok(());
            let walked = self.walk(ahead, end, limit, |batches| {
                indexed = batches.load(&mut loader);
                indexed.is_ok()
            });
            (walked, indexed)
        };
        indexed.map_err(|Contradiction { offset, error }| {
            refusal(Case::BatchContradictory(error), self.number(), Some(offset))
        })?;
        walked.map_err(FileError::at("reading", &names::segment(self.number())))?;
        end.recorded_last = loader.live().content().recorded_last;
        self.loaded = Some(loader);
        Ok(())
    }

    /// Checks batch after batch, and hands on those that are good until it is told to stop.
    fn walk(
        &mut self,
        ahead: &mut Ahead,
        end: &mut LogEnd,
        limit: Option<u64>,
        mut take: impl FnMut(Batches) -> bool,
    ) -> io::Result<()> {
        let mut taken: Option<Batches> = None;
        while limit.is_none_or(|limit| self.next_offset < limit) {
            let offset = self.next_offset;
            self.reader.piece(ahead, offset, Use::Batches)?;
            let Some(header) = self.following(offset, end)? else { break };
            let Some(chunk) = self.reader.batch(ahead, &header)? else { break };
            let content = chunk.bytes(offset + BATCH_HEADER_BYTES as u64..header.end());
            if !content.is_some_and(|content| header.content_is_good(&self.key, content)) {
                break;
            }
            self.epoch = self.epoch.max(header.epoch);
            end.chain = header.chain;
            end.next_sequence += 1;
            end.next_position += u64::from(header.events);
            self.next_offset = header.next_offset();
            match &mut taken {
                Some(batches) if batches.chunk.is(&chunk) => batches.headers.push(header),
                _ => {
                    let next = Batches { chunk, headers: vec![header] };
                    if let Some(full) = taken.replace(next)
                        && !take(full)
                    {
                        return Ok(());
                    }
                }
            }
        }
        if let Some(last) = taken {
            take(last);
        }
        Ok(())
    }

    /// Whether a footer says that what was read is all.
    fn is_finished(&mut self) -> io::Result<bool> {
        let Some(content) = self.content() else { return Ok(false) };
        let offset = content.footer_offset();
        let block = self.reader.bytes(offset, BLOCK_BYTES)?;
        Ok(footer::parse(&self.key, offset, block).is_ok_and(|found| found == content))
    }
}

/// Reads the tail.
///
/// # Errors
/// [`OpenError`]: the operating system's, or a batch that contradicts itself.
pub(crate) fn read(
    files: Vec<TailFile>,
    manifest: &Manifest,
    start: LogEnd,
    ahead: &mut Ahead,
) -> Result<Tail, OpenError> {
    ahead.begin(plan(&files, manifest).map_err(FileError::at("reading", "the tail"))?);
    let opened: io::Result<Vec<_>> = files.into_iter().map(TailSegment::new).collect();
    let mut segments = opened.map_err(FileError::at("reading", "the tail"))?;
    let mut end = start;
    let mut stop = 0;
    let mut recorded_end_counts = true;
    while stop < segments.len() {
        let recorded = recorded_end(manifest, &segments[stop].entry);
        let recorded = recorded.filter(|_| recorded_end_counts);
        let segment = &mut segments[stop];
        if segment.loaded.is_none() {
            segment.begin(&end);
        }
        segment.read_batches(ahead, &mut end, recorded.map(|recorded| recorded.data_end))?;
        let failed = FileError::at("reading", "the tail");
        if let Some(recorded) = recorded {
            let content = segment.content().expect("it was begun above");
            let reached = content.data_end == recorded.data_end
                && end.chain == recorded.chain
                && end.next_position == recorded.last_position + 1;
            let clean = manifest.clean_end.is_some_and(|clean| clean.segment == segment.number());
            if reached && clean {
                // The log was opened again since, if a batch of a later epoch follows: the manifest is
                // an older one, and what the log itself says is newer.
                let newer = follows_later(&mut segments, stop, &end, manifest.epoch);
                if newer.map_err(failed)? {
                    recorded_end_counts = false;
                    continue;
                }
            }
            if !reached || clean {
                let recorded = Some((reached, recorded));
                return Ok(Tail {
                    epoch: greatest_epoch(&segments),
                    segments,
                    end,
                    stop,
                    recorded,
                });
            }
            stop += 1;
            continue;
        }
        match next_segment(&mut segments, stop, &end).map_err(failed)? {
            Some(next) => {
                for skipped in &mut segments[stop + 1..next] {
                    skipped.begin(&end);
                }
                stop = next;
            }
            None => break,
        }
    }
    // An end may be recorded in a segment that was not reached, or that is not in the tail at all.
    let unreached = manifest.clean_end.filter(|clean| end.next_sequence <= clean.last_sequence);
    let recorded = unreached.map(|clean| (false, clean));
    Ok(Tail { epoch: greatest_epoch(&segments), segments, end, stop, recorded })
}

/// What will be read of these files, and in which order: up to the end that is recorded, where one is, and
/// nothing behind the end of all.
fn plan(files: &[TailFile], manifest: &Manifest) -> io::Result<Vec<Planned>> {
    let mut plan = Vec::new();
    for TailFile { entry, file, .. } in files {
        let bytes = file.len()?;
        let end = recorded_end(manifest, entry).map_or(bytes, |recorded| recorded.data_end);
        plan.push(Planned { number: entry.number, file: Arc::clone(file), bytes, end });
        if manifest.clean_end.is_some_and(|clean| clean.segment == entry.number) {
            break;
        }
    }
    Ok(plan)
}

fn greatest_epoch(segments: &[TailSegment]) -> u64 {
    segments.iter().map(|segment| segment.epoch).max().unwrap_or(0)
}

/// Whether a batch follows, or a witness tells of one, that was written in a later epoch than this one.
fn follows_later(
    segments: &mut [TailSegment],
    stop: usize,
    end: &LogEnd,
    epoch: u64,
) -> io::Result<bool> {
    for (index, segment) in segments.iter_mut().enumerate().skip(stop) {
        if segment.witness.is_some_and(|witness| witness.epoch > epoch) {
            return Ok(true);
        }
        let offset = if index == stop { segment.next_offset } else { SEGMENT_HEAD_BYTES };
        if segment.following(offset, end)?.is_some_and(|header| header.epoch > epoch) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The segment in which the log goes on behind the one at `stop`, if it does.
fn next_segment(
    segments: &mut [TailSegment],
    stop: usize,
    end: &LogEnd,
) -> io::Result<Option<usize>> {
    for (index, segment) in segments.iter_mut().enumerate().skip(stop + 1) {
        if segment.following(SEGMENT_HEAD_BYTES, end)?.is_some() {
            return Ok(Some(index));
        }
    }
    let finished = segments[stop].is_finished()? && stop + 1 < segments.len();
    Ok(finished.then_some(stop + 1))
}

/// The end that the manifest records for a segment.
fn recorded_end(manifest: &Manifest, entry: &SegmentEntry) -> Option<CleanEnd> {
    if let SegmentState::Cut(content) = entry.state {
        return Some(CleanEnd {
            segment: entry.number,
            data_end: content.data_end,
            last_sequence: content.next_sequence().saturating_sub(1),
            last_position: content.next_position().saturating_sub(1),
            chain: content.chain,
        });
    }
    manifest.clean_end.filter(|clean| clean.segment == entry.number)
}
