use stratalog::Event;
use stratalog::rkyv::{Archive, Deserialize, Serialize};

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(version = 1)]
struct Opened;

fn main() {}
