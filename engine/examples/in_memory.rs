//! A store without files, and what a crash leaves of it: for the tests of programs that use a store.

use std::error::Error;
use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::{AppendError, Case, Expect, NewEvent, Store};

fn main() -> Result<(), Box<dyn Error>> {
    // The same engine, on a disk in memory. Clones of the disk are the same disk.
    let disk = MemoryDisk::new();
    let store = Store::options().open_on(Arc::new(disk.clone()))?;
    assert_eq!(store.opened_as(), Case::Fresh);
    let opened = NewEvent::json("ticket-opened", &"printer on fire")?;
    store.append("ticket-42", Expect::NoStream, [opened]).wait()?;

    // The machine stops here: a fork is another disk with what this one held at that moment. What the
    // first store does later is not on it.
    let crashed = disk.fork();
    store
        .append("ticket-42", Expect::Version(0), [NewEvent::json("ticket-closed", &())?])
        .wait()?;

    let after = Store::options().open_on(Arc::new(crashed))?;
    println!("after the crash: {}", after.opened_as());
    assert_eq!(
        after.head().get(),
        1,
        "what was acknowledged before the crash is there, and no more"
    );
    assert_eq!(store.head().get(), 2, "the first store goes on undisturbed");

    // A disk can also be told to fail. What was on its way is then of unknown outcome, unless the store
    // had noticed before and tried nothing. Reading goes on.
    disk.set_dead(true);
    let reopened = NewEvent::json("ticket-reopened", &"still on fire")?;
    match store.append("ticket-42", Expect::Version(1), [reopened]).wait() {
        Err(error @ (AppendError::Unknown { .. } | AppendError::Poisoned(_))) => {
            println!("the disk is gone: {error}");
        }
        other => return Err(format!("the disk is gone, but: {other:?}").into()),
    }
    assert_eq!(store.stream_head("ticket-42")?, Some(1));
    assert!(store.close().is_err(), "a store that failed says so when it is closed");

    // Opening again settles it: what was acknowledged is there.
    disk.set_dead(false);
    let store = Store::options().open_on(Arc::new(disk))?;
    println!("opened again: {}", store.opened_as());
    assert_eq!(store.stream_head("ticket-42")?, Some(1));
    store.close()?;
    Ok(())
}
