//! An `/etc/passwd` of the image that is no file, or not a decent one.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use bulkhead_testkit::{Bundle, Sandbox, is_root, requires};

use crate::outside::Outside;
use crate::sandbox;

fn bundle(sandbox: &Sandbox, name: &str) -> Bundle {
    let bundle = sandbox.bundle(name).script("echo $HOME");
    fs::remove_file(bundle.rootfs().join("etc/passwd")).unwrap();
    bundle
}

/// Runs the container, which must not hang, and joins it, which must not either.
fn home_is(sandbox: &Sandbox, bundle: &Bundle, home: &str) {
    let limit = Duration::from_secs(5);
    let expected = format!("{home}\n");
    sandbox.run(bundle).timeout(limit).output().succeeds().prints(&expected);
    let bundle = bundle.clone().args(["sleep", "1000"]);
    sandbox.launch(&bundle);
    let exec = sandbox.exec(&bundle, ["/bin/sh", "-c", "echo $HOME"]);
    exec.timeout(limit).output().succeeds().prints(&expected);
    sandbox.runtime().args(["delete", "--force", bundle.id()]).output().succeeds();
}

/// Needs O_NONBLOCK at the opening and the check of the file's type. Must fail without O_NONBLOCK: nobody ever
/// writes to the pipe, and the runtime waits.
#[test]
fn a_fifo_does_not_make_the_runtime_wait() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = bundle(&sandbox, "fifo");
    sandbox.command("mkfifo").arg(bundle.rootfs().join("etc/passwd")).output().succeeds();
    home_is(&sandbox, &bundle, "/");
}

/// Needs the check of the file's type. Must fail without it: /dev/zero is read up to the limit in size, line by
/// line that never ends.
#[test]
fn a_device_is_not_read() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    for (number, minor) in ["5", "8"].iter().enumerate() {
        let bundle = bundle(&sandbox, &format!("device{number}"));
        let node = bundle.rootfs().join("etc/passwd");
        sandbox.command("mknod").arg(node).args(["c", "1", minor]).output().succeeds();
        home_is(&sandbox, &bundle, "/");
    }
}

/// Needs the limit in size. Must fail without it: the memory of the one endless line is charged to the container,
/// and the kernel kills the process.
#[test]
fn an_endless_line_does_not_fill_the_memory() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = bundle(&sandbox, "huge");
    // A hole: gigabytes of zeros that take no space.
    fs::File::create(bundle.rootfs().join("etc/passwd")).unwrap().set_len(8 << 30).unwrap();
    home_is(&sandbox, &bundle, "/");
}

/// Needs RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS. Must fail when the host's path is opened: HOME is the secret.
#[test]
fn a_link_does_not_read_the_hosts_file() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let passwd = sandbox.directory().join("passwd");
    fs::write(&passwd, "root:x:0:0:root:/secret:/bin/sh\n").unwrap();
    let [absolute, up] = outside.ways("../passwd");
    for (number, way) in [absolute, up, "/proc/self/fd/0".into(), "passwd".into()].iter().enumerate() {
        let bundle = bundle(&sandbox, &format!("link{number}"));
        symlink(way, bundle.rootfs().join("etc/passwd")).unwrap();
        home_is(&sandbox, &bundle, "/");
    }
}

/// What is no path, or not one that begins at the root, is not taken. Must fail without that check.
#[test]
fn nonsense_is_not_taken() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let nonsense = "root\n:::\nroot:x:0\nroot:x:00x:0:root:/a:/bin/sh\nroot:x:-0:0:root:/b:/bin/sh\n\
                    root:x:4294967296:0:root:/c:/bin/sh\nroot:x:0:0:root:relative:/bin/sh\nroot:x:0:0:root::\n";
    let bundle = bundle(&sandbox, "nonsense").file("etc/passwd", nonsense);
    home_is(&sandbox, &bundle, "/");
}

/// A home that no environment can have leaves the usual one, not none at all. Seen to fail without that check.
#[test]
fn a_home_with_a_nul_byte_is_not_taken() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = bundle(&sandbox, "nul").file("etc/passwd", "root:x:0:0:root:/a\0b:/bin/sh\n");
    home_is(&sandbox, &bundle, "/");
}
