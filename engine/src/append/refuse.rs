//! What an append is refused with that is not as things are.
//!
//! Owns which of a stream's two ends an answer speaks of: that of what is claimed, by which the sequence step judges, or
//! that of what is durable, which is all that an answer may rest on. Where the two judge a request alike, the answer is
//! given at once, of what is durable; else it is the one of what is claimed, and is told when that is durable. The writer
//! calls it, without its lock; it asks `read` for what is durable.

use std::sync::Arc;

use super::expect::Expect;
use super::request::Request;
use super::targets::Target;
use crate::error::{Conflict, FailedCheck, StreamConflict};
use crate::read::Reads;

/// The failed checks of a request that the sequence step has judged, once everything that it rests on is durable.
pub(super) fn refused_by_claimed(request: &Request) -> Conflict {
    let is_other = |target: &&Target| !target.is_as_expected();
    let streams = request.targets.iter().filter(is_other);
    conflict(request, streams.map(|target| failed(target, target.head.last())))
}

/// The failed checks of a request that the sequence step has judged by what is up to a position; none where what is
/// durable of that judges it otherwise.
///
/// The answer is one of a moment within the call: of what is claimed behind the watermark nobody was told that it is durable
/// when that was read, and behind the position nothing was claimed when the sequence step judged.
pub(super) fn refused_by_durable(request: &Request, reads: &Reads, upto: u64) -> Option<Conflict> {
    // In this order: what is sealed by then is durable. It may have been claimed later than `upto`.
    let catalog = reads.catalogs.load();
    let durable = reads.watermark.get().min(upto);
    if catalog.sealed_end() > durable {
        return None;
    }
    if let Some(conditions) = &request.conditions {
        conditions.check_positions(durable).ok()?;
    }
    let mut streams = Vec::new();
    for target in request.targets.iter() {
        if target.expect == Expect::Any {
            continue;
        }
        let actual = if target.head.may_be_claimed() {
            // Where that cannot be read it is not known, and the answer is another one.
            reads.catalogs.head_in(&catalog, &target.name, durable).ok()?
        } else {
            target.head.last()
        };
        if target.expect.holds(actual) != target.is_as_expected() {
            return None;
        }
        if !target.is_as_expected() {
            streams.push(failed(target, actual));
        }
    }
    if !Arc::ptr_eq(&catalog, &reads.catalogs.load()) {
        // A run that was replaced may have been looked for in a later one, which has more.
        return None;
    }
    // A condition that has failed rests on what is durable, and one that has not would not have failed earlier.
    Some(conflict(request, streams.into_iter()))
}

fn conflict(request: &Request, streams: impl Iterator<Item = FailedCheck>) -> Conflict {
    Conflict::new(streams.chain(conditions(request)))
}

fn conditions(request: &Request) -> impl Iterator<Item = FailedCheck> {
    let conditions = request.conditions.iter().flat_map(|conditions| conditions.failed());
    conditions.map(FailedCheck::Condition)
}

fn failed(target: &Target, actual: Option<u64>) -> FailedCheck {
    FailedCheck::Stream(StreamConflict {
        stream: target.name.as_str().into(),
        expected: target.expect,
        actual,
        claimed: target.head.last(),
    })
}
