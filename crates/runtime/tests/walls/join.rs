//! Containers that wait for a process that joins them: CVE-2016-9962.

use std::time::{Duration, Instant};

use bulkhead_testkit::{is_root, requires};

use crate::attack::Attacker;
use crate::{exec, sandbox};

/// A PATH that takes long to search and has no program, so that the joining process stays itself: with all of the
/// container's rights, and the host's descriptors still open.
fn long_path() -> String {
    format!("PATH={}", ["/etc/nothing"; 8000].join(":"))
}

/// How often the attacker gets a chance: on a slow machine each is a long one, and the attacker's patience ends.
fn opportunities() -> impl Iterator<Item = ()> {
    let begin = Instant::now();
    (0..40).take_while(move |_| begin.elapsed() < Duration::from_secs(15)).map(drop)
}

/// Needs the process not to be dumpable from before it is born into the pid namespace until execve(2). Must fail
/// without `set_dumpable(false)` in `join`: links, descriptors and memory of the process are open to the container.
#[test]
fn a_joining_process_cannot_be_looked_into() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let attacker = Attacker::new(&sandbox, "spy");
    sandbox.launch(&attacker.bundle);
    attacker.wait_for("ready");
    for () in opportunities() {
        let output =
            exec(&sandbox, &["--env", &long_path()], &attacker.bundle, &["no-such-program"]).output();
        output.exits_with(255).complains("executable file not found");
    }
    attacker.wait_for("saw-a-process");
    attacker.stop();
    attacker.wait_for("done");
    assert_eq!(attacker.loot(), "", "no process of the runtime was open to the container");
}

/// The same for a process that joins as another user than root: changing the identity must not make it dumpable.
#[test]
fn a_joining_process_of_an_ordinary_user_cannot_be_looked_into() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let attacker = Attacker::new(&sandbox, "spy");
    let bundle = attacker.bundle.clone().user(1000, 1000);
    std::os::unix::fs::chown(sandbox.directory().join("shared"), Some(1000), Some(1000)).unwrap();
    sandbox.launch(&bundle);
    attacker.wait_for("ready");
    for () in opportunities() {
        exec(&sandbox, &["--env", &long_path()], &bundle, &["no-such-program"]).output().exits_with(255);
    }
    attacker.wait_for("saw-a-process");
    attacker.stop();
    attacker.wait_for("done");
    assert_eq!(attacker.loot(), "", "no process of the runtime was open to the container");
}

/// The runtime that waits at the gate is process 1 of a container in which others may be already.
#[test]
fn a_created_container_cannot_look_into_its_first_process() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let bundle = sandbox.bundle("created").args(["/bin/sleep", "1000"]);
    sandbox.create(&bundle);
    // The numbers of its descriptors are not secret: whoever is root in there may list them.
    let script = "cd /proc/1; for name in exe root cwd fd/*; do readlink $name; cat $name; done; \
                  cat maps environ; echo x > mem; true";
    let output = sandbox.exec(&bundle, ["/bin/sh", "-c", script]).output().succeeds();
    assert_eq!(output.stdout, "", "nothing of it can be read");
}
