use stratalog::{Event, EventSet, Layout};

#[derive(Event)]
#[event(name = "opened", version = 1)]
struct Opened<T>(T);

#[derive(Layout)]
struct Pair<'a>(&'a str);

#[derive(EventSet)]
enum Ticket<T> {
    Opened(T),
}

fn main() {}
