//! The conditions of an append: queries that no event behind some position may match.
//!
//! Owns how they are checked. What the sequencer has noted of the newest position of tags (`newest`) is enough for most
//! conditions about what came lately. The others are checked in two steps. Outside the sequence lock, everything that
//! has its place by then is looked at, with the help of the index; under the lock, what has come since, by its terms.
//! An event that is durable is compared exactly, and fails a condition for good. One that is not durable is waited for
//! and then looked at again: its frame may not be filled, and what an answer is based on has to be durable. So a
//! condition that holds costs no wait, and one that fails is reported by its first event.
//!
//! Part of a request. Calls `read` for what is looked at outside the lock, and the live index under it; the writer
//! calls the first step, the sequencer the second.

use std::sync::Arc;

use super::newest::{NewestTags, TagTable};
use crate::commit::LiveSegment;
use crate::error::{AppendError, ConditionConflict, ConditionKind};
use crate::event::Position;
use crate::limits::{CONDITION_WINDOW_MAX, CONDITIONS_MAX};
use crate::query::{Prepared, Query};
use crate::read::{FirstMatch, Reads};

/// See the module. At most [`CONDITIONS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Conditions {
    all: Vec<Condition>,
    /// How many items they have together.
    items: usize,
    /// How often the first step was made.
    looks: u32,
}

#[derive(Debug)]
struct Condition {
    query: Arc<Prepared>,
    kind: ConditionKind,
    after: u64,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing was looked at.
    New,
    /// No event before this position fails it.
    HoldsBefore(u64),
    /// As far as its terms tell, the event at this position does, and none before it. It was not durable.
    MaybeAt(u64),
    /// The durable event at this position does.
    FailedAt(u64),
}

/// What the events that came last say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Latest {
    /// Each condition has failed, or holds.
    Known,
    /// There is more to be looked at outside the lock.
    Look,
    /// The event at this position, which may not be durable, decides.
    Wait(u64),
}

impl Conditions {
    /// Adds a condition.
    ///
    /// # Errors
    /// [`AppendError`], where the query is none, or there are too many.
    pub(super) fn push(
        &mut self,
        kind: ConditionKind,
        query: Query,
        after: Position,
        tags: Option<&TagTable>,
    ) -> Result<(), AppendError> {
        let condition = self.all.len();
        if condition == CONDITIONS_MAX {
            return Err(AppendError::TooManyConditions);
        }
        let query =
            Prepared::new(query).map_err(|source| AppendError::Query { condition, source })?;
        // It will be asked for under the sequence lock, a while after this.
        tags.inspect(|tags| tags.near(&query));
        self.items += query.items_count();
        let (query, after) = (Arc::new(query), after.0);
        self.all.push(Condition { query, kind, after, state: State::New });
        Ok(())
    }

    /// Whether one is about events that are not behind a position.
    pub(super) fn reach_back_to(&self, position: u64) -> bool {
        self.all.iter().any(|condition| condition.after < position)
    }

    /// The first step: looks at what has come since the last look.
    ///
    /// # Errors
    /// [`AppendError::Condition`].
    pub(super) fn look(&mut self, reads: &Arc<Reads>) -> Result<(), AppendError> {
        self.looks += 1;
        for (number, condition) in self.all.iter_mut().enumerate() {
            let next = match condition.state {
                State::New => condition.after.saturating_add(1),
                State::HoldsBefore(next) | State::MaybeAt(next) => next,
                State::FailedAt(_) => continue,
            };
            let found = reads
                .first_match(&condition.query, next)
                .map_err(|source| AppendError::Condition { condition: number, source })?;
            condition.state = match found {
                FirstMatch::At(position) => State::FailedAt(position),
                FirstMatch::Maybe(position) => State::MaybeAt(position),
                FirstMatch::NotBefore(next) => State::HoldsBefore(next),
            };
        }
        Ok(())
    }

    /// Whether each is about what can be there, where this is the last position. To be asked before the second step.
    ///
    /// # Errors
    /// [`AppendError::AfterHead`], where one is not.
    pub(super) fn check_positions(&self, head: u64) -> Result<(), AppendError> {
        match self.all.iter().position(|condition| condition.after > head) {
            None => Ok(()),
            Some(condition) => {
                let after = Position(self.all[condition].after);
                Err(AppendError::AfterHead { condition, after, head: Position(head) })
            }
        }
    }

    /// The second step, under the sequence lock: compares the events that have got their places since the first, up
    /// to `next_position`, the last of which are in the active segment.
    pub(super) fn compare(
        &mut self,
        active: &LiveSegment,
        newest: &mut NewestTags,
        next_position: u64,
    ) -> Latest {
        let mut latest = Latest::Known;
        newest.ask(next_position - 1);
        let comparisons = u64::from(CONDITION_WINDOW_MAX) << self.looks.min(u32::BITS);
        let window = (comparisons / self.items.max(1) as u64).max(1);
        for condition in &mut self.all {
            match condition.compare(active, newest, next_position, window) {
                Latest::Known => {}
                Latest::Look => return Latest::Look,
                // All of them are waited for, so that all that fail are reported.
                Latest::Wait(position) => match latest {
                    Latest::Wait(other) if other >= position => {}
                    _ => latest = Latest::Wait(position),
                },
            }
        }
        latest
    }

