//! Events, encoded outside any lock: frames with holes where their place in the log goes.
//!
//! Made on the caller's thread, as part of a request. Calls `event` for the rules and `format` for the bytes.

use smallvec::SmallVec;

use crate::event::{EncodeError, EventId, NamePart, NewEvent, Timestamp, check_user_name};
use crate::format::definition::EventType;
use crate::format::extent::Extent;
use crate::format::frame::{Frame, FrameParts};
use crate::index::{Term, TermHash};
use crate::limits::{
    APPEND_BYTES_MAX, APPEND_EVENTS_MAX, APPEND_TAGS_MAX, ENCODED_KEPT_TYPES_MAX, TAGS_MAX,
};
use crate::typed::{Event, Fingerprint, Form};

/// What can be appended to a stream.
///
/// Implemented for [`NewEvent`], for references to what can be appended, and by deriving [`Event`](trait@Event) or
/// [`EventSet`](trait@crate::EventSet).
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
    pub(super) stream: &'a str,
    /// When it is encoded.
    pub(super) now: Timestamp,
    pub(super) encoded: &'a mut Encoded,
}

impl EventEncoder<'_> {
    /// Adds an event.
    ///
    /// # Errors
    /// [`EncodeError`], where a name or a size is beyond its bounds.
    pub fn push(&mut self, event: &NewEvent) -> Result<(), EncodeError> {
        event.check()?;
        self.push_checked(event);
        Ok(())
    }

    /// Adds an event that is known to be within its bounds; one of the store's own has names that users cannot give.
    pub(super) fn push_checked(&mut self, event: &NewEvent) {
        if self.is_too_much() {
            return;
        }
        let payload = event.payload.len() as u64;
        if self.encoded.bytes() + payload > APPEND_BYTES_MAX {
            self.encoded.oversized += payload;
            return;
        }
        let id = event.id.unwrap_or_else(|| EventId::random_at(self.now));
        let parts = FrameParts {
            kind: event.kind.record_kind(),
            stream: self.stream,
            id: id.0,
            occurred_at: event.occurred_at.map(|time| time.0),
            correlation: event.correlation.map(|id| id.0),
            causation: event.causation.map(|id| id.0),
            tags: &event.tags,
            metadata: &event.metadata,
        };
        parts.encode(&mut self.encoded.frames, &event.payload);
        let (version, fingerprint) = (event.schema_version, event.fingerprint);
        self.encoded.note(
            &event.event_type,
            version,
            fingerprint,
            &event.tags,
            id,
            event.id.is_some(),
        );
    }

    /// Adds an event of a type, which is archived right into the frame.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub(crate) fn push_typed<E: Event>(&mut self, event: &E) -> Result<(), EncodeError> {
        if self.is_too_much() {
            return Ok(());
        }
        // Implemented by hand, it may have any name.
        check_user_name(NamePart::EventType, E::NAME)?;
        if E::VERSION == 0 {
            return Err(EncodeError::Version { event_type: E::NAME.into() });
        }
        let mut tags = SmallVec::<[Box<str>; 4]>::new();
        event.tags(&mut |tag| tags.push(tag.to_string().into()));
        if tags.len() > TAGS_MAX {
            return Err(EncodeError::Tags { count: tags.len() });
        }
        for tag in &tags {
            check_user_name(NamePart::Tag, tag)?;
        }
        let id = EventId::random_at(self.now);
        let parts = FrameParts {
            kind: <E::Form as Form<E>>::KIND.record_kind(),
            stream: self.stream,
            id: id.0,
            occurred_at: None,
            correlation: None,
            causation: None,
            tags: &tags,
            metadata: &[],
        };
        let encoded = &mut *self.encoded;
        let start = encoded.frames.len();
        parts
            .encode_with(&mut encoded.frames, size_of::<E>(), |out| {
                <E::Form as Form<E>>::write(event, out)
            })
            .map_err(|why| EncodeError::Payload { event_type: E::NAME.into(), why })?;
        if encoded.bytes() > APPEND_BYTES_MAX {
            encoded.oversized += (encoded.frames.len() - start) as u64;
            encoded.frames.truncate(start);
            return Ok(());
        }
        encoded.note(E::NAME, E::VERSION, E::FINGERPRINT, &tags, id, false);
        Ok(())
    }

    /// What could never be appended is not copied either, however much is pushed: it is known to be too much, and refused
    /// by the exact bounds, when the event has encoded itself.
    fn is_too_much(&self) -> bool {
        self.encoded.events.len() > APPEND_EVENTS_MAX || self.encoded.tags.len() > APPEND_TAGS_MAX
    }
}

