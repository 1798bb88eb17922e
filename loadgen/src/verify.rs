//! Reads a store back and compares it with what was acknowledged.

use std::collections::HashMap;

use stratalog::Store;

use crate::AnyError;
use crate::workload::{self, Account, EVENT_TYPE, STREAMS};

/// Holds a store against the ledger: in the order of the log, stream by stream, and by its own
/// verification.
pub(crate) fn check(store: &Store, ledger: &[Account]) -> Result<(), AnyError> {
    check_log(store, ledger)?;
    check_streams(store, ledger)?;
    let verification = store.verify(|_, _| {})?;
    match verification.findings.first() {
        Some(finding) => Err(finding.to_string().into()),
        None => Ok(()),
    }
}

/// Positions without a gap, versions without a gap in each stream, and exactly what was acknowledged.
fn check_log(store: &Store, ledger: &[Account]) -> Result<(), AnyError> {
    let numbers: HashMap<_, _> =
        (0..STREAMS).map(|number| (workload::stream_name(number), number)).collect();
    let mut found = vec![Account::default(); STREAMS];
    let mut position = 0;
    let mut reader = store.read_all().forward();
    while let Some(batch) = reader.next_batch()? {
        for event in &batch {
            position += 1;
            let number = numbers.get(event.stream()).copied();
            let number = number.ok_or_else(|| format!("unknown stream {}", event.stream()))?;
            let right = event.position().get() == position
                && event.version() == found[number].events
                && event.event_type() == EVENT_TYPE
                && *event.payload() == workload::payload(number, event.version());
            if !right {
                return Err(format!("position {position} holds {event:?}").into());
            }
            found[number].add(position, event.payload());
        }
    }
    compare(&found, ledger, "in the log")
}

/// The same events when each stream is read by itself.
fn check_streams(store: &Store, ledger: &[Account]) -> Result<(), AnyError> {
    let mut found = vec![Account::default(); STREAMS];
    for (number, found) in found.iter_mut().enumerate() {
        let name = workload::stream_name(number);
        let mut reader = store.read_stream(&name).forward();
        while let Some(batch) = reader.next_batch()? {
            for event in &batch {
                if event.stream() != name || event.version() != found.events {
                    return Err(format!("stream {name} holds {event:?}").into());
                }
                found.add(event.position().get(), event.payload());
            }
        }
    }
    compare(&found, ledger, "in the stream")
}

fn compare(found: &[Account], ledger: &[Account], place: &str) -> Result<(), AnyError> {
    for (number, (found, acknowledged)) in found.iter().zip(ledger).enumerate() {
        if found != acknowledged {
            let name = workload::stream_name(number);
            return Err(format!("{name}: acknowledged {acknowledged:?}, {place} {found:?}").into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stratalog::disk::MemoryDisk;

    use super::*;

    /// A store with `events` events in the first stream, and the ledger of them.
    fn store_with(events: u64) -> (Store, Vec<Account>) {
        let store = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
        let mut ledger = vec![Account::default(); STREAMS];
        for version in 0..events {
            let event = workload::event(0, version);
            let expect = workload::expect(version);
            let name = workload::stream_name(0);
            let receipt = store.append(&name, expect, [&event]).wait().unwrap();
            ledger[0].add(receipt.position().get(), event.payload());
        }
        (store, ledger)
    }

    #[test]
    fn what_was_acknowledged_passes() {
        let (store, ledger) = store_with(3);
        check(&store, &ledger).unwrap();
    }

    #[test]
    fn a_lost_event_is_found() {
        let (store, mut ledger) = store_with(3);
        ledger[0].add(4, &workload::payload(0, 3));
        let error = check(&store, &ledger).unwrap_err().to_string();
        assert!(error.contains("account-000000000000"), "{error}");
    }

    #[test]
    fn an_event_that_nobody_acknowledged_is_found() {
        let (store, _) = store_with(1);
        assert!(check(&store, &vec![Account::default(); STREAMS]).is_err());
    }

    #[test]
    fn another_payload_is_found() {
        let (store, mut ledger) = store_with(1);
        let other = workload::event(0, 7);
        let name = workload::stream_name(0);
        store.append(&name, workload::expect(1), [&other]).wait().unwrap();
        ledger[0].add(2, &workload::payload(0, 1));
        assert!(check(&store, &ledger).is_err());
    }
}
