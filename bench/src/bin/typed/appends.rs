//! Appending from one producer: values beside bytes that are as long.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::Instant;

use stratalog::{Append, AppendError, Expect, NewEvent, Store};
use stratalog_bench::{PAYLOAD_BYTES, stream_name};

use super::events::Posted;
use super::{Failure, per_second};

/// How many appends are on their way at most.
const IN_FLIGHT: usize = 1024;
const STREAMS: u64 = 1000;

/// Appends by turns; gives the events a second of values and of bytes, in the order of the rounds.
pub fn measure(
    directory: &Path,
    events: u64,
    rounds: u64,
) -> Result<(Vec<f64>, Vec<f64>), Failure> {
    let (mut values, mut bytes) = (Vec::new(), Vec::new());
    let in_new = |append: fn(&Store, u64) -> Result<f64, Failure>| -> Result<f64, Failure> {
        let directory = directory.join("appended");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        let store = Store::open(&directory)?;
        let rate = append(&store, events)?;
        store.close()?;
        fs::remove_dir_all(&directory)?;
        Ok(rate)
    };
    // The first one brings up what all need, and does not count.
    in_new(append_bytes)?;
    for round in 0..rounds {
        if round % 2 == 0 {
            bytes.push(in_new(append_bytes)?);
            values.push(in_new(append_values)?);
        } else {
            values.push(in_new(append_values)?);
            bytes.push(in_new(append_bytes)?);
        }
    }
    Ok((values, bytes))
}

fn append_values(store: &Store, events: u64) -> Result<f64, Failure> {
    let mut value = Posted::numbered(0);
    let begun = Instant::now();
    pipelined(events, |number, stream| {
        value.set_number(number);
        store.append(stream, Expect::Any, [&value])
    })?;
    Ok(per_second(events, begun.elapsed()))
}

fn append_bytes(store: &Store, events: u64) -> Result<f64, Failure> {
    let mut event = NewEvent::bytes("entry-posted", vec![7; PAYLOAD_BYTES]);
    let begun = Instant::now();
    pipelined(events, |number, stream| {
        event.payload_mut()[..8].copy_from_slice(&number.to_le_bytes());
        store.append(stream, Expect::Any, [&event])
    })?;
    Ok(per_second(events, begun.elapsed()))
}

/// Appends events with the numbers from 0 on to streams that take turns, and waits until all are durable.
pub fn pipelined(events: u64, mut append: impl FnMut(u64, &str) -> Append) -> Result<(), Failure> {
    let streams: Vec<String> = (0..STREAMS).map(stream_name).collect();
    let mut pending = VecDeque::with_capacity(IN_FLIGHT);
    for (number, stream) in (0..events).zip(streams.iter().cycle()) {
        if pending.len() == IN_FLIGHT {
            wait(pending.pop_front())?;
        }
        let mut append = append(number, stream);
        let claimed = loop {
            match append.try_submit() {
                Ok(claimed) => break claimed,
                Err(AppendError::Busy) if pending.is_empty() => std::thread::yield_now(),
                Err(AppendError::Busy) => wait(pending.pop_front())?,
                Err(error) => return Err(error.into()),
            }
        };
        pending.push_back(claimed);
    }
    while !pending.is_empty() {
        wait(pending.pop_front())?;
    }
    Ok(())
}

fn wait(pending: Option<stratalog::Pending>) -> Result<(), Failure> {
    if let Some(pending) = pending {
        pending.wait()?;
    }
    Ok(())
}
