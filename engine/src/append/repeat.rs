//! Whether an append repeats an earlier one: whether events with its ids are in the log already.
//!
//! Owns how ids that a caller has chosen are looked for, and what it means that they are found. As with conditions, it
//! happens in two steps: outside the sequence lock, in everything that has its place by then; under the lock, in what
//! has come since, by half of each id's hash. What is found that way, or is not durable, is waited for and looked at
//! again: no hash decides, and no answer rests on what a crash may take. An append whose first try is still in flight
//! so waits for it.
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
use super::expect::Expect;
use super::receipt::Placed;
use super::request::Request;
use crate::commit::LiveSegment;
use crate::error::{AppendError, EventExists, IdDifference};
use crate::event::{EventId, Position};
use crate::limits::{CONDITION_WINDOW_MAX, ID_AHEAD_MAX};
use crate::read::{EventRef, EventView, FoundId, Reads, SoughtId};

/// See the module.
#[derive(Debug)]
pub(crate) struct Repeat {
    /// The ids that the caller has chosen, in the order of the events.
    sought: SmallVec<[SoughtId; 1]>,
    wanted: Wanted,
    /// Of those that say when they were made, the last one.
    newest: Option<(i64, EventId)>,
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

/// What is known behind the first step.
#[derive(Debug)]
pub(super) enum Looked {
    /// None of the ids was found, or one may have been that is not durable.
    Absent,
    /// The append is in the log: the position of its first event. The request says the versions.
    Repeated { first_position: u64 },
}

/// The lower halves of the ids' hashes.
#[derive(Debug)]
struct Wanted {
    sorted: SmallVec<[u32; 2]>,
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
        let made = encoded.events.iter().zip(&encoded.ids).filter_map(|(event, id)| {
            event.id_is_chosen.then(|| Some((id.made_at()?, *id))).flatten()
        });
        let newest = made.max();
        let wanted = Wanted::new(sought.iter().map(|sought| sought.hash.lower_half()));
        Ok(Self { sought, wanted, newest, state: State::AbsentBefore(0), looks: 0 })
    }

    /// Whether an event that was not durable seemed to have one of the ids.
    pub(super) fn may_be(&self) -> bool {
        matches!(self.state, State::MaybeAt { .. })
    }

