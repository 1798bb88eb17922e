//! Compaction: what is still wanted of some segments is moved into a new one, and they are removed.
//!
//! Owns which segments those are, and the steps: the new file is written under a name that nobody reads, made durable,
//! renamed, and its name made durable; then readers see it in the place of the old ones; then those are removed. A crash
//! between any two leaves what there was, or both, of which one is garbage. Files are read past the page cache. Whoever
//! holds a snapshot of a removed file keeps it.
//!
//! Victims are those with the least that is wanted in proportion to what they take, as in Rosenblum and Ousterhout, "The
//! Design and Implementation of a Log-Structured File System" (1992), there "greedy".

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::account::{Account, Part, Whence};
use super::writer::SegmentWriter;
use super::{SealedSegment, Segments};
use crate::disk::{Access, AlignedBuf, read_full_at, unlink_if_there};
use crate::error::FileError;
use crate::format::align_down;
use crate::format::snapshot::{Entry, SnapshotsFooter, checked_record, place_record};
use crate::limits::{BLOCK, BLOCK_BYTES};
use crate::log::names;
use crate::snapshot::SnapshotCompaction;

/// It is read, and written, in pieces of so many bytes.
pub(crate) const PIECE_BYTES: usize = 1 << 20;
/// How many ways to choose are looked at.
const STARTS_MAX: usize = 64;
/// So many small segments become one.
const SMALL_SEGMENTS: usize = 8;
/// Segments get so much larger where there is more that is wanted: so many hold all of it.
const SEGMENTS_WANTED: u64 = 64;
/// The largest: offsets have 32 bits, in units of 16 bytes.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// What is known of a record while it is moved: where it was, and where it is.
const RECORD_KNOWN_BYTES: u64 = 160;

/// How much garbage is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slack {
    /// Half as much as is wanted, and half a segment: in the background.
    Half,
    /// Only where moving what is beside it costs sixteen times as much: for somebody who waits for it.
    None,
}

/// Why a compaction was not done.
#[derive(Debug)]
pub(crate) enum NotCompacted {
    /// Whoever paces it has ended it, or what it was to compact is not there any more.
    Ended,
    File(FileError),
}

impl From<FileError> for NotCompacted {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// A segment that is to go, and what of it is to be moved, in the order of its file.
struct Victim<'a> {
    part: &'a Part,
    live: Vec<Entry>,
}

