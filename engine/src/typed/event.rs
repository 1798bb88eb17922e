//! A type of events.

use std::fmt;

use super::fingerprint::Fingerprint;
use super::versioned::Versioned;
use crate::append::ToEvent;

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
pub trait Event: Versioned<View = <Self as Event>::Archived> + ToEvent {
    /// The name of the type, as it is stored.
    const NAME: &'static str;
    /// The version of its structure, from 1 on.
    const VERSION: u32;
    /// The fingerprint of its layout; [`Fingerprint::NONE`] where it is JSON.
    const FINGERPRINT: Fingerprint;

    /// What is read in place: the archived form, or for JSON the type itself.
    type Archived: Send + Sync + 'static;

    /// Gives each of its tags to `add`.
    #[doc(hidden)]
    fn tags(&self, add: &mut dyn FnMut(fmt::Arguments<'_>));
}
