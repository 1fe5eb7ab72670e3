//! How old a thing is by the server's clock text. Pure; no I/O.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Whether something made at `created_at` (ISO 8601; without a zone it is UTC) is at least `age` old.
///
/// A text that is no time is not old: what cannot be dated is kept.
pub(super) fn is_older(created_at: &str, age: Duration, now: Timestamp) -> bool {
    let zoned = created_at.parse::<Timestamp>().ok();
    let plain = || created_at.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let Some(created) = zoned.or_else(plain) else { return false };
    let passed = now.duration_since(created);
    Duration::try_from(passed).is_ok_and(|passed| passed >= age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_count_from_the_servers_text() {
        let now: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let day = Duration::from_secs(86_400);
        for (created, older) in [
            ("2026-02-27T00:00:00Z", true),
            ("2026-02-28T00:00:00Z", true),
            ("2026-02-28T00:00:01Z", false),
            ("2026-02-27T00:00:00", true),
            ("2026-02-28T12:00:00.123456", false),
            ("2027-01-01T00:00:00Z", false),
            ("yesterday", false),
            ("", false),
        ] {
            assert_eq!(is_older(created, day, now), older, "{created}");
        }
    }
}
