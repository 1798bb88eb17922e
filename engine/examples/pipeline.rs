//! Submitting many appends without waiting for each, and handing events to another thread.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::mpsc;

use stratalog::{AppendError, EventView, Expect, NewEvent, Pending, Store};

const READINGS: u64 = 10_000;

fn main() -> Result<(), Box<dyn Error>> {
    // Beside the program: below the target folder, on a real disk.
    let program = std::env::current_exe()?;
    let folder = tempfile::tempdir_in(program.parent().ok_or("the program has no folder")?)?;
    let store = Store::open(folder.path())?;

    // What is submitted has its place at once, in the order of the calls, and commits whether somebody
    // waits for it or not. So each append can already expect the one before.
    let mut on_their_way: VecDeque<Pending> = VecDeque::new();
    let mut acknowledged = 0;
    for number in 0..READINGS {
        let expect = number.checked_sub(1).map_or(Expect::NoStream, Expect::Version);
        let reading = NewEvent::json("measured", &number)?;
        loop {
            match store.append("sensor-1", expect, [&reading]).submit() {
                Ok(pending) => break on_their_way.push_back(pending),
                // The store holds as much as it will: wait for the oldest, then submit again.
                Err(AppendError::Busy) => match on_their_way.pop_front() {
                    Some(oldest) => {
                        assert_eq!(oldest.wait()?.version(), acknowledged);
                        acknowledged += 1;
                    }
                    None => std::thread::yield_now(),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }
    println!("{} of {READINGS} were not waited for yet", on_their_way.len());
    for pending in on_their_way {
        assert_eq!(pending.wait()?.version(), acknowledged);
        acknowledged += 1;
    }
    assert_eq!((acknowledged, store.head().get()), (READINGS, READINGS));

    // A view owns its event's memory, so it can go where the batch does not.
    let (sender, receiver) = mpsc::channel::<EventView>();
    let summing = std::thread::spawn(move || -> Result<u64, serde_json::Error> {
        receiver.iter().map(|view| view.event().json::<u64>()).sum()
    });
    let mut reader = store.read_stream("sensor-1").forward();
    while let Some(batch) = reader.next_batch()? {
        for event in &batch {
            sender.send(event.to_view())?;
        }
    }
    drop(sender);
    let sum = summing.join().map_err(|_| "the other thread panicked")??;
    println!("the other thread summed them up: {sum}");
    assert_eq!(sum, READINGS * (READINGS - 1) / 2);

    store.close()?;
    Ok(())
}
