//! No table of mounts, and no line of /proc/PID/cgroup, makes its readers panic.
//!
//! Whoever can mount chooses what stands there. The input is the table, a NUL, and the membership.

use bulkhead_cgroup::{CgroupPath, Host, Places};
use bulkhead_sys::mountinfo;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (table, own) = text.split_once('\0').unwrap_or((text, "0::/a/b\n1:memory:/a\n"));
    assert!(mountinfo::entries(table.as_bytes()).len() <= table.lines().count());
    let host = match Host::from_text(table, own) {
        Ok(host) => host,
        Err(error) => return super::check_sentence(&error.to_string()),
    };
    assert!(!host.hierarchies().is_empty());
    for path in [None, Some("/a/b"), Some("a")] {
        let Ok(path) = CgroupPath::from_config(path, "c") else { panic!("{path:?} is a path") };
        let Ok(places) = Places::find(&host, &path) else { continue };
        for (controller, path) in places.paths() {
            assert!(
                path.ends_with("/c") || path.ends_with("/a/b") || path.ends_with("/a"),
                "{controller}: {path}"
            );
        }
    }
}
