//! An append, encoded outside any lock: frames with holes where their place in the log goes.
//!
//! Made by `Store::append` on the caller's thread. Calls `event` for the rules and `format` for the bytes.

use super::expect::Expect;
use crate::error::AppendError;
use crate::event::{EncodeError, EventId, NamePart, NewEvent, check_stream, check_user_name};
use crate::format::definition::EventType;
use crate::format::frame::FrameParts;
use crate::index::{Term, TermHash};
use crate::limits::{APPEND_BYTES_MAX, APPEND_EVENTS_MAX};

/// What can be appended to a stream.
///
/// Implemented for [`NewEvent`] and for references to what can be appended.
pub trait ToEvent {
    /// Encodes itself: one call of [`EventEncoder::push`].
    ///
    /// # Errors
    /// [`EncodeError`], where it is no valid event.
    fn encode(&self, encoder: &mut EventEncoder<'_>) -> Result<(), EncodeError>;
}

impl ToEvent for NewEvent {
    fn encode(&self, encoder: &mut EventEncoder<'_>) -> Result<(), EncodeError> {
        encoder.push(self)
    }
}

impl<T: ToEvent + ?Sized> ToEvent for &T {
    fn encode(&self, encoder: &mut EventEncoder<'_>) -> Result<(), EncodeError> {
        (**self).encode(encoder)
    }
}

/// Takes one append's events into a buffer, in the form that they have in the log.
#[derive(Debug)]
pub struct EventEncoder<'a> {
    stream: &'a str,
    encoded: &'a mut Encoded,
}

impl EventEncoder<'_> {
    /// Adds an event.
    ///
    /// # Errors
    /// [`EncodeError`], where a name or a size is beyond its bounds.
    pub fn push(&mut self, event: &NewEvent) -> Result<(), EncodeError> {
        event.check()?;
        // What could never be appended is not copied either; the exact bound is checked at the end.
        if event.payload.len() as u64 > APPEND_BYTES_MAX {
            self.encoded.bytes += event.payload.len() as u64;
            return Ok(());
        }
        let id = event.id.unwrap_or_else(EventId::random);
        let parts = FrameParts {
            kind: event.kind.record_kind(),
            stream: self.stream,
            id: id.0,
            occurred_at: event.occurred_at.map(|time| time.0),
            correlation: event.correlation.map(|id| id.0),
            causation: event.causation.map(|id| id.0),
            tags: &event.tags,
            metadata: &event.metadata,
            payload: &event.payload,
        };
        let encoded = &mut *self.encoded;
        let event_type = encoded.intern(&event.event_type);
        parts.encode(&mut encoded.frames);
        encoded.ids.push(id);
        encoded.events.push(EncodedEvent { end: encoded.frames.len(), event_type });
        encoded.bytes = (encoded.frames.len() + encoded.types_bytes) as u64;
        Ok(())
    }
}

/// One encoded event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodedEvent {
    /// Where its frame ends in [`Encoded::frames`]; it begins where the one before ends.
    pub end: usize,
    /// Its index in [`Encoded::types`].
    pub event_type: usize,
}

/// The events of an append.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub frames: Vec<u8>,
    pub events: Vec<EncodedEvent>,
    /// The ids of the events, in their order.
    pub ids: Vec<EventId>,
    /// The distinct types of the events.
    pub types: Vec<EventType>,
    /// What the definitions of all its types take; they may all be new to the segment.
    types_bytes: usize,
    bytes: u64,
}

impl Encoded {
    /// How many bytes it takes in a segment that defines none of its types yet; 0 for a check.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn intern(&mut self, name: &str) -> usize {
        // Appends have few types: the last one found is nearly always the one.
        if let Some(index) = self.types.iter().rposition(|known| *known.name == *name) {
            return index;
        }
        let event_type = EventType { name: name.into(), schema_version: 0, fingerprint: 0 };
        self.types_bytes += event_type.encoded_bytes();
        self.types.push(event_type);
        self.types.len() - 1
    }
}

/// An append to one stream, or a check of one, ready to be sequenced.
#[derive(Debug)]
pub(crate) struct Request {
    pub stream: Box<str>,
    pub stream_hash: TermHash,
    pub expect: Expect,
    pub encoded: Encoded,
    /// Whether a failure to make the next segment may be reported to it: it has asked for one, or will
    /// not wait for another try.
    pub asked_for_segment: bool,
}

impl Request {
    /// An append of `events`.
    ///
    /// # Errors
    /// [`AppendError`], where a bound is broken.
    pub(crate) fn append<E: ToEvent>(
        stream: &str,
        expect: Expect,
        events: impl IntoIterator<Item = E>,
        bytes_max: u64,
    ) -> Result<Self, AppendError> {
        check_user_name(NamePart::Stream, stream).map_err(EncodeError::Name)?;
        let mut request = Self::check(stream, expect)?;
        let encoded = &mut request.encoded;
        for event in events {
            if encoded.events.len() == APPEND_EVENTS_MAX {
                return Err(AppendError::TooManyEvents { stream: stream.into() });
            }
            event.encode(&mut EventEncoder { stream, encoded })?;
            if encoded.bytes > bytes_max {
                return Err(AppendError::TooLarge {
                    stream: stream.into(),
                    bytes: encoded.bytes,
                    bytes_max,
                });
            }
        }
        if encoded.events.is_empty() {
            return Err(AppendError::Empty { stream: stream.into() });
        }
        Ok(request)
    }

    /// A pure check.
    ///
    /// # Errors
    /// [`AppendError::Invalid`], where the name is none.
    pub(crate) fn check(stream: &str, expect: Expect) -> Result<Self, AppendError> {
        check_stream(stream).map_err(EncodeError::Name)?;
        Ok(Self {
            stream: stream.into(),
            stream_hash: Term::stream(stream.as_bytes()).xxh3_64(),
            expect,
            encoded: Encoded::default(),
            asked_for_segment: false,
        })
    }

    pub(crate) fn is_check(&self) -> bool {
        self.encoded.events.is_empty()
    }
}
