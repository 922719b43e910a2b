//! Tests in fresh namespaces, of which these are some.

use bulkhead_testkit::fresh::{self, Kind};
use bulkhead_testkit::{in_fresh_namespaces, is_root, requires};

#[test]
fn a_test_is_alone_in_a_fresh_pid_namespace() {
    requires!(fresh::is_possible(&[Kind::User, Kind::Pid]), "needs user and pid namespaces");
    in_fresh_namespaces!(User, Pid);
    assert_eq!(std::process::id(), 1, "the test is the first process");
    assert!(is_root(), "it is root in its user namespace");
    let others = std::fs::read_dir("/proc").unwrap().flatten();
    let others =
        others.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    assert_eq!(others.count(), 1, "/proc shows the new namespace");
}

#[test]
fn a_mount_in_a_fresh_mount_namespace_stays_there() {
    requires!(fresh::is_possible(&[Kind::User, Kind::Mount]), "needs user and mount namespaces");
    let directory = std::env::temp_dir();
    in_fresh_namespaces!(User, Mount);
    rustix::mount::mount("tmpfs", &directory, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn a_fresh_network_has_only_a_loopback() {
    requires!(fresh::is_possible(&[Kind::User, Kind::Network]), "needs user and network namespaces");
    in_fresh_namespaces!(User, Network);
    let devices = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    assert_eq!(devices.lines().skip(2).count(), devices.matches("lo:").count(), "{devices}");
}

mod inner {
    use super::*;

    #[test]
    fn a_test_in_a_module_is_found_and_all_kinds_work() {
        requires!(is_root() && fresh::is_possible(&Kind::ALL), "needs root and all namespaces");
        let outside = std::fs::read_link("/proc/self/ns/uts").unwrap();
        if std::env::var_os("BULKHEAD_FRESH_MARKER").is_none() {
            assert_ne!(outside.as_os_str(), "");
        }
        in_fresh_namespaces!(User, Mount, Pid, Network, Ipc, Uts, Cgroup, Time);
        assert_eq!(std::process::id(), 1);
    }
}

#[test]
#[should_panic(expected = "should exit with 0")]
fn a_failure_inside_is_a_failure_outside() {
    if !fresh::is_possible(&[Kind::User]) {
        panic!("should exit with 0, if user namespaces were possible");
    }
    in_fresh_namespaces!(User);
    panic!("the process inside fails with this, and the one outside with what it is expected to");
}
