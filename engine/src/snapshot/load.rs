//! Loading the state of a stream: from the newest snapshot that is good, and the events that came after it; or from all of
//! its events.
//!
//! Owns what a snapshot has to be to be believed. Its bytes were checked when it was found; here, the log must have the very
//! event that it says it reflects: stream, version, position, id and checksum. What is not so is left out and counted, and
//! an older snapshot is taken, or none.

use std::fmt;
use std::sync::Arc;

use super::fold::{Fold, Unknown};
use super::key::Key;
use super::room::Room;
use super::segments::Held;
use crate::append::Expect;
use crate::error::{DecodeError, ReadError};
use crate::event::{InvalidName, PayloadKind, Position, Timestamp};
use crate::format::snapshot::{SnapshotRecord, Stamp};
use crate::read::{EventRef, ReadStream, ReaderStream, Reads};
use crate::sync::Count;
use crate::typed::{Fingerprint, Stored, Unreadable, decode};

/// The state of a stream, as of its last event.
pub struct Loaded<F: Fold> {
    state: F::State,
    /// Of the last event; none where the stream has none.
    pub(super) last: Option<Stamp>,
    replayed: u64,
    /// What it began with.
    pub(super) snapshot: Option<(u64, Timestamp)>,
}

/// A state could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The stream could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event of the stream is none of the fold's, or of a version or a layout that it does not know.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Two folds have one name: each would go on from the other's snapshots. Give one of them another
    /// [`Fold::NAME`](crate::Fold::NAME).
    #[error("the folds {fold} and {other} have one name, {name:?}: one of them needs another NAME")]
    Fold {
        /// The name.
        name: &'static str,
        /// The fold that was to be used.
        fold: &'static str,
        /// The one that was used before, since the store was opened.
        other: &'static str,
    },
    /// The store was closed while a snapshot was being taken.
    #[error("the store was closed")]
    Closed,
}

impl From<InvalidName> for LoadError {
    fn from(error: InvalidName) -> Self {
        Self::Read(error.into())
    }
}

impl<F: Fold> Loaded<F> {
    /// The state.
    pub fn state(&self) -> &F::State {
        &self.state
    }

    /// The state, to be kept.
    pub fn into_state(self) -> F::State {
        self.state
    }

    /// The version of the last event that is in it; `None` where the stream has none.
    pub fn version(&self) -> Option<u64> {
        self.last.map(|last| last.version)
    }

    /// The position of that event.
    pub fn position(&self) -> Option<Position> {
        self.last.map(|last| Position(last.position))
    }

    /// What an append that is decided by this state has to expect of the stream.
    pub fn expect(&self) -> Expect {
        self.version().map_or(Expect::NoStream, Expect::Version)
    }

    /// How many events were folded to come to it.
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    /// The version of the stream that the snapshot reflects with which it began; `None` where it began with the first event.
    pub fn snapshot_version(&self) -> Option<u64> {
        self.snapshot.map(|(version, _)| version)
    }

    /// Folds what the reader has. Ends where `room`, if it is given, is closed meanwhile.
    fn fold(
        &mut self,
        reader: &mut ReaderStream,
        after: Option<u64>,
        room: Option<&Room>,
    ) -> Result<(), LoadError> {
        while let Some(batch) = reader.next_batch()? {
            if room.is_some_and(Room::is_closing) {
                return Err(LoadError::Closed);
            }
            self.fold_batch(&batch, after)?;
        }
        Ok(())
    }

    fn fold_batch(
        &mut self,
        batch: &crate::read::Batch,
        after: Option<u64>,
    ) -> Result<(), LoadError> {
        let is_new = |event: &EventRef<'_>| after.is_none_or(|after| event.version() > after);
        let mut events = batch.typed::<F::Events>();
        if F::UNKNOWN == Unknown::Skip {
            events = events.skip_unknown();
        }
        for event in events {
            let (event, view) = event?;
            if is_new(&event) {
                F::evolve(&mut self.state, view);
            }
        }
        // Also of events that were left out, or that became none.
        if let Some(last) = batch.iter().next_back().filter(is_new) {
            self.last = Some(stamp_of(&last));
        }
        let old = batch.get(0).as_ref().is_some_and(|first| !is_new(first));
        self.replayed += batch.len() as u64 - u64::from(old);
        Ok(())
    }
}

impl<F: Fold> fmt::Debug for Loaded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("version", &self.version())
            .field("replayed", &self.replayed)
            .field("snapshot_version", &self.snapshot_version())
            .finish_non_exhaustive()
    }
}

/// Why a snapshot is not used.
#[derive(Debug)]
pub(super) enum Unused {
    /// The log has another event there, or none.
    Foreign,
    /// Its bytes are no such state.
    State(Unreadable),
}

