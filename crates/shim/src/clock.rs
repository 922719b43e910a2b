//! The time of day, and how docker writes it.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Nanoseconds since 1970 (UTC); before it, 0.
pub(crate) fn now() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * SECOND + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Appends a time as Go's `RFC3339Nano` has it: `2017-09-01T01:01:01.000000001Z`, without zeros at the end.
pub(crate) fn write(time: u64, out: &mut Vec<u8>) {
    let (seconds, nanoseconds) = (time / SECOND, time % SECOND);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let parts: [(u64, usize, u8); 6] = [
        (year, 4, b'-'),
        (month, 2, b'-'),
        (day, 2, b'T'),
        (second / 3600, 2, b':'),
        (second / 60 % 60, 2, b':'),
        (second % 60, 2, b'.'),
    ];
    for (number, width, after) in parts {
        digits(number, width, out);
        out.push(after);
    }
    if nanoseconds == 0 {
        // Without a fraction there is no dot.
        out.pop();
    } else {
        digits(nanoseconds, 9, out);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

fn digits(number: u64, width: usize, out: &mut Vec<u8>) {
    let end = out.len() + width;
    out.resize(end, b'0');
    let mut rest = number;
    for place in out[end - width..].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// The day of the calendar that is so many days after 1970-01-01, by counting years from March on, so that the day which
/// leap years add is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    // 0000-03-01 is 719 468 days before 1970-01-01; an era is 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        for (time, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1, "1970-01-01T00:00:00.000000001Z"),
            (951_782_400 * SECOND, "2000-02-29T00:00:00Z"),
            (1_504_227_661 * SECOND + 1, "2017-09-01T01:01:01.000000001Z"),
            (1_504_227_661 * SECOND + 120_000_000, "2017-09-01T01:01:01.12Z"),
            (1_704_067_199 * SECOND + 999_999_999, "2023-12-31T23:59:59.999999999Z"),
            (1_704_067_200 * SECOND, "2024-01-01T00:00:00Z"),
            (4_107_542_400 * SECOND + 10, "2100-03-01T00:00:00.00000001Z"),
            (1_700_000_010 * SECOND, "2023-11-14T22:13:30Z"),
        ] {
            let mut out = Vec::new();
            write(time, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
