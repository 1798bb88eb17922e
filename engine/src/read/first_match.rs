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
        let catalog = self.catalogs.load();
        let mut next = from;
        for live in catalog.live() {
            let first = live.first_position;
            if next < first {
                match self.first_sealed(query, next, first)? {
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
        query: &Arc<Prepared>,
        from: u64,
        end: u64,
    ) -> Result<FirstMatch, ReadError> {
        let mut reader =
            ReadQuery::first_of(Arc::clone(self), Arc::clone(query), from, end).forward();
        let batch = reader.next_batch()?;
        if let Some(event) = batch.as_ref().and_then(|batch| batch.get(0)) {
            return Ok(FirstMatch::At(event.position().0));
        }
        // What is sealed is durable; but the reader may have looked at the watermark a moment too early.
        Ok(FirstMatch::NotBefore(end.min(reader.head().0 + 1)))
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
        let durable = live.visible_events(self.watermark.get());
        let lists = LiveLists { live, visible: entered };
        let candidates = Candidates::new(query, &lists, Order::Forward, from);
        // Lists in memory are not damaged.
        for ordinal in candidates.into_iter().flatten().map_while(Result::ok) {
            let position = first + u64::from(ordinal);
            if ordinal < durable {
                if is_match(query, live, ordinal, position)? {
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
fn is_match(
    query: &Prepared,
    live: &LiveSegment,
    ordinal: u32,
    position: u64,
) -> Result<bool, ReadError> {
    let mut batch = Batch::default();
    batch.push_live_if(live, ordinal, position, |frame| {
        let event_type = live.types.get(frame.type_ref());
        event_type.is_some_and(|known| matches(query, frame, &known.name))
    })
}
