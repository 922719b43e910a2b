//! Ids of containers: 64 hexadecimal digits that nobody can guess.

use std::fmt::Write as _;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Doing, Result};

/// How many digits of an id people are shown.
pub const SHORT: usize = 12;

/// Makes a new id.
///
/// Its first twelve digits are never all decimal, so that a short id cannot be taken for a number, or a host's name for an
/// address.
///
/// # Errors
/// As getrandom(2).
pub fn generate() -> Result<String> {
    loop {
        let id = hexadecimal(&random::<32>()?);
        if id[..SHORT].bytes().any(|digit| !digit.is_ascii_digit()) {
            return Ok(id);
        }
    }
}

/// Returns the digits of an id that people are shown.
pub fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// Tells whether a text could be an id: 64 hexadecimal digits in lower case.
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns `N` random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::io::retry_on_intr(|| getrandom(&mut bytes[filled..], GetRandomFlags::empty()))
            .doing(|| "get random bytes")?;
    }
    Ok(bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_long_different_and_no_numbers() {
        let ids: Vec<String> = (0..64).map(|_| generate().unwrap()).collect();
        for (index, id) in ids.iter().enumerate() {
            assert!(is_id(id), "{id}");
            assert!(short(id).parse::<u64>().is_err(), "{id}");
            assert!(!ids[..index].contains(id));
        }
        assert_eq!(short("abc"), "abc");
        assert!(!is_id("ABC"));
    }
}
