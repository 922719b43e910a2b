//! Moments as docker's users type them: a time, seconds since 1970, or how long ago.

use bulkhead_engine::request::Nanoseconds;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::failure::{Failure, NOT_STARTED};

/// Reads a moment, in nanoseconds since 1970.
///
/// # Errors
/// What is neither of the forms.
pub(crate) fn moment(text: &str, now: u64) -> Result<u64, Failure> {
    if let Some(moment) = unix(text) {
        return Ok(moment);
    }
    if let Ok(Nanoseconds(ago)) = text.parse() {
        return Ok(now.saturating_sub(ago));
    }
    let nanoseconds = |timestamp: Timestamp| u64::try_from(timestamp.as_nanosecond()).unwrap_or(0);
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(nanoseconds(timestamp));
    }
    let here = |time: DateTime| time.to_zoned_datetime(TimeZone::system()).ok();
    if let Some(zoned) = text.parse::<DateTime>().ok().and_then(here) {
        return Ok(nanoseconds(zoned.timestamp()));
    }
    let failure = Failure::new(format!("{text:?} is no time")).code(NOT_STARTED);
    Err(failure.hint("2026-01-31T12:00:00Z, 2026-01-31, 1767225600 and 1h30m are"))
}

/// Seconds since 1970, perhaps with a fraction.
fn unix(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_several_forms() {
        let now = 1_767_225_600_000_000_000;
        for (text, expected) in [
            ("1767225600", now),
            ("1767225600.5", now + 500_000_000),
            ("2026-01-01T00:00:00Z", now),
            ("2026-01-01T00:00:00.000000001Z", now + 1),
            ("2026-01-01T02:00:00+02:00", now),
            ("1h30m", now - 5_400_000_000_000),
            ("90s", now - 90_000_000_000),
        ] {
            assert_eq!(moment(text, now).ok(), Some(expected), "{text}");
        }
        assert!(moment("2026-01-01", now).is_ok() && moment("2026-01-01T10:00:00", now).is_ok());
        for text in ["", "yesterday", "-5", "1.2.3"] {
            assert!(moment(text, now).is_err(), "{text}");
        }
    }
}
