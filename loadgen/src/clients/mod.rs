//! The clients of a load: who appends, how each waits, and what came of it.
//!
//! Owns the starting and the gathering of clients. `run` calls it; each kind of client has a file of its
//! own here, and all of them share [`Client`], which knows what to append next, and the
//! [`Clock`], which knows what counts.

pub(crate) mod client;
pub(crate) mod pacing;
pub(crate) mod producers;
pub(crate) mod readers;
mod tasks;
pub(crate) mod window;
pub(crate) mod writers;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::AnyError;
use crate::target::Target;
use client::Client;
use window::Clock;

/// The kind of the clients of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Threads that block for each append.
    Writers,
    /// tokio tasks that await each append.
    Tasks,
    /// Threads that keep appends on their way.
    Producers { inflight: usize },
}

/// Clients that are running.
#[derive(Debug)]
pub(crate) struct Running {
    alive: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Result<Vec<Client>, AnyError>>>,
}

impl Running {
    /// Starts the clients.
    pub(crate) fn start<T: Target>(
        kind: Kind,
        target: &T,
        clients: Vec<Client>,
        clock: &Clock,
    ) -> Result<Self, AnyError> {
        let mut running = Self { alive: Arc::default(), threads: Vec::new() };
        if kind == Kind::Tasks {
            let (target, clock) = (target.clone(), clock.clone());
            running.spawn(&clock.clone(), move || tasks::run(&target, clients, &clock))?;
            return Ok(running);
        }
        for client in clients {
            let (target, own) = (target.clone(), clock.clone());
            running.spawn(clock, move || {
                let client = match kind {
                    Kind::Producers { inflight } => producers::run(&target, client, inflight, &own),
                    Kind::Writers | Kind::Tasks => writers::run(&target, client, &own),
                };
                Ok(vec![client?])
            })?;
        }
        Ok(running)
    }

    fn spawn(
        &mut self,
        clock: &Clock,
        work: impl FnOnce() -> Result<Vec<Client>, AnyError> + Send + 'static,
    ) -> Result<(), AnyError> {
        self.alive.fetch_add(1, Ordering::Relaxed);
        let ends = Ends { alive: Arc::clone(&self.alive), clock: clock.clone() };
        let thread = std::thread::Builder::new().name("client".into()).spawn(move || {
            let outcome = work();
            if outcome.is_err() {
                ends.clock.end_now();
            }
            drop(ends);
            outcome
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// Whether a client is still at work.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire) > 0
    }

    /// Waits for all of them, and gives the first error of any.
    pub(crate) fn join(self) -> Result<Vec<Client>, AnyError> {
        let mut clients = Vec::new();
        let mut failed = None;
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(more)) => clients.extend(more),
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(_) => failed = failed.or(Some("a client panicked".into())),
            }
        }
        failed.map_or(Ok(clients), Err)
    }
}

/// Says that a client has ended, also when it panics.
#[derive(Debug)]
struct Ends {
    alive: Arc<AtomicUsize>,
    clock: Clock,
}

impl Drop for Ends {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.clock.end_now();
        }
        self.alive.fetch_sub(1, Ordering::Release);
    }
}
