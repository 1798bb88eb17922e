//! The bounds of an append: what is just within is taken and read back, what is just beyond is an error
//! before anything is claimed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::limits::{
    APPEND_BYTES_MAX, APPEND_EVENTS_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX, TAGS_MAX,
    append_bytes_max,
};
use stratalog::{AppendError, EncodeError, EventRef, EventView, Expect, NewEvent, Position, Store};

fn store() -> Store {
    Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap()
}

fn event() -> NewEvent {
    NewEvent::bytes("t", b"payload".as_slice())
}

/// Tries to append, in each of the ways to wait.
fn refused(store: &Store, stream: &str, events: &[NewEvent]) -> AppendError {
    let submitted = store.append(stream, Expect::Any, events).submit();
    assert!(submitted.is_err());
    let error = store.append(stream, Expect::Any, events).wait().unwrap_err();
    assert_eq!(store.head(), Position::START, "something was claimed");
    error
}

#[test]
fn an_append_has_at_most_65_536_events() {
    let store = store();
    let events = vec![event(); APPEND_EVENTS_MAX + 1];
    let error = refused(&store, "s", &events);
    assert!(matches!(error, AppendError::TooManyEvents { .. }), "{error}");
    let receipt = store.append("s", Expect::NoStream, &events[1..]).wait().unwrap();
    assert_eq!(receipt.versions(), 0..APPEND_EVENTS_MAX as u64);
    assert_eq!(receipt.event_ids().len(), APPEND_EVENTS_MAX);
    let mut count = 0;
    let mut reader = store.read_stream("s").forward();
    while let Some(batch) = reader.next_batch().unwrap() {
        count += batch.len();
    }
    assert_eq!(count, APPEND_EVENTS_MAX);
}

#[test]
fn an_append_takes_at_most_a_quarter_of_a_segment_and_16_mib() {
    for segment_bytes in [64 << 10, 1 << 20, 64 << 20, 128 << 20] {
        let options = Store::options().segment_bytes(segment_bytes);
        let disk = MemoryDisk::new();
        let store = options.open_on(Arc::new(disk.clone())).unwrap();
        let most = append_bytes_max(segment_bytes);
        assert_eq!(most, (segment_bytes / 4).min(APPEND_BYTES_MAX));
        let sized = |bytes: u64| NewEvent::bytes("t", vec![1; usize::try_from(bytes).unwrap()]);
        for bytes in [most, most + 1, 4 * most] {
            let error = refused(&store, "s", &[sized(bytes)]);
            assert!(matches!(error, AppendError::TooLarge { .. }), "{error}");
        }
        // The frame's header, its padding and the definition of its type take some of it.
        let large = sized(most - 256);
        for number in 0..6 {
            let receipt = store.append("s", Expect::Any, [&large]).wait().unwrap();
            assert_eq!(receipt.version(), number);
        }
        store.close().unwrap();
        let store = options.open_on(Arc::new(disk)).unwrap();
        let mut reader = store.read_all().forward();
        let mut count = 0;
        while let Some(batch) = reader.next_batch().unwrap() {
            assert!(batch.iter().all(|event| event.payload() == large.payload()));
            count += batch.len();
        }
        assert_eq!(count, 6);
    }
}

#[test]
fn an_append_without_events_is_an_error() {
    assert!(matches!(refused(&store(), "s", &[]), AppendError::Empty { .. }));
}

#[test]
fn names_tags_and_metadata_have_their_bounds() {
    let store = store();
    let longest = "n".repeat(NAME_BYTES_MAX);
    let long = "n".repeat(NAME_BYTES_MAX + 1);
    for bad in ["", &long, "a\u{7}b", "$mine"] {
        let error = refused(&store, bad, &[event()]);
        assert!(matches!(error, AppendError::Invalid(EncodeError::Name(_))), "{error}");
        let error = refused(&store, "s", &[NewEvent::bytes(bad, b"".as_slice())]);
        assert!(matches!(error, AppendError::Invalid(EncodeError::Name(_))), "{error}");
    }
    for bad in ["", &long, "a\nb"] {
        let error = refused(&store, "s", &[event().tag(bad)]);
        assert!(matches!(error, AppendError::Invalid(EncodeError::Name(_))), "{error}");
    }
    let tags = |count: usize| event().tags((0..count).map(|number| format!("tag:{number}")));
    let error = refused(&store, "s", &[tags(TAGS_MAX + 1)]);
    assert!(matches!(error, AppendError::Invalid(EncodeError::Tags { .. })), "{error}");
    let error = refused(&store, "s", &[event().metadata(vec![1; METADATA_BYTES_MAX + 1])]);
    assert!(matches!(error, AppendError::Invalid(EncodeError::Metadata { .. })), "{error}");

    let fullest = NewEvent::bytes(longest.as_str(), b"".as_slice())
        .tags((0..TAGS_MAX).map(|number| format!("{number:0>NAME_BYTES_MAX$}")))
        .metadata(vec![2; METADATA_BYTES_MAX]);
    store.append(&longest, Expect::NoStream, [&fullest]).wait().unwrap();
    let batch = store.read_stream(&longest).forward().next_batch().unwrap().unwrap();
    let found = batch.get(0).unwrap();
    assert_eq!((found.stream(), found.event_type()), (longest.as_str(), longest.as_str()));
    assert_eq!(found.tags().count(), TAGS_MAX);
    assert_eq!(found.metadata(), vec![2; METADATA_BYTES_MAX]);
    assert_eq!(found.payload(), b"");
}

#[test]
fn many_types_in_one_append_fit_or_are_too_much_together_with_their_definitions() {
    let options = Store::options().segment_bytes(64 << 10);
    let store = options.open_on(Arc::new(MemoryDisk::new())).unwrap();
    let named = |count: usize| -> Vec<NewEvent> {
        (0..count).map(|n| NewEvent::bytes(format!("{n:0>200}"), b"".as_slice())).collect()
    };
    assert!(matches!(refused(&store, "s", &named(60)), AppendError::TooLarge { .. }));
    for _ in 0..20 {
        store.append("s", Expect::Any, named(40)).wait().unwrap();
    }
    let mut reader = store.read_stream("s").forward();
    let mut count = 0;
    while let Some(batch) = reader.next_batch().unwrap() {
        for event in &batch {
            assert_eq!(event.event_type(), format!("{:0>200}", count % 40));
            count += 1;
        }
    }
    assert_eq!(count, 800);
}

#[test]
fn views_and_stores_travel_between_threads() {
    fn travels<T: Send + Sync + Clone + 'static>() {}
    fn is_copied<T: Copy>(_: &T) {}
    travels::<EventView>();
    travels::<Store>();
    let store = store();
    store.append("s", Expect::Any, [event()]).wait().unwrap();
    let view = {
        let batch = store.read_all().forward().next_batch().unwrap().unwrap();
        let event: EventRef<'_> = batch.get(0).unwrap();
        is_copied(&event);
        event.to_view()
    };
    drop(store);
    let payload = std::thread::spawn(move || view.event().payload().to_vec()).join().unwrap();
    assert_eq!(payload, b"payload");
}
