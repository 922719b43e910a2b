//! What no input may do to what reads it: the bodies of the fuzz targets.
//!
//! A target is a function of bytes that panics when a promise is broken. They stand here and not in the programs of
//! cargo-fuzz, so that stable Rust can replay the corpora (`tests/replay.rs`).

pub mod annotations;
pub mod archive;
pub mod challenge;
pub mod cli;
pub mod cni;
pub mod config;
pub mod criu_response;
pub mod dbus;
pub mod devices;
pub mod flags;
pub mod layer;
pub mod manifest;
pub mod monitor_file;
pub mod monitor_message;
pub mod mount_options;
pub mod mountinfo;
pub mod name;
pub mod names;
pub mod netlink;
pub mod passwd;
pub mod programs;
pub mod question;
pub mod registries;
pub mod resctrl;
pub mod seccomp_profile;
pub mod state;
pub mod symbols;
pub mod tracer;
pub mod update;

/// A target's name, which is also that of its program and of its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("annotations", annotations::run),
    ("archive", archive::run),
    ("challenge", challenge::run),
    ("cli", cli::run),
    ("cni", cni::run),
    ("config", config::run),
    ("criu_response", criu_response::run),
    ("dbus", dbus::run),
    ("devices", devices::run),
    ("flags", flags::run),
    ("layer", layer::run),
    ("manifest", manifest::run),
    ("monitor_file", monitor_file::run),
    ("monitor_message", monitor_message::run),
    ("mount_options", mount_options::run),
    ("mountinfo", mountinfo::run),
    ("name", name::run),
    ("names", names::run),
    ("netlink", netlink::run),
    ("passwd", passwd::run),
    ("programs", programs::run),
    ("question", question::run),
    ("registries", registries::run),
    ("resctrl", resctrl::run),
    ("seccomp_profile", seccomp_profile::run),
    ("state", state::run),
    ("symbols", symbols::run),
    ("tracer", tracer::run),
    ("update", update::run),
];

/// The hosts for which limits are planned: v1, v2, and both at once.
const HOSTS: [&str; 3] = [
    "1 0 0:1 / /c/memory rw - cgroup cgroup rw,memory\n\
     2 0 0:2 / /c/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
     3 0 0:3 / /c/cpuset rw - cgroup cgroup rw,cpuset\n\
     4 0 0:4 / /c/devices rw - cgroup cgroup rw,devices\n\
     5 0 0:5 / /c/blkio rw - cgroup cgroup rw,blkio\n\
     6 0 0:6 / /c/pids rw - cgroup cgroup rw,pids\n\
     7 0 0:7 / /c/freezer rw - cgroup cgroup rw,freezer\n\
     8 0 0:8 / /c/hugetlb rw - cgroup cgroup rw,hugetlb\n",
    "9 0 0:9 / /c rw - cgroup2 cgroup2 rw\n",
    "1 0 0:1 / /c/memory rw - cgroup cgroup rw,memory\n9 0 0:9 / /c/unified rw - cgroup2 cgroup2 rw\n",
];

/// The identity maps of a user namespace that has none of its own.
fn maps() -> bulkhead_runtime::plan::namespaces::IdMaps {
    let map = || vec![bulkhead_spec::IdMapping { container_id: 0, host_id: 100_000, size: 65536 }];
    bulkhead_runtime::plan::namespaces::IdMaps { uids: map(), gids: map() }
}

/// What a user reads says something and stays on its line: text of an input must not move a cursor.
fn check_sentence(sentence: &str) {
    assert!(!sentence.is_empty(), "an error says nothing");
    let printed = bulkhead_runtime::log::escaped(sentence, "");
    assert!(!printed.chars().any(char::is_control), "{printed:?} could move a cursor");
}

/// Tells whether a name is that of something in a directory, and of nothing outside.
fn is_component(name: &str) -> bool {
    (1..=255).contains(&name.len()) && !matches!(name, "." | "..") && !name.contains(['/', '\0'])
}
