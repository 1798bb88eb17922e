//! Reading events as Rust types.
//!
//! Owns how a stored event becomes a view of the newest version of its type: in its place where it is of that version,
//! else by way of a value, in memory that the batch owns. Calls `typed` for what a payload is as a type. Of the crate's few
//! files with `unsafe`.

use std::iter::FusedIterator;
use std::marker::PhantomData;

use super::batch::{Batch, BatchIter};
use super::event::EventRef;
use crate::error::{DecodeError, DecodeReason};
use crate::format::definition::EventType;
use crate::typed::derived::KeptPart;
use crate::typed::{Event, EventSet, Fingerprint, Form, Stored, Unreadable, decode, is_current};

/// What an event was kept as when it was read as an `E`: types whose kept values are of one type are apart.
struct As<E: Event>(<E::Form as Form<E>>::Kept);

/// What a stored event became that a set splits.
struct Parts<S>(Vec<KeptPart>, PhantomData<fn() -> S>);

impl<'a> EventRef<'a> {
    /// The event as the type `E`, if it is of that name: read in its place, without a copy, where it is of `E`'s version.
    /// Each call checks that the payload is a valid value. An older version becomes `E` the first time, in memory that the
    /// batch owns; so does JSON.
    ///
    /// ```
    /// # use stratalog::rkyv::{Archive, Deserialize, Serialize};
    /// # use stratalog::{Event, Expect, Store, disk::MemoryDisk};
    /// #[derive(Event, Archive, Serialize, Deserialize)]
    /// #[rkyv(crate = stratalog::rkyv)]
    /// #[event(name = "named", version = 1)]
    /// struct Named { name: String }
    ///
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// store.append("cat-1", Expect::NoStream, [Named { name: "Tom".into() }]).wait()?;
    /// let batch = store.read_all().forward().next_batch()?.expect("there is an event");
    /// let named: &ArchivedNamed = batch.get(0).expect("it has one").get::<Named>()?.expect("it is one");
    /// assert_eq!(named.name, "Tom");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`DecodeError`]: of a newer version, one that is too old, with another layout, or of bytes that are no such value.
    #[inline]
    pub fn get<E: Event>(&self) -> Result<Option<&'a E::Archived>, DecodeError> {
        self.look().get::<E>()
    }

    /// As [`EventRef::get`], without a check that a payload of the current version is a valid value. Type, version and
    /// layout are compared all the same.
    ///
    /// # Safety
    /// The payload was archived by `E`'s own code: events were appended as values ([`Event`](trait@Event), or
    /// [`NewEvent::of`](crate::NewEvent::of) without a change of its payload), of types whose archiving is rkyv's own, and not
    /// as bytes made elsewhere ([`NewEvent::archived`](crate::NewEvent::archived), an import); and what was read is what was
    /// written. The checksums
    /// of frames, which are verified when events come from disk, find damage by accident, not by intent: who can write the
    /// store's files can make undefined behaviour of this.
    ///
    /// # Errors
    /// As [`EventRef::get`].
    #[inline]
    pub unsafe fn get_unchecked<E: Event>(&self) -> Result<Option<&'a E::Archived>, DecodeError> {
        // SAFETY: the caller's.
        unsafe { self.look().get_unchecked::<E>() }
    }

    /// The event as a value of the type `E`, if it is of that name.
    ///
    /// # Errors
    /// As [`EventRef::get`].
    pub fn decode<E: Event>(&self) -> Result<Option<E>, DecodeError> {
        self.look().decode()
    }

    /// Looks up the event's type, to be compared with several.
    #[inline]
    pub(crate) fn look(&self) -> Looked<'a> {
        Looked { event: *self, event_type: self.stored_type() }
    }

    #[cold]
    fn undecoded(&self, why: Unreadable) -> DecodeError {
        let fingerprint = self.fingerprint();
        let reason = match why {
            Unreadable::Newer { known } => DecodeReason::Newer { known },
            Unreadable::TooOld { oldest } => DecodeReason::TooOld { oldest },
            Unreadable::Fingerprint { expected } => {
                DecodeReason::Fingerprint { stored: fingerprint, expected }
            }
            Unreadable::Kind { expected } => {
                DecodeReason::Kind { stored: self.payload_kind(), expected }
            }
            Unreadable::Payload(error) => DecodeReason::Payload(error),
        };
        self.decode_error(reason)
    }

    #[cold]
    pub(crate) fn decode_error(&self, reason: DecodeReason) -> DecodeError {
        DecodeError::new(
            self.position(),
            self.stream(),
            self.version(),
            self.event_type(),
            self.schema_version(),
            reason,
        )
    }
}

