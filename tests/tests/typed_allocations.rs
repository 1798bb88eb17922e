//! Reading typed events in place allocates nothing: every allocation of the reading thread is counted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers as well")]

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;
use std::sync::Arc;

use stratalog::disk::MemoryDisk;
use stratalog::rkyv::{Archive, Deserialize, Serialize};
use stratalog::{Event, EventSet, Expect, Store};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system's allocator's; counting beside it allocates nothing, because the counter is a constant
// when its thread begins and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: MemoryLayout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "posted", version = 1)]
struct PostedV1 {
    account: String,
}

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "posted", version = 2, from = PostedV1, tag = "account:{account}")]
struct Posted {
    account: String,
    memo: String,
    amounts: Vec<u64>,
}

impl From<PostedV1> for Posted {
    fn from(old: PostedV1) -> Self {
        Self { account: old.account, memo: String::new(), amounts: vec![1] }
    }
}

#[derive(Event, Archive, Serialize, Deserialize)]
#[rkyv(crate = stratalog::rkyv)]
#[event(name = "closed", version = 1)]
struct Closed;

#[derive(EventSet)]
enum Ledger {
    Posted(Posted),
    Closed(Closed),
}

/// Sums what the batches hold, and gives how often that allocated.
fn read(store: &Store, unchecked: bool) -> (u64, u64) {
    let mut reader = store.read_all().forward();
    let (mut sum, mut allocations) = (0, 0);
    while let Some(batch) = reader.next_batch().unwrap() {
        let before = ALLOCATIONS.get();
        let mut add = |ledger: LedgerRef<'_>| match ledger {
            LedgerRef::Posted(posted) => {
                sum += (posted.account.len() + posted.memo.len()) as u64;
                sum += posted.amounts.iter().map(|amount| amount.to_native()).sum::<u64>();
            }
            LedgerRef::Closed(_) => sum += 1,
        };
        if unchecked {
            for event in &batch {
                // SAFETY: all were appended as values.
                add(unsafe { Ledger::view_unchecked(event) }.unwrap().unwrap());
            }
        } else {
            for event in batch.typed::<Ledger>() {
                let (event, ledger) = event.unwrap();
                add(ledger);
                if event.event_type() == Posted::NAME {
                    assert!(event.get::<Posted>().unwrap().is_some());
                }
            }
        }
        allocations += ALLOCATIONS.get() - before;
    }
    (sum, allocations)
}

#[test]
fn reading_current_events_allocates_nothing_and_old_ones_allocate_once_each() {
    let store = Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap();
    let posted = || Posted { account: "cash".into(), memo: "rent".into(), amounts: vec![3; 5] };
    for _ in 0..300 {
        let events = [Ledger::from(posted()), Closed.into()];
        store.append("ledger-1", Expect::Any, &events).wait().unwrap();
    }
    for unchecked in [false, true] {
        assert_eq!(read(&store, unchecked), (300 * 24, 0), "unchecked: {unchecked}");
    }
    store.append("ledger-1", Expect::Any, [PostedV1 { account: "cash".into() }]).wait().unwrap();
    let (sum, allocations) = read(&store, false);
    assert_eq!(sum, 300 * 24 + 5);
    assert!((1..20).contains(&allocations), "{allocations}");
}
