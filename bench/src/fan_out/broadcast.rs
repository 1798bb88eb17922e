//! The broadcast channel of `tokio`; an event is shared by counting references, and consumers are tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{Events, ROOM_EVENTS, Round, Tally, thread_time};

/// The threads that the tasks share.
const THREADS: usize = 2;
/// How many events are sent before it is looked again whether there is room for as many more.
const SENT_AT_ONCE: usize = 256;

/// One thread sends, and lets others run where the slowest consumer would lose an event: so none is lost, as in the other
/// ways. The consumers' time is that of the runtime's threads, from their beginning to their end.
///
/// # Panics
/// Where a consumer has not received all events.
pub fn run(events: &Events, consumers: usize) -> Round {
    let (sender, receiver) = broadcast::channel::<Arc<[u8]>>(ROOM_EVENTS);
    let nanos = Arc::new(AtomicU64::new(0));
    let stopped = Arc::clone(&nanos);
    let stop = move || {
        let nanos = u64::try_from(thread_time().as_nanos()).unwrap_or(u64::MAX);
        stopped.fetch_add(nanos, Ordering::Relaxed);
    };
    let runtime = Builder::new_multi_thread().worker_threads(THREADS).on_thread_stop(stop).build();
    let runtime = runtime.expect("the runtime starts");
    let tasks: Vec<_> = (0..consumers)
        .map(|_| {
            let mut receiver = receiver.resubscribe();
            runtime.spawn(async move {
                let mut tally = Tally::default();
                loop {
                    match receiver.recv().await {
                        Ok(payload) => tally.take(&payload),
                        Err(RecvError::Closed) => return (tally, Instant::now()),
                        Err(RecvError::Lagged(events)) => panic!("{events} events were lost"),
                    }
                }
            })
        })
        .collect();
    drop(receiver);
    let (begun, producer) = thread::scope(|scope| {
        let producer = scope.spawn(move || {
            let (begun, time) = (Instant::now(), thread_time());
            for payloads in events.payloads.chunks(SENT_AT_ONCE) {
                while sender.len() + payloads.len() > ROOM_EVENTS {
                    thread::yield_now();
                }
                for payload in payloads {
                    sender.send(Arc::clone(payload)).expect("there are consumers");
                }
            }
            drop(sender);
            (begun, thread_time().saturating_sub(time))
        });
        producer.join().expect("the producer does not panic")
    });
    let mut ended = begun;
    for task in tasks {
        let (tally, at) = runtime.block_on(task).expect("a consumer does not panic");
        assert_eq!(tally, events.all);
        ended = ended.max(at);
    }
    // Its threads end before this returns, and say then how much time they took.
    drop(runtime);
    let consumers = Duration::from_nanos(nanos.load(Ordering::Relaxed));
    Round { wall: ended - begun, consumers, producer }
}
