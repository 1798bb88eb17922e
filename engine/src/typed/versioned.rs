//! Types with versions: what events and states have in common.
//!
//! Owns the comparison of what is stored with a type, and the way from an older version to the newest.

use super::fingerprint::Fingerprint;
use super::form::Form;
use super::payload::{Stored, Unreadable};
use crate::event::PayloadKind;

/// A type whose values are stored, under a name and a version. Derived with [`Event`](super::Event) and
/// [`State`](super::State), and by nothing else.
pub trait Versioned: Sized + Send + Sync + 'static {
    /// This version and the older ones that it can be made of.
    const LINEAGE: Lineage;

    /// What is read in place: the archived form, or for JSON the type itself.
    type View: Send + Sync + 'static;

    #[doc(hidden)]
    type Form: Form<Self, View = Self::View>;

    /// Reads an older version and makes it this one.
    #[doc(hidden)]
    fn upcast(stored: Stored<'_>) -> Result<Self, Unreadable>;
}

/// A version of a type's structure, and those before it that it can be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lineage {
    /// The name of the type, as it is stored.
    pub name: &'static str,
    /// Its number.
    pub version: u32,
    /// What its payloads are.
    pub kind: PayloadKind,
    /// The fingerprint of its layout; [`Fingerprint::NONE`] for JSON.
    pub fingerprint: Fingerprint,
    /// The version before it.
    pub older: Option<&'static Self>,
}

impl Lineage {
    pub(super) const fn new(
        name: &'static str,
        version: u32,
        kind: PayloadKind,
        fingerprint: Fingerprint,
        older: Option<&'static Self>,
    ) -> Self {
        Self { name, version, kind, fingerprint, older }
    }

    /// Its versions, the newest first.
    pub fn versions(&'static self) -> impl Iterator<Item = &'static Self> {
        std::iter::successors(Some(self), |lineage| lineage.older)
    }

    /// The oldest version that can be read.
    pub const fn oldest(&self) -> u32 {
        match self.older {
            Some(older) => older.oldest(),
            None => self.version,
        }
    }
}

/// Whether a payload is of this very version of the type, so that it can be read in its place. Older ones are not.
///
/// # Errors
/// [`Unreadable`]: neither that nor an older version.
#[inline]
pub(crate) fn is_current<V: Versioned>(stored: &Stored<'_>) -> Result<bool, Unreadable> {
    let lineage = const { &V::LINEAGE };
    let is_it = stored.version() == lineage.version
        && stored.kind == lineage.kind
        && stored.fingerprint == lineage.fingerprint;
    if is_it { Ok(true) } else { why_not_current(lineage, stored) }
}

/// What is wrong with a payload that is not of the current version; nothing, where it is of an older one.
#[cold]
fn why_not_current(lineage: &Lineage, stored: &Stored<'_>) -> Result<bool, Unreadable> {
    let version = stored.version();
    if version > lineage.version {
        return Err(Unreadable::Newer { known: lineage.version });
    }
    if version == 0 {
        return Err(Unreadable::Kind { expected: lineage.kind });
    }
    if version < lineage.version {
        return Ok(false);
    }
    if stored.kind != lineage.kind {
        return Err(Unreadable::Kind { expected: lineage.kind });
    }
    Err(Unreadable::Fingerprint { expected: lineage.fingerprint })
}

/// Reads a payload of this version or an older one.
///
/// # Errors
/// [`Unreadable`].
pub(crate) fn decode<V: Versioned>(stored: Stored<'_>) -> Result<V, Unreadable> {
    if is_current::<V>(&stored)? {
        <V::Form as Form<V>>::decode(stored.payload).map_err(Unreadable::Payload)
    } else {
        V::upcast(stored)
    }
}
