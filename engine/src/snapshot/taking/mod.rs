//! Taking snapshots in the background.
//!
//! Owns the threads that do it, and what each of them does with a snapshot that is due: it folds the state, where that is not
//! there already, compares it now and then with what all events come to, and has it written. Nobody who appends or loads
//! waits for it. Calls `load` and `segments`; `folded` offers what is due.

mod queue;
mod slot;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use self::queue::{Job, Next, Offered, Queue};
pub use self::slot::Taking;
use self::slot::{Outcome, Slot};
use super::fold::Fold;
use super::key::Key;
use super::load::{self, LoadError, Loaded};
use super::room::Room;
use super::segments::NotWritten;
use crate::error::SnapshotError;
use crate::format::constants::RECORD_JSON;
use crate::format::snapshot::Stamp;
use crate::typed::{Form, State, Versioned};

/// After so long without anything to do, what was taken is written.
const IDLE: Duration = Duration::from_secs(1);

/// A state that is archived, as it is to be written.
#[derive(Debug)]
pub(super) struct Ready {
    /// What was dropped of the key before it began to be loaded.
    dropped_upto: u64,
    stamp: Stamp,
    /// Kind, version and fingerprint.
    structure: (u8, u32, u128),
    payload: Vec<u8>,
}

type FormOf<S> = <S as Versioned>::Form;

/// What a state that was loaded is.
#[derive(Debug)]
enum Taken {
    New(Ready),
    /// The newest snapshot, of this version of the stream; none where the stream has no events.
    Known(Option<u64>),
}

/// How the states of a fold are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folding {
    /// Loads it.
    take: fn(&Room, &Key) -> Result<Taken, SnapshotError>,
    /// Folds that number of events, from the first one on.
    refold: fn(&Room, &Key, u64) -> Result<Option<Ready>, SnapshotError>,
}

impl Folding {
    pub(super) fn of<F: Fold>() -> Self {
        Self {
            take: |room, key| {
                let dropped_upto = room.segments.dropped_upto(key);
                let loaded = load::load::<F>(room, key, Some(room));
                let loaded = loaded.map_err(|error| failed(key, error))?.0;
                if loaded.version() == loaded.snapshot_version() {
                    return Ok(Taken::Known(loaded.version()));
                }
                let ready = Ready::of(&loaded, key, dropped_upto)?;
                Ok(ready.map_or(Taken::Known(None), Taken::New))
            },
            refold: |room, key, events| {
                // It depends on no snapshot.
                let dropped_upto = room.segments.dropped_upto(key);
                let folded = load::replay::<F>(&room.reads, key.stream(), events, Some(room));
                Ready::of(&folded.map_err(|error| failed(key, error))?, key, dropped_upto)
            },
        }
    }

    #[cfg(test)]
    const NONE: Self = Self { take: |_, _| Ok(Taken::Known(None)), refold: |_, _, _| Ok(None) };
}

impl Ready {
    /// A loaded state, archived; none where the stream has no events.
    ///
    /// # Errors
    /// [`SnapshotError::Archive`].
    pub(super) fn of<F: Fold>(
        loaded: &Loaded<F>,
        key: &Key,
        dropped_upto: u64,
    ) -> Result<Option<Self>, SnapshotError> {
        let Some(stamp) = loaded.last else { return Ok(None) };
        let mut payload = Vec::new();
        let written = FormOf::<F::State>::write(loaded.state(), &mut payload);
        written.map_err(|error| SnapshotError::Archive {
            stream: key.stream().into(),
            state: key.state().into(),
            why: error.to_string().into(),
        })?;
        let kind = FormOf::<F::State>::KIND.record_kind();
        let structure = (kind, F::State::VERSION, F::State::FINGERPRINT.get());
        Ok(Some(Self { dropped_upto, stamp, structure, payload }))
    }

    /// Whether it is the same state. JSON is compared by what it says, since maps may be in any order.
    fn is_same(&self, other: &Self) -> bool {
        if self.structure.0 == RECORD_JSON {
            let value = |ready: &Self| serde_json::from_slice::<serde_json::Value>(&ready.payload);
            return matches!((value(self), value(other)), (Ok(one), Ok(two)) if one == two);
        }
        self.payload == other.payload
    }

