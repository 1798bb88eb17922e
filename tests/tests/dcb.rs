//! The worked examples of the specification of dynamic consistency boundaries (dcb.events): each decision is made from
//! what a query finds, and appended on the condition that nothing has come since that the query would find.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;

use stratalog::disk::MemoryDisk;
use stratalog::{AppendError, EventRef, Expect, NewEvent, Position, Query, Store};

fn open() -> Store {
    Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap()
}

/// Reads what a decision is based on, and the head up to which that is everything.
fn read(store: &Store, query: &Query, mut see: impl FnMut(EventRef<'_>)) -> Position {
    let mut reader = store.query(query.clone()).forward();
    while let Some(batch) = reader.next_batch().unwrap() {
        batch.iter().for_each(&mut see);
    }
    reader.head()
}

/// Decides until nobody was faster. The decision is a refusal, or the event that it leads to.
fn execute<R>(
    store: &Store,
    query: &Query,
    mut decide: impl FnMut(&[Seen]) -> Result<NewEvent, R>,
) -> Result<Position, R> {
    loop {
        let mut seen = Vec::new();
        let head = read(store, query, |event| seen.push(Seen::of(event)));
        let append = store.append("all", Expect::Any, [decide(&seen)?]);
        match append.fail_if(query.clone(), head).wait() {
            Ok(receipt) => return Ok(receipt.position()),
            Err(AppendError::Conflict(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// An event that was read.
struct Seen {
    event_type: String,
    tags: BTreeSet<String>,
    value: u64,
}

impl Seen {
    fn of(event: EventRef<'_>) -> Self {
        Self {
            event_type: event.event_type().into(),
            tags: event.tags().map(str::to_owned).collect(),
            value: u64::from_le_bytes(event.payload().try_into().unwrap()),
        }
    }

    fn is(&self, event_type: &str, tag: &str) -> bool {
        self.event_type == event_type && self.tags.contains(tag)
    }
}

fn event(event_type: &str, value: u64, tags: &[&str]) -> NewEvent {
    NewEvent::bytes(event_type, value.to_le_bytes()).tags(tags.iter().copied())
}

// --- course subscriptions

const COURSES_OF_A_STUDENT_MAX: usize = 5;

#[derive(Debug, PartialEq, Eq)]
enum NotSubscribed {
    NoCourse,
    CourseIsFull,
    StudentHasEnough,
    Twice,
}

/// A course has a capacity, and a student a number of courses: one decision is about both, and neither owns it.
fn subscribe(store: &Store, student: &str, course: &str) -> Result<Position, NotSubscribed> {
    let of_course = Query::any()
        .types(["CourseDefined", "CourseCapacityChanged", "StudentSubscribedToCourse"])
        .tags([course]);
    let of_student = Query::any().types(["StudentSubscribedToCourse"]).tags([student]);
    execute(store, &of_course.or(of_student), |seen| {
        let capacity = seen.iter().rfind(|seen| {
            seen.is("CourseDefined", course) || seen.is("CourseCapacityChanged", course)
        });
        let capacity = capacity.ok_or(NotSubscribed::NoCourse)?.value;
        let subscriptions = |tag: &str| -> Vec<&Seen> {
            seen.iter().filter(|seen| seen.is("StudentSubscribedToCourse", tag)).collect()
        };
        let (of_course, of_student) = (subscriptions(course), subscriptions(student));
        if of_student.iter().any(|seen| seen.tags.contains(course)) {
            return Err(NotSubscribed::Twice);
        }
        if of_course.len() as u64 >= capacity {
            return Err(NotSubscribed::CourseIsFull);
        }
        if of_student.len() >= COURSES_OF_A_STUDENT_MAX {
            return Err(NotSubscribed::StudentHasEnough);
        }
        Ok(event("StudentSubscribedToCourse", 0, &[student, course]))
    })
}

fn define(store: &Store, course: &str, capacity: u64) {
    let exists = Query::any().types(["CourseDefined"]).tags([course]);
    let defined = event("CourseDefined", capacity, &[course]);
    store.append("all", Expect::Any, [defined]).fail_if_exists(exists).wait().unwrap();
}

#[test]
fn course_subscriptions() {
    let store = open();
    assert_eq!(subscribe(&store, "student:1", "course:1"), Err(NotSubscribed::NoCourse));
    define(&store, "course:1", 2);
    subscribe(&store, "student:1", "course:1").unwrap();
    assert_eq!(subscribe(&store, "student:1", "course:1"), Err(NotSubscribed::Twice));
    subscribe(&store, "student:2", "course:1").unwrap();
    assert_eq!(subscribe(&store, "student:3", "course:1"), Err(NotSubscribed::CourseIsFull));
    let changed = event("CourseCapacityChanged", 3, &["course:1"]);
    store.append("all", Expect::Any, [changed]).wait().unwrap();
    subscribe(&store, "student:3", "course:1").unwrap();
    for course in 2..=5 {
        let course = format!("course:{course}");
        define(&store, &course, 10);
        subscribe(&store, "student:3", &course).unwrap();
    }
    define(&store, "course:6", 10);
    assert_eq!(subscribe(&store, "student:3", "course:6"), Err(NotSubscribed::StudentHasEnough));

    let defined = event("CourseDefined", 1, &["course:6"]);
    let exists = Query::any().types(["CourseDefined"]).tags(["course:6"]);
    let again = store.append("all", Expect::Any, [defined]).fail_if_exists(exists).wait();
    assert!(matches!(again, Err(AppendError::AlreadyThere(_))));
}

#[test]
fn course_subscriptions_of_many_at_once_keep_both_bounds() {
    const STUDENTS: usize = 24;
    const COURSES: usize = 12;
    const CAPACITY: usize = 7;
    let store = open();
    for course in 0..COURSES {
        define(&store, &format!("course:{course}"), CAPACITY as u64);
    }
    thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                for _ in 0..120 {
                    let student = format!("student:{}", random.usize(..STUDENTS));
                    let course = format!("course:{}", random.usize(..COURSES));
                    let _ = subscribe(store, &student, &course);
                }
            });
        }
    });
    let mut counts = BTreeMap::<String, usize>::new();
    let mut pairs = BTreeSet::new();
    read(&store, &Query::any().types(["StudentSubscribedToCourse"]), |event| {
        let tags: Vec<String> = event.tags().map(str::to_owned).collect();
        for tag in &tags {
            *counts.entry(tag.clone()).or_default() += 1;
        }
        assert!(pairs.insert(tags), "subscribed twice");
    });
    for (tag, count) in &counts {
        let most = if tag.starts_with("course") { CAPACITY } else { COURSES_OF_A_STUDENT_MAX };
        assert!(*count <= most, "{tag}: {count}");
    }
    assert!(counts.values().any(|count| *count == CAPACITY), "no bound was reached");
}

// --- unique user names

#[derive(Debug, PartialEq, Eq)]
struct NameIsTaken;

/// A name can be had again when its account was closed, or has another name.
fn register(store: &Store, name: &str) -> Result<Position, NameIsTaken> {
    let types = ["AccountRegistered", "AccountClosed", "UsernameChanged"];
    let tag = format!("username:{name}");
    let query = Query::any().types(types).tags([&tag]);
    execute(store, &query, |seen| {
        let is_claimed = seen.last().is_some_and(|last| match last.event_type.as_str() {
            "AccountRegistered" => true,
            // 1 stands for the account that gets the name, 0 for the one that gives it up.
            "UsernameChanged" => last.value == 1,
            _ => false,
        });
        if is_claimed { Err(NameIsTaken) } else { Ok(event("AccountRegistered", 0, &[&tag])) }
    })
}

#[test]
fn unique_user_names() {
    let store = open();
    register(&store, "u1").unwrap();
    assert_eq!(register(&store, "u1"), Err(NameIsTaken));
    register(&store, "u2").unwrap();
    let closed = event("AccountClosed", 0, &["username:u1"]);
    store.append("all", Expect::Any, [closed]).wait().unwrap();
    register(&store, "u1").unwrap();
    // A change concerns the old name and the new one.
    let changed = [
        event("UsernameChanged", 0, &["username:u1"]),
        event("UsernameChanged", 1, &["username:u3"]),
    ];
    store.append("all", Expect::Any, changed).wait().unwrap();
    assert_eq!(register(&store, "u3"), Err(NameIsTaken));
    register(&store, "u1").unwrap();
}

#[test]
fn one_of_many_who_want_a_name_gets_it() {
    let store = open();
    for round in 0..50 {
        let name = format!("name-{round}");
        let winners = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| register(&store, &name).is_ok())).collect();
            threads.into_iter().map(|thread| u32::from(thread.join().unwrap())).sum::<u32>()
        });
        assert_eq!(winners, 1);
    }
}

