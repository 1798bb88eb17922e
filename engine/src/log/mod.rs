//! Segments as files: their names, the manifest, making and sealing them, and the catalog in which
//! readers find them.
//!
//! Calls `format`, `disk`, `index` and `commit`'s live segments. The maintainer, a background thread,
//! does the slow work of it, so that neither the sequencer nor the committer ever waits for a file to
//! be created; the indexer, another one, does what nobody waits for; `recovery` and the readers use the rest.
//!
//! The index of what is sealed is of two kinds of file: each segment's table says where its events are, and
//! runs, of one segment or of several neighbours, say which events have a term.

mod bell;
mod catalog;
mod indexer;
mod indexing;
mod lookup;
mod maintainer;
mod manifest;
pub(crate) mod names;
mod pacing;
mod prepare;
mod read_ahead;
mod rebuilding;
mod run;
mod seal;
mod sealed;
mod warming;

pub(crate) use bell::{Bell, Called};
pub(crate) use catalog::{Catalog, CatalogSegment, Catalogs, Part};
pub(crate) use indexer::Indexer;
pub(crate) use indexing::{Built, build_from_log, stamp_of};
pub(crate) use maintainer::{Maintainer, NotPrepared, SegmentSource};
pub(crate) use manifest::{ManifestFile, read_manifest};
pub(crate) use prepare::prepare;
pub(crate) use rebuilding::Rebuilding;
pub(crate) use run::{OpenRun, Run};
pub(crate) use seal::write_index_file;
pub(crate) use sealed::{IndexOrRead, OpenSegment, SealedSegment};
