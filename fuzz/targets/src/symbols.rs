//! No list of the kernel's symbols and no file of its sources makes its reader panic or find what is not there.
//!
//! The input is a text like /proc/kallsyms, a NUL, and a file of sources.

use bulkhead_measure::reading::{self, Wanted};

/// Runs the target.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (symbols, source) = text.split_once('\0').unwrap_or((text, text));
    let functions = reading::functions(symbols);
    assert!(functions.len() <= symbols.lines().count());
    for pair in functions.windows(2) {
        let [(address, bytes, name), (next, ..)] = pair else { continue };
        assert!(
            address.checked_add(*bytes).is_some_and(|end| end <= *next),
            "{name} lies over what follows it"
        );
    }
    let mut names = Vec::from_iter(functions.iter().map(|(_, _, name)| name.as_str()));
    for found in reading::definitions(source, &Wanted::of(names.iter().copied())) {
        assert!(names.iter().any(|name| name.starts_with(&found)), "{found} was not looked for");
    }
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "two functions have one name");
}
