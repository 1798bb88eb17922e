//! A running projection: what its lanes and its users share.
//!
//! Owns the cuts, by which all lanes do something at one position, and which lane has which key.

use std::fmt;
use std::sync::Arc;

use event_listener::Event;
use xxhash_rust::xxh3::xxh3_64;

use super::alarm::Alarm;
use super::control::{Control, Wanted};
use super::definition::Projection;
use super::held::{Cut, Lane, Purpose};
use super::project::Settings;
use super::registry::Reserved;
use crate::error::{ProjectionError, SnapshotError};
use crate::event::Position;
use crate::read::Reads;
use crate::snapshot::Room;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// See the module.
pub(super) struct Shared<P: Projection> {
    pub projection: P,
    pub settings: Settings,
    pub reads: Arc<Reads>,
    pub room: Arc<Room>,
    pub lanes: Box<[Lane<P::State>]>,
    pub control: Control,
    /// Told whenever a lane has moved, or does not move any more.
    pub moved: Event,
    pub alarm: Alarm,
    /// How many events were applied since states were last to be saved.
    unsaved: AtomicU64,
    /// How many wait for a position.
    waiting: AtomicU32,
    /// Not 0 until what was saved with other numbers of lanes is dropped.
    drops_others: AtomicU32,
    /// Its name, until it has stopped.
    reserved: Mutex<Option<Reserved>>,
}

/// The lane, of so many, that has the events of a key. What is saved depends on it: it stays as it is.
pub(super) fn lane_of(key: &[u8], lanes: usize) -> usize {
    if lanes == 1 {
        return 0;
    }
    // Fits: it is below the number of lanes.
    usize::try_from(xxh3_64(key) % lanes as u64).unwrap_or(0)
}

impl<P: Projection> Shared<P> {
    pub(super) fn new(
        projection: P,
        settings: Settings,
        reads: Arc<Reads>,
        room: Arc<Room>,
        lanes: Vec<Lane<P::State>>,
        drops_others: bool,
        reserved: Reserved,
    ) -> Self {
        Self {
            projection,
            settings,
            reads,
            room,
            lanes: lanes.into(),
            control: Control::new(),
            moved: Event::new(),
            alarm: Alarm::new(),
            unsaved: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
            drops_others: AtomicU32::new(drops_others.into()),
            reserved: Mutex::new(Some(reserved)),
        }
    }

    /// Has each lane do something when its state reflects a position and nothing behind it: the first at which all of them
    /// can. Gives that.
    pub(super) fn cut(&self, purpose: &Purpose<P::State>) -> u64 {
        // All at once: none goes past what was found.
        let mut held: Vec<_> = self.lanes.iter().map(Lane::lock).collect();
        let position = held.iter().map(|held| held.claimed()).max().unwrap_or(0);
        for (lane, held) in self.lanes.iter().zip(&mut held) {
            lane.note(held, Cut { position, purpose: purpose.clone() });
        }
        drop(held);
        if !matches!(purpose, Purpose::Show(_)) {
            self.wake();
        }
        position
    }

    /// Every event up to here is in the states.
    pub(super) fn reached(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.cursor.position()).min().unwrap_or(0)
    }

    /// Why no lane moves any more.
    pub(super) fn ended(&self) -> Option<ProjectionError> {
        match self.control.wanted() {
            Wanted::Run | Wanted::Pause => None,
            Wanted::Failed => self.control.last_failure().map(ProjectionError::Failed),
            Wanted::Stop => Some(ProjectionError::Stopped {
                name: P::NAME.into(),
                position: Position(self.reached()),
            }),
        }
    }

    /// Somebody waits for a position, for as long as this is held.
    pub(super) fn awaited(self: &Arc<Self>) -> Awaited<P> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.control.nudge();
        Awaited(Arc::clone(self))
    }

    /// Whether anybody does.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Has all lanes look what is to be done, also those that sleep or rest.
    pub(super) fn wake(&self) {
        self.control.nudge();
        self.reads.watermark.wake();
    }

    /// Counts events that were applied; says whether the states are to be saved now.
    pub(super) fn applied(&self, events: u64) -> bool {
        let unsaved = self.unsaved.fetch_add(events, Ordering::Relaxed) + events;
        unsaved >= self.settings.save_every && self.saves_now()
    }

    /// Says whether there is anything to save, for one lane to ask all for it.
    pub(super) fn saves_now(&self) -> bool {
        self.unsaved.swap(0, Ordering::Relaxed) > 0
    }

    /// Why a state could not be saved last, of one lane.
    pub(super) fn save_error(&self) -> Option<SnapshotError> {
        self.lanes.iter().find_map(|lane| lane.lock().save_error.clone())
    }

    /// The states were saved: whether what was saved with other numbers of lanes is to be dropped now.
    pub(super) fn drops_others(&self) -> bool {
        self.drops_others.swap(0, Ordering::Relaxed) != 0
    }

    /// Does something with its name: it is free once that is gone.
    pub(super) fn with_reserved<T>(&self, act: impl FnOnce(&mut Option<Reserved>) -> T) -> T {
        act(&mut lock(&self.reserved))
    }
}

/// See [`Shared::awaited`].
#[derive(Debug)]
pub(super) struct Awaited<P: Projection>(Arc<Shared<P>>);

impl<P: Projection> Drop for Awaited<P> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<P: Projection> fmt::Debug for Shared<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &P::NAME).finish_non_exhaustive()
    }
}
