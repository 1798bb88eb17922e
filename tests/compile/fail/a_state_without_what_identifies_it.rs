use stratalog::State;
use stratalog::rkyv::{Archive, Deserialize, Serialize};

#[derive(State, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
struct Nameless;

#[derive(State, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "account", version = 1, tag = "a")]
struct Tagged;

#[derive(State, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "account", version = 2)]
struct WithoutABeginning;

fn main() {}
