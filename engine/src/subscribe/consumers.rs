//! The consumers of an open store, and how far each has come.
//!
//! Owns the list of them, which is touched when one begins and when somebody asks, and each one's figures, which only that one
//! writes: on cache lines of their own, so that a consumer that moves slows down no other.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::error::ReadError;
use crate::event::{Position, Timestamp};
use crate::read::{ReadAll, Reads};
use crate::sync::{AtomicU64, Count, Ordering};

/// How far a consumer has come, when it was looked at; see [`Store::consumers`](crate::Store::consumers).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// The name that it was given, or that of its projection.
    pub name: Box<str>,
    /// Which lane of its projection it is; none for a subscription.
    pub lane: Option<usize>,
    /// Everything up to here is behind it: it was handled, or is not for it.
    pub position: Position,
    /// How many events are between that and the head of the log, whether or not they are for it.
    pub lag_events: u64,
    /// How long ago the first of those was recorded; zero where there are none, and nothing where it cannot be read.
    pub lag: Option<Duration>,
    /// How many events it has handled.
    pub events: u64,
    /// How long it took to handle one, in nanoseconds: what went by between receiving events and asking for more, for a
    /// projection what it took to apply them, divided by their number. 0 where it has handled none.
    pub nanos_per_event: f64,
}

/// What a consumer notes of itself.
#[derive(Debug)]
pub(crate) struct Cursor {
    name: Box<str>,
    lane: Option<usize>,
    figures: CachePadded<Figures>,
}

#[derive(Debug, Default)]
struct Figures {
    /// Everything up to it is behind the consumer.
    position: AtomicU64,
    events: Count,
    busy_nanos: Count,
}

impl Cursor {
    /// Everything up to a position is behind it.
    pub(crate) fn move_to(&self, position: u64) {
        self.figures.position.store(position, Ordering::Release);
    }

    pub(crate) fn position(&self) -> u64 {
        self.figures.position.load(Ordering::Acquire)
    }

    /// So many events more were handled, in that time.
    pub(crate) fn handled(&self, events: u64, time: Duration) {
        self.figures.events.add(events);
        self.figures.busy_nanos.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn stats(&self, reads: &Arc<Reads>) -> ConsumerStats {
        let (events, nanos) = (self.figures.events.get(), self.figures.busy_nanos.get());
        // In this order: the head is not before the position.
        let position = self.position();
        let lag_events = reads.watermark.get().saturating_sub(position);
        let lag =
            if lag_events == 0 { Some(Duration::ZERO) } else { age_behind(reads, position).ok() };
        #[expect(clippy::cast_precision_loss, reason = "a mean")]
        let nanos_per_event = if events == 0 { 0.0 } else { nanos as f64 / events as f64 };
        ConsumerStats {
            name: self.name.clone(),
            lane: self.lane,
            position: Position(position),
            lag_events,
            lag,
            events,
            nanos_per_event,
        }
    }
}

/// How long ago the event behind a position was recorded; zero where there is none.
///
/// # Errors
/// [`ReadError`].
pub(super) fn age_behind(reads: &Arc<Reads>, position: u64) -> Result<Duration, ReadError> {
    let mut next = ReadAll::new(Arc::clone(reads)).after(position).limit(1).forward();
    let Some(batch) = next.next_batch()? else { return Ok(Duration::ZERO) };
    let recorded_at = batch.get(0).map_or(i64::MAX, |event| event.recorded_at().0);
    // The clock may have been set back.
    let nanos = u64::try_from(Timestamp::now().0.saturating_sub(recorded_at)).unwrap_or(0);
    Ok(Duration::from_nanos(nanos))
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Consumers(Mutex<Vec<Weak<Cursor>>>);

impl Consumers {
    /// Lists a consumer for as long as it holds what this returns.
    pub(crate) fn add(&self, name: &str, lane: Option<usize>, position: u64) -> Arc<Cursor> {
        let figures = CachePadded::new(Figures::default());
        let cursor = Arc::new(Cursor { name: name.into(), lane, figures });
        cursor.move_to(position);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|cursor| cursor.strong_count() > 0);
        all.push(Arc::downgrade(&cursor));
        cursor
    }

    /// Those that there are, in the order in which they began.
    pub(crate) fn all(&self) -> Vec<Arc<Cursor>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}
