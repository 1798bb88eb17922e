//! The question: items, and which events match them.
//!
//! Owns [`Query`] and the meaning of it. Calls the rules for names; users build it, `prepared` takes it.

use compact_str::CompactString;
use smallvec::{SmallVec, smallvec};

use super::InvalidQuery;
use crate::event::{NamePart, category, check_sought};
use crate::index::Term;
use crate::limits::{QUERY_ITEMS_MAX, QUERY_TERMS_MAX};

/// Which events: items, of which an event must match one.
///
/// An item matches an event of any of its types that has all of its tags, and belongs to its stream and
/// its category, as far as it names them. These are the rules of the specification of dynamic consistency
/// boundaries (DCB).
///
/// ```
/// use stratalog::Query;
///
/// // Any of these types, about this seat.
/// let seat = Query::any().types(["seat-taken", "seat-freed"]).tags(["seat:12A"]);
/// // That, or whatever happened to the flight.
/// let query = seat.or(Query::any().stream("flight-7"));
/// # let _ = query;
/// ```
///
/// A query is built without errors. What is wrong with it, a name that is none or more than a query may
/// have, is an [`InvalidQuery`] that its reader reports. It has at most [`QUERY_ITEMS_MAX`] items, each
/// with at most [`QUERY_TERMS_MAX`] types and as many tags; what is given twice counts once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a query says what to read, and reads nothing"]
pub struct Query {
    asked: Asked,
    /// What was found wrong first. Nothing is added afterwards.
    wrong: Option<InvalidQuery>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    All,
    /// At most [`QUERY_ITEMS_MAX`].
    Items(SmallVec<[Item; 1]>),
}

/// The conditions that an event must meet together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Item {
    /// An event must have one of them, unless there are none. Each once, at most [`QUERY_TERMS_MAX`].
    types: SmallVec<[CompactString; 1]>,
    /// An event must have all of them. Each once, at most [`QUERY_TERMS_MAX`].
    tags: SmallVec<[CompactString; 2]>,
    stream: Option<CompactString>,
    category: Option<CompactString>,
}

impl Query {
    /// Every event.
    ///
    /// This is a value of its own. Narrowing it, or joining it with items, makes an item of it, as if it had
    /// been [`Query::any`].
    ///
    /// ```
    /// use stratalog::Query;
    ///
    /// assert_ne!(Query::all(), Query::any());
    /// assert_eq!(Query::all().tags(["seat:12A"]), Query::any().tags(["seat:12A"]));
    /// ```
    pub fn all() -> Self {
        Self { asked: Asked::All, wrong: None }
    }

    /// One item without conditions, to be narrowed by what follows. As it is, it matches every event.
    ///
    /// ```
    /// use stratalog::Query;
    ///
    /// let query = Query::any().category("ticket").types(["ticket-closed"]);
    /// # let _ = query;
    /// ```
    pub fn any() -> Self {
        Self { asked: Asked::Items(smallvec![Item::default()]), wrong: None }
    }

    /// No items: matches nothing, whatever narrows it. Begin with it to join items in a loop.
    ///
    /// ```
    /// use stratalog::Query;
    ///
    /// let seats = ["seat:12A", "seat:12B"];
    /// let query = seats.iter().fold(Query::none(), |query, seat| query.or(Query::any().tags([seat])));
    /// assert_eq!(query, Query::any().tags(["seat:12A"]).or(Query::any().tags(["seat:12B"])));
    /// assert_eq!(Query::none().tags(["seat:12A"]), Query::none());
    /// ```
    pub fn none() -> Self {
        Self { asked: Asked::Items(SmallVec::new()), wrong: None }
    }

    /// Narrows the last item to events of any of these types, added to those that it has. An empty list
    /// adds nothing: an item without types matches all of them.
    ///
    /// ```
    /// use stratalog::Query;
    ///
    /// let query = Query::any().types(["opened", "closed", "opened"]);
    /// assert_eq!(query, Query::any().types(["opened"]).types(["closed"]));
    /// assert_eq!(query.clone().types::<&str>([]), query);
    /// ```
    pub fn types<S: AsRef<str>>(self, types: impl IntoIterator<Item = S>) -> Self {
        self.narrow_each(NamePart::EventType, types)
    }

