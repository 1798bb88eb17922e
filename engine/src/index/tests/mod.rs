//! Tests of the live index, against an obvious model out of the standard library's collections.
//!
//! Owns the model and how both are filled. The tests stand by what they ask: `model`, `readers`. Those of the
//! sealed part are in `files`.

mod model;
mod readers;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::live::Head;
use super::*;

/// One event of a model log.
pub(super) struct ModelEvent {
    offset: u32,
    stream: Vec<u8>,
    hash: TermHash,
    version: u64,
}

/// A log as a plain list, and each stream's ordinals with the version of its first event.
#[derive(Default)]
pub(super) struct Model {
    events: Vec<ModelEvent>,
    streams: BTreeMap<Vec<u8>, (TermHash, u64, Vec<u32>)>,
}

/// How a model's log is drawn.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    events: usize,
    streams: usize,
    /// All hashes come from so many; zero gives each term its own.
    hashes: u64,
}

pub(super) const SEGMENT_BYTES: u64 = 1 << 20;
impl Model {
    pub(super) fn draw(shape: Shape, rng: &mut fastrand::Rng) -> Self {
        let mut model = Self::default();
        let mut offset = 768;
        for ordinal in 0..shape.events {
            // Small numbers are drawn more often, so that some lists are long and many are short.
            let number = rng.usize(..shape.streams).min(rng.usize(..shape.streams));
            let stream = if rng.u8(..4) == 0 { 0 } else { number };
            let name = format!("stream-{stream}").into_bytes();
            let hash = match shape.hashes {
                0 => Term::stream(&name).xxh3_64(),
                // Spread over the whole range, with the extremes among them.
                hashes => TermHash((stream as u64 % hashes).wrapping_mul(u64::MAX / hashes.max(2))),
            };
            let first_version = if stream.is_multiple_of(3) { 0 } else { stream as u64 * 100 };
            let (_, _, ordinals) =
                model.streams.entry(name.clone()).or_insert((hash, first_version, Vec::new()));
            let version = first_version + ordinals.len() as u64;
            ordinals.push(u32::try_from(ordinal).unwrap());
            model.events.push(ModelEvent { offset, stream: name, hash, version });
            offset += rng.u32(5..40);
        }
        model
    }

    pub(super) fn live(&self) -> (LiveWriter, Arc<LiveIndex>) {
        let (mut writer, live) = LiveIndex::new(LiveRoom::for_all_of(SEGMENT_BYTES));
        for event in &self.events {
            let ordinal = writer.push_event(event.offset.into());
            writer.insert(event.hash, Term::stream(&event.stream), ordinal, event.version);
        }
        (writer, live)
    }
}
