//! No file that is taken for a program or for a kernel makes its reader panic or find what is not there.

use std::os::unix::ffi::OsStrExt as _;

use bulkhead_measure::reading;

/// Runs the target.
pub fn run(input: &[u8]) {
    // What is no text may be replaced, each byte by three.
    let longest = input.len() * 3;
    if let Some(loader) = reading::loader(input) {
        let name = loader.as_os_str().as_bytes();
        assert!(name.len() <= longest && !name.contains(&0), "{loader:?} is not in the program");
    }
    if let Some(release) = reading::release(input) {
        assert!(!release.is_empty() && release.len() <= longest, "{release:?} is not in the kernel");
        assert!(!release.contains([' ', '\0']), "{release:?} is more than a release");
    }
}
