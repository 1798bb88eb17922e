//! Appending with an expected version, handling a conflict, and reading back.
//!
//! Two clerks work on the same ticket. The second decides on what it read before the first wrote, so its
//! append conflicts: it reads what it has not seen, decides again, and appends again.

use std::error::Error;

use stratalog::{AppendError, Expect, NewEvent, Receipt, Store, StreamConflict};

fn main() -> Result<(), Box<dyn Error>> {
    // Beside the program: below the target folder, on a real disk.
    let program = std::env::current_exe()?;
    let folder = tempfile::tempdir_in(program.parent().ok_or("the program has no folder")?)?;
    let store = Store::open(folder.path())?;

    // The first event of a stream has version 0. Several events in one append are one unit.
    let opened = NewEvent::json("ticket-opened", &"printer on fire")?.tag("customer:7");
    let receipt = store.append("ticket-42", Expect::NoStream, [opened]).wait()?;
    assert_eq!((receipt.version(), receipt.position().get()), (0, 1));

    // What both clerks have seen.
    let seen = store.stream_head("ticket-42")?.ok_or("the ticket was opened")?;
    let assigned =
        [NewEvent::json("ticket-assigned", &"Ann")?, NewEvent::json("priority-raised", &"urgent")?];
    store.append("ticket-42", Expect::Version(seen), &assigned).wait()?;
    let receipt = assign(&store, "ticket-42", seen, "Bob")?;
    assert_eq!(receipt.version(), 3);
    store
        .append("ticket-43", Expect::NoStream, [NewEvent::json("ticket-opened", &"no toner")?])
        .wait()?;

    // One stream, in the order of its versions.
    let mut types = Vec::new();
    let mut reader = store.read_stream("ticket-42").forward();
    while let Some(batch) = reader.next_batch()? {
        for event in &batch {
            println!("{} {}: {}", event.version(), event.event_type(), event.json::<&str>()?);
            types.push(event.event_type().to_owned());
        }
    }
    assert_eq!(types, ["ticket-opened", "ticket-assigned", "priority-raised", "ticket-reassigned"]);

    // Everything, in the order of positions, which has no gaps.
    let mut positions = Vec::new();
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch()? {
        positions.extend(batch.iter().map(|event| event.position().get()));
    }
    assert_eq!(positions, [1, 2, 3, 4, 5]);

    // The last two, newest first.
    let mut newest = Vec::new();
    let mut reader = store.read_all().limit(2).backward();
    while let Some(batch) = reader.next_batch()? {
        newest.extend(batch.iter().map(|event| format!("{}@{}", event.stream(), event.version())));
    }
    println!("newest: {newest:?}");
    assert_eq!(newest, ["ticket-43@0", "ticket-42@3"]);

    store.close()?;
    Ok(())
}

/// Assigns a ticket to somebody, whoever has it by now. `seen` is the last version that was looked at.
fn assign(
    store: &Store,
    ticket: &str,
    mut seen: u64,
    name: &str,
) -> Result<Receipt, Box<dyn Error>> {
    let mut event_type = "ticket-assigned";
    loop {
        let event = NewEvent::json(event_type, &name)?;
        match store.append(ticket, Expect::Version(seen), [event]).wait() {
            Err(AppendError::Conflict(conflict)) => {
                println!("{conflict}");
                let unseen = conflict.streams().map(StreamConflict::unseen_from).next();
                let mut reader = store.read_stream(ticket).from(unseen.unwrap_or(0)).forward();
                while let Some(batch) = reader.next_batch()? {
                    for event in &batch {
                        println!("  not seen: {} {}", event.version(), event.event_type());
                        // Somebody has it already, so this becomes another decision.
                        if event.event_type() == "ticket-assigned" {
                            event_type = "ticket-reassigned";
                        }
                        seen = event.version();
                    }
                }
            }
            receipt => return Ok(receipt?),
        }
    }
}
