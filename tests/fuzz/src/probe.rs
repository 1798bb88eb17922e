//! Puts hostile payloads into a store, reads them back in every way, and judges what is read.
//!
//! Owns what has to hold: an error or a valid view, the same by every way; a view that lies in its payload; values that are
//! the same when they are written and read again; and bounds on memory. Calls the store, [`allocated`](super::allocated) and
//! [`events`](super::events). Whatever does not hold is a panic.
//!
//! Undefined behaviour is seen as far as assertions can see it: those of the standard library on its unsafe functions, which
//! are on where those of this crate are, and those here that a view lies in its payload and that texts are UTF-8.

use std::fmt::{self, Debug, Display, Write};
use std::sync::Arc;

use stratalog::derived::Form;
use stratalog::disk::MemoryDisk;
use stratalog::limits::RECORD_ALIGN;
use stratalog::{
    Batch, DecodeError, DecodeReason, EventRef, EventSet, Expect, NewEvent, PayloadKind, Store,
    ToEvent,
};

use super::allocated;
use super::events::{
    Chain, ChainV1, ChainV2, Known, Listed, Measured, MeasuredV1, Moved, MovedOn, Nested, Noted,
    Sample, Scalars, Taken, Texts,
};

/// Reading a payload of `n` bytes once may allocate `64 n` bytes and 64 KiB, freed or not.
const BYTES_FOR_EACH: u64 = 64;
const BYTES_AT_ALL: u64 = 64 << 10;

/// A store, for hostile payloads.
pub struct Probe {
    store: Store,
    /// How many of the judged events were valid values of a type.
    valid: u64,
}

impl Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("valid", &self.valid).finish_non_exhaustive()
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe {
    /// With an empty store, in memory.
    ///
    /// # Panics
    /// Where it cannot be opened.
    pub fn new() -> Self {
        let disk = Arc::new(MemoryDisk::new());
        let store = Store::options().open_on(disk).expect("a new store opens");
        Self { store, valid: 0 }
    }

    /// How many of the judged events were valid values of a type.
    pub fn valid(&self) -> u64 {
        self.valid
    }

    /// Appends the events, reads each, and judges.
    ///
    /// # Panics
    /// Where something does not hold.
    pub fn judge(&mut self, events: &[NewEvent]) {
        for batch in self.put(events) {
            for event in &batch {
                self.judge_as_all(event);
            }
            // Over a clone, since it makes its own of what is not read in its place.
            judge_batch(&batch.clone());
        }
    }

    /// Appends, and reads what was appended.
    fn put<E: ToEvent>(&self, events: &[E]) -> Vec<Batch> {
        let first = self.store.head().get() + 1;
        let _ = self.store.append("hostile", Expect::Any, events).wait().expect("it is appended");
        let mut reader = self.store.read_all().from(first).forward();
        std::iter::from_fn(|| reader.next_batch().expect("its frames are right")).collect()
    }

    /// As each type, and as the set of them.
    fn judge_as_all(&mut self, event: EventRef<'_>) {
        self.judge_as::<Texts>(event);
        self.judge_as::<Nested>(event);
        self.judge_as::<Listed>(event);
        self.judge_as::<Scalars>(event);
        self.judge_as::<ChainV1>(event);
        self.judge_as::<ChainV2>(event);
        self.judge_as::<Chain>(event);
        self.judge_as::<Noted>(event);
        self.judge_as::<MeasuredV1>(event);
        self.judge_as::<Measured>(event);
        self.judge_as::<Moved>(event);
        self.judge_as::<MovedOn>(event);
        self.judge_as::<Taken>(event);
        judge_as_known(event);
    }

    fn judge_as<E: Sample>(&mut self, event: EventRef<'_>) {
        let got = bounded(event, || event.get::<E>());
        let decoded = bounded(event, || event.decode::<E>());
        if event.event_type() != E::NAME {
            assert!(matches!((got, decoded), (Ok(None), Ok(None))));
            return;
        }
        if E::LINEAGE.kind == PayloadKind::Archived {
            judge_misaligned::<E>(event.payload());
        }
        let (view, value) = match (got, decoded) {
            (Ok(Some(view)), Ok(Some(value))) => (view, value),
            (Err(one), Err(other)) => {
                // It is printed whole, and says the same.
                assert_eq!(printed(&one), printed(&other));
                return;
            }
            (got, decoded) => panic!("{:?}, but {:?}", got.map(drop), decoded.map(drop)),
        };
        self.valid += 1;
        let is_in_place =
            event.schema_version() == E::VERSION && E::LINEAGE.kind == PayloadKind::Archived;
        if is_in_place {
            assert!(lies_in(view, event.payload()), "a view is where its payload is");
        }
        E::touch(view);
        std::hint::black_box((printed_debug(view), printed_debug(&value)));

        // What was written by the type's own code is read as the same value.
        let written = NewEvent::of(&value);
        if is_in_place && written.payload() == event.payload() {
            return;
        }
        for batch in self.put(&[&value]) {
            for again in &batch {
                assert_eq!(again.payload(), written.payload());
                let view = again.get::<E>().expect("it is valid").expect("it is of this type");
                E::touch(view);
                let same = again.decode::<E>().expect("it is valid").expect("it is of this type");
                assert_eq!(printed_debug(&same), printed_debug(&value));
                assert_eq!(NewEvent::of(&same), written);
            }
        }
    }
}

