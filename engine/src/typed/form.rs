//! The forms that payloads of a type can have.

use std::any::Any;

use super::payload::PayloadError;
use crate::event::PayloadKind;

mod sealed {
    /// Of the forms that there are: what they promise is believed.
    pub trait Sealed {}
    impl Sealed for super::super::archived::Rkyv {}
    impl Sealed for super::super::json::Json {}
}

/// How values of a type are payloads. Implemented for the two forms that there are; the bounds that each has on its types
/// are its own, so that code that is generic over events has none.
#[doc(hidden)]
pub trait Form<E>: sealed::Sealed {
    /// What a reader sees of a payload.
    type View: Send + Sync + 'static;
    /// A value that a view can be had of for as long as it is kept.
    type Kept: Any + Send + Sync;
    const KIND: PayloadKind;

    /// Writes a value behind what is in `out`, which ends where a payload can begin.
    ///
    /// # Errors
    /// [`PayloadError`]; what was written is not to be used.
    fn write(event: &E, out: &mut Vec<u8>) -> Result<(), PayloadError>;

    /// The view of a payload in its place; `None` where the form has no such.
    ///
    /// # Errors
    /// [`PayloadError`].
    fn view(payload: &[u8]) -> Result<Option<&Self::View>, PayloadError>;

    /// As [`Form::view`], and believes the payload.
    ///
    /// # Safety
    /// [`Form::view`] would give a view of this payload, or that it has none.
    unsafe fn view_unchecked(payload: &[u8]) -> Option<&Self::View>;

    /// # Errors
    /// [`PayloadError`].
    fn decode(payload: &[u8]) -> Result<E, PayloadError>;

    /// # Errors
    /// [`PayloadError`].
    fn keep(event: E) -> Result<Self::Kept, PayloadError>;

    fn kept(kept: &Self::Kept) -> &Self::View;
}
