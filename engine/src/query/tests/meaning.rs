//! What a query means, and what can be wrong with one.

use super::*;
use crate::event::{InvalidName, NamePart};
use crate::limits::{NAME_BYTES_MAX, QUERY_ITEMS_MAX, QUERY_TERMS_MAX};

/// Whether a query asks for an event of type `seat-taken` in the stream `seat-12A` with two tags.
fn asks_for_the_seat(query: &Query) -> bool {
    let prepared = Prepared::new(query.clone()).unwrap();
    prepared.matches("seat-12A", "seat-taken", ["flight:7", "customer:3"].into_iter())
}

fn wrong(query: &Query) -> InvalidQuery {
    let wrong = query.check().unwrap_err();
    assert_eq!(Prepared::new(query.clone()).unwrap_err(), wrong);
    wrong
}

#[test]
fn an_item_matches_any_of_its_types_and_all_of_its_tags() {
    let any = Query::any;
    assert!(asks_for_the_seat(&any().types(["seat-freed", "seat-taken"])));
    assert!(!asks_for_the_seat(&any().types(["seat-freed"])));
    assert!(asks_for_the_seat(&any().tags(["customer:3"])));
    assert!(asks_for_the_seat(&any().tags(["customer:3", "flight:7"])));
    assert!(!asks_for_the_seat(&any().tags(["customer:3", "flight:8"])));
    assert!(asks_for_the_seat(&any().types(["seat-taken"]).tags(["flight:7"])));
    assert!(!asks_for_the_seat(&any().types(["seat-taken"]).tags(["flight:8"])));
    assert!(!asks_for_the_seat(&any().types(["seat-freed"]).tags(["flight:7"])));
    // Neither a part of a name nor another kind of name will do.
    assert!(!asks_for_the_seat(&any().types(["seat"])));
    assert!(!asks_for_the_seat(&any().tags(["flight:"])));
    assert!(!asks_for_the_seat(&any().tags(["seat-taken"])));
}

#[test]
fn an_item_matches_its_stream_and_its_category_only() {
    let any = Query::any;
    assert!(asks_for_the_seat(&any().stream("seat-12A")));
    assert!(!asks_for_the_seat(&any().stream("seat-12B")));
    assert!(!asks_for_the_seat(&any().stream("seat-12")));
    assert!(asks_for_the_seat(&any().category("seat")));
    assert!(!asks_for_the_seat(&any().category("sea")));
    assert!(asks_for_the_seat(&any().category("seat").stream("seat-12A").tags(["flight:7"])));
    assert!(!asks_for_the_seat(&any().category("sea").stream("seat-12A")));
    assert!(!asks_for_the_seat(&any().category("seat").tags(["flight:8"])));
    // A stream without a hyphen has no category.
    assert!(!any().category("seat").matches("seat", "seat-taken", std::iter::empty()));
}

#[test]
fn a_query_matches_what_one_of_its_items_matches() {
    let (yes, no) = (Query::any().stream("seat-12A"), Query::any().stream("seat-12B"));
    assert!(asks_for_the_seat(&yes.clone().or(no.clone())));
    assert!(asks_for_the_seat(&no.clone().or(yes.clone())));
    assert!(!asks_for_the_seat(&no.clone().or(no.clone())));
    // What one item lacks, the other does not lend it.
    let types = Query::any().types(["seat-taken"]).tags(["flight:8"]);
    assert!(!asks_for_the_seat(&types.or(Query::any().types(["seat-freed"]).tags(["flight:7"]))));
}

#[test]
fn all_and_an_item_without_conditions_match_every_event_and_nothing_matches_none() {
    assert!(asks_for_the_seat(&Query::all()));
    assert!(asks_for_the_seat(&Query::any()));
    assert!(!asks_for_the_seat(&Query::none()));
    assert_ne!(Query::all(), Query::any());
    assert_ne!(Query::none(), Query::any());
}

#[test]
fn narrowing_changes_the_last_item_alone() {
    let query = Query::any().stream("a").or(Query::any().stream("b")).tags(["x"]);
    assert!(query.matches("a", "t", std::iter::empty()));
    assert!(!query.matches("b", "t", std::iter::empty()));
    assert!(query.matches("b", "t", ["x"].into_iter()));
}

#[test]
fn narrowing_none_leaves_it_and_narrowing_all_begins_an_item() {
    let narrow = |query: Query| query.types(["t"]).tags(["x"]).stream("s-1").category("s");
    assert_eq!(narrow(Query::none()), Query::none());
    assert_eq!(narrow(Query::all()), narrow(Query::any()));
}

#[test]
fn joining_with_none_changes_nothing_and_joining_with_all_matches_all() {
    let tag = Query::any().tags(["no event has it"]);
    assert_eq!(tag.clone().or(Query::none()), tag);
    assert_eq!(Query::none().or(tag.clone()), tag);
    assert_eq!(Query::all().or(Query::none()), Query::all());
    assert_eq!(Query::none().or(Query::all()), Query::all());
    assert_eq!(Query::all().or(Query::all()), Query::all());
    assert_eq!(Query::none().or(Query::none()), Query::none());
    assert!(asks_for_the_seat(&Query::all().or(tag.clone())));
    assert!(asks_for_the_seat(&tag.clone().or(Query::all())));
    // It counts as an item, so that what is said of the other one still is.
    assert!(asks_for_the_seat(&Query::all().or(tag.clone()).types(["none"])));
    assert!(!asks_for_the_seat(&tag.or(Query::all()).types(["none"])));
}

