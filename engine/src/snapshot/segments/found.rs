//! Finding the snapshots of a key.
//!
//! Owns where they may be, and in which order they are tried. What is found is held in memory that does not go away,
//! whatever becomes of its file.

use std::sync::Arc;

use smallvec::SmallVec;

use super::recent::RecentRecord;
use super::{OpenedSegment, SealedSegment, Segments};
use crate::disk::Mapping;
use crate::error::FileError;
use crate::format::snapshot::{Entry, SnapshotRecord};
use crate::snapshot::figures::Figures;
use crate::snapshot::key::Key;

/// A snapshot that was found, in memory that does not go away.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    Recent(Arc<RecentRecord>),
    Mapped { map: Mapping, start: usize, bytes: usize },
}

impl Held {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Recent(record) => &record.bytes,
            Self::Mapped { map, start, bytes } => &map[*start..*start + *bytes],
        }
    }

    /// The record. It was found to be one.
    pub(crate) fn record(&self) -> SnapshotRecord<'_> {
        match SnapshotRecord::parse(self.bytes()) {
            Ok(record) => record,
            Err(_) => unreachable!("it is a record: it was when it was found"),
        }
    }
}

/// Where a snapshot of a key may be.
#[derive(Debug)]
enum Place {
    Recent(Arc<RecentRecord>),
    Sealed(Arc<SealedSegment>, Arc<OpenedSegment>, Entry),
}

/// The snapshots of a key that may be there, the newest first.
#[derive(Debug)]
pub(crate) struct Candidates<'a> {
    key: &'a Key,
    places: SmallVec<[(u64, Place); 4]>,
    figures: &'a Figures,
    /// Whether one of those that were passed was damaged.
    pub has_damage: bool,
}

impl Iterator for Candidates<'_> {
    type Item = Held;

    /// The next one whose bytes are good. Others are counted.
    fn next(&mut self) -> Option<Held> {
        while let Some((_, place)) = self.places.pop() {
            let held = match place {
                Place::Recent(record) => Held::Recent(record),
                Place::Sealed(segment, opened, entry) => match opened.record(&entry) {
                    Ok(record) => {
                        let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
                        let bytes = record.bytes().len();
                        Held::Mapped { map: opened.map.clone(), start, bytes }
                    }
                    Err(error) => {
                        self.figures.damaged.add(1);
                        self.has_damage = true;
                        let (name, offset) = (segment.name(), entry.offset);
                        tracing::warn!(name, offset, %error, "a snapshot is damaged");
                        continue;
                    }
                },
            };
            let record = held.record();
            if record.key() != self.key.record() {
                // Of another key with the same hash.
                continue;
            }
            return Some(held);
        }
        None
    }
}

impl Segments {
    /// The snapshots of a key. A file that cannot be looked into is counted and left out.
    pub(crate) fn find<'a>(&'a self, key: &'a Key) -> Candidates<'a> {
        let mut places: SmallVec<[(u64, Place); 4]> = SmallVec::new();
        // In this order: what is sealed in between is found twice, and not missed.
        for record in self.recent.find(key.hash()) {
            places.push((record.entry.sequence, Place::Recent(record)));
        }
        let mut found: SmallVec<[Entry; 4]> = SmallVec::new();
        for segment in self.sealed.load().iter().rev() {
            // What is in older ones is wanted no more.
            if places.len() >= self.options.kept
                && let Some(opened) = segment.if_open()
                && places.iter().all(|(sequence, _)| *sequence > opened.last_sequence)
            {
                continue;
            }
            match self.find_in(segment, key.hash(), &mut found) {
                Ok(opened) => {
                    let places_in = found.drain(..).map(|entry| {
                        let place = Place::Sealed(Arc::clone(segment), Arc::clone(&opened), entry);
                        (entry.sequence, place)
                    });
                    places.extend(places_in);
                }
                // Compacted by the writer beside us, or deleted by somebody.
                Err(error) if error.is_not_found() => {}
                Err(error) => self.figures.failed(&error),
            }
        }
        let dropped_upto = self.dropped_upto(key);
        places.retain(|(sequence, _)| *sequence > dropped_upto);
        places.sort_by_key(|(sequence, _)| *sequence);
        places.dedup_by_key(|(sequence, _)| *sequence);
        Candidates { key, places, figures: &self.figures, has_damage: false }
    }

    fn find_in(
        &self,
        segment: &SealedSegment,
        hash: u64,
        found: &mut SmallVec<[Entry; 4]>,
    ) -> Result<Arc<OpenedSegment>, FileError> {
        let opened = self.opened(segment)?;
        if opened.find(hash, found).is_ok() {
            return Ok(opened);
        }
        found.clear();
        let scanned = segment.scan(&opened, &self.figures);
        // What was scanned has no pages.
        let _ = scanned.find(hash, found);
        Ok(scanned)
    }
}
