//! Sets of events: what a stream, a decision or a projection knows of.

use std::fmt;

use super::derived::KeptPart;
use super::event::Event;
use super::payload::Unreadable;
use super::versioned::Lineage;
use crate::append::ToEvent;
use crate::error::DecodeError;
use crate::read::EventRef;

/// An enum of events. Derive it: each variant holds one type that is an [`Event`].
///
/// The derive also makes an enum of references to the newest versions, named as the set with `Ref` behind it, and `From`
/// each of the events.
///
/// ```
/// use stratalog::rkyv::{Archive, Deserialize, Serialize};
/// use stratalog::{Event, EventSet, Expect, Store, disk::MemoryDisk};
///
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "opened", version = 1)]
/// struct Opened { title: String }
///
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "closed", version = 1)]
/// struct Closed { after_days: u16 }
///
/// #[derive(EventSet)]
/// enum Ticket { Opened(Opened), Closed(Closed) }
///
/// let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// let events = [Ticket::from(Opened { title: "printer".into() }), Closed { after_days: 3 }.into()];
/// store.append("ticket-1", Expect::NoStream, &events).wait()?;
///
/// let mut days = 0;
/// let mut reader = store.read_stream("ticket-1").forward();
/// while let Some(batch) = reader.next_batch()? {
///     for event in batch.typed::<Ticket>() {
///         match event?.1 {
///             TicketRef::Opened(opened) => assert_eq!(opened.title, "printer"),
///             TicketRef::Closed(closed) => days += closed.after_days.to_native(),
///         }
///     }
/// }
/// assert_eq!(days, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # One event that becomes several, or none
///
/// `#[event_set(split(Old, with = function))]` says that stored events of the type `Old`, up to its version, are read as
/// what `function` makes of each: `fn(Old) -> impl IntoIterator<Item = Set>`. `Old` is no variant. Those have the position
/// and the version of the original, and are read by [`EventSet::views`], or by [`Batch::typed`](crate::Batch::typed). A
/// newer version of the same name may be a variant, whose type then begins a chain of its own: `#[event(first)]`.
///
/// ```
/// # use stratalog::rkyv::{Archive, Deserialize, Serialize};
/// # use stratalog::{Event, EventSet};
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "moved", version = 1)]
/// struct Moved { from: u32, to: u32 }
/// # #[derive(Event, Archive, Serialize, Deserialize)]
/// # #[rkyv(crate = stratalog::rkyv)]
/// # #[event(name = "taken", version = 1)]
/// # struct Taken { from: u32 }
/// # #[derive(Event, Archive, Serialize, Deserialize)]
/// # #[rkyv(crate = stratalog::rkyv)]
/// # #[event(name = "put", version = 1)]
/// # struct Put { to: u32 }
///
/// #[derive(EventSet)]
/// #[event_set(split(Moved, with = taken_and_put))]
/// enum Stock { Taken(Taken), Put(Put) }
///
/// fn taken_and_put(moved: Moved) -> [Stock; 2] {
///     [Taken { from: moved.from }.into(), Put { to: moved.to }.into()]
/// }
/// ```
///
/// # What `#[event_set(…)]` can say besides
///
/// - `view = "Name"`: another name for the enum of references.
/// - `json`: the set can be exported as JSON (`stratalog::export`, with the cargo feature of that name); its events implement
///   `serde::Serialize`.
pub trait EventSet: ToEvent + Sized + Send + Sync + 'static {
    /// A reference to the newest version of one of its events.
    type Ref<'a>: Copy;

    /// What it reads of each name.
    const READS: &'static [Reads];

    /// The event, seen as the newest version of its type, if that is one of the set's. One that is current is read in
    /// its place, and checked each time; an older one becomes the newest the first time, in memory that its batch owns.
    ///
    /// # Errors
    /// [`DecodeError`], also where the event is one that becomes several or none: see [`EventSet::views`].
    fn view(event: EventRef<'_>) -> Result<Option<Self::Ref<'_>>, DecodeError>;

    /// As [`EventSet::view`], and believes payloads of the current version.
    ///
    /// # Safety
    /// As [`EventRef::get_unchecked`].
    ///
    /// # Errors
    /// As [`EventSet::view`].
    unsafe fn view_unchecked(event: EventRef<'_>) -> Result<Option<Self::Ref<'_>>, DecodeError>;

    /// The event as it is read by this set: most often one, several or none where the set says so. `None` where the event
    /// is of no type that the set knows.
    ///
    /// # Errors
    /// [`DecodeError`].
    #[inline]
    fn views(event: EventRef<'_>) -> Result<Option<Views<'_, Self>>, DecodeError> {
        match Self::split(event)? {
            Some(parts) => Ok(Some(Views(Inner::Parts(parts.iter())))),
            None => Ok(Self::view(event)?.map(|view| Views(Inner::One(Some(view))))),
        }
    }

    /// The event as a value, if it is one of the set's.
    ///
    /// # Errors
    /// As [`EventSet::view`].
    fn decode(event: EventRef<'_>) -> Result<Option<Self>, DecodeError>;

    /// As [`EventSet::views`], as values.
    ///
    /// # Errors
    /// [`DecodeError`].
    fn values(event: EventRef<'_>) -> Result<Option<Vec<Self>>, DecodeError>;

    /// What a stored event becomes, where it is split.
    #[doc(hidden)]
    fn split(event: EventRef<'_>) -> Result<Option<&[KeptPart]>, DecodeError>;

    #[doc(hidden)]
    fn keep(self) -> Result<KeptPart, Unreadable>;

    #[doc(hidden)]
    fn kept(part: &KeptPart) -> Self::Ref<'_>;
}

/// What a set reads under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    pub(crate) name: &'static str,
    pub(crate) lineage: &'static Lineage,
    /// Whether what is read becomes several events or none.
    pub(crate) is_split: bool,
}

impl Reads {
    #[doc(hidden)]
    pub const fn member<E: Event>() -> Self {
        Self { name: E::NAME, lineage: &E::LINEAGE, is_split: false }
    }

    #[doc(hidden)]
    pub const fn split<E: Event>() -> Self {
        Self { name: E::NAME, lineage: &E::LINEAGE, is_split: true }
    }

    /// The events' name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The versions that are read, the newest first.
    pub fn lineage(&self) -> &'static Lineage {
        self.lineage
    }

    /// Whether these events become several others, or none.
    pub fn is_split(&self) -> bool {
        self.is_split
    }
}

/// What one stored event is read as: see [`EventSet::views`].
pub struct Views<'a, S: EventSet>(Inner<'a, S>);

enum Inner<'a, S: EventSet> {
    One(Option<S::Ref<'a>>),
    Parts(std::slice::Iter<'a, KeptPart>),
}

impl<S: EventSet> fmt::Debug for Views<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Views").field("left", &self.len()).finish_non_exhaustive()
    }
}

impl<'a, S: EventSet> Iterator for Views<'a, S> {
    type Item = S::Ref<'a>;

    #[inline]
    fn next(&mut self) -> Option<S::Ref<'a>> {
        match &mut self.0 {
            Inner::One(view) => view.take(),
            Inner::Parts(parts) => parts.next().map(S::kept),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Inner::One(view) => (usize::from(view.is_some()), Some(usize::from(view.is_some()))),
            Inner::Parts(parts) => parts.size_hint(),
        }
    }
}

impl<S: EventSet> ExactSizeIterator for Views<'_, S> {}
