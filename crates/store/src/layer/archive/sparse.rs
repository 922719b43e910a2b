//! Maps of sparse files: where the data lies between the holes.

/// A part of a file that has data; what is between two is a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// The most segments of a file: their map may not have more than 1 MiB, and none needs fewer than four bytes in it.
const SEGMENTS: usize = super::SPECIAL as usize / 4;

/// Makes a map of numbers, and compares it with the file's size and with the number of bytes that are stored.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence about a sparse file.
pub(super) fn map(numbers: &[u64], size: u64, stored: u64) -> Result<Vec<Segment>, &'static str> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > SEGMENTS {
        return Err("has a map that is not whole, or too long");
    }
    let segments = numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] });
    let (mut end, mut sum) = (0_u64, 0_u64);
    for Segment { offset, length } in segments.clone() {
        if offset < end {
            return Err("has segments that lie over each other");
        }
        end = offset.checked_add(length).ok_or("has a segment without end")?;
        sum += length;
    }
    if end > size {
        return Err("has a segment that lies behind its end");
    }
    if sum != stored {
        return Err("has more or less data than its map says");
    }
    // GNU tar ends a map with an empty segment where a file ends with a hole.
    Ok(segments.filter(|segment| segment.length > 0).collect())
}

/// Says whether a map may grow by so many numbers.
pub(super) fn may_hold(numbers: usize) -> bool {
    numbers / 2 <= SEGMENTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_fits_its_file() {
        let segment = |offset, length| Segment { offset, length };
        for (numbers, size, stored, expected) in [
            (&[][..], 0, 0, Some(vec![])),
            (&[], 4096, 0, Some(vec![])),
            (&[4096, 0], 4096, 0, Some(vec![])),
            (&[0, 10, 100, 5], 105, 15, Some(vec![segment(0, 10), segment(100, 5)])),
            (&[0, 10, 10, 5], 20, 15, Some(vec![segment(0, 10), segment(10, 5)])),
            (&[0, 10, 9, 5], 20, 15, None),
            (&[100, 5, 0, 10], 105, 15, None),
            (&[0, 10], 9, 10, None),
            (&[0, 10], 10, 9, None),
            (&[0, 10], 10, 11, None),
            (&[u64::MAX, 2], u64::MAX, 2, None),
            (&[0, 1, u64::MAX, 1], u64::MAX, 2, None),
            (&[1], 1, 1, None),
        ] {
            assert_eq!(map(numbers, size, stored).ok(), expected, "of {numbers:?} in {size} with {stored}");
        }
    }
}
