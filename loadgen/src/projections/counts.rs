//! Projections that count events by type and by stream, each of another name.
//!
//! Owns what is counted, the type of each projection, and the table by which one of a number is started. A projection's
//! name is a constant of its type, so there is a type for each number; what they do is one function. The parent module
//! starts and asks them.

use std::collections::{BTreeMap, HashMap};

use stratalog::rkyv::with::AsVec;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{
    AnyEvent, Applied, ConsumerStats, EventRef, Position, Projected, Projection, State, Store, View,
};

use super::work::Work;
use crate::AnyError;

/// How many there can be.
pub(crate) const PROJECTIONS_MAX: usize = 16;

/// How many events there are of each type, and of each stream.
#[derive(Debug, Default, Clone, PartialEq, Eq, State, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "counted", version = 1)]
pub(crate) struct Counted {
    #[rkyv(with = AsVec)]
    pub of_type: BTreeMap<String, u64>,
    /// A hash map, since there are many. It is archived as a list in any order.
    #[rkyv(with = AsVec)]
    #[layout(opaque = "list of names and counts", version = 1)]
    pub of_stream: HashMap<String, u64>,
}

impl Counted {
    /// Counts an event.
    pub(crate) fn add(&mut self, event: EventRef<'_>) {
        // Only the first event of a name has it copied.
        match self.of_type.get_mut(event.event_type()) {
            Some(events) => *events += 1,
            None => drop(self.of_type.insert(event.event_type().to_owned(), 1)),
        }
        match self.of_stream.get_mut(event.stream()) {
            Some(events) => *events += 1,
            None => drop(self.of_stream.insert(event.stream().to_owned(), 1)),
        }
    }
}

/// The projection of a number.
struct Counts<const NUMBER: usize> {
    /// What it does for each event besides counting it.
    work: Work,
}

impl<const NUMBER: usize> Counts<NUMBER> {
    const NAME_BYTES: [u8; 9] = {
        let mut name = *b"counts-00";
        name[7] = b"0123456789"[NUMBER / 10];
        name[8] = b"0123456789"[NUMBER % 10];
        name
    };
}

impl<const NUMBER: usize> Projection for Counts<NUMBER> {
    type State = Counted;
    type Events = AnyEvent;

    const NAME: &'static str = match str::from_utf8(&Self::NAME_BYTES) {
        Ok(name) => name,
        Err(_) => panic!("it is ASCII"),
    };

    fn initial(&self) -> Counted {
        Counted::default()
    }

    fn apply(&self, counted: &mut Counted, event: EventRef<'_>, _: EventRef<'_>) -> Applied {
        counted.add(event);
        self.work.do_it();
        Ok(())
    }
}

/// What is asked of a projection that runs, whatever its type is.
pub(super) trait Counting: Send {
    /// Blocks until it has counted everything up to there.
    fn wait_for(&self, position: Position) -> Result<(), AnyError>;

    /// How far its lanes are.
    fn lanes(&self) -> Vec<ConsumerStats>;

    /// What it has counted, and up to where.
    fn counted(&self) -> Result<(Counted, Position), AnyError>;

    /// Stops it. What it has counted is saved.
    fn stop(self: Box<Self>) -> Result<(), AnyError>;
}

impl<const NUMBER: usize> Counting for Projected<Counts<NUMBER>> {
    fn wait_for(&self, position: Position) -> Result<(), AnyError> {
        Projected::wait_for(self, position).wait()?;
        Ok(())
    }

    fn lanes(&self) -> Vec<ConsumerStats> {
        self.status().lanes
    }

    fn counted(&self) -> Result<(Counted, Position), AnyError> {
        let view: View<_> = self.view().wait()?;
        Ok((view.state().clone(), view.position()))
    }

    fn stop(self: Box<Self>) -> Result<(), AnyError> {
        Projected::stop(*self)?;
        Ok(())
    }
}

type Start = fn(&Store, Work) -> Result<Box<dyn Counting>, AnyError>;

macro_rules! starts {
    ($($number:literal)*) => { [$(start_numbered::<$number>),*] };
}

const STARTS: [Start; PROJECTIONS_MAX] = starts![0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15];

fn start_numbered<const NUMBER: usize>(
    store: &Store,
    work: Work,
) -> Result<Box<dyn Counting>, AnyError> {
    Ok(Box::new(store.project(Counts::<NUMBER> { work }).start()?))
}

/// Starts the projection of a number, which is below [`PROJECTIONS_MAX`], with one lane.
pub(super) fn start(
    store: &Store,
    number: usize,
    work: Work,
) -> Result<Box<dyn Counting>, AnyError> {
    STARTS[number](store, work)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stratalog::disk::MemoryDisk;
    use stratalog::{Expect, NewEvent};

    use super::*;

    #[test]
    fn all_projections_run_at_once_and_count_each_event() {
        let store = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
        let all: Vec<_> =
            (0..PROJECTIONS_MAX).map(|number| start(&store, number, Work::NONE).unwrap()).collect();
        for (stream, kind) in [("a", "x"), ("b", "x"), ("a", "y")] {
            store.append(stream, Expect::Any, [NewEvent::bytes(kind, "")]).wait().unwrap();
        }
        let expected = Counted {
            of_type: [("x".to_owned(), 2), ("y".to_owned(), 1)].into(),
            of_stream: [("a".to_owned(), 2), ("b".to_owned(), 1)].into(),
        };
        for (number, projection) in all.iter().enumerate() {
            projection.wait_for(store.head()).unwrap();
            let (counted, position) = projection.counted().unwrap();
            assert_eq!(position, store.head());
            assert_eq!(counted, expected);
            assert_eq!(&*projection.lanes()[0].name, format!("counts-{number:02}"));
        }
    }

    #[test]
    fn what_was_counted_is_counted_on_from_after_a_stop() {
        let store = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
        for events in 1..=2 {
            let projection = start(&store, 7, Work::NONE).unwrap();
            store.append("a", Expect::Any, [NewEvent::bytes("x", "")]).wait().unwrap();
            projection.wait_for(store.head()).unwrap();
            assert_eq!(projection.counted().unwrap().0.of_stream["a"], events);
            // Only the new one was applied.
            assert_eq!(projection.lanes()[0].events, 1);
            projection.stop().unwrap();
        }
    }
}
