//! crun's own tests, written in Python.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::suite::{self, Excuse, Prepared, Suite};
use crate::apt::Archive;
use crate::{cache, invoke};

mod run;

pub(super) const SUITE: Suite = Suite {
    name: "crun",
    title: "crun's Python suite",
    prepare,
    run: run::run,
    tools: suite::no_tools,
    excuses: EXCUSES,
};

const EXCUSES: &[Excuse] = &[
    Excuse::anywhere("test_start: start", "it reads `status`, a file of crun's own in its state directory."),
    Excuse::anywhere(
        "test_oci_features: crun-features",
        "it wants the versions, mount options and annotations of crun.",
    ),
    Excuse::anywhere(
        "test_exec: exec_add_no_new_privileges",
        "it wants `exec` to run without `no_new_privs` although the container's process has it; ours keeps it, \
                 like runc.",
    ),
    Excuse::anywhere(
        "test_seccomp: seccomp-listener",
        "it wants a listener for a filter that notifies nobody; the specification names the socket for \
                 SCMP_ACT_NOTIFY only, and runc does not open it either.",
    ),
    Excuse::anywhere("test_mounts: mount-dev", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-dirsync", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-exec", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-nodev", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-noexec", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-nosuid", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-relatime", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-ro", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-rro", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-rw", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-strictatime", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-suid", HOSTS_ROOT),
    Excuse::anywhere("test_mounts: mount-sync", HOSTS_ROOT),
    Excuse::in_guests(
        "test_resources: resources-v2-swap-disabled",
        "it wants no swap where `memory.swap` is 0; ours takes that for a limit which is not given, like runc, since engines \
                 write it so.",
    ),
    Excuse::here(
        "test_delete: test_simple_delete",
        "it moves the container into a frozen cgroup that is not the container's, and then wants that to be empty.",
    ),
    Excuse::anywhere("test_start: sd-notify", SOCKET),
    Excuse::anywhere("test_start: sd-notify-env", SOCKET),
    Excuse::anywhere("test_start: sd-notify-file", SOCKET),
];

const HOSTS_ROOT: &str = "it makes a user namespace without mappings and wants its root to make a directory in files of the \
    host's root, and so to be the host's root; ours gives it the range of /etc/subuid, and runc refuses.";

const SOCKET: &str =
    "it wants the socket at the path that the manager's has; ours has it in /run/notify, like runc.";

/// What the test program would be told by the suite's `configure`.
const CONFIGURATION: &str = "\
#define HAVE_ERROR_H 1
#define HAVE_LINUX_IOPRIO_H 1
#define HAVE_SECCOMP 1
";

/// Raise it when this file makes something else of the same source.
const RECIPE: u32 = 1;

/// Where the tests are.
fn tests(directory: &Path) -> PathBuf {
    directory.join("source/tests")
}

/// The program that is run in containers.
fn init(directory: &Path) -> PathBuf {
    directory.join("init")
}

fn prepare() -> Result<Prepared> {
    let recipe = format!("{RECIPE} {CONFIGURATION}");
    let directory = cache::made_by(&SUITE.place().display().to_string(), &recipe, |directory| {
        println!("fetching and building {}", SUITE.title);
        let version = Archive::of_this_machine()?.upstream("crun", &directory.join("source"))?;
        fs::write(directory.join("version"), version).context("write the suite's version")?;
        fs::write(directory.join("config.h"), CONFIGURATION).context("write the configuration")?;
        let mut compile = Command::new("cc");
        compile.args(["-static", "-O1", "-w"]).arg("-I").arg(directory).arg("-o").arg(init(directory));
        invoke::quietly(compile.arg(tests(directory).join("init.c")))
    })?;
    let version = fs::read_to_string(directory.join("version")).context("read the suite's version")?;
    Ok(Prepared { directory, version })
}
