//! Times as the database keeps them (milliseconds since 1970) and as the wire shows them. Reads the clock; no other I/O.

use jiff::Timestamp;

/// Milliseconds since the epoch, UTC.
pub(super) type Millis = i64;

/// Now.
pub(super) fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

/// ISO 8601 with whole seconds, like `2026-01-31T12:00:00Z`: the `DateTime` of the schema.
pub(super) fn iso(millis: Millis) -> String {
    Timestamp::from_millisecond(millis)
        .map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

#[cfg(test)]
mod tests {
    use super::iso;

    #[test]
    fn times_have_whole_seconds() {
        assert_eq!(iso(1_767_225_600_999), "2026-01-01T00:00:00Z");
        assert_eq!(iso(i64::MAX), "1970-01-01T00:00:00Z");
    }
}
