//! What a projection sees of an event.

use crate::error::DecodeError;
use crate::limits::{QUERY_ITEMS_MAX, QUERY_TERMS_MAX};
use crate::query::Query;
use crate::read::EventRef;
use crate::typed::{EventSet, Views};

/// How a projection sees events: as a set of types, that is, any [`EventSet`](trait@EventSet), or as they are stored
/// ([`AnyEvent`]).
pub trait EventViews: 'static {
    /// What it sees of one.
    type Ref<'a>: Copy;
    /// All that it sees of one: most often once, several times or not at all where a set splits it.
    type Views<'a>: Iterator<Item = Self::Ref<'a>>;

    /// The event; `None` where it is of no type that it knows.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn views(event: EventRef<'_>) -> Result<Option<Self::Views<'_>>, DecodeError>;

    /// The events that it knows.
    fn query() -> Query;
}

impl<S: EventSet> EventViews for S {
    type Ref<'a> = <S as EventSet>::Ref<'a>;
    type Views<'a> = Views<'a, S>;

    #[inline]
    fn views(event: EventRef<'_>) -> Result<Option<Views<'_, S>>, DecodeError> {
        <S as EventSet>::views(event)
    }

    fn query() -> Query {
        let mut names: Vec<_> = S::READS.iter().map(crate::typed::Reads::name).collect();
        names.sort_unstable();
        names.dedup();
        if names.len() > QUERY_ITEMS_MAX * QUERY_TERMS_MAX {
            return Query::all();
        }
        let items = names.chunks(QUERY_TERMS_MAX).map(|names| Query::any().types(names));
        items.reduce(Query::or).unwrap_or_else(Query::all)
    }
}

/// Events of any type, as they are stored, for a [`Projection`](super::Projection) that needs no types.
#[derive(Debug, Clone, Copy)]
pub struct AnyEvent(());

impl EventViews for AnyEvent {
    type Ref<'a> = EventRef<'a>;
    type Views<'a> = std::iter::Once<EventRef<'a>>;

    #[inline]
    fn views(event: EventRef<'_>) -> Result<Option<Self::Views<'_>>, DecodeError> {
        Ok(Some(std::iter::once(event)))
    }

    fn query() -> Query {
        Query::all()
    }
}
