//! Making a decision durable, and handing the log to its writer.
//!
//! Every step can be interrupted and done again. Nothing is written behind a cut before the manifest
//! says where the cut is; what was cut off is copied aside before that.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::cases::Case;
use super::inspect::{Found, Judgement, inspect};
use super::report::TornTail;
use super::structure::{IndexFiles, Leftover, refusal};
use super::tail::{LogEnd, TailSegment};
use crate::append::{Prepared, Resume};
use crate::commit::{CommitStart, LiveSegment, LiveStart};
use crate::disk::{Access, AlignedBuf, Disk, unlink_if_there, write_all_at};
use crate::error::{FileError, OpenError};
use crate::event::Timestamp;
use crate::format::checksum::StoreId;
use crate::format::manifest::{Manifest, SegmentState};
use crate::format::stored_types::StoredTypes;
use crate::format::{align_down, align_up};
use crate::index::{IndexDamage, LiveRoom, LiveWriter};
use crate::limits::{BLOCK, BLOCK_BYTES, INDEX_SHARE_LIVE, SEGMENT_HEAD_BYTES};
use crate::log::{
    Catalog, CatalogSegment, IndexOrRead, ManifestFile, Rebuilding, Run, SealedSegment, names,
    prepare,
};
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
}

/// Opens what is on the disk for writing: inspects it, creates the store where there is none, and makes
/// recovery's decision durable. The directory's lock is held by the caller.
///
/// # Errors
/// [`OpenError`].
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    options: &Options,
    rebuilding: &Arc<Rebuilding>,
) -> Result<Recovered, OpenError> {
    let judgement = options.given_up_from().map_or(Judgement::Strict, Judgement::GiveUpFrom);
    let (found, case) = if let Some(found) = inspect(&**disk, Access::Write, judgement)? {
        let case = found.case;
        (found, case)
    } else {
        create(disk)?;
        let found = inspect(&**disk, Access::Write, Judgement::Strict)?;
        (found.ok_or_else(vanished)?, Case::Fresh)
    };
    // Before anything is changed. Types of sealed segments that are not listed are compared later.
    let listed = found.manifest.types.listed().into_iter().flatten().map(|known| &known.event_type);
    let in_tail = found.tail.segments.iter().flat_map(TailSegment::types);
    listed.chain(in_tail).try_for_each(|stored| options.registered().check_stored(stored))?;
    let mut recovered = Plan::new(disk, options, rebuilding, found).apply()?;
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
        types: StoredTypes::NONE,
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
    /// For indexes that are built again.
    rebuilding: &'a Arc<Rebuilding>,
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
    fn inside(mut segment: TailSegment, index_bytes_max: u64) -> Result<Self, OpenError> {
        let mut tail_block = memory_for_block()?;
        let next_offset = segment.next_offset;
        let start = align_down(next_offset, BLOCK);
        let length = usize::try_from(next_offset - start).unwrap_or(BLOCK_BYTES);
        let name = names::segment(segment.number());
        let bytes = segment.reader.bytes(start, length).map_err(FileError::at("reading", &name))?;
        tail_block[..length].copy_from_slice(bytes);
        let witness_counter = segment.witness.map_or(0, |witness| witness.counter);
        let (live, mut writer) =
            segment.take_live().expect("it was read when the store was inspected");
        writer.bound(index_bytes_max);
        let zeroed_end = live.file_bytes;
        Ok(Self { live, writer, next_offset, zeroed_end, tail_block, witness_counter })
    }
}

