//! What is to be appended and checked as one unit: streams and what is expected of them, conditions, and events.
//!
//! Put together by `Store::append`, `Store::check` and `Transaction`, on the caller's thread; nothing of it is in the
//! log before the sequencer has given it its place. Calls `encode` and `targets`.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::conditions::Conditions;
use super::encode::{Encoded, EventEncoder, ToEvent};
use super::expect::Expect;
use super::repeat::Repeat;
use super::targets::Targets;
use super::writer::Writer;
use crate::commit::Manner;
use crate::error::AppendError;
use crate::event::{EncodeError, NamePart, NewEvent, Timestamp, check_stream, check_user_name};
use crate::limits::{APPEND_BYTES_MAX, APPEND_EVENTS_MAX, APPEND_TAGS_MAX, WITHIN_MAX};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// The streams that it is about.
    pub targets: Targets,
    /// Which of the events are for which of them: their order is that of the parts.
    pub parts: SmallVec<[Part; 1]>,
    /// What else must hold; most appends have nothing.
    pub conditions: Option<Box<Conditions>>,
    /// Whether its events are in the log already, where that may be.
    pub repeat: Option<Box<Repeat>>,
    pub encoded: Encoded,
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

/// Neighbouring events that are for the same stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// The stream's place among the targets.
    pub target: u32,
    /// How many events; never none.
    pub events: u32,
    /// The version of the first of them, once it has its place.
    pub first_version: u64,
}

impl Request {
    /// Adds events for a stream, behind those that it has.
    ///
    /// # Errors
    /// [`AppendError`], where a bound is broken.
    pub(super) fn add<E: ToEvent>(
        &mut self,
        stream: &str,
        expect: Expect,
        events: impl IntoIterator<Item = E>,
        writer: Option<&Writer>,
    ) -> Result<(), AppendError> {
        check_user_name(NamePart::Stream, stream).map_err(EncodeError::Name)?;
        let target = self.targets.enter(stream, expect)?;
        let hash = self.targets[target].hash;
        // The sequence step would wait for memory under its lock; so that is fetched beside the encoding, each step
        // towards it a while after the one before.
        let newest = writer.map(Writer::newest_index);
        let newest = newest.as_ref().and_then(|newest| newest.as_deref());
        newest.inspect(|index| index.near_bucket(hash));
        let now = Timestamp::now();
        self.recorded_at = Some(now.0);
        newest.inspect(|index| index.near_term(hash));
        let encoded = &mut self.encoded;
        let before = encoded.events.len();
        for event in events {
            event.encode(&mut EventEncoder { stream, now, encoded })?;
            check_bounds(encoded, stream, writer)?;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most APPEND_EVENTS_MAX")]
        let events = (encoded.events.len() - before) as u32;
        if events == 0 {
            return Err(AppendError::Empty { stream: stream.into() });
        }
        self.parts.push(Part { target, events, first_version: 0 });
        newest.inspect(|index| index.near_posting(hash));
        Ok(())
    }

    /// Adds one event for a stream of the store's own.
    ///
    /// # Errors
    /// [`AppendError`], where the stream's name is none, or a bound is broken.
    pub(super) fn add_own(
        &mut self,
        stream: &str,
        expect: Expect,
        event: &NewEvent,
        writer: Option<&Writer>,
    ) -> Result<(), AppendError> {
        check_stream(stream).map_err(EncodeError::Name)?;
        let target = self.targets.enter(stream, expect)?;
        let now = Timestamp::now();
        let encoded = &mut self.encoded;
        EventEncoder { stream, now, encoded }.push_checked(event);
        check_bounds(encoded, stream, writer)?;
        self.parts.push(Part { target, events: 1, first_version: 0 });
        Ok(())
    }

    /// Adds an expectation of a stream.
    ///
    /// # Errors
    /// [`AppendError`], where the name is none, or it contradicts another.
    pub(super) fn expect(&mut self, stream: &str, expect: Expect) -> Result<(), AppendError> {
        check_stream(stream).map_err(EncodeError::Name)?;
        self.targets.enter(stream, expect).map(drop)
    }

    /// Everything was added.
    ///
    /// # Errors
    /// [`AppendError::IdTwice`].
    pub(super) fn complete(&mut self) -> Result<(), AppendError> {
        if self.encoded.ids_chosen {
            self.repeat = Some(Box::new(Repeat::of(&self.encoded)?));
        }
        Ok(())
    }

    /// Makes it one for nothing, and keeps buffers of a usual size.
    pub(super) fn clear(&mut self) {
        self.targets.clear();
        self.parts.clear();
        self.parts.shrink_to_fit();
        (self.conditions, self.repeat) = (None, None);
        self.encoded.clear();
        (self.recorded_at, self.within) = (None, None);
        (self.blocks, self.asked_for_segment) = (false, false);
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

/// Whether what was encoded so far, the last of it for a stream, is no more than may be appended.
fn check_bounds(
    encoded: &Encoded,
    stream: &str,
    writer: Option<&Writer>,
) -> Result<(), AppendError> {
    let bytes_max = writer.map_or(APPEND_BYTES_MAX, Writer::bytes_max);
    let bytes = encoded.bytes();
    if encoded.events.len() > APPEND_EVENTS_MAX {
        return Err(AppendError::TooManyEvents { stream: stream.into() });
    }
    if bytes > bytes_max {
        return Err(AppendError::TooLarge { stream: stream.into(), bytes, bytes_max });
    }
    if encoded.tags.len() > APPEND_TAGS_MAX {
        return Err(AppendError::TooManyTags { stream: stream.into() });
    }
    Ok(())
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

    fn append(events: Vec<Several>) -> Result<(), AppendError> {
        Request::default().add("stream", Expect::Any, events, None)
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
        let mut buffers = Encoded::default();
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
