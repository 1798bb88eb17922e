//! What of the snapshots is still wanted, and what is garbage.
//!
//! Owns that judgement: of those of a key that were not dropped the last few are wanted. All indexes are in
//! the order of hashes, so that one walk over all of them at once meets the snapshots of a key together: it needs memory
//! for one key. It costs time in proportion to the number of snapshots, which whoever compacts spends, after each segment.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::drops::Dropped;
use super::recent::RecentRecord;
use super::{OpenedSegment, SealedSegment, Segments};
use crate::error::FileError;
use crate::format::snapshot::{Entry, SnapshotRecord};

/// A sealed segment, and what of it is wanted.
#[derive(Debug)]
pub(crate) struct Part {
    pub segment: Arc<SealedSegment>,
    pub opened: Arc<OpenedSegment>,
    /// Bytes of records that are wanted.
    pub live_bytes: u64,
    pub live_records: usize,
}

impl Part {
    /// Bytes of its file that are of no use.
    pub(crate) fn garbage(&self) -> u64 {
        self.segment.file_bytes.saturating_sub(self.live_bytes)
    }

    /// Whether compaction may touch it: what cannot be understood stays as it is.
    pub(crate) fn is_usable(&self) -> bool {
        self.opened.unusable.is_none()
    }
}

/// What there is of snapshots.
#[derive(Debug)]
pub(crate) struct Account {
    /// In the order of their numbers.
    pub parts: Vec<Part>,
    /// Of the open segment.
    pub recent_live_bytes: u64,
    pub recent_bytes: u64,
    /// How many keys have a snapshot.
    pub keys: u64,
}

/// What an entry leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whence<'a> {
    Sealed(&'a SealedSegment, &'a OpenedSegment),
    Recent(&'a RecentRecord),
}

impl Whence<'_> {
    /// The record, if it is good.
    pub(crate) fn record(&self, entry: &Entry) -> Option<SnapshotRecord<'_>> {
        match self {
            Self::Sealed(_, opened) => opened.record(entry).ok(),
            Self::Recent(record) => SnapshotRecord::parse(&record.bytes).ok(),
        }
    }
}

/// Where entries come from, in their order.
struct Cursor<'a> {
    source: Source<'a>,
    next: usize,
}

enum Source<'a> {
    Sealed(&'a OpenedSegment),
    Recent(&'a [Arc<RecentRecord>]),
}

impl Cursor<'_> {
    /// The next one. A page that was good when its segment was opened and is damaged now ends it: the rest is no garbage,
    /// since nobody says that it is.
    fn next(&mut self) -> Option<Entry> {
        let entry = match self.source {
            Source::Sealed(opened) => opened.entry(self.next).ok().flatten(),
            Source::Recent(records) => records.get(self.next).map(|record| record.entry),
        };
        self.next += 1;
        entry
    }
}

impl Account {
    /// Bytes of records that are wanted.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.recent_live_bytes + self.parts.iter().map(|part| part.live_bytes).sum::<u64>()
    }

    /// Bytes of all files, those of no use among them, and of the open one as it will be.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.recent_bytes + self.parts.iter().map(|part| part.segment.file_bytes).sum::<u64>()
    }

    /// Bytes of all sealed files that are understood.
    pub(crate) fn sealed_bytes(&self) -> u64 {
        self.usable().map(|part| part.segment.file_bytes).sum()
    }

    fn usable(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.is_usable())
    }
}

impl Segments {
    /// Looks at all snapshots. `visit` is told of each: where it is, its entry, and whether it is wanted; by key, and not in
    /// the order of the files. It may end the walk: what is found then is not all.
    ///
    /// # Errors
    /// [`FileError`], where a file cannot be mapped; one that is not there any more is left out.
    pub(crate) fn account(
        &self,
        mut visit: impl FnMut(Whence<'_>, &Entry, bool) -> ControlFlow<()>,
    ) -> Result<Account, FileError> {
        // In this order: what is sealed in between is met twice, and not missed.
        let recent = self.recent.all();
        let dropped = self.drops.load();
        let mut parts = Vec::new();
        for segment in self.sealed().iter() {
            let mut opened = match self.opened(segment) {
                // Compacted by the writer beside us, or deleted by somebody.
                Err(error) if error.is_not_found() => continue,
                other => other?,
            };
            opened.prefetch_index();
            // So that the walk meets no damage.
            if (0..opened.len()).step_by(64).any(|place| opened.entry(place).is_err()) {
                opened = segment.scan(&opened, &self.figures);
            }
            let segment = Arc::clone(segment);
            parts.push(Part { segment, opened, live_bytes: 0, live_records: 0 });
        }
        let opened: Vec<_> = parts.iter().map(|part| Arc::clone(&part.opened)).collect();
        // Of what is met twice, the one that stands last here counts: that in the file, not that in memory.
        let mut cursors: Vec<Cursor<'_>> = [Source::Recent(&recent)]
            .into_iter()
            .chain(opened.iter().map(|opened| Source::Sealed(opened)))
            .map(|source| Cursor { source, next: 0 })
            .collect();
        let mut heads: BinaryHeap<Reverse<(u64, u64, usize)>> = BinaryHeap::new();
        let mut at: Vec<Option<Entry>> = Vec::new();
        for (number, cursor) in cursors.iter_mut().enumerate() {
            at.push(cursor.next());
            heads.extend(at[number].map(|e| Reverse((e.hash, e.sequence, number))));
        }
        let (mut group, mut keys, mut recent_live_bytes) = (Vec::new(), 0, 0);
        let mut flow = ControlFlow::Continue(());
        while let Some(Reverse((hash, _, number))) = heads.pop() {
            if let Some(entry) = at[number] {
                group.push((number, cursors[number].next - 1, entry));
            }
            at[number] = cursors[number].next();
            heads.extend(at[number].map(|e| Reverse((e.hash, e.sequence, number))));
            if heads.peek().is_some_and(|Reverse((next, ..))| *next == hash) {
                continue;
            }
            keys += u64::from(self.judge(&dropped, &mut group, |number, place, entry, is_live| {
                let bytes = if is_live { u64::from(entry.bytes) } else { 0 };
                let whence = if let Some(part) = number.checked_sub(1) {
                    parts[part].live_bytes += bytes;
                    parts[part].live_records += usize::from(is_live);
                    Whence::Sealed(&parts[part].segment, &parts[part].opened)
                } else {
                    recent_live_bytes += bytes;
                    Whence::Recent(&recent[place])
                };
                if flow.is_continue() {
                    flow = visit(whence, entry, is_live);
                }
            }));
            if flow.is_break() {
                break;
            }
        }
        let recent_bytes = recent.iter().map(|record| u64::from(record.entry.bytes)).sum();
        Ok(Account { parts, recent_live_bytes, recent_bytes, keys })
    }

    /// Judges the entries of a key, in the order of their sequences, and forgets them. Says whether it has a snapshot.
    fn judge(
        &self,
        dropped: &Dropped,
        group: &mut Vec<(usize, usize, Entry)>,
        mut judged: impl FnMut(usize, usize, &Entry, bool),
    ) -> bool {
        let (mut kept, mut before) = (0, None);
        for (number, place, entry) in group.drain(..).rev() {
            // What a compaction has moved, and did not remove where it was, is there twice.
            let is_again = before.replace(entry.sequence) == Some(entry.sequence);
            let is_dropped = entry.sequence <= dropped.upto(entry.hash);
            kept += usize::from(!is_again && !is_dropped);
            let is_live = !is_again && !is_dropped && kept <= self.options.kept;
            judged(number, place, &entry, is_live);
        }
        kept > 0
    }
}
