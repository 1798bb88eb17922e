//! Whether what is stored can be read by the sets of events that were registered.

use crate::error::{OpenError, ReadError};
use crate::format::definition::EventType;
use crate::log::{Catalog, CatalogSegment};
use crate::typed::Registered;

/// Checks each type of the store. The types of sealed segments are in the manifest; only where those are too many to be
/// listed are the segments asked.
///
/// # Errors
/// [`OpenError::Events`], or what reading the segments reports.
pub(crate) fn check_stored_types(
    registered: &Registered,
    catalog: &Catalog,
) -> Result<(), OpenError> {
    if registered.is_empty() {
        return Ok(());
    }
    let check = |stored: &EventType| registered.check_stored(stored);
    let listed = catalog.types.listed();
    listed.into_iter().flatten().try_for_each(|known| check(&known.event_type))?;
    for segment in &catalog.segments {
        match segment {
            CatalogSegment::Live(live) => live.types.iter().try_for_each(check)?,
            CatalogSegment::Sealed(sealed) if listed.is_none() && sealed.content.events > 0 => {
                let open = sealed.open().map_err(|error| match error {
                    ReadError::File(error) => OpenError::File(error),
                    error => OpenError::Types(Box::new(error)),
                })?;
                open.types.iter().try_for_each(check)?;
            }
            CatalogSegment::Sealed(_) => {}
        }
    }
    Ok(())
}
