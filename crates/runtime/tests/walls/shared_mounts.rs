//! A container in the host's mount namespace, but in a root that is attached nowhere there.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use bulkhead_sys::namespace::{self, Kind};
use bulkhead_testkit::mounts::Table;
use bulkhead_testkit::{in_fresh_namespaces, is_root, requires};
use rustix::fs::{Mode, OFlags};
use serde_json::json;

use crate::attack::Attacker;
use crate::outside::Outside;
use crate::sandbox;

/// In the attacker's environment: a file of the host.
const SECRET: &str = "BULKHEAD_SECRET";

/// Needs the root to be a tree of its own: a directory of the host's, as runc has it, ends at the second chroot(2). Seen to
/// fail with runc 1.3.6, where the secret is read.
#[test]
fn nobody_climbs_out_of_a_root_that_is_attached_nowhere() {
    requires!(is_root(), "needs root");
    in_fresh_namespaces!(Mount);
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let secret = outside.path().join("secret").display().to_string();
    let attacker = Attacker::new(&sandbox, "climb");
    let bundle = attacker.bundle.clone().without_namespace("mount").env(&format!("{SECRET}={secret}"));
    // runc wants none of these without a mount namespace.
    let bundle = bundle.edit(|config| {
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    let table = Table::watch();
    let output = sandbox.run(&bundle).output();
    assert_eq!(attacker.loot(), "", "it got nowhere\n{output}");
    assert!(attacker.said("done"), "the attacker has tried everything\n{output}");
    sandbox.launch(&bundle.args(["/bin/sleep", "1000"]));
    let command = Attacker::command();
    fs::remove_file(sandbox.directory().join("shared/done")).unwrap();
    sandbox.exec(&attacker.bundle, command).output().succeeds();
    assert!(attacker.said("done"), "a process that joined has tried everything");
    assert_eq!(attacker.loot(), "", "it got nowhere, either");
    assert!(!table.has_changed(), "the host's mounts are as they were");
    outside.is_untouched();
}

/// Climbs by each way that a process with docker's capabilities has, and looks whether the host's file is there.
pub(crate) fn climb() {
    let secret = PathBuf::from(std::env::var_os(SECRET).unwrap());
    // Opened before: who has climbed out does not find it any more.
    let shared = fs::File::open("/shared").unwrap();
    let look = |way: &str| {
        if let Ok(found) = fs::read_to_string(&secret) {
            write_at(&shared, "loot", &format!("{way}: {found}"));
        }
    };
    look("at the beginning");
    if namespace::unshare(Kind::User).is_ok() {
        write_at(&shared, "loot", "a user namespace gives rights to who is in a chroot(2)\n");
    }
    let own = fs::File::open("/proc/self/ns/mnt").unwrap();
    if namespace::join(own.as_fd(), Kind::Mount).is_ok() {
        write_at(&shared, "loot", "the root of the mount namespace is open without CAP_SYS_ADMIN\n");
    }
    let up = format!(".{}", "/..".repeat(64));
    rustix::process::chdir(up.as_str()).unwrap();
    if secret.strip_prefix("/").unwrap().exists() {
        write_at(&shared, "loot", "the host is above the root\n");
    }
    // The classic one: a root below the working directory does not hold it.
    let jail = Path::new("/tmp/jail");
    fs::create_dir_all(jail).unwrap();
    let top = fs::File::open("/").unwrap();
    rustix::process::chroot(jail).unwrap();
    rustix::process::fchdir(&top).unwrap();
    rustix::process::chdir(up.as_str()).unwrap();
    rustix::process::chroot(".").unwrap();
    look("by a second chroot(2)");
    assert!(Path::new("/shared").exists(), "it came to its own top");
    write_at(&shared, "done", "");
}

fn write_at(directory: &fs::File, name: &str, line: &str) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
    let file = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o644)).unwrap();
    rustix::io::write(file, line.as_bytes()).unwrap();
}
