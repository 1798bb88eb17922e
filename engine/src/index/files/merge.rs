//! Merging neighbouring runs into one.
//!
//! Owns how terms and ids of several runs become those of one: equal terms are one, with the postings of
//! all, moved by where their run begins. The dictionaries are walked twice, first to count, so that all
//! sections but the last have their places before anything is written; nothing of the inputs is kept in
//! memory. It calls `run_writer` and reads through `run`; the job that keeps the number of runs low calls
//! it.

use std::iter::Peekable;
use std::ops::Deref;

use thiserror::Error;

use super::super::damage::{IndexDamage, structure};
use super::super::term::TermHash;
use super::layout::Stamp;
use super::postings::{SealedPostings, list_bytes_min};
use super::records::IdEntry;
use super::run::TermRun;
use super::run_writer::{Figures, RunWriter, SourceDamage, WriteError};

/// Why runs were not merged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum MergeError<E> {
    /// An input is damaged: discard it and build it again from the log.
    #[error("run {input} of those to be merged is damaged: {damage}")]
    Damage { input: usize, damage: IndexDamage },
    /// An input does not begin where the one before ends, or the stamp is not that of all together.
    #[error("run {input} of those to be merged does not stand where the others leave off")]
    Apart { input: usize },
    /// More events, terms or postings than 32 bits can number: these runs stay apart.
    #[error("the merged run would be too large")]
    TooLarge,
    /// The sink failed.
    #[error("a merged run was not written")]
    Sink(E),
}

impl<E> From<WriteError<SourceDamage, E>> for MergeError<E> {
    fn from(error: WriteError<SourceDamage, E>) -> Self {
        match error {
            WriteError::Source(SourceDamage { input, damage }) => Self::Damage { input, damage },
            WriteError::TooLarge => Self::TooLarge,
            WriteError::Sink(error) => Self::Sink(error),
        }
    }
}

/// Merges neighbouring runs, in their order, into one with this stamp, and gives its file's length.
///
/// The file is given to `sink` in pieces: an offset and whole pages, at most
/// [`PIECE_BYTES`](super::PIECE_BYTES). Each page is given once, in no order but that the header is the
/// last: what was written before an error is not a file. `go_on` is asked now and then, and may end it by an
/// error, which comes back as [`MergeError::Sink`].
pub(crate) fn merge<M, E>(
    inputs: &[&TermRun<M>],
    stamp: &Stamp,
    go_on: &impl Fn() -> Result<(), E>,
    sink: &mut impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<u64, MergeError<E>>
where
    M: Deref<Target = [u8]>,
{
    let shifts = shifts(inputs, stamp)?;
    let (terms, postings_bytes_min) = count(inputs, go_on)?;
    if postings_bytes_min > u32::MAX.into() {
        return Err(MergeError::TooLarge);
    }
    let mut writer = RunWriter::new(stamp, terms, sink).ok_or(MergeError::TooLarge)?;
    let mut written = 0;
    let mut dictionaries = Dictionaries::new(inputs);
    while let Some((hash, kind_code, count)) = dictionaries.next_term()? {
        written += 1;
        if written > terms {
            break;
        }
        ask(written, go_on)?;
        let count = u32::try_from(count).map_err(|_| MergeError::TooLarge)?;
        let lists = || {
            let lists = dictionaries.lists.iter();
            lists.flat_map(|(input, list)| moved(*list, *input, shifts[*input]))
        };
        writer.term(hash, kind_code, count, lists)?;
    }
    if written != terms {
        // The file under an input was changed between the two walks.
        let damage = structure("number of terms", written);
        return Err(MergeError::Damage { input: 0, damage });
    }
    merge_ids(inputs, &shifts, go_on, |id| writer.id(id))?;
    let headers = || inputs.iter().map(|run| run.header());
    let figures = Figures {
        streams_created: headers()
            .fold(0, |sum: u64, header| sum.saturating_add(header.streams_created)),
        least_id: headers().map(|header| header.least_id).min().unwrap_or([0xff; 16]),
        greatest_id: headers().map(|header| header.greatest_id).max().unwrap_or([0; 16]),
    };
    writer.finish(&figures).map_err(MergeError::Sink)
}

/// What each input's ordinals are moved by: where it begins in the merged run.
fn shifts<M, E>(inputs: &[&TermRun<M>], stamp: &Stamp) -> Result<Vec<u32>, MergeError<E>>
where
    M: Deref<Target = [u8]>,
{
    let mut shifts = Vec::with_capacity(inputs.len());
    let mut events = 0_u64;
    for (input, run) in inputs.iter().enumerate() {
        if stamp.first_position.checked_add(events) != Some(run.first_position()) {
            return Err(MergeError::Apart { input });
        }
        shifts.push(u32::try_from(events).map_err(|_| MergeError::TooLarge)?);
        events += u64::from(run.events());
    }
    u32::try_from(events).map_err(|_| MergeError::TooLarge)?;
    if events != stamp.events {
        return Err(MergeError::Apart { input: inputs.len() });
    }
    Ok(shifts)
}

/// How many terms the merged run has, and the fewest bytes that its postings can take.
fn count<M, E>(
    inputs: &[&TermRun<M>],
    go_on: &impl Fn() -> Result<(), E>,
) -> Result<(u64, u64), MergeError<E>>
where
    M: Deref<Target = [u8]>,
{
    let mut dictionaries = Dictionaries::new(inputs);
    let (mut terms, mut bytes) = (0, 0_u64);
    while let Some((_, _, count)) = dictionaries.next_term()? {
        terms += 1;
        ask(terms, go_on)?;
        // More postings than events of the merged run, which are fewer than 2^32, are in no honest list.
        let count = u32::try_from(count).map_err(|_| MergeError::TooLarge)?;
        bytes = bytes.saturating_add(list_bytes_min(count));
    }
    Ok((terms, bytes))
}

/// The ordinals of a list as the merged run has them.
fn moved(
    list: SealedPostings<'_>,
    input: usize,
    shift: u32,
) -> impl Iterator<Item = Result<u32, SourceDamage>> {
    let mut before = None;
    list.forward(0).map(move |ordinal| {
        let ordinal = ordinal.map_err(|damage| SourceDamage { input, damage })?;
        if before.replace(ordinal) >= Some(ordinal) {
            let damage = structure("order of postings", ordinal);
            return Err(SourceDamage { input, damage });
        }
        // Below the number of events of all inputs.
        Ok(ordinal.wrapping_add(shift))
    })
}

type TermOfInput<'a> = Result<(TermHash, u8, SealedPostings<'a>), IndexDamage>;

