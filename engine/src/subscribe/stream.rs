//! A subscription as a `Stream`.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::stream::FusedStream;

use super::subscription::{Message, Subscription};
use crate::error::SubscribeError;

/// The messages of a [`Subscription`], as a `Stream` of the futures' crates. It ends when the store was closed, without an
/// error, and behind any error.
#[derive(Debug)]
pub struct EventStream(Option<Subscription>);

impl EventStream {
    pub(super) fn new(subscription: Subscription) -> Self {
        Self(Some(subscription))
    }
}

impl Stream for EventStream {
    type Item = Result<Message, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(subscription) = &mut self.0 else { return Poll::Ready(None) };
        let Poll::Ready(received) = subscription.poll_recv(context) else { return Poll::Pending };
        if received.is_err() {
            self.0 = None;
        }
        Poll::Ready(match received {
            Err(SubscribeError::Closed) => None,
            received => Some(received),
        })
    }
}

impl FusedStream for EventStream {
    fn is_terminated(&self) -> bool {
        self.0.is_none()
    }
}
