//! Projections: two read models of a help desk, which follow the log while it grows.
//!
//! Run with: `cargo run --release -p stratalog --example projections`
//!
//! Given a file in JSON Lines, as `stratalog import` takes it, the events are those of the file, whose `data` may have a
//! `workgroup` and an `org:resource`; without one they are made up.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::Duration;

use stratalog::disk::MemoryDisk;
use stratalog::rkyv::with::AsVec;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{
    AnyEvent, Applied, EventRef, Expect, NewEvent, Position, Projection, State, Store,
};

/// What an event says of its ticket.
#[derive(serde::Deserialize)]
struct Said {
    workgroup: Option<String>,
    #[serde(rename = "org:resource")]
    resource: Option<String>,
}

/// The tickets that are not closed, and the group that has each.
#[derive(State, Archive, Serialize, Deserialize, Default, Clone, Debug, PartialEq)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "open-tickets", version = 1)]
struct Tickets {
    #[rkyv(with = AsVec)]
    group_of: BTreeMap<String, String>,
}

struct OpenTickets;

impl Projection for OpenTickets {
    type State = Tickets;
    // Payloads of JSON, of types that the program need not know; a derived `EventSet` would give them as Rust types.
    type Events = AnyEvent;

    fn initial(&self) -> Tickets {
        Tickets::default()
    }

    // The key is the stream, which is the default: so each ticket is in one lane, and its events come in their order.
    fn apply(&self, tickets: &mut Tickets, event: EventRef<'_>, _: EventRef<'_>) -> Applied {
        if event.event_type() == "Closed" {
            tickets.group_of.remove(event.stream());
        } else {
            let group = event.json::<Said>()?.workgroup.unwrap_or_else(|| "nobody".into());
            tickets.group_of.insert(event.stream().into(), group);
        }
        Ok(())
    }
}

/// How often each agent has done what.
#[derive(State, Archive, Serialize, Deserialize, Default, Clone)]
#[rkyv(crate = stratalog::rkyv)]
#[state(name = "activity", version = 1)]
struct Counts {
    #[rkyv(with = AsVec)]
    by_type: BTreeMap<String, u64>,
    #[rkyv(with = AsVec)]
    by_agent: BTreeMap<String, u64>,
}

struct Activity;

impl Projection for Activity {
    type State = Counts;
    type Events = AnyEvent;

    fn initial(&self) -> Counts {
        Counts::default()
    }

    fn apply(&self, counts: &mut Counts, event: EventRef<'_>, _: EventRef<'_>) -> Applied {
        let agent = event.json::<Said>()?.resource.unwrap_or_else(|| "nobody".into());
        *counts.by_type.entry(event.event_type().into()).or_default() += 1;
        *counts.by_agent.entry(agent).or_default() += 1;
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new()))?;
    // Each follows the log on threads of its own: two lanes, which share the tickets out between them, and one.
    let tickets = store.project(OpenTickets).lanes(2).start()?;
    let activity = store.project(Activity).start()?;

    let last = match std::env::args_os().nth(1) {
        Some(path) => append_lines(&store, BufReader::new(File::open(path)?))?,
        None => append_made_up(&store)?,
    };
    // Nobody who appended has waited for them; how far they are can be seen at any time.
    let status = tickets.status();
    println!("{} is {:?}, at position {}", status.name, status.phase, status.position);
    for lane in &status.lanes {
        let since = lane.lag.unwrap_or_default();
        println!("{:8} events to go in a lane, the first of {since:?} ago", lane.lag_events);
    }

    // Read your own writes: the position is that of the receipt of the last append.
    tickets.wait_for(last).timeout(Duration::from_mins(1)).wait()?;
    let view = tickets.view().wait()?;
    println!("open tickets by group, up to position {}:", view.position());
    let mut of_group = BTreeMap::<_, u64>::new();
    for group in view.states().flat_map(|lane| lane.group_of.values()) {
        *of_group.entry(group).or_default() += 1;
    }
    print(of_group.iter().map(|(group, open)| (*group, open)));

    // A view stays as it is, while the projection goes on.
    let opened = NewEvent::json("Insert ticket", &serde_json::json!({ "workgroup": "doors" }))?;
    let receipt = store.append("case-of-today", Expect::NoStream, [opened]).wait()?;
    tickets.wait_for(receipt.position()).wait()?;
    let now = tickets.view().wait()?;
    // One ticket is looked for in the lane that has it.
    let case = |tickets: &Tickets| tickets.group_of.get("case-of-today").cloned();
    assert_eq!(case(view.state_of("case-of-today")), None);
    assert_eq!(case(now.state_of("case-of-today")).as_deref(), Some("doors"));

    activity.wait_for(receipt.position()).wait()?;
    let counts = activity.view().wait()?;
    println!("events by type, and of the busiest agents:");
    print(&counts.state().by_type);
    let mut agents: Vec<_> = counts.state().by_agent.iter().collect();
    agents.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    print(agents.into_iter().take(3));
    assert_eq!(counts.state().by_type.values().sum::<u64>(), counts.position().get());

    // What the states reflect is saved when it is stopped, and the next start goes on from there.
    let position = tickets.stop()?;
    let tickets = store.project(OpenTickets).lanes(2).start()?;
    assert_eq!(tickets.position(), position);
    assert!(tickets.view().wait()?.states().eq(now.states()));
    println!("it goes on from position {position}");
    // Closing the store stops what still runs, and saves it.
    Ok(store.close()?)
}

fn print<'a>(rows: impl IntoIterator<Item = (&'a String, &'a u64)>) {
    for (name, times) in rows {
        println!("{times:8} {name}");
    }
}

/// Appends what the lines of a file say, but for their times, and gives the last position.
fn append_lines(store: &Store, lines: impl BufRead) -> Result<Position, Box<dyn Error>> {
    #[derive(serde::Deserialize)]
    struct Line {
        stream: String,
        r#type: String,
        data: serde_json::Value,
        #[serde(default)]
        tags: Vec<String>,
    }
    for line in lines.lines() {
        let Line { stream, r#type, data, tags } = serde_json::from_str(&line?)?;
        let event = NewEvent::json(r#type, &data)?.tags(tags);
        store.append(&stream, Expect::Any, [event]).wait()?;
    }
    Ok(store.head())
}

/// Appends some tickets of a day, of which every fifth stays open, and gives the last position.
fn append_made_up(store: &Store) -> Result<Position, Box<dyn Error>> {
    let groups = ["printers", "doors", "lifts"];
    let agents = ["Ann", "Bob", "Cy", "Dee", "Eve"];
    for number in 0..1_000 {
        let (group, agent) = (groups[number % 7 % 3], agents[number % 11 % 5]);
        let data = serde_json::json!({ "workgroup": group, "org:resource": agent });
        let steps = ["Insert ticket", "Assign seriousness", "Resolve ticket", "Closed"];
        let done = if number % 5 == 0 { 2 } else { steps.len() };
        let events = steps[..done].iter().map(|step| NewEvent::json(*step, &data));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        store.append(&format!("case-{number}"), Expect::NoStream, events).wait()?;
    }
    Ok(store.head())
}
