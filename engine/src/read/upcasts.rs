//! What the events of a batch became that are not read in their place: older versions, and values of JSON.
//!
//! Owns that memory for as long as the batch is there. Nothing is made before it is asked for, and each once for each type
//! that it is read as; a batch whose events are all current has nothing here. Threads may ask at once; no lock is held
//! while something is made. `typed`, next to it, is its only caller.

use std::any::Any;
use std::sync::OnceLock;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Upcasts {
    /// How many events the batch has.
    events: u32,
    /// One for each of them, made when the first is needed.
    slots: OnceLock<Box<[Slot]>>,
}

/// What one event became, the first one first; most have one at most.
type Slot = OnceLock<Box<Upcast>>;

#[derive(Debug)]
struct Upcast {
    value: Box<dyn Any + Send + Sync>,
    next: Slot,
}

impl Clone for Upcasts {
    /// The clone makes its own.
    fn clone(&self) -> Self {
        Self::of(self.events)
    }
}

impl Upcasts {
    /// Of so many events.
    pub(super) fn of(events: u32) -> Self {
        Self { events, slots: OnceLock::new() }
    }

    /// So many events more; before it can be asked for anything.
    #[inline]
    pub(super) fn grow(&mut self, events: u32) {
        self.events += events;
    }

    /// What the event in this place became as a `T`, which `make` makes where that is not there yet.
    ///
    /// # Errors
    /// What `make` reports; it will be asked again.
    pub(super) fn get_or_make<T: Any + Send + Sync, E>(
        &self,
        place: u32,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        let slots = self.slots.get_or_init(|| (0..self.events).map(|_| OnceLock::new()).collect());
        let first = &slots[place as usize];
        if let Some(value) = find(first) {
            return Ok(value);
        }
        // Somebody else may make the same meanwhile: then there are two, and the first one is found from then on.
        let mut upcast = Box::new(Upcast { value: Box::new(make()?), next: OnceLock::new() });
        let mut slot = first;
        loop {
            match slot.set(upcast) {
                Ok(()) => break,
                Err(back) => upcast = back,
            }
            slot = slot.get().map_or(slot, |taken| &taken.next);
        }
        Ok(find(first).expect("it was put there"))
    }
}

/// The first value of this type.
fn find<T: Any>(slot: &Slot) -> Option<&T> {
    let mut upcasts = std::iter::successors(slot.get(), |upcast| upcast.next.get());
    upcasts.find_map(|upcast| upcast.value.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_made_once_for_each_type_and_stays_where_it_is() {
        let upcasts = Upcasts::of(3);
        let number: Result<&u32, ()> = upcasts.get_or_make(1, || Ok(7));
        let number = number.unwrap();
        assert_eq!(upcasts.get_or_make(1, || Err("it is there")), Ok(&7_u32));
        assert_eq!(upcasts.get_or_make::<String, ()>(1, || Ok("a".into())).unwrap(), "a");
        assert_eq!(upcasts.get_or_make::<u32, ()>(2, || Ok(8)), Ok(&8));
        assert_eq!(upcasts.get_or_make::<u32, _>(0, || Err("no")), Err("no"));
        assert_eq!(upcasts.get_or_make::<u32, ()>(0, || Ok(9)), Ok(&9));
        assert!(std::ptr::eq(number, upcasts.get_or_make::<u32, ()>(1, || Ok(0)).unwrap()));
    }

    #[test]
    fn threads_that_ask_at_once_see_the_same() {
        for _ in 0..200 {
            let upcasts = Upcasts::of(1);
            let seen: Vec<(usize, String)> = std::thread::scope(|scope| {
                let ask = |number: u32| {
                    let upcasts = &upcasts;
                    scope.spawn(move || {
                        let own: &u32 = upcasts.get_or_make::<_, ()>(0, || Ok(number)).unwrap();
                        let text: &String =
                            upcasts.get_or_make::<_, ()>(0, || Ok("text".into())).unwrap();
                        (std::ptr::from_ref(own).addr(), text.clone())
                    })
                };
                let threads: Vec<_> = (0..4).map(ask).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(seen.iter().all(|one| *one == seen[0]));
        }
    }
}
