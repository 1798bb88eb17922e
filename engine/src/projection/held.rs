//! What is shared of a lane: its state, between two parts of a batch, and where it is.
//!
//! Owns the hand-over. The lane takes the state out while it applies events, and puts it back with its new position; who
//! wants to see it takes a reference, under a lock that is held for as long as that takes. A lane whose state somebody
//! still looks at goes on with a copy. What is to be done at a position is noted here as a [`Cut`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::view::Gathered;
use crate::error::SnapshotError;
use crate::snapshot::Key;
use crate::subscribe::Cursor;
use crate::sync::{AtomicU32, Ordering};

/// A lane, as others see it.
#[derive(Debug)]
pub(super) struct Lane<S> {
    pub number: usize,
    pub cursor: Arc<Cursor>,
    /// What it is saved as.
    pub key: Key,
    /// Not 0 where a cut was noted that the lane has not looked at.
    attention: AtomicU32,
    held: Mutex<Held<S>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Held<S> {
    /// None while the lane applies events, or where it has failed and is not mended yet.
    state: Option<Arc<S>>,
    /// What the state reflects: every event up to here.
    position: u64,
    /// What it will reflect when it is put back.
    claimed: u64,
    cuts: Vec<Cut<S>>,
    /// What was reached of the cuts, for the lane to do: to save, and to rest in an epoch.
    pub saves: bool,
    pub parks: Option<u64>,
    /// The last epoch in which the lane rests.
    pub rests: Option<u64>,
    /// Why its state could not be saved last.
    pub save_error: Option<SnapshotError>,
}

/// What is to be done with the state when it reflects a position and nothing behind it.
#[derive(Debug)]
pub(super) struct Cut<S> {
    pub position: u64,
    pub purpose: Purpose<S>,
}

#[derive(Debug)]
pub(super) enum Purpose<S> {
    Show(Arc<Gathered<S>>),
    Save,
    /// To rest, in this epoch.
    Park(u64),
}

impl<S> Clone for Purpose<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Show(gathered) => Self::Show(Arc::clone(gathered)),
            Self::Save => Self::Save,
            Self::Park(epoch) => Self::Park(*epoch),
        }
    }
}

impl<S> Lane<S> {
    pub(super) fn new(
        number: usize,
        cursor: Arc<Cursor>,
        key: Key,
        state: Arc<S>,
        position: u64,
    ) -> Self {
        let held = Held {
            state: Some(state),
            position,
            claimed: position,
            cuts: Vec::new(),
            saves: false,
            parks: None,
            rests: None,
            save_error: None,
        };
        Self { number, cursor, key, attention: AtomicU32::new(0), held: Mutex::new(held) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Held<S>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a cut was noted since the lane has looked.
    pub(super) fn is_asked(&self) -> bool {
        self.attention.load(Ordering::Acquire) != 0
    }

    /// The lane looks.
    pub(super) fn looks(&self) {
        self.attention.store(0, Ordering::Relaxed);
    }

    /// Notes a cut, and does at once what can be done of it.
    pub(super) fn note(&self, held: &mut Held<S>, cut: Cut<S>) {
        held.cuts.retain(|other| {
            !matches!((&other.purpose, &cut.purpose), (Purpose::Park(_), Purpose::Park(_)))
        });
        let saves = |cut: &Cut<S>| matches!(cut.purpose, Purpose::Save);
        if saves(&cut) && held.cuts.iter().any(saves) {
            // It is behind, and will save as it is.
            return;
        }
        held.cuts.push(cut);
        if held.state.is_some() {
            held.reach(self.number);
        }
        self.attention.store(1, Ordering::Release);
    }
}

impl<S> Held<S> {
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn claimed(&self) -> u64 {
        self.claimed
    }

    /// The state, if it is here.
    pub(super) fn state(&self) -> Option<&Arc<S>> {
        self.state.as_ref()
    }

    /// Takes the state, to have it reflect what comes up to a position, or up to the first cut before that. Says up to which.
    pub(super) fn claim(&mut self, upto: u64) -> (Option<Arc<S>>, u64) {
        let cuts = self.cuts.iter().map(|cut| cut.position);
        let upto = cuts.filter(|cut| *cut > self.position).fold(upto, u64::min);
        self.claimed = upto;
        (self.state.take(), upto)
    }

    /// Puts the state back, which reflects what was claimed.
    pub(super) fn put(&mut self, lane: usize, state: Arc<S>) {
        self.state = Some(state);
        self.position = self.claimed;
        self.reach(lane);
    }

    /// Puts a state back that reflects what the one did that was taken: what was claimed is not.
    pub(super) fn give_back(&mut self, lane: usize, state: Arc<S>) {
        self.claimed = self.position;
        self.put(lane, state);
    }

    /// Nothing that was claimed is reflected, and there is no state.
    pub(super) fn lose(&mut self) {
        self.claimed = self.position;
    }

    /// Does what is to be done at the position.
    fn reach(&mut self, lane: usize) {
        let Some(state) = &self.state else { return };
        for cut in self.cuts.extract_if(.., |cut| cut.position <= self.position) {
            match cut.purpose {
                Purpose::Show(gathered) => gathered.put(lane, Arc::clone(state)),
                Purpose::Save => self.saves = true,
                Purpose::Park(epoch) => self.parks = Some(epoch),
            }
        }
    }

    /// Forgets cuts.
    pub(super) fn forget(&mut self, is_forgotten: impl Fn(&Purpose<S>) -> bool) {
        self.cuts.retain(|cut| !is_forgotten(&cut.purpose));
    }
}
