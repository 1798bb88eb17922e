//! What a snapshot is of.
//!
//! Owns the two kinds of keys: a stream, under the name of the fold of its events, and a lane of a projection, under the name
//! of its state's type.

use super::fold::Fold;
use crate::error::SnapshotError;
use crate::event::{InvalidName, check_stream};
use crate::format::constants::{KEY_LANE, KEY_STREAM};
use crate::format::snapshot::RecordKey;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    kind: u8,
    stream: Box<str>,
    fold: &'static str,
    hash: u64,
}

impl Key {
    /// # Errors
    /// [`InvalidName`], where that is no stream's name.
    pub(super) fn of<F: Fold>(stream: &str) -> Result<Self, InvalidName> {
        check_stream(stream)?;
        Ok(Self::new(stream, F::NAME))
    }

    pub(super) fn new(stream: &str, fold: &'static str) -> Self {
        Self::of_kind(KEY_STREAM, stream.into(), fold)
    }

    /// A lane, of so many, of the projection of this name.
    pub(crate) fn of_lane(name: &str, state: &'static str, lane: usize, lanes: usize) -> Self {
        Self::of_kind(KEY_LANE, format!("{name}, lane {lane} of {lanes}").into(), state)
    }

    fn of_kind(kind: u8, stream: Box<str>, fold: &'static str) -> Self {
        let mut key = Self { kind, stream, fold, hash: 0 };
        key.hash = key.record().hash();
        key
    }

    /// What is told where archiving the state has panicked.
    pub(crate) fn panicked(&self, message: Box<str>) -> SnapshotError {
        SnapshotError::Panicked { stream: self.stream.clone(), state: self.fold.into(), message }
    }

    /// The stream, or the projection with its lane.
    pub(super) fn stream(&self) -> &str {
        &self.stream
    }

    /// The name of the state's type, or the one that its fold has in its place.
    pub(super) fn state(&self) -> &'static str {
        self.fold
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn record(&self) -> RecordKey<'_> {
        RecordKey { kind: self.kind, key: self.stream.as_bytes(), state: self.fold.as_bytes() }
    }
}