    /// Narrows the last item to events that have all of these tags, and those that it has already. An
    /// empty list adds nothing.
    ///
    /// ```
    /// use stratalog::Query;
    ///
    /// let query = Query::any().tags(["seat:12A", "flight:7"]);
    /// assert_eq!(query, Query::any().tags(["seat:12A"]).tags(["flight:7"]));
    /// ```
    pub fn tags<S: AsRef<str>>(self, tags: impl IntoIterator<Item = S>) -> Self {
        self.narrow_each(NamePart::Tag, tags)
    }

    /// Narrows the last item to events of this stream. One of the store's own may be asked for.
    ///
    /// ```
    /// use stratalog::Query;
    ///
    /// let query = Query::any().stream("ticket-42").types(["ticket-closed"]);
    /// # let _ = query;
    /// ```
    pub fn stream(self, stream: &str) -> Self {
        self.narrow_each(NamePart::Stream, [stream])
    }

    /// Narrows the last item to events of streams of this [`category`](crate::category()).
    ///
    /// ```
    /// use stratalog::Query;
    ///
    /// let query = Query::any().category("ticket");
    /// # let _ = query;
    /// ```
    pub fn category(self, category: &str) -> Self {
        self.narrow_each(NamePart::Category, [category])
    }

    /// The items of both: matches what one of the two matches.
    ///
    /// ```
    /// use stratalog::Query;
    ///
    /// let tickets = Query::any().category("ticket");
    /// let query = tickets.clone().or(Query::any().tags(["customer:7"]));
    /// assert_ne!(query, tickets);
    /// assert_eq!(tickets.clone().or(Query::none()), tickets);
    /// ```
    pub fn or(self, other: Query) -> Self {
        let wrong = self.wrong.or(other.wrong);
        let asked = match (self.asked, other.asked) {
            (Asked::All, Asked::All) => Asked::All,
            (asked, Asked::Items(items)) if items.is_empty() => asked,
            (Asked::Items(items), asked) if items.is_empty() => asked,
            (one, other) => {
                let (mut items, mut others) = (one.into_items(), other.into_items());
                let count = items.len() + others.len();
                if count > QUERY_ITEMS_MAX {
                    let wrong = wrong.or(Some(InvalidQuery::TooManyItems { items: count }));
                    return Self { asked: Asked::Items(items), wrong };
                }
                items.append(&mut others);
                Asked::Items(items)
            }
        };
        Self { asked, wrong }
    }

    fn narrow_each<S: AsRef<str>>(
        mut self,
        part: NamePart,
        names: impl IntoIterator<Item = S>,
    ) -> Self {
        for name in names {
            if self.wrong.is_some() {
                break;
            }
            self.wrong = self.narrow(part, name.as_ref()).err();
        }
        self
    }

    fn narrow(&mut self, part: NamePart, name: &str) -> Result<(), InvalidQuery> {
        check_sought(part, name)?;
        if part == NamePart::Category && name.contains('-') {
            return Err(InvalidQuery::Hyphen { category: name.into() });
        }
        if self.asked == Asked::All {
            *self = Self::any();
        }
        let items = self.items_mut();
        let number = items.len();
        // What matches nothing stays that.
        let Some(item) = items.last_mut() else { return Ok(()) };
        match part {
            NamePart::EventType => {
                add(&mut item.types, name).ok_or(InvalidQuery::TooManyTypes { item: number })
            }
            NamePart::Tag => {
                add(&mut item.tags, name).ok_or(InvalidQuery::TooManyTags { item: number })
            }
            NamePart::Stream => set(&mut item.stream, name).map_err(|first| {
                InvalidQuery::TwoStreams { item: number, first, second: name.into() }
            }),
            NamePart::Category => set(&mut item.category, name).map_err(|first| {
                InvalidQuery::TwoCategories { item: number, first, second: name.into() }
            }),
        }
    }