// --- invoice numbers

#[test]
fn invoice_numbers_have_no_gap_whoever_makes_them() {
    const EACH: u64 = 60;
    let store = open();
    let invoices = Query::any().types(["InvoiceCreated"]);
    // The last one is enough to know the next number.
    let create = || loop {
        let mut reader = store.query(invoices.clone()).backward();
        let last = reader.next_batch().unwrap();
        let last = last.as_ref().and_then(|batch| batch.get(0)).map(|last| Seen::of(last).value);
        let number = last.map_or(1, |last| last + 1);
        let created = event("InvoiceCreated", number, &[&format!("invoice:{number}")]);
        let append = store.append("invoices", Expect::Any, [created]);
        match append.fail_if(invoices.clone(), reader.head()).wait() {
            Ok(_) => break number,
            Err(AppendError::Conflict(_)) => {}
            Err(other) => panic!("{other}"),
        }
    };
    let mut numbers: Vec<u64> = thread::scope(|scope| {
        let work = || (0..EACH).map(|_| create()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(1..=3 * EACH));
}

// --- opt-in token

#[derive(Debug, PartialEq, Eq)]
enum NotConfirmed {
    NoSuchToken,
    Expired,
    Used,
}

const VALID_MINUTES: u64 = 60;

/// A token that was sent by mail, without any table of tokens: the event that it began with is asked for.
fn confirm(store: &Store, mail: &str, token: &str, now: u64) -> Result<Position, NotConfirmed> {
    let (mail, token) = (format!("email:{mail}"), format!("otp:{token}"));
    let query = Query::any().types(["SignUpInitiated", "SignUpConfirmed"]).tags([&mail, &token]);
    execute(store, &query, |seen| {
        let begun = seen.iter().find(|seen| seen.event_type == "SignUpInitiated");
        let begun = begun.ok_or(NotConfirmed::NoSuchToken)?;
        if seen.iter().any(|seen| seen.event_type == "SignUpConfirmed") {
            return Err(NotConfirmed::Used);
        }
        if now > begun.value + VALID_MINUTES {
            return Err(NotConfirmed::Expired);
        }
        Ok(event("SignUpConfirmed", now, &[&mail, &token]))
    })
}

#[test]
fn opt_in_tokens_are_used_once_and_in_time() {
    let store = open();
    for (mail, token) in [("a@example.com", "444444"), ("b@example.com", "555555")] {
        let tags = [format!("email:{mail}"), format!("otp:{token}")];
        let begun = event("SignUpInitiated", 100, &tags.each_ref().map(String::as_str));
        store.append("all", Expect::Any, [begun]).wait().unwrap();
    }
    let no_such = Err(NotConfirmed::NoSuchToken);
    assert_eq!(confirm(&store, "a@example.com", "000000", 100), no_such);
    assert_eq!(confirm(&store, "a@example.com", "555555", 100), no_such);
    confirm(&store, "a@example.com", "444444", 160).unwrap();
    assert_eq!(confirm(&store, "a@example.com", "444444", 160), Err(NotConfirmed::Used));
    assert_eq!(confirm(&store, "b@example.com", "555555", 161), Err(NotConfirmed::Expired));
}

// --- idempotency key

#[test]
fn a_request_that_is_sent_twice_is_carried_out_once() {
    let store = open();
    let place_order = |order: u64, token: &str| {
        let token = format!("idempotency:{token}");
        let placed = event("OrderPlaced", order, &[&format!("order:{order}"), &token]);
        let known = Query::any().types(["OrderPlaced"]).tags([&token]);
        store.append("orders", Expect::Any, [placed]).fail_if_exists(known).wait()
    };
    let first = place_order(12, "11111").unwrap();
    let Err(AppendError::AlreadyThere(there)) = place_order(12, "11111") else { panic!("twice") };
    assert_eq!(there.conditions().next().unwrap().position(), first.position());
    place_order(13, "22222").unwrap();

    // At once, by several who do not know of each other.
    for round in 0..50 {
        let token = format!("round-{round}");
        let placed = thread::scope(|scope| {
            let threads = [0; 4].map(|_| scope.spawn(|| place_order(round, &token).is_ok()));
            threads.map(|thread| u32::from(thread.join().unwrap())).iter().sum::<u32>()
        });
        assert_eq!(placed, 1);
    }
}