#[test]
fn an_empty_list_adds_nothing() {
    for query in [Query::all(), Query::any(), Query::none(), Query::any().types(["t"]).tags(["x"])]
    {
        let narrowed = query.clone().types::<&str>([]).tags::<&str>([]);
        assert_eq!(narrowed, query);
    }
}

#[test]
fn what_is_given_twice_is_kept_once() {
    let once = Query::any().types(["a", "b"]).tags(["x"]).stream("s-1").category("s");
    let twice = Query::any().types(["a", "b", "a"]).types(["b"]).tags(["x", "x"]);
    let twice = twice.stream("s-1").stream("s-1").category("s").category("s");
    assert_eq!(twice, once);
    let many = std::iter::repeat_n("a", QUERY_TERMS_MAX + 1);
    assert_eq!(Query::any().types(many.clone()).tags(many).check(), Ok(()));
}

#[test]
fn the_stores_own_names_may_be_asked_for() {
    let query =
        Query::any().stream("$groups-1").category("$groups").types(["$joined"]).tags(["$5"]);
    assert_eq!(query.check(), Ok(()));
    assert!(query.matches("$groups-1", "$joined", ["$5"].into_iter()));
}

#[test]
fn a_name_that_is_none_is_an_error() {
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let narrowed = |part: NamePart, name: &str| match part {
        NamePart::Stream => Query::any().stream(name),
        NamePart::EventType => Query::any().types([name]),
        NamePart::Tag => Query::any().tags([name]),
        NamePart::Category => Query::any().category(name),
    };
    for part in [NamePart::Stream, NamePart::EventType, NamePart::Tag, NamePart::Category] {
        assert_eq!(wrong(&narrowed(part, "")), InvalidQuery::Name(InvalidName::Empty { part }));
        let is_long = |error: &InvalidQuery| match error {
            InvalidQuery::Name(InvalidName::Long { part: of, bytes, .. }) => {
                (*of, *bytes) == (part, NAME_BYTES_MAX + 1)
            }
            _ => false,
        };
        assert!(is_long(&wrong(&narrowed(part, &long))));
        let control = InvalidName::Control { part, name: "a\nb".into() };
        assert_eq!(wrong(&narrowed(part, "a\nb")), InvalidQuery::Name(control));
        assert_eq!(narrowed(part, &long[1..]).check(), Ok(()));
    }
}

#[test]
fn a_category_with_a_hyphen_is_an_error_that_says_why() {
    let error = wrong(&Query::any().category("a-b"));
    assert_eq!(error, InvalidQuery::Hyphen { category: "a-b".into() });
    assert!(error.to_string().contains("before the first '-'"), "{error}");
}

#[test]
fn two_streams_or_two_categories_in_one_item_are_an_error() {
    let query = Query::any().or(Query::any().stream("a")).stream("b");
    let streams = InvalidQuery::TwoStreams { item: 2, first: "a".into(), second: "b".into() };
    assert_eq!(wrong(&query), streams);
    let categories = InvalidQuery::TwoCategories { item: 1, first: "a".into(), second: "b".into() };
    assert_eq!(wrong(&Query::any().category("a").category("b")), categories);
}

#[test]
fn as_many_items_types_and_tags_as_allowed_are_taken_and_no_more() {
    let names = |count: usize| (0..count).map(|number| format!("n{number}"));
    let item = Query::any().types(names(QUERY_TERMS_MAX)).tags(names(QUERY_TERMS_MAX));
    let full = (0..QUERY_ITEMS_MAX).fold(Query::none(), |query, _| query.or(item.clone()));
    assert_eq!(full.check(), Ok(()));
    let items = QUERY_ITEMS_MAX + 1;
    assert_eq!(wrong(&full.or(item)), InvalidQuery::TooManyItems { items });
    let begun = Query::any().or(Query::any());
    let too_many = || names(QUERY_TERMS_MAX + 1);
    let types = begun.clone().types(too_many());
    assert_eq!(wrong(&types), InvalidQuery::TooManyTypes { item: 2 });
    let tags = begun.tags(too_many());
    assert_eq!(wrong(&tags), InvalidQuery::TooManyTags { item: 2 });
}

#[test]
fn what_was_wrong_first_is_reported_whatever_follows() {
    let query = Query::any().tags([""]).types(["a\n"]).category("a-b");
    let first = InvalidQuery::Name(InvalidName::Empty { part: NamePart::Tag });
    assert_eq!(wrong(&query), first);
    assert_eq!(wrong(&query.clone().or(Query::any())), first);
    assert_eq!(wrong(&Query::any().or(query.clone())), first);
    assert_eq!(wrong(&Query::all().or(query).or(Query::any().category("a-b"))), first);
    assert_eq!(wrong(&Query::none().tags([""])), first);
}
