//! Tests of queries: what is wrong with one, what one means, and plans against brute force.
//!
//! Owns a model of one part of the log, out of the standard library's collections, and the lists over it.
//! The tests stand by what they ask: `meaning`, `plans`, `costs`.

mod costs;
mod meaning;
mod plans;

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;

use super::*;
use crate::event::category;
use crate::index::{IndexDamage, Term, TermHash, TermKind};

/// One event of a model, as far as a query can ask for it.
struct ModelEvent {
    stream: String,
    event_type: String,
    tags: Vec<String>,
}

/// A part of the log: its events, and lists of where terms are.
#[derive(Default)]
struct Model {
    events: Vec<ModelEvent>,
    lists: HashMap<(TermHash, TermKind), Vec<u32>>,
    /// What the lists were asked for.
    touched: Cell<Touched>,
    /// After so many touches, the lists turn out to be damaged.
    sound: Cell<Option<u32>>,
}

/// How often lists were looked into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Touched {
    /// Postings that ranges gave.
    postings: u32,
    /// Calls of `lower_bound`.
    searches: u32,
}

const DAMAGE: IndexDamage = IndexDamage::Page { page: 7 };

impl Model {
    fn push(&mut self, stream: &str, event_type: &str, tags: &[&str]) {
        let ordinal = u32::try_from(self.events.len()).unwrap();
        let mut terms =
            vec![Term::stream(stream.as_bytes()), Term::event_type(event_type.as_bytes())];
        terms.extend(category(stream).map(|category| Term::category(category.as_bytes())));
        terms.extend(tags.iter().map(|tag| Term::tag(tag.as_bytes())));
        for term in terms {
            self.list_mut(term).push(ordinal);
        }
        self.events.push(ModelEvent {
            stream: stream.into(),
            event_type: event_type.into(),
            tags: tags.iter().map(|tag| (*tag).into()).collect(),
        });
    }

    fn list_mut(&mut self, term: Term<'_>) -> &mut Vec<u32> {
        self.lists.entry((term.xxh3_64(), term.kind)).or_default()
    }

    fn matches(&self, query: &Query, ordinal: u32) -> bool {
        let event = &self.events[ordinal as usize];
        query.matches(&event.stream, &event.event_type, event.tags.iter().map(String::as_str))
    }

    /// What a query finds from an ordinal on, by looking at every event.
    fn brute(&self, query: &Query, order: Order, from: u32) -> Vec<u32> {
        let events = u32::try_from(self.events.len()).unwrap();
        let all = (0..events).filter(|ordinal| self.matches(query, *ordinal));
        match order {
            Order::Forward => all.filter(|ordinal| *ordinal >= from).collect(),
            Order::Backward => all.rev().filter(|ordinal| *ordinal <= from).collect(),
        }
    }

    fn candidates(&self, query: &Query, order: Order, from: u32) -> Candidates<ModelList<'_>> {
        let prepared = Prepared::new(query.clone()).unwrap();
        Candidates::new(&prepared, self, order, from).unwrap()
    }

    fn found(&self, query: &Query, order: Order, from: u32) -> Vec<u32> {
        self.candidates(query, order, from).map(Result::unwrap).collect()
    }

    fn touch(&self, change: impl FnOnce(&mut Touched)) -> Result<(), IndexDamage> {
        let mut touched = self.touched.get();
        if self.sound.get().is_some_and(|sound| touched.postings + touched.searches >= sound) {
            return Err(DAMAGE);
        }
        change(&mut touched);
        self.touched.set(touched);
        Ok(())
    }
}

impl TermLists for Model {
    type List<'a> = ModelList<'a>;

    fn events(&self) -> u32 {
        u32::try_from(self.events.len()).unwrap()
    }

    fn list(&self, hash: TermHash, term: Term<'_>) -> Result<Option<ModelList<'_>>, IndexDamage> {
        assert_eq!(hash, term.xxh3_64(), "the hash is that of another term");
        let list = self.lists.get(&(hash, term.kind));
        Ok(list.map(|ordinals| ModelList { model: self, ordinals }))
    }
}

#[derive(Clone, Copy)]
struct ModelList<'a> {
    model: &'a Model,
    ordinals: &'a [u32],
}

struct ModelRange<'a> {
    list: ModelList<'a>,
    postings: Range<u32>,
}

impl<'a> PostingList for ModelList<'a> {
    type Range = ModelRange<'a>;

    fn len(&self) -> u32 {
        u32::try_from(self.ordinals.len()).unwrap()
    }

    fn lower_bound(&self, ordinal: u32) -> Result<u32, IndexDamage> {
        self.model.touch(|touched| touched.searches += 1)?;
        let below = self.ordinals.partition_point(|posting| *posting < ordinal);
        Ok(u32::try_from(below).unwrap())
    }

    fn range(self, postings: Range<u32>) -> ModelRange<'a> {
        assert!(postings.end <= self.len(), "{postings:?} of {} postings", self.len());
        ModelRange { list: self, postings }
    }
}

impl ModelRange<'_> {
    fn ordinal(&self, posting: u32) -> Result<u32, IndexDamage> {
        self.list.model.touch(|touched| touched.postings += 1)?;
        Ok(self.list.ordinals[posting as usize])
    }
}

impl Iterator for ModelRange<'_> {
    type Item = Result<u32, IndexDamage>;

    fn next(&mut self) -> Option<Self::Item> {
        let posting = self.postings.next()?;
        Some(self.ordinal(posting))
    }
}

impl DoubleEndedIterator for ModelRange<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let posting = self.postings.next_back()?;
        Some(self.ordinal(posting))
    }
}
