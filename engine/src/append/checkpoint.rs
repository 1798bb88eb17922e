//! How far a consumer has come: a position in the log, kept in the log.
//!
//! A consumer that appends because of what it has read moves its checkpoint in the same transaction, so that what it
//! does for an event is done once. A checkpoint is the last event of a stream of the consumer's own, of the category
//! [`CATEGORY`], which only the store appends to; its payload is JSON. Calls `read` for it; `Transaction` moves it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::expect::Expect;
use super::request::{Part, Request};
use super::writer::Writer;
use crate::error::{AppendError, ReadError};
use crate::event::{NewEvent, Position, check_stream};
use crate::read::{ReadStream, Reads};

/// The category of the streams of checkpoints; and the type of their events.
const CATEGORY: &str = "$checkpoint";

/// How far a consumer has come. See [`Store::checkpoint`](crate::Store::checkpoint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    consumer: Box<str>,
    position: Position,
    /// How often it was moved.
    moves: u64,
}

/// What is stored of it.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    position: u64,
}

impl Checkpoint {
    /// The last one of a consumer; at position 0 where it has none.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn read(reads: &Arc<Reads>, consumer: &str) -> Result<Self, ReadError> {
        // The whole name is checked when the stream is read.
        check_stream(consumer)?;
        let stream = stream_of(consumer);
        let mut reader = ReadStream::new(Arc::clone(reads), &stream).limit(1).backward();
        let batch = reader.next_batch()?;
        let consumer = consumer.into();
        let Some(event) = batch.as_ref().and_then(|batch| batch.get(0)) else {
            return Ok(Self { consumer, position: Position::START, moves: 0 });
        };
        let Ok(Stored { position }) = event.json() else {
            return Err(ReadError::Checkpoint { consumer, position: event.position() });
        };
        Ok(Self { consumer, position: Position(position), moves: event.version() + 1 })
    }

    /// The name of the consumer.
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Everything up to this position is done: go on [`after`](crate::ReadAll::after) it.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The checkpoint as it will be when it was moved, on or back, by a transaction that
    /// [has it](crate::Transaction::checkpoint).
    #[must_use]
    pub fn moved_to(&self, position: impl Into<Position>) -> Self {
        let (consumer, moves) = (self.consumer.clone(), self.moves + 1);
        Self { consumer, position: position.into(), moves }
    }

    /// Adds it to a request.
    ///
    /// # Errors
    /// [`AppendError`], where it is not one that was moved, or is behind the head.
    pub(super) fn add_to(
        &self,
        request: &mut Request,
        writer: Option<&Writer>,
    ) -> Result<(), AppendError> {
        let Self { position, .. } = *self;
        let consumer = || self.consumer.clone();
        if let Some(head) = writer.map(Writer::head)
            && position > head
        {
            return Err(AppendError::CheckpointAfterHead { consumer: consumer(), position, head });
        }
        let expect = match self.moves.checked_sub(2) {
            Some(last) => Expect::Version(last),
            // One that was never moved is there already, so to say.
            None if self.moves == 0 => {
                return Err(AppendError::CheckpointNotMoved { consumer: consumer() });
            }
            None => Expect::NoStream,
        };
        let stream = stream_of(&self.consumer);
        let is_it = |part: &Part| request.targets[part.target].name == stream;
        if request.parts.iter().any(is_it) {
            return Err(AppendError::CheckpointTwice { consumer: consumer() });
        }
        let stored = Stored { position: position.0 };
        let event = NewEvent::json(CATEGORY, &stored).map_err(AppendError::Invalid)?;
        request.add_own(&stream, expect, &event, writer)
    }
}

fn stream_of(consumer: &str) -> String {
    format!("{CATEGORY}-{consumer}")
}
