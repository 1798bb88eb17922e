//! Listing the streams of a category.

use std::collections::VecDeque;
use std::sync::Arc;

use super::locate::{LOCATED_AT_ONCE, Located};
use super::{Reads, Stopped, ordinal};
use crate::commit::LiveSegment;
use crate::error::{DamageReason, ReadError};
use crate::event::category;
use crate::format::FormatError;
use crate::index::{Term, TermHash, TermKind};
use crate::log::{IndexOrRead, OpenRun, Part, Run};
use crate::query::{InvalidQuery, Query};

/// The names of a category's streams, in the order of their creation. What is created meanwhile is listed as well;
/// behind the last one nothing is given, and there may be more later. Behind an error there is nothing.
///
/// It looks at one event of each stream, whatever the streams hold.
///
/// ```
/// # use stratalog::{Expect, NewEvent, Store, disk::MemoryDisk};
/// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// for stream in ["ticket-1", "customer-7", "ticket-2"] {
///     store.append(stream, Expect::NoStream, [NewEvent::json("opened", &1)?]).wait()?;
/// }
/// let tickets: Result<Vec<_>, _> = store.streams("ticket").collect();
/// assert_eq!(tickets?, ["ticket-1".into(), "ticket-2".into()]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ReaderStreams {
    reads: Arc<Reads>,
    category: Box<str>,
    /// What is wrong with the category's name.
    wrong: Option<InvalidQuery>,
    /// Whether an error was given, behind which there is nothing.
    ended: bool,
    hash: TermHash,
    /// The position to look from.
    place: u64,
    /// Names that were read and not given yet.
    found: VecDeque<Box<str>>,
}

impl ReaderStreams {
    pub(crate) fn new(reads: Arc<Reads>, name: &str) -> Self {
        Self {
            reads,
            category: name.into(),
            wrong: Query::any().category(name).check().err(),
            ended: false,
            hash: Term::streams_of(name.as_bytes()).xxh3_64(),
            place: 1,
            found: VecDeque::new(),
        }
    }

    fn look(&mut self) -> Result<(), ReadError> {
        if let Some(wrong) = self.wrong.clone() {
            return Err(wrong.into());
        }
        while self.found.is_empty() {
            let head = self.reads.watermark.get();
            let catalog = self.reads.catalogs.load();
            let Some(part) = catalog.part_at(self.place).filter(|_| self.place <= head) else {
                return Ok(());
            };
            let looked = match part {
                Part::Run(run) => {
                    let reads = Arc::clone(&self.reads);
                    reads.opened(run).and_then(|open| {
                        let looked = self.look_into_run(run, &open);
                        looked.map_err(|error| reads.failed(run, Some(&open), error))
                    })
                }
                Part::Live(live) => self.look_into_live(live, head).map_err(Stopped::from),
            };
            match looked {
                Err(Stopped::Read(error)) if self.found.is_empty() => return Err(error),
                // What is behind those that were found is met again; what took a file's place is looked into.
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn look_into_live(&mut self, live: &LiveSegment, head: u64) -> Result<(), ReadError> {
        let visible = live.visible_events(head);
        let term = Term::streams_of(self.category.as_bytes());
        if let Some(postings) = live.index.lookup(self.hash, term) {
            let postings = postings.below(visible);
            let from = ordinal(self.place, live.first_position);
            for ordinal in postings.forward(postings.visible(from)).take(LOCATED_AT_ONCE) {
                let position = live.first_position + u64::from(ordinal);
                let frame = live.frame(ordinal).ok_or_else(|| ReadError::Damaged {
                    segment: live.number(),
                    offset: live.offset(ordinal).unwrap_or_default(),
                    first_position: position,
                    last_position: position,
                    reason: DamageReason::Format(FormatError::Short),
                })?;
                self.found.push_back(frame.stream().into());
                self.place = position + 1;
            }
        }
        if self.found.is_empty() {
            self.place = live.first_position + u64::from(visible);
        }
        Ok(())
    }

    fn look_into_run(&mut self, run: &Run, open: &OpenRun) -> Result<(), IndexOrRead> {
        let mut ordinals = Vec::with_capacity(LOCATED_AT_ONCE);
        if let Some(postings) = open.terms.find(self.hash, TermKind::StreamsOf)? {
            let from = postings.lower_bound(ordinal(self.place, run.first_position()))?;
            for ordinal in postings.forward(from).take(LOCATED_AT_ONCE) {
                ordinals.push(ordinal?);
            }
        }
        let mut located = Located::default();
        located.find(run, &ordinals);
        for place in located.places() {
            let frame = located.frame(place)?;
            // Another category may have the same hash.
            if category(frame.stream()) == Some(&*self.category) {
                self.found.push_back(frame.stream().into());
            }
            self.place = place.position + 1;
        }
        if self.found.is_empty() {
            located.outcome()?;
        }
        if ordinals.is_empty() {
            self.place = run.next_position();
        }
        Ok(())
    }
}

impl Iterator for ReaderStreams {
    type Item = Result<Box<str>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.found.is_empty() && !self.ended {
            let looked = self.look();
            self.ended = looked.is_err();
            if let Err(error) = looked {
                return Some(Err(error));
            }
        }
        self.found.pop_front().map(Ok)
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use crate::log::CatalogSegment;
    use crate::{Expect, NewEvent, Store};

    #[test]
    fn what_was_found_before_damage_is_listed_before_it_and_nothing_behind_it() {
        let disk = MemoryDisk::new();
        let open = || Store::options().segment_bytes(64 << 10).open_on(Arc::new(disk.clone()));
        let store = open().unwrap();
        for stream in ["a-1", "a-2", "a-3", "a-4"] {
            let event = NewEvent::bytes("t", format!("the first of {stream}").into_bytes());
            store.append(stream, Expect::NoStream, [event]).wait().unwrap();
        }
        let first = || store.streams("a").reads.catalogs.load().segments.first().cloned();
        while !matches!(first(), Some(CatalogSegment::Sealed(_))) {
            let filler = NewEvent::bytes("filler", vec![1; 8 << 10]);
            store.append("b-1", Expect::Any, [filler]).wait().unwrap();
        }
        store.close().unwrap();
        let (log, payload) = ("segment-0000000001.log", b"the first of a-3");
        let bytes = disk.read_file(log);
        let at = bytes.windows(payload.len()).position(|window| window == payload).unwrap();
        disk.flip_bit(log, at as u64, 0);

        let mut streams = open().unwrap().streams("a");
        assert_eq!(streams.next().unwrap().unwrap(), "a-1".into());
        assert_eq!(streams.next().unwrap().unwrap(), "a-2".into());
        assert!(matches!(streams.next(), Some(Err(ReadError::Damaged { first_position: 3, .. }))));
        assert!(streams.next().is_none());
    }
}
