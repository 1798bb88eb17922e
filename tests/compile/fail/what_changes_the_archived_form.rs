use std::collections::BTreeMap;

use stratalog::Layout;
use stratalog::rkyv::{Archive, Deserialize, Serialize};

const BUY: u8 = 0;

#[derive(Layout, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
enum Side {
    Buy = BUY as isize,
    Sell = 1,
}

#[derive(Layout, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv, attr(repr(align(64))))]
struct Wide {
    bytes: u64,
}

#[derive(Layout, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
struct Tree {
    names: BTreeMap<u32, u32>,
}

fn main() {}
