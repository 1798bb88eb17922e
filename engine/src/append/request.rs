//! An append, encoded outside any lock: frames with holes where their place in the log goes.
//!
//! Made by `Store::append` on the caller's thread. Calls `event` for the rules and `format` for the bytes.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use compact_str::CompactString;
use smallvec::SmallVec;

use super::conditions::Conditions;
use super::expect::Expect;
use super::writer::Writer;
use crate::commit::Manner;
use crate::error::AppendError;
use crate::event::{
    EncodeError, EventId, NamePart, NewEvent, Timestamp, category, check_stream, check_user_name,
};
use crate::format::definition::EventType;
use crate::format::frame::FrameParts;
use crate::index::{Term, TermHash};
use crate::limits::{
    APPEND_BYTES_MAX, APPEND_EVENTS_MAX, APPEND_TAGS_MAX, ENCODED_KEPT_BYTES_MAX, ENCODED_KEPT_MAX,
    ENCODED_KEPT_TYPES_MAX, WITHIN_MAX,
};

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
    /// When it is encoded.
    now: Timestamp,
    encoded: &'a mut Encoded,
}

impl EventEncoder<'_> {
    /// Adds an event.
    ///
    /// # Errors
    /// [`EncodeError`], where a name or a size is beyond its bounds.
    pub fn push(&mut self, event: &NewEvent) -> Result<(), EncodeError> {
        event.check()?;
        // What could never be appended is not copied either, however much is pushed: it is known to be too
        // much, and refused by the exact bounds, when the event has encoded itself.
        if self.encoded.events.len() > APPEND_EVENTS_MAX
            || self.encoded.tags.len() > APPEND_TAGS_MAX
        {
            return Ok(());
        }
        let payload = event.payload.len() as u64;
        if self.encoded.bytes() + payload > APPEND_BYTES_MAX {
            self.encoded.oversized += payload;
            return Ok(());
        }
        let id = event.id.unwrap_or_else(|| EventId::random_at(self.now));
        let id_hash = Term::id(&id.0).xxh3_64();
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
        if !event.tags.is_empty() {
            encoded.note_tags(&event.tags);
        }
        parts.encode(&mut encoded.frames);
        encoded.ids.push(id);
        let (end, tags_end) = (encoded.frames.len(), encoded.tags.len());
        encoded.events.push(EncodedEvent { end, tags_end, event_type, id_hash });
        Ok(())
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
    pub id_hash: TermHash,
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

/// [`Encoded`] in memory that a thread's appends use one after the other: when it is dropped, it is kept
/// for the next one.
#[derive(Debug)]
pub(crate) struct Reused(Option<Box<Encoded>>);

thread_local! {
    /// What this thread's earlier appends have left. Never more than [`ENCODED_KEPT_MAX`].
    #[expect(clippy::vec_box, reason = "what is boxed goes from here to a request and back")]
    static KEPT: RefCell<Vec<Box<Encoded>>> = const { RefCell::new(Vec::new()) };
}

impl Reused {
    fn empty() -> Self {
        let kept = KEPT.try_with(|kept| kept.borrow_mut().pop());
        Self(Some(kept.ok().flatten().unwrap_or_default()))
    }
}

impl Deref for Reused {
    type Target = Encoded;

    fn deref(&self) -> &Encoded {
        self.0.as_ref().expect("it is taken out when it is dropped")
    }
}

impl DerefMut for Reused {
    fn deref_mut(&mut self) -> &mut Encoded {
        self.0.as_mut().expect("it is taken out when it is dropped")
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        let Some(mut encoded) = self.0.take() else { return };
        if encoded.frames.capacity() > ENCODED_KEPT_BYTES_MAX {
            return;
        }
        encoded.clear();
        // A thread that ends keeps nothing.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < ENCODED_KEPT_MAX {
                kept.push(encoded);
            }
        });
    }
}

impl Encoded {
    fn clear(&mut self) {
        self.frames.clear();
        self.events.clear();
        self.tags.clear();
        self.ids.clear();
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

    fn intern(&mut self, name: &str) -> usize {
        // Appends have few types: the last one found is nearly always the one.
        let known = self.types().iter().rposition(|known| *known.event_type.name == *name);
        if let Some(index) = known {
            return index;
        }
        let index = self.types_used;
        self.types_used += 1;
        match self.types.get(index) {
            Some(before) if *before.event_type.name == *name => {}
            _ => {
                let event_type = EventType { name: name.into(), schema_version: 0, fingerprint: 0 };
                self.types.truncate(index);
                let hash = event_type.xxh3();
                self.types.push(Numbered { event_type, hash, number: 0, is_new: false });
            }
        }
        self.types_bytes += self.types[index].event_type.encoded_bytes();
        index
    }
}

/// An append to one stream, or a check of one, ready to be sequenced.
#[derive(Debug)]
pub(crate) struct Request {
    pub stream: CompactString,
    pub stream_hash: TermHash,
    /// The hash of the term of the stream's category, and how long the category is, where there is one.
    category: Option<(TermHash, usize)>,
    pub expect: Expect,
    /// What else must hold; most appends have nothing.
    pub conditions: Option<Box<Conditions>>,
    pub encoded: Reused,
    /// The time at which it is sequenced, in nanoseconds since the Unix epoch; none once that time is over
    /// without its having got a place.
    pub recorded_at: Option<i64>,
    /// Whether a thread sleeps until it has ended.
    pub blocks: bool,
    /// The longest time until its write begins, where nobody waits for it.
    pub within: Option<Duration>,
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
        writer: Option<&Writer>,
    ) -> Result<Self, AppendError> {
        check_user_name(NamePart::Stream, stream).map_err(EncodeError::Name)?;
        let bytes_max = writer.map_or(APPEND_BYTES_MAX, Writer::bytes_max);
        let mut request = Self::new(stream, expect);
        // The sequence step would wait for memory under its lock; so that is fetched beside the encoding, each step
        // towards it a while after the one before.
        let newest = writer.map(Writer::newest_index);
        let newest = newest.as_ref().and_then(|newest| newest.as_deref());
        newest.inspect(|index| index.near_bucket(request.stream_hash));
        let now = Timestamp::now();
        request.recorded_at = Some(now.0);
        newest.inspect(|index| index.near_term(request.stream_hash));
        let encoded = &mut *request.encoded;
        for event in events {
            event.encode(&mut EventEncoder { stream, now, encoded })?;
            if encoded.events.len() > APPEND_EVENTS_MAX {
                return Err(AppendError::TooManyEvents { stream: stream.into() });
            }
            let bytes = encoded.bytes();
            if bytes > bytes_max {
                return Err(AppendError::TooLarge { stream: stream.into(), bytes, bytes_max });
            }
            if encoded.tags.len() > APPEND_TAGS_MAX {
                return Err(AppendError::TooManyTags { stream: stream.into() });
            }
        }
        if encoded.events.is_empty() {
            return Err(AppendError::Empty { stream: stream.into() });
        }
        newest.inspect(|index| index.near_posting(request.stream_hash));
        Ok(request)
    }

