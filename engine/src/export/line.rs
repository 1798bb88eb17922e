//! The shape of a line: one event as a JSON object.
//!
//! Owns the names and the order of the fields, and the text form of points in time. The `stratalog` command prints and reads
//! the same lines.

use std::borrow::Cow;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::{PayloadKind, Timestamp};
use crate::read::EventRef;
use crate::typed::Fingerprint;

const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS_PER_MICRO: i64 = 1_000;

/// The fields of a line that goes out, in their order.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    position: u64,
    stream: &'a str,
    version: u64,
    #[serde(rename = "type")]
    event_type: &'a str,
    timestamp: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

/// What stands for the payload in a line.
#[derive(Debug, Clone, Copy)]
struct Data<'a> {
    schema_version: u32,
    fingerprint: Fingerprint,
    payload: Payload<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Payload<'a> {
    Json(&'a RawValue),
    Bytes(&'a [u8]),
}

/// Prints an event as a line, as it is stored: a payload of JSON as such, any other in base64; an archived one with the
/// version and the fingerprint of its type.
///
/// ```
/// # use stratalog::{Expect, NewEvent, Store, disk::MemoryDisk};
/// # let store = Store::options().open_on(std::sync::Arc::new(MemoryDisk::new()))?;
/// store.append("ticket-1", Expect::NoStream, [NewEvent::json("opened", &"printer")?]).wait()?;
/// let batch = store.read_all().forward().next_batch()?.expect("there is an event");
/// let mut line = Vec::new();
/// stratalog::export::write_event(batch.get(0).expect("it has one"), &mut line)?;
/// assert!(line.ends_with(b",\"data\":\"printer\"}\n"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// What writing reports.
pub fn write_event(event: EventRef<'_>, out: &mut impl Write) -> io::Result<()> {
    let line = match event.payload_kind() {
        PayloadKind::Json => on_one_line(event.payload()),
        PayloadKind::Bytes | PayloadKind::Archived => None,
    };
    let payload = match line.as_deref().and_then(raw) {
        Some(json) => Payload::Json(json),
        None => Payload::Bytes(event.payload()),
    };
    let (schema_version, fingerprint) = (event.schema_version(), event.fingerprint());
    write(event, Data { schema_version, fingerprint, payload }, out)
}

/// Prints an event as a line, with this JSON for its payload.
pub(super) fn write_json(event: EventRef<'_>, json: &[u8], out: &mut impl Write) -> io::Result<()> {
    let json = on_one_line(json).ok_or(io::ErrorKind::InvalidData)?;
    let json = serde_json::from_str(&json)?;
    let (schema_version, fingerprint) = (0, Fingerprint::NONE);
    write(event, Data { schema_version, fingerprint, payload: Payload::Json(json) }, out)
}

fn write(event: EventRef<'_>, data: Data<'_>, out: &mut impl Write) -> io::Result<()> {
    let metadata = event.metadata();
    let metadata_json = json_to_the_byte(metadata);
    let metadata_base64 = metadata_json.is_none() && !metadata.is_empty();
    let Data { schema_version, fingerprint, payload } = data;
    let (data, data_base64) = match payload {
        Payload::Json(json) => (Some(json), None),
        Payload::Bytes(bytes) => (None, Some(BASE64.encode(bytes))),
    };
    let printed = Printed {
        position: event.position().get(),
        stream: event.stream(),
        version: event.version(),
        event_type: event.event_type(),
        timestamp: timestamp(time_of(event)),
        id: event.id().to_string(),
        correlation_id: event.correlation().map(|id| id.to_string()),
        causation_id: event.causation().map(|id| id.to_string()),
        tags: event.tags().collect(),
        metadata: metadata_json,
        metadata_base64: metadata_base64.then(|| BASE64.encode(metadata)),
        schema_version: (schema_version > 0).then_some(schema_version),
        fingerprint: (fingerprint != Fingerprint::NONE).then(|| fingerprint.to_string()),
        data,
        data_base64,
    };
    serde_json::to_writer(&mut *out, &printed)?;
    out.write_all(b"\n")
}

/// When an event occurred; where nobody said so, when it was recorded.
pub fn time_of(event: EventRef<'_>) -> Timestamp {
    event.occurred_at().unwrap_or_else(|| event.recorded_at())
}

/// JSON text without line breaks. Inside its strings there are none, since JSON has them escaped, so
/// putting spaces for them changes nothing but the text between the tokens.
#[doc(hidden)]
pub fn on_one_line(json: &[u8]) -> Option<Cow<'_, str>> {
    let text = std::str::from_utf8(json).ok()?;
    Some(if text.contains(['\n', '\r']) {
        Cow::Owned(text.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(text)
    })
}

/// JSON text as a value that prints as that text, without the spaces around it.
#[doc(hidden)]
pub fn raw(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

/// These bytes as JSON, if a line can have them as such and none is lost.
fn json_to_the_byte(bytes: &[u8]) -> Option<&RawValue> {
    let text = std::str::from_utf8(bytes).ok()?;
    raw(text).filter(|json| json.get() == text && !text.contains(['\n', '\r']))
}

/// Prints a timestamp in UTC with 3 fractional digits, or 6 or 9 where it needs them.
pub fn timestamp(time: Timestamp) -> String {
    let nanos = time.as_nanos();
    let Ok(jiff) = jiff::Timestamp::from_nanosecond(nanos.into()) else {
        unreachable!("jiff's range of years is wider than that of 64-bit nanoseconds")
    };
    let digits = if nanos % NANOS_PER_MILLI == 0 {
        3
    } else if nanos % NANOS_PER_MICRO == 0 {
        6
    } else {
        9
    };
    format!("{jiff:.digits$}")
}
