//! Lengths of time as people type them: `90s`, `15m`, `12h`, `30d`, `2w`. No I/O.

use std::time::Duration;

/// Parses a whole number with a unit.
///
/// # Errors
/// A sentence that says which forms there are.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let refuse = || format!("`{text}` is no length of time; write such as 90s, 15m, 12h, 30d or 2w");
    let unit = text.chars().last().ok_or_else(refuse)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(refuse()),
    };
    let digits = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let number: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or_else(refuse)?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn numbers_have_units() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600)] {
            assert_eq!(parse(text).map(|length| length.as_secs()), Ok(seconds), "{text}");
        }
        for bad in
            ["", "d", "30", "30 d", "-1d", "1.5h", "+1d", "30x", "é", "99999999999999999999d", "9999999999999999w"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