impl Segments {
    /// Does one compaction, if there is one worth it. `pace` is told of each piece that was read and written, and may end
    /// it.
    ///
    /// # Errors
    /// [`NotCompacted`]; then everything is as it was.
    pub(crate) fn compact(
        &self,
        slack: Slack,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Option<SnapshotCompaction>, NotCompacted> {
        let _compacting = match slack {
            Slack::Half => self.compacting.lock().unwrap_or_else(PoisonError::into_inner),
            Slack::None => self.hurry(),
        };
        let account = self.account(|_, _, _| ControlFlow::Continue(()))?;
        self.note(&account);
        let chosen = self.choose(&account, slack);
        if chosen.is_empty() {
            return Ok(None);
        }
        let mut victims: Vec<Victim<'_>> = chosen
            .iter()
            .map(|at| Victim { part: &account.parts[*at], live: Vec::new() })
            .collect();
        // Garbage stays garbage: of what was wanted, some may be none any more.
        self.account(|whence, entry, is_live| {
            if let (Whence::Sealed(segment, _), true) = (whence, is_live) {
                let is_it = |victim: &&mut Victim<'_>| *victim.part.segment == *segment;
                if let Some(victim) = victims.iter_mut().find(is_it) {
                    victim.live.push(*entry);
                }
            }
            ControlFlow::Continue(())
        })?;
        for victim in &mut victims {
            victim.live.sort_unstable_by_key(|entry| entry.offset);
        }
        self.move_all(&victims, pace).map(Some)
    }

    /// Notes what there is, and whether it is so much garbage that nothing is to be added before some is gone.
    pub(super) fn note(&self, account: &Account) {
        let (live, disk) = (account.live_bytes(), account.disk_bytes());
        self.figures.accounted(live, disk, account.parts.len() as u64, account.keys);
        let is_crowded = account.sealed_bytes() > 2 * live + self.segment_bytes();
        self.is_crowded.store(is_crowded, Ordering::Relaxed);
    }

    /// The places of the segments that are to be compacted.
    fn choose(&self, account: &Account, slack: Slack) -> Vec<usize> {
        let live = account.live_bytes();
        let segment_bytes = self.segment_bytes();
        let target = (live / SEGMENTS_WANTED).next_power_of_two();
        let target = target.clamp(segment_bytes, SEGMENT_BYTES_MAX);
        let records_max = self.options.compaction_bytes() / RECORD_KNOWN_BYTES;
        let usable = || account.parts.iter().enumerate().filter(|(_, part)| part.is_usable());
        // Nothing is cheaper than what only has to be removed.
        let empty: Vec<usize> =
            usable().filter(|(_, part)| part.live_records == 0).map(|(at, _)| at).collect();
        if !empty.is_empty() {
            return empty;
        }
        // The first, and of those behind it as many as fit into one with it.
        let fitting = |parts: &[(usize, &Part)]| {
            let (mut bytes, mut records) = (0, 0);
            let mut chosen = Vec::new();
            for (at, part) in parts {
                let more = (bytes + part.live_bytes, records + part.live_records as u64);
                if chosen.is_empty() || (more.0 <= target && more.1 <= records_max) {
                    (bytes, records) = more;
                    chosen.push(*at);
                }
            }
            chosen
        };
        let garbage: u64 = usable().map(|(_, part)| part.garbage()).sum();
        let (too_much, share) = match slack {
            Slack::Half => (garbage > (live / 2).max(segment_bytes / 2), 5),
            Slack::None => (garbage > 0, 16),
        };
        let is_worth_it = |part: &Part| part.garbage() * share >= part.segment.file_bytes;
        let mut wasteful: Vec<_> = usable().filter(|(_, part)| is_worth_it(part)).collect();
        // Those with the least that is wanted for each byte that they take.
        wasteful.sort_by(|(_, one), (_, other)| {
            let of =
                |a: &Part, b: &Part| u128::from(a.live_bytes) * u128::from(b.segment.file_bytes);
            of(one, other).cmp(&of(other, one))
        });
        if too_much {
            // One that is small, and as small as it can be, is no gain: then without it.
            let starts = (0..wasteful.len()).map(|first| fitting(&wasteful[first..]));
            if let Some(chosen) = starts.take(STARTS_MAX).find(|c| Self::is_gain(account, c)) {
                return chosen;
            }
        }
        let mut small: Vec<_> =
            usable().filter(|(_, part)| part.segment.file_bytes <= target / 4).collect();
        if small.len() < SMALL_SEGMENTS {
            return Vec::new();
        }
        small.sort_by_key(|(_, part)| part.segment.file_bytes);
        let chosen = fitting(&small);
        if chosen.len() > 1 { chosen } else { Vec::new() }
    }

    /// Whether what is wanted of these segments takes less in one: headers, footers and the rests of blocks counted. Each
    /// compaction leaves less than there was, so that they come to an end.
    fn is_gain(account: &Account, chosen: &[usize]) -> bool {
        let parts = || chosen.iter().map(|at| &account.parts[*at]);
        let into = SnapshotsFooter {
            records_end: BLOCK + parts().map(|part| part.live_bytes).sum::<u64>(),
            entries: parts().map(|part| part.live_records as u64).sum(),
            first_sequence: 0,
            last_sequence: 0,
        };
        into.file_bytes() < parts().map(|part| part.segment.file_bytes).sum()
    }

    fn move_all(
        &self,
        victims: &[Victim<'_>],
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<SnapshotCompaction, NotCompacted> {
        let mut compacted = SnapshotCompaction::default();
        let into = if victims.iter().all(|victim| victim.live.is_empty()) {
            None
        } else {
            let number = self.take_number();
            let next = names::next(&names::snapshots(number));
            let written = self.write(number, &next, victims, &mut compacted, pace);
            Some(Arc::new(written.inspect_err(|_| {
                // Its space may be what others need now.
                let _ = self.disk.unlink(&next);
            })?))
        };
        let freed: u64 = victims.iter().map(|victim| victim.part.segment.file_bytes).sum();
        compacted.freed_bytes =
            freed.saturating_sub(into.as_ref().map_or(0, |into| into.file_bytes));
        if !self.replace(victims, into.as_ref()) {
            if let Some(into) = into {
                let _ = self.disk.unlink(&into.name());
            }
            return Err(NotCompacted::Ended);
        }
        for victim in victims {
            let name = victim.part.segment.name();
            // What stays is garbage, there twice, and found again at the next opening.
            if let Err(error) = unlink_if_there(&*self.disk, &name) {
                self.figures.failed(&FileError::new("removing", &name, error));
            }
        }
        self.figures.compactions.add(1);
        self.figures.rewritten_bytes.add(compacted.moved_bytes);
        Ok(compacted)
    }

    /// Writes the segment that takes the place of the victims.
    fn write(
        &self,
        number: u64,
        next: &str,
        victims: &[Victim<'_>],
        compacted: &mut SnapshotCompaction,
        pace: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<SealedSegment, NotCompacted> {
        let failed = |error| FileError::new("compacting into", next, error);
        let writer = SegmentWriter::create(&*self.disk, self.store, number, next, PIECE_BYTES);
        let mut writer = writer.map_err(failed)?;
        let mut entries = Vec::new();
        for victim in victims {
            let name = victim.part.segment.name();
            let file = self.disk.open(&name, Access::Read);
            let file = file.map_err(FileError::at("opening", &name))?;
            let mut rest = &victim.live[..];
            while let Some(first) = rest.first() {
                // Neighbours are read together.
                let begin = align_down(first.offset, BLOCK);
                let end = |entry: &Entry| entry.offset + u64::from(entry.bytes);
                let many = rest
                    .iter()
                    .take_while(|entry| end(entry) - begin <= PIECE_BYTES as u64)
                    .count()
                    .max(1);
                let (now, later) = rest.split_at(many);
                rest = later;
                let last = now.last().map_or(begin, end);
                let bytes = usize::try_from(last - begin).unwrap_or(usize::MAX);
                let mut piece = AlignedBuf::zeroed(bytes).map_err(failed)?;
                let read = read_full_at(&*file, &mut piece, begin);
                let read = read.map_err(FileError::at("reading", &name))?;
                for entry in now {
                    let at = usize::try_from(entry.offset - begin).unwrap_or(usize::MAX);
                    let bytes = piece[..read].get(at..).unwrap_or_default();
                    match checked_record(&victim.part.opened.key, entry.offset, bytes) {
                        Ok(record) => {
                            let mut moved = record.bytes().to_vec();
                            let offset = writer.end();
                            place_record(&writer.key, offset, &mut moved);
                            writer.push(&moved).map_err(failed)?;
                            compacted.moved_bytes += moved.len() as u64;
                            entries.push(Entry { offset, ..*entry });
                        }
                        Err(error) => {
                            let offset = entry.offset;
                            tracing::warn!(name, offset, %error, "a snapshot is damaged");
                            self.figures.damaged.add(1);
                        }
                    }
                }
                if pace(last - begin).is_break() {
                    return Err(NotCompacted::Ended);
                }
            }
        }
        let footer = writer.finish(&mut entries).map_err(failed)?;
        let renamed = || -> io::Result<()> {
            self.disk.rename(next, &names::snapshots(number))?;
            self.disk.sync_dir()
        };
        if let Err(error) = renamed() {
            let _ = self.disk.unlink(&names::snapshots(number));
            return Err(failed(error).into());
        }
        Ok(SealedSegment::new(number, footer.file_bytes()))
    }

    /// Puts one segment, or none, in the place of others. False where one of them is not there any more.
    fn replace(&self, victims: &[Victim<'_>], into: Option<&Arc<SealedSegment>>) -> bool {
        let is_victim = |segment: &Arc<SealedSegment>| {
            victims.iter().any(|victim| Arc::ptr_eq(&victim.part.segment, segment))
        };
        let mut replaced = false;
        self.sealed.rcu(|segments| {
            replaced =
                segments.iter().filter(|segment| is_victim(segment)).count() == victims.len();
            let mut next = Vec::clone(segments);
            if replaced {
                next.retain(|segment| !is_victim(segment));
                next.extend(into.cloned());
                next.sort_by_key(|segment| segment.number);
            }
            next
        });
        replaced
    }
}

/// So that a record that is moved alone is moved whole.
const _: () = assert!(PIECE_BYTES.is_multiple_of(BLOCK_BYTES));
