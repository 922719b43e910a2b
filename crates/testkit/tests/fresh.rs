//! Tests in fresh namespaces, of which these are some.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in the functions that it shares too")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bulkhead_testkit::fresh::{self, Kind};
use bulkhead_testkit::{in_fresh_namespaces, is_root, requires, wait_until};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

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

/// In the environment of a test that is killed while it waits: the file that is locked as long as the process inside lives.
const LOCKED: &str = "BULKHEAD_TEST_LOCKED";

fn is_locked(path: &Path) -> bool {
    let file = File::open(path).unwrap();
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

#[test]
fn a_test_inside_dies_with_who_waits_for_it() {
    requires!(fresh::is_possible(&[Kind::User, Kind::Mount]), "needs user and mount namespaces");
    requires!(fresh::is_possible(&[Kind::User, Kind::Pid]), "needs user and pid namespaces");
    for test in ["waits_in_fresh_namespaces", "waits_in_a_fresh_pid_namespace"] {
        let file = NamedFile::new(test);
        let mut outer = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(LOCKED, &file.0)
            .spawn()
            .unwrap();
        wait_until("the process inside is there", || is_locked(&file.0));
        let pid = Pid::from_raw(outer.id().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        outer.wait().unwrap();
        wait_until("it has gone with the other", || !is_locked(&file.0));
    }
}

/// A file that is removed.
struct NamedFile(PathBuf);

impl NamedFile {
    fn new(name: &str) -> NamedFile {
        let path = std::env::temp_dir().join(format!("bh-fresh-{}-{name}.lock", std::process::id()));
        File::create(&path).unwrap();
        NamedFile(path)
    }
}

impl Drop for NamedFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

/// Locks the file for a minute, in the process that is killed by another test.
fn hold() {
    let Some(path) = std::env::var_os(LOCKED) else { return };
    let file = File::open(path).unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn waits_in_fresh_namespaces() {
    if std::env::var_os(LOCKED).is_some() {
        in_fresh_namespaces!(User, Mount);
        hold();
    }
}

#[test]
fn waits_in_a_fresh_pid_namespace() {
    if std::env::var_os(LOCKED).is_some() {
        in_fresh_namespaces!(User, Pid);
        hold();
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
