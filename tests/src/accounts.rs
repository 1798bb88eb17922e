//! Accounts: events, states and folds for the tests of snapshots, with older versions of both.

use std::collections::BTreeMap;

use stratalog::rkyv::with::AsVec;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{Event, EventSet, Fold, NewEvent, State};

/// As it was: whole coins.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "booked", version = 1)]
pub struct BookedV1 {
    /// What for.
    pub purpose: String,
    /// How many coins.
    pub coins: i32,
}

/// Money came or went.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "booked", version = 2, from = BookedV1)]
pub struct Booked {
    /// What for.
    pub purpose: String,
    /// How much.
    pub cents: i64,
}

impl From<BookedV1> for Booked {
    fn from(old: BookedV1) -> Self {
        Self { purpose: old.purpose, cents: i64::from(old.coins) * 100 }
    }
}

/// Something was noted, which makes the state longer.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "noted", version = 1)]
pub struct Noted {
    /// What.
    pub note: String,
}

/// The events of an account.
#[derive(EventSet)]
pub enum AccountEvent {
    /// See there.
    Booked(Booked),
    /// See there.
    Noted(Noted),
}

/// An account, as it was.
#[derive(State, Archive, Serialize, Deserialize, Debug, Default, Clone, PartialEq)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "account", version = 1)]
pub struct AccountV1 {
    /// Cents for each purpose.
    #[rkyv(with = AsVec)]
    pub purposes: BTreeMap<String, i64>,
    /// The last note.
    pub note: String,
}

/// An account.
#[derive(State, Archive, Serialize, Deserialize, Debug, Default, Clone, PartialEq)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "account", version = 2, from = AccountV1)]
pub struct Account {
    /// Cents for each purpose.
    #[rkyv(with = AsVec)]
    pub purposes: BTreeMap<String, i64>,
    /// The last note.
    pub note: String,
    /// All of them together.
    pub total: i64,
}

impl From<AccountV1> for Account {
    fn from(old: AccountV1) -> Self {
        let total = old.purposes.values().sum();
        Self { purposes: old.purposes, note: old.note, total }
    }
}

/// The same, under a name of which there is never a snapshot: what it is by all of its events.
#[derive(State, Archive, Serialize, Deserialize, Debug, Default, Clone, PartialEq)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "replayed", version = 1)]
pub struct Replayed {
    /// The account.
    #[rkyv(with = AsVec)]
    pub purposes: BTreeMap<String, i64>,
    /// The last note.
    pub note: String,
    /// All of them together.
    pub total: i64,
}

impl PartialEq<Replayed> for Account {
    fn eq(&self, other: &Replayed) -> bool {
        (&self.purposes, &self.note, self.total) == (&other.purposes, &other.note, other.total)
    }
}

/// Folds into [`Account`].
pub struct Accounts;

/// Folds into [`AccountV1`], as a program did before.
pub struct AccountsV1;

/// Folds into [`Replayed`].
pub struct Replays;

/// Folds into [`Account`], as a program did whose code was wrong.
pub struct WrongAccounts;

macro_rules! fold {
    ($fold:ty, $state:ty, |$account:ident, $cents:ident| $add:expr) => {
        impl Fold for $fold {
            type State = $state;
            type Events = AccountEvent;

            fn initial() -> $state {
                <$state>::default()
            }

            fn evolve($account: &mut $state, event: AccountEventRef<'_>) {
                match event {
                    AccountEventRef::Booked(booked) => {
                        let $cents = booked.cents.to_native();
                        let purpose = booked.purpose.as_str().to_owned();
                        *$account.purposes.entry(purpose).or_default() += $cents;
                        $add
                    }
                    AccountEventRef::Noted(noted) => $account.note = noted.note.as_str().to_owned(),
                }
            }
        }
    };
}

fold!(Accounts, Account, |account, cents| account.total += cents);
fold!(WrongAccounts, Account, |account, cents| account.total -= cents);
fold!(AccountsV1, AccountV1, |account, cents| {
    let _ = cents;
});
fold!(Replays, Replayed, |account, cents| account.total += cents);

/// An event of an account, of an old version now and then.
pub fn random_event(random: &mut fastrand::Rng, note_bytes_max: usize) -> NewEvent {
    let purpose = format!("purpose-{}", random.u8(..6));
    match random.u8(..4) {
        0 => NewEvent::of(&BookedV1 { purpose, coins: random.i32(-50..50) }),
        1 | 2 => NewEvent::of(&Booked { purpose, cents: random.i64(-5_000..5_000) }),
        _ => {
            let note = "n".repeat(random.usize(..=note_bytes_max));
            NewEvent::of(&Noted { note })
        }
    }
}