/// The dictionaries of all inputs, side by side.
struct Dictionaries<'a> {
    /// What is left of each, by the number of the input.
    rest: Vec<Peekable<Box<dyn Iterator<Item = TermOfInput<'a>> + 'a>>>,
    /// The last term's lists, each with the number of its input.
    lists: Vec<(usize, SealedPostings<'a>)>,
    last: Option<(TermHash, u8)>,
}

impl<'a> Dictionaries<'a> {
    fn new<M: Deref<Target = [u8]>>(inputs: &[&'a TermRun<M>]) -> Self {
        let boxed = |run: &&'a TermRun<M>| Box::new(run.all_terms()) as Box<dyn Iterator<Item = _>>;
        let rest = inputs.iter().map(|run| boxed(run).peekable()).collect();
        Self { rest, lists: Vec::new(), last: None }
    }

    /// The next term with the number of its postings in all inputs; `lists` has them afterwards.
    fn next_term<E>(&mut self) -> Result<Option<(TermHash, u8, u64)>, MergeError<E>> {
        let mut least: Option<(TermHash, u8)> = None;
        for (input, rest) in self.rest.iter_mut().enumerate() {
            let Some(term) = rest.peek() else { continue };
            let (hash, kind_code, _) = term
                .as_ref()
                .map_err(|damage| MergeError::Damage { input, damage: damage.clone() })?;
            let order = (*hash, *kind_code);
            if self.last >= Some(order) {
                let damage = structure("order of the dictionary at hash", hash.0);
                return Err(MergeError::Damage { input, damage });
            }
            if least.is_none_or(|least| order < least) {
                least = Some(order);
            }
        }
        let Some(order) = least else { return Ok(None) };
        self.last = least;
        self.lists.clear();
        let mut count = 0;
        for (input, rest) in self.rest.iter_mut().enumerate() {
            let is_next = |term: &TermOfInput<'a>| matches!(term, Ok((hash, kind, _)) if (*hash, *kind) == order);
            if let Some(Ok((_, _, list))) = rest.next_if(is_next) {
                count += u64::from(list.len());
                self.lists.push((input, list));
            }
        }
        Ok(Some((order.0, order.1, count)))
    }
}

/// Calls with the ids of all inputs in the order of the merged run.
fn merge_ids<M, E>(
    inputs: &[&TermRun<M>],
    shifts: &[u32],
    go_on: &impl Fn() -> Result<(), E>,
    mut each: impl FnMut(IdEntry) -> Result<(), E>,
) -> Result<(), MergeError<E>>
where
    M: Deref<Target = [u8]>,
{
    let damaged = |input| move |damage| MergeError::Damage { input, damage };
    let mut rest: Vec<_> = inputs.iter().map(|run| run.all_ids()).collect();
    let mut heads = Vec::with_capacity(rest.len());
    for (input, ids) in rest.iter_mut().enumerate() {
        heads.push(ids.next().transpose().map_err(damaged(input))?);
    }
    for number in 1.. {
        ask(number, go_on)?;
        // Of equal keys the first input's is the least: its ordinals are below those of all behind it.
        let least = heads
            .iter()
            .enumerate()
            .filter_map(|(input, head)| head.map(|head| (head.key, input, head)))
            .min_by_key(|(key, input, _)| (*key, *input));
        let Some((_, input, head)) = least else { return Ok(()) };
        each(IdEntry { ordinal: head.ordinal.wrapping_add(shifts[input]), ..head })
            .map_err(MergeError::Sink)?;
        heads[input] = rest[input].next().transpose().map_err(damaged(input))?;
        if heads[input].is_some_and(|next| next <= head) {
            return Err(damaged(input)(structure("order of ids at key", head.key)));
        }
    }
    unreachable!("it ends with the last id")
}

/// Asks whether to go on, once for so many terms or ids.
fn ask<E>(number: u64, go_on: &impl Fn() -> Result<(), E>) -> Result<(), MergeError<E>> {
    const EVERY: u64 = 1024;
    if number.is_multiple_of(EVERY) { go_on().map_err(MergeError::Sink) } else { Ok(()) }
}