/// An event whose type was looked up, to be compared with several types of a set.
#[derive(Debug, Clone, Copy)]
#[doc(hidden)]
pub struct Looked<'a> {
    event: EventRef<'a>,
    event_type: &'a EventType,
}

impl<'a> Looked<'a> {
    #[inline]
    fn is<E: Event>(&self) -> bool {
        *self.event_type.name == *E::NAME
    }

    /// See [`EventRef::get`].
    #[inline]
    pub fn get<E: Event>(&self) -> Result<Option<&'a E::Archived>, DecodeError> {
        if !self.is::<E>() {
            return Ok(None);
        }
        let stored = self.stored();
        if is_current::<E>(&stored).map_err(|why| self.event.undecoded(why))? {
            let view = <E::Form as Form<E>>::view(stored.payload);
            let view = view.map_err(|why| self.event.undecoded(Unreadable::Payload(why)))?;
            if let Some(view) = view {
                return Ok(Some(view));
            }
        }
        self.kept_as::<E>().map(Some)
    }

    /// See [`EventRef::get_unchecked`].
    ///
    /// # Safety
    /// As there.
    #[inline]
    pub unsafe fn get_unchecked<E: Event>(&self) -> Result<Option<&'a E::Archived>, DecodeError> {
        if !self.is::<E>() {
            return Ok(None);
        }
        let stored = self.stored();
        if is_current::<E>(&stored).map_err(|why| self.event.undecoded(why))? {
            // SAFETY: the caller's: the payload is a valid value. It begins at a multiple of RECORD_ALIGN in memory, as it
            // does in its file, because chunks and mappings begin at such; and it is not written while it is borrowed.
            if let Some(view) = unsafe { <E::Form as Form<E>>::view_unchecked(stored.payload) } {
                return Ok(Some(view));
            }
        }
        self.kept_as::<E>().map(Some)
    }

    /// See [`EventRef::decode`].
    pub fn decode<E: Event>(&self) -> Result<Option<E>, DecodeError> {
        if !self.is::<E>() {
            return Ok(None);
        }
        decode(self.stored()).map(Some).map_err(|why| self.event.undecoded(why))
    }

    #[inline]
    fn stored(&self) -> Stored<'a> {
        Stored {
            kind: self.event.payload_kind(),
            version: self.event_type.schema_version,
            fingerprint: Fingerprint::from_number(self.event_type.fingerprint),
            payload: self.event.payload(),
        }
    }

    /// The view of a value that the batch owns.
    #[cold]
    fn kept_as<E: Event>(&self) -> Result<&'a E::Archived, DecodeError> {
        let kept = self.event.upcasts.get_or_make(self.event.place, || {
            let event = decode::<E>(self.stored())?;
            <E::Form as Form<E>>::keep(event).map(As::<E>).map_err(Unreadable::Payload)
        });
        let kept = kept.map_err(|why| self.event.undecoded(why))?;
        Ok(<E::Form as Form<E>>::kept(&kept.0))
    }

    /// Whether a set that splits `Old` splits this event.
    #[inline]
    pub fn is_split<Old: Event>(&self) -> bool {
        self.is::<Old>() && self.stored().version() <= Old::VERSION
    }

    /// Refuses an event that a set splits, where one view of it is wanted.
    #[inline]
    pub fn refuse_split<Old: Event>(&self) -> Result<(), DecodeError> {
        if self.is_split::<Old>() {
            return Err(self.event.decode_error(DecodeReason::Split));
        }
        Ok(())
    }

    /// Refuses a newer version of an event that a set splits, which no variant of it has read.
    #[inline]
    pub fn refuse_newer<Old: Event>(&self) -> Result<(), DecodeError> {
        if self.is::<Old>() {
            return Err(self.event.undecoded(Unreadable::Newer { known: Old::VERSION }));
        }
        Ok(())
    }

    /// What the event becomes where a set splits it.
    pub fn split<Old: Event, S: EventSet, Several: IntoIterator<Item = S>>(
        &self,
        with: impl FnOnce(Old) -> Several,
    ) -> Result<&'a [KeptPart], DecodeError> {
        let parts = self.event.upcasts.get_or_make(self.event.place, || {
            let several = with(decode::<Old>(self.stored())?);
            let parts = several.into_iter().map(S::keep).collect::<Result<_, Unreadable>>()?;
            Ok(Parts::<S>(parts, PhantomData))
        });
        parts.map(|parts| &parts.0[..]).map_err(|why| self.event.undecoded(why))
    }

    /// As [`Looked::split`], as values.
    pub fn split_values<Old: Event, S: EventSet, Several: IntoIterator<Item = S>>(
        &self,
        with: impl FnOnce(Old) -> Several,
    ) -> Result<Vec<S>, DecodeError> {
        Ok(self.decode::<Old>()?.map(with).into_iter().flatten().collect())
    }
}

