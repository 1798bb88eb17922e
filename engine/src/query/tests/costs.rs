//! What a plan reads, and what it leaves alone.

use super::*;

/// A part of so many events, whose tags are given by a rule.
fn model(events: u32, tags: impl Fn(u32) -> Vec<&'static str>) -> Model {
    let mut model = Model::default();
    (0..events).for_each(|ordinal| model.push("a-1", "t", &tags(ordinal)));
    model
}

fn tags_where(conditions: &[(&'static str, bool)]) -> Vec<&'static str> {
    conditions.iter().filter(|(_, holds)| *holds).map(|(tag, _)| *tag).collect()
}

#[test]
fn a_plan_reads_nothing_before_it_is_asked_and_no_more_than_it_is_asked_for() {
    let model = model(20_000, |ordinal| tags_where(&[("x", ordinal.is_multiple_of(2))]));
    let query = Query::any().tags(["x"]);
    for (order, from) in [(Order::Forward, 0), (Order::Backward, u32::MAX)] {
        model.touched.take();
        let mut candidates = model.candidates(&query, order, from);
        assert_eq!(model.touched.get(), Touched::default());
        assert_eq!(candidates.by_ref().take(10).count(), 10);
        assert_eq!(model.touched.get(), Touched { postings: 10, searches: 0 });
    }
}

#[test]
fn a_small_driver_is_taken_without_a_look_at_the_other_lists() {
    let rare = |ordinal: u32| {
        tags_where(&[("rare", ordinal % 1000 == 7), ("half", ordinal.is_multiple_of(2))])
    };
    let model = model(20_000, rare);
    let query = Query::any().tags(["half", "rare"]).types(["t"]).category("a");
    assert_eq!(model.found(&query, Order::Forward, 0).len(), 20);
    assert_eq!(model.touched.get(), Touched { postings: 20, searches: 0 });
}

#[test]
fn a_long_list_is_searched_for_a_rare_terms_postings_and_not_gone_through() {
    // Three hundred of 60,000 events, and a tag of 12,000 that half of them have as well.
    let model = model(60_000, |ordinal| {
        let rare = ordinal.is_multiple_of(200);
        tags_where(&[
            ("rare", rare),
            ("often", if rare { ordinal.is_multiple_of(400) } else { ordinal % 5 == 1 }),
        ])
    });
    let query = Query::any().tags(["often", "rare"]);
    for (order, from) in [(Order::Forward, 0), (Order::Backward, u32::MAX)] {
        model.touched.take();
        assert_eq!(model.found(&query, order, from), model.brute(&query, order, from));
        let touched = model.touched.get();
        assert!(touched.searches <= 600, "{touched:?}");
        assert!(touched.postings <= 1200, "{touched:?}");
    }
}

#[test]
fn a_list_that_is_far_longer_than_the_driver_is_left_alone_unless_the_driver_is_long() {
    let tags = |every: u32| {
        move |ordinal: u32| {
            tags_where(&[("rare", ordinal.is_multiple_of(every)), ("half", ordinal % 2 == 1)])
        }
    };
    let query = Query::any().tags(["rare", "half"]);
    // A hundred, and a list five hundred times as long: every candidate is left to who reads its frame.
    let short = model(100_000, tags(1000));
    assert_eq!(short.found(&query, Order::Forward, 0).len(), 100);
    assert_eq!(short.touched.get(), Touched { postings: 100, searches: 0 });
    // Twelve hundred, and a list seventy times as long.
    let long = model(168_000, tags(140));
    assert!(long.found(&query, Order::Forward, 0).is_empty());
    assert!(long.touched.get().searches > 1000);
}

#[test]
fn a_list_of_nearly_all_events_is_left_alone() {
    let model = model(10_000, |ordinal| {
        tags_where(&[
            ("tenth", ordinal.is_multiple_of(10)),
            ("most", ordinal % 10 != 0 || ordinal > 2000),
        ])
    });
    let query = Query::any().tags(["tenth", "most"]);
    assert_eq!(model.found(&query, Order::Forward, 0).len(), 1000);
    assert_eq!(model.touched.get(), Touched { postings: 1000, searches: 0 });
}

#[test]
fn lists_of_like_length_that_share_nothing_are_leapt_through() {
    // Runs of 1,000 events have one tag or the other.
    let model = model(100_000, |ordinal| {
        tags_where(&[("even", ordinal / 1000 % 2 == 0), ("odd", ordinal / 1000 % 2 == 1)])
    });
    let query = Query::any().tags(["even", "odd"]);
    assert!(model.found(&query, Order::Forward, 0).is_empty());
    let touched = model.touched.get();
    assert!(touched.postings + touched.searches < 10_000, "{touched:?}");
}

#[test]
fn conditions_that_are_probed_leave_only_what_meets_them() {
    let model = model(20_000, |ordinal| {
        tags_where(&[
            ("two", ordinal.is_multiple_of(2)),
            ("three", ordinal.is_multiple_of(3)),
            ("five", ordinal.is_multiple_of(5)),
        ])
    });
    let query = Query::any().tags(["two", "three", "five"]);
    for (order, from) in [(Order::Forward, 123), (Order::Backward, 17_321)] {
        assert_eq!(model.found(&query, order, from), model.brute(&query, order, from));
    }
}
