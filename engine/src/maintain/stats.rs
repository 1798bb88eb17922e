//! Figures about a store.

use std::collections::BTreeSet;

use crate::error::{FileError, ReadError};
use crate::format::stored_types::{StoredType, StoredTypes};
use crate::index::TermKind;
use crate::log::{CatalogSegment, names};
use crate::read::Reads;
use crate::typed::Fingerprint;

/// What a store holds, and what it takes.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Durable events.
    pub events: u64,
    /// Streams that have an event.
    pub streams: u64,
    /// Distinct event types, by name.
    pub types: u64,
    /// The types with their versions and layouts, by name and version. Empty where there are more than
    /// [`LISTED_TYPES_MAX`](crate::limits::LISTED_TYPES_MAX).
    pub event_types: Vec<TypeStats>,
    /// The position of the last event; 0 where there is none.
    pub last_position: u64,
    /// Segments with at least one event.
    pub segments: u64,
    /// Bytes of the log in use: headers, witnesses, batches, padding and footers; not the index, and not
    /// the blocks that are prepared but not used yet.
    pub log_bytes: u64,
    /// Bytes of index files.
    pub index_bytes: u64,
    /// Events of sealed segments, which the index files are of.
    pub indexed_events: u64,
    /// Runs of the index that a term is looked for in, besides what is not sealed yet.
    pub runs: u64,
}

/// What a store holds of one type of events, in one version and layout.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct TypeStats {
    /// Its name.
    pub name: Box<str>,
    /// The version of its structure; 0 where it has none.
    pub version: u32,
    /// The fingerprint of its layout; [`Fingerprint::NONE`] where it has none.
    pub fingerprint: Fingerprint,
    /// How many durable events are of it.
    pub events: u64,
}

impl TypeStats {
    fn of(StoredType { event_type, events }: &StoredType) -> Self {
        Self {
            name: event_type.name.clone(),
            version: event_type.schema_version,
            fingerprint: Fingerprint::from_number(event_type.fingerprint),
            events: *events,
        }
    }
}

impl Stats {
    /// Bytes of the log in use for each event; 0 where there is none.
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    pub fn log_bytes_per_event(&self) -> f64 {
        if self.events == 0 { 0.0 } else { self.log_bytes as f64 / self.events as f64 }
    }

    pub(crate) fn gather(reads: &Reads) -> Result<Self, ReadError> {
        // In this order: what is durable by the time that the segments are known. What was sealed or begun since is
        // another time's.
        let catalog = reads.catalogs.load();
        let watermark = reads.watermark.get().min(catalog.next_position() - 1);
        let mut stats = Self { events: watermark, last_position: watermark, ..Self::default() };
        let mut types = BTreeSet::new();
        let mut event_types = StoredTypes::clone(&catalog.types);
        for segment in &catalog.segments {
            match segment {
                CatalogSegment::Sealed(sealed) if sealed.content.events == 0 => {
                    stats.log_bytes += sealed.content.file_bytes();
                }
                CatalogSegment::Sealed(sealed) => {
                    let open = sealed.open()?;
                    stats.segments += 1;
                    stats.log_bytes += sealed.content.file_bytes();
                    types.extend(open.types.iter().map(|event_type| event_type.name.clone()));
                }
                CatalogSegment::Live(live) => {
                    let visible = live.visible_events(watermark);
                    stats.segments += u64::from(visible > 0);
                    stats.log_bytes += live.content().data_end;
                    stats.streams += live
                        .index
                        .terms(visible)
                        .filter(|term| term.term.kind == TermKind::Stream)
                        .filter(|term| term.postings.first_version() == 0)
                        .count() as u64;
                    let of_types = live.events_of_types(visible);
                    let seen = live.types.iter().zip(of_types).filter(|(_, events)| *events > 0);
                    let seen: Vec<_> = seen.collect();
                    types.extend(seen.iter().map(|(event_type, _)| event_type.name.clone()));
                    event_types.add(seen.into_iter());
                }
            }
        }
        let listed = event_types.listed().unwrap_or_default();
        stats.event_types = listed.iter().map(TypeStats::of).collect();
        stats.event_types.sort();
        for run in &catalog.runs {
            stats.streams += reads.streams_created(run)?;
            stats.runs += 1;
            stats.indexed_events += run.next_position() - run.first_position();
        }
        stats.types = types.len() as u64;
        let listing = reads.disk.list().map_err(FileError::at("listing", "the directory"))?;
        let indexes = listing.iter().filter(|entry| {
            names::parse_table(&entry.name).is_some() || names::parse_run(&entry.name).is_some()
        });
        stats.index_bytes = indexes.map(|entry| entry.bytes).sum();
        Ok(stats)
    }
}
