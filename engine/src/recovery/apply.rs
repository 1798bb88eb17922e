//! Making a decision durable, and handing the log to its writer.
//!
//! Every step can be interrupted and done again. Nothing is written behind a cut before the manifest
//! says where the cut is; what was cut off is copied aside before that.

use std::io;
use std::sync::Arc;

use super::cases::Case;
use super::inspect::{Found, Judgement, inspect};
use super::report::TornTail;
use super::structure::{Leftover, refusal};
use super::tail::{LogEnd, TailSegment};
use crate::append::{Prepared, Resume};
use crate::commit::{CommitStart, LiveSegment, LiveStart};
use crate::disk::{Access, AlignedBuf, Disk, unlink_if_there, write_all_at};
use crate::error::{FileError, OpenError};
use crate::event::Timestamp;
use crate::format::checksum::StoreId;
use crate::format::manifest::{Manifest, SegmentState};
use crate::format::{align_down, align_up};
use crate::index::LiveWriter;
use crate::limits::{BLOCK, BLOCK_BYTES, SEGMENT_HEAD_BYTES};
use crate::log::{Catalog, CatalogSegment, ManifestFile, SealedSegment, names, prepare};
use crate::options::Options;

/// A store that is ready to be written to.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub manifest: ManifestFile,
    pub catalog: Catalog,
    pub resume: Resume,
    pub commit: CommitStart,
    pub watermark: u64,
    pub case: Case,
    pub torn: Vec<TornTail>,
    /// Sealed segments without an index file.
    pub unindexed: Vec<Arc<SealedSegment>>,
}

/// Opens what is on the disk for writing: inspects it, creates the store where there is none, and makes
/// recovery's decision durable. The directory's lock is held by the caller.
///
/// # Errors
/// [`OpenError`].
pub(crate) fn recover(disk: &Arc<dyn Disk>, options: &Options) -> Result<Recovered, OpenError> {
    let judgement = options.given_up_from().map_or(Judgement::Strict, Judgement::GiveUpFrom);
    let (found, case) = if let Some(found) = inspect(&**disk, Access::Write, judgement)? {
        let case = found.case;
        (found, case)
    } else {
        create(disk)?;
        let found = inspect(&**disk, Access::Write, Judgement::Strict)?;
        (found.ok_or_else(vanished)?, Case::Fresh)
    };
    let mut recovered = Plan::new(disk, options, found).apply()?;
    recovered.case = case;
    Ok(recovered)
}

/// Makes an empty store: a manifest without segments. The first file, so that there are never segments
/// without one.
fn create(disk: &Arc<dyn Disk>) -> Result<(), OpenError> {
    let manifest = Manifest {
        store: StoreId(*uuid::Uuid::new_v4().as_bytes()),
        generation: 0,
        epoch: 0,
        created_at: Timestamp::now().0,
        strict: false,
        clean_end: None,
        segments: Vec::new(),
    };
    ManifestFile::new(Arc::clone(disk), manifest).replace(|_| {})?;
    Ok(())
}

fn vanished() -> FileError {
    let source = io::Error::from(io::ErrorKind::NotFound);
    FileError::new("reading back", names::MANIFEST, source)
}

/// What is to be done.
struct Plan<'a> {
    disk: &'a Arc<dyn Disk>,
    options: &'a Options,
    manifest: ManifestFile,
    found: Found,
    /// How many of the tail's segments keep what they have; those behind are unused.
    kept: usize,
    /// Whether the last kept segment goes on to be written.
    continues: bool,
}

/// Where writing goes on.
struct Begin {
    live: Arc<LiveSegment>,
    writer: LiveWriter,
    next_offset: u64,
    /// Up to where zeroes were written, as far as is known.
    zeroed_end: u64,
    /// The last, partial block of what is valid there, with zeroes behind.
    tail_block: AlignedBuf,
    witness_counter: u64,
}

impl Begin {
    /// Behind what a segment holds.
    fn inside(mut segment: TailSegment) -> Result<Self, OpenError> {
        let mut tail_block = memory_for_block()?;
        let next_offset = segment.next_offset;
        let start = align_down(next_offset, BLOCK);
        let length = usize::try_from(next_offset - start).unwrap_or(BLOCK_BYTES);
        let name = names::segment(segment.number());
        let bytes = segment.reader.bytes(start, length).map_err(FileError::at("reading", &name))?;
        tail_block[..length].copy_from_slice(bytes);
        let witness_counter = segment.witness.map_or(0, |witness| witness.counter);
        let (live, writer) = segment.take_live().expect("it was read when the store was inspected");
        let zeroed_end = live.file_bytes;
        Ok(Self { live, writer, next_offset, zeroed_end, tail_block, witness_counter })
    }
}

