//! Events on their way into the log.

use serde::Serialize;

use super::{EventId, InvalidName, NamePart, Timestamp, check_user_name};
use crate::format::constants::{RECORD_BYTES, RECORD_JSON, RECORD_RKYV};
use crate::limits::{METADATA_BYTES_MAX, TAGS_MAX};
use crate::read::EventRef;
use crate::typed::{Event, Fingerprint, Form, PayloadError};

/// How a payload is to be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PayloadKind {
    /// Bytes that only the user understands.
    Bytes,
    /// JSON text, kept as it was given.
    Json,
    /// A value that was archived by rkyv, of a type with a version and a layout: see [`Event`](trait@Event).
    Archived,
}

impl PayloadKind {
    pub(crate) fn record_kind(self) -> u8 {
        match self {
            Self::Bytes => RECORD_BYTES,
            Self::Json => RECORD_JSON,
            Self::Archived => RECORD_RKYV,
        }
    }

    /// That of a frame, whose structure was checked.
    #[inline]
    pub(crate) fn of_record(kind: u8) -> Self {
        match kind {
            RECORD_JSON => Self::Json,
            RECORD_RKYV => Self::Archived,
            _ => Self::Bytes,
        }
    }
}

/// An event that cannot be made or appended; nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A name breaks the rules for names.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The payload does not serialise to JSON, or the text is none.
    #[error("the payload is no JSON")]
    Json(#[source] serde_json::Error),
    /// The value of a typed event cannot be written.
    #[error("the payload of {event_type:?} cannot be written: {why}")]
    Payload {
        /// The event's type.
        event_type: Box<str>,
        /// What is wrong. Told in the message, so it is no `source`.
        why: PayloadError,
    },
    /// The value of which a [`NewEvent`] was made cannot be written.
    #[error("the payload of {event_type:?} could not be written: {why}")]
    Unwritable {
        /// The event's type.
        event_type: Box<str>,
        /// What is wrong.
        why: Box<str>,
    },
    /// An archived payload has no version, which begin with 1, or no layout.
    #[error(
        "the archived payload of {event_type:?} has version 0, or no fingerprint of its layout"
    )]
    Version {
        /// The event's type.
        event_type: Box<str>,
    },
    /// More than [`TAGS_MAX`] tags.
    #[error("an event may have {TAGS_MAX} tags, this one has {count}")]
    Tags {
        /// How many it has.
        count: usize,
    },
    /// More than [`METADATA_BYTES_MAX`] bytes of metadata.
    #[error("an event's metadata may have {METADATA_BYTES_MAX} bytes, here it has {bytes}")]
    Metadata {
        /// How many it has.
        bytes: usize,
    },
}

/// An event to append: a type, a payload, and what is said about them.
///
/// ```
/// use serde_json::json;
/// use stratalog::{NewEvent, Timestamp};
///
/// let event = NewEvent::json("ticket-assigned", &json!({"resource": "Ann"}))?
///     .at(Timestamp::now())
///     .tag("customer:7")
///     .metadata(b"from the web form".as_slice());
/// assert_eq!(event.payload(), br#"{"resource":"Ann"}"#);
/// # Ok::<(), stratalog::EncodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    pub(crate) event_type: Box<str>,
    pub(crate) kind: PayloadKind,
    /// The version of the payload's structure, 0 where it has none.
    pub(crate) schema_version: u32,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) payload: Vec<u8>,
    /// Why the payload could not be made: said when it is appended.
    pub(crate) flaw: Option<Box<str>>,
    pub(crate) id: Option<EventId>,
    pub(crate) occurred_at: Option<Timestamp>,
    pub(crate) correlation: Option<EventId>,
    pub(crate) causation: Option<EventId>,
    pub(crate) tags: Vec<Box<str>>,
    pub(crate) metadata: Vec<u8>,
}

