//! The streams that a request is about: each once, with what is expected of it and where it ends.
//!
//! Part of a request. The sequencer keeps here what it has found of each under its lock.

use std::ops::{Index, IndexMut};

use compact_str::CompactString;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::expect::Expect;
use crate::error::AppendError;
use crate::event::category;
use crate::index::{Term, TermHash, TermId};
use crate::limits::TRANSACTION_STREAMS_MAX;

/// See the module. At most [`TRANSACTION_STREAMS_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Targets {
    all: SmallVec<[Target; 1]>,
    /// Their places, by their hashes, where there are more than [`FEW`].
    places: Option<Box<HashTable<usize>>>,
}

/// So many are looked through one after the other.
const FEW: usize = 8;

/// One of them.
#[derive(Debug)]
pub(crate) struct Target {
    pub name: CompactString,
    /// The hash of the stream's term.
    pub hash: TermHash,
    /// The hash of the term of the stream's category, and how long the category is, where there is one.
    category: Option<(TermHash, usize)>,
    pub expect: Expect,
    /// Whether its head has to be looked up in the sealed segments, and what was found there.
    pub is_missing: bool,
    pub cold: Option<ColdHead>,
    pub head: StreamHead,
}

/// A cold stream's head, as looked up before the lock was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColdHead {
    /// How many segments had been let go by then.
    pub generation: u64,
    /// The version of its last event.
    pub last: Option<u64>,
}

/// Where a stream ends, by the sequencer's last look.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StreamHead {
    /// How many events the stream has: the next one's version.
    pub events: u64,
    /// The stream's number in the active segment's index, where it has events there.
    pub term: Option<TermId>,
    /// The position of its last event, where that is in another unsealed segment: it may not be durable yet.
    pub position: Option<u64>,
}

impl StreamHead {
    /// The version of its last event; none where it has no events.
    pub(crate) fn last(&self) -> Option<u64> {
        self.events.checked_sub(1)
    }

    /// Whether its last event is in an unsealed segment, and may not be durable.
    pub(crate) fn may_be_claimed(&self) -> bool {
        self.term.is_some() || self.position.is_some()
    }
}

impl Target {
    fn new(name: &str, hash: TermHash) -> Self {
        let category = category(name)
            .map(|category| (Term::category(category.as_bytes()).xxh3_64(), category.len()));
        Self {
            name: name.into(),
            hash,
            category,
            expect: Expect::Any,
            is_missing: false,
            cold: None,
            head: StreamHead::default(),
        }
    }

    /// The stream's category with the hash of its term, where it has one.
    #[inline]
    pub(crate) fn category(&self) -> Option<(TermHash, &[u8])> {
        let (hash, bytes) = self.category?;
        Some((hash, self.name.as_bytes().get(..bytes)?))
    }

    /// Whether it is a stream that only the store appends to.
    pub(crate) fn is_own(&self) -> bool {
        self.name.starts_with('$')
    }

    pub(crate) fn is_as_expected(&self) -> bool {
        self.expect.holds(self.head.last())
    }
}

impl Targets {
    /// Adds a stream, if it is not there yet, and an expectation of it; gives its place.
    ///
    /// # Errors
    /// [`AppendError::Contradiction`], where another expectation of it rules that out;
    /// [`AppendError::TooManyStreams`].
    pub(super) fn enter(&mut self, name: &str, expect: Expect) -> Result<u32, AppendError> {
        let hash = Term::stream(name.as_bytes()).xxh3_64();
        let place = match self.find(name, hash) {
            Some(place) => place,
            None if self.all.len() == TRANSACTION_STREAMS_MAX => {
                return Err(AppendError::TooManyStreams);
            }
            None => self.push(Target::new(name, hash)),
        };
        let target = &mut self.all[place];
        let both = target.expect.and(expect).ok_or_else(|| AppendError::Contradiction {
            stream: name.into(),
            expected: target.expect,
            also: expect,
        })?;
        target.expect = both;
        #[expect(clippy::cast_possible_truncation, reason = "at most TRANSACTION_STREAMS_MAX")]
        Ok(place as u32)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Target> {
        self.all.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Target> {
        self.all.iter_mut()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Forgets all of them, and the memory of more than a few.
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.all.shrink_to_fit();
        self.places = None;
    }

    fn find(&self, name: &str, hash: TermHash) -> Option<usize> {
        let is_it = |target: &Target| target.hash == hash && target.name == name;
        if self.all.len() <= FEW {
            return self.all.iter().position(is_it);
        }
        let places = self.places.as_ref()?;
        places.find(hash.0, |place| is_it(&self.all[*place])).copied()
    }

    fn push(&mut self, target: Target) -> usize {
        let place = self.all.len();
        self.all.push(target);
        if self.all.len() > FEW {
            let all = &self.all;
            let hash = |place: &usize| all[*place].hash.0;
            let places = self.places.get_or_insert_default();
            for missing in places.len()..all.len() {
                places.insert_unique(hash(&missing), missing, hash);
            }
        }
        place
    }
}

impl Index<u32> for Targets {
    type Output = Target;

    #[inline]
    fn index(&self, place: u32) -> &Target {
        &self.all[place as usize]
    }
}

impl IndexMut<u32> for Targets {
    #[inline]
    fn index_mut(&mut self, place: u32) -> &mut Target {
        &mut self.all[place as usize]
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_one_place_whatever_their_number_and_more_than_the_limit_are_refused() {
        let mut targets = Targets::default();
        for round in 0..2 {
            for number in 0..TRANSACTION_STREAMS_MAX {
                let place = targets.enter(&format!("stream-{number}"), Expect::Any).unwrap();
                assert_eq!(place as usize, number, "round {round}");
            }
        }
        let refused = targets.enter("one more", Expect::Any);
        assert!(matches!(refused, Err(AppendError::TooManyStreams)));
        assert_eq!(targets.len(), TRANSACTION_STREAMS_MAX);
    }

    #[test]
    fn expectations_of_a_stream_are_joined_or_contradict_each_other() {
        let mut targets = Targets::default();
        for expect in [Expect::Any, Expect::Exists, Expect::Version(3), Expect::Exists] {
            targets.enter("a", expect).unwrap();
        }
        assert_eq!(targets[0].expect, Expect::Version(3));
        for also in [Expect::NoStream, Expect::Version(4)] {
            let refused = targets.enter("a", also);
            let Err(AppendError::Contradiction { stream, expected, also: named }) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!((&*stream, expected, named), ("a", Expect::Version(3), also));
        }
    }
}