/// One encoded event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodedEvent {
    /// Where its frame ends in [`Encoded::frames`]; it begins where the one before ends.
    pub end: usize,
    /// Where its tags end in [`Encoded::tags`]; they begin where those of the event before end.
    pub tags_end: usize,
    /// Its index in [`Encoded::types`].
    pub event_type: usize,
    /// Where its payload lies in its frame, as if that stood at the beginning of a segment.
    pub extent: Extent,
    pub id_hash: TermHash,
    /// Whether the caller chose the id, which may be in the log then.
    pub id_is_chosen: bool,
}

/// An event type of an append, with its number in the segment that the append was placed in.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub event_type: EventType,
    /// The type's [`xxh3`](EventType::xxh3).
    pub hash: u64,
    pub number: u32,
    /// Whether the append defines it there.
    pub is_new: bool,
}

/// The events of an append.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub frames: Vec<u8>,
    pub events: SmallVec<[EncodedEvent; 1]>,
    /// The hashes of the events' tags, each once for an event.
    pub tags: Vec<TermHash>,
    /// The ids of the events, in their order.
    pub ids: EventIds,
    /// Whether the caller chose one of them.
    pub ids_chosen: bool,
    /// The distinct types of the events come first; behind them stand those of an earlier append, which
    /// the next one may well have again.
    types: Vec<Numbered>,
    types_used: usize,
    /// What the definitions of all its types take; they may all be new to the segment.
    types_bytes: usize,
    /// The payloads that were not copied, since they are larger than any append may be.
    oversized: u64,
}

/// The ids of an append, which nearly always has one event.
pub(crate) type EventIds = SmallVec<[EventId; 1]>;

impl Encoded {
    /// Forgets the events, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.events.clear();
        self.tags.clear();
        self.ids.clear();
        self.ids_chosen = false;
        (self.types_used, self.types_bytes, self.oversized) = (0, 0, 0);
        self.types.truncate(ENCODED_KEPT_TYPES_MAX);
    }

    /// How many bytes it takes in a segment that defines none of its types yet; 0 for a check.
    pub(crate) fn bytes(&self) -> u64 {
        (self.frames.len() + self.types_bytes) as u64 + self.oversized
    }

    /// The distinct types of its events.
    pub(crate) fn types(&self) -> &[Numbered] {
        &self.types[..self.types_used]
    }

    /// See [`Encoded::types`].
    pub(crate) fn types_mut(&mut self) -> &mut [Numbered] {
        &mut self.types[..self.types_used]
    }

    /// An event's frame, without its place.
    pub(super) fn frame(&self, event: usize) -> Option<Frame<'_>> {
        let begin = event.checked_sub(1).map_or(0, |before| self.events[before].end);
        Frame::parse(&self.frames[begin..self.events[event].end]).ok()
    }

    /// Notes what the sequence step has to know of the event whose frame was encoded last.
    fn note(
        &mut self,
        name: &str,
        version: u32,
        fingerprint: Fingerprint,
        tags: &[Box<str>],
        id: EventId,
        id_is_chosen: bool,
    ) {
        let id_hash = Term::id(&id.0).xxh3_64();
        let event_type = self.intern(name, version, fingerprint.get());
        if !tags.is_empty() {
            self.note_tags(tags);
        }
        self.ids.push(id);
        self.ids_chosen |= id_is_chosen;
        let (begin, end) = (self.events.last().map_or(0, |last| last.end), self.frames.len());
        let frame = Frame::settled(&self.frames[begin..end]);
        let extent = frame.and_then(|frame| frame.extent_at(0));
        let extent = extent.expect("a frame that was encoded is whole, and within its bounds");
        let tags_end = self.tags.len();
        self.events.push(EncodedEvent { end, tags_end, event_type, extent, id_hash, id_is_chosen });
    }

    /// Notes the tags of the event that is encoded next.
    fn note_tags(&mut self, tags: &[Box<str>]) {
        let first = self.tags.len();
        for tag in tags {
            let hash = Term::tag(tag.as_bytes()).xxh3_64();
            // A tag that is given twice finds the event once.
            if !self.tags[first..].contains(&hash) {
                self.tags.push(hash);
            }
        }
    }

    fn intern(&mut self, name: &str, schema_version: u32, fingerprint: u128) -> usize {
        let is_it = |known: &EventType| {
            known.schema_version == schema_version
                && known.fingerprint == fingerprint
                && *known.name == *name
        };
        // Appends have few types: the last one found is nearly always the one.
        let known = self.types().iter().rposition(|known| is_it(&known.event_type));
        if let Some(index) = known {
            return index;
        }
        let index = self.types_used;
        self.types_used += 1;
        match self.types.get(index) {
            Some(before) if is_it(&before.event_type) => {}
            _ => {
                let event_type = EventType { name: name.into(), schema_version, fingerprint };
                self.types.truncate(index);
                let hash = event_type.xxh3();
                self.types.push(Numbered { event_type, hash, number: 0, is_new: false });
            }
        }
        self.types_bytes += self.types[index].event_type.encoded_bytes();
        index
    }
}
