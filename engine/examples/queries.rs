//! Finding events: by type and tag, of a category, from a time on, by id; and listing streams.
//!
//! `cargo run -p stratalog --example queries`

use std::error::Error;
use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::{Batch, Expect, NewEvent, Query, Store};

fn main() -> Result<(), Box<dyn Error>> {
    // On a disk in memory, so that the example leaves nothing behind; a directory works the same.
    let store = Store::options().open_on(Arc::new(MemoryDisk::new()))?;
    let opened = |what: &str, customer: &str| {
        Ok::<_, stratalog::EncodeError>(
            NewEvent::json("opened", &what)?.tags([format!("customer:{customer}"), what.into()]),
        )
    };
    store.append("ticket-1", Expect::NoStream, [opened("printer", "7")?]).wait()?;
    store.append("ticket-2", Expect::NoStream, [opened("door", "8")?]).wait()?;
    let moved = NewEvent::json("moved", &"to room 12")?.tag("customer:7");
    let receipt = store.append("customer-7", Expect::NoStream, [moved]).wait()?;
    let before_closing = store.head();
    let closed = NewEvent::json("closed", &"new toner")?.tag("customer:7");
    store.append("ticket-1", Expect::Version(0), [closed]).wait()?;

    println!("everything of customer 7:");
    print(&store, Query::any().tags(["customer:7"]))?;
    println!("what was opened for customer 7, or happened to any customer:");
    let opened = Query::any().types(["opened"]).tags(["customer:7"]);
    print(&store, opened.or(Query::any().category("customer")))?;

    println!("the last two of all tickets:");
    let mut reader = store.query(Query::any().category("ticket")).limit(2).backward();
    while let Some(batch) = reader.next_batch()? {
        show(&batch);
    }

    // Has anything of this customer happened since? The reader says up to where it has looked.
    let of_customer = Query::any().tags(["customer:7"]);
    let mut since = store.query(of_customer).after(before_closing).forward();
    let news = since.next_batch()?.map_or(0, |batch| batch.len());
    println!("since position {before_closing}: {news}, up to position {}", since.head());

    let found = store.find(receipt.event_ids()[0])?.ok_or("it was appended")?;
    println!("by its id: {} of {}", found.event().event_type(), found.event().stream());
    let from = store.at_time(found.event().recorded_at())?.ok_or("it was recorded")?;
    println!("recorded then or later: from position {from} on");
    for stream in store.streams("ticket") {
        println!("there is a stream {}", stream?);
    }
    Ok(store.close()?)
}

fn print(store: &Store, query: Query) -> Result<(), Box<dyn Error>> {
    let mut reader = store.query(query).forward();
    while let Some(batch) = reader.next_batch()? {
        show(&batch);
    }
    Ok(())
}

fn show(batch: &Batch) {
    for event in batch {
        let tags: Vec<_> = event.tags().collect();
        println!("  {} {} {} {tags:?}", event.position(), event.stream(), event.event_type());
    }
}
