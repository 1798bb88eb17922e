//! What the derived code calls. Not for anybody else: it changes without notice.

use std::any::Any;

use serde::Serialize;

pub use super::archived::Rkyv;
pub use super::form::Form;
pub use super::json::Json;
pub use super::layout::AsList;
pub use super::payload::{Stored, Unreadable};
pub use super::set::Reads;
pub use super::versioned::{Lineage, Versioned};
use super::{Event, Fingerprint, versioned};
use crate::append::EventEncoder;
use crate::event::EncodeError;
use crate::read::{EventRef, Looked};

/// The version of a type that follows `older`.
pub const fn lineage<V: Versioned>(
    name: &'static str,
    version: u32,
    fingerprint: Fingerprint,
    older: Option<&'static Lineage>,
) -> Lineage {
    Lineage::new(name, version, <V::Form as Form<V>>::KIND, fingerprint, older)
}

/// The fingerprint of a type's layout, or none where its payloads are JSON.
pub const JSON: Fingerprint = Fingerprint::NONE;

/// Appends an event.
///
/// # Errors
/// [`EncodeError`].
pub fn encode<E: Event>(event: &E, encoder: &mut EventEncoder<'_>) -> Result<(), EncodeError> {
    encoder.push_typed(event)
}

/// Reads the version before, and makes it this one.
///
/// # Errors
/// [`Unreadable`].
pub fn upcast<Older: Versioned, V: Versioned + From<Older>>(
    stored: Stored<'_>,
) -> Result<V, Unreadable> {
    versioned::decode::<Older>(stored).map(V::from)
}

/// There is no version before.
pub fn too_old<V: Versioned>() -> Unreadable {
    Unreadable::TooOld { oldest: V::LINEAGE.version }
}

/// A value of an event set's variant with this number, kept for views.
#[derive(Debug)]
pub struct KeptPart {
    variant: usize,
    value: Box<dyn Any + Send + Sync>,
}

impl KeptPart {
    /// # Errors
    /// [`Unreadable`], where the value cannot be archived.
    pub fn new<E: Event>(variant: usize, event: E) -> Result<Self, Unreadable> {
        let kept = <E::Form as Form<E>>::keep(event).map_err(Unreadable::Payload)?;
        Ok(Self { variant, value: Box::new(kept) })
    }

    /// Which variant it is of.
    pub fn variant(&self) -> usize {
        self.variant
    }

    /// The view of a value of this type.
    ///
    /// # Panics
    /// Panics where the variant's type is another one.
    pub fn view<E: Event>(&self) -> &E::Archived {
        let kept = self.value.downcast_ref().expect("a part is viewed as what it was kept as");
        <E::Form as Form<E>>::kept(kept)
    }
}

/// Whether two names are the same, while a program is compiled.
pub const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Checks that a type follows the one before, while a program is compiled.
///
/// # Panics
/// Panics, which then is a compile error, where it does not.
pub const fn check_follows<Older: Versioned, V: Versioned>() {
    let (older, newer) = (Older::LINEAGE, V::LINEAGE);
    assert!(
        is_same(older.name, newer.name),
        "`from` is of another name: a type becomes a newer version of itself"
    );
    assert!(
        older.version + 1 == newer.version,
        "a gap in the chain: `from` has to be of the version before"
    );
}

/// What a set has under one name, for the check that no other has it.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    name: &'static str,
    /// The versions from here on, up to `newest`.
    oldest: u32,
    newest: u32,
}

impl Taken {
    /// All versions of an event's name, but those that a split takes.
    pub const fn member<E: Event>() -> Self {
        Self { name: E::NAME, oldest: E::LINEAGE.oldest(), newest: u32::MAX }
    }

    /// The versions up to that of an event which is split.
    pub const fn split<E: Event>() -> Self {
        Self { name: E::NAME, oldest: 0, newest: E::VERSION }
    }
}

/// Checks that nothing is read in two ways, while a program is compiled.
///
/// # Panics
/// Panics, which then is a compile error, where something is.
pub const fn check_distinct(taken: &[Taken]) {
    let mut one = 0;
    while one < taken.len() {
        let mut other = one + 1;
        while other < taken.len() {
            let (a, b) = (taken[one], taken[other]);
            let overlap = a.oldest <= b.newest && b.oldest <= a.newest;
            assert!(
                !(overlap && is_same(a.name, b.name)),
                "a duplicate in the set: two of its events have one name and read the same versions"
            );
            other += 1;
        }
        one += 1;
    }
}

/// Looks up an event's type, to be compared with those of a set.
#[inline]
pub fn look(event: EventRef<'_>) -> Looked<'_> {
    event.look()
}

/// A set whose events can be written as JSON.
pub trait ToJson {
    /// # Errors
    /// What `serde_json` says.
    fn to_json(&self) -> Result<Vec<u8>, JsonError>;
}

/// An event as JSON.
///
/// # Errors
/// What `serde_json` says.
pub fn json_of(event: &impl Serialize) -> Result<Vec<u8>, JsonError> {
    serde_json::to_vec(event)
}

pub use serde_json::Error as JsonError;
