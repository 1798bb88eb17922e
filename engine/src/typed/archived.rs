//! Payloads that rkyv has archived: read in place, where they are aligned as they were written.
//!
//! The features of rkyv that choose the form of an archive are enabled by name in this crate, so that another choice
//! somewhere in a user's build does not compile. Types are archived and checked by rkyv's low-level interface, which has
//! no shared pointers: they have no [`Layout`](super::Layout). Of the crate's few files with `unsafe`.

use std::marker::PhantomData;
use std::num::NonZeroUsize;

use rkyv::api::access_with_context;
use rkyv::api::low::{self, LowDeserializer, LowSerializer, LowValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::{BoxedError as Error, Fallible, Source};
use rkyv::ser::allocator::ArenaHandle;
use rkyv::ser::{Positional, Writer};
use rkyv::util::{AlignedVec, with_arena};
use rkyv::validation::Validator;
use rkyv::validation::archive::ArchiveValidator;
use rkyv::{Archive, Archived, Deserialize, Portable, Serialize};

use super::form::Form;
use super::payload::PayloadError;
use crate::event::PayloadKind;
use crate::limits::{APPEND_BYTES_MAX, PAYLOAD_DEPTH_MAX, RECORD_ALIGN};

// Frames, and payloads in them, begin at multiples of this: rkyv's types want no more.
const _: () = assert!(RECORD_ALIGN == align_of::<rkyv::primitive::ArchivedU128>());

/// See the module.
#[derive(Debug)]
#[doc(hidden)]
pub enum Rkyv {}

/// The value in a payload, which is checked. Types that have a layout by derive do not contain themselves; for those that
/// were declared to have one, the depth is bounded.
#[inline]
fn check<T>(payload: &[u8]) -> Result<&T, PayloadError>
where
    T: Portable + for<'a> CheckBytes<LowValidator<'a, Error>>,
{
    let depth_max = NonZeroUsize::new(PAYLOAD_DEPTH_MAX);
    let archive = ArchiveValidator::with_max_depth(payload, depth_max);
    let mut validator = Validator::new(archive, ());
    Ok(access_with_context::<_, _, Error>(payload, &mut validator)?)
}

/// A value that was archived and checked. Made by [`Form::keep`] alone.
#[derive(Debug)]
#[doc(hidden)]
pub struct KeptBytes<E>(AlignedVec, PhantomData<fn() -> E>);

/// Writes behind what is there, and says how far from there: alignment is that within the payload.
#[derive(Debug)]
#[doc(hidden)]
pub struct Behind<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

/// An archive is longer than any append may be.
#[derive(Debug, thiserror::Error)]
#[error("it takes more than the {APPEND_BYTES_MAX} bytes that an append may have")]
struct Long;

impl Positional for Behind<'_> {
    fn pos(&self) -> usize {
        self.out.len() - self.start
    }
}

impl Fallible for Behind<'_> {
    type Error = Error;
}

impl Writer<Error> for Behind<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // Before it is copied: rkyv cannot refer further than 2 GiB, and would panic.
        if (self.pos() + bytes.len()) as u64 > APPEND_BYTES_MAX {
            return Err(<Error as Source>::new(Long));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

impl<E> Form<E> for Rkyv
where
    E: Archive + 'static + for<'a, 'b> Serialize<LowSerializer<Behind<'a>, ArenaHandle<'b>, Error>>,
    Archived<E>: Portable
        + for<'a> CheckBytes<LowValidator<'a, Error>>
        + Deserialize<E, LowDeserializer<Error>>
        + Send
        + Sync
        + 'static,
{
    type View = Archived<E>;
    type Kept = KeptBytes<E>;
    const KIND: PayloadKind = PayloadKind::Archived;

    #[inline]
    fn write(event: &E, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        const { assert!(align_of::<Archived<E>>() <= RECORD_ALIGN, "payloads are aligned to 16 bytes") };
        with_arena(|arena| {
            let start = out.len();
            low::to_bytes_in_with_alloc(event, Behind { out, start }, arena.acquire())
        })
        .map_err(PayloadError::from)?;
        Ok(())
    }

    #[inline]
    fn view(payload: &[u8]) -> Result<Option<&Self::View>, PayloadError> {
        Ok(Some(check(payload)?))
    }

    #[inline]
    unsafe fn view_unchecked(payload: &[u8]) -> Option<&Self::View> {
        const { assert!(align_of::<Archived<E>>() <= RECORD_ALIGN, "payloads are aligned to 16 bytes") };
        // SAFETY: the caller's: the payload would pass the check.
        Some(unsafe { rkyv::access_unchecked(payload) })
    }

    fn decode(payload: &[u8]) -> Result<E, PayloadError> {
        let archived: &Self::View = check(payload)?;
        low::deserialize(archived).map_err(PayloadError::from)
    }

    fn keep(event: E) -> Result<KeptBytes<E>, PayloadError> {
        let mut bytes = Vec::new();
        Self::write(&event, &mut bytes)?;
        let mut kept = AlignedVec::with_capacity(bytes.len());
        kept.extend_from_slice(&bytes);
        // Who archives may be the user's own code: it is checked once, so that it can be believed from now on.
        check::<Self::View>(&kept)?;
        Ok(KeptBytes(kept, PhantomData))
    }

    fn kept(KeptBytes(kept, _): &KeptBytes<E>) -> &Self::View {
        // SAFETY: `keep` has found these bytes to be a valid archive at this address, which the vector keeps for as long
        // as nothing is done to it; and nothing can while it is borrowed here, or was, since nobody has it but shared.
        unsafe { rkyv::access_unchecked(kept) }
    }
}