impl<'a> Plan<'a> {
    fn new(
        disk: &'a Arc<dyn Disk>,
        options: &'a Options,
        rebuilding: &'a Arc<Rebuilding>,
        found: Found,
    ) -> Self {
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
        Self { disk, options, manifest, found, kept, continues, rebuilding }
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
            Some(segment) => Begin::inside(segment, self.live_index_bytes())?,
            None => self.begin_segment(unused.next(), &end)?,
        };
        let live = Arc::clone(&begin.live);
        let lives = unsealed.iter().chain([&live]).cloned().collect();
        let catalog = catalog(self.disk, &self.found, lives, self.rebuilding);
        self.remove_index_files(&catalog);
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
                index_bytes: self.options.index_bytes_max(),
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
        })
    }

    /// Removes the files of the index that nobody will read: half-written ones, and runs that others replaced. It
    /// never matters whether this succeeds.
    fn remove_index_files(&self, catalog: &Catalog) {
        let used: BTreeSet<_> = catalog.runs.iter().map(|run| run.name()).collect();
        let runs = self.found.indexes.runs.iter().map(|(first, last)| names::run(*first, *last));
        let unused = runs.filter(|name| !used.contains(name));
        for name in unused.chain(self.found.indexes.unfinished.iter().cloned()) {
            let _ = self.disk.unlink(&name);
        }
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
        let room = LiveRoom::bounded(file_bytes, self.live_index_bytes());
        let (live, writer) = LiveSegment::new(key, file, file_bytes, room, &start);
        let tail_block = memory_for_block()?;
        let next_offset = SEGMENT_HEAD_BYTES;
        Ok(Begin { live, writer, next_offset, zeroed_end, tail_block, witness_counter: 0 })
    }

    /// The most memory that the index of the segment that takes appends may have.
    fn live_index_bytes(&self) -> u64 {
        self.options.index_bytes_max() / INDEX_SHARE_LIVE
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

/// The catalog of a store whose unsealed segments are these.
pub(crate) fn catalog(
    disk: &Arc<dyn Disk>,
    found: &Found,
    lives: Vec<Arc<LiveSegment>>,
    rebuilding: &Arc<Rebuilding>,
) -> Catalog {
    let IndexFiles { tables, runs, .. } = &found.indexes;
    let sealed: Vec<_> = found
        .sealed
        .iter()
        .map(|(key, content)| {
            let has_table = tables.contains(&key.identity.segment);
            Arc::new(SealedSegment::new(
                Arc::clone(disk),
                key.clone(),
                *content,
                has_table,
                rebuilding,
            ))
        })
        .collect();
    let runs = runs_of(disk, &sealed, runs, rebuilding);
    let segments = sealed.into_iter().map(CatalogSegment::Sealed);
    let segments = segments.chain(lives.into_iter().map(CatalogSegment::Live)).collect();
    Catalog { segments, runs, types: Arc::new(found.manifest.types.clone()) }
}

/// As [`catalog`], for somebody who reads beside a writer, which may merge runs and remove their files at any time:
/// all of them are opened now, and read on by whoever has.
///
/// # Errors
/// [`FileError`].
pub(crate) fn catalog_to_read(
    disk: &Arc<dyn Disk>,
    found: &Found,
    lives: Vec<Arc<LiveSegment>>,
    rebuilding: &Arc<Rebuilding>,
) -> Result<Catalog, FileError> {
    /// How often the runs may have changed before they could be opened.
    const LOOKS_MAX: usize = 10;
    let mut catalog = catalog(disk, found, lives, rebuilding);
    for _ in 0..LOOKS_MAX {
        let vanished = |run: &&Arc<Run>| {
            run.has_file()
                && matches!(run.open_filed(), Err(IndexOrRead::Index(IndexDamage::Missing)))
        };
        if !catalog.runs.iter().any(|run| vanished(&run)) {
            break;
        }
        let listing = disk.list().map_err(FileError::at("listing", "the directory"))?;
        let files = IndexFiles::of(listing.iter().map(|entry| &*entry.name));
        let sealed: Vec<_> = catalog
            .segments
            .iter()
            .filter_map(|segment| match segment {
                CatalogSegment::Sealed(sealed) => Some(Arc::clone(sealed)),
                CatalogSegment::Live(_) => None,
            })
            .collect();
        catalog.runs = runs_of(disk, &sealed, &files.runs, rebuilding);
    }
    Ok(catalog)
}

/// Runs that cover the sealed segments: those whose files are there, of two that overlap the larger one, and single
/// ones where there is no file.
fn runs_of(
    disk: &Arc<dyn Disk>,
    sealed: &[Arc<SealedSegment>],
    files: &BTreeSet<(u64, u64)>,
    rebuilding: &Arc<Rebuilding>,
) -> Vec<Arc<Run>> {
    let mut runs = Vec::new();
    let mut rest = sealed;
    while let Some(next) = rest.first() {
        let number = next.number();
        let known = rest.last().map_or(0, |last| last.number());
        let upto = |last: u64| rest.split_at(rest.partition_point(|s| s.number() <= last));
        let of = |covered: &[Arc<SealedSegment>], has_file| {
            Run::new(disk, covered.iter().cloned(), has_file, rebuilding).map(Arc::new)
        };
        // The largest one that begins here and ends before what is not sealed. Where there are several, it has to be
        // one indeed; where there is one, that is found when it is first asked.
        let begin_here = files.range((number, 0)..=(number, known));
        let several = begin_here.clone().count() > 1;
        let file = begin_here.rev().find_map(|(_, last)| {
            let (covered, behind) = upto(*last);
            let run = of(covered, true)?;
            (!several || run.open_filed().is_ok()).then_some((Some(run), behind))
        });
        let (run, behind) = file.unwrap_or_else(|| {
            let (covered, behind) = upto(number);
            (of(covered, false), behind)
        });
        runs.extend(run);
        rest = behind;
    }
    runs
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
