//! Whether an append may repeat an earlier one: whether events with its ids are in the log already.
//!
//! Owns how ids that a caller has chosen are looked for; `recognise` says what it means that they are found. As with
//! conditions, it happens in two steps: outside the sequence lock, in everything that has its place by then; under the
//! lock, in what has come since, by each id's hash. What is found that way, or is not durable, is waited for and looked
//! at again: no hash decides, and no answer rests on what a crash may take. An append whose first try is still in
//! flight so waits for it.
//!
//! A UUID of version 7 says when it was made. No event was recorded much earlier than its id says, since such an append
//! is refused; so what was recorded before is not looked at. Other ids are looked for as far back as the options say.
//!
//! Part of a request. Calls `read` for what is looked at outside the lock, and the live index under it; the writer
//! calls the first step, the sequencer the second.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::conditions::Latest;
use super::encode::{Encoded, EncodedEvent};
use crate::commit::LiveSegment;
use crate::error::AppendError;
use crate::event::EventId;
use crate::index::TermHash;
use crate::limits::{CONDITION_WINDOW_MAX, ID_AHEAD_MAX};
use crate::read::{EventView, FoundId, Reads, SoughtId};

/// See the module.
#[derive(Debug)]
pub(crate) struct Repeat {
    /// The ids that the caller has chosen, in the order of the events.
    sought: SmallVec<[SoughtId; 1]>,
    wanted: Wanted,
    /// Of those that say when they were made, the last one, and before which time no event has it.
    newest: Option<(i64, [u8; 16])>,
    state: State,
    /// How often the first step was made.
    looks: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// None of them is before this position.
    AbsentBefore(u64),
    /// One of them may be at this position, which was not durable; none is before the other one.
    MaybeAt { position: u64, absent_before: u64 },
}

/// The hashes of the ids.
#[derive(Debug)]
struct Wanted {
    sorted: SmallVec<[TermHash; 1]>,
    /// A bit is set for each of them, at its lowest bits; empty where they are few.
    bits: Vec<u64>,
}

impl Repeat {
    /// Of an append with ids of the caller's.
    ///
    /// # Errors
    /// [`AppendError::IdTwice`].
    pub(super) fn of(encoded: &Encoded) -> Result<Self, AppendError> {
        let chosen = encoded.events.iter().zip(&encoded.ids).enumerate();
        let chosen = chosen.filter(|(_, (event, _))| event.id_is_chosen);
        let sought: SmallVec<[SoughtId; 1]> = chosen
            .map(|(event, (EncodedEvent { id_hash, .. }, id))| {
                let not_before = id.made_at().map(|made| made.saturating_sub(ID_AHEAD_NANOS));
                SoughtId { event, id: id.0, hash: *id_hash, not_before }
            })
            .collect();
        if let Some(twice) = twice(&sought) {
            return Err(AppendError::IdTwice { id: EventId(twice) });
        }
        let newest = sought.iter().filter_map(|sought| Some((sought.not_before?, sought.id))).max();
        let wanted = Wanted::new(sought.iter().map(|sought| sought.hash));
        Ok(Self { sought, wanted, newest, state: State::AbsentBefore(0), looks: 0 })
    }

    /// The position of an event that was not durable and seemed to have one of the ids, if there was one.
    pub(super) fn may_be_at(&self) -> Option<u64> {
        match self.state {
            State::MaybeAt { position, .. } => Some(position),
            State::AbsentBefore(_) => None,
        }
    }

    /// The first step: looks for the ids in what has come since the last look. `random_since` is the time before which
    /// those that do not say when they were made are not looked for. Gives the durable events that have them, with the
    /// numbers that those have in the append, increasing; none also where one may be that is not durable.
    ///
    /// # Errors
    /// [`AppendError::Ids`].
    pub(super) fn look(
        &mut self,
        reads: &Arc<Reads>,
        random_since: i64,
    ) -> Result<Vec<(usize, EventView)>, AppendError> {
        self.looks += 1;
        let (State::AbsentBefore(from) | State::MaybeAt { absent_before: from, .. }) = self.state;
        let (found, next) = reads
            .look_for(&self.sought, from, random_since)
            .map_err(|source| AppendError::Ids { source })?;
        let maybe = found.iter().filter_map(|(_, found)| match found {
            FoundId::Maybe(position) => Some(*position),
            FoundId::Durable(_) => None,
        });
        if let Some(position) = maybe.max() {
            self.state = State::MaybeAt { position, absent_before: from };
            return Ok(Vec::new());
        }
        if found.is_empty() {
            self.state = State::AbsentBefore(next);
        } else if found.len() < self.sought.len() && random_since > i64::MIN {
            // The others are where these are, or nowhere, however long ago that was.
            return self.look(reads, i64::MIN);
        }
        let durable = found.into_iter().filter_map(|(sought, found)| match found {
            FoundId::Durable(view) => Some((self.sought[sought].event, view)),
            FoundId::Maybe(_) => None,
        });
        Ok(durable.collect())
    }