/// Does what reads this event, which may take only so much memory.
fn bounded<T>(event: EventRef<'_>, read: impl FnOnce() -> T) -> T {
    let (done, bytes) = allocated::during(read);
    let bound = BYTES_FOR_EACH * event.payload().len() as u64 + BYTES_AT_ALL;
    assert!(bytes <= bound, "{bytes} bytes for a payload of {}", event.payload().len());
    done
}

fn judge_as_known(event: EventRef<'_>) {
    let view = bounded(event, || Known::view(event));
    let views = bounded(event, || Known::views(event));
    let decoded = bounded(event, || Known::decode(event));
    let is_split = |error: &DecodeError| matches!(error.reason(), DecodeReason::Split);
    match (view, decoded, views) {
        (Ok(Some(_)), Ok(Some(value)), Ok(Some(views))) => {
            assert_eq!(views.len(), 1);
            views.for_each(touch);
            std::hint::black_box(printed_debug(&value));
        }
        (Ok(None), Ok(None), Ok(None)) => {}
        (Err(one), Err(other), Ok(Some(views))) if is_split(&one) && is_split(&other) => {
            let moved = event.decode::<Moved>();
            assert!(moved.is_ok_and(|moved| moved.is_some()), "what is split is valid");
            views.for_each(touch);
        }
        (Err(one), Err(other), Err(third)) => {
            assert_eq!(printed(&one), printed(&other));
            assert!(is_split(&one) || printed(&third) == printed(&one));
        }
        (view, decoded, views) => panic!(
            "{:?}, {:?}, {:?}",
            view.map(|view| view.is_some()),
            decoded.map(|value| value.is_some()),
            views.map(|views| views.is_some())
        ),
    }
}

/// Goes over a batch as the set sees it: up to the first error, which is the first that its events give one by one.
fn judge_batch(batch: &Batch) {
    let mut typed = batch.typed::<Known>();
    for event in batch {
        let Ok(Some(views)) = Known::views(event) else {
            assert!(typed.next().is_some_and(|next| next.is_err()));
            break;
        };
        for _ in views {
            let (of, view) = typed.next().expect("there is one more").expect("it is valid");
            assert_eq!(of.position(), event.position());
            touch(view);
        }
    }
    assert!(typed.next().is_none());
    std::hint::black_box(batch.typed::<Known>().skip_unknown().count());
}

fn touch(view: <Known as EventSet>::Ref<'_>) {
    use super::events::KnownRef;
    match view {
        KnownRef::Texts(view) => touch_as::<Texts>(view),
        KnownRef::Nested(view) => touch_as::<Nested>(view),
        KnownRef::Listed(view) => touch_as::<Listed>(view),
        KnownRef::Scalars(view) => touch_as::<Scalars>(view),
        KnownRef::Chain(view) => touch_as::<Chain>(view),
        KnownRef::Noted(view) => touch_as::<Noted>(view),
        KnownRef::Measured(view) => touch_as::<Measured>(view),
        KnownRef::MovedOn(view) => touch_as::<MovedOn>(view),
        KnownRef::Taken(view) => touch_as::<Taken>(view),
    }
}

fn touch_as<E: Sample>(view: &E::Archived) {
    E::touch(view);
    std::hint::black_box(printed_debug(view));
}

/// Whether a view is within its payload, and aligned.
fn lies_in<T>(view: &T, payload: &[u8]) -> bool {
    let (bounds, begin) = (payload.as_ptr_range(), std::ptr::from_ref(view).addr());
    let is_within = bounds.start.addr() <= begin && begin + size_of::<T>() <= bounds.end.addr();
    is_within && begin.is_multiple_of(align_of::<T>())
}

/// The payload where it is not aligned. A reader never sees one: payloads begin at multiples of `RECORD_ALIGN` in their
/// frames, as frames do in their segments, and the memory that segments are read from, chunks and mappings, begins at such
/// too; no type of rkyv is aligned to more. So this calls what readers call of the types, with bytes of its own.
fn judge_misaligned<E: Sample>(payload: &[u8]) {
    assert!(payload.as_ptr().addr().is_multiple_of(RECORD_ALIGN), "payloads are aligned");
    // Behind the payload is another byte, so that nothing is valid because memory ends there.
    let mut space = vec![0_u8; payload.len() + 2 * RECORD_ALIGN + 1];
    let aligned = space.as_ptr().align_offset(RECORD_ALIGN);
    for by in [1, 2, 4, 8] {
        let moved = &mut space[aligned + by..][..payload.len()];
        moved.copy_from_slice(payload);
        let view = <E::Form as Form<E>>::view(moved);
        let decoded = <E::Form as Form<E>>::decode(moved);
        assert_eq!(view.as_ref().is_ok_and(Option::is_some), decoded.is_ok());
        if let Ok(Some(view)) = view {
            // It can be valid all the same: what is cut begins elsewhere.
            assert!(lies_in(view, moved), "a view is where its payload is");
            touch_as::<E>(view);
        }
    }
}

/// A text that is not kept: how long it is, and a sum of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Printed {
    bytes: u64,
    sum: u64,
}

impl Write for Printed {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.bytes += 1;
            self.sum = (self.sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

fn printed(value: &impl Display) -> Printed {
    let mut printed = Printed::default();
    write!(printed, "{value}").expect("nothing refuses");
    printed
}

/// Printing a value goes over all of it.
fn printed_debug(value: &impl Debug) -> Printed {
    let mut printed = Printed::default();
    write!(printed, "{value:?}").expect("nothing refuses");
    printed
}
