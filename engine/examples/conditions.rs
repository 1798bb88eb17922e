//! Decisions that are guarded by queries: seats of a flight, each of which can be taken once, by passengers who may have
//! two at most. Neither rule belongs to one stream: an event is about a seat and about a passenger, and says so by its
//! tags. What a decision was based on is what its append is guarded by.
//!
//! `cargo run -p stratalog --example conditions`

use std::error::Error;
use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::{AppendError, Expect, NewEvent, Query, Store};

const SEATS_OF_A_PASSENGER_MAX: usize = 2;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new()))?;
    // Two who want the same seat at once, and one who wants too many.
    std::thread::scope(|scope| {
        let threads = ["ann", "bob"].map(|name| {
            let store = &store;
            scope.spawn(move || take(store, name, "12A"))
        });
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(outcome) => outcome.map(|said| println!("{said}")),
            Err(_) => Err("a thread panicked".into()),
        })
    })?;
    for seat in ["1A", "1B", "1C"] {
        println!("{}", take(&store, "eve", seat)?);
    }

    // A request that is sent again is recognised by its own tag.
    for _ in 0..2 {
        let known = Query::any().tags(["request:5e1f"]);
        let paid = NewEvent::json("fare-paid", &120)?.tag("passenger:ann").tag("request:5e1f");
        match store.append("payments", Expect::Any, [paid]).fail_if_exists(known).wait() {
            Ok(receipt) => println!("paid, at position {}", receipt.position()),
            Err(AppendError::AlreadyThere(why)) => println!("paid before: {why}"),
            Err(other) => return Err(other.into()),
        }
    }
    Ok(store.close()?)
}

/// Takes a seat, if the rules allow it, and says what came of it.
fn take(store: &Store, name: &str, seat: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    let (passenger, seat_tag) = (format!("passenger:{name}"), format!("seat:{seat}"));
    let of_seat = Query::any().types(["seat-taken"]).tags([&seat_tag]);
    let based_on = of_seat.or(Query::any().types(["seat-taken"]).tags([&passenger]));
    loop {
        // Everything that the rules ask about, in one read, so that there is one head up to which it was seen.
        let (mut takers, mut seats) = (0, 0);
        let mut reader = store.query(based_on.clone()).forward();
        while let Some(batch) = reader.next_batch()? {
            for event in &batch {
                takers += usize::from(event.tags().any(|tag| tag == seat_tag));
                seats += usize::from(event.tags().any(|tag| tag == passenger));
            }
        }
        let seen = reader.head();
        if takers > 0 {
            return Ok(format!("{name} cannot have {seat}: it is taken"));
        }
        if seats >= SEATS_OF_A_PASSENGER_MAX {
            return Ok(format!("{name} cannot have {seat}: {seats} seats are enough"));
        }
        let taken =
            NewEvent::json("seat-taken", &seat)?.tag(passenger.as_str()).tag(seat_tag.as_str());
        match store.append("flight-7", Expect::Any, [taken]).fail_if(based_on.clone(), seen).wait()
        {
            Ok(receipt) => {
                return Ok(format!("{name} has {seat}, at position {}", receipt.position()));
            }
            Err(AppendError::Conflict(conflict)) => println!("{name} decides again: {conflict}"),
            Err(other) => return Err(other.into()),
        }
    }
}
