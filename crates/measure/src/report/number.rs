//! Numbers as people read them: three digits that count.

use crate::stats::{Estimate, FEWEST_PAIRS};

/// A number with three significant digits; thousands are set apart by narrow spaces.
pub(super) fn figure(value: f64) -> String {
    fixed(value, decimals(value))
}

/// What `blocks` say: `31.2 [29.8, 33.0]`, or from too few for that their range, `31.2 (29.8–33.0)`, or the only number.
pub(super) fn spread(estimate: &Estimate, blocks: usize) -> String {
    told(estimate, blocks, decimals(estimate.estimate))
}

/// The same of a ratio, `1.02× [0.98, 1.10]`, each number by itself.
pub(super) fn spread_of_ratio(ratio: &Estimate, blocks: usize) -> String {
    let [middle, low, high] = [ratio.estimate, ratio.low, ratio.high].map(figure);
    bracketed(&format!("{middle}×"), &low, &high, blocks)
}

/// A number with two significant digits, for what is not known better.
pub(super) fn rough(value: f64) -> String {
    fixed(value, decimals(value).saturating_sub(1))
}

/// What `blocks` say, with two digits: `0.30 [0.24, 0.38]`.
pub(super) fn rough_spread(estimate: &Estimate, blocks: usize) -> String {
    told(estimate, blocks, decimals(estimate.estimate).saturating_sub(1))
}

/// All three with as many decimals.
fn told(estimate: &Estimate, blocks: usize, decimals: usize) -> String {
    let [middle, low, high] =
        [estimate.estimate, estimate.low, estimate.high].map(|value| fixed(value, decimals));
    bracketed(&middle, &low, &high, blocks)
}

/// Square brackets hold an interval of 95 %, round ones the range of fewer blocks than that takes.
fn bracketed(middle: &str, low: &str, high: &str, blocks: usize) -> String {
    match blocks {
        0 | 1 => middle.to_owned(),
        few if few < FEWEST_PAIRS => format!("{middle} ({low}–{high})"),
        _ => format!("{middle} [{low}, {high}]"),
    }
}

/// `16×`
pub(super) fn times(ratio: f64) -> String {
    format!("{}×", figure(ratio))
}

/// A whole number, of millions with three digits.
pub(super) fn count(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{} G", figure(value / 1e9)),
        value if value >= 1e6 => format!("{} M", figure(value / 1e6)),
        value => fixed(value, 0),
    }
}

/// `3 runs`, `1 run`
pub(super) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

fn decimals(value: f64) -> usize {
    match value.abs() {
        value if value >= 99.95 || value == 0.0 => 0,
        value if value >= 9.995 => 1,
        value if value >= 0.9995 => 2,
        value if value >= 0.09995 => 3,
        value => (2 - value.log10().floor() as i32).clamp(0, 9) as usize,
    }
}

fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |text| ("-", text));
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    if whole.len() <= 3 {
        return format!("{sign}{text}");
    }
    let mut spaced = String::from(sign);
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            spaced.push('\u{202f}');
        }
        spaced.push(digit);
    }
    spaced + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_count() {
        for (value, expected) in [
            (0.0, "0"),
            (0.001_234, "0.00123"),
            (0.1234, "0.123"),
            (0.99999, "1.00"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234.5, "1\u{202f}234"),
            (12_345_678.0, "12\u{202f}345\u{202f}678"),
            (-5.5, "-5.50"),
        ] {
            assert_eq!(figure(value), expected);
        }
        assert_eq!(count(4_920_000.0), "4.92 M");
        assert_eq!(count(1_999.6), "2\u{202f}000");
        assert_eq!((counted(1, "run"), counted(2, "run")), ("1 run".to_owned(), "2 runs".to_owned()));
    }

    #[test]
    fn an_interval_has_one_precision() {
        let estimate = Estimate { estimate: 31.24, low: 9.87654, high: 133.0 };
        let told = [1, 2, 5, 6].map(|blocks| spread(&estimate, blocks));
        assert_eq!(told, ["31.2", "31.2 (9.9–133.0)", "31.2 (9.9–133.0)", "31.2 [9.9, 133.0]"]);
        let estimate = Estimate { estimate: 0.3036, low: 0.238, high: 0.3851 };
        assert_eq!(
            [6, 3, 1].map(|blocks| rough_spread(&estimate, blocks)),
            ["0.30 [0.24, 0.39]", "0.30 (0.24–0.39)", "0.30"]
        );
        assert_eq!(rough(0.01293), "0.013");
        let ratio = Estimate { estimate: 1.02, low: 0.984, high: 13.64 };
        assert_eq!(
            [6, 4].map(|blocks| spread_of_ratio(&ratio, blocks)),
            ["1.02× [0.984, 13.6]", "1.02× (0.984–13.6)"]
        );
    }
}
