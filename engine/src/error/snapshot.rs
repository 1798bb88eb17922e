//! What can go wrong with snapshots.

use std::sync::Arc;

use super::FileError;
use crate::event::InvalidName;
use crate::snapshot::LoadError;

/// A snapshot was not taken, or snapshots could not be looked after. Nothing of the log depends on it: states are loaded all
/// the same, from an older snapshot or from the events.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Its state has become another one than what the events of the stream come to, from the first one on: the code of the
    /// fold has changed without a new version of the state, or depends on something else than the events. The snapshots of
    /// the stream were dropped, and one that is right was taken. Others of the same fold may be wrong as well: give its state
    /// a new version.
    #[error(
        "the snapshot of stream {stream:?} at version {version} is not what its events come to \
         (state {state:?}); it was dropped"
    )]
    Mismatch {
        /// The stream.
        stream: Box<str>,
        /// The name of the state's type.
        state: Box<str>,
        /// The version of the stream that it reflects.
        version: u64,
        /// Why it could not be recorded that it was dropped: it may be used again after the next opening.
        undurable: Option<FileError>,
    },
    /// The events of the stream could not be read, or not be folded.
    #[error("{stream:?} could not be folded: {cause}")]
    Load {
        /// The stream; of a projection, its name with the lane.
        stream: Box<str>,
        /// Why. Told in the message, so it is no `source`.
        cause: Arc<LoadError>,
    },
    /// The state could not be archived.
    #[error("the state {state:?} of {stream:?} could not be archived: {why}")]
    Archive {
        /// The stream; of a projection, its name with the lane.
        stream: Box<str>,
        /// The name of the state's type.
        state: Box<str>,
        /// What rkyv or `serde_json` says.
        why: Box<str>,
    },
    /// The state is larger than a snapshot may be. See
    /// [`SnapshotOptions::memory_bytes`](crate::SnapshotOptions::memory_bytes).
    #[error("the state {state:?} of {stream:?} has {bytes} bytes; a snapshot may have {bytes_max}")]
    TooLarge {
        /// The stream; of a projection, its name with the lane.
        stream: Box<str>,
        /// The name of the state's type.
        state: Box<str>,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// The fold has panicked, or what archives the state.
    #[error("the code that makes the state {state:?} of {stream:?} panicked: {message}")]
    Panicked {
        /// The stream; of a projection, its name with the lane.
        stream: Box<str>,
        /// The name of the state's type.
        state: Box<str>,
        /// What it said.
        message: Box<str>,
    },
    /// No snapshot is taken for a while, because too many are waiting, there is too much garbage, or writing has failed a
    /// moment ago. Try again later.
    #[error("no snapshot of {stream:?} was taken: snapshots wait, or could not be written lately")]
    NotNow {
        /// The stream; of a projection, its name with the lane.
        stream: Box<str>,
    },
    /// The store is open for reading only, or is being closed.
    #[error("the store is open for reading only, or closed")]
    ReadOnly,
    /// The name of a stream is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The operating system reported an error of a file of snapshots.
    #[error(transparent)]
    File(#[from] FileError),
}
