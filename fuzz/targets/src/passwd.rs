//! No passwd of an image makes its reader panic, and what is a home there can be one.
//!
//! The input is the file; who is looked for is in its first two bytes, too.

use bulkhead_runtime::program::home_in;

/// Runs the target.
pub fn run(input: &[u8]) {
    let chosen = input.first_chunk().map_or(0, |bytes| u32::from(u16::from_le_bytes(*bytes)));
    for uid in [0, 1000, chosen, u32::MAX] {
        let Some(home) = home_in(input, uid) else { continue };
        assert!(home.starts_with('/') && !home.contains(['\0', '\n', ':']), "{home:?}");
        let stands_there = input.windows(home.len()).any(|part| part == home.as_bytes());
        assert!(stands_there, "{home:?} is not in the file");
    }
}