impl Batch {
    /// The events as a set of types sees them, each as the newest version of its type: old and new ones in one loop. One
    /// that the set splits comes as often as it has parts.
    ///
    /// An event of a type that the set does not know ends the loop with an error, since most who decide or project by a set
    /// would be wrong without it; see [`Typed::skip_unknown`]. For an example see [`EventSet`](trait@EventSet).
    #[inline]
    pub fn typed<S: EventSet>(&self) -> Typed<'_, S> {
        Typed {
            events: self.iter(),
            parts: None,
            skips_unknown: false,
            has_failed: false,
            set: PhantomData,
        }
    }
}

/// The events of a [`Batch`] as a set of types sees them: see [`Batch::typed`].
#[derive(Debug)]
pub struct Typed<'a, S: EventSet> {
    events: BatchIter<'a>,
    /// What is left of an event that became several.
    parts: Option<(EventRef<'a>, std::slice::Iter<'a, KeptPart>)>,
    skips_unknown: bool,
    has_failed: bool,
    set: PhantomData<fn() -> S>,
}

impl<'a, S: EventSet> Typed<'a, S> {
    /// Goes over events of types that the set does not know.
    ///
    /// ```
    /// # use stratalog::rkyv::{Archive, Deserialize, Serialize};
    /// # use stratalog::{Event, EventSet, Expect, NewEvent, Store, disk::MemoryDisk};
    /// # #[derive(Event, Archive, Serialize, Deserialize)]
    /// # #[rkyv(crate = stratalog::rkyv)]
    /// # #[event(name = "opened", version = 1)]
    /// # struct Opened;
    /// #[derive(EventSet)]
    /// enum Ticket { Opened(Opened) }
    ///
    /// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
    /// store.append("ticket-1", Expect::NoStream, [Ticket::from(Opened)]).wait()?;
    /// store.append("ticket-1", Expect::Version(0), [NewEvent::bytes("noted", *b"!")]).wait()?;
    /// let batch = store.read_all().forward().next_batch()?.expect("there are events");
    /// assert_eq!(batch.typed::<Ticket>().skip_unknown().count(), 1);
    /// assert!(batch.typed::<Ticket>().last().is_some_and(|unknown| unknown.is_err()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn skip_unknown(mut self) -> Self {
        self.skips_unknown = true;
        self
    }

    fn fail(&mut self, error: DecodeError) -> Result<(EventRef<'a>, S::Ref<'a>), DecodeError> {
        self.has_failed = true;
        Err(error)
    }
}

impl<'a, S: EventSet> Iterator for Typed<'a, S> {
    type Item = Result<(EventRef<'a>, S::Ref<'a>), DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((event, parts)) = &mut self.parts {
                if let Some(part) = parts.next() {
                    return Some(Ok((*event, S::kept(part))));
                }
                self.parts = None;
            }
            if self.has_failed {
                return None;
            }
            let event = self.events.next()?;
            match S::split(event) {
                Ok(None) => match S::view(event) {
                    Ok(Some(view)) => return Some(Ok((event, view))),
                    Ok(None) if self.skips_unknown => {}
                    Ok(None) => {
                        return Some(self.fail(event.decode_error(DecodeReason::UnknownType)));
                    }
                    Err(error) => return Some(self.fail(error)),
                },
                Ok(Some(parts)) => self.parts = Some((event, parts.iter())),
                Err(error) => return Some(self.fail(error)),
            }
        }
    }
}

impl<S: EventSet> FusedIterator for Typed<'_, S> {}
