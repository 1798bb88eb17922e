use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{Event, Layout};

#[derive(Layout, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
struct Nothing;

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "counted", version = 1)]
struct Counted {
    nothings: Vec<Nothing>,
}

fn main() {}
