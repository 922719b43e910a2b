//! Points in time as RFC 3339 writes them, in UTC.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time, in UTC; one before 1970 prints as 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds of the second, 0 to 999 999 999.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Reads the clock; before 1970 it reads 1970.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs().try_into().unwrap_or(i64::MAX), nanoseconds: since.subsec_nanos() }
    }

    /// Returns the time without its fraction of a second, as logrus writes it: `2026-11-25T06:20:00Z`.
    pub fn whole(self) -> Self {
        Self { nanoseconds: 0, ..self }
    }
}

impl fmt::Display for Timestamp {
    /// Writes the time with as many digits of a second as it has, as Go's `RFC3339Nano`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = u64::try_from(self.seconds).unwrap_or(0);
        let (year, month, day) = date(seconds / 86_400);
        let of_day = seconds % 86_400;
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanoseconds != 0 {
            let digits = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

/// Turns days since 1970 into year, month and day.
///
/// The calendar repeats every 400 years, which are 146 097 days. Years are counted from March, so that the
/// leap day is their last; 306 days lie between March and January, and 719 468 between 0000-03-01 and 1970.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year_of_cycle + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_as_go_writes_it() {
        let table = [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_399, 0, "2000-02-28T23:59:59Z"),
            (951_782_400, 500_000_000, "2000-02-29T00:00:00.5Z"),
            (1_709_251_199, 1, "2024-02-29T23:59:59.000000001Z"),
            (1_735_689_599, 123_456_789, "2024-12-31T23:59:59.123456789Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00Z"),
            (253_402_300_799, 0, "9999-12-31T23:59:59Z"),
        ];
        for (seconds, nanoseconds, text) in table {
            assert_eq!(Timestamp { seconds, nanoseconds }.to_string(), text);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = date(0);
        for day in 1..200_000 {
            let (year, month, of_month) = date(day);
            let next_day = (year, month) == (before.0, before.1) && of_month == before.2 + 1;
            let next_month = (year, month, of_month) == (before.0, before.1 + 1, 1);
            let next_year = (year, month, of_month) == (before.0 + 1, 1, 1);
            assert!(next_day || next_month || next_year, "{:?} does not follow {before:?}", date(day));
            before = date(day);
        }
    }

    #[test]
    fn a_log_line_has_no_fraction() {
        let time = Timestamp { seconds: 1, nanoseconds: 1 };
        assert_eq!(time.whole().to_string(), "1970-01-01T00:00:01Z");
    }
}
