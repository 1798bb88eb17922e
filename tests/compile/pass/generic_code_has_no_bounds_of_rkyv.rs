use stratalog::{Batch, DecodeError, Event, EventRef, EventSet, Expect, Store, ToEvent};

fn count<E: Event>(batch: &Batch) -> Result<usize, DecodeError> {
    let mut count = 0;
    for event in batch {
        count += usize::from(event.get::<E>()?.is_some());
    }
    Ok(count)
}

fn last<E: Event>(event: EventRef<'_>) -> Result<Option<E>, DecodeError> {
    event.decode()
}

fn all<S: EventSet>(batch: &Batch) -> usize {
    batch.typed::<S>().filter(Result::is_ok).count()
}

fn append<S: EventSet>(store: &Store, events: Vec<S>) -> bool {
    store.append("s", Expect::Any, events).wait().is_ok()
}

fn either<E: ToEvent>(store: &Store, event: &E) -> bool {
    store.append("s", Expect::Any, [event]).wait().is_ok()
}

/// Of a crate that has no other name for rkyv than this one.
mod event {
    use stratalog::rkyv::{Archive, Deserialize, Serialize};
    use stratalog::{Event, EventSet};

    #[derive(Event, Archive, Serialize, Deserialize)]
    #[rkyv(crate = stratalog::rkyv)]
    #[event(name = "opened", version = 1)]
    pub struct Opened {
        pub title: String,
    }

    #[derive(EventSet)]
    pub enum Ticket {
        Opened(Opened),
    }
}

fn main() {
    let _ = (count::<event::Opened>, last::<event::Opened>, all::<event::Ticket>);
    let _ = (append::<event::Ticket>, either::<event::Ticket>, either::<event::Opened>);
}