impl NewEvent {
    /// An event with a payload of bytes. The bounds of names and sizes are checked when it is appended.
    pub fn bytes(event_type: impl Into<Box<str>>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            event_type: event_type.into(),
            kind: PayloadKind::Bytes,
            schema_version: 0,
            fingerprint: Fingerprint::NONE,
            payload: payload.into(),
            flaw: None,
            id: None,
            occurred_at: None,
            correlation: None,
            causation: None,
            tags: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// An event of a type, with its tags. What would go wrong in writing it (JSON of a map whose keys are no text, say) is
    /// [`EncodeError::Unwritable`] when it is appended.
    ///
    /// ```
    /// # use stratalog::rkyv::{Archive, Deserialize, Serialize};
    /// use stratalog::{Event, NewEvent};
    ///
    /// #[derive(Event, Archive, Serialize, Deserialize)]
    /// #[rkyv(crate = stratalog::rkyv)]
    /// #[event(name = "measured", version = 1, tag = "room:{room}")]
    /// struct Measured {
    ///     room: u16,
    ///     degrees: f32,
    /// }
    ///
    /// let event = NewEvent::of(&Measured { room: 3, degrees: 21.5 }).tag("floor:2");
    /// assert!(event.iter_tags().eq(["room:3", "floor:2"]));
    /// ```
    pub fn of<E: Event>(event: &E) -> Self {
        let mut payload = Vec::new();
        let written = <E::Form as Form<E>>::write(event, &mut payload);
        let mut new = Self {
            kind: <E::Form as Form<E>>::KIND,
            schema_version: E::VERSION,
            fingerprint: E::FINGERPRINT,
            flaw: written.err().map(|error| error.to_string().into()),
            ..Self::bytes(E::NAME, payload)
        };
        event.tags(&mut |tag| new.tags.push(tag.to_string().into()));
        new
    }

    /// An event with a payload that was archived before, by a type with this version and fingerprint: to copy it from
    /// elsewhere. Nothing of the payload is checked before it is read.
    ///
    /// # Errors
    /// [`EncodeError::Version`], where the version is 0 or the fingerprint is none.
    pub fn archived(
        event_type: impl Into<Box<str>>,
        version: u32,
        fingerprint: Fingerprint,
        payload: impl Into<Vec<u8>>,
    ) -> Result<Self, EncodeError> {
        let kind = PayloadKind::Archived;
        let bytes = Self::bytes(event_type, payload);
        if version == 0 || fingerprint == Fingerprint::NONE {
            return Err(EncodeError::Version { event_type: bytes.event_type });
        }
        Ok(Self { kind, schema_version: version, fingerprint, ..bytes })
    }

    /// Says of a payload of JSON which version its structure has; 0, the default, says none.
    #[must_use]
    pub fn json_version(mut self, version: u32) -> Self {
        if self.kind == PayloadKind::Json {
            self.schema_version = version;
        }
        self
    }

    /// An event whose payload is `value` as JSON.
    ///
    /// # Errors
    /// [`EncodeError::Json`], where `value` does not serialise.
    pub fn json(
        event_type: impl Into<Box<str>>,
        value: &impl Serialize,
    ) -> Result<Self, EncodeError> {
        let payload = serde_json::to_vec(value).map_err(EncodeError::Json)?;
        Ok(Self { kind: PayloadKind::Json, ..Self::bytes(event_type, payload) })
    }

    /// An event whose payload is this JSON text, byte for byte.
    ///
    /// ```
    /// # use stratalog::NewEvent;
    /// let event = NewEvent::json_text("measured", r#"{ "degrees": 21.50 }"#)?;
    /// assert_eq!(event.payload(), br#"{ "degrees": 21.50 }"#);
    /// assert!(NewEvent::json_text("measured", "{").is_err());
    /// # Ok::<(), stratalog::EncodeError>(())
    /// ```
    ///
    /// # Errors
    /// [`EncodeError::Json`], where the text is no JSON.
    pub fn json_text(
        event_type: impl Into<Box<str>>,
        text: impl Into<String>,
    ) -> Result<Self, EncodeError> {
        let text = text.into();
        serde_json::from_str::<serde::de::IgnoredAny>(&text).map_err(EncodeError::Json)?;
        Ok(Self { kind: PayloadKind::Json, ..Self::bytes(event_type, text) })
    }

    /// Gives it an id, so that a repeated append of it is recognised: an id is in the log at most once. An append
    /// whose events are all there already, in one piece and in this order, gives the receipt of the first time;
    /// whatever else brings an id again is [`AppendError::EventIdExists`](crate::AppendError::EventIdExists).
    /// Default: a new id, which is not looked for.
    ///
    /// A UUID of version 7 is best: it says when it was made, which bounds how far back it is looked for. It may be
    /// at most
    /// [`ID_AHEAD_MAX`](crate::limits::ID_AHEAD_MAX) ahead of the store's clock. For others see
    /// [`Options::id_lookback`](crate::Options::id_lookback).
    ///
    /// ```
    /// # use stratalog::{EventId, Expect, NewEvent, Store, disk::MemoryDisk};
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// let paid = NewEvent::bytes("paid", b"9.50".as_slice()).id(EventId::random());
    /// let first = store.append("invoice-4", Expect::NoStream, [&paid]).wait()?;
    /// let again = store.append("invoice-4", Expect::NoStream, [&paid]).wait()?;
    /// assert!(again.is_repeated());
    /// assert_eq!(again, first);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// As [`NewEvent::id`], for an event that is used again.
    ///
    /// ```
    /// # use stratalog::{EventId, NewEvent};
    /// let mut event = NewEvent::bytes("measured", b"21".as_slice());
    /// event.set_id(EventId::random());
    /// ```
    pub fn set_id(&mut self, id: EventId) {
        self.id = Some(id);
    }

    /// Says when it happened, where that is not when it is recorded.
    #[must_use]
    pub fn at(mut self, occurred_at: impl Into<Timestamp>) -> Self {
        self.occurred_at = Some(occurred_at.into());
        self
    }

    /// Adds a tag. At most [`TAGS_MAX`], each of 1 to 256 bytes.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<Box<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds tags.
    #[must_use]
    pub fn tags<T: Into<Box<str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Puts these tags in the place of those that it has; their bounds are those of [`NewEvent::tag`]. It
    /// is for an event that is used again, as [`NewEvent::payload_mut`] is: a tag that is as long as the
    /// one that had its place allocates nothing.
    ///
    /// ```
    /// # use stratalog::NewEvent;
    /// let mut event = NewEvent::bytes("measured", b"21".as_slice()).tags(["room:1", "floor:2"]);
    /// event.set_tags(["room:7"]);
    /// assert!(event.iter_tags().eq(["room:7"]));
    /// ```
    pub fn set_tags<T: AsRef<str>>(&mut self, tags: impl IntoIterator<Item = T>) {
        let mut count = 0;
        for tag in tags {
            let before = self.tags.get_mut(count).map(std::mem::take).unwrap_or_default();
            let mut text = before.into_string();
            text.clear();
            text.push_str(tag.as_ref());
            match self.tags.get_mut(count) {
                Some(place) => *place = text.into(),
                None => self.tags.push(text.into()),
            }
            count += 1;
        }
        self.tags.truncate(count);
    }

    /// Says that `other` is its cause: its causation is `other`'s id, and its correlation that of
    /// `other`, or `other`'s id where that has none.
    #[must_use]
    pub fn caused_by(self, other: EventRef<'_>) -> Self {
        let correlation = other.correlation().unwrap_or_else(|| other.id());
        self.causation(other.id()).correlation(correlation)
    }

    /// Sets the id of the event that caused it.
    #[must_use]
    pub fn causation(mut self, id: EventId) -> Self {
        self.causation = Some(id);
        self
    }

    /// Sets the id of what it belongs to.
    #[must_use]
    pub fn correlation(mut self, id: EventId) -> Self {
        self.correlation = Some(id);
        self
    }

    /// Sets bytes that only the user understands; at most 64 KiB. Empty is the same as none.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<Vec<u8>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// Its type.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Its tags, in the order in which they were given.
    pub fn iter_tags(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tags.iter().map(|tag| &**tag)
    }

    /// Its payload.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Its payload, to be changed. An event that is appended by reference can so be used again for the
    /// next one, which spares its allocations. One of JSON has to be left JSON: that is not checked again.
    ///
    /// ```
    /// # use stratalog::NewEvent;
    /// let mut event = NewEvent::bytes("measured", b"21".as_slice());
    /// event.payload_mut().clear();
    /// event.payload_mut().extend_from_slice(b"22");
    /// assert_eq!(event.payload(), b"22");
    /// ```
    pub fn payload_mut(&mut self) -> &mut Vec<u8> {
        &mut self.payload
    }

    /// How its payload is to be understood.
    pub fn payload_kind(&self) -> PayloadKind {
        self.kind
    }

    pub(crate) fn check(&self) -> Result<(), EncodeError> {
        if let Some(flaw) = &self.flaw {
            return Err(EncodeError::Unwritable {
                event_type: self.event_type.clone(),
                why: flaw.clone(),
            });
        }
        check_user_name(NamePart::EventType, &self.event_type)?;
        if self.tags.len() > TAGS_MAX {
            return Err(EncodeError::Tags { count: self.tags.len() });
        }
        for tag in &self.tags {
            check_user_name(NamePart::Tag, tag)?;
        }
        if self.metadata.len() > METADATA_BYTES_MAX {
            return Err(EncodeError::Metadata { bytes: self.metadata.len() });
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    #[test]
    fn tags_that_are_set_take_the_place_of_all_that_were_there() {
        let mut event = NewEvent::bytes("t", b"".as_slice()).tag("first").tag("second");
        for tags in [&["a", "much longer than before", "ü"][..], &["b"], &[], &["c", "d"]] {
            event.set_tags(tags);
            assert!(event.iter_tags().eq(tags.iter().copied()), "{tags:?}");
            assert_eq!(event.iter_tags().len(), tags.len());
        }
    }

    #[test]
    fn a_tag_that_is_as_long_as_the_one_before_takes_its_memory() {
        let mut event = NewEvent::bytes("t", b"".as_slice()).tag("room:1");
        let memory = event.tags[0].as_ptr();
        event.set_tags(["room:2"]);
        assert_eq!((&*event.tags[0], event.tags[0].as_ptr()), ("room:2", memory));
    }
}
