//! A fold's states: loaded, and snapshots of them taken by a policy.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::fold::Fold;
use super::key::Key;
use super::load::{self, LoadError, Loaded};
use super::policy::{Policy, Since};
use super::room::Room;
use super::taking::{Folding, Ready, Taking};
use super::view::{Snapshot, latest};
use crate::append::Receipt;
use crate::error::SnapshotError;
use crate::event::Timestamp;

type Predicate<F> = dyn Fn(&<F as Fold>::State, &Since) -> bool + Send + Sync;

/// The states of a fold, and when snapshots of them are taken. Cheap to clone.
///
/// ```
/// # use stratalog::rkyv::{Archive, Deserialize, Serialize};
/// # use stratalog::{Event, EventSet, Expect, Fold, Policy, State, Store, disk::MemoryDisk};
/// # #[derive(Event, Archive, Serialize, Deserialize)]
/// # #[rkyv(crate = stratalog::rkyv)]
/// # #[event(name = "deposited", version = 1)]
/// # struct Deposited { cents: u64 }
/// # #[derive(EventSet)]
/// # enum Booked { Deposited(Deposited) }
/// # #[derive(State, Archive, Serialize, Deserialize, Default)]
/// # #[rkyv(crate = stratalog::rkyv)]
/// # #[state(name = "account", version = 1)]
/// # struct Account { cents: u64 }
/// # struct Balance;
/// # impl Fold for Balance {
/// #     type State = Account;
/// #     type Events = Booked;
/// #     fn initial() -> Account { Account::default() }
/// #     fn evolve(account: &mut Account, event: BookedRef<'_>) {
/// #         match event { BookedRef::Deposited(deposited) => account.cents += deposited.cents.to_native() }
/// #     }
/// # }
/// let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// let balances = store.folded::<Balance>().snapshots(Policy::every(100));
/// for _ in 0..250 {
///     let receipt = store.append("account-7", Expect::Any, [Deposited { cents: 1 }]).wait()?;
///     // One that is due is taken in the background: this does not wait for it.
///     balances.appended(&receipt);
/// }
/// balances.take("account-7").wait()?;
/// let account = balances.load("account-7")?;
/// assert_eq!((account.state().cents, account.replayed()), (250, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Folded<F: Fold> {
    room: Arc<Room>,
    policy: Policy,
    when: Option<Arc<Predicate<F>>>,
    /// The type of another fold of the same name.
    other: Option<&'static str>,
}

impl<F: Fold> Clone for Folded<F> {
    fn clone(&self) -> Self {
        Self {
            room: Arc::clone(&self.room),
            policy: self.policy,
            when: self.when.clone(),
            other: self.other,
        }
    }
}

impl<F: Fold> Folded<F> {
    pub(crate) fn new(room: Arc<Room>) -> Self {
        let other = room.register::<F>().err();
        Self { room, policy: Policy::default(), when: None, other }
    }

    /// When snapshots are taken. Default: [`Policy::default`].
    #[must_use]
    pub fn snapshots(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Also when this says so of a state that was loaded. Default: never.
    #[must_use]
    pub fn snapshot_when(
        mut self,
        is_due: impl Fn(&F::State, &Since) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.when = Some(Arc::new(is_due));
        self
    }

    /// Loads the state of a stream: the newest snapshot that is good, and the events that came after it folded into it.
    /// Where a snapshot is due then, it is archived, and written in the background.
    ///
    /// A snapshot is only used where its bytes are good, the log has the event that it reflects, and its state is of a
    /// version and a layout that the state's type knows; otherwise an older one is used, or all events are replayed, and a
    /// new one is taken.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(&self, stream: &str) -> Result<Loaded<F>, LoadError> {
        let begun = Instant::now();
        let key = self.key(stream)?;
        let dropped_upto = self.room.segments.dropped_upto(&key);
        let (loaded, unused) = load::load::<F>(&self.room, &key, None)?;
        let figures = &self.room.segments.figures;
        figures.loads.add(1);
        figures.loads_from_snapshots.add(loaded.snapshot.is_some().into());
        figures.events_replayed.add(loaded.replayed());
        if loaded.replayed() > 0 {
            let since = Since {
                events: loaded.replayed(),
                version: loaded.version().map_or(0, |version| version + 1),
                load_time: begun.elapsed(),
                age: loaded.snapshot.map(|(_, taken_at)| age_of(taken_at)),
            };
            if self.is_due(&key, &loaded, &since, unused) && self.room.has_room_for(&key) {
                match Ready::of(&loaded, &key, dropped_upto) {
                    Ok(ready) => {
                        let due_at = loaded.version().unwrap_or(0);
                        self.room.offer(key, Folding::of::<F>(), due_at, ready);
                    }
                    Err(error) => self.room.count_failed(&error),
                }
            }
        }
        Ok(loaded)
    }

    fn key(&self, stream: &str) -> Result<Key, LoadError> {
        match self.other {
            None => Ok(Key::of::<F>(stream)?),
            Some(other) => {
                Err(LoadError::Fold { name: F::NAME, fold: std::any::type_name::<F>(), other })
            }
        }
    }

    fn is_due(&self, key: &Key, loaded: &Loaded<F>, since: &Since, unused: bool) -> bool {
        // In the place of one that is of no use a new one is wanted at once.
        (unused && self.policy != Policy::never())
            || self.policy.is_due(key.hash(), since)
            || self.when.as_ref().is_some_and(|when| when(loaded.state(), since))
    }

    /// The newest snapshot of a stream that is good, as it is: events that came after it are not in it. Nothing is copied
    /// where it is of the state's own version. `None` where there is none.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn latest_snapshot(&self, stream: &str) -> Result<Option<Snapshot<F>>, LoadError> {
        latest(&self.room, &self.key(stream)?)
    }

    /// Says that events were appended: where one of them is one in so many, as [`Policy::every`] has it, a snapshot is taken
    /// in the background. Waits for nothing, and reads nothing. Says whether one was asked for: it was due, none of the stream
    /// was under way, and there seemed to be room.
    pub fn appended(&self, receipt: &Receipt) -> bool {
        let versions = receipt.versions();
        let Ok(key) = self.key(receipt.stream()) else { return false };
        let is_due = self.policy.is_passed(key.hash(), versions.start, versions.end);
        if !is_due || receipt.is_repeated() || !self.room.has_room_for(&key) {
            return false;
        }
        self.room.offer(key, Folding::of::<F>(), receipt.version(), None);
        true
    }

    /// Takes a snapshot of a stream's state now, in the background.
    pub fn take(&self, stream: &str) -> Taking {
        match self.key(stream) {
            Ok(key) => self.room.demand(key, Folding::of::<F>()),
            Err(error) => {
                let stream = stream.into();
                Taking::ended(Err(SnapshotError::Load { stream, cause: Arc::new(error) }))
            }
        }
    }
}

fn age_of(taken_at: Timestamp) -> std::time::Duration {
    // A clock that was put back makes it new.
    let nanos = Timestamp::now().0.saturating_sub(taken_at.0);
    std::time::Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

impl<F: Fold> fmt::Debug for Folded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folded").field("policy", &self.policy).finish_non_exhaustive()
    }
}
