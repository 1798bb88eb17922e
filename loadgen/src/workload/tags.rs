//! Tags: which ones the events have that are made up here.
//!
//! Owns their names and how they are drawn. Setting an event's tags allocates nothing once it has had
//! some: those of a run are all of the same length.

use std::ops::Deref;

use stratalog::NewEvent;
use stratalog::limits::TAGS_MAX;

/// How many tags there are to draw from.
pub(crate) const TAGS: u32 = 100_000;
/// How many events have the same tag where tags take turns.
pub(crate) const TURN_EVENTS: u64 = 10;

/// Digits enough for each of [`TAGS`].
const DRAWN_DIGITS: usize = 5;
/// The longest name: its prefix, and any number.
const NAME_BYTES_MAX: usize = 4 + 20;

/// The name of a tag.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tag {
    /// The name is at the end.
    bytes: [u8; NAME_BYTES_MAX],
    at: usize,
}

impl Tag {
    /// The tag with this number, of those that are drawn.
    pub(crate) fn drawn(number: u32) -> Self {
        Self::numbered(*b"tag-", u64::from(number), DRAWN_DIGITS)
    }

    /// The tag with this number, of those that take turns.
    pub(crate) fn in_turn(number: u64) -> Self {
        Self::numbered(*b"ten-", number, 1)
    }

    /// The tag with this number, of those that conditions know.
    pub(crate) fn known(number: u32) -> Self {
        Self::numbered(*b"own-", u64::from(number), DRAWN_DIGITS)
    }

    /// A tag that no other append has.
    pub(crate) fn fresh(client: u32, number: u64) -> Self {
        Self::numbered(*b"new-", u64::from(client) << 40 | number, 1)
    }

    fn numbered(prefix: [u8; 4], mut number: u64, digits_min: usize) -> Self {
        let (mut bytes, mut at) = ([0; NAME_BYTES_MAX], NAME_BYTES_MAX);
        while number > 0 || NAME_BYTES_MAX - at < digits_min {
            at -= 1;
            bytes[at] = b"0123456789"[(number % 10) as usize];
            number /= 10;
        }
        at -= prefix.len();
        bytes[at..at + prefix.len()].copy_from_slice(&prefix);
        Self { bytes, at }
    }
}

impl Deref for Tag {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.bytes[self.at..]).expect("it is ASCII")
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self)
    }
}

impl AsRef<str> for Tag {
    fn as_ref(&self) -> &str {
        self
    }
}

/// Which tags an event gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tagging {
    /// So many of [`TAGS`] at random, none of them twice; 0 for none.
    Drawn(usize),
    /// One of so many, which take turns.
    InTurn(u64),
}

impl Tagging {
    /// Gives the event of this number its tags, in place of those of the event before, one that its append has first.
    pub(crate) fn tag(
        self,
        event: &mut NewEvent,
        own: Option<Tag>,
        number: u64,
        random: &mut fastrand::Rng,
    ) {
        match self {
            Self::Drawn(0) if own.is_none() => {}
            Self::Drawn(count) => {
                let mut drawn = [0; TAGS_MAX];
                draw(&mut drawn[..count], random);
                let drawn = drawn[..count].iter().map(|&number| Tag::drawn(number));
                event.set_tags(own.into_iter().chain(drawn));
            }
            Self::InTurn(tags) => {
                event.set_tags(own.into_iter().chain([Tag::in_turn(number % tags)]));
            }
        }
    }
}

/// Draws as many different numbers as there is room for.
fn draw(numbers: &mut [u32], random: &mut fastrand::Rng) {
    for place in 0..numbers.len() {
        numbers[place] = loop {
            let number = random.u32(..TAGS);
            // There are few: looking through them is faster than any set.
            if !numbers[..place].contains(&number) {
                break number;
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_numbers() {
        assert_eq!(&*Tag::drawn(0), "tag-00000");
        assert_eq!(&*Tag::drawn(12_345), "tag-12345");
        assert_eq!(&*Tag::drawn(TAGS - 1), "tag-99999");
        assert_eq!(&*Tag::in_turn(0), "ten-0");
        assert_eq!(&*Tag::in_turn(u64::MAX), "ten-18446744073709551615");
    }

    #[test]
    fn drawn_tags_differ_within_an_event_and_come_again_by_their_seed() {
        let drawn = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut event = NewEvent::bytes("t", b"".as_slice());
            let mut all = Vec::new();
            for number in 0..1000 {
                Tagging::Drawn(TAGS_MAX).tag(&mut event, None, number, &mut random);
                let mut tags: Vec<_> = event.iter_tags().map(str::to_owned).collect();
                all.extend(tags.clone());
                tags.sort_unstable();
                tags.dedup();
                assert_eq!(tags.len(), TAGS_MAX, "seed {seed}");
            }
            all
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn tags_that_take_turns_have_ten_events_each_and_lie_apart() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut event = NewEvent::bytes("t", b"".as_slice());
        let mut events = vec![Vec::new(); 30];
        for number in 0..30 * TURN_EVENTS {
            Tagging::InTurn(30).tag(&mut event, None, number, &mut random);
            let tag = event.iter_tags().next().and_then(|tag| tag.strip_prefix("ten-")).unwrap();
            events[tag.parse::<usize>().unwrap()].push(number);
        }
        for (tag, events) in (0..).zip(events) {
            assert!(events.iter().copied().eq((0..TURN_EVENTS).map(|turn| tag + 30 * turn)));
        }
    }

    #[test]
    fn events_without_tags_stay_without() {
        let mut event = NewEvent::bytes("t", b"".as_slice());
        Tagging::Drawn(0).tag(&mut event, None, 0, &mut fastrand::Rng::with_seed(1));
        assert_eq!(event.iter_tags().len(), 0);
    }
}
