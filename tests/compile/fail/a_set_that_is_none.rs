use stratalog::EventSet;

#[derive(EventSet)]
struct Opened;

#[derive(EventSet)]
enum Nothing {}

#[derive(EventSet)]
enum Named {
    Opened { title: u32 },
}

fn main() {}
