//! States that somebody else has folded, kept here: those of projections.
//!
//! Owns what such a state has to be to be believed, as `load` does for those of streams: its bytes are good, and the log has
//! the very event that it reflects last. Called by `projection`.

use std::sync::Arc;

use super::key::Key;
use super::load::{Unused, stamp_of, stored_in};
use super::room::Room;
use super::taking::not_written;
use crate::error::{ReadError, SnapshotError};
use crate::format::snapshot::Stamp;
use crate::read::ReadAll;
use crate::typed::{Form, State, Versioned, decode};

type FormOf<S> = <S as Versioned>::Form;

/// What is kept under a key.
#[derive(Debug)]
pub(crate) enum Kept<S> {
    /// A state, and the position that it reflects.
    State(S, u64),
    /// Nothing that can be used.
    Nothing,
    /// The newest one reflects an event at this position, behind the end of the log.
    PastHead(u64),
}

impl Room {
    /// Whether the store was opened for writing.
    pub(crate) fn writes(&self) -> bool {
        self.writes
    }

    /// Keeps a state that reflects every event up to a position, where there is one. It survives the end of the process from
    /// then on, and a power cut once its segment is sealed.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub(crate) fn keep<S: State>(
        self: &Arc<Self>,
        key: &Key,
        state: &S,
        position: u64,
    ) -> Result<(), SnapshotError> {
        let stamp = self.stamp_at(position, None).map_err(|error| failed(key, error))?;
        let Some(stamp) = stamp else { return Ok(()) };
        let mut payload = Vec::new();
        FormOf::<S>::write(state, &mut payload).map_err(|error| SnapshotError::Archive {
            stream: key.stream().into(),
            state: key.state().into(),
            why: error.to_string().into(),
        })?;
        let kind = FormOf::<S>::KIND.record_kind();
        let structure = (kind, S::VERSION, S::FINGERPRINT.get());
        let open = self.change()?;
        // What is dropped while a projection runs is not what its state was made of.
        let dropped_upto = self.segments.dropped_upto(key);
        let put = self.segments.put(key, dropped_upto, structure, &stamp, &payload);
        let sealed = put.map_err(|why| not_written(key, why))?;
        self.segments.flush().map_err(|why| not_written(key, why))?;
        self.segments.figures.taken.add(1);
        drop(open);
        if sealed {
            self.start();
            self.compactor.ring();
        }
        Ok(())
    }

    /// The newest state that was kept under a key and can be used, and that reflects nothing behind a position. In a store that
    /// is open for reading one that its writer has kept of events that are not shown yet is passed over.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn kept<S: State>(&self, key: &Key, upto: u64) -> Result<Kept<S>, ReadError> {
        let head = self.reads.watermark.get();
        for held in self.segments.find(key) {
            let record = held.record();
            let stamp = record.stamp();
            if stamp.position > upto {
                continue;
            }
            if stamp.position > head {
                if self.writes {
                    return Ok(Kept::PastHead(stamp.position));
                }
                continue;
            }
            if self.stamp_at(stamp.position, None)? != Some(stamp) {
                Unused::Foreign.note(self, key, &stamp);
                continue;
            }
            match decode::<S>(stored_in(&record)) {
                Ok(state) => return Ok(Kept::State(state, stamp.position)),
                Err(why) => Unused::State(why).note(self, key, &stamp),
            }
        }
        Ok(Kept::Nothing)
    }

    /// Whether anything may be kept under a key.
    pub(crate) fn has_kept(&self, key: &Key) -> bool {
        self.segments.find(key).next().is_some()
    }

    /// Has nothing be used that was kept under a key, where there is something. Durable when it returns.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub(crate) fn drop_kept(&self, key: &Key) -> Result<(), SnapshotError> {
        if !self.has_kept(key) {
            return Ok(());
        }
        let _open = self.change()?;
        Ok(self.segments.drop_key(key.hash())?)
    }

    /// What a state says of the event at a position; nothing where that is of another stream than is asked for.
    pub(super) fn stamp_at(
        &self,
        position: u64,
        stream: Option<&str>,
    ) -> Result<Option<Stamp>, ReadError> {
        if position == 0 {
            return Ok(None);
        }
        let read = ReadAll::new(Arc::clone(&self.reads)).from(position).limit(1);
        let batch = read.forward().next_batch()?;
        let event = batch.as_ref().and_then(|batch| batch.get(0));
        let event = event.filter(|event| stream.is_none_or(|stream| event.stream() == stream));
        Ok(event.as_ref().map(stamp_of))
    }
}

fn failed(key: &Key, error: ReadError) -> SnapshotError {
    SnapshotError::Load { stream: key.stream().into(), cause: Arc::new(error.into()) }
}