impl<'a> Plan<'a> {
    fn new(disk: &'a Arc<dyn Disk>, options: &'a Options, found: Found) -> Self {
        let manifest = ManifestFile::new(Arc::clone(disk), found.manifest.clone());
        let stop = found.tail.stop;
        let closed = found.case == Case::RecordedEnd
            && found.manifest.clean_end.is_some()
            && stop < found.tail.segments.len();
        let kept = if closed {
            stop + 1
        } else {
            let used_behind = found.behind.used_ends.iter().rposition(|end| *end > 0);
            let filled =
                found.tail.segments.iter().rposition(|segment| {
                    segment.content().is_some_and(|content| content.events > 0)
                });
            let cut = found
                .tail
                .segments
                .iter()
                .rposition(|segment| matches!(segment.entry.state, SegmentState::Cut(_)));
            [used_behind.map(|used| stop + used), filled, cut]
                .into_iter()
                .flatten()
                .max()
                .map_or(0, |last| last + 1)
        };
        // In the strict mode a block with acknowledged bytes is not written again: the segment is cut.
        let continues = closed
            && (!options.is_strict()
                || found.tail.segments[stop].next_offset.is_multiple_of(BLOCK));
        Self { disk, options, manifest, found, kept, continues }
    }

    fn apply(mut self) -> Result<Recovered, OpenError> {
        let torn = self.keep_torn_bytes()?;
        let end = self.found.tail.end;
        let mut segments = std::mem::take(&mut self.found.tail.segments);
        let mut unused = segments.split_off(self.kept);
        for segment in &mut segments {
            if segment.content().is_none() {
                segment.begin(&end);
            }
        }
        // A file that no manifest names was being made; the next one is made anew.
        let mut leftover = std::mem::take(&mut self.found.leftover);
        let spares = if self.continues { 1 } else { 2 };
        let kept = unused.iter().take_while(|segment| segment.listed).count().min(spares);
        let dropped = unused.split_off(kept);
        leftover.extend(
            dropped.iter().map(|segment| Leftover { number: segment.number(), keep: false }),
        );
        self.record(&segments, &unused)?;
        for (number, bytes) in &self.found.overlong {
            // It takes room and nothing else: it never matters either.
            let file = self.disk.open(&names::segment(*number), Access::Write);
            let _ = file.and_then(|file| file.truncate(*bytes).and_then(|()| file.sync()));
        }
        for Leftover { number, keep } in leftover {
            // Not named any more: it never matters whether this succeeds.
            let name = names::segment(number);
            let _ = if keep {
                self.disk.rename(&name, &names::torn(number, self.manifest.current().epoch))
            } else {
                self.disk.unlink(&name)
            };
        }

        let mut unused = unused.into_iter().map(|segment| Prepared {
            key: segment.key,
            file: segment.file,
            file_bytes: segment.entry.file_bytes,
            // Not known; where it was not zeroed, writing there only takes longer.
            zeroed_end: segment.entry.file_bytes,
        });
        let last = if self.continues { segments.pop() } else { None };
        let mut unsealed = Vec::new();
        for mut segment in segments {
            unsealed.extend(segment.take_live().map(|(live, _)| live));
        }
        let begin = match last {
            Some(segment) => Begin::inside(segment)?,
            None => self.begin_segment(unused.next(), &end)?,
        };
        let live = Arc::clone(&begin.live);
        let lives = unsealed.iter().chain([&live]).cloned().collect();
        let (catalog, unindexed) = catalog(self.disk, &self.found, lives);
        Ok(Recovered {
            resume: Resume {
                live: Arc::clone(&live),
                writer: begin.writer,
                next_offset: begin.next_offset,
                zeroed_end: begin.zeroed_end,
                unsealed,
                spare: unused.next(),
                next_position: end.next_position,
                next_sequence: end.next_sequence,
                recorded_last: end.recorded_last,
                strict: self.options.is_strict(),
            },
            commit: CommitStart {
                epoch: self.manifest.current().epoch,
                live,
                chain: end.chain,
                durable_sequence: end.next_sequence - 1,
                tail_block: begin.tail_block,
                witness_counter: begin.witness_counter,
            },
            manifest: self.manifest,
            catalog,
            watermark: end.next_position - 1,
            case: self.found.case,
            torn,
            unindexed,
        })
    }

    /// A fresh segment to go on in: a prepared one, or one that is made now.
    fn begin_segment(
        &mut self,
        prepared: Option<Prepared>,
        end: &LogEnd,
    ) -> Result<Begin, OpenError> {
        let prepared = if let Some(prepared) = prepared {
            prepared
        } else {
            let before = self.manifest.current().segments.iter().map(|s| s.file_bytes).sum();
            let bytes = self.options.next_segment_bytes(before, 0);
            prepare(self.disk, &mut self.manifest, bytes)?
        };
        let Prepared { key, file, file_bytes, zeroed_end } = prepared;
        let start = LiveStart {
            first_position: end.next_position,
            first_sequence: end.next_sequence,
            chain: end.chain,
            recorded_last: end.recorded_last,
        };
        let (live, writer) = LiveSegment::new(key, file, file_bytes, &start);
        let tail_block = memory_for_block()?;
        let next_offset = SEGMENT_HEAD_BYTES;
        Ok(Begin { live, writer, next_offset, zeroed_end, tail_block, witness_counter: 0 })
    }

