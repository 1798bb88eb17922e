use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{Event, EventSet};

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "moved", version = 1)]
struct MovedV1;

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "moved", version = 2, from = MovedV1)]
struct Moved;

impl From<MovedV1> for Moved {
    fn from(_: MovedV1) -> Self {
        Self
    }
}

#[derive(EventSet)]
#[event_set(split(MovedV1, with = nothing))]
enum Ticket {
    Moved(Moved),
}

fn nothing(_: MovedV1) -> [Ticket; 0] {
    []
}

fn main() {}
