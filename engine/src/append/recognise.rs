//! What it means that events with ids of an append are in the log: that it repeats the append that they came with, or
//! that it does not.
//!
//! Owns that comparison. The writer calls it with what `repeat` has found; it calls `read` for the store's own events,
//! whose ids nobody has chosen.

use std::sync::Arc;

use super::expect::Expect;
use super::receipt::Placed;
use super::request::Request;
use crate::error::{AppendError, EventExists, IdDifference};
use crate::event::Position;
use crate::format::frame::Frame;
use crate::read::{EventRef, EventView, Reads};

/// Some of a request's events, by their numbers, are in the log as these, which are durable; at least one. If it repeats
/// the append that they came with, where its events are.
///
/// # Errors
/// [`AppendError::EventIdExists`], if it does not; [`AppendError::Ids`].
pub(super) fn recognise(
    request: &mut Request,
    reads: &Arc<Reads>,
    mut found: Vec<(usize, EventView)>,
) -> Result<Placed, AppendError> {
    add_own(request, reads, &mut found)?;
    let found: Vec<_> = found.iter().map(|(number, view)| (*number, view.event())).collect();
    let first_position = judge(request, &found)?;
    Ok(Placed::of(request, first_position, true))
}

/// The store's own events among a request's, checkpoints, have ids of the store's: what stands where they would be is
/// added to what was found.
fn add_own(
    request: &Request,
    reads: &Arc<Reads>,
    found: &mut Vec<(usize, EventView)>,
) -> Result<(), AppendError> {
    let (number, first) = &found[0];
    let Some(first) = first.event().position().0.checked_sub(*number as u64) else { return Ok(()) };
    let mut begin = 0;
    for part in &request.parts {
        if request.targets[part.target].is_own() {
            let view = reads
                .event_at(first + begin as u64)
                .map_err(|source| AppendError::Ids { source })?;
            let name = &request.targets[part.target].name;
            let view = view.filter(|view| view.event().stream() == name.as_str());
            found.extend(view.map(|view| (begin, view)));
        }
        begin += part.events as usize;
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(())
}

/// Some of a request's events, by their numbers, are in the log as these. If it repeats what is there, the position of
/// the first one; the versions are noted in the request.
fn judge(request: &mut Request, found: &[(usize, EventRef<'_>)]) -> Result<u64, AppendError> {
    let differs = |event: &EventRef<'_>, difference| {
        Err(AppendError::EventIdExists(EventExists {
            id: event.id(),
            stream: event.stream().into(),
            version: event.version(),
            position: event.position(),
            difference,
        }))
    };
    let encoded = &request.encoded;
    for (number, event) in found {
        let own = encoded.frame(*number);
        if own.is_none_or(|own| own.stream_bytes() != event.stream().as_bytes()) {
            return differs(event, IdDifference::Stream);
        }
        let event_type = &encoded.types()[encoded.events[*number].event_type].event_type;
        let is_same =
            |own: Frame<'_>| own.kind() == event.frame_kind() && own.payload() == event.payload();
        if event_type != event.stored_type() || !own.is_some_and(is_same) {
            return differs(event, IdDifference::Content);
        }
    }
    let (first_number, first) = &found[0];
    let of = encoded.events.len();
    if found.len() < of {
        return differs(first, IdDifference::Part { present: found.len(), of });
    }
    debug_assert_eq!(*first_number, 0, "all of them are there, in their order");
    let first_position = first.position().0;
    for ((number, event), position) in found.iter().zip(first_position..) {
        debug_assert_eq!(position, first_position + *number as u64);
        if event.position() != Position(position) {
            return differs(event, IdDifference::Place);
        }
    }
    let mut seen = vec![false; request.targets.len()];
    let mut begin = 0;
    for part in &mut request.parts {
        let event = &found[begin].1;
        part.first_version = event.version();
        let is_first = !std::mem::replace(&mut seen[part.target as usize], true);
        let expected = match request.targets[part.target].expect {
            Expect::NoStream => Some(0),
            Expect::Version(version) => Some(version.saturating_add(1)),
            Expect::Any | Expect::Exists => None,
        };
        if is_first && expected.is_some_and(|expected| expected != event.version()) {
            return differs(event, IdDifference::Place);
        }
        begin += part.events as usize;
    }
    // Those of the store's own events are others than at first.
    for (id, (_, event)) in request.encoded.ids.iter_mut().zip(found) {
        *id = event.id();
    }
    Ok(first_position)
}
