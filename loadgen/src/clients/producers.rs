//! Producers: threads that keep a number of appends on their way, and take them off in their order.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::client::{Client, Draft, end_of};
use super::pacing::{Pace, Turn};
use super::window::Clock;
use super::writers::wake_in_time;
use crate::AnyError;
use crate::target::{Acknowledged, Append, Pending, Refused, Target};

/// After this many appends a look is taken at what has become durable.
const SENDS_BETWEEN_LOOKS: u32 = 32;
/// How long an open loop sleeps at most while something is on its way.
const NAP_NS: u64 = 50_000;

/// Appends that are on their way, the oldest first.
struct Window<P> {
    appends: VecDeque<OnItsWay<P>>,
    inflight: usize,
}

struct OnItsWay<P> {
    draft: Draft,
    since: u64,
    /// Whether it is sent for the second time.
    again: bool,
    pending: P,
}

/// Appends until the load is over, and waits for all of it.
pub(crate) fn run<T: Target>(
    target: &T,
    mut client: Client,
    inflight: usize,
    clock: &Clock,
) -> Result<Client, AnyError> {
    if matches!(client.pace, Pace::Open(_)) {
        wake_in_time();
    }
    let mut window: Window<<T::Append as Append>::Pending> =
        Window { appends: VecDeque::with_capacity(inflight), inflight };
    let mut sends: u32 = 0;
    loop {
        let now = clock.now();
        let since = match client.pace.turn(now, clock.end()) {
            Turn::Send { since } => since,
            Turn::Wait { until } => {
                window.harvest(&mut client, clock)?;
                let nap = if window.appends.is_empty() { until } else { until.min(now + NAP_NS) };
                clock.sleep_until(nap);
                continue;
            }
            Turn::Over => break,
        };
        let Some(draft) = client.next() else { break };
        if window.appends.len() == window.inflight {
            window.wait_for_oldest(&mut client, clock)?;
        }
        client.sending(&draft)?;
        let again = draft.is_sent_twice().then(|| draft.clone());
        window.send(target, &mut client, clock, draft, since, false)?;
        sends = sends.wrapping_add(1);
        if let Some(draft) = again {
            window.send(target, &mut client, clock, draft, since, true)?;
        }
        if sends.is_multiple_of(SENDS_BETWEEN_LOOKS) {
            window.harvest(&mut client, clock)?;
        }
    }
    let end = end_of(clock);
    while !window.appends.is_empty() {
        window.wait_for_oldest(&mut client, clock)?;
    }
    client.finish(end);
    Ok(client)
}

impl<P: Pending> Window<P> {
    /// Sends an append, as soon as the store has room for it.
    #[inline]
    fn send<T: Target>(
        &mut self,
        target: &T,
        client: &mut Client,
        clock: &Clock,
        draft: Draft,
        since: u64,
        again: bool,
    ) -> Result<(), AnyError>
    where
        T::Append: Append<Pending = P>,
    {
        let expect = client.expect(&draft);
        let (stream, events) = (client.stream(&draft), client.events(&draft));
        let mut append = target.append(&stream, expect, draft.condition(), events);
        let pending = loop {
            match append.try_submit().map_err(Refused::into_error)? {
                Some(pending) => break pending,
                // The store holds as much as it will: what it has must go first.
                None if !self.appends.is_empty() => self.wait_for_oldest(client, clock)?,
                // It waits for something else, such as its next file.
                None => std::thread::sleep(Duration::from_nanos(NAP_NS)),
            }
        };
        self.appends.push_back(OnItsWay { draft, since, again, pending });
        Ok(())
    }

    /// Blocks for the oldest, and takes off all that have become durable with it.
    fn wait_for_oldest(&mut self, client: &mut Client, clock: &Clock) -> Result<(), AnyError> {
        if let Some(OnItsWay { draft, since, again, pending }) = self.appends.pop_front() {
            let acknowledged = pending.wait().map_err(Refused::into_error)?;
            let now = clock.now();
            settle(client, clock, &draft, again, acknowledged, since, now)?;
            self.take_off(client, clock, now)?;
        }
        Ok(())
    }

    /// Takes off what has become durable.
    fn harvest(&mut self, client: &mut Client, clock: &Clock) -> Result<(), AnyError> {
        let Some(acknowledged) = self.oldest_if_done()? else { return Ok(()) };
        let now = clock.now();
        self.settle_oldest(acknowledged, client, clock, now)?;
        self.take_off(client, clock, now)
    }

    /// Takes off what has become durable, as of `now`: one look at the clock for all of a batch.
    fn take_off(&mut self, client: &mut Client, clock: &Clock, now: u64) -> Result<(), AnyError> {
        while let Some(acknowledged) = self.oldest_if_done()? {
            self.settle_oldest(acknowledged, client, clock, now)?;
        }
        Ok(())
    }

    fn oldest_if_done(&mut self) -> Result<Option<Acknowledged>, AnyError> {
        let Some(oldest) = self.appends.front_mut() else { return Ok(None) };
        match Pin::new(&mut oldest.pending).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Ok(Some(outcome.map_err(Refused::into_error)?)),
            Poll::Pending => Ok(None),
        }
    }

    fn settle_oldest(
        &mut self,
        acknowledged: Acknowledged,
        client: &mut Client,
        clock: &Clock,
        now: u64,
    ) -> Result<(), AnyError> {
        match self.appends.pop_front() {
            Some(OnItsWay { draft, since, again, .. }) => {
                settle(client, clock, &draft, again, acknowledged, since, now)
            }
            None => Ok(()),
        }
    }
}

fn settle(
    client: &mut Client,
    clock: &Clock,
    draft: &Draft,
    again: bool,
    acknowledged: Acknowledged,
    since: u64,
    now: u64,
) -> Result<(), AnyError> {
    if again {
        client.repeated(draft, acknowledged)
    } else {
        client.acknowledged(clock, draft, acknowledged, since, now)
    }
}
