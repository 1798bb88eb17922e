//! The shape of a line: one event as a JSON object, in and out.
//!
//! Owns how a line is understood; how it is printed is the library's, in `stratalog::export`. Calls `time` for timestamps;
//! `import` parses and compares with it.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use stratalog::export::{on_one_line, raw, time_of, timestamp};
use stratalog::{
    EventId, EventRef, Fingerprint, NewEvent, ParseFingerprintError, ParseIdError, PayloadKind,
    Timestamp,
};

use crate::time::{self, TimeError};

/// A line that is no event.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokenLine {
    #[error("it is blank")]
    Blank,
    #[error("it is no JSON object")]
    NoObject,
    #[error("it has more than {bytes_max} bytes")]
    Long { bytes_max: usize },
    #[error("it is not UTF-8 from byte {} on", .0.valid_up_to() + 1)]
    Utf8(std::str::Utf8Error),
    #[error("{what}, at column {column}")]
    Json { what: String, column: usize },
    #[error("it has neither `data` nor `data_base64`")]
    NoData,
    #[error("it has both `{one}` and `{one}_base64`")]
    Both { one: &'static str },
    #[error("`timestamp` is {text:?}")]
    Timestamp { text: String, source: TimeError },
    #[error("`{field}` is no id")]
    Id { field: &'static str, source: ParseIdError },
    #[error("`fingerprint` is no fingerprint")]
    Fingerprint { source: ParseFingerprintError },
    #[error(
        "an archived payload has `schema_version`, `fingerprint` and `data_base64`, this one has not all of them"
    )]
    Archived,
    #[error("`schema_version` is 0; versions begin with 1")]
    SchemaVersion,
    #[error("`{field}` is no base64")]
    Base64 { field: &'static str, source: base64::DecodeError },
}

/// The fields of a line that comes in. A field that is null is as one that is not there, but for `data`
/// and `metadata`, where null is a value like any other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    /// What the event had in the store that it comes from; it gets another here.
    #[serde(rename = "position")]
    _position: Option<u64>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    version: Option<u64>,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    causation_id: Option<Cow<'a, str>>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata_base64: Option<Cow<'a, str>>,
    schema_version: Option<u32>,
    #[serde(borrow)]
    fingerprint: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'a, str>>,
}

fn even_null<'de, D: Deserializer<'de>>(json: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(json).map(Some)
}

/// A payload as a line has it.
#[derive(Debug, PartialEq, Eq)]
enum Payload<'a> {
    /// JSON, its text as it stands in the line.
    Json(&'a str),
    Bytes(Vec<u8>),
    /// By rkyv.
    Archived(Vec<u8>),
}

/// A line that was understood.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) stream: Cow<'a, str>,
    /// The version that the line says it has.
    pub(crate) version: Option<u64>,
    event_type: Cow<'a, str>,
    timestamp: Timestamp,
    id: Option<EventId>,
    correlation: Option<EventId>,
    causation: Option<EventId>,
    tags: Vec<String>,
    metadata: Cow<'a, [u8]>,
    /// 0 where it says none.
    schema_version: u32,
    fingerprint: Fingerprint,
    payload: Payload<'a>,
}

/// The first field in which a line differs from the event that is stored in its place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) field: &'static str,
    pub(crate) stored: String,
    pub(crate) given: String,
}

impl<'a> Line<'a> {
    /// Understands a line, which comes without its line break.
    pub(crate) fn parse(line: &'a [u8]) -> Result<Self, BrokenLine> {
        // The fields could be read from an array too, by their order, which no line means.
        match line.trim_ascii_start().first() {
            None => return Err(BrokenLine::Blank),
            Some(b'{') => {}
            Some(_) => return Err(BrokenLine::NoObject),
        }
        let text = std::str::from_utf8(line).map_err(BrokenLine::Utf8)?;
        let fields: Fields<'a> = serde_json::from_str(text).map_err(|error| json_error(&error))?;
        let timestamp = time::parse(&fields.timestamp)
            .map_err(|source| BrokenLine::Timestamp { text: short(&fields.timestamp), source })?;
        let metadata = match (fields.metadata, fields.metadata_base64) {
            (None, None) => Cow::default(),
            (Some(json), None) => Cow::Borrowed(json.get().as_bytes()),
            (None, Some(text)) => Cow::Owned(decode("metadata_base64", &text)?),
            (Some(_), Some(_)) => return Err(BrokenLine::Both { one: "metadata" }),
        };
        let payload = match (fields.data, fields.data_base64) {
            (None, None) => return Err(BrokenLine::NoData),
            (Some(json), None) => Payload::Json(json.get()),
            (None, Some(text)) => Payload::Bytes(decode("data_base64", &text)?),
            (Some(_), Some(_)) => return Err(BrokenLine::Both { one: "data" }),
        };
        let fingerprint = fields.fingerprint.as_deref().map(str::parse).transpose();
        let fingerprint = fingerprint.map_err(|source| BrokenLine::Fingerprint { source })?;
        let payload = match (payload, fields.schema_version, fingerprint) {
            (_, Some(0), _) => return Err(BrokenLine::SchemaVersion),
            (Payload::Bytes(bytes), Some(_), Some(_)) => Payload::Archived(bytes),
            (Payload::Bytes(_), Some(_), None) | (_, _, Some(_)) => {
                return Err(BrokenLine::Archived);
            }
            (payload, _, None) => payload,
        };
        Ok(Self {
            stream: fields.stream,
            version: fields.version,
            event_type: fields.event_type,
            timestamp,
            id: id("id", fields.id.as_deref())?,
            correlation: id("correlation_id", fields.correlation_id.as_deref())?,
            causation: id("causation_id", fields.causation_id.as_deref())?,
            tags: fields.tags.unwrap_or_default(),
            metadata,
            schema_version: fields.schema_version.unwrap_or(0),
            fingerprint: fingerprint.unwrap_or(Fingerprint::NONE),
            payload,
        })
    }

