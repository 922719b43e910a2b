//! Decimal fractions, without the tables that a reader of floating-point numbers needs.

/// Reads a number such as `1.25` as so many units, of which ten to the power of `places` make one; what is smaller than a
/// unit does not count. `None` for anything else, also for signs and exponents, and for what has no room in 64 bits.
pub(crate) fn scaled(text: &str, places: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let fraction = fraction.bytes().chain(std::iter::repeat(b'0')).take(places);
    whole
        .bytes()
        .chain(fraction)
        .try_fold(0_u64, |units, digit| units.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for (text, places, expected) in [
            ("0.00", 2, Some(0)),
            ("12.34", 2, Some(1234)),
            ("5", 6, Some(5_000_000)),
            ("1.5", 6, Some(1_500_000)),
            (".5", 1, Some(5)),
            ("5.", 1, Some(50)),
            ("0.0000019", 6, Some(1)),
            ("18446744073709551615", 0, Some(u64::MAX)),
            ("18446744073709551616", 0, None),
            ("18446744073710", 6, None),
            (".", 2, None),
            ("", 2, None),
            ("-1", 2, None),
            ("+1", 2, None),
            ("1e3", 2, None),
            ("1.2.3", 2, None),
            ("inf", 2, None),
        ] {
            assert_eq!(scaled(text, places), expected, "{text} of {places} places");
        }
    }
}