    #[cfg(test)]
    fn of_bytes(payload: Vec<u8>) -> Self {
        let stamp = Stamp { position: 1, version: 0, event_id: [0; 16], frame_crc: 0 };
        Self { dropped_upto: 0, stamp, structure: (3, 1, 0), payload }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Takers {
    queue: Queue,
}

impl Takers {
    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        self.queue.len() as u64
    }

    pub(super) fn stop(&self) {
        self.queue.stop();
    }
}

impl Room {
    /// Whether a snapshot of a key would be taken; what is skipped is counted.
    pub(super) fn has_room_for(&self, key: &Key) -> bool {
        if !self.writes {
            return false;
        }
        let offered = if self.segments.takes() {
            self.takers.queue.could_take(key.hash())
        } else {
            Offered::Full
        };
        match offered {
            Offered::Full => self.segments.figures.skipped.add(1),
            Offered::UnderWay => self.segments.figures.under_way.add(1),
            Offered::Queued | Offered::Closed => {}
        }
        offered == Offered::Queued
    }

    /// Has a snapshot taken that is due. Where there is no room it is skipped.
    pub(super) fn offer(
        self: &Arc<Self>,
        key: Key,
        folding: Folding,
        due_at: u64,
        ready: Option<Ready>,
    ) {
        let bytes_max = self.segments.payload_bytes_max();
        if let Some(bytes) = ready.as_ref().map(|ready| ready.payload.len() as u64)
            && bytes > bytes_max
        {
            let too_large = NotWritten::TooLarge { bytes, bytes_max };
            return self.count_failed(&not_written(&key, too_large));
        }
        let job = Box::new(Job { key, folding, due_at: Some(due_at), ready, slots: Vec::new() });
        match self.takers.queue.offer(job, self.segments.options.queue_bytes()) {
            Offered::Queued => self.start(),
            Offered::Full => self.segments.figures.skipped.add(1),
            Offered::UnderWay => self.segments.figures.under_way.add(1),
            Offered::Closed => {}
        }
    }

    /// Has a snapshot taken that somebody asks for.
    pub(super) fn demand(self: &Arc<Self>, key: Key, folding: Folding) -> Taking {
        if !self.writes {
            return Taking::ended(Err(SnapshotError::ReadOnly));
        }
        let slot: Arc<Slot> = Arc::default();
        let stream = key.stream().into();
        let slots = vec![Arc::clone(&slot)];
        let job = Box::new(Job { key, folding, due_at: None, ready: None, slots });
        match self.takers.queue.offer(job, self.segments.options.queue_bytes()) {
            Offered::Queued | Offered::UnderWay => {
                self.start();
                Taking::new(slot)
            }
            Offered::Full => {
                self.segments.figures.skipped.add(1);
                Taking::ended(Err(SnapshotError::NotNow { stream }))
            }
            Offered::Closed => Taking::ended(Err(SnapshotError::ReadOnly)),
        }
    }

    /// A thread of the pool: takes one after the other, until it is stopped.
    pub(super) fn take_all(&self) {
        loop {
            match self.takers.queue.next(IDLE) {
                Next::Stop => return,
                // It was counted.
                Next::Idle => drop(self.segments.flush()),
                Next::Job(job) => {
                    let bytes = job.bytes();
                    let Job { key, folding, due_at, ready, slots } = *job;
                    // The fold is the user's code.
                    let taken = catch_unwind(AssertUnwindSafe(|| self.take(&key, folding, ready)));
                    let outcome = taken.unwrap_or_else(|panic| Err(panicked(&key, &*panic)));
                    if let Err(error) = &outcome {
                        self.count_failed(error);
                    } else if let Some(due_at) = due_at {
                        self.count_lag(&key, due_at);
                    }
                    self.takers.queue.done(key.hash(), bytes);
                    tell(slots, &outcome);
                }
            }
        }
    }

    /// Tells those who wait for what will not be taken any more.
    pub(super) fn give_up_waiting(&self, why: &SnapshotError) {
        for job in self.takers.queue.left() {
            self.segments.figures.skipped.add(job.slots.is_empty().into());
            tell(job.slots, &Err(why.clone()));
        }
    }

    /// Notes how many events have come to a stream since its snapshot was due.
    fn count_lag(&self, key: &Key, due_at: u64) {
        let head = self.reads.catalogs.head(key.stream(), self.reads.watermark.get());
        if let Ok(Some(head)) = head {
            self.segments.figures.lag_events.set(head.saturating_sub(due_at));
        }
    }

    /// Counts what was not taken.
    pub(super) fn count_failed(&self, error: &SnapshotError) {
        let figures = &self.segments.figures;
        match error {
            SnapshotError::NotNow { .. } => figures.skipped.add(1),
            // It was counted, and another one was taken.
            SnapshotError::Mismatch { .. } => figures.note(error.clone()),
            // The store was closed.
            SnapshotError::ReadOnly => {}
            _ => {
                figures.failed.add(1);
                figures.note(error.clone());
                tracing::warn!(%error, "a snapshot could not be taken");
            }
        }
    }

