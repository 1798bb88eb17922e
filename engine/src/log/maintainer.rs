//! The maintainer: the background thread that makes segments before they are needed, and seals and
//! indexes those that are full.
//!
//! It is told what to do by a [`SegmentSource`], the sequencer's side. A job that fails stops that job
//! only: the failure is logged and reported to whoever waits for its result, and tried again when it is
//! next asked for.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::manifest::ManifestFile;
use super::prepare::{grow, prepare};
use super::seal::{seal, write_index_file};
use super::sealed::SealedSegment;
use super::{build_from_log, names};
use crate::append::Prepared;
use crate::commit::LiveSegment;
use crate::disk::Disk;
use crate::error::FileError;
use crate::options::Options;

/// Where the maintainer's work comes from, and goes to.
pub(crate) trait SegmentSource: Send + Sync {
    /// How many bytes an append needs of the next segment, where that is wanted, and the prepared
    /// segment that has too few, if there is one.
    fn wanted(&self) -> Option<(u64, Option<Prepared>)>;
    /// The next segment is there, or could not be made.
    fn prepared(&self, result: Result<Prepared, NotPrepared>);
    /// The oldest full segment, once all of it is durable.
    fn full(&self) -> Option<Arc<LiveSegment>>;
    /// That segment was sealed.
    fn sealed(&self, live: &LiveSegment, sealed: SealedSegment);
    /// The maintainer panicked: there will be no further segment.
    fn abandoned(&self);
    /// That segment could not be sealed yet.
    fn sealing_failed(&self, error: FileError);
}

/// Why there is no next segment, or none that is large enough.
#[derive(Debug)]
pub(crate) struct NotPrepared {
    pub error: FileError,
    /// The prepared segment that was to grow.
    pub small: Option<Prepared>,
}

/// Wakes the maintainer.
#[derive(Debug, Default)]
struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct BellState {
    rung: bool,
    stop: bool,
}

/// How long a failed sealing waits before it is tried again, unless something else happens before.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// See the module. Shared by the thread and by those who wake it.
#[derive(Debug)]
pub(crate) struct Maintainer {
    disk: Arc<dyn Disk>,
    options: Options,
    manifest: Mutex<ManifestFile>,
    bell: Bell,
}

impl Maintainer {
    pub(crate) fn new(disk: Arc<dyn Disk>, options: Options, manifest: ManifestFile) -> Self {
        Self { disk, options, manifest: Mutex::new(manifest), bell: Bell::default() }
    }

    /// There may be something to do.
    pub(crate) fn ring(&self) {
        self.bell.state.lock().unwrap_or_else(PoisonError::into_inner).rung = true;
        self.bell.rung.notify_one();
    }

    /// The thread is to end once what can be sealed is sealed.
    pub(crate) fn stop(&self) {
        self.bell.state.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.bell.rung.notify_one();
    }

    /// Does something with the manifest.
    pub(crate) fn with_manifest<T>(&self, act: impl FnOnce(&mut ManifestFile) -> T) -> T {
        act(&mut self.manifest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The thread: works whenever it is woken, until it is stopped.
    pub(crate) fn run<S: SegmentSource>(&self, source: &S, unindexed: &[Arc<SealedSegment>]) {
        let _guard = PanicGuard(source);
        for segment in unindexed {
            self.index(segment);
        }
        loop {
            let stop = self.bell.state.lock().unwrap_or_else(PoisonError::into_inner).stop;
            let prepared = !stop && self.prepare(source);
            let sealed = self.seal(source);
            let mut state = self.bell.state.lock().unwrap_or_else(PoisonError::into_inner);
            if prepared || sealed == Some(true) {
                // There may be more of the same.
                continue;
            }
            if state.stop {
                return;
            }
            if !state.rung {
                let wait = if sealed == Some(false) { RETRY_AFTER } else { Duration::MAX };
                let waited = self
                    .bell
                    .rung
                    .wait_timeout_while(state, wait, |state| !state.rung && !state.stop);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            state.rung = false;
        }
    }

    /// Makes the next segment, if one is wanted.
    fn prepare<S: SegmentSource>(&self, source: &S) -> bool {
        let Some((bytes_needed, small)) = source.wanted() else {
            return false;
        };
        let result = self.with_manifest(|manifest| {
            let before: u64 = manifest.current().segments.iter().map(|s| s.file_bytes).sum();
            let before = before - small.as_ref().map_or(0, |small| small.file_bytes);
            let bytes = self.options.next_segment_bytes(before, bytes_needed).max(bytes_needed);
            match small {
                Some(mut small) => match grow(manifest, &mut small, bytes) {
                    Ok(()) => Ok(small),
                    Err(error) => Err(NotPrepared { error, small: Some(small) }),
                },
                None => prepare(&self.disk, manifest, bytes)
                    .map_err(|error| NotPrepared { error, small: None }),
            }
        });
        if let Err(NotPrepared { error, .. }) = &result {
            tracing::warn!(%error, "the next segment could not be made");
        }
        let made = result.is_ok();
        source.prepared(result);
        made
    }

    /// Seals the oldest full segment; `None` where there is none.
    fn seal<S: SegmentSource>(&self, source: &S) -> Option<bool> {
        let live = source.full()?;
        match self.with_manifest(|manifest| seal(&self.disk, manifest, &live)) {
            Ok(sealed) => {
                sealed.warm();
                source.sealed(&live, sealed);
                Some(true)
            }
            Err(error) => {
                tracing::warn!(segment = live.number(), %error, "a segment could not be sealed yet");
                source.sealing_failed(error);
                Some(false)
            }
        }
    }

    /// Builds the index of a sealed segment that has none.
    fn index(&self, segment: &SealedSegment) {
        let built = segment.map_log().map_err(|error| error.to_string()).and_then(|log| {
            build_from_log(&segment.key, &segment.content, &log)
                .map_err(|(offset, reason)| format!("{reason} at offset {offset}"))
        });
        let written = built.and_then(|bytes| {
            let name = names::index(segment.number());
            write_index_file(&self.disk, segment.number(), &bytes, &name)
                .map_err(|error| error.to_string())
        });
        if let Err(reason) = written {
            tracing::warn!(segment = segment.number(), reason, "an index could not be rebuilt");
        }
    }
}

/// Tells the source if the maintainer panics, so that nobody waits for ever.
struct PanicGuard<'a, S: SegmentSource>(&'a S);

impl<S: SegmentSource> Drop for PanicGuard<'_, S> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandoned();
        }
    }
}
