//! No name of a container, a cgroup or a sub-cgroup leads out of its directory.
//!
//! The input is such names with a NUL between them.

use bulkhead_cgroup::systemd::{Location, Manager};
use bulkhead_cgroup::{CgroupPath, Host, Places, SubCgroups};
use bulkhead_runtime::id::ContainerId;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let names = Vec::from_iter(text.split('\0'));
    for name in &names {
        match ContainerId::new(name) {
            Ok(id) => assert!(super::is_component(id.as_str()), "{id:?}"),
            Err(error) => super::check_sentence(&error.to_string()),
        }
        match CgroupPath::from_config(Some(name), "c") {
            Ok(path) => check_places(&path),
            Err(error) => super::check_sentence(&error.to_string()),
        }
        match Location::from_config(Some(name), "c", Manager::System) {
            Ok(location) => check_location(&location),
            Err(error) => super::check_sentence(&error.to_string()),
        }
    }
    // As several of them, and each as the only one.
    for arguments in std::iter::once(&names[..]).chain(names.chunks(1)) {
        match SubCgroups::parse(arguments) {
            Ok(paths) => check_subs(&paths, arguments),
            Err(error) => super::check_sentence(&error.to_string()),
        }
    }
}

fn check_subs(paths: &SubCgroups, arguments: &[&str]) {
    let named = arguments.iter().filter_map(|argument| argument.split_once(':'));
    let controllers = named.flat_map(|(controllers, _)| controllers.split(','));
    for controller in controllers.chain(["cpu"]) {
        let below = paths.below(&[controller.to_owned()]);
        assert!(below.is_empty() || below.split('/').all(super::is_component), "{below:?}");
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
            assert!(below.is_some_and(|below| below.split('/').all(super::is_component)), "{path:?}");
        }
    }
}

fn check_location(location: &Location) {
    let path = location.below("/c");
    let below = path.strip_prefix("/c/");
    let inside = below.is_some_and(|below| below.split('/').all(super::is_component));
    assert!(inside && path.ends_with(".scope"), "{path:?}");
}
