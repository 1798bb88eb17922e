//! The oracle: what a store must show after whatever happened to it.
//!
//! Acknowledged is a subset of recovered, which is a subset of submitted; positions are dense; an append
//! is there with all its events or not at all; the versions of a stream are dense; every event is what
//! was appended; and every way of reading shows the same.

use std::collections::BTreeMap;

use stratalog::{
    EventRef, NewEvent, Query, ReadError, ReaderAll, ReaderQuery, ReaderStream, Store,
};

use crate::script::{Known, STREAMS, Script};

/// What a store holds, so that two openings can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// How many units of the script.
    pub units: usize,
    /// When each event was recorded, in the order of the log.
    pub recorded: Vec<i64>,
}

/// An event as far as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its position.
    pub position: u64,
    /// Its stream.
    pub stream: String,
    /// Its version in it.
    pub version: u64,
    /// When it was recorded.
    pub recorded: i64,
    /// The rest, as it was appended.
    pub event: NewEvent,
}

impl Seen {
    /// Copies what is compared.
    pub fn of(event: EventRef<'_>) -> Self {
        let copy = NewEvent::bytes(event.event_type(), event.payload())
            .id(event.id())
            .metadata(event.metadata());
        Self {
            position: event.position().get(),
            stream: event.stream().to_owned(),
            version: event.version(),
            recorded: event.recorded_at().as_nanos(),
            event: copy.tags(event.tags()),
        }
    }
}

/// All that a reader of everything gives.
///
/// # Errors
/// The reader's; what it gave before is lost.
pub fn all(mut reader: ReaderAll) -> Result<Vec<Seen>, ReadError> {
    let mut seen = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        seen.extend(batch.iter().map(Seen::of));
    }
    Ok(seen)
}

/// All that a reader of a stream gives.
///
/// # Errors
/// The reader's; what it gave before is lost.
pub fn stream(mut reader: ReaderStream) -> Result<Vec<Seen>, ReadError> {
    let mut seen = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        seen.extend(batch.iter().map(Seen::of));
    }
    Ok(seen)
}

/// Judges a store that was written by a script alone.
///
/// # Errors
/// What is wrong with it, in words.
pub fn judge(store: &Store, script: Script, known: Known) -> Result<Contents, String> {
    let forward = all(store.read_all().forward()).map_err(|error| format!("reading: {error}"))?;
    let mut rest = forward.as_slice();
    let mut heads: BTreeMap<String, u64> = BTreeMap::new();
    let (mut units, mut position, mut recorded) = (0, 0, i64::MIN);
    while !rest.is_empty() {
        let unit = script.unit(units);
        if rest.len() < unit.events.len() {
            return Err(format!("unit {units} is not whole: {} events", rest.len()));
        }
        let (events, behind) = rest.split_at(unit.events.len());
        for (seen, event) in events.iter().zip(&unit.events) {
            position += 1;
            let version = heads.entry(unit.stream.clone()).and_modify(|next| *next += 1);
            let version = *version.or_default();
            let right = seen.position == position
                && seen.stream == unit.stream
                && seen.version == version
                && seen.recorded >= recorded
                && seen.event == *event;
            if !right {
                return Err(format!("unit {units}, position {position}: {seen:?}"));
            }
            recorded = seen.recorded;
        }
        units += 1;
        rest = behind;
    }
    if units < known.acknowledged {
        return Err(format!("{units} units of {} acknowledged ones", known.acknowledged));
    }
    if units > known.submitted {
        return Err(format!("{units} units, but {} were submitted", known.submitted));
    }
    if store.head().get() != position {
        return Err(format!("head {} behind {position} events", store.head()));
    }
    let backward = all(store.read_all().backward()).map_err(|error| format!("back: {error}"))?;
    if !backward.iter().rev().eq(&forward) {
        return Err(format!("backwards there are {} of {position} events", backward.len()));
    }
    judge_streams(store, &forward, &heads)?;
    Ok(Contents { units, recorded: forward.iter().map(|seen| seen.recorded).collect() })
}

fn judge_streams(
    store: &Store,
    forward: &[Seen],
    heads: &BTreeMap<String, u64>,
) -> Result<(), String> {
    for number in 0..=STREAMS {
        let name = format!("stream-{number}");
        let wanted = || forward.iter().filter(|seen| seen.stream == name);
        let reader = store.read_stream(&name);
        let found = stream(reader.clone().forward()).map_err(|error| format!("{name}: {error}"))?;
        if !found.iter().eq(wanted()) {
            return Err(format!("{name} has {} events, not {}", found.len(), wanted().count()));
        }
        let back = stream(reader.backward()).map_err(|error| format!("{name}: {error}"))?;
        if !back.iter().rev().eq(wanted()) {
            return Err(format!("backwards {name} has {} events", back.len()));
        }
        let head = store.stream_head(&name).map_err(|error| format!("{name}: {error}"))?;
        if head.as_ref() != heads.get(&name) {
            return Err(format!("the head of {name} is {head:?}, not {:?}", heads.get(&name)));
        }
    }
    Ok(())
}

/// Judges what a store answers to queries by what it shows when everything is read: each type, each tag, and the
/// category of the script's streams.
///
/// # Errors
/// What is wrong with it, in words.
pub fn judge_queries(store: &Store) -> Result<(), String> {
    let seen = all(store.read_all().forward()).map_err(|error| format!("reading: {error}"))?;
    let mut wanted: BTreeMap<(bool, &str), Vec<u64>> = BTreeMap::new();
    for event in &seen {
        let names = event.event.iter_tags().map(|tag| (true, tag));
        for name in names.chain([(false, event.event.event_type())]) {
            wanted.entry(name).or_default().push(event.position);
        }
    }
    let check = |query: Query, positions: &[u64]| {
        let read = store.query(query.clone());
        let forward = positions_of(read.clone().forward())?;
        let mut backward = positions_of(read.backward())?;
        backward.reverse();
        if forward != positions || backward != positions {
            return Err(format!("{query:?} gives {forward:?} and {backward:?}, not {positions:?}"));
        }
        Ok(())
    };
    for ((is_tag, name), positions) in &wanted {
        let any = Query::any();
        check(if *is_tag { any.tags([name]) } else { any.types([name]) }, positions)?;
    }
    let all: Vec<u64> = (1..=seen.len() as u64).collect();
    check(Query::any().category("stream"), &all)
}

fn positions_of(mut reader: ReaderQuery) -> Result<Vec<u64>, String> {
    let mut positions = Vec::new();
    while let Some(batch) = reader.next_batch().map_err(|error| format!("a query: {error}"))? {
        positions.extend(batch.iter().map(|event| event.position().get()));
    }
    Ok(positions)
}