    /// Copies what is cut off to files of their own.
    fn keep_torn_bytes(&mut self) -> Result<Vec<TornTail>, OpenError> {
        let mut torn = Vec::new();
        if !matches!(self.found.case, Case::TornTail | Case::GivenUp) {
            return Ok(torn);
        }
        let epoch = self.manifest.current().epoch;
        let (tail, behind) = (&mut self.found.tail, &self.found.behind);
        for (segment, used_end) in tail.segments[tail.stop..].iter_mut().zip(&behind.used_ends) {
            if *used_end == 0 {
                continue;
            }
            let offset = segment.next_offset;
            let kept_in = names::torn(segment.number(), epoch);
            keep(self.disk, segment, *used_end, &kept_in)
                .map_err(FileError::at("keeping torn bytes in", &kept_in))?;
            let bytes = used_end - offset;
            tracing::warn!(
                segment = segment.number(),
                offset,
                bytes,
                kept_in,
                "cut off writes that were in flight and never acknowledged"
            );
            torn.push(TornTail { segment: segment.number(), offset, bytes, kept_in });
        }
        self.disk.sync_dir().map_err(FileError::at("syncing", "the directory"))?;
        Ok(torn)
    }

    /// Records the new epoch, the cuts, and which segments there are.
    fn record(&mut self, kept: &[TailSegment], unused: &[TailSegment]) -> Result<(), OpenError> {
        let continues = self.continues;
        let last = kept.len();
        let tail: Vec<_> = kept
            .iter()
            .enumerate()
            .map(|(index, segment)| {
                let mut entry = segment.entry;
                let active = continues && index + 1 == last;
                if let Some(content) = segment.content().filter(|_| !active) {
                    entry.state = SegmentState::Cut(content);
                }
                entry
            })
            .chain(unused.iter().map(|segment| segment.entry))
            .collect();
        let first = self.found.sealed.last().map_or(1, |(key, _)| key.identity.segment + 1);
        if let Some((missing, _)) = (first..).zip(&tail).find(|(next, entry)| *next != entry.number)
        {
            return Err(refusal(Case::SegmentMissing, missing, None));
        }
        let strict = self.options.is_strict();
        let epoch = self.found.tail.epoch;
        self.manifest.replace(|next| {
            next.epoch = next.epoch.max(epoch) + 1;
            next.clean_end = None;
            next.strict = strict;
            next.segments.retain(|entry| matches!(entry.state, SegmentState::Sealed(_)));
            next.segments.extend(tail);
        })?;
        Ok(())
    }
}

/// The catalog of a store whose unsealed segments are these; and the sealed ones without an index file.
pub(crate) fn catalog(
    disk: &Arc<dyn Disk>,
    found: &Found,
    lives: Vec<Arc<LiveSegment>>,
) -> (Catalog, Vec<Arc<SealedSegment>>) {
    let sealed: Vec<_> = found
        .sealed
        .iter()
        .map(|(key, content)| Arc::new(SealedSegment::new(Arc::clone(disk), key.clone(), *content)))
        .collect();
    let unindexed = sealed
        .iter()
        .filter(|segment| !found.indexes.contains(&segment.number()))
        .cloned()
        .collect();
    let segments = sealed.into_iter().map(CatalogSegment::Sealed);
    let segments = segments.chain(lives.into_iter().map(CatalogSegment::Live)).collect();
    (Catalog { segments }, unindexed)
}

fn memory_for_block() -> Result<AlignedBuf, FileError> {
    AlignedBuf::zeroed(BLOCK_BYTES).map_err(FileError::at("finding memory for", "the tail"))
}

fn keep(
    disk: &Arc<dyn Disk>,
    segment: &mut TailSegment,
    used_end: u64,
    kept_in: &str,
) -> io::Result<()> {
    unlink_if_there(&**disk, kept_in)?;
    let file = disk.create(kept_in)?;
    let mut at = align_down(segment.next_offset, BLOCK);
    let mut written = 0;
    let mut block = AlignedBuf::zeroed(BLOCK_BYTES)?;
    while at < align_up(used_end, BLOCK) {
        let bytes = segment.reader.bytes(at, BLOCK_BYTES)?;
        block.fill(0);
        block[..bytes.len()].copy_from_slice(bytes);
        write_all_at(&*file, &block, written)?;
        at += BLOCK;
        written += BLOCK;
    }
    file.sync()
}
