//! No options of a mount make their reader panic; none both sets and clears a bit, and each word counts once.

use bulkhead_runtime::plan::mount_options::{self, Change};
use bulkhead_sys::mount::attribute;

/// Runs the target; the input is the options with a comma between them.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let words = Vec::from_iter(text.split(',').map(str::to_owned));
    let options = mount_options::parse(&words);
    for Change { set, clear } in [options.attributes, options.recursive] {
        // The access times are one field of several bits, which is cleared as a whole before it is set.
        assert_eq!(set & clear & !attribute::ATIME, 0, "{words:?} sets and clears {:#x}", set & clear);
    }
    assert!(options.data.len() <= words.len());
    for (key, value) in &options.data {
        let word = value.as_ref().map_or_else(|| key.clone(), |value| format!("{key}={value}"));
        assert!(words.contains(&word), "{word:?} was not typed");
        assert!(!mount_options::known().contains(&word), "{word:?} is not for the file system");
    }
    // A word said twice is said.
    let twice = Vec::from_iter(words.iter().flat_map(|word| [word.clone(), word.clone()]));
    let again = mount_options::parse(&twice);
    assert_eq!((again.attributes, again.recursive), (options.attributes, options.recursive));
}
