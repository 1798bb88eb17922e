//! Events as they are read: borrowed, or on their way to another thread.

use std::fmt;

use super::batch::{Entry, Source};
use super::upcasts::Upcasts;
use crate::event::{EventId, PayloadKind, Position, Timestamp};
use crate::format::bytes::get_u32;
use crate::format::definition::EventType;
use crate::format::frame::{Frame, TagsIter};
use crate::typed::Fingerprint;

/// A stored event, borrowed from its [`Batch`](super::Batch). Copying it copies a few words.
#[derive(Clone, Copy)]
pub struct EventRef<'a> {
    pub(super) frame: Frame<'a>,
    pub(super) source: &'a Source,
    pub(super) entry: &'a Entry,
    /// Where what events became is kept, and this one's place there.
    pub(super) upcasts: &'a Upcasts,
    pub(super) place: u32,
}

impl<'a> EventRef<'a> {
    /// Where it stands in the whole log.
    #[inline]
    pub fn position(&self) -> Position {
        Position(self.frame.position())
    }

    /// Its stream.
    #[inline]
    pub fn stream(&self) -> &'a str {
        self.frame.stream()
    }

    /// Where it stands in its stream; the first event has version 0.
    #[inline]
    pub fn version(&self) -> u64 {
        self.frame.version()
    }

    /// Its id.
    #[inline]
    pub fn id(&self) -> EventId {
        EventId(self.frame.id())
    }

    /// Its type.
    #[inline]
    pub fn event_type(&self) -> &'a str {
        &self.stored_type().name
    }

    /// The version of its payload's structure; 0 where it was appended without one.
    #[inline]
    pub fn schema_version(&self) -> u32 {
        self.stored_type().schema_version
    }

    /// The fingerprint of its payload's layout; [`Fingerprint::NONE`] where it has none.
    #[inline]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::from_number(self.stored_type().fingerprint)
    }

    #[inline]
    pub(crate) fn stored_type(&self) -> &'a EventType {
        let Some(event_type) = self.source.types.get(self.entry.type_ref(&self.frame)) else {
            unreachable!("the type is defined: it was when the event was read")
        };
        event_type
    }

    /// When the store recorded it, by its own clock: never before the event at the position before.
    #[inline]
    pub fn recorded_at(&self) -> Timestamp {
        Timestamp(self.frame.recorded_at())
    }

    /// When it happened, where the caller said so.
    #[inline]
    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.frame.occurred_at().map(Timestamp)
    }

    /// How its payload is to be understood.
    #[inline]
    pub fn payload_kind(&self) -> PayloadKind {
        PayloadKind::of_record(self.frame.kind())
    }

    /// As [`EventRef::payload_kind`], by its number.
    pub(crate) fn frame_kind(&self) -> u8 {
        self.frame.kind()
    }

    /// The stored checksum of its frame, which depends on where it stands.
    pub(crate) fn frame_crc(&self) -> u32 {
        get_u32(self.frame.bytes(), 4)
    }

    /// Its payload, exactly as it was appended. Begins at a multiple of 16 bytes in its file.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.frame.payload()
    }

    /// Its payload, read as JSON.
    ///
    /// # Errors
    /// What `serde_json` says, where the payload is no JSON, or not of this type.
    #[inline]
    pub fn json<T: serde::Deserialize<'a>>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(self.payload())
    }

    /// Its tags, in the order in which they were given.
    #[inline]
    pub fn tags(&self) -> TagsIter<'a> {
        self.frame.tags()
    }

    /// The id of what it belongs to.
    #[inline]
    pub fn correlation(&self) -> Option<EventId> {
        self.frame.correlation().map(EventId)
    }

    /// The id of the event that caused it.
    #[inline]
    pub fn causation(&self) -> Option<EventId> {
        self.frame.causation().map(EventId)
    }

    /// Its metadata; empty where it has none.
    #[inline]
    pub fn metadata(&self) -> &'a [u8] {
        self.frame.metadata()
    }

    /// An owner of this event, for another thread or a later time.
    #[inline]
    pub fn to_view(&self) -> EventView {
        let (source, entry) = self.source.owned(self.entry, &self.frame);
        EventView { source, entry, upcasts: Upcasts::of(1) }
    }
}

impl fmt::Debug for EventRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventRef")
            .field("position", &self.position().get())
            .field("stream", &self.stream())
            .field("version", &self.version())
            .field("event_type", &self.event_type())
            .field("payload_bytes", &self.payload().len())
            .finish_non_exhaustive()
    }
}

/// A stored event that owns its memory, by reference counting: `Send`, `'static`, cheap to clone.
///
/// It keeps alive what the event is in: one part of the log's tail in memory (about 1 MiB, or one append
/// if that was larger), or the mapping of one sealed file, which costs no memory of its own. Where readers keep more than
/// [`PINNED_BYTES_MAX`](crate::limits::PINNED_BYTES_MAX) of the tail alive, it is a copy of the event instead; see
/// [`Store::pinned_bytes`](crate::Store::pinned_bytes).
#[derive(Debug, Clone)]
pub struct EventView {
    source: Source,
    entry: Entry,
    upcasts: Upcasts,
}

impl EventView {
    /// The event.
    #[inline]
    pub fn event(&self) -> EventRef<'_> {
        let Some(event) = EventRef::at(&self.source, &self.entry, &self.upcasts, 0) else {
            unreachable!("the memory holds the event: it did when the view was made")
        };
        event
    }
}
