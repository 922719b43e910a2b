//! The validation programs of runtime-tools, by the authors of the specification.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::suite::{self, Excuse, Prepared, Suite};
use crate::apt::{self, Archive};
use crate::{cache, invoke};

mod run;

pub(super) const SUITE: Suite = Suite {
    name: "runtime-tools",
    title: "runtime-tools validation",
    prepare,
    run: run::run,
    tools: suite::no_tools,
    excuses: EXCUSES,
};

const EXCUSES: &[Excuse] = &[
    Excuse::anywhere(
        "linux_mount_label",
        "the machine's kernel runs without SELinux; ours refuses the label, as the specification wants of what is not \
                 supported, and like runc. crun ignores it.",
    ),
    Excuse::here(
        "linux_process_apparmor_profile",
        "the kernel has no AppArmor; ours refuses the profile, as the specification wants of what is not \
                 supported, and like runc. crun ignores it.",
    ),
    Excuse::in_guests(
        "linux_process_apparmor_profile",
        "the profile that it names is nowhere, also where AppArmor runs.",
    ),
    Excuse::at_times(
        "poststart",
        "it wants the hook to write after the process, which nothing keeps back until that has run for a while: it passes \
                 where the process is the faster.",
    ),
    Excuse::anywhere(
        "start",
        "it wants `start` to succeed for a container without a process, which the specification forbids.",
    ),
    Excuse::anywhere(
        "delete",
        "it wants `delete` to refuse a created container, which engines remove so; ours does as runc does.",
    ),
    Excuse::anywhere(
        "hooks",
        "it cannot pass: where nothing is wrong it uses an error that is not there, and ends by that.",
    ),
    Excuse::here("linux_cgroups_blkio", LEAF),
    Excuse::here("linux_cgroups_relative_blkio", LEAF),
    Excuse::here("linux_cgroups_hugetlb", PAGES),
    Excuse::here("linux_cgroups_relative_hugetlb", PAGES),
    Excuse::here("linux_cgroups_memory", KERNEL_MEMORY),
    Excuse::here("linux_cgroups_relative_memory", KERNEL_MEMORY),
    Excuse::here("linux_cgroups_network", "the kernel has no controllers net_cls and net_prio."),
    Excuse::here("linux_cgroups_relative_network", "the kernel has no controllers net_cls and net_prio."),
    Excuse::in_guests("delete_only_create_resources", V1),
    Excuse::in_guests("delete_resources", V1),
    Excuse::in_guests("linux_cgroups_blkio", V1),
    Excuse::in_guests("linux_cgroups_cpus", V1),
    Excuse::in_guests("linux_cgroups_devices", V1),
    Excuse::in_guests("linux_cgroups_hugetlb", V1),
    Excuse::in_guests("linux_cgroups_memory", V1),
    Excuse::in_guests("linux_cgroups_network", V1),
    Excuse::in_guests("linux_cgroups_pids", V1),
    Excuse::in_guests("linux_cgroups_relative_blkio", V1),
    Excuse::in_guests("linux_cgroups_relative_cpus", V1),
    Excuse::in_guests("linux_cgroups_relative_devices", V1),
    Excuse::in_guests("linux_cgroups_relative_hugetlb", V1),
    Excuse::in_guests("linux_cgroups_relative_memory", V1),
    Excuse::in_guests("linux_cgroups_relative_network", V1),
    Excuse::in_guests("linux_cgroups_relative_pids", V1),
    Excuse::anywhere("misc_props", "it starts /runtimetest in a bundle into which it has not put that."),
    Excuse::at_times(
        "pidfile",
        "it kills a process that ends by itself, and passes only where it is faster than that.",
    ),
    Excuse::anywhere(
        "poststart_fail",
        "it wants a failed poststart hook to be a warning; in newer versions of the specification it stops the container.",
    ),
    Excuse::anywhere(
        "prestart",
        "it wants prestart hooks to run after `start` is called; the specification and engines have them at `create`.",
    ),
    Excuse::here(
        "process_capabilities",
        "it asks for all capabilities, and the machine's root has no CAP_SYS_RESOURCE.",
    ),
    Excuse::anywhere(
        "process_capabilities_fail",
        "it wants an error for an unknown capability, and the specification a warning.",
    ),
    Excuse::anywhere(
        "process_rlimits",
        "it looks from inside by a program in Go, which raises its own soft limit of open files before.",
    ),
];

