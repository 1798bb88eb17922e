//! Money that goes from one account to another: two streams, changed as one unit, or not at all. A client that does not know
//! whether its transfer has happened sends it again, with the same ids; and a consumer writes a statement for each transfer
//! exactly once, since its checkpoint moves with what it writes.
//!
//! `cargo run -p stratalog --example transactions`

use std::error::Error;
use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::{AppendError, EventId, Expect, NewEvent, Query, Store};

/// A transfer as a client sends it, with an id for each of its events.
struct Transfer {
    ids: [EventId; 2],
    from: &'static str,
    to: &'static str,
    cents: i64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new()))?;
    let paid_in = NewEvent::json("paid-in", &10_000)?;
    store.append("account-ann", Expect::NoStream, [paid_in]).wait()?;

    let ids = || [EventId::random(), EventId::random()];
    let rent = Transfer { ids: ids(), from: "account-ann", to: "account-bob", cents: 7_500 };
    println!("{}", transfer(&store, &rent)?);
    // The answer was lost on its way, so that it is sent again.
    println!("{}", transfer(&store, &rent)?);
    let more = Transfer { ids: ids(), ..rent };
    println!("{}", transfer(&store, &more)?);

    println!(
        "ann has {}, bob has {}",
        balance(&store, "account-ann")?.0,
        balance(&store, "account-bob")?.0
    );
    println!("{} statements, then {}", write_statements(&store)?, write_statements(&store)?);
    Ok(store.close()?)
}

/// What an account has, and the version that it has it at.
fn balance(store: &Store, account: &str) -> Result<(i64, Expect), Box<dyn Error>> {
    let (mut cents, mut expect) = (0, Expect::NoStream);
    let mut reader = store.read_stream(account).forward();
    while let Some(batch) = reader.next_batch()? {
        for event in &batch {
            let amount = event.json::<i64>()?;
            cents += if event.event_type() == "sent" { -amount } else { amount };
            expect = Expect::Version(event.version());
        }
    }
    Ok((cents, expect))
}

/// Decides on what is there, and again if that has changed meanwhile.
fn transfer(store: &Store, transfer: &Transfer) -> Result<String, Box<dyn Error>> {
    let Transfer { ids, from, to, cents } = transfer;
    // One that has happened is not decided on again: it is what has changed the balance.
    let known = store.find(ids[0])?.is_some();
    loop {
        let (available, expect) = balance(store, from)?;
        if !known && available < *cents {
            return Ok(format!("{from} has {available}, which is less than {cents}"));
        }
        let expect = if known { Expect::Any } else { expect };
        let outcome = store
            .transaction()
            .append(from, expect, [NewEvent::json("sent", cents)?.id(ids[0])])
            .append(to, Expect::Any, [NewEvent::json("received", cents)?.id(ids[1])])
            .commit()
            .wait();
        match outcome {
            Ok(receipt) if receipt.is_repeated() => return Ok("it had happened before".into()),
            Ok(_) => return Ok(format!("{cents} from {from} to {to}")),
            Err(AppendError::Conflict(_)) => {}
            Err(other) => return Err(other.into()),
        }
    }
}

/// Writes a statement for each transfer that has none, and says how many.
fn write_statements(store: &Store) -> Result<u32, Box<dyn Error>> {
    let mut checkpoint = store.checkpoint("statements")?;
    let mut written = 0;
    let sent = Query::any().types(["sent"]);
    let mut reader = store.query(sent).after(checkpoint.position()).forward();
    while let Some(batch) = reader.next_batch()? {
        for event in &batch {
            let statement = NewEvent::json("statement", &event.json::<i64>()?)?.caused_by(event);
            let moved = checkpoint.moved_to(event.position());
            store
                .transaction()
                .append("statements", Expect::Any, [statement])
                .checkpoint(&moved)
                .commit()
                .wait()?;
            (checkpoint, written) = (moved, written + 1);
        }
    }
    Ok(written)
}
