//! The first event that matches a query, those that are not durable yet included: what conditions of appends ask.
//!
//! What is durable is compared exactly, in the frames. Of what has its place and is not durable, only the terms are
//! known, since its frames may not be filled; whoever needs to know waits, and asks again from there on. `append` is
//! the only caller.

use std::sync::Arc;

use super::batch::Batch;
use super::query::{LiveLists, ReadQuery, matches};
use super::{Reads, ordinal};
use crate::commit::LiveSegment;
use crate::error::ReadError;
use crate::log::{Catalog, OpenRun};
use crate::query::{Candidates, Order, Prepared};

/// What is known of the first match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstMatch {
    /// It is durable, at this position.
    At(u64),
    /// There is none before this position, and the event there has the terms of one. It is not durable.
    Maybe(u64),
    /// There is none before this position, which was not looked at.
    NotBefore(u64),
}

impl Reads {
    /// Looks for the first match from a position on, as far as events have their places when this is called.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn first_match(
        self: &Arc<Self>,
        query: &Arc<Prepared>,
        from: u64,
    ) -> Result<FirstMatch, ReadError> {
        let catalog = self.catalogs.look();
        let mut next = from;
        // The parts are looked at one after the other, but memory is waited for once.
        for second in [false, true] {
            let is_asked = |live: &&Arc<LiveSegment>| {
                next < live.first_position + u64::from(live.index.entered())
            };
            for live in catalog.live().filter(is_asked) {
                query.each_term(|hash, term| live.index.near_last(hash, term, second));
            }
        }
        for live in catalog.live() {
            let first = live.first_position;
            if next < first {
                match self.first_sealed(&catalog, query, next, first)? {
                    FirstMatch::NotBefore(end) if end == first => {}
                    found => return Ok(found),
                }
            }
            next = next.max(first);
            let entered = live.index.entered();
            match self.first_live(query, live, entered, next)? {
                Some(found) => return Ok(found),
                None => next = next.max(first + u64::from(entered)),
            }
        }
        Ok(FirstMatch::NotBefore(next))
    }

    /// The first match from a position on that is before `end`, up to which everything is sealed.
    fn first_sealed(
        self: &Arc<Self>,
        catalog: &Catalog,
        query: &Arc<Prepared>,
        from: u64,
        end: u64,
    ) -> Result<FirstMatch, ReadError> {
        let Some(from) = self.first_run(catalog, query, from, end) else {
            return Ok(FirstMatch::NotBefore(end));
        };
        let mut reader =
            ReadQuery::first_of(Arc::clone(self), Arc::clone(query), from, end).forward();
        let batch = reader.next_batch()?;
        if let Some(event) = batch.as_ref().and_then(|batch| batch.get(0)) {
            return Ok(FirstMatch::At(event.position().0));
        }
        // What is sealed is durable; but the reader may have looked at the watermark a moment too early.
        Ok(FirstMatch::NotBefore(end.min(reader.head().0 + 1)))
    }

    /// Where the first run begins that may have a match in a range of positions, or the range, if that is behind it. Most
    /// runs are known to have none by their filters, which are fetched for all of them at once: what is most often asked
    /// for back to the beginning is a term that is not there.
    fn first_run(&self, catalog: &Catalog, query: &Prepared, from: u64, end: u64) -> Option<u64> {
        let behind = catalog.runs.partition_point(|run| run.next_position() <= from);
        let runs = catalog.runs[behind..].iter().take_while(|run| run.first_position() < end);
        // Nothing is shared with other threads by this: many of them ask at once.
        for run in runs.clone() {
            run.look().as_deref().inspect(|open| query.each_term(|hash, _| open.terms.near(hash)));
        }
        let may_match = |open: &OpenRun| {
            query.matches_terms(|hash, _| open.terms.may_contain(hash).unwrap_or(true))
        };
        let first = runs.clone().find(|run| match run.look().as_deref() {
            Some(open) => may_match(open),
            // What cannot be opened is for the reader to find.
            None => self.opened(run).map_or(true, |open| may_match(&open)),
        });
        first.map(|run| from.max(run.first_position()))
    }

    /// The first match from a position on among the first so many events of a segment.
    fn first_live(
        &self,
        query: &Prepared,
        live: &LiveSegment,
        entered: u32,
        from: u64,
    ) -> Result<Option<FirstMatch>, ReadError> {
        let first = live.first_position;
        let from = ordinal(from, first);
        if from >= entered {
            return Ok(None);
        }
        // Most conditions hold, which the last event of each term tells.
        let is_since = |last: Option<u32>| last.is_some_and(|last| last >= from);
        if !query.matches_terms(|hash, term| is_since(live.index.last(hash, term))) {
            return Ok(None);
        }
        let durable = live.visible_events(self.watermark.get());
        let lists = LiveLists { live, visible: entered };
        let candidates = Candidates::new(query, &lists, Order::Forward, from);
        // Lists in memory are not damaged.
        for ordinal in candidates.into_iter().flatten().map_while(Result::ok) {
            let position = first + u64::from(ordinal);
            if ordinal < durable {
                if is_match(query, live, ordinal)? {
                    return Ok(Some(FirstMatch::At(position)));
                }
            } else if query.matches_terms(|hash, term| live.index.has(ordinal, hash, term)) {
                return Ok(Some(FirstMatch::Maybe(position)));
            }
        }
        Ok(None)
    }
}

/// Whether a durable event matches.
fn is_match(query: &Prepared, live: &LiveSegment, ordinal: u32) -> Result<bool, ReadError> {
    let mut batch = Batch::default();
    batch.push_live_if(live, ordinal, |frame| {
        let event_type = live.types.get(frame.type_ref());
        event_type.is_some_and(|known| matches(query, frame, &known.name))
    })
}