    fn take(
        &self,
        key: &Key,
        folding: Folding,
        mut ready: Option<Ready>,
    ) -> Result<Option<u64>, SnapshotError> {
        /// How often it is loaded again where snapshots of the stream are dropped meanwhile.
        const OVERTAKEN_MAX: u32 = 3;
        let mut overtaken = 0;
        loop {
            let state = match ready.take() {
                Some(ready) => ready,
                None => match (folding.take)(self, key)? {
                    Taken::New(ready) => ready,
                    Taken::Known(version) => return Ok(version),
                },
            };
            if self.is_sampled()
                && let Some(right) = self.check(key, folding, &state)?
            {
                return Err(self.mismatch(key, &state, &right));
            }
            match self.write(key, &state) {
                Err(NotWritten::Overtaken) if overtaken < OVERTAKEN_MAX => overtaken += 1,
                written => {
                    let version = state.stamp.version;
                    return written.map(|()| Some(version)).map_err(|why| not_written(key, why));
                }
            }
        }
    }

    /// Drops the snapshots of a key of which one is wrong, and has what is right be written.
    fn mismatch(&self, key: &Key, wrong: &Ready, right: &Ready) -> SnapshotError {
        let undurable = self.segments.drop_key(key.hash()).err();
        if let Some(error) = &undurable {
            self.segments.figures.failed(error);
        }
        // It was folded without a snapshot, and so is not overtaken by what was dropped just now.
        let right = Ready {
            dropped_upto: self.segments.dropped_upto(key),
            payload: right.payload.clone(),
            ..*right
        };
        if let Err(why) = self.write(key, &right) {
            self.count_failed(&not_written(key, why));
        }
        SnapshotError::Mismatch {
            stream: key.stream().into(),
            state: key.state().into(),
            version: wrong.stamp.version,
            undurable,
        }
    }

    fn is_sampled(&self) -> bool {
        match self.segments.options.checks {
            0 => false,
            one_in => fastrand::u32(..one_in) == 0,
        }
    }

    /// Compares a state with what the events come to, from the first one on; gives that, where it is another.
    fn check(
        &self,
        key: &Key,
        folding: Folding,
        ready: &Ready,
    ) -> Result<Option<Ready>, SnapshotError> {
        let figures = &self.segments.figures;
        let right = (folding.refold)(self, key, ready.stamp.version.saturating_add(1));
        figures.checked.add(1);
        let right = right?.filter(|right| !right.is_same(ready));
        if right.is_some() {
            figures.mismatched.add(1);
            let (stream, state, version) = (key.stream(), key.state(), ready.stamp.version);
            tracing::error!(
                stream,
                state,
                version,
                "a snapshot is not what the stream's events come to; it is dropped"
            );
        }
        Ok(right)
    }

    fn write(&self, key: &Key, ready: &Ready) -> Result<(), NotWritten> {
        let Ready { dropped_upto, stamp, structure, payload } = ready;
        if self.segments.put(key, *dropped_upto, *structure, stamp, payload)? {
            self.compactor.ring();
        }
        self.segments.figures.taken.add(1);
        Ok(())
    }
}

/// Tells those who wait. Whom that wakes is the user's code.
fn tell(slots: Vec<Arc<Slot>>, outcome: &Outcome) {
    for slot in slots {
        if catch_unwind(AssertUnwindSafe(|| slot.finish(outcome.clone()))).is_err() {
            tracing::error!("a waker panicked that waited for a snapshot");
        }
    }
}

fn failed(key: &Key, error: LoadError) -> SnapshotError {
    if matches!(error, LoadError::Closed) {
        return SnapshotError::ReadOnly;
    }
    SnapshotError::Load { stream: key.stream().into(), cause: Arc::new(error) }
}

pub(super) fn not_written(key: &Key, why: NotWritten) -> SnapshotError {
    match why {
        NotWritten::File(error) => error.into(),
        NotWritten::NotNow | NotWritten::Overtaken => {
            SnapshotError::NotNow { stream: key.stream().into() }
        }
        NotWritten::TooLarge { bytes, bytes_max } => SnapshotError::TooLarge {
            stream: key.stream().into(),
            state: key.state().into(),
            bytes,
            bytes_max,
        },
    }
}

fn panicked(key: &Key, panic: &(dyn std::any::Any + Send)) -> SnapshotError {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(nothing that can be shown)");
    SnapshotError::Panicked {
        stream: key.stream().into(),
        state: key.state().into(),
        message: message.into(),
    }
}