    /// The event to append.
    pub(crate) fn event(&self) -> Result<NewEvent, stratalog::EncodeError> {
        let event = match &self.payload {
            Payload::Json(text) => {
                NewEvent::json_text(&*self.event_type, *text)?.json_version(self.schema_version)
            }
            Payload::Archived(bytes) => NewEvent::archived(
                &*self.event_type,
                self.schema_version,
                self.fingerprint,
                bytes.as_slice(),
            )?,
            Payload::Bytes(bytes) => NewEvent::bytes(&*self.event_type, bytes.as_slice()),
        };
        let mut event = event
            .at(self.timestamp)
            .tags(self.tags.iter().map(String::as_str))
            .metadata(self.metadata.as_ref());
        if let Some(id) = self.id {
            event = event.id(id);
        }
        if let Some(id) = self.correlation {
            event = event.correlation(id);
        }
        if let Some(id) = self.causation {
            event = event.causation(id);
        }
        Ok(event)
    }

    /// Compares with a stored event, in everything that the line says. A line without an id says nothing
    /// about it: the store made one when the line was appended.
    pub(crate) fn difference(&self, stored: EventRef<'_>) -> Option<Difference> {
        let differ = |field, stored: &str, given: &str| {
            Some(Difference { field, stored: short(stored), given: short(given) })
        };
        let differ_ids = |field, stored: Option<EventId>, given: Option<EventId>| {
            let text = |id: Option<EventId>| id.map_or("none".to_owned(), |id| id.to_string());
            differ(field, &text(stored), &text(given))
        };
        if stored.event_type() != self.event_type {
            return differ("type", stored.event_type(), &self.event_type);
        }
        if time_of(stored) != self.timestamp {
            return differ("timestamp", &timestamp(time_of(stored)), &timestamp(self.timestamp));
        }
        let (own, other) = (stored.schema_version(), self.schema_version);
        if own != other {
            return differ("schema_version", &own.to_string(), &other.to_string());
        }
        let (own, other) = (stored.fingerprint(), self.fingerprint);
        if own != other {
            return differ("fingerprint", &own.to_string(), &other.to_string());
        }
        if self.id.is_some_and(|id| id != stored.id()) {
            return differ_ids("id", Some(stored.id()), self.id);
        }
        if stored.correlation() != self.correlation {
            return differ_ids("correlation_id", stored.correlation(), self.correlation);
        }
        if stored.causation() != self.causation {
            return differ_ids("causation_id", stored.causation(), self.causation);
        }
        if !stored.tags().eq(self.tags.iter().map(String::as_str)) {
            let tags: Vec<_> = stored.tags().collect();
            return differ("tags", &format!("{tags:?}"), &format!("{:?}", self.tags));
        }
        if stored.metadata() != &*self.metadata {
            let text = String::from_utf8_lossy;
            return differ("metadata", &text(stored.metadata()), &text(&self.metadata));
        }
        let (same, given) = match &self.payload {
            Payload::Json(text) => (is_json_text(stored, text), Cow::Borrowed(*text)),
            Payload::Bytes(bytes) => (
                stored.payload_kind() == PayloadKind::Bytes && stored.payload() == bytes,
                Cow::Owned(BASE64.encode(bytes)),
            ),
            Payload::Archived(bytes) => (
                stored.payload_kind() == PayloadKind::Archived && stored.payload() == bytes,
                Cow::Owned(BASE64.encode(bytes)),
            ),
        };
        if same {
            return None;
        }
        let shown = match stored.payload_kind() {
            PayloadKind::Json => String::from_utf8_lossy(stored.payload()),
            _ => Cow::Owned(BASE64.encode(stored.payload())),
        };
        differ("data", &shown, &given)
    }
}

