use stratalog::Event;

#[derive(Event)]
#[event(name = "opened", version = 1, colour = "red")]
struct Coloured;

#[derive(Event)]
#[event(name = "opened", name = "opened", version = 1)]
struct Twice;

#[derive(Event)]
#[event(name = "opened", version = 2, first, from = Twice)]
struct FirstAndNot;

#[derive(Event)]
#[event(name = "opened", version = 1, tag = "a:{a}")]
struct Numbered(u32);

fn main() {}