    /// Those that have failed.
    pub(super) fn failed(&self) -> impl Iterator<Item = ConditionConflict> {
        self.all.iter().enumerate().filter_map(|(number, condition)| {
            let State::FailedAt(position) = condition.state else { return None };
            Some(ConditionConflict {
                condition: number,
                kind: condition.kind,
                after: Position(condition.after),
                position: Position(position),
            })
        })
    }
}

impl Condition {
    /// Compares at most so many events.
    fn compare(
        &mut self,
        active: &LiveSegment,
        newest: &NewestTags,
        next_position: u64,
        window: u64,
    ) -> Latest {
        let next = match self.state {
            State::New => {
                if !newest.is_older(&self.query, self.after) {
                    return Latest::Look;
                }
                next_position
            }
            State::HoldsBefore(next) => next,
            State::MaybeAt(position) => return Latest::Wait(position),
            State::FailedAt(_) => return Latest::Known,
        };
        if next >= next_position || newest.is_older(&self.query, next - 1) {
            self.state = State::HoldsBefore(next_position);
            return Latest::Known;
        }
        // What is in an older segment, or was too much, is looked at where nobody waits.
        let Some(from) = next.checked_sub(active.first_position) else { return Latest::Look };
        let upto = (next_position - active.first_position).min(from + window);
        for ordinal in from..upto {
            let position = active.first_position + ordinal;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a segment has fewer than 2^32 events"
            )]
            let ordinal = ordinal as u32;
            if self.query.matches_terms(|hash, term| active.index.has(ordinal, hash, term)) {
                self.state = State::MaybeAt(position);
                return Latest::Wait(position);
            }
        }
        let next = active.first_position + upto;
        self.state = State::HoldsBefore(next);
        if next < next_position { Latest::Look } else { Latest::Known }
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;
    use crate::commit::LiveStart;
    use crate::disk::{Disk, MemoryDisk};
    use crate::format::checksum::{Chain, SegmentIdentity, SegmentKey, StoreId};
    use crate::index::{LiveRoom, Term};

    /// A segment with so many events at positions from 1 on, the last of which has the tag.
    fn segment(events: u32, tag: &str) -> Arc<LiveSegment> {
        let identity = SegmentIdentity { store: StoreId([0; 16]), segment: 1, salt: 0 };
        let file = MemoryDisk::new().create("segment").unwrap();
        let start = LiveStart {
            first_position: 1,
            first_sequence: 1,
            chain: Chain::default(),
            recorded_last: 0,
        };
        let (bytes, room) = (1 << 20, LiveRoom::for_all_of(1 << 20));
        let (live, mut writer) =
            LiveSegment::new(SegmentKey::new(identity), file, bytes, room, &start);
        for number in 1..=events {
            let ordinal = writer.push_event(number.into());
            if number == events {
                writer.enter_tag(Term::tag(tag.as_bytes()).xxh3_64(), ordinal);
            }
            writer.enter_ids([Term::id(&[0; 16]).xxh3_64()]);
        }
        live
    }

    fn about(query: Query) -> Conditions {
        let mut conditions = Conditions::default();
        conditions.push(ConditionKind::FailIf, query, Position(0), None).unwrap();
        conditions.all[0].state = State::HoldsBefore(1);
        conditions
    }

    #[test]
    fn under_the_lock_no_more_is_compared_than_the_bound_allows_and_all_of_it_in_the_end() {
        let events = 3 * CONDITION_WINDOW_MAX;
        let (live, next_position) = (segment(events, "a"), u64::from(events) + 1);
        let mut newest = NewestTags::new(0);
        newest.ask(u64::from(events));
        let tags = |count: usize| {
            let one = |number: usize| Query::any().tags([format!("none-{number}")]);
            (1..count).fold(Query::any().tags(["a"]), |query, number| query.or(one(number)))
        };
        for (items, first) in [(1, CONDITION_WINDOW_MAX), (16, CONDITION_WINDOW_MAX / 16)] {
            let mut conditions = about(tags(items));
            let latest = conditions.compare(&live, &mut newest, next_position);
            assert_eq!(latest, Latest::Look);
            let state = conditions.all[0].state;
            assert!(matches!(state, State::HoldsBefore(next) if next == u64::from(first) + 1));
            // As if nothing could be looked at outside.
            let looks = (1..64).find(|_| {
                conditions.looks += 1;
                conditions.compare(&live, &mut newest, next_position) != Latest::Look
            });
            assert!(looks.is_some_and(|looks| looks < 8), "{looks:?}");
            let state = conditions.all[0].state;
            assert!(
                matches!(state, State::MaybeAt(last) if last == u64::from(events)),
                "{state:?}"
            );
        }
        let mut conditions = about(Query::any().tags(["none"]));
        while conditions.compare(&live, &mut newest, next_position) == Latest::Look {}
        assert_eq!(conditions.failed().count(), 0);
    }
}
