//! Plans against brute force: in order, each once, and none missing.

use super::*;

const STREAMS: usize = 12;
const TYPES: usize = 6;
const TAGS: usize = 8;

impl Model {
    /// A part with names of which some are in nearly every event and some in hardly any.
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let mut model = Self::default();
        let events = [0, 1, 2, 40, 300, 1500, 6000][rng.usize(..7)];
        let streams = rng.usize(1..=STREAMS);
        for _ in 0..events {
            let skewed = |rng: &mut fastrand::Rng, names: usize| match rng.u8(..8) {
                0 => rng.usize(..names),
                1..4 => rng.usize(..names).min(rng.usize(..names)),
                _ => 0,
            };
            let stream = name_of_stream(skewed(rng, streams));
            let event_type = format!("t{}", skewed(rng, TYPES));
            let mut tags: Vec<_> = (0..rng.usize(..4)).map(|_| skewed(rng, TAGS)).collect();
            tags.sort_unstable();
            tags.dedup();
            let tags: Vec<_> = tags.into_iter().map(|tag| format!("x{tag}")).collect();
            let tags: Vec<_> = tags.iter().map(String::as_str).collect();
            model.push(&stream, &event_type, &tags);
        }
        model.add_what_shares_a_hash(rng);
        model
    }

    /// Puts ordinals into the lists, and lists into the part, that the events do not account for.
    fn add_what_shares_a_hash(&mut self, rng: &mut fastrand::Rng) {
        let events = u32::try_from(self.events.len()).unwrap();
        let strangers = [format!("x{TAGS}"), format!("x{}", TAGS + 1)];
        for stranger in &strangers {
            if rng.bool() {
                self.list_mut(Term::tag(stranger.as_bytes()));
            }
        }
        let mut lists: Vec<_> = self.lists.iter_mut().collect();
        lists.sort_unstable_by_key(|(term, _)| **term);
        for (_, list) in lists {
            // Some of them are behind what may be read yet.
            let more = if rng.u8(..3) == 0 { rng.u32(..events / 3 + 4) } else { 0 };
            list.extend((0..more).map(|_| rng.u32(..=events + 40)));
            if list.is_empty() {
                list.push(rng.u32(..=events));
            }
            list.sort_unstable();
            list.dedup();
        }
    }
}

fn name_of_stream(number: usize) -> String {
    match number % 4 {
        3 => format!("single{number}"),
        category => format!("c{category}-{number}"),
    }
}

/// A query of what the model has, and of a little that it has not.
fn draw_query(rng: &mut fastrand::Rng) -> Query {
    let items = [0, 1, 1, 1, 1, 2, 2, 3, 5][rng.usize(..9)];
    (0..items).fold(Query::none(), |query, _| {
        let mut item = if rng.u8(..40) == 0 { Query::all() } else { Query::any() };
        if rng.u8(..3) == 0 {
            item = item.types((0..rng.usize(1..4)).map(|_| format!("t{}", rng.usize(..=TYPES))));
        }
        if rng.u8(..3) > 0 {
            item = item.tags((0..rng.usize(1..4)).map(|_| format!("x{}", rng.usize(..TAGS + 2))));
        }
        if rng.u8(..5) == 0 {
            item = item.stream(&name_of_stream(rng.usize(..=STREAMS)));
        }
        if rng.u8(..5) == 0 {
            item = item.category(&format!("c{}", rng.usize(..4)));
        }
        query.or(item)
    })
}

fn for_each_case(seeds: u64, mut check: impl FnMut(&Model, &Query, &mut fastrand::Rng)) {
    for seed in 0..seeds {
        let mut rng = fastrand::Rng::with_seed(seed);
        let model = Model::draw(&mut rng);
        for _ in 0..8 {
            let query = draw_query(&mut rng);
            eprintln!("seed {seed}, {} events: {query:?}", model.events.len());
            check(&model, &query, &mut rng);
        }
    }
}

fn some_start(model: &Model, order: Order, rng: &mut fastrand::Rng) -> u32 {
    let events = model.events();
    match (rng.u8(..4), order) {
        (0, Order::Forward) => 0,
        (0, Order::Backward) => u32::MAX,
        (1, _) => rng.u32(events..=events + 50),
        _ => rng.u32(..=events),
    }
}

const ORDERS: [Order; 2] = [Order::Forward, Order::Backward];

