//! Quantities: sizes, shares of processors, limits that may be none.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Malformed;

/// A number of bytes.
///
/// Reads docker's sizes: a number, perhaps with a fraction, and a unit in either case, of which each is 1024 of the one before:
/// `b`, `k`, `m`, `g`, `t`, `p`, which `b` or `ib` may follow (`512m`, `1.5GiB`, `64 kb`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("size", text, reason);
        let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').map_or(0, |last| last + 1);
        let (number, unit) = text.split_at(end);
        if number.is_empty() {
            return Err(wrong("expected a number with a unit, such as 512m or 1.5g"));
        }
        if number.starts_with('-') {
            return Err(wrong("a size is not negative"));
        }
        let number = Decimal::read(number)
            .ok_or_else(|| wrong("expected a number with a unit, such as 512m or 1.5g"))?;
        let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
        let power = match unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit) {
            "" if unit.len() < 2 => 0,
            "k" => 1,
            "m" => 2,
            "g" => 3,
            "t" => 4,
            "p" => 5,
            _ => return Err(wrong("expected one of the units b, k, m, g, t, p")),
        };
        number.times(1_u128 << (10 * power)).map(Self).ok_or_else(|| wrong("it is larger than 8 EiB"))
    }
}

impl fmt::Display for Size {
    /// Writes the largest unit of which it is a whole number, so that it reads as the same size.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["b", "k", "m", "g", "t", "p"];
        let mut left = self.0;
        let mut power = 0;
        while left != 0 && left.is_multiple_of(1024) && power + 1 < units.len() {
            left /= 1024;
            power += 1;
        }
        write!(f, "{left}{}", units[power])
    }
}

/// Processors in billionths: `1.5` is 1 500 000 000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cpus(pub u64);

impl FromStr for Cpus {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let wrong = |reason: &str| Malformed::new("number of CPUs", text, reason);
        let number = Decimal::read(text).ok_or_else(|| wrong("expected a number such as 2 or 0.5"))?;
        if number.places > 9 {
            return Err(wrong("at most nine places can stand behind the point"));
        }
        number.times(1_000_000_000).map(Self).ok_or_else(|| wrong("it is larger than any machine"))
    }
}

/// A number that may be none at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// There is no limit.
    Unlimited,
    /// This is the limit.
    At(u64),
}

impl Limit {
    /// Reads a size in bytes, or -1 for none (`--memory-swap`).
    ///
    /// # Errors
    /// What is neither.
    pub fn of_bytes(text: &str) -> Result<Self, Malformed> {
        if text == "-1" { Ok(Self::Unlimited) } else { text.parse().map(|Size(bytes)| Self::At(bytes)) }
    }

    /// Reads a number of tasks: 0 and -1 are none (`--pids-limit`).
    ///
    /// # Errors
    /// What is not a number.
    pub fn of_tasks(text: &str) -> Result<Self, Malformed> {
        match text {
            "-1" | "0" => Ok(Self::Unlimited),
            _ => Self::number("limit of tasks", text),
        }
    }

    /// Reads seconds, or -1 for ever (`--stop-timeout`).
    ///
    /// # Errors
    /// What is not a number.
    pub fn of_seconds(text: &str) -> Result<Self, Malformed> {
        if text == "-1" { Ok(Self::Unlimited) } else { Self::number("number of seconds", text) }
    }

    fn number(noun: &'static str, text: &str) -> Result<Self, Malformed> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|&number| digits && i64::try_from(number).is_ok());
        number
            .map(Self::At)
            .ok_or_else(|| Malformed::new(noun, text, "expected a whole number, or -1 for no limit"))
    }

    /// Returns the number as kernel interfaces have it, where -1 is none.
    pub fn signed(self) -> i64 {
        match self {
            Self::Unlimited => -1,
            Self::At(number) => i64::try_from(number).unwrap_or(i64::MAX),
        }
    }
}

/// A number as it is typed: digits, of which the last `places` stand behind the point.
struct Decimal {
    digits: u128,
    places: u32,
}

impl Decimal {
    /// Reads `12`, `1.5`, `.5` and `5.`. Digits too many to count are refused.
    fn read(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let fraction = fraction.trim_end_matches('0');
        let all = format!("{whole}{fraction}");
        let is_number = text.bytes().any(|byte| byte.is_ascii_digit())
            && all.bytes().all(|byte| byte.is_ascii_digit())
            && all.len() <= 30;
        let digits = if all.is_empty() { 0 } else { all.parse().ok()? };
        is_number.then_some(Self { digits, places: u32::try_from(fraction.len()).ok()? })
    }

    /// Multiplies, and drops what is left behind the point; `None` for more than the kernel's signed numbers hold.
    fn times(&self, factor: u128) -> Option<u64> {
        let whole = self.digits.checked_mul(factor)? / 10_u128.checked_pow(self.places)?;
        i64::try_from(whole).ok().and_then(|number| u64::try_from(number).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32Kib", 32 << 10),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("1.5GiB", 3 << 29),
            ("2 tb", 2 << 40),
            ("3P", 3 << 50),
            (".5k", 512),
            ("5.k", 5120),
            ("32 ", 32),
            ("0.3k", 307),
            ("9223372036854775807", i64::MAX.unsigned_abs()),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn other_sizes_are_refused() {
        for text in [
            "",
            "b",
            "ib",
            "hello",
            "-32",
            "-1g",
            "32q",
            "32bb",
            "32ib",
            "32kbi",
            "32.3.4k",
            " 32",
            "32  k",
            "32kk",
            "0x20",
            "1e3",
            "9223372036854775808",
            "8388608t",
            "1,5g",
            "½g",
            "٣k",
        ] {
            let error = text.parse::<Size>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid size {text:?}: ")), "{error}");
        }
    }

    #[test]
    fn a_size_is_written_as_it_is_read() {
        for (bytes, text) in [(0, "0b"), (1023, "1023b"), (1024, "1k"), (3 << 29, "1536m"), (1 << 50, "1p")] {
            assert_eq!(Size(bytes).to_string(), text);
            assert_eq!(text.parse(), Ok(Size(bytes)));
        }
    }

    #[test]
    fn processors_are_billionths() {
        for (text, billionths) in
            [("2", 2_000_000_000), ("0.5", 500_000_000), (".000000001", 1), ("1.50", 1_500_000_000), ("0", 0)]
        {
            assert_eq!(text.parse(), Ok(Cpus(billionths)), "{text}");
        }
        for text in ["", "-1", "two", "0.0000000001", "1/2", "99999999999", "1e3", "."] {
            assert!(text.parse::<Cpus>().is_err(), "{text}");
        }
    }

    #[test]
    fn minus_one_is_no_limit() {
        assert_eq!(Limit::of_bytes("-1"), Ok(Limit::Unlimited));
        assert_eq!(Limit::of_bytes("1k"), Ok(Limit::At(1024)));
        assert_eq!(Limit::of_tasks("0"), Ok(Limit::Unlimited));
        assert_eq!(Limit::of_tasks("100"), Ok(Limit::At(100)));
        assert_eq!(Limit::of_seconds("0"), Ok(Limit::At(0)));
        for text in ["-2", "", "+1", "1.5", "99999999999999999999"] {
            assert!(Limit::of_tasks(text).is_err() && Limit::of_seconds(text).is_err(), "{text}");
        }
        assert_eq!((Limit::Unlimited.signed(), Limit::At(7).signed()), (-1, 7));
    }
}
