//! Payloads of JSON that are a type by serde. They are read into values: a view of one is a reference to such a value.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::form::Form;
use super::payload::PayloadError;
use crate::event::PayloadKind;

/// See the module.
#[derive(Debug)]
#[doc(hidden)]
pub enum Json {}

impl<E: Serialize + DeserializeOwned + Send + Sync + 'static> Form<E> for Json {
    type View = E;
    type Kept = E;
    const KIND: PayloadKind = PayloadKind::Json;

    fn write(event: &E, out: &mut Vec<u8>) -> Result<(), PayloadError> {
        serde_json::to_writer(out, event).map_err(PayloadError::Json)
    }

    fn view(_: &[u8]) -> Result<Option<&E>, PayloadError> {
        Ok(None)
    }

    unsafe fn view_unchecked(_: &[u8]) -> Option<&E> {
        None
    }

    fn decode(payload: &[u8]) -> Result<E, PayloadError> {
        serde_json::from_slice(payload).map_err(PayloadError::Json)
    }

    fn keep(event: E) -> Result<E, PayloadError> {
        Ok(event)
    }

    fn kept(kept: &E) -> &E {
        kept
    }
}
