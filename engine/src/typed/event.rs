//! A type of events.

use std::fmt;

use super::fingerprint::Fingerprint;
use super::form::Form;
use super::payload::{Stored, Unreadable};
use crate::append::ToEvent;
use crate::event::PayloadKind;

/// An event as a Rust type. Derive it.
///
/// What identifies the type on disk are a name and a version, never its path in a program:
///
/// ```
/// use stratalog::rkyv::{Archive, Deserialize, Serialize};
/// use stratalog::{Event, Expect, Store, disk::MemoryDisk};
///
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "ticket-assigned", version = 1, tag = "customer:{customer}")]
/// struct TicketAssigned {
///     customer: u32,
///     to: String,
/// }
///
/// let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// let assigned = TicketAssigned { customer: 7, to: "Ann".into() };
/// store.append("ticket-42", Expect::NoStream, [&assigned]).wait()?;
///
/// let mut reader = store.read_stream("ticket-42").forward();
/// while let Some(batch) = reader.next_batch()? {
///     for event in &batch {
///         if let Some(assigned) = event.get::<TicketAssigned>()? {
///             assert_eq!((&*assigned.to, event.tags().next()), ("Ann", Some("customer:7")));
///         }
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// What `#[event(…)]` can say:
///
/// - `name = "…"`: the event's type, by the rules for names of types. Needed.
/// - `version = N`: the version of its structure, from 1 on. Needed. It changes whenever the structure does.
/// - `from = Previous`: the type of the version before, which has the same name; `From<Previous>` is implemented by hand.
///   Stored events of older versions are then read as this type, step by step.
/// - `first`: older versions are not read; instead of `from` where the version is not 1.
/// - `tag = "order:{order_id}"`: a tag that each event gets, with fields in braces, as in `format!`. Any number of them.
/// - `json`: the payload is JSON, by serde, instead of an archive by rkyv. It is read into values, not in place; it can
///   be of any structure. JSON that was stored without a version is read as of version 1.
///
/// A type whose payloads are archived also gets a [`Layout`](super::Layout), so all its fields need one.
///
/// # How the versions follow each other
///
/// ```
/// # use stratalog::rkyv::{Archive, Deserialize, Serialize};
/// # use stratalog::Event;
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "ticket-closed", version = 1)]
/// struct TicketClosedV1 {
///     minutes: u32,
/// }
///
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "ticket-closed", version = 2, from = TicketClosedV1)]
/// struct TicketClosed {
///     seconds: u64,
/// }
///
/// impl From<TicketClosedV1> for TicketClosed {
///     fn from(old: TicketClosedV1) -> Self {
///         Self { seconds: u64::from(old.minutes) * 60 }
///     }
/// }
/// ```
pub trait Event: ToEvent + Sized + Send + Sync + 'static {
    /// The name of the type, as it is stored.
    const NAME: &'static str;
    /// The version of its structure, from 1 on.
    const VERSION: u32;
    /// The fingerprint of its layout; [`Fingerprint::NONE`] where it is JSON.
    const FINGERPRINT: Fingerprint;
    /// This version and the older ones that it can be made of.
    const LINEAGE: Lineage;

    /// What is read in place: the archived form, or for JSON the type itself.
    type Archived: Send + Sync + 'static;

    #[doc(hidden)]
    type Form: Form<Self, View = Self::Archived>;

    /// Gives each of its tags to `add`.
    #[doc(hidden)]
    fn tags(&self, add: &mut dyn FnMut(fmt::Arguments<'_>));

    /// Reads an older version and makes it this one.
    #[doc(hidden)]
    fn upcast(stored: Stored<'_>) -> Result<Self, Unreadable>;
}

/// A version of an event's structure, and those before it that it can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lineage {
    /// Its number.
    pub version: u32,
    /// What its payloads are.
    pub kind: PayloadKind,
    /// The fingerprint of its layout; [`Fingerprint::NONE`] for JSON.
    pub fingerprint: Fingerprint,
    /// The version before it.
    pub older: Option<&'static Self>,
}

impl Lineage {
    /// Its versions, the newest first.
    pub fn versions(&'static self) -> impl Iterator<Item = &'static Self> {
        std::iter::successors(Some(self), |lineage| lineage.older)
    }

    /// The oldest version that can be read.
    pub fn oldest(&self) -> u32 {
        self.older.map_or(self.version, Self::oldest)
    }
}

/// Whether a payload is of this very version of the type, so that it can be read in its place. Older ones are not.
///
/// # Errors
/// [`Unreadable`]: neither that nor an older version.
#[inline]
pub(crate) fn is_current<E: Event>(stored: &Stored<'_>) -> Result<bool, Unreadable> {
    let kind = <E::Form as Form<E>>::KIND;
    if stored.version() == E::VERSION && stored.kind == kind && stored.fingerprint == E::FINGERPRINT
    {
        return Ok(true);
    }
    why_not_current::<E>(stored)
}

/// What is wrong with a payload that is not of the current version; nothing, where it is of an older one.
#[cold]
fn why_not_current<E: Event>(stored: &Stored<'_>) -> Result<bool, Unreadable> {
    let version = stored.version();
    if version > E::VERSION {
        return Err(Unreadable::Newer { known: E::VERSION });
    }
    if version == 0 {
        return Err(Unreadable::Kind { expected: <E::Form as Form<E>>::KIND });
    }
    if version < E::VERSION {
        return Ok(false);
    }
    if stored.kind != <E::Form as Form<E>>::KIND {
        return Err(Unreadable::Kind { expected: <E::Form as Form<E>>::KIND });
    }
    Err(Unreadable::Fingerprint { expected: E::FINGERPRINT })
}

/// Reads a payload of this version or an older one.
///
/// # Errors
/// [`Unreadable`].
pub(crate) fn decode<E: Event>(stored: Stored<'_>) -> Result<E, Unreadable> {
    if is_current::<E>(&stored)? {
        <E::Form as Form<E>>::decode(stored.payload).map_err(Unreadable::Payload)
    } else {
        E::upcast(stored)
    }
}