const V1: &str = "the suite knows cgroup v1 only, and says so.";

const LEAF: &str = "it sets weights of leaves, which went from Linux with the CFQ scheduler in version 5.0.";

const PAGES: &str =
    "it limits pages of 1 GB on cgroup v1; hugetlb is on v2 here, and nobody has handed it down.";

const KERNEL_MEMORY: &str =
    "it limits memory of the kernel and of TCP, which Linux does not let cgroup v1 do any more.";

/// The libraries that the programs import. Debian's Go libraries are sources.
const LIBRARIES: &[&str] = &[
    "golang-github-blang-semver-dev",
    "golang-github-google-uuid-dev",
    "golang-github-hashicorp-go-multierror-dev",
    "golang-github-mrunalp-fileutils-dev",
    "golang-github-opencontainers-selinux-dev",
    "golang-github-opencontainers-specs-dev",
    "golang-github-sirupsen-logrus-dev",
    "golang-github-urfave-cli-dev",
    "golang-github-xeipuuv-gojsonschema-dev",
    "golang-go",
    "golang-gocapability-dev",
    "golang-golang-x-sys-dev",
];

/// The one library that Debian does not have.
const TAP: &str = include_str!("runtime_tools/tap.go");

/// Where Go looks for the source and for that library.
const IMPORT_PATH: &str = "src/github.com/opencontainers/runtime-tools";
const TAP_PATH: &str = "src/github.com/mndrix/tap-go";

/// Raise it when this file makes something else of the same packages.
const RECIPE: u32 = 1;

/// Where the programs must be started: they look for an image and a program beside them.
fn home(directory: &Path) -> PathBuf {
    directory.join(IMPORT_PATH)
}

/// Where the programs are.
fn programs(directory: &Path) -> PathBuf {
    directory.join("bin")
}

fn prepare() -> Result<Prepared> {
    ensure!(cfg!(target_arch = "x86_64"), "runtime-tools has an image for x86-64 only");
    let recipe = format!("{RECIPE} {LIBRARIES:?} {TAP}");
    let directory = cache::made_by(&SUITE.place().display().to_string(), &recipe, |directory| {
        println!("fetching and building {}", SUITE.title);
        let archive = Archive::of_this_machine()?;
        let package = "golang-github-opencontainers-runtime-tools";
        let version = archive.upstream(package, &home(directory))?;
        fs::write(directory.join("version"), version).context("write the suite's version")?;
        // Newer libraries than those of its time have other types.
        let go = directory.join("go");
        apt::unpack(&archive.stable().download(LIBRARIES)?, &go)?;
        let tap = directory.join(TAP_PATH);
        fs::create_dir_all(&tap).context("make a directory for a library")?;
        fs::write(tap.join("tap.go"), TAP).context("write a library")?;
        build(&go, directory)?;
        cache::remove(&go)
    })?;
    let version = fs::read_to_string(directory.join("version")).context("read the suite's version")?;
    Ok(Prepared { directory, version })
}

fn build(go: &Path, directory: &Path) -> Result<()> {
    fs::create_dir(programs(directory)).context("make a directory for the programs")?;
    let everywhere = programs(directory).join("");
    let inside = home(directory).join("runtimetest");
    // Static: one of them runs in containers.
    for (output, packages) in [(everywhere, "./validation/..."), (inside, "./cmd/runtimetest")] {
        let mut build = Command::new(go.join("usr/lib/go/bin/go"));
        build.current_dir(home(directory)).args([
            "build",
            "-buildvcs=false",
            "-tags",
            "netgo osusergo",
            "-o",
        ]);
        build.arg(output).arg(packages).env("CGO_ENABLED", "0").env("GO111MODULE", "off");
        build.env("GOTOOLCHAIN", "local").env("GOROOT", go.join("usr/lib/go"));
        build.env("GOCACHE", go.join("cache"));
        build.env("GOPATH", format!("{}:{}", directory.display(), go.join("usr/share/gocode").display()));
        invoke::quietly(&mut build)?;
    }
    Ok(())
}
