//! No store: every append is acknowledged at once, and nothing is kept.
//!
//! It says what the load generator itself takes, which is to be little beside any store. What it has
//! "appended" cannot be read or verified.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::{
    Acknowledged, Append, Committed, Condition, Content, Events, Expect, Pending, Refused,
};
use super::{Seen, Target};
use crate::AnyError;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct NoStore(Arc<AtomicU64>);

/// An append, which is done with when it is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done(Acknowledged);

impl Target for NoStore {
    type Append = Done;

    fn open(_: &Path) -> Result<Self, AnyError> {
        Ok(Self::default())
    }

    fn open_read_only(_: &Path) -> Result<Self, AnyError> {
        Err("there is no store to read".into())
    }

    fn append(&self, _: &str, expect: Expect, _: Option<Condition>, events: Events<'_>) -> Done {
        let position = self.0.fetch_add(events.len() as u64, Ordering::Relaxed) + 1;
        let version = match expect {
            Expect::Version(last) => last + 1,
            _ => 0,
        };
        // A store would read all of the payloads; values are not encoded.
        match events {
            Events::New(events) => {
                for event in events {
                    std::hint::black_box(event.payload());
                }
            }
            Events::Typed(values) => {
                std::hint::black_box(values);
            }
        }
        Done(Acknowledged { version, position, repeated: false })
    }

    fn read_stream(&self, _: &str, _: impl FnMut(Seen<'_>)) -> Result<(), AnyError> {
        Ok(())
    }

    fn query(&self, _: &str, _: impl FnMut(Seen<'_>)) -> Result<(), AnyError> {
        Ok(())
    }

    fn scan(&self, _: impl FnMut(&[u8])) -> Result<(), AnyError> {
        Ok(())
    }

    fn read_all(&self, _: impl FnMut(Seen<'_>) -> Result<(), AnyError>) -> Result<(), AnyError> {
        Ok(())
    }

    fn committed(&self) -> Committed {
        Committed { events: self.0.load(Ordering::Relaxed), batches: 0, bytes: 0 }
    }

    fn content(&self) -> Result<Content, AnyError> {
        Ok(Content { events: self.0.load(Ordering::Relaxed), log_bytes: 0, segments: 0 })
    }

    fn backend(&self) -> String {
        "no store: what the load generator itself takes".into()
    }

    fn check_itself(&self) -> Result<(), AnyError> {
        Ok(())
    }

    fn close(self) -> Result<(), AnyError> {
        Ok(())
    }
}

impl Append for Done {
    type Pending = Self;

    fn wait(self) -> Result<Acknowledged, Refused> {
        Ok(self.0)
    }

    async fn finish(self) -> Result<Acknowledged, Refused> {
        // As with a store, the task is suspended once.
        let mut waited = false;
        std::future::poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        Ok(self.0)
    }

    fn try_submit(&mut self) -> Result<Option<Self>, Refused> {
        Ok(Some(*self))
    }
}

impl Future for Done {
    type Output = Result<Acknowledged, Refused>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(self.0))
    }
}

impl Pending for Done {
    fn wait(self) -> Result<Acknowledged, Refused> {
        Ok(self.0)
    }
}
