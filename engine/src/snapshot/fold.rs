//! How a stream's events become a state.

use crate::typed::{EventSet, State};

/// A state, and how each event changes it: a pure function over the events of one stream.
///
/// ```
/// use stratalog::rkyv::{Archive, Deserialize, Serialize};
/// use stratalog::{Event, EventSet, Expect, Fold, State, Store, disk::MemoryDisk};
///
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "deposited", version = 1)]
/// struct Deposited { cents: u64 }
///
/// #[derive(Event, Archive, Serialize, Deserialize)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[event(name = "withdrawn", version = 1)]
/// struct Withdrawn { cents: u64 }
///
/// #[derive(EventSet)]
/// enum Booked { Deposited(Deposited), Withdrawn(Withdrawn) }
///
/// #[derive(State, Archive, Serialize, Deserialize, Default)]
/// #[rkyv(crate = stratalog::rkyv)]
/// #[state(name = "account", version = 1)]
/// struct Account { cents: u64 }
///
/// struct Balance;
///
/// impl Fold for Balance {
///     type State = Account;
///     type Events = Booked;
///
///     fn initial() -> Account {
///         Account::default()
///     }
///
///     fn evolve(account: &mut Account, event: BookedRef<'_>) {
///         match event {
///             BookedRef::Deposited(deposited) => account.cents += deposited.cents.to_native(),
///             BookedRef::Withdrawn(withdrawn) => account.cents -= withdrawn.cents.to_native(),
///         }
///     }
/// }
///
/// let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// store.append("account-7", Expect::NoStream, [Deposited { cents: 500 }]).wait()?;
/// let account = store.load::<Balance>("account-7")?;
/// assert_eq!(account.state().cents, 500);
/// // Decided by this state: it fails if somebody else has appended since.
/// store.append("account-7", account.expect(), [Withdrawn { cents: 200 }]).wait()?;
/// assert_eq!(store.load::<Balance>("account-7")?.state().cents, 300);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Fold: 'static {
    /// What the events come to.
    type State: State;
    /// The events that change it.
    type Events: EventSet;

    /// Under which its snapshots are stored. Default: the name of the state's type. Where two folds have one type of state,
    /// one of them needs another name: using both under one, in one opening of a store, is an error.
    const NAME: &'static str = <Self::State as State>::NAME;

    /// What happens at an event of a type that [`Fold::Events`] does not know. Default: an error, since a state that lacks
    /// an event may be wrong.
    const UNKNOWN: Unknown = Unknown::Refuse;

    /// The state before the first event.
    fn initial() -> Self::State;

    /// Changes the state by an event, which is of the newest version of its type. Called in the order of the stream, once
    /// for each event, or each part of one that the set splits. It must depend on nothing else.
    fn evolve(state: &mut Self::State, event: <Self::Events as EventSet>::Ref<'_>);
}

/// What happens at an event of an unknown type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// It ends with an error.
    #[default]
    Refuse,
    /// It is left out.
    Skip,
}
