//! Real input: a log in JSON Lines, to be replayed.
//!
//! Owns how a line is understood: `stream`, `type`, `timestamp` (RFC 3339) and `data`, of which the text
//! is kept. Other fields are ignored. All of it is read beforehand, so that reading costs the load
//! nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;
use stratalog::{NewEvent, Timestamp};

use super::streams::Names;
use crate::AnyError;

/// A log to be replayed: each event with the number of its stream, in the order of the file.
#[derive(Debug)]
pub(crate) struct Input {
    pub names: Names,
    pub events: Vec<(usize, NewEvent)>,
}

#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Input {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, AnyError> {
        let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (mut numbers, mut names) = (HashMap::<Box<str>, usize>::new(), Vec::new());
        let mut events = Vec::new();
        for (index, line) in BufReader::new(file).lines().enumerate() {
            let broken =
                |error: AnyError| format!("{}, line {}: {error}", path.display(), index + 1);
            let line = line.map_err(|error| broken(error.into()))?;
            if line.trim().is_empty() {
                continue;
            }
            let (stream, event) = parse(&line).map_err(broken)?;
            let number = *numbers.entry(stream.clone()).or_insert_with(|| {
                names.push(stream);
                names.len() - 1
            });
            events.push((number, event));
        }
        if events.is_empty() {
            return Err(format!("{} has no events", path.display()).into());
        }
        Ok(Self { names: Names::Listed(names.into()), events })
    }
}

fn parse(line: &str) -> Result<(Box<str>, NewEvent), AnyError> {
    let line: Line<'_> = serde_json::from_str(line)?;
    let mut event = NewEvent::json_text(&*line.event_type, line.data.get())?;
    if let Some(text) = line.timestamp {
        let time: jiff::Timestamp = text.parse()?;
        event = event.at(Timestamp::from_nanos(i64::try_from(time.as_nanosecond())?));
    }
    Ok((line.stream.into(), event))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Input, AnyError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("input.jsonl");
        std::fs::write(&path, text).unwrap();
        Input::read(&path)
    }

    #[test]
    fn lines_become_events_in_their_order_with_the_text_of_their_data() {
        let input = read(concat!(
            r#"{"stream":"b","type":"t","timestamp":"2010-01-13T08:40:25.000Z","data":{ "k": 1.50 }}"#,
            "\n\n",
            r#"{"stream":"a","type":"u","extra":1,"data":null}"#,
            "\n",
            r#"{"stream":"b","type":"t","data":[]}"#,
        ))
        .unwrap();
        assert!(input.names.iter().map(|name| name.to_string()).eq(["b", "a"]));
        let streams: Vec<_> = input.events.iter().map(|(stream, _)| *stream).collect();
        assert_eq!(streams, [0, 1, 0]);
        assert_eq!(input.events[0].1.payload(), br#"{ "k": 1.50 }"#);
        assert_eq!(input.events[1].1.event_type(), "u");
    }

    #[test]
    fn a_broken_line_is_named() {
        let error =
            read("{\"stream\":\"a\",\"type\":\"t\",\"data\":1}\n{\"stream\":1}").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(read("\n").is_err());
    }
}
