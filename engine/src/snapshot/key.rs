//! What a snapshot is of.

use super::fold::Fold;
use crate::event::{InvalidName, check_stream};
use crate::format::constants::KEY_STREAM;
use crate::format::snapshot::RecordKey;

/// A stream, under the name of the fold of its events.
#[derive(Debug, Clone)]
pub(crate) struct Key {
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
        let mut key = Self { stream: stream.into(), fold, hash: 0 };
        key.hash = key.record().hash();
        key
    }

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
        RecordKey { kind: KEY_STREAM, key: self.stream.as_bytes(), state: self.fold.as_bytes() }
    }
}
