//! Queries: all events that have a tag, of tags at random that have ten each, scattered over the log.
//!
//! Hot, everything is read once before it counts. Cold, the store was closed and opened, the page cache of
//! its files is dropped, and no tag is asked for twice: what a query finds in memory is there since the
//! store keeps it, or since another query came by. That every result is right is looked at on the way.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, fadvise};

use super::{Plan, WARMUP};
use crate::AnyError;
use crate::clients::readers::{self, Readers, Touched};
use crate::clients::window::{Clock, Recorder};
use crate::report::json::Query;
use crate::target::Target;
use crate::workload::tags::{TURN_EVENTS, Tag};

/// Which tag a thread asks for next.
#[derive(Debug, Clone)]
enum Choice {
    /// Any of so many.
    Any(fastrand::Rng, u64),
    /// These, and then no more.
    Once(std::vec::IntoIter<u64>),
}

impl Iterator for Choice {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Any(random, tags) => Some(random.u64(..*tags)),
            Self::Once(tags) => tags.next(),
        }
    }
}

impl Choice {
    /// What each thread asks for.
    fn of(plan: &Plan) -> Vec<Self> {
        let tags = plan.fill / TURN_EVENTS;
        let mut random = fastrand::Rng::with_seed(plan.seed);
        if !plan.cold {
            return (0..plan.readers).map(|_| Self::Any(random.fork(), tags)).collect();
        }
        let mut all: Vec<u64> = (0..tags).collect();
        random.shuffle(&mut all);
        let of = |reader| all.iter().skip(reader).step_by(plan.readers).copied().collect();
        (0..plan.readers).map(|reader| Self::Once(Vec::into_iter(of(reader)))).collect()
    }
}

/// Queries a store that was filled with tags that take turns, and was just opened.
pub(super) fn measure<T: Target>(
    target: &T,
    plan: &Plan,
    folder: &Path,
) -> Result<Query, AnyError> {
    let warmup = if plan.cold {
        drop_page_cache(folder)?;
        Duration::ZERO
    } else {
        target.scan(|payload| {
            std::hint::black_box(payload);
        })?;
        WARMUP
    };
    let choices = Choice::of(plan);
    let clock = Clock::start(warmup, Some(plan.duration));
    let (target, own) = (target.clone(), clock.clone());
    let readers = Readers::start(plan.readers, move |reader, recorder| {
        read(&target, choices[reader].clone(), recorder, &own).inspect_err(|_| own.end_now())
    })?;
    let recorded = readers.join()?;
    if recorded.latency.is_empty() {
        return Err("no query has ended in time: give a longer --duration".into());
    }
    // Where no tag is asked for twice, they may all have been before the time was over.
    let end = if plan.cold { recorded.last } else { clock.end() };
    Ok(Query::of(&recorded, (end - clock.counts_from()) as f64 / 1e9))
}

/// Queries one tag after the other until the time is over, or all were asked for.
fn read<T: Target>(
    target: &T,
    mut choice: Choice,
    recorder: Recorder,
    clock: &Clock,
) -> Result<Recorder, AnyError> {
    readers::again(recorder, clock, || {
        let Some(number) = choice.next() else { return Ok(None) };
        let (tag, mut touched, mut tagged) = (Tag::in_turn(number), Touched::default(), 0);
        target.query(&tag, |mut event| {
            touched.touch(event.payload);
            tagged += u64::from(event.tags.any(|one| *one == *tag));
        })?;
        let done = touched.tally();
        if (done.events, tagged) == (TURN_EVENTS, TURN_EVENTS) {
            return Ok(Some(done));
        }
        let (tag, found) = (&*tag, done.events);
        Err(format!(
            "{found} events were found by {tag}, of which {tagged} have it; there should be \
             {TURN_EVENTS}, if --mode queries has filled the store with the same --fill"
        )
        .into())
    })
}

/// Has the kernel forget what it keeps of the files in a folder.
fn drop_page_cache(folder: &Path) -> Result<(), AnyError> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            let file = File::open(&path)?;
            // What is not written yet could not be dropped.
            file.sync_data()?;
            fadvise(&file, 0, None, Advice::DontNeed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Mode, Payload, StoreName};
    use crate::target::stratalog::Stratalog;
    use crate::target::{Append as _, Events, Expect, NewEvent};

    fn plan(fill: u64, cold: bool, readers: usize) -> Plan {
        Plan {
            store: StoreName::Stratalog,
            mode: Mode::Queries,
            fill,
            streams: 1,
            payload_bytes: 1,
            payload: Payload::Bytes,
            duration: Duration::from_secs(1),
            readers,
            cold,
            seed: 3,
            states: super::super::States::default(),
        }
    }

    #[test]
    fn cold_threads_ask_for_each_tag_once_all_together() {
        for readers in [1, 3, 200] {
            let choices = Choice::of(&plan(1000, true, readers));
            assert_eq!(choices.len(), readers);
            let mut asked: Vec<_> = choices.into_iter().flatten().collect();
            assert!(!asked.is_sorted());
            asked.sort_unstable();
            assert!(asked.into_iter().eq(0..100));
        }
    }

    #[test]
    fn hot_threads_ask_for_tags_that_are_there_each_in_its_own_order() {
        let asked: Vec<Vec<_>> = Choice::of(&plan(1000, false, 2))
            .into_iter()
            .map(|choice| choice.take(50).collect())
            .collect();
        assert!(asked.iter().flatten().all(|&tag| tag < 100));
        assert_ne!(asked[0], asked[1]);
    }

    #[test]
    fn a_result_with_too_few_events_is_an_error() {
        let store = Stratalog::in_memory();
        let event = NewEvent::bytes("t", b"".as_slice()).tag("ten-0");
        let events = vec![event; 9];
        store.append("s", Expect::Any, None, Events::New(&events)).wait().unwrap();
        let clock = Clock::start(Duration::ZERO, Some(Duration::from_mins(1)));
        let read = |tags: u64| {
            let choice = Choice::Once((0..tags).collect::<Vec<_>>().into_iter());
            read(&store, choice, Recorder::new(), &clock).map(|_| ())
        };
        let error = read(1).unwrap_err().to_string();
        assert!(error.starts_with("9 events were found by ten-0, of which 9 have it"), "{error}");
        store.append("s", Expect::Any, None, Events::New(&events[..1])).wait().unwrap();
        read(1).unwrap();
        assert!(read(2).is_err());
    }
}
