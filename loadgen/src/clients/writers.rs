//! Writers: threads that block for each append before the next.

use super::client::{Client, end_of};
use super::pacing::{Pace, Turn};
use super::window::Clock;
use crate::AnyError;
use crate::target::{Append as _, Refused, Target};

/// Appends until the load is over.
pub(crate) fn run<T: Target>(
    target: &T,
    mut client: Client,
    clock: &Clock,
) -> Result<Client, AnyError> {
    if matches!(client.pace, Pace::Open(_)) {
        wake_in_time();
    }
    let mut now = clock.now();
    loop {
        let since = match client.pace.turn(now, clock.end()) {
            Turn::Send { since } => since,
            Turn::Wait { until } => {
                clock.sleep_until(until);
                now = clock.now();
                continue;
            }
            Turn::Over => break,
        };
        let Some(mut draft) = client.next() else { break };
        client.sending(&draft)?;
        let acknowledged = loop {
            let expect = client.expect(&draft);
            let (stream, events) = (client.stream(&draft), client.events(&draft));
            let append = target.append(&stream, expect, draft.condition(), events);
            match append.wait() {
                Ok(acknowledged) => break acknowledged,
                Err(Refused::Conflict(ends)) => client.conflicted(&mut draft, ends)?,
                Err(Refused::Condition(at)) => client.condition_failed(&mut draft, at),
                Err(Refused::Failed(error)) => return Err(error),
            }
        };
        now = clock.now();
        client.acknowledged(clock, &draft, acknowledged, since, now)?;
        if draft.is_sent_twice() {
            let expect = client.expect(&draft);
            let (stream, events) = (client.stream(&draft), client.events(&draft));
            let append = target.append(&stream, expect, draft.condition(), events);
            let acknowledged = append.wait().map_err(Refused::into_error)?;
            client.repeated(&draft, acknowledged)?;
            now = clock.now();
        }
    }
    client.finish(end_of(clock));
    Ok(client)
}

/// Asks not to be woken later than asked for; by default a thread may sleep for 50 µs more. Where it is
/// not granted, the sends are that much later, which is counted.
pub(super) fn wake_in_time() {
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}
