//! Durations as Go writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Malformed;

/// A length of time in nanoseconds, at most about 292 years.
///
/// Reads what Go's `time.ParseDuration` does, but nothing negative: numbers, perhaps with a fraction, each with its unit (`ns`,
/// `us`, `ms`, `s`, `m`, `h`), such as `1m30s` or `1.5h`; and `0`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanoseconds(pub u64);

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, the micro sign
    ("μs", 1_000), // U+03BC, the Greek letter
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// How many digits behind the point count: more say nothing, even of hours.
const PLACES: usize = 18;

impl FromStr for Nanoseconds {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("duration", text, reason);
        if text.starts_with('-') && text.len() > 1 {
            return Err(wrong("it is negative"));
        }
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Self(0));
        }
        let mut total: u128 = 0;
        loop {
            let (digits, fraction, after) =
                number(rest).ok_or_else(|| wrong("expected a number with a unit, such as 1m30s"))?;
            let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, next) = after.split_at(end);
            let Some(&(_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
                let what = if unit.is_empty() { "a number has no unit" } else { "a unit is not known" };
                return Err(wrong(&format!("{what}; expected one of ns, us, ms, s, m, h")));
            };
            let part = nanoseconds(digits, fraction, factor);
            total = part.and_then(|part| total.checked_add(part)).ok_or_else(|| wrong("it is too long"))?;
            rest = next;
            if rest.is_empty() {
                break;
            }
        }
        i64::try_from(total)
            .ok()
            .and_then(|total| u64::try_from(total).ok())
            .map(Self)
            .ok_or_else(|| wrong("it is too long"))
    }
}

/// Takes the digits before and behind the point from the front.
fn number(text: &str) -> Option<(&str, &str, &str)> {
    let digits_end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(digits_end(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits_end(rest)),
        None => ("", rest),
    };
    (!whole.is_empty() || !fraction.is_empty()).then_some((whole, fraction, rest))
}

fn nanoseconds(whole: &str, fraction: &str, factor: u128) -> Option<u128> {
    let fraction = &fraction[..fraction.len().min(PLACES)];
    let read =
        |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok().map(u128::from) };
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some(read(whole)?.checked_mul(factor)? + read(fraction)? * factor / scale)
}

impl fmt::Display for Nanoseconds {
    /// Writes it as Go does, without units that are zero at the end: `1m30s`, `1.5s`, `250ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SECOND: u64 = 1_000_000_000;
        match self.0 {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{}ns", self.0),
            1_000..1_000_000 => write!(f, "{}µs", decimal(self.0, 3)),
            1_000_000..SECOND => write!(f, "{}ms", decimal(self.0, 6)),
            _ => {
                let (minutes, rest) = (self.0 / (60 * SECOND), self.0 % (60 * SECOND));
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes % 60 > 0 || minutes >= 60 && rest > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                if rest > 0 { write!(f, "{}s", decimal(rest, 9)) } else { Ok(()) }
            }
        }
    }
}

/// Writes a number of which the last digits stand behind the point.
fn decimal(number: u64, places: usize) -> String {
    let digits = format!("{number:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{whole}.{fraction}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("+5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1h45m", 6_300_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("300ms", 300_000_000),
            ("12us", 12_000),
            ("12µs", 12_000),
            ("12μs", 12_000),
            ("1ns", 1),
            ("1.9ns", 1),
            ("30s1m", 90_000_000_000),
            ("0.3333333333333333333h", 1_200_000_000_000 - 1),
            ("9223372036854775807ns", i64::MAX.unsigned_abs()),
        ] {
            assert_eq!(text.parse(), Ok(Nanoseconds(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn other_durations_are_refused() {
        for text in [
            "",
            "3",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "\u{0085}",
            "-5s",
            "9223372036854775808ns",
            "3000000h",
            "1m 30s",
            "1M",
            "99999999999999999999s",
            "1x2s",
        ] {
            let error = text.parse::<Nanoseconds>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid duration {text:?}: ")), "{error}");
        }
    }

    #[test]
    fn a_duration_is_written_as_it_is_read() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (250_000_000, "250ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h"),
            (3_605_000_000_000, "1h0m5s"),
            (5_400_000_000_001, "1h30m0.000000001s"),
        ] {
            assert_eq!(Nanoseconds(nanoseconds).to_string(), text);
            assert_eq!(text.parse(), Ok(Nanoseconds(nanoseconds)));
        }
    }
}