#[test]
fn the_candidates_that_match_are_what_brute_force_finds() {
    let (mut found, mut candidates) = (0, 0);
    for_each_case(3000, |model, query, rng| {
        for order in ORDERS {
            let from = some_start(model, order, rng);
            let mut given = model.found(query, order, from);
            candidates += given.len();
            assert!(given.iter().all(|ordinal| *ordinal < model.events()));
            assert!(is_in_order(order, &given), "from {from} {order:?}: {given:?}");
            given.retain(|ordinal| model.matches(query, *ordinal));
            assert_eq!(given, model.brute(query, order, from), "from {from} {order:?}");
            found += given.len();
        }
    });
    assert!(found > 0 && candidates > found, "{found} found of {candidates} candidates");
}

/// Whether one ordinal comes before another, in this order.
fn is_before(order: Order, one: u32, other: u32) -> bool {
    if order == Order::Forward { one < other } else { one > other }
}

fn is_in_order(order: Order, ordinals: &[u32]) -> bool {
    ordinals.windows(2).all(|pair| is_before(order, pair[0], pair[1]))
}

#[test]
fn a_term_without_a_list_ends_its_item_and_no_other() {
    let mut model = Model::default();
    (0..100).for_each(|_| model.push("a-1", "t", &["x"]));
    for order in ORDERS {
        let found =
            |query: &Query| model.found(query, order, if order == Order::Forward { 0 } else { 99 });
        assert!(found(&Query::any().tags(["x", "absent"])).is_empty());
        assert!(found(&Query::any().types(["absent"]).tags(["x"])).is_empty());
        assert!(found(&Query::any().stream("absent")).is_empty());
        assert!(found(&Query::any().category("absent")).is_empty());
        assert!(found(&Query::any().stream("a-1").category("b")).is_empty());
        assert_eq!(found(&Query::any().types(["absent", "t"]).tags(["x"])).len(), 100);
        assert_eq!(found(&Query::any().tags(["absent"]).or(Query::any().tags(["x"]))).len(), 100);
    }
}

#[test]
fn a_query_for_everything_gives_each_ordinal_and_one_for_nothing_gives_none() {
    let mut model = Model::default();
    (0..10).for_each(|_| model.push("a-1", "t", &["x"]));
    let tag = || Query::any().tags(["x"]);
    for query in [Query::all(), Query::any(), tag().or(Query::any()), Query::all().or(tag())] {
        assert_eq!(model.found(&query, Order::Forward, 7), [7, 8, 9]);
        assert_eq!(model.found(&query, Order::Backward, 2), [2, 1, 0]);
        assert!(model.found(&query, Order::Forward, 10).is_empty());
        assert!(model.found(&query, Order::Forward, u32::MAX).is_empty());
        assert_eq!(model.found(&query, Order::Backward, u32::MAX).len(), 10);
    }
    assert_eq!(model.touched.get(), Touched::default(), "nothing had to be read");
    assert!(model.found(&Query::none(), Order::Forward, 0).is_empty());
    let empty = Model::default();
    for order in ORDERS {
        assert!(empty.found(&Query::all(), order, 0).is_empty());
        assert!(empty.found(&tag(), order, u32::MAX).is_empty());
    }
}

#[test]
fn damage_is_reported_once_and_ends_the_candidates() {
    let mut reported = 0;
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let model = Model::draw(&mut rng);
        let query = draw_query(&mut rng);
        eprintln!("seed {seed}: {query:?}");
        for order in ORDERS {
            model.touched.take();
            let sound = rng.u32(..200);
            model.sound.set(Some(sound));
            let from = some_start(&model, order, &mut rng);
            let mut candidates = model.candidates(&query, order, from);
            let before: Vec<_> = candidates.by_ref().map_while(Result::ok).collect();
            assert!(candidates.next().is_none(), "something followed");
            model.touched.take();
            let last = model.candidates(&query, order, from).last();
            let touched = model.touched.get();
            if let Some(Err(damage)) = last {
                assert_eq!(damage, DAMAGE);
                assert_eq!(touched.postings + touched.searches, sound);
                reported += 1;
            } else {
                assert!(touched.postings + touched.searches <= sound);
            }
            // What came before it is what comes without it.
            model.sound.set(None);
            assert!(model.found(&query, order, from).starts_with(&before));
        }
    }
    assert!(reported > 50, "{reported} of the plans met damage");
}

#[test]
fn lists_that_contradict_themselves_end_and_give_nothing_twice() {
    for seed in 0..500 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut model = Model::draw(&mut rng);
        let mut lists: Vec<_> = model.lists.iter_mut().collect();
        lists.sort_unstable_by_key(|(term, _)| **term);
        for (_, list) in lists {
            rng.shuffle(list);
        }
        let query = draw_query(&mut rng);
        eprintln!("seed {seed}: {query:?}");
        for order in ORDERS {
            let given = model.found(&query, order, some_start(&model, order, &mut rng));
            assert!(is_in_order(order, &given));
            assert!(given.iter().all(|ordinal| *ordinal < model.events()));
        }
    }
}
