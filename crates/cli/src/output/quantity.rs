//! Sizes and times as docker shows them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// A size in decimal units with three digits that count, such as `7.81MB`: of images, layers and files.
pub(crate) fn decimal(bytes: u64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3)
}

/// A size in binary units with four digits that count, such as `1.523MiB`: of memory.
pub(crate) fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], digits: usize) -> String {
    let mut size = bytes as f64;
    let mut units = units.iter().copied();
    let mut unit = units.next().unwrap_or_default();
    while size >= base
        && let Some(larger) = units.next()
    {
        size /= base;
        unit = larger;
    }
    format!("{}{unit}", significant(size, digits))
}

/// A number as C's `%.{digits}g` prints it, below 10^digits.
fn significant(number: f64, digits: usize) -> String {
    let whole = (number.max(1.0).log10().floor() as usize) + 1;
    let text = format!("{number:.*}", digits.saturating_sub(whole));
    // Rounding up may have made one more digit: 9.999 becomes 10.00.
    if !text.contains('.') { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

/// How long something took or is ago: `3 seconds`, `About an hour`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A moment, in nanoseconds since 1970, seen from another: `2 hours ago`.
pub(crate) fn ago(moment: u64, now: u64) -> String {
    format!("{} ago", span(Duration::from_nanos(now.saturating_sub(moment))))
}

/// The time now, in nanoseconds since 1970.
pub(crate) fn now() -> u64 {
    u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0)
}

/// A moment in RFC 3339 with nanoseconds, in UTC: `2026-11-29T04:30:00.123456789Z`.
pub(crate) fn rfc3339(moment: u64) -> String {
    timestamp(moment).to_string()
}

/// A moment where the user is, as in docker's tables: `2026-11-29 04:30:00 +0000 UTC`.
pub(crate) fn local(moment: u64) -> String {
    timestamp(moment).to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// Reads a moment of RFC 3339, in nanoseconds since 1970; nothing before that.
pub(crate) fn parse_rfc3339(text: &str) -> Option<u64> {
    u64::try_from(text.parse::<Timestamp>().ok()?.as_nanosecond()).ok()
}

fn timestamp(moment: u64) -> Timestamp {
    let seconds = i64::try_from(moment / SECOND).unwrap_or(i64::MAX);
    let nanoseconds = i32::try_from(moment % SECOND).unwrap_or(0);
    Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_docker() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (7_812_345, "7.81MB"),
            (78_123_456, "78.1MB"),
            (781_999_999, "782MB"),
            (1_230_000_000, "1.23GB"),
        ] {
            assert_eq!(decimal(bytes), expected);
        }
        for (bytes, expected) in
            [(0, "0B"), (1023, "1023B"), (1024, "1KiB"), (1_597_440, "1.523MiB"), (1 << 34, "16GiB")]
        {
            assert_eq!(binary(bytes), expected);
        }
    }

    #[test]
    fn ages_are_those_of_docker() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), expected, "for {seconds} s");
        }
        assert_eq!(ago(5 * SECOND, 65 * SECOND), "About a minute ago");
    }

    #[test]
    fn moments_have_all_their_digits() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_764_390_600_123_456_789), "2025-11-29T04:30:00.123456789Z");
    }
}
