//! What a projection is: the part that a user writes.

use std::error::Error;

use super::events::EventViews;
use crate::query::Query;
use crate::read::EventRef;
use crate::snapshot::Unknown;
use crate::typed::State;

/// What applying an event comes to. Whatever error it is, it is shown where the projection's failure is.
pub type Applied = Result<(), Box<dyn Error + Send + Sync>>;

/// A read model: a state, and how each event changes it. Run it with [`Store::project`](crate::Store::project).
///
/// ```
/// use std::collections::BTreeMap;
///
/// use stratalog::rkyv::with::AsVec;
/// use stratalog::rkyv::{Archive, Deserialize, Serialize};
/// use stratalog::{
///     Applied, Event, EventRef, EventSet, Expect, Projection, State, Store, disk::MemoryDisk,
/// };
///
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "opened", version = 1)]
/// struct Opened { team: String }
///
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "closed", version = 1)]
/// struct Closed { team: String }
///
/// #[derive(EventSet)]
/// enum TicketEvent { Opened(Opened), Closed(Closed) }
///
/// #[derive(State, Archive, Serialize, Deserialize, Default, Clone)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[state(name = "open-tickets", version = 1)]
/// struct OpenTickets {
///     #[rkyv(with = AsVec)]
///     of_team: BTreeMap<String, i64>,
/// }
///
/// struct OpenByTeam;
///
/// impl Projection for OpenByTeam {
///     type State = OpenTickets;
///     type Events = TicketEvent;
///
///     fn initial(&self) -> OpenTickets {
///         OpenTickets::default()
///     }
///
///     fn apply(
///         &self,
///         state: &mut OpenTickets,
///         _: EventRef<'_>,
///         event: TicketEventRef<'_>,
///     ) -> Applied {
///         let (team, change) = match event {
///             TicketEventRef::Opened(opened) => (opened.team.as_str(), 1),
///             TicketEventRef::Closed(closed) => (closed.team.as_str(), -1),
///         };
///         *state.of_team.entry(team.into()).or_default() += change;
///         Ok(())
///     }
/// }
///
/// let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// let open = store.project(OpenByTeam).start()?;
/// let opened = Opened { team: "printers".into() };
/// let receipt = store.append("ticket-42", Expect::NoStream, [opened]).wait()?;
/// // Read your own writes.
/// open.wait_for(receipt.position()).wait()?;
/// assert_eq!(open.view().wait()?.state().of_team["printers"], 1);
/// open.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Projection: Send + Sync + 'static {
    /// What the events come to; with several [lanes](crate::Project::lanes), those of one lane. It is cloned where somebody
    /// looks at it for longer than the next event takes to come.
    type State: State + Clone;
    /// The events that change it: a set of types, or [`AnyEvent`](super::AnyEvent).
    type Events: EventViews;

    /// Under which its states are saved. One of a name runs at a time. Default: the name of the state's type. Give it
    /// another name, or the state another version, when what it does with events changes: what was saved is not used then.
    const NAME: &'static str = <Self::State as State>::NAME;

    /// What happens at an event that [`Projection::query`] asks for and [`Projection::Events`] does not know. Default: an
    /// error, since a state that lacks an event may be wrong. By the default query there are none.
    const UNKNOWN: Unknown = Unknown::Refuse;

    /// The state before the first event.
    fn initial(&self) -> Self::State;

    /// Which events it gets. Default: those that [`Projection::Events`] knows.
    fn query(&self) -> Query {
        Self::Events::query()
    }

    /// The key of an event: those of a key are applied in their order, by one lane. Default: the name of its stream. It must
    /// depend on nothing but the event.
    fn key<'a>(&self, event: EventRef<'a>) -> &'a [u8] {
        event.stream().as_bytes()
    }

    /// Changes the state by an event: as it is stored, and as [`Projection::Events`] sees it, the newest version of its type.
    /// Called once for each event, or each part of one that the set splits, on the lane's thread, in the order of the log.
    /// It must depend on nothing else than its arguments: after a crash, or a failure, events are applied again to the state
    /// that was saved last. It must not wait for its own projection, which waits for it.
    ///
    /// # Errors
    /// What is wrong. The event is tried again, from a state in which nothing of it is left, and the projection stops if that
    /// does not help. A panic is the same.
    fn apply(
        &self,
        state: &mut Self::State,
        event: EventRef<'_>,
        view: <Self::Events as EventViews>::Ref<'_>,
    ) -> Applied;
}
