//! Lists of CPUs and memory nodes, such as `0-3,7`, as bit masks (cpuset(7), "List format").

/// Bits beyond this number are refused: the kernel has no machine with more CPUs.
const LIMIT: usize = 8192;

/// Parses a list into words of 64 bits, the lowest first; surrounding spaces and empty parts are allowed.
///
/// # Errors
/// A sentence about the part that is wrong.
pub fn bit_mask(list: &str) -> Result<Vec<u64>, String> {
    let mut mask = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| match text.trim().parse::<usize>() {
            Ok(number) if number < LIMIT => Ok(number),
            Ok(_) => Err(format!("{text:?} is beyond {}", LIMIT - 1)),
            Err(_) => Err(format!("{part:?} is neither a number nor a range such as 0-3")),
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {part:?} is backwards"));
        }
        for bit in first..=last {
            let word = bit / 64;
            if mask.len() <= word {
                mask.resize(word + 1, 0);
            }
            mask[word] |= 1 << (bit % 64);
        }
    }
    Ok(mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_numbers_set_their_bits() {
        assert_eq!(bit_mask("0-3,7"), Ok(vec![0b1000_1111]));
        assert_eq!(bit_mask(" 64 , 0"), Ok(vec![1, 1]));
        assert_eq!(bit_mask(""), Ok(vec![]));
    }

    #[test]
    fn a_wrong_part_is_named() {
        assert_eq!(bit_mask("3-1").unwrap_err(), "the range \"3-1\" is backwards");
        assert_eq!(bit_mask("a").unwrap_err(), "\"a\" is neither a number nor a range such as 0-3");
        assert_eq!(bit_mask("9999").unwrap_err(), "\"9999\" is beyond 8191");
    }
}
