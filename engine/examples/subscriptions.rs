//! Subscriptions: catching up with the log, following it, and being told of what one is too slow for.
//!
//! Run with: `cargo run -p stratalog --example subscriptions`

use std::error::Error;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use stratalog::disk::MemoryDisk;
use stratalog::{Expect, Message, NewEvent, Query, Store, SubscribeError};

fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new()))?;
    append(&store, 3)?;

    // What is stored and what comes is one loop; in between it is told that it has caught up.
    let mut live = store.subscribe().name("mail").falls_behind(10).start()?;
    loop {
        match live.recv()? {
            Message::Events(batch) => println!("{} events", batch.len()),
            Message::CaughtUp(position) => break println!("caught up at position {position}"),
            Message::FellBehind { .. } => unreachable!("it was never caught up"),
        }
    }
    append(&store, 1)?;
    assert!(matches!(live.recv()?, Message::Events(batch) if batch.len() == 1));

    // Another one, of some events only, on a thread of its own, until the store is closed.
    let mut opened = store.subscribe().filter(Query::any().types(["opened"])).start()?;
    let follower = thread::spawn(move || {
        let mut seen = 0;
        loop {
            match opened.recv() {
                Ok(Message::Events(batch)) => seen += batch.len(),
                Ok(Message::CaughtUp(_) | Message::FellBehind { .. }) => {}
                Err(SubscribeError::Closed) => return Ok(seen),
                Err(error) => return Err(error),
            }
        }
    });

    // Nobody who appends waits for the first one. It is told, loses nothing, and goes on from where it is.
    append(&store, 20)?;
    match live.recv()? {
        Message::FellBehind { events, time } => println!("{events} events behind, {time:?}"),
        other => return Err(format!("{other:?} instead of having fallen behind").into()),
    }
    for consumer in store.consumers() {
        println!("{:?} is at position {}", consumer.name, consumer.position);
    }

    // The same for tasks, which need no particular runtime; here it is the smallest that there is.
    store.close()?;
    let mut received = 0;
    loop {
        match block_on(live.recv_async()) {
            Ok(Message::Events(batch)) => received += batch.len(),
            Ok(message) => println!("{message:?}"),
            Err(SubscribeError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let seen = follower.join().map_err(|_| "the follower panicked")??;
    println!("{received} events until the end, and {seen} of all were opened");
    assert_eq!((received, seen), (20, 13));
    Ok(())
}

/// Appends so many events, each second of which is of something opened.
fn append(store: &Store, events: u64) -> Result<(), Box<dyn Error>> {
    for number in 0..events {
        let event_type = if number % 2 == 0 { "opened" } else { "closed" };
        let event = NewEvent::json(event_type, &number)?;
        store.append("door-1", Expect::Any, [event]).wait()?;
    }
    Ok(())
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