/// Whether a stored event has this JSON text, or prints as this one.
fn is_json_text(stored: EventRef<'_>, text: &str) -> bool {
    stored.payload_kind() == PayloadKind::Json
        && (stored.payload() == text.as_bytes()
            || on_one_line(stored.payload())
                .is_some_and(|line| raw(&line).is_some_and(|json| json.get() == text)))
}

fn json_error(error: &serde_json::Error) -> BrokenLine {
    // The library's own line number is always 1 here, and would be taken for the line of the file.
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let what = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    BrokenLine::Json { what, column: error.column() }
}

fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, BrokenLine> {
    BASE64.decode(text).map_err(|source| BrokenLine::Base64 { field, source })
}

fn id(field: &'static str, text: Option<&str>) -> Result<Option<EventId>, BrokenLine> {
    let parsed = text.map(str::parse).transpose();
    parsed.map_err(|source| BrokenLine::Id { field, source })
}

/// A text that may be long, for a message.
fn short(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stratalog::disk::MemoryDisk;
    use stratalog::export::write_event as print;
    use stratalog::{Expect, Store};

    use super::*;

    fn store() -> Store {
        Store::options().open_on(Arc::new(MemoryDisk::new())).unwrap()
    }

    fn printed(store: &Store) -> Vec<String> {
        let mut out = Vec::new();
        let mut reader = store.read_all().forward();
        while let Some(batch) = reader.next_batch().unwrap() {
            for event in &batch {
                print(event, &mut out).unwrap();
            }
        }
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    /// What is said of a line with these fields beside the ones that it must have.
    fn broken(line: &str) -> String {
        Line::parse(line.as_bytes()).unwrap_err().to_string()
    }

    const MUST: &str = r#""stream":"s-1","type":"t","timestamp":"2010-01-13T08:40:25.000Z""#;

    #[test]
    fn a_line_comes_out_with_the_texts_that_went_in() {
        let fields = concat!(
            r#""type":"t","timestamp":"2010-01-13T08:40:25.000Z","#,
            r#""id":"0190a5d2-7b1c-7000-8000-000000000001","#,
            r#""correlation_id":"0190a5d2-7b1c-7000-8000-000000000002","#,
            r#""causation_id":"0190a5d2-7b1c-7000-8000-000000000003","#,
            r#""tags":["b","a"],"metadata":{ "k" : 1.50 },"data":{"z":1e5,"a":[ 1.0 ],"z":"\u00fc"}"#,
        );
        let line = format!(r#"{{"stream":"s-1",{fields}}}"#);
        let store = store();
        let event = Line::parse(line.as_bytes()).unwrap().event().unwrap();
        store.append("s-1", Expect::NoStream, [event]).wait().unwrap();
        let expected = format!(r#"{{"position":1,"stream":"s-1","version":0,{fields}}}"#);
        assert_eq!(printed(&store), [expected]);
    }

    #[test]
    fn what_is_no_json_is_printed_in_base64() {
        let store = store();
        let events = [
            NewEvent::bytes("t", b"\xff\0".as_slice()).metadata(b"no json".as_slice()),
            NewEvent::bytes("t", b"{}".as_slice()).metadata(b"{\n}".as_slice()),
            NewEvent::json("t", &()).unwrap().metadata(b" 1".as_slice()),
            NewEvent::json("t", &()).unwrap().metadata(b"null".as_slice()),
        ];
        store.append("s", Expect::NoStream, &events).wait().unwrap();
        let ends: Vec<_> = printed(&store)
            .iter()
            .map(|line| line[line.find(r#""metadata"#).unwrap()..].to_owned())
            .collect();
        assert_eq!(
            ends,
            [
                r#""metadata_base64":"bm8ganNvbg==","data_base64":"/wA="}"#,
                r#""metadata_base64":"ewp9","data_base64":"e30="}"#,
                r#""metadata_base64":"IDE=","data":null}"#,
                r#""metadata":null,"data":null}"#,
            ]
        );
    }

    #[test]
    fn line_breaks_in_stored_json_become_spaces_and_the_line_equals_what_is_stored() {
        let store = store();
        let event = NewEvent::json_text("t", "\n{\r\n \"a\\n\": 1\n}\n").unwrap();
        store.append("s", Expect::NoStream, [event]).wait().unwrap();
        let lines = printed(&store);
        assert!(lines[0].ends_with(r#""data":{   "a\n": 1 }}"#), "{}", lines[0]);
        assert_equals_stored(&store, &lines[0]);
    }

    fn assert_equals_stored(store: &Store, line: &str) {
        let batch = store.read_all().forward().next_batch().unwrap().unwrap();
        let parsed = Line::parse(line.as_bytes()).unwrap();
        assert_eq!(parsed.difference(batch.get(0).unwrap()), None);
    }

    #[test]
    fn an_event_without_a_time_of_its_own_equals_the_line_that_it_prints_as() {
        let store = store();
        let event = NewEvent::bytes("t", b"x".as_slice());
        store.append("s", Expect::NoStream, [event]).wait().unwrap();
        assert_equals_stored(&store, &printed(&store)[0]);
    }

    #[test]
    fn each_field_that_differs_is_named() {
        let line = |fields: &str| format!("{{{MUST},{fields}}}");
        let store = store();
        let id = "0190a5d2-7b1c-7000-8000-000000000001";
        let original = line(&format!(r#""id":"{id}","tags":["a"],"metadata":1,"data":1.0"#));
        let event = Line::parse(original.as_bytes()).unwrap().event().unwrap();
        store.append("s-1", Expect::NoStream, [event]).wait().unwrap();
        let batch = store.read_all().forward().next_batch().unwrap().unwrap();
        let field = |line: &str| {
            let parsed = Line::parse(line.as_bytes()).unwrap();
            parsed.difference(batch.get(0).unwrap()).map(|difference| difference.field)
        };
        assert_eq!(field(&original), None);
        assert_eq!(field(&line(r#""tags":["a"],"metadata":1,"data":1.0"#)), None);
        assert_eq!(field(&original.replace(r#""type":"t""#, r#""type":"u""#)), Some("type"));
        assert_eq!(field(&original.replace("25.000Z", "25.001Z")), Some("timestamp"));
        assert_eq!(field(&original.replace("0001\"", "0002\"")), Some("id"));
        assert_eq!(field(&original.replace(r#"["a"]"#, r#"["a","a"]"#)), Some("tags"));
        assert_eq!(
            field(&original.replace(r#""metadata":1"#, r#""metadata":2"#)),
            Some("metadata")
        );
        assert_eq!(field(&original.replace("1.0}", "1.00}")), Some("data"));
        assert_eq!(
            field(&original.replace(r#""data":1.0"#, r#""data_base64":"MS4w""#)),
            Some("data")
        );
        for name in ["correlation_id", "causation_id"] {
            let given = original.replace("{\"stream", &format!("{{\"{name}\":\"{id}\",\"stream"));
            assert_eq!(field(&given), Some(name));
        }
    }

    #[test]
    fn a_broken_line_says_what_is_wrong() {
        let line = |fields: &str| format!("{{{MUST}{fields}}}");
        assert_eq!(broken(" \t\r"), "it is blank");
        assert_eq!(
            broken(r#"[null,"s",null,"t","2010-01-13T08:40:25Z",null,null,null,[],1,null,1,null]"#),
            "it is no JSON object"
        );
        assert_eq!(broken("{]"), "key must be a string, at column 2");
        assert_eq!(broken(&line("")), "it has neither `data` nor `data_base64`");
        assert!(broken(&line(r#","data":1,"data":2"#)).starts_with("duplicate field `data`"));
        assert!(broken(&line(r#","data":1,"extra":2"#)).starts_with("unknown field `extra`"));
        assert!(broken(r#"{"type":"t"}"#).starts_with("missing field `stream`"));
        assert!(broken(&line(r#","data":1} {"#)).starts_with("trailing characters"));
        assert_eq!(
            broken(&line(r#","data":1,"data_base64":"""#)),
            "it has both `data` and `data_base64`"
        );
        assert_eq!(broken(&line(r#","data":1,"id":"x""#)), "`id` is no id");
        let archived = "an archived payload has `schema_version`, `fingerprint` and `data_base64`, \
                        this one has not all of them";
        let fingerprint = r#""fingerprint":"0190a5d27b1c70008000000000000005""#;
        assert_eq!(broken(&line(&format!(r#","data_base64":"",{fingerprint}"#))), archived);
        assert_eq!(
            broken(&line(&format!(r#","data":1,"schema_version":1,{fingerprint}"#))),
            archived
        );
        assert_eq!(broken(&line(r#","data_base64":"","schema_version":1"#)), archived);
        assert_eq!(
            broken(&line(r#","data":1,"schema_version":0"#)),
            "`schema_version` is 0; versions begin with 1"
        );
        assert_eq!(
            broken(&line(r#","data_base64":"","schema_version":1,"fingerprint":"x""#)),
            "`fingerprint` is no fingerprint"
        );
        assert_eq!(broken(&line(r#","data_base64":"?""#)), "`data_base64` is no base64");
        let bytes = Line::parse(b"{\"stream\":\"\xff\"}").unwrap_err();
        assert_eq!(bytes.to_string(), "it is not UTF-8 from byte 12 on");
    }
}
