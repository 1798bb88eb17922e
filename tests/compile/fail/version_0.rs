use stratalog::Event;
use stratalog::rkyv::{Archive, Deserialize, Serialize};

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "opened", version = 0)]
struct Opened;

fn main() {}
