//! Events as Rust types, through a store: in place, upcast, split, of other layouts, of unknown types.
//!
//! The same events are read from the tail in memory and from sealed files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{
    AppendError, DecodeReason, Event, EventRef, EventSet, Expect, Fingerprint, Layout, NewEvent,
    OpenError, PayloadKind, Store, Unsuited,
};

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-assigned", version = 1)]
struct AssignedV1 {
    to: String,
}

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-assigned", version = 2, from = AssignedV1)]
struct AssignedV2 {
    to: String,
    priority: u8,
}

#[derive(Event, Archive, Serialize, Deserialize, Debug, Clone, PartialEq)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-assigned", version = 3, from = AssignedV2, tag = "to:{to}", tag = "level:{priority:02}")]
struct Assigned {
    to: String,
    priority: u64,
    notes: Vec<String>,
}

impl From<AssignedV1> for AssignedV2 {
    fn from(old: AssignedV1) -> Self {
        Self { to: old.to, priority: 5 }
    }
}

impl From<AssignedV2> for Assigned {
    fn from(old: AssignedV2) -> Self {
        Self { to: old.to, priority: u64::from(old.priority) * 10, notes: vec!["old".into()] }
    }
}

/// Version 1 was JSON, version 2 is archived.
#[derive(Event, serde::Serialize, serde::Deserialize)]
#[event(name = "ticket-noted", version = 1, json)]
struct NotedV1 {
    text: String,
}

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-noted", version = 2, from = NotedV1)]
struct Noted {
    text: String,
    at: Option<u64>,
}

impl From<NotedV1> for Noted {
    fn from(old: NotedV1) -> Self {
        Self { text: old.text, at: None }
    }
}

#[derive(Event, serde::Serialize, serde::Deserialize, Debug, PartialEq)]
#[event(name = "ticket-rated", version = 1, json, tag = "stars:{stars}")]
struct Rated {
    stars: u8,
    words: std::collections::HashMap<String, u32>,
}

/// Became two others.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-moved", version = 1)]
struct Moved {
    from: String,
    to: String,
    seen: bool,
}

/// The same name lives on.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-moved", version = 2, first)]
struct MovedAgain {
    room: u32,
}

#[derive(EventSet)]
#[event_set(split(Moved, with = left_and_came))]
enum Ticket {
    Assigned(Assigned),
    Noted(Noted),
    Rated(Rated),
    Moved(MovedAgain),
}

/// Nothing where nobody saw it.
#[expect(clippy::needless_pass_by_value, reason = "what is split is given away")]
fn left_and_came(moved: Moved) -> Vec<Ticket> {
    if !moved.seen {
        return Vec::new();
    }
    let note = |text| Noted { text, at: Some(1) };
    vec![note(format!("left {}", moved.from)).into(), note(format!("came to {}", moved.to)).into()]
}

fn assigned(to: &str) -> Assigned {
    Assigned { to: to.into(), priority: 7, notes: vec!["a".into(), "b".into()] }
}

fn store() -> Store {
    Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap()
}

