//! Requests in memory that a thread's appends use one after the other.
//!
//! Owns the requests that a thread has done with: when one is dropped, it is kept for the thread's next one, with the
//! buffers that it has. So an append allocates nothing, and is a word that is passed on.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use super::encode::ToEvent;
use super::expect::Expect;
use super::request::Request;
use super::writer::Writer;
use crate::error::AppendError;
use crate::limits::{ENCODED_KEPT_BYTES_MAX, ENCODED_KEPT_MAX};

/// A request, which goes back to those that are kept when it is dropped.
#[derive(Debug)]
pub(crate) struct Reused(Option<Box<Request>>);

thread_local! {
    /// What this thread's earlier appends have left. Never more than [`ENCODED_KEPT_MAX`].
    #[expect(clippy::vec_box, reason = "what is boxed goes from here to a request and back")]
    static KEPT: RefCell<Vec<Box<Request>>> = const { RefCell::new(Vec::new()) };
}

impl Reused {
    /// An append to one stream.
    ///
    /// # Errors
    /// [`AppendError`], where a bound is broken.
    pub(crate) fn append<E: ToEvent>(
        stream: &str,
        expect: Expect,
        events: impl IntoIterator<Item = E>,
        writer: Option<&Writer>,
    ) -> Result<Self, AppendError> {
        let mut request = Self::empty();
        request.add(stream, expect, events, writer)?;
        request.complete()?;
        Ok(request)
    }

    /// A pure check of one stream.
    ///
    /// # Errors
    /// [`AppendError::Invalid`], where the name is none.
    pub(crate) fn check(stream: &str, expect: Expect) -> Result<Self, AppendError> {
        let mut request = Self::empty();
        request.expect(stream, expect)?;
        Ok(request)
    }

    /// A request for nothing.
    pub(super) fn empty() -> Self {
        let kept = KEPT.try_with(|kept| kept.borrow_mut().pop());
        Self(Some(kept.ok().flatten().unwrap_or_default()))
    }
}

impl Deref for Reused {
    type Target = Request;

    fn deref(&self) -> &Request {
        self.0.as_ref().expect("it is taken out when it is dropped")
    }
}

impl DerefMut for Reused {
    fn deref_mut(&mut self) -> &mut Request {
        self.0.as_mut().expect("it is taken out when it is dropped")
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        let Some(mut request) = self.0.take() else { return };
        if request.encoded.frames.capacity() > ENCODED_KEPT_BYTES_MAX {
            return;
        }
        request.clear();
        // A thread that ends keeps nothing.
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < ENCODED_KEPT_MAX {
                kept.push(request);
            }
        });
    }
}
