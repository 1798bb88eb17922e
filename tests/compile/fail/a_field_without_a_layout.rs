use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use stratalog::Layout;

#[derive(Layout)]
struct Shared {
    name: Rc<u32>,
}

#[derive(Layout)]
struct SharedByThreads {
    name: Arc<u32>,
}

#[derive(Layout)]
struct Unordered {
    names: HashMap<u32, u32>,
}

#[derive(Layout)]
struct AsWideAsTheMachine {
    count: usize,
}

struct Plain;

#[derive(Layout)]
struct OfSomethingPlain {
    plain: Plain,
}

fn main() {}
