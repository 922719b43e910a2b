//! No name of a container, a cgroup or a sub-cgroup leads out of its directory.
//!
//! The input is such names with a NUL between them.

use bulkhead_cgroup::{CgroupPath, Host, Places, SubCgroups};
use bulkhead_runtime::id::ContainerId;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let names = Vec::from_iter(text.split('\0'));
    for name in &names {
        match ContainerId::new(name) {
            Ok(id) => assert!(is_component(id.as_str()), "{id:?}"),
            Err(error) => super::check_sentence(&error.to_string()),
        }
        match CgroupPath::from_config(Some(name), "c") {
            Ok(path) => check_places(&path),
            Err(error) => super::check_sentence(&error.to_string()),
        }
    }
    if let Err(error) = SubCgroups::parse(&names) {
        super::check_sentence(&error.to_string());
    }
}

fn check_places(path: &CgroupPath) {
    for table in super::HOSTS {
        let Ok(host) = Host::from_text(table, "0::/own/b\n1:memory:/own\n") else {
            panic!("{table} is a host")
        };
        let Ok(places) = Places::find(&host, path) else { continue };
        for path in places.paths().values() {
            let below = path.strip_prefix("/c/");
            assert!(below.is_some_and(|below| below.split('/').all(is_component)), "{path:?}");
        }
    }
}

fn is_component(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !matches!(name, "." | "..") && !name.contains(['/', '\0'])
}