    /// The second step, under the sequence lock: compares the events that have got their places since the first, up
    /// to `next_position`, the last of which are in the active segment. `recorded_at` is the time at which it would be
    /// recorded.
    ///
    /// # Errors
    /// [`AppendError::IdAhead`].
    pub(super) fn compare(
        &mut self,
        active: &LiveSegment,
        next_position: u64,
        recorded_at: i64,
    ) -> Result<Latest, AppendError> {
        let next = match self.state {
            State::AbsentBefore(_) if self.looks == 0 => return Ok(Latest::Look),
            State::AbsentBefore(next) => next,
            State::MaybeAt { position, .. } => return Ok(Latest::Wait(position)),
        };
        if let Some((not_before, id)) = self.newest
            && not_before > recorded_at
        {
            let ahead = ID_AHEAD_MAX + Duration::from_nanos(not_before.abs_diff(recorded_at));
            return Err(AppendError::IdAhead { id: EventId(id), ahead });
        }
        if next >= next_position {
            return Ok(Latest::Known);
        }
        // What is in an older segment, or is too much, is looked at where nobody waits.
        let Some(from) = next.checked_sub(active.first_position) else { return Ok(Latest::Look) };
        let window = u64::from(CONDITION_WINDOW_MAX) << self.looks.min(u32::BITS);
        let upto = (next_position - active.first_position).min(from + window);
        #[expect(clippy::cast_possible_truncation, reason = "a segment has fewer than 2^32 events")]
        let ordinals = from as u32..upto as u32;
        if let Some(ordinal) = active.index.first_id_noted(ordinals, |hash| self.wanted.has(hash)) {
            let position = active.first_position + u64::from(ordinal);
            self.state = State::MaybeAt { position, absent_before: position };
            return Ok(Latest::Wait(position));
        }
        let next = active.first_position + upto;
        self.state = State::AbsentBefore(next);
        Ok(if next < next_position { Latest::Look } else { Latest::Known })
    }
}

#[expect(clippy::cast_possible_wrap, reason = "some minutes")]
const ID_AHEAD_NANOS: i64 = ID_AHEAD_MAX.as_secs() as i64 * 1_000_000_000;

/// An id that is there twice.
fn twice(sought: &[SoughtId]) -> Option<[u8; 16]> {
    if sought.len() < 2 {
        return None;
    }
    let mut ids: Vec<_> = sought.iter().map(|sought| sought.id).collect();
    ids.sort_unstable();
    ids.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

impl Wanted {
    /// So many are compared one by one.
    const FEW: usize = 4;
    /// So that hardly a hash that is not wanted finds its bit set.
    const BITS_FOR_EACH: usize = 16;

    fn new(hashes: impl Iterator<Item = TermHash>) -> Self {
        let mut sorted: SmallVec<[TermHash; 1]> = hashes.collect();
        sorted.sort_unstable();
        let mut bits = Vec::new();
        if sorted.len() > Self::FEW {
            let words = sorted.len() * Self::BITS_FOR_EACH / u64::BITS as usize;
            bits.resize(words.next_power_of_two(), 0);
            for hash in &sorted {
                let (word, bit) = place(&bits, *hash);
                bits[word] |= bit;
            }
        }
        Self { sorted, bits }
    }

    #[inline]
    fn has(&self, hash: TermHash) -> bool {
        if self.bits.is_empty() {
            return self.sorted.contains(&hash);
        }
        let (word, bit) = place(&self.bits, hash);
        self.bits[word] & bit != 0 && self.sorted.binary_search(&hash).is_ok()
    }
}

/// The word and the bit of a hash; the number of words is a power of two.
#[inline]
fn place(bits: &[u64], hash: TermHash) -> (usize, u64) {
    #[expect(clippy::cast_possible_truncation, reason = "these bits are wanted")]
    let word = (hash.0 / u64::from(u64::BITS)) as usize & (bits.len() - 1);
    (word, 1 << (hash.0 % u64::from(u64::BITS)))
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_wanted_hashes_are_found_among_many_or_few() {
        let mut random = fastrand::Rng::with_seed(1);
        for count in [1, Wanted::FEW, Wanted::FEW + 1, 100, 5000] {
            let hashes: Vec<_> = (0..count).map(|_| TermHash(random.u64(..))).collect();
            let wanted = Wanted::new(hashes.iter().copied());
            assert!(hashes.iter().all(|hash| wanted.has(*hash)));
            let others = (0..20_000).map(|_| TermHash(random.u64(..)));
            assert_eq!(others.filter(|hash| wanted.has(*hash)).count(), 0, "{count}");
        }
    }

    #[test]
    fn an_id_that_is_given_twice_is_found() {
        let sought =
            |id: u8| SoughtId { event: 0, id: [id; 16], hash: TermHash(0), not_before: None };
        assert_eq!(twice(&[sought(1)]), None);
        assert_eq!(twice(&[sought(2), sought(1), sought(3)]), None);
        assert_eq!(twice(&[sought(2), sought(1), sought(2)]), Some([2; 16]));
    }
}
