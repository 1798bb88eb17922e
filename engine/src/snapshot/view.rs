//! A snapshot, read in its place.
//!
//! Owns the view of a state in the memory of the open segment or in a mapped file. Of the crate's few files with `unsafe`.

use std::fmt;

use super::fold::Fold;
use super::key::Key;
use super::load::{LoadError, newest, stored_in};
use super::room::Room;
use super::segments::Held;
use crate::event::{Position, Timestamp};
use crate::format::snapshot::Stamp;
use crate::typed::{Form, State, Unreadable, Versioned, decode, is_current};

type FormOf<S> = <S as Versioned>::Form;

/// The newest good snapshot of a stream's state, without a copy where it is of the state's version.
///
/// It keeps alive what it is in: its own memory while its segment is not sealed, or a mapped file, also where compaction has
/// removed that.
pub struct Snapshot<F: Fold> {
    state: Viewed<F::State>,
    stamp: Stamp,
    taken_at: Timestamp,
}

enum Viewed<S: State> {
    /// It was checked to be a valid value of this very version.
    InPlace(Held),
    /// It was of an older version, or is JSON.
    Kept(<FormOf<S> as Form<S>>::Kept),
}

impl<F: Fold> Snapshot<F> {
    /// The state.
    pub fn state(&self) -> &<F::State as State>::Archived {
        match &self.state {
            Viewed::Kept(kept) => FormOf::<F::State>::kept(kept),
            Viewed::InPlace(held) => {
                let payload = held.record().payload();
                // SAFETY: `latest` has found this payload to be a valid value by `Form::view`, in this memory: `held` owns
                // it, nobody writes to it while it is shared (a record of the open segment is complete before it is shared;
                // a sealed file is never written again), and its address is the same for as long as it is held.
                let view = unsafe { FormOf::<F::State>::view_unchecked(payload) };
                let Some(view) = view else {
                    unreachable!("it has a view: it had one when it was found")
                };
                view
            }
        }
    }

    /// The version of the stream that it reflects.
    pub fn version(&self) -> u64 {
        self.stamp.version
    }

    /// The position of the last event that is in it.
    pub fn position(&self) -> Position {
        Position(self.stamp.position)
    }

    /// When it was taken, by the system's clock.
    pub fn taken_at(&self) -> Timestamp {
        self.taken_at
    }
}

impl<F: Fold> fmt::Debug for Snapshot<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("version", &self.version())
            .field("position", &self.position())
            .finish_non_exhaustive()
    }
}

/// The newest snapshot of a stream that is good.
///
/// # Errors
/// [`LoadError`].
pub(super) fn latest<F: Fold>(room: &Room, key: &Key) -> Result<Option<Snapshot<F>>, LoadError> {
    let (snapshot, _) = newest(room, key, 1, |held, _| {
        let record = held.record();
        Ok(viewed::<F::State>(held).map(|state| Snapshot {
            state,
            stamp: record.stamp(),
            taken_at: Timestamp(record.fields().taken_at),
        }))
    })?;
    Ok(snapshot)
}

fn viewed<S: State>(held: &Held) -> Result<Viewed<S>, Unreadable> {
    let record = held.record();
    let stored = stored_in(&record);
    if is_current::<S>(&stored)?
        && FormOf::<S>::view(stored.payload).map_err(Unreadable::Payload)?.is_some()
    {
        return Ok(Viewed::InPlace(held.clone()));
    }
    let kept = FormOf::<S>::keep(decode::<S>(stored)?).map_err(Unreadable::Payload)?;
    Ok(Viewed::Kept(kept))
}