    /// The first step: looks for the ids in what has come since the last look. `random_since` is the time before which
    /// those that do not say when they were made are not looked for.
    ///
    /// # Errors
    /// [`AppendError::EventIdExists`]; [`AppendError::Ids`].
    pub(super) fn look(
        request: &mut Request,
        reads: &Arc<Reads>,
        random_since: i64,
    ) -> Result<Looked, AppendError> {
        let Some(repeat) = &mut request.repeat else { return Ok(Looked::Absent) };
        repeat.looks += 1;
        let (State::AbsentBefore(from) | State::MaybeAt { absent_before: from, .. }) = repeat.state;
        let (found, next) = reads
            .look_for(&repeat.sought, from, random_since)
            .map_err(|source| AppendError::Ids { source })?;
        let maybe = found.iter().filter_map(|(_, found)| match found {
            FoundId::Maybe(position) => Some(*position),
            FoundId::Durable(_) => None,
        });
        if let Some(position) = maybe.max() {
            repeat.state = State::MaybeAt { position, absent_before: from };
            return Ok(Looked::Absent);
        }
        if found.is_empty() {
            repeat.state = State::AbsentBefore(next);
            return Ok(Looked::Absent);
        }
        let mut views: Vec<_> = found
            .into_iter()
            .filter_map(|(sought, found)| match found {
                FoundId::Durable(view) => Some((repeat.sought[sought].event, view)),
                FoundId::Maybe(_) => None,
            })
            .collect();
        add_own(request, reads, &mut views)?;
        let found: Vec<_> = views.iter().map(|(number, view)| (*number, view.event())).collect();
        let first_position = judge(request, &found)?;
        Ok(Looked::Repeated { first_position })
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
        if let Some((made, id)) = self.newest
            && let Some(ahead) = made.checked_sub(recorded_at)
            && ahead > ID_AHEAD_NANOS
        {
            let ahead = Duration::from_nanos(ahead.unsigned_abs());
            return Err(AppendError::IdAhead { id, ahead });
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
        if let Some(ordinal) = active.index.first_id_noted(ordinals, |note| self.wanted.has(note)) {
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

/// The store's own events among a request's, checkpoints, have ids of the store's: what stands where they would be is
/// added to what was found.
fn add_own(
    request: &Request,
    reads: &Arc<Reads>,
    found: &mut Vec<(usize, EventView)>,
) -> Result<(), AppendError> {
    let (number, first) = &found[0];
    let Some(first) = first.event().position().0.checked_sub(*number as u64) else { return Ok(()) };
    let mut begin = 0;
    for part in &request.parts {
        if request.targets[part.target].is_own() {
            let view = reads
                .event_at(first + begin as u64)
                .map_err(|source| AppendError::Ids { source })?;
            found.extend(view.map(|view| (begin, view)));
        }
        begin += part.events as usize;
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(())
}

/// Some of a request's events, by their numbers, are in the log as these. If it repeats what is there, the position of
/// the first one; the versions are noted in the request.
fn judge(request: &mut Request, found: &[(usize, EventRef<'_>)]) -> Result<u64, AppendError> {
    let differs = |event: &EventRef<'_>, difference| {
        Err(AppendError::EventIdExists(EventExists {
            id: event.id(),
            stream: event.stream().into(),
            version: event.version(),
            position: event.position(),
            difference,
        }))
    };
    let encoded = &request.encoded;
    for (number, event) in found {
        let own = encoded.frame(*number);
        if own.is_none_or(|own| own.stream_bytes() != event.stream().as_bytes()) {
            return differs(event, IdDifference::Stream);
        }
        let event_type = &encoded.types()[encoded.events[*number].event_type].event_type;
        let is_same = |own: crate::format::frame::Frame<'_>| {
            own.kind() == event.frame_kind() && own.payload() == event.payload()
        };
        if *event_type.name != *event.event_type() || !own.is_some_and(is_same) {
            return differs(event, IdDifference::Content);
        }
    }
    let (first_number, first) = &found[0];
    let of = encoded.events.len();
    if found.len() < of {
        return differs(first, IdDifference::Part { present: found.len(), of });
    }
    debug_assert_eq!(*first_number, 0, "all of them are there, in their order");
    let first_position = first.position().0;
    for ((number, event), position) in found.iter().zip(first_position..) {
        debug_assert_eq!(position, first_position + *number as u64);
        if event.position() != Position(position) {
            return differs(event, IdDifference::Place);
        }
    }
    let mut seen = vec![false; request.targets.len()];
    let mut begin = 0;
    for part in &mut request.parts {
        let event = &found[begin].1;
        part.first_version = event.version();
        let is_first = !std::mem::replace(&mut seen[part.target as usize], true);
        let expected = match request.targets[part.target].expect {
            Expect::NoStream => Some(0),
            Expect::Version(version) => Some(version.saturating_add(1)),
            Expect::Any | Expect::Exists => None,
        };
        if is_first && expected.is_some_and(|expected| expected != event.version()) {
            return differs(event, IdDifference::Place);
        }
        begin += part.events as usize;
    }
    // Those of the store's own events are others than at first.
    for (id, (_, event)) in request.encoded.ids.iter_mut().zip(found) {
        *id = event.id();
    }
    Ok(first_position)
}

impl Looked {
    /// What a request has come to, if it is that of an append that is in the log.
    pub(super) fn placed(self, request: &mut Request) -> Option<Placed> {
        match self {
            Self::Absent => None,
            Self::Repeated { first_position } => Some(Placed::of(request, first_position, true)),
        }
    }
}

impl Wanted {
    /// So many are compared one by one.
    const FEW: usize = 4;
    /// So that hardly a note that is not wanted finds its bit set.
    const BITS_FOR_EACH: usize = 16;

    fn new(notes: impl Iterator<Item = u32>) -> Self {
        let mut sorted: SmallVec<[u32; 2]> = notes.collect();
        sorted.sort_unstable();
        let mut bits = Vec::new();
        if sorted.len() > Self::FEW {
            let words = sorted.len() * Self::BITS_FOR_EACH / u64::BITS as usize;
            bits.resize(words.next_power_of_two(), 0);
            for note in &sorted {
                let (word, bit) = place(&bits, *note);
                bits[word] |= bit;
            }
        }
        Self { sorted, bits }
    }

    #[inline]
    fn has(&self, note: u32) -> bool {
        if self.bits.is_empty() {
            return self.sorted.contains(&note);
        }
        let (word, bit) = place(&self.bits, note);
        self.bits[word] & bit != 0 && self.sorted.binary_search(&note).is_ok()
    }
}

/// The word and the bit of a note; the number of words is a power of two.
#[inline]
fn place(bits: &[u64], note: u32) -> (usize, u64) {
    let word = (note / u64::BITS) as usize & (bits.len() - 1);
    (word, 1 << (note % u64::BITS))
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_wanted_notes_are_found_among_many_or_few() {
        let mut random = fastrand::Rng::with_seed(1);
        for count in [1, Wanted::FEW, Wanted::FEW + 1, 100, 5000] {
            let notes: Vec<u32> = (0..count).map(|_| random.u32(..)).collect();
            let wanted = Wanted::new(notes.iter().copied());
            assert!(notes.iter().all(|note| wanted.has(*note)));
            let others = (0..20_000).map(|_| random.u32(..)).filter(|note| !notes.contains(note));
            assert_eq!(others.filter(|note| wanted.has(*note)).count(), 0, "{count}");
        }
    }

    #[test]
    fn an_id_that_is_given_twice_is_found() {
        let sought = |id: u8| SoughtId {
            event: 0,
            id: [id; 16],
            hash: crate::index::TermHash(0),
            not_before: None,
        };
        assert_eq!(twice(&[sought(1)]), None);
        assert_eq!(twice(&[sought(2), sought(1), sought(3)]), None);
        assert_eq!(twice(&[sought(2), sought(1), sought(2)]), Some([2; 16]));
    }
}
