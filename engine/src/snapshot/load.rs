//! Loading the state of a stream: folding its events, from the first to the last durable one.

use std::fmt;
use std::sync::Arc;

use super::fold::{Fold, Unknown};
use crate::append::Expect;
use crate::error::{DecodeError, ReadError};
use crate::event::Position;
use crate::read::{ReadStream, Reads};

/// The state of a stream, as of its last event.
pub struct Loaded<F: Fold> {
    state: F::State,
    /// The version and the position of the last event.
    last: Option<(u64, Position)>,
    replayed: u64,
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
        self.last.map(|(version, _)| version)
    }

    /// The position of that event.
    pub fn position(&self) -> Option<Position> {
        self.last.map(|(_, position)| position)
    }

    /// What an append that is decided by this state has to expect of the stream.
    pub fn expect(&self) -> Expect {
        self.version().map_or(Expect::NoStream, Expect::Version)
    }

    /// How many events were folded to come to it.
    pub fn replayed(&self) -> u64 {
        self.replayed
    }
}

impl<F: Fold> fmt::Debug for Loaded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("version", &self.version())
            .field("replayed", &self.replayed)
            .finish_non_exhaustive()
    }
}

/// Loads the state of a stream.
///
/// # Errors
/// [`LoadError`].
pub(crate) fn load<F: Fold>(reads: Arc<Reads>, stream: &str) -> Result<Loaded<F>, LoadError> {
    let mut loaded = Loaded { state: F::initial(), last: None, replayed: 0 };
    let mut reader = ReadStream::new(reads, stream).forward();
    while let Some(batch) = reader.next_batch()? {
        let mut events = batch.typed::<F::Events>();
        if F::UNKNOWN == Unknown::Skip {
            events = events.skip_unknown();
        }
        for event in events {
            F::evolve(&mut loaded.state, event?.1);
        }
        // Also of events that were left out, or that became none.
        loaded.last = batch.iter().next_back().map(|event| (event.version(), event.position()));
        loaded.replayed += batch.len() as u64;
    }
    Ok(loaded)
}