    /// A pure check.
    ///
    /// # Errors
    /// [`AppendError::Invalid`], where the name is none.
    pub(crate) fn check(stream: &str, expect: Expect) -> Result<Self, AppendError> {
        check_stream(stream).map_err(EncodeError::Name)?;
        Ok(Self::new(stream, expect))
    }

    fn new(stream: &str, expect: Expect) -> Self {
        let category = category(stream)
            .map(|category| (Term::category(category.as_bytes()).xxh3_64(), category.len()));
        Self {
            category,
            stream: stream.into(),
            stream_hash: Term::stream(stream.as_bytes()).xxh3_64(),
            expect,
            conditions: None,
            encoded: Reused::empty(),
            recorded_at: None,
            blocks: false,
            within: None,
            asked_for_segment: false,
        }
    }

    /// The stream's category with the hash of its term, where it has one.
    #[inline]
    pub(crate) fn category(&self) -> Option<(TermHash, &[u8])> {
        let (hash, bytes) = self.category?;
        Some((hash, self.stream.as_bytes().get(..bytes)?))
    }

    /// How it will be waited for.
    pub(crate) fn manner(&self) -> Manner {
        match self.within {
            Some(within) => Manner::Within(Instant::now() + within.min(WITHIN_MAX)),
            None if self.blocks => Manner::Blocks,
            None => Manner::Polls,
        }
    }

    pub(crate) fn is_check(&self) -> bool {
        self.encoded.events.is_empty()
    }
}

#[cfg(test)]
#[cfg(not(stratalog_loom))]
mod tests {
    use super::*;

    /// Pushes each of these into one append.
    struct Several(Vec<NewEvent>);

    impl ToEvent for Several {
        fn encode(&self, encoder: &mut EventEncoder<'_>) -> Result<(), EncodeError> {
            self.0.iter().try_for_each(|event| encoder.push(event))
        }
    }

    fn append(events: Vec<Several>) -> Result<Request, AppendError> {
        Request::append("stream", Expect::Any, events, None)
    }

    fn event(bytes: u64) -> NewEvent {
        NewEvent::bytes("t", vec![0; usize::try_from(bytes).unwrap()])
    }

    #[test]
    fn an_event_that_is_too_large_is_not_lost_behind_a_small_one() {
        let large = APPEND_BYTES_MAX + 1;
        let several = Several(vec![event(large), event(1)]);
        let refused = append(vec![several]);
        assert!(matches!(refused, Err(AppendError::TooLarge { bytes, .. }) if bytes > large));
    }

    #[test]
    fn what_is_too_much_is_counted_and_not_kept() {
        let mut buffers = Reused::empty();
        let mut encoder =
            EventEncoder { stream: "stream", now: Timestamp::now(), encoded: &mut buffers };
        let megabyte = event(1 << 20);
        for _ in 0..40 {
            encoder.push(&megabyte).unwrap();
        }
        assert!(buffers.bytes() > 40 << 20);
        assert!(buffers.frames.len() as u64 <= APPEND_BYTES_MAX + 4096);
        let several = Several((0..2 * APPEND_EVENTS_MAX).map(|_| event(0)).collect());
        assert!(matches!(append(vec![several]), Err(AppendError::TooManyEvents { .. })));
    }

    #[test]
    fn pushing_several_at_once_does_not_go_past_the_bound_of_events() {
        let most = || (0..APPEND_EVENTS_MAX).map(|_| event(0)).collect();
        assert!(append(vec![Several(most())]).is_ok());
        let over = append(vec![Several(most()), Several(vec![event(0)])]);
        assert!(matches!(over, Err(AppendError::TooManyEvents { .. })));
        let over = append(vec![Several(most().into_iter().chain([event(0)]).collect())]);
        assert!(matches!(over, Err(AppendError::TooManyEvents { .. })));
    }

    #[test]
    fn an_append_without_a_push_is_empty() {
        assert!(matches!(append(vec![Several(Vec::new())]), Err(AppendError::Empty { .. })));
    }
}
