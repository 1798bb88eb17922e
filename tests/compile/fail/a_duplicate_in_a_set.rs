use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{Event, EventSet};

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "opened", version = 1)]
struct Opened;

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "opened", version = 1)]
struct Begun;

#[derive(EventSet)]
enum Ticket {
    Opened(Opened),
    Begun(Begun),
}

fn main() {}
