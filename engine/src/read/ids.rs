//! Whether events with given ids are in the log, those that are not durable yet included: what repeated appends ask.
//!
//! What is durable is compared exactly, in the frames. Of what has its place and is not durable, only the id's
//! hash is known, since its frame may not be filled; whoever needs to know waits, and asks again. `append` is the only
//! caller.

use std::sync::Arc;

use super::all::ReadAll;
use super::batch::Batch;
use super::event::EventView;
use super::find::{find_in_run, only};
use super::{Reads, Stopped, ordinal};
use crate::commit::LiveSegment;
use crate::error::ReadError;
use crate::index::TermHash;
use crate::log::Catalog;

/// An id that is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SoughtId {
    /// The number of its event in the append.
    pub event: usize,
    pub id: [u8; 16],
    pub hash: TermHash,
    /// No event that was recorded before has it, in nanoseconds since the Unix epoch; none where that is not known.
    pub not_before: Option<i64>,
}

/// An event that has it.
#[derive(Debug)]
pub(crate) enum FoundId {
    Durable(EventView),
    /// As far as the hash tells, the event at this position, which was not durable.
    Maybe(u64),
}

/// The places in the slice of those that were found, increasing, with what was found.
type Found = Vec<(usize, FoundId)>;

impl Reads {
    /// Looks for ids among the events from a position on. Those of which nothing is known are not looked for in what
    /// was recorded before `random_since`. Also says up to which position was looked.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn look_for(
        &self,
        sought: &[SoughtId],
        from: u64,
        random_since: i64,
    ) -> Result<(Found, u64), ReadError> {
        loop {
            // In this order: the catalog has every segment up to the watermark.
            let watermark = self.watermark.get();
            let catalog = self.catalogs.look();
            let mut found = Vec::new();
            let mut looked_at = from;
            let looked = catalog
                .live()
                .try_for_each(|live| {
                    // Before the look: what comes during it may be missed.
                    let next = live.first_position + u64::from(live.index.entered());
                    looked_at = looked_at.max(next);
                    look_in_live(live, sought, from, watermark, &mut found)
                })
                .map_err(Stopped::Read)
                .and_then(|()| self.look_in_runs(&catalog, sought, from, random_since, &mut found));
            match looked {
                Ok(()) => {}
                Err(Stopped::Distrusted) => continue,
                Err(Stopped::Read(error)) => return Err(error),
            }
            found.sort_by_key(|(number, _)| *number);
            found.dedup_by_key(|(number, _)| *number);
            return Ok((found, looked_at));
        }
    }

    /// The durable event at a position.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn event_at(
        self: &Arc<Self>,
        position: u64,
    ) -> Result<Option<EventView>, ReadError> {
        let mut reader = ReadAll::new(Arc::clone(self)).from(position).limit(1).forward();
        let batch = reader.next_batch()?;
        let event = batch.as_ref().and_then(only);
        Ok(event.filter(|view| view.event().position().0 == position))
    }

    fn look_in_runs(
        &self,
        catalog: &Catalog,
        sought: &[SoughtId],
        from: u64,
        random_since: i64,
        found: &mut Found,
    ) -> Result<(), Stopped> {
        let behind = catalog.runs.partition_point(|run| run.next_position() <= from);
        for run in catalog.runs[behind..].iter().rev() {
            let recorded_last = run.recorded_last();
            // Most ids are new, which the least and the greatest one of a run tell. Nothing is shared with other threads
            // by that look: many of them ask at once.
            let may_have =
                |id: &[u8; 16]| run.look().as_deref().is_none_or(|open| open.terms.may_have_id(id));
            let may_be_there = |(_, sought): &(usize, &SoughtId)| {
                sought.not_before.unwrap_or(random_since) <= recorded_last && may_have(&sought.id)
            };
            let mut wanted = sought.iter().enumerate().filter(may_be_there).peekable();
            if wanted.peek().is_none() {
                continue;
            }
            let open = self.opened(run)?;
            for (number, sought) in wanted {
                let mut batch = Batch::default();
                match find_in_run(run, &open, sought.id, &mut batch) {
                    Ok(false) => {}
                    Ok(true) => {
                        found.extend(only(&batch).map(|view| (number, FoundId::Durable(view))));
                    }
                    Err(error) => return Err(self.failed(run, Some(&open), error)),
                }
            }
        }
        Ok(())
    }
}

fn look_in_live(
    live: &LiveSegment,
    sought: &[SoughtId],
    from: u64,
    watermark: u64,
    found: &mut Found,
) -> Result<(), ReadError> {
    let from = ordinal(from, live.first_position);
    if live.index.entered() <= from {
        return Ok(());
    }
    let durable = live.visible_events(watermark);
    for (number, sought) in sought.iter().enumerate() {
        // The last one comes first.
        for candidate in live.index.ids(sought.hash).take_while(|ordinal| *ordinal >= from) {
            let position = live.first_position + u64::from(candidate);
            if candidate >= durable {
                found.push((number, FoundId::Maybe(position)));
                continue;
            }
            let mut batch = Batch::default();
            if batch.push_live_if(live, candidate, |frame| frame.id() == sought.id)? {
                found.extend(only(&batch).map(|view| (number, FoundId::Durable(view))));
                break;
            }
        }
    }
    Ok(())
}
