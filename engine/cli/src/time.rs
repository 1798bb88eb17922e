//! Timestamps as text: RFC 3339, as `stratalog::export` prints them.
//!
//! Owns how points in time are read. Calls `jiff`; `line` and `query` call it.

use stratalog::Timestamp;

/// A text that is no timestamp of the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TimeError {
    #[error("it is no RFC 3339 timestamp: write it like 2010-01-13T08:40:25.000Z")]
    Shape,
    #[error("it is no RFC 3339 timestamp")]
    Value(#[source] jiff::Error),
    #[error(
        "it is neither a date nor an RFC 3339 timestamp: write it like 2010-01-13 or \
         2010-01-13T08:40:25Z"
    )]
    SinceShape,
    #[error("there is no such day or time")]
    SinceValue(#[source] jiff::Error),
    #[error("the store has timestamps from the year 1678 to 2262 only")]
    Range,
}

/// Reads an RFC 3339 timestamp, in any offset.
pub(crate) fn parse(text: &str) -> Result<Timestamp, TimeError> {
    // jiff reads more shapes than RFC 3339 has; what only one tool understands is refused early.
    if !has_shape(text) {
        return Err(TimeError::Shape);
    }
    let time: jiff::Timestamp = text.parse().map_err(TimeError::Value)?;
    let nanos = i64::try_from(time.as_nanosecond()).map_err(|_| TimeError::Range)?;
    Ok(Timestamp::from_nanos(nanos))
}

/// Reads an RFC 3339 timestamp, or a date, which stands for its midnight in UTC.
pub(crate) fn parse_since(text: &str) -> Result<Timestamp, TimeError> {
    let parsed = if is_like(text.as_bytes(), b"0000-00-00") {
        parse(&format!("{text}T00:00:00Z"))
    } else {
        parse(text)
    };
    parsed.map_err(|error| match error {
        TimeError::Shape => TimeError::SinceShape,
        TimeError::Value(source) => TimeError::SinceValue(source),
        error => error,
    })
}

/// Whether a text has the shape `YYYY-MM-DDThh:mm:ss[.digits](Z|±hh:mm)`.
fn has_shape(text: &str) -> bool {
    let Some((date_time, rest)) = text.as_bytes().split_at_checked(19) else { return false };
    let fraction = match rest {
        [b'.', rest @ ..] => rest.iter().take_while(|byte| byte.is_ascii_digit()).count() + 1,
        _ => 0,
    };
    fraction != 1
        && is_like(date_time, b"0000-00-00T00:00:00")
        && (is_like(&rest[fraction..], b"Z")
            || is_like(&rest[fraction..], b"+00:00")
            || is_like(&rest[fraction..], b"-00:00"))
}

/// Whether `text` has a digit where `pattern` has one, and else the same characters, in either case.
fn is_like(text: &[u8], pattern: &[u8]) -> bool {
    let like = |(one, other): (&u8, &u8)| {
        if other.is_ascii_digit() { one.is_ascii_digit() } else { one.eq_ignore_ascii_case(other) }
    };
    text.len() == pattern.len() && text.iter().zip(pattern).all(like)
}

#[cfg(test)]
mod tests {
    use stratalog::export::timestamp as print;

    use super::*;

    fn printed(text: &str) -> String {
        print(parse(text).unwrap())
    }

    #[test]
    fn the_usual_shape_is_printed_as_it_was() {
        for text in [
            "2010-01-13T08:40:25.000Z",
            "2010-01-13T08:40:25.120Z",
            "2010-01-13T08:40:25.000001Z",
            "2010-01-13T08:40:25.123456789Z",
            "1969-12-31T23:59:59.999Z",
            "1969-12-31T23:59:59.999999999Z",
            "1970-01-01T00:00:00.000Z",
            "2262-04-11T23:47:16.854775807Z",
            "1677-09-21T00:12:43.145224192Z",
        ] {
            assert_eq!(printed(text), text);
        }
    }

    #[test]
    fn other_shapes_are_printed_in_utc() {
        assert_eq!(printed("2010-01-13T08:40:25Z"), "2010-01-13T08:40:25.000Z");
        assert_eq!(printed("2010-01-13t08:40:25.5z"), "2010-01-13T08:40:25.500Z");
        assert_eq!(printed("2010-01-13T08:40:25+05:30"), "2010-01-13T03:10:25.000Z");
    }

    #[test]
    fn a_date_stands_for_its_midnight_in_utc() {
        let since = |text| parse_since(text).map(print);
        assert_eq!(since("2010-01-13").unwrap(), "2010-01-13T00:00:00.000Z");
        assert_eq!(since("2010-01-13T08:40:25+01:00").unwrap(), "2010-01-13T07:40:25.000Z");
        for text in ["", "2010", "2010-1-13", "2010-01-13T", "2010-01-13 08:40", "yesterday"] {
            assert!(matches!(since(text), Err(TimeError::SinceShape)), "{text:?}");
        }
        assert!(matches!(since("2010-02-30"), Err(TimeError::SinceValue(_))));
        assert!(matches!(since("3010-01-13"), Err(TimeError::Range)));
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for text in [
            "",
            "yesterday",
            "2010-01-13",
            "2010-01-13T08:40:25",
            "2010-01-13T08:40:25.Z",
            "2010-01-13 08:40:25Z",
            "2010-01-13T08:40:25.000Z ",
            "2010-01-13T08:40:25,5Z",
            "2010-02-30T08:40:25Z",
            "2010-01-13T25:40:25Z",
            "2010-01-13T08:40:25.1234567891Z",
            "2010-01-13T08:40:25.000Z[UTC]",
            "ü010-01-13T08:40:25.000Z",
            "2010-01-13T08:40:2üZ",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(matches!(parse("2262-04-11T23:47:17Z"), Err(TimeError::Range)));
        assert!(matches!(parse("1677-09-21T00:12:43Z"), Err(TimeError::Range)));
    }
}
