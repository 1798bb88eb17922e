//! Segments as files: their names, the manifest, making and sealing them, and the catalog in which
//! readers find them.
//!
//! Calls `format`, `disk`, `index` and `commit`'s live segments. The maintainer, a background thread,
//! does the slow work of it, so that neither the sequencer nor the committer ever waits for a file to
//! be created; `recovery` and the readers use the rest.

mod catalog;
mod indexing;
mod lookup;
mod maintainer;
mod manifest;
pub(crate) mod names;
mod pacing;
mod prepare;
mod seal;
mod sealed;
mod warming;

pub(crate) use catalog::{Catalog, CatalogSegment, Catalogs};
pub(crate) use indexing::{build_from_log, stamp_of};
pub(crate) use maintainer::{Maintainer, NotPrepared, SegmentSource};
pub(crate) use manifest::{ManifestFile, read_manifest};
pub(crate) use prepare::prepare;
pub(crate) use sealed::{IndexOrRead, OpenSegment, SealedSegment};