/// Does the same with the events as they are in the tail, and in a sealed segment.
fn with_events(events: &[NewEvent], check: impl Fn(&[EventRef<'_>])) {
    let disk = Arc::new(MemoryDisk::new());
    let options = Store::options().segment_bytes(1 << 16);
    let store = options.open_on(disk).unwrap();
    store.append("ticket-1", Expect::NoStream, events).wait().unwrap();
    let check_all = |sealed: bool| {
        let batch = store.read_stream("ticket-1").forward().next_batch().unwrap().unwrap();
        assert_eq!(batch.len(), events.len());
        check(&batch.iter().collect::<Vec<_>>());
        let views: Vec<_> = batch.iter().map(|event| event.to_view()).collect();
        drop(batch);
        check(&views.iter().map(|view| view.event()).collect::<Vec<_>>());
        assert!(!sealed || store.stats().unwrap().indexed_events >= events.len() as u64);
    };
    check_all(false);
    let filler = NewEvent::bytes("filler", vec![0; 12_000]);
    while store.stats().unwrap().indexed_events < events.len() as u64 {
        store.append("filler", Expect::Any, [&filler]).wait().unwrap();
    }
    check_all(true);
}

fn reason_of<T>(read: Result<T, stratalog::DecodeError>) -> DecodeReason {
    let Err(error) = read else { panic!("it could be read") };
    assert_eq!(error.stream(), "ticket-1");
    match error.reason() {
        DecodeReason::Newer { known } => DecodeReason::Newer { known: *known },
        DecodeReason::TooOld { oldest } => DecodeReason::TooOld { oldest: *oldest },
        DecodeReason::Fingerprint { stored, expected } => {
            DecodeReason::Fingerprint { stored: *stored, expected: *expected }
        }
        DecodeReason::Kind { stored, expected } => {
            DecodeReason::Kind { stored: *stored, expected: *expected }
        }
        DecodeReason::Split => DecodeReason::Split,
        DecodeReason::UnknownType => DecodeReason::UnknownType,
        other => panic!("{other}"),
    }
}

#[test]
fn an_event_is_read_in_its_place_and_as_a_value() {
    let events = [NewEvent::of(&assigned("Ann")), NewEvent::bytes("other", *b"x")];
    with_events(&events, |events| {
        let view = events[0].get::<Assigned>().unwrap().unwrap();
        let payload = events[0].payload().as_ptr_range();
        assert!(payload.contains(&std::ptr::from_ref(view).cast()), "in the payload itself");
        assert_eq!((&*view.to, view.priority.to_native(), view.notes.len()), ("Ann", 7, 2));
        // SAFETY: it was appended as a value a moment ago.
        let unchecked = unsafe { events[0].get_unchecked::<Assigned>() }.unwrap().unwrap();
        assert!(std::ptr::eq(view, unchecked));
        assert_eq!(events[0].decode::<Assigned>().unwrap().unwrap(), assigned("Ann"));
        assert!(events[0].tags().eq(["to:Ann", "level:07"]));
        assert_eq!((events[0].event_type(), events[0].schema_version()), ("ticket-assigned", 3));
        assert_eq!(events[0].fingerprint(), Assigned::FINGERPRINT);
        assert_eq!(events[0].payload_kind(), PayloadKind::Archived);
        assert!(events[1].get::<Assigned>().unwrap().is_none());
        assert!(events[1].decode::<Assigned>().unwrap().is_none());
    });
}

#[test]
fn a_value_is_appended_as_what_a_new_event_of_it_is() {
    let store = store();
    store.append("ticket-1", Expect::NoStream, [assigned("Ann")]).wait().unwrap();
    let set = [Ticket::from(assigned("Ann"))];
    store.append("ticket-1", Expect::Version(0), &set).wait().unwrap();
    let new = NewEvent::of(&assigned("Ann"));
    store.append("ticket-1", Expect::Version(1), [&new]).wait().unwrap();
    let batch = store.read_all().forward().next_batch().unwrap().unwrap();
    let seen = |event: EventRef<'_>| {
        let tags: Vec<_> = event.tags().map(str::to_owned).collect();
        (event.payload().to_vec(), event.fingerprint(), event.schema_version(), tags)
    };
    let first = seen(batch.get(0).unwrap());
    assert_eq!(first.0, new.payload());
    assert!(batch.iter().all(|event| seen(event) == first));
}

#[test]
fn old_versions_become_the_newest_step_by_step_and_stay_where_they_are() {
    let events = [
        NewEvent::of(&AssignedV1 { to: "Ann".into() }),
        NewEvent::of(&AssignedV2 { to: "Bob".into(), priority: 2 }),
        NewEvent::of(&assigned("Cy")),
    ];
    with_events(&events, |events| {
        let first = events[0].get::<Assigned>().unwrap().unwrap();
        assert_eq!((&*first.to, first.priority.to_native(), &*first.notes[0]), ("Ann", 50, "old"));
        let second = events[1].get::<Assigned>().unwrap().unwrap();
        assert_eq!((&*second.to, second.priority.to_native()), ("Bob", 20));
        assert!(std::ptr::eq(first, events[0].get::<Assigned>().unwrap().unwrap()));
        // As the version between, too.
        assert_eq!(events[0].get::<AssignedV2>().unwrap().unwrap().priority, 5);
        assert_eq!(events[0].get::<AssignedV1>().unwrap().unwrap().to, "Ann");
        assert_eq!(events[1].decode::<Assigned>().unwrap().unwrap().priority, 20);
        let newer = reason_of(events[2].get::<AssignedV2>());
        assert!(matches!(newer, DecodeReason::Newer { known: 2 }));
        let newer = reason_of(events[1].get::<AssignedV1>());
        assert!(matches!(newer, DecodeReason::Newer { known: 1 }));
    });
}

#[test]
fn json_becomes_an_archived_version_and_json_without_a_version_is_of_the_first() {
    let rated = Rated { stars: 4, words: [("good".to_owned(), 2)].into() };
    let events = [
        NewEvent::of(&NotedV1 { text: "one".into() }),
        NewEvent::json_text("ticket-noted", r#"{"text": "two"}"#).unwrap(),
        NewEvent::of(&Noted { text: "three".into(), at: Some(3) }),
        NewEvent::of(&rated),
        NewEvent::json_text("ticket-noted", r#"{"texts": "two"}"#).unwrap(),
        NewEvent::bytes("ticket-noted", *b"{\"text\":\"a\"}"),
    ];
    with_events(&events, |events| {
        let texts: Vec<_> = events[..3]
            .iter()
            .map(|event| event.get::<Noted>().unwrap().unwrap().text.to_string())
            .collect();
        assert_eq!(texts, ["one", "two", "three"]);
        assert_eq!(events[0].payload_kind(), PayloadKind::Json);
        assert_eq!(events[0].get::<NotedV1>().unwrap().unwrap().text, "one");
        let seen = events[3].get::<Rated>().unwrap().unwrap();
        assert_eq!(seen, &rated);
        assert!(std::ptr::eq(seen, events[3].get::<Rated>().unwrap().unwrap()));
        assert!(events[3].tags().eq(["stars:4"]));
        let error = events[4].get::<Noted>().err().unwrap();
        assert!(matches!(error.reason(), DecodeReason::Payload(_)));
        assert!(error.to_string().contains("missing field `text`"), "{error}");
        let kind = reason_of(events[5].get::<Noted>());
        assert!(matches!(kind, DecodeReason::Kind { stored: PayloadKind::Bytes, .. }));
    });
}

#[test]
fn a_set_sees_old_and_new_in_one_loop_and_splits_what_it_says() {
    let moved = |seen| NewEvent::of(&Moved { from: "A".into(), to: "B".into(), seen });
    let events = [
        NewEvent::of(&AssignedV1 { to: "Ann".into() }),
        moved(true),
        moved(false),
        NewEvent::of(&MovedAgain { room: 4 }),
        NewEvent::of(&assigned("Bob")),
        NewEvent::json_text("ticket-noted", r#"{"text": "two"}"#).unwrap(),
    ];
    let store = store();
    store.append("ticket-1", Expect::NoStream, &events).wait().unwrap();
    let batch = store.read_all().forward().next_batch().unwrap().unwrap();
    let seen: Vec<_> = batch
        .typed::<Ticket>()
        .map(|event| {
            let (event, ticket) = event.unwrap();
            let text = match ticket {
                TicketRef::Assigned(assigned) => format!("to {}", assigned.to),
                TicketRef::Noted(noted) => noted.text.to_string(),
                TicketRef::Rated(rated) => format!("{} stars", rated.stars),
                TicketRef::Moved(moved) => format!("room {}", moved.room),
            };
            (event.version(), text)
        })
        .collect();
    let expected =
        [(0, "to Ann"), (1, "left A"), (1, "came to B"), (3, "room 4"), (4, "to Bob"), (5, "two")];
    assert_eq!(seen, expected.map(|(version, text)| (version, text.to_owned())));

    let split = batch.get(1).unwrap();
    assert!(matches!(reason_of(Ticket::view(split).map(drop)), DecodeReason::Split));
    assert!(matches!(reason_of(Ticket::decode(split).map(drop)), DecodeReason::Split));
    // SAFETY: it was appended as a value.
    let unchecked = unsafe { Ticket::view_unchecked(split) };
    assert!(matches!(reason_of(unchecked.map(drop)), DecodeReason::Split));
    assert_eq!(Ticket::views(split).unwrap().unwrap().len(), 2);
    assert_eq!(Ticket::views(batch.get(2).unwrap()).unwrap().unwrap().len(), 0);
    assert_eq!(Ticket::views(batch.get(3).unwrap()).unwrap().unwrap().len(), 1);
    assert_eq!(split.get::<Moved>().unwrap().unwrap().from, "A");
    assert!(matches!(reason_of(split.get::<MovedAgain>()), DecodeReason::TooOld { oldest: 2 }));
    assert!(matches!(Ticket::decode(batch.get(0).unwrap()), Ok(Some(Ticket::Assigned(_)))));
}

#[test]
fn the_reader_decides_whether_unknown_types_are_skipped_or_end_the_loop() {
    let store = store();
    let events =
        [NewEvent::of(&assigned("A")), NewEvent::bytes("x", *b""), NewEvent::of(&assigned("B"))];
    store.append("ticket-1", Expect::NoStream, &events).wait().unwrap();
    let batch = store.read_all().forward().next_batch().unwrap().unwrap();
    assert!(Ticket::view(batch.get(1).unwrap()).unwrap().is_none());
    assert!(Ticket::views(batch.get(1).unwrap()).unwrap().is_none());
    assert_eq!(batch.typed::<Ticket>().skip_unknown().flatten().count(), 2);
    let mut typed = batch.typed::<Ticket>();
    assert!(typed.next().unwrap().is_ok());
    let error = typed.next().unwrap().err().unwrap();
    assert!(matches!(error.reason(), DecodeReason::UnknownType));
    assert_eq!((error.position().get(), error.event_type()), (2, "x"));
    assert!(typed.next().is_none(), "an error ends the loop");
}

/// Types that were changed without a new version: of the struct itself, and of one in it.
mod changed {
    use super::*;

    #[derive(Event, Archive, Serialize, Deserialize)]
    #[rkyv(crate = stratalog::rkyv)]
    #[event(name = "ticket-assigned", version = 3, first)]
    pub struct Assigned {
        pub to: String,
        pub priority: u32,
        pub notes: Vec<String>,
    }

    pub mod before {
        use super::*;

        #[derive(Layout, Archive, Serialize, Deserialize)]
        #[rkyv(crate = stratalog::rkyv)]
        pub struct Place {
            pub latitude: f32,
            pub longitude: f32,
        }

        #[derive(Event, Archive, Serialize, Deserialize)]
        #[rkyv(crate = stratalog::rkyv)]
        #[event(name = "ticket-placed", version = 1)]
        pub struct Placed {
            pub place: Place,
        }
    }

    pub mod after {
        use super::*;

        /// The same bytes, in the other order.
        #[derive(Layout, Archive, Serialize, Deserialize)]
        #[rkyv(crate = stratalog::rkyv)]
        pub struct Place {
            pub longitude: f32,
            pub latitude: f32,
        }

        #[derive(Event, Archive, Serialize, Deserialize)]
        #[rkyv(crate = stratalog::rkyv)]
        #[event(name = "ticket-placed", version = 1)]
        pub struct Placed {
            pub place: Place,
        }
    }
}

#[test]
fn a_layout_that_was_changed_without_a_new_version_is_never_misread() {
    use changed::{after, before};
    let place = before::Place { latitude: 52.5, longitude: 13.4 };
    let events = [NewEvent::of(&assigned("Ann")), NewEvent::of(&before::Placed { place })];
    with_events(&events, |events| {
        let DecodeReason::Fingerprint { stored, expected } =
            reason_of(events[0].get::<changed::Assigned>())
        else {
            panic!("another reason");
        };
        assert_eq!((stored, expected), (Assigned::FINGERPRINT, changed::Assigned::FINGERPRINT));
        let error = events[0].decode::<changed::Assigned>().err().unwrap().to_string();
        for text in ["ticket-assigned", "version 3", &stored.to_string(), &expected.to_string()] {
            assert!(error.contains(text), "{error}");
        }
        let nested = reason_of(events[1].get::<after::Placed>());
        assert!(matches!(nested, DecodeReason::Fingerprint { .. }));
        // SAFETY: its payload is not touched.
        let unchecked = unsafe { events[1].get_unchecked::<after::Placed>() };
        assert!(matches!(reason_of(unchecked), DecodeReason::Fingerprint { .. }));
        assert!(events[1].get::<before::Placed>().unwrap().is_some());
    });
}

#[derive(EventSet)]
enum OldTicket {
    Assigned(AssignedV2),
}

#[derive(EventSet)]
enum ChangedTicket {
    Assigned(changed::Assigned),
}

#[derive(EventSet)]
enum NotedTicket {
    Noted(Noted),
}

/// Opens with a set, after these events were stored: in the tail, and in a sealed segment.
fn open_with<S: EventSet>(event: &NewEvent) -> [Option<Unsuited>; 2] {
    [false, true].map(|sealed| {
        let disk = Arc::new(MemoryDisk::new());
        let options = Store::options().segment_bytes(1 << 16);
        let store = options.open_on(disk.clone()).unwrap();
        store.append("ticket-1", Expect::NoStream, [event]).wait().unwrap();
        let filler = NewEvent::bytes("filler", vec![0; 12_000]);
        while sealed && store.stats().unwrap().indexed_events == 0 {
            store.append("filler", Expect::Any, [&filler]).wait().unwrap();
        }
        store.close().unwrap();
        let options = options.events::<S>();
        let read_only = options.open_read_only_on(disk.clone()).map(drop);
        let opened = options.open_on(disk.clone()).map(drop);
        let why = |opened: Result<(), OpenError>| match opened {
            Ok(()) => None,
            Err(OpenError::Events { event_type, why, .. }) => {
                assert_eq!(&*event_type, event.event_type());
                Some(why)
            }
            Err(other) => panic!("{other}"),
        };
        let (opened, read_only) = (why(opened), why(read_only));
        assert_eq!(opened, read_only);
        // Whoever does not ask for it can open it.
        assert_eq!(
            Store::options()
                .open_on(disk)
                .unwrap()
                .read_all()
                .from(1)
                .limit(1)
                .forward()
                .next_batch()
                .unwrap()
                .unwrap()
                .len(),
            1
        );
        opened
    })
}

#[test]
fn opening_checks_registered_sets_against_what_is_stored() {
    let current = NewEvent::of(&assigned("Ann"));
    assert_eq!(open_with::<Ticket>(&current), [None, None]);
    let newer = Some(Unsuited::Newer { known: 2 });
    assert_eq!(open_with::<OldTicket>(&current), [newer.clone(), newer]);
    let expected = changed::Assigned::FINGERPRINT;
    let other = Some(Unsuited::Fingerprint { expected });
    assert_eq!(open_with::<ChangedTicket>(&current), [other.clone(), other]);
    let old = NewEvent::of(&AssignedV1 { to: "Ann".into() });
    assert_eq!(open_with::<Ticket>(&old), [None, None]);
    let too_old = Some(Unsuited::TooOld { oldest: 3 });
    assert_eq!(open_with::<ChangedTicket>(&old), [too_old.clone(), too_old]);
    let moved = NewEvent::of(&Moved { from: "A".into(), to: "B".into(), seen: true });
    assert_eq!(open_with::<Ticket>(&moved), [None, None]);
    let json = NewEvent::json_text("ticket-noted", r#"{"text":"a"}"#).unwrap();
    assert_eq!(open_with::<NotedTicket>(&json), [None, None]);
    let plain = NewEvent::bytes("ticket-assigned", *b"a");
    let unversioned = Some(Unsuited::Unversioned);
    assert_eq!(open_with::<Ticket>(&plain), [unversioned.clone(), unversioned]);
    assert_eq!(open_with::<Ticket>(&NewEvent::bytes("nobody's", *b"a")), [None, None]);
}

#[test]
fn figures_tell_types_with_their_versions_layouts_and_counts() {
    let disk = Arc::new(MemoryDisk::new());
    let options = Store::options().segment_bytes(1 << 16);
    let store = options.open_on(disk.clone()).unwrap();
    for number in 0..100 {
        let old = NewEvent::of(&AssignedV1 { to: "x".repeat(2_000) });
        store.append("ticket-1", Expect::Any, [old]).wait().unwrap();
        if number % 2 == 0 {
            store.append("ticket-1", Expect::Any, [assigned(&"y".repeat(200))]).wait().unwrap();
        }
    }
    let figures = |store: &Store| {
        let stats = store.stats().unwrap();
        assert_eq!((stats.types, stats.events), (1, 150));
        stats
            .event_types
            .into_iter()
            .map(|of| (of.name, of.version, of.fingerprint, of.events))
            .collect::<Vec<_>>()
    };
    let expected = [
        ("ticket-assigned".into(), 1, AssignedV1::FINGERPRINT, 100),
        ("ticket-assigned".into(), 3, Assigned::FINGERPRINT, 50),
    ];
    assert!(store.stats().unwrap().indexed_events > 0, "some of it is sealed");
    assert_eq!(figures(&store), expected);
    drop(store);
    let store = Store::options().open_read_only_on(disk).unwrap();
    assert_eq!(figures(&store), expected);
}

#[test]
fn an_archived_payload_from_elsewhere_is_believed_by_nobody() {
    let (version, fingerprint) = (Assigned::VERSION, Assigned::FINGERPRINT);
    let whole = NewEvent::of(&assigned("Ann"));
    let archived = |payload: &[u8]| {
        NewEvent::archived("ticket-assigned", version, fingerprint, payload).unwrap()
    };
    let events = [
        archived(whole.payload()),
        archived(&whole.payload()[..20]),
        archived(b""),
        archived(&[0xFF; 64]),
    ];
    with_events(&events, |events| {
        assert_eq!(events[0].get::<Assigned>().unwrap().unwrap().to, "Ann");
        for event in &events[1..] {
            let error = event.get::<Assigned>().err().unwrap();
            assert!(matches!(error.reason(), DecodeReason::Payload(_)), "{error}");
            assert!(event.decode::<Assigned>().is_err());
            assert!(Ticket::view(*event).is_err());
        }
    });
    let unversioned = NewEvent::archived("ticket-assigned", 0, Fingerprint::NONE, *b"");
    assert!(unversioned.is_err());
}

#[test]
fn what_cannot_be_written_is_said_when_it_is_appended() {
    #[derive(Event, serde::Serialize, serde::Deserialize)]
    #[event(name = "odd", version = 1, json)]
    struct Odd {
        places: std::collections::BTreeMap<(u8, u8), u8>,
    }
    let odd = Odd { places: [((1, 2), 3)].into() };
    let store = store();
    let value = store.append("s", Expect::Any, [&odd]).wait().unwrap_err();
    assert!(value.to_string().contains("key must be a string"), "{value}");
    let new = store.append("s", Expect::Any, [NewEvent::of(&odd)]).wait().unwrap_err();
    assert!(new.to_string().contains("key must be a string"), "{new}");
    let tagged = assigned(&"x".repeat(300));
    assert!(store.append("s", Expect::Any, [&tagged]).wait().is_err(), "a tag that is too long");
    assert_eq!(store.head().get(), 0);
}

#[test]
fn values_that_are_too_large_alone_or_together_are_refused_and_nothing_is_appended() {
    let store = store();
    let of = |bytes: u64| {
        let note = "x".repeat(usize::try_from(bytes).unwrap());
        Assigned { to: "Ann".into(), priority: 1, notes: vec![note] }
    };
    let max = stratalog::limits::APPEND_BYTES_MAX;
    let alone = store.append("s", Expect::Any, [of(max)]).wait().unwrap_err();
    assert!(alone.to_string().contains(&max.to_string()), "{alone}");
    let half = of(max / 2);
    let together = store.append("s", Expect::Any, [&half, &half, &half]).wait().unwrap_err();
    assert!(matches!(together, AppendError::TooLarge { .. }), "{together}");
    store.append("s", Expect::Any, [&half]).wait().unwrap();
    assert_eq!(store.head().get(), 1);
}

#[test]
fn a_repeated_append_of_another_version_is_another_event() {
    let store = store();
    let id = stratalog::EventId::random();
    let payload = NewEvent::of(&assigned("Ann")).payload().to_vec();
    let of = |version| {
        NewEvent::archived("t", version, Assigned::FINGERPRINT, payload.clone()).unwrap().id(id)
    };
    store.append("s", Expect::Any, [of(1)]).wait().unwrap();
    assert!(store.append("s", Expect::Any, [of(1)]).wait().unwrap().is_repeated());
    assert!(store.append("s", Expect::Any, [of(2)]).wait().is_err());
}

/// What refers to itself has no derived layout; who declares one is bounded when it is read.
#[derive(Archive, Serialize, Deserialize)]
#[rkyv(
    crate = stratalog::rkyv,
    serialize_bounds(__S: stratalog::rkyv::ser::Writer),
    deserialize_bounds(__D::Error: stratalog::rkyv::rancor::Source),
    bytecheck(bounds(
        __C: stratalog::rkyv::validation::ArchiveContext,
        __C::Error: stratalog::rkyv::rancor::Source
    ))
)]
struct Chain {
    #[rkyv(omit_bounds)]
    next: Option<Box<Chain>>,
}

impl Layout for Chain {
    const LAYOUT: Fingerprint = Fingerprint::opaque("chain", 1);
}

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "chained", version = 1)]
struct Chained {
    chain: Chain,
}

#[test]
fn what_contains_itself_is_read_to_a_bound_and_not_to_the_end_of_the_stack() {
    let of = |links: usize| {
        let chain =
            (0..links).fold(Chain { next: None }, |next, _| Chain { next: Some(next.into()) });
        NewEvent::of(&Chained { chain })
    };
    with_events(&[of(50), of(1_000)], |events| {
        let mut chain = &events[0].get::<Chained>().unwrap().unwrap().chain;
        let mut links = 0;
        while let Some(next) = chain.next.as_ref() {
            (chain, links) = (next.get(), links + 1);
        }
        assert_eq!(links, 50);
        let error = events[1].get::<Chained>().err().unwrap();
        assert!(matches!(error.reason(), DecodeReason::Payload(_)), "{error}");
        assert!(events[1].decode::<Chained>().is_err());
    });
}

/// Names that a derive might stumble over.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "odd-names", version = 1, tag = "add:{add}-{event}-{{}}")]
struct OddNames {
    add: u8,
    event: u8,
    r#gen: u8,
}

#[test]
fn fields_may_have_any_name_and_a_raw_one_is_the_same() {
    let store = store();
    store.append("s", Expect::Any, [OddNames { add: 1, event: 2, r#gen: 3 }]).wait().unwrap();
    let batch = store.read_all().forward().next_batch().unwrap().unwrap();
    let event = batch.get(0).unwrap();
    assert!(event.tags().eq(["add:1-2-{}"]));
    assert_eq!(event.get::<OddNames>().unwrap().unwrap().r#gen, 3);
    let plain = ["add", "event", "gen"];
    let layout =
        plain.iter().fold(Fingerprint::of("struct"), |all, name| all.then(name).with(u8::LAYOUT));
    assert_eq!(OddNames::LAYOUT, layout);
}

/// Knows an event only to split it.
#[derive(EventSet)]
#[event_set(split(Moved, with = nothing))]
enum Blind {
    Assigned(Assigned),
}

fn nothing(_: Moved) -> [Blind; 0] {
    []
}

#[test]
fn a_newer_version_of_what_is_only_split_is_an_error_and_no_unknown_type() {
    let newer = NewEvent::of(&MovedAgain { room: 1 });
    with_events(std::slice::from_ref(&newer), |events| {
        let reason = reason_of(Blind::views(events[0]).map(drop));
        assert!(matches!(reason, DecodeReason::Newer { known: 1 }));
        assert!(matches!(
            reason_of(Blind::decode(events[0]).map(drop)),
            DecodeReason::Newer { .. }
        ));
    });
    let unsuited = Some(Unsuited::Newer { known: 1 });
    assert_eq!(open_with::<Blind>(&newer), [unsuited.clone(), unsuited]);
}

/// Reads what `Ticket` splits, of another layout.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-moved", version = 1)]
struct MovedOtherwise {
    from: u32,
}

#[derive(EventSet)]
enum Other {
    Moved(MovedOtherwise),
}

#[test]
fn each_registered_set_is_compared_by_itself_and_nothing_is_changed_before() {
    let disk = Arc::new(MemoryDisk::new());
    let store = Store::options().open_on(disk.clone()).unwrap();
    let moved = NewEvent::of(&Moved { from: "A".into(), to: "B".into(), seen: true });
    store.append("s", Expect::Any, [moved]).wait().unwrap();
    store.close().unwrap();
    let options = Store::options().events::<Ticket>().events::<Other>();
    let before = disk.fork();
    let refused = options.open_on(disk.clone()).map(drop);
    let Err(OpenError::Events { why: Unsuited::Fingerprint { expected }, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(expected, MovedOtherwise::FINGERPRINT);
    let case = |disk: MemoryDisk| Store::options().open_on(Arc::new(disk)).unwrap().opened_as();
    assert_eq!(case(disk.fork()), case(before), "it was closed cleanly, and still is");
}

/// Panics while it is archived.
struct Bomb;

impl Archive for Bomb {
    type Archived = stratalog::rkyv::rend::u32_le;
    type Resolver = ();

    fn resolve(&self, (): (), out: stratalog::rkyv::Place<Self::Archived>) {
        out.write(7.into());
    }
}

impl<S: stratalog::rkyv::rancor::Fallible + stratalog::rkyv::ser::Writer + ?Sized> Serialize<S>
    for Bomb
{
    fn serialize(&self, serializer: &mut S) -> Result<(), S::Error> {
        serializer.write(&[1; 40])?;
        panic!("as it is told");
    }
}

impl<D: stratalog::rkyv::rancor::Fallible + ?Sized> Deserialize<Bomb, D>
    for stratalog::rkyv::rend::u32_le
{
    fn deserialize(&self, _: &mut D) -> Result<Bomb, D::Error> {
        Ok(Bomb)
    }
}

impl Layout for Bomb {
    const LAYOUT: Fingerprint = Fingerprint::opaque("bomb", 1);
}

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "armed", version = 1)]
struct Armed {
    bomb: Bomb,
}

/// Appends something else where its event panics.
struct Caught;

impl stratalog::ToEvent for Caught {
    fn encode(
        &self,
        encoder: &mut stratalog::EventEncoder<'_>,
    ) -> Result<(), stratalog::EncodeError> {
        let armed = Armed { bomb: Bomb };
        let encode = std::panic::AssertUnwindSafe(|| armed.encode(encoder));
        assert!(std::panic::catch_unwind(encode).is_err());
        encoder.push(&NewEvent::bytes("fallback", *b"good"))
    }
}

#[test]
fn a_panic_while_a_value_is_archived_leaves_nothing_of_it_in_the_log() {
    let disk = Arc::new(MemoryDisk::new());
    let store = Store::options().open_on(disk.clone()).unwrap();
    store.append("s", Expect::Any, [Caught]).wait().unwrap();
    store.append("s", Expect::Any, [assigned("Ann")]).wait().unwrap();
    store.close().unwrap();
    let store = Store::options().open_on(disk).unwrap();
    let batch = store.read_all().forward().next_batch().unwrap().unwrap();
    let types: Vec<_> = batch.iter().map(|event| event.event_type()).collect();
    assert_eq!(types, ["fallback", "ticket-assigned"]);
    assert_eq!(batch.get(0).unwrap().payload(), b"good");
}
