//! Entering an event that was read back into a live index: every term that it has.
//!
//! What `append` does with an event that it claims, from its frame instead. The loader of a tail calls it, and
//! whoever builds the index of a sealed segment again.

use smallvec::SmallVec;

use crate::event::category;
use crate::format::definition::EventType;
use crate::format::extent::Extent;
use crate::format::frame::Frame;
use crate::index::{LiveWriter, Term, TermHash};

/// The version of an event does not follow that of its stream's last one.
#[derive(Debug)]
pub(crate) struct Gap;

/// Enters the next event, which lies there and whose stream has this hash.
///
/// # Errors
/// [`Gap`]; the index is of no use then.
pub(crate) fn enter(
    writer: &mut LiveWriter,
    extent: Extent,
    stream_hash: TermHash,
    frame: &Frame<'_>,
    event_type: &EventType,
) -> Result<(), Gap> {
    let ordinal = writer.push_event(extent.word());
    let (stream, version) = (Term::stream(frame.stream_bytes()), frame.version());
    match writer.find(stream_hash, stream) {
        Some(id) if writer.head(id).next_version() == version => {
            writer.append(id, ordinal..ordinal + 1);
        }
        Some(_) => return Err(Gap),
        None => drop(writer.create(stream_hash, stream, ordinal, version)),
    }
    if let Some(category) = category(frame.stream()) {
        let hash = Term::category(category.as_bytes()).xxh3_64();
        writer.enter_category(hash, category.as_bytes(), ordinal..ordinal + 1);
        if version == 0 {
            let streams = Term::streams_of(category.as_bytes());
            writer.enter(streams.xxh3_64(), streams, ordinal..ordinal + 1);
        }
    }
    writer.enter_type(frame.type_ref(), event_type.name.as_bytes(), ordinal..ordinal + 1);
    let mut entered = SmallVec::<[TermHash; 8]>::new();
    for tag in frame.tags() {
        let hash = Term::tag(tag.as_bytes()).xxh3_64();
        // A tag that was given twice finds the event once.
        if !entered.contains(&hash) {
            entered.push(hash);
            writer.enter_tag(hash, ordinal);
        }
    }
    writer.enter_ids([Term::id(&frame.id()).xxh3_64()]);
    Ok(())
}