impl Unused {
    /// Counts it, and says so.
    pub(super) fn note(&self, room: &Room, key: &Key, stamp: &Stamp) {
        let figures = &room.segments.figures;
        let (figure, why): (&Count, _) = match self {
            Self::Foreign => (&figures.foreign, "the log has another event there, or none"),
            Self::State(Unreadable::Newer { .. }) => {
                (&figures.newer, "its state is of a newer version than the program's")
            }
            Self::State(Unreadable::Payload(_)) => {
                (&figures.damaged, "its bytes are no such state")
            }
            Self::State(_) => (&figures.outdated, "its state has another layout, or is too old"),
        };
        figure.add(1);
        let (stream, state, version) = (key.stream(), key.state(), stamp.version);
        tracing::info!(stream, state, version, why, "a snapshot is not used");
    }
}

/// What a snapshot says of the event that it reflects, of an event.
pub(super) fn stamp_of(event: &EventRef<'_>) -> Stamp {
    Stamp {
        position: event.position().get(),
        version: event.version(),
        event_id: event.id().0,
        frame_crc: event.frame_crc(),
    }
}

/// A snapshot's state, as it is stored.
pub(super) fn stored_in<'a>(record: &SnapshotRecord<'a>) -> Stored<'a> {
    let fields = record.fields();
    Stored {
        kind: PayloadKind::of_record(fields.kind),
        version: fields.state_version,
        fingerprint: Fingerprint::from_number(fields.fingerprint),
        payload: record.payload(),
    }
}

/// The snapshots of a key that the log does not contradict, the newest first; each with the events from that on which it
/// reflects. `use_it` says what becomes of it; what it does not use is counted. Also says whether there was any such, or one
/// that was damaged.
pub(super) fn newest<T>(
    room: &Room,
    key: &Key,
    limit: u64,
    mut use_it: impl FnMut(&Held, Began) -> Result<Result<T, Unreadable>, LoadError>,
) -> Result<(Option<T>, bool), LoadError> {
    let mut unused = false;
    let mut candidates = room.segments.find(key);
    while let Some(held) = candidates.next() {
        let record = held.record();
        let stamp = record.stamp();
        let why = match begin(&room.reads, key.stream(), &stamp, limit)? {
            None => Unused::Foreign,
            Some(began) => match use_it(&held, began)? {
                Ok(used) => return Ok((Some(used), unused || candidates.has_damage)),
                Err(why) => Unused::State(why),
            },
        };
        // A reader beside a writer may find one of events that are not shown to it.
        if room.writes || stamp.position <= room.reads.watermark.get() {
            why.note(room, key, &stamp);
        }
        unused = true;
    }
    Ok((None, unused || candidates.has_damage))
}

/// A read that begins with the event that a snapshot reflects.
#[derive(Debug)]
pub(super) struct Began {
    first: crate::read::Batch,
    reader: ReaderStream,
}

/// Begins to read with the event that a snapshot reflects; none where the log has another one there, or none.
fn begin(
    reads: &Arc<Reads>,
    stream: &str,
    stamp: &Stamp,
    limit: u64,
) -> Result<Option<Began>, ReadError> {
    let read = ReadStream::new(Arc::clone(reads), stream).from(stamp.version).limit(limit);
    let mut reader = read.forward();
    let Some(first) = reader.next_batch()? else { return Ok(None) };
    let is_it = first.get(0).is_some_and(|event| stamp_of(&event) == *stamp);
    Ok(is_it.then_some(Began { first, reader }))
}

/// Loads the state of a stream. Also says whether a snapshot was not used. Ends where `until_closed`, if it is given, is
/// closed meanwhile.
///
/// # Errors
/// [`LoadError`].
pub(super) fn load<F: Fold>(
    room: &Room,
    key: &Key,
    until_closed: Option<&Room>,
) -> Result<(Loaded<F>, bool), LoadError> {
    let (loaded, unused) = newest(room, key, u64::MAX, |held, mut began| {
        let record = held.record();
        let state = match decode::<F::State>(stored_in(&record)) {
            Ok(state) => state,
            Err(why) => return Ok(Err(why)),
        };
        let (stamp, taken_at) = (record.stamp(), Timestamp(record.fields().taken_at));
        let snapshot = Some((stamp.version, taken_at));
        let mut loaded = Loaded::<F> { state, last: Some(stamp), replayed: 0, snapshot };
        loaded.fold_batch(&began.first, Some(stamp.version))?;
        loaded.fold(&mut began.reader, Some(stamp.version), until_closed)?;
        Ok(Ok(loaded))
    })?;
    let loaded = match loaded {
        Some(loaded) => loaded,
        None => replay(&room.reads, key.stream(), u64::MAX, until_closed)?,
    };
    Ok((loaded, unused))
}

/// Folds so many events of a stream, from the first one on. Ends where `until_closed`, if it is given, is closed meanwhile.
///
/// # Errors
/// [`LoadError`].
pub(super) fn replay<F: Fold>(
    reads: &Arc<Reads>,
    stream: &str,
    events: u64,
    until_closed: Option<&Room>,
) -> Result<Loaded<F>, LoadError> {
    let mut loaded = Loaded { state: F::initial(), last: None, replayed: 0, snapshot: None };
    let read = ReadStream::new(Arc::clone(reads), stream).limit(events);
    loaded.fold(&mut read.forward(), None, until_closed)?;
    Ok(loaded)
}