    fn items_mut(&mut self) -> &mut [Item] {
        match &mut self.asked {
            Asked::All => &mut [],
            Asked::Items(items) => items,
        }
    }

    /// Whether it asks for all events.
    pub(crate) fn is_all(&self) -> bool {
        self.wrong.is_none() && matches!(self.asked, Asked::All)
    }

    /// What is wrong with it.
    pub(crate) fn check(&self) -> Result<(), InvalidQuery> {
        self.wrong.clone().map_or(Ok(()), Err)
    }

    /// Whether it asks for an event of this stream, type and tags: the definition of what a query means.
    #[expect(clippy::needless_pass_by_value, reason = "who calls it has made the iterator for it")]
    pub(crate) fn matches<'t>(
        &self,
        stream: &str,
        event_type: &str,
        tags: impl Iterator<Item = &'t str> + Clone,
    ) -> bool {
        match &self.asked {
            Asked::All => true,
            Asked::Items(items) => items.iter().any(|item| item.matches(stream, event_type, &tags)),
        }
    }

    /// The items; `None` where it asks for all events.
    pub(super) fn items(&self) -> Option<&[Item]> {
        match &self.asked {
            Asked::All => None,
            Asked::Items(items) => Some(items),
        }
    }
}

impl Asked {
    fn into_items(self) -> SmallVec<[Item; 1]> {
        match self {
            Self::All => smallvec![Item::default()],
            Self::Items(items) => items,
        }
    }
}

/// Adds a name unless it is there; `None` where there are too many.
fn add<A: smallvec::Array<Item = CompactString>>(
    names: &mut SmallVec<A>,
    name: &str,
) -> Option<()> {
    if names.iter().any(|known| known == name) {
        return Some(());
    }
    (names.len() < QUERY_TERMS_MAX).then(|| names.push(name.into()))
}

/// Sets a name of which there can be one; an error with that one where it is another.
fn set(slot: &mut Option<CompactString>, name: &str) -> Result<(), Box<str>> {
    match slot {
        Some(first) if first != name => Err(first.as_str().into()),
        _ => {
            *slot = Some(name.into());
            Ok(())
        }
    }
}

impl Item {
    fn matches<'t>(
        &self,
        stream: &str,
        event_type: &str,
        tags: &(impl Iterator<Item = &'t str> + Clone),
    ) -> bool {
        (self.types.is_empty() || self.types.iter().any(|name| name == event_type))
            && self.stream.as_ref().is_none_or(|name| name == stream)
            && self.category.as_ref().is_none_or(|name| category(stream) == Some(name))
            && self.tags.iter().all(|wanted| tags.clone().any(|tag| tag == wanted))
    }

    /// The terms all of which an event must have.
    pub(super) fn all_of(&self) -> impl Iterator<Item = Term<'_>> {
        let stream = self.stream.iter().map(|name| Term::stream(name.as_bytes()));
        // Who belongs to the stream belongs to its category.
        let category = self.category.iter().filter(|_| self.stream.is_none());
        let category = category.map(|name| Term::category(name.as_bytes()));
        let tags = self.tags.iter().map(|tag| Term::tag(tag.as_bytes()));
        stream.chain(category).chain(tags)
    }

    /// The terms of which an event must have one, where there are any.
    pub(super) fn any_of(&self) -> impl Iterator<Item = Term<'_>> {
        self.types.iter().map(|name| Term::event_type(name.as_bytes()))
    }

    /// Whether it asks for a stream that is not of the category that it asks for.
    pub(super) fn is_contradiction(&self) -> bool {
        self.stream
            .as_ref()
            .zip(self.category.as_ref())
            .is_some_and(|(stream, asked)| category(stream) != Some(asked))
    }
}
