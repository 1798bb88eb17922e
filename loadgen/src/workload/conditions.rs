//! Conditions: which one each append has, and the tags that they are about.
//!
//! Owns the tags' names and what is known of them. An append's events have its condition's tag in front of all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::tags::Tag;
use crate::target::Condition;

/// How many tags the conditions about known tags are about.
const KNOWN_TAGS: u32 = 100_000;
/// Set beside the position of a tag whose newest event is on its way, where nobody else is to use it meanwhile.
const TAKEN: u64 = 1 << 63;

/// Which conditions a client's appends have. Clones share what is known.
#[derive(Debug, Clone)]
pub(crate) enum Conditions {
    None,
    /// That nobody else has used a tag since its newest known position.
    After {
        newest: Arc<[AtomicU64]>,
        /// Whether a tag is left alone while an append with it is on its way.
        exclusive: bool,
    },
    /// That nobody has used a tag at all, which nobody has.
    Exists,
}

/// The condition that one append has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drawn {
    None,
    After { tag: u32, position: u64 },
    Exists { client: u32, number: u64 },
}

impl Conditions {
    pub(crate) fn after(exclusive: bool) -> Self {
        Self::After { newest: (0..KNOWN_TAGS).map(|_| AtomicU64::new(0)).collect(), exclusive }
    }

    /// The condition of a client's append of this number.
    pub(crate) fn draw(&self, client: u32, number: u64, random: &mut fastrand::Rng) -> Drawn {
        match self {
            Self::None => Drawn::None,
            Self::Exists => Drawn::Exists { client, number },
            Self::After { newest, exclusive } => loop {
                let tag = random.u32(..KNOWN_TAGS);
                let known = &newest[tag as usize];
                let position = known.load(Ordering::Relaxed);
                if !exclusive {
                    break Drawn::After { tag, position };
                }
                let (order, taken) = (Ordering::Relaxed, position | TAKEN);
                if position & TAKEN == 0
                    && known.compare_exchange(position, taken, order, order).is_ok()
                {
                    break Drawn::After { tag, position };
                }
            },
        }
    }

    /// The events of an append were acknowledged, the last of them at this position.
    pub(crate) fn learn(&self, drawn: Drawn, last: u64) {
        if let (Self::After { newest, exclusive }, Drawn::After { tag, .. }) = (self, drawn) {
            let known = &newest[tag as usize];
            if *exclusive {
                known.store(last, Ordering::Relaxed);
            } else {
                known.fetch_max(last, Ordering::Relaxed);
            }
        }
    }

    /// The condition did not hold, since an event with its tag is at this position: the one to try again with.
    pub(crate) fn refused(&self, drawn: Drawn, at: u64) -> Drawn {
        match (self, drawn) {
            (Self::After { newest, .. }, Drawn::After { tag, .. }) => {
                let known = newest[tag as usize].fetch_max(at, Ordering::Relaxed).max(at);
                Drawn::After { tag, position: known & !TAKEN }
            }
            _ => drawn,
        }
    }
}

impl Drawn {
    /// The condition as a store takes it.
    pub(crate) fn condition(self) -> Option<Condition> {
        let after = match self {
            Self::None => return None,
            Self::After { position, .. } => Some(position),
            Self::Exists { .. } => None,
        };
        self.tag().map(|tag| Condition { tag, after })
    }

    /// The tag that it is about.
    pub(crate) fn tag(self) -> Option<Tag> {
        match self {
            Self::None => None,
            Self::After { tag, .. } => Some(Tag::known(tag)),
            Self::Exists { client, number } => Some(Tag::fresh(client, number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_asked_about_behind_what_is_known_of_it() {
        let mut random = fastrand::Rng::with_seed(1);
        let conditions = Conditions::after(false);
        let drawn = conditions.draw(0, 0, &mut random);
        let Drawn::After { tag, position: 0 } = drawn else { panic!("{drawn:?}") };
        conditions.learn(drawn, 7);
        assert_eq!(conditions.refused(drawn, 5), Drawn::After { tag, position: 7 });
        assert_eq!(conditions.refused(drawn, 9), Drawn::After { tag, position: 9 });
        let condition = drawn.condition().unwrap();
        assert_eq!((&*condition.tag, condition.after), (&*Tag::known(tag), Some(0)));
    }

    #[test]
    fn tags_on_their_way_are_left_alone_where_that_is_asked_for() {
        let mut random = fastrand::Rng::with_seed(1);
        let conditions = Conditions::after(true);
        let drawn: Vec<_> = (0..50_000).map(|n| conditions.draw(0, n, &mut random)).collect();
        let tags: std::collections::BTreeSet<_> =
            drawn.iter().map(|drawn| drawn.tag().unwrap().to_string()).collect();
        assert_eq!(tags.len(), drawn.len());
        for drawn in drawn {
            conditions.learn(drawn, 3);
        }
        let Drawn::After { position, .. } = conditions.draw(0, 0, &mut random) else { panic!() };
        assert!(position == 0 || position == 3);
    }

    #[test]
    fn fresh_tags_differ() {
        let tag = |client, number| Drawn::Exists { client, number }.tag().unwrap().to_string();
        assert_ne!(tag(1, 2), tag(2, 1));
        assert_eq!(Drawn::Exists { client: 1, number: 2 }.condition().unwrap().after, None);
        assert!(Conditions::None.draw(0, 0, &mut fastrand::Rng::new()).condition().is_none());
    }
}
