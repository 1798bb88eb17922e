//! Events as Rust types, which change over the years: version 1, then 2, then 3, read in one loop.
//!
//! ```text
//! cargo run --example typed_events
//! ```

use std::error::Error;
use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{Event, EventSet, Expect, Store};

// In the first year a ticket was just assigned to somebody. Old versions stay in the program as they were: a test compares
// them with golden files.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-assigned", version = 1)]
struct TicketAssignedV1 {
    resource: String,
}

// Then tickets got a priority, as a word.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-assigned", version = 2, from = TicketAssignedV1)]
struct TicketAssignedV2 {
    resource: String,
    seriousness: String,
}

impl From<TicketAssignedV1> for TicketAssignedV2 {
    fn from(old: TicketAssignedV1) -> Self {
        Self { resource: old.resource, seriousness: "normal".into() }
    }
}

// Then as a number, and each event is found by whom it is assigned to.
#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-assigned", version = 3, from = TicketAssignedV2, tag = "resource:{resource}")]
struct TicketAssigned {
    resource: String,
    priority: u8,
}

impl From<TicketAssignedV2> for TicketAssigned {
    fn from(old: TicketAssignedV2) -> Self {
        let priority = match &*old.seriousness {
            "critical" => 1,
            "normal" => 3,
            _ => 5,
        };
        Self { resource: old.resource, priority }
    }
}

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "ticket-closed", version = 1)]
struct TicketClosed {
    after_minutes: u32,
}

// What the program knows of a ticket: the newest version of each.
#[derive(EventSet)]
enum Ticket {
    Assigned(TicketAssigned),
    Closed(TicketClosed),
}

fn main() -> Result<(), Box<dyn Error>> {
    let disk = Arc::new(MemoryDisk::new());
    let store = Store::options().open_on(disk.clone())?;
    // Written over the years, each by the program of its time.
    let assigned = TicketAssignedV1 { resource: "Ann".into() };
    store.append("ticket-1", Expect::NoStream, [assigned]).wait()?;
    let assigned = TicketAssignedV2 { resource: "Bob".into(), seriousness: "critical".into() };
    store.append("ticket-2", Expect::NoStream, [assigned]).wait()?;
    let assigned = TicketAssigned { resource: "Cy".into(), priority: 4 };
    store.append("ticket-3", Expect::NoStream, [Ticket::from(assigned)]).wait()?;
    store.append("ticket-3", Expect::Version(0), [TicketClosed { after_minutes: 90 }]).wait()?;
    store.close()?;

    // Opening checks that everything that is stored under these names can be read.
    let store = Store::options().events::<Ticket>().open_on(disk)?;
    let mut reader = store.read_all().forward();
    let mut priorities = Vec::new();
    while let Some(batch) = reader.next_batch()? {
        // Events of the newest version are read in their place; nothing is copied.
        for event in batch.typed::<Ticket>() {
            let (event, ticket) = event?;
            match ticket {
                TicketRef::Assigned(assigned) => {
                    println!(
                        "{}: {} has it, with priority {} (stored as version {})",
                        event.stream(),
                        assigned.resource,
                        assigned.priority,
                        event.schema_version(),
                    );
                    priorities.push(assigned.priority);
                }
                TicketRef::Closed(closed) => {
                    println!("{}: closed after {} minutes", event.stream(), closed.after_minutes);
                }
            }
        }
    }
    assert_eq!(priorities, [3, 1, 4]);
    store.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use stratalog::testkit::golden;

    use super::*;

    #[test]
    fn every_version_is_stored_as_it_always_was() {
        golden("ticket-assigned-v1", &TicketAssignedV1 { resource: "Ann".into() });
        let second = TicketAssignedV2 { resource: "Bob".into(), seriousness: "critical".into() };
        golden("ticket-assigned-v2", &second);
        golden("ticket-assigned-v3", &TicketAssigned { resource: "Cy".into(), priority: 4 });
    }

    #[test]
    fn the_example_runs() -> Result<(), Box<dyn Error>> {
        main()
    }
}
