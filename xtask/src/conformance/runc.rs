//! runc's own integration tests, written for bats.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::suite::{Excuse, Prepared, Suite};
use crate::apt::Archive;
use crate::{cache, debian, invoke, peers};

mod run;

pub(super) const SUITE: Suite = Suite {
    name: "runc",
    title: "runc's bats suite",
    prepare,
    run: run::run,
    tools: needed,
    excuses: EXCUSES,
};

/// What asks for runc itself.
const EXCUSES: &[Excuse] = &[
    Excuse::anywhere(
        "cpu_affinity: runc exec [CPU affinity, initial and final set from config.json]",
        BOOTSTRAP,
    ),
    Excuse::anywhere(
        "cpu_affinity: runc exec [CPU affinity, initial and final set from process.json]",
        BOOTSTRAP,
    ),
    Excuse::anywhere("cpu_affinity: runc exec [CPU affinity, only initial set from process.json]", BOOTSTRAP),
    Excuse::anywhere("debug: global --debug", BOOTSTRAP),
    Excuse::anywhere("debug: global --debug to --log", BOOTSTRAP),
    Excuse::anywhere("debug: global --debug to --log --log-format 'json'", BOOTSTRAP),
    Excuse::anywhere("debug: global --debug to --log --log-format 'text'", BOOTSTRAP),
    Excuse::anywhere("exec: runc --debug --log exec", BOOTSTRAP),
    Excuse::anywhere("exec: runc --debug exec", BOOTSTRAP),
    Excuse::anywhere(
        "run: runc run [/proc/self/exe clone]",
        "it looks in the debug log for the way in which runc protects its file; ours is another and has tests of \
                 its own.",
    ),
    Excuse::anywhere(
        "seccomp: runc run [seccomp] (SECCOMP_FILTER_FLAG_*)",
        "its own table lacks SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, which `features` lists because bulkrun takes it; \
                 it would set that flag for a filter that notifies nobody, which bulkrun refuses; and it looks in the \
                 debug log for the number of the flags.",
    ),
    Excuse::anywhere("version: runc version", "it asks for runc's name and commit."),
    Excuse::here(
        "cgroups: runc run (hugetlb limits)",
        "of the controllers only hugetlb is on cgroup v2 here, and nobody has handed it down to the cgroup that the test \
         names.",
    ),
    Excuse::in_guests(
        "cgroups: runc run (per-device multiple iops via unified)",
        "it wants loop devices, of which the guest has none.",
    ),
    Excuse::here(
        "mounts_recursive: runc run [ check rbind,r*atime mounts]",
        "it wants a comma after `rw,relatime`, and a tmpfs shows no more options here.",
    ),
    Excuse::here("rlimits: runc exec with RLIMIT_NOFILE(Bigger than system's hard value)", RAISING),
    Excuse::here("rlimits: runc exec with RLIMIT_NOFILE(Smaller than system's hard value)", RAISING),
    Excuse::here("rlimits: runc exec with RLIMIT_NOFILE(The same as system's hard value)", RAISING),
    Excuse::here("rlimits: runc run with RLIMIT_NOFILE(Bigger than system's hard value)", RAISING),
    Excuse::here("rlimits: runc run with RLIMIT_NOFILE(Smaller than system's hard value)", RAISING),
    Excuse::here("rlimits: runc run with RLIMIT_NOFILE(The same as system's hard value)", RAISING),
    Excuse::anywhere(
        "spec: spec validator",
        "it downloads the specification, and the machine has no way there.",
    ),
];

const RAISING: &str =
    "it raises a hard limit before it starts the runtime, and the machine's root has no CAP_SYS_RESOURCE.";

const BOOTSTRAP: &str =
    "it looks in the debug log for steps of runc's bootstrap, which bulkrun does not have.";

/// The compiler, and what the suite's small programs are made of. Debian's Go libraries are sources.
const GO: &[&str] = &[
    "golang-go",
    "golang-dbus-dev",
    "golang-github-checkpoint-restore-go-criu-dev",
    "golang-github-cilium-ebpf-dev",
    "golang-github-containerd-console-dev",
    "golang-github-coreos-go-systemd-dev",
    "golang-github-cyphar-filepath-securejoin-dev",
    "golang-github-docker-go-units-dev",
    "golang-github-moby-sys-dev",
    "golang-github-mrunalp-fileutils-dev",
    "golang-github-opencontainers-cgroups-dev",
    "golang-github-opencontainers-selinux-dev",
    "golang-github-opencontainers-specs-dev",
    "golang-github-seccomp-libseccomp-golang-dev",
    "golang-github-sirupsen-logrus-dev",
    "golang-github-urfave-cli-dev",
    "golang-github-vishvananda-netlink-dev",
    "golang-gocapability-dev",
    "golang-golang-x-net-dev",
    "golang-google-protobuf-dev",
];

/// What tests call. They want gawk where another awk may be the machine's.
const TOOLS: &[&str] = &["bats", "gawk"];

/// The suite's small programs.
const PROGRAMS: &[&str] = &["fs-idmap", "pidfd-kill", "recvtty", "remap-rootfs", "sd-helper", "seccompagent"];

/// Where Go looks for the source.
const IMPORT_PATH: &str = "src/github.com/opencontainers/runc";

/// Directories of the busybox image. Tests mount /proc and /sys where an image without them has nothing.
const DIRECTORIES: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "home",
    "lib",
    "root",
    "sbin",
    "tmp",
    "usr/bin",
    "usr/sbin",
    "var/spool",
    "var/www",
];

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
";

const GROUP: &str = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nnogroup:x:65534:\n";

/// Of a Debian what no test looks at.
const LEFT_OUT: &[&str] = &[
    "srv",
    "usr/bin/perl*",
    "usr/bin/python*",
    "usr/lib/*/gconv",
    "usr/lib/*/libLLVM*",
    "usr/lib/*/libicu*",
    "usr/lib/*/libperl*",
    "usr/lib/*/libz3*",
    "usr/lib/*/perl*",
    "usr/lib/postgresql",
    "usr/lib/python*",
    "usr/share/doc",
    "usr/share/i18n",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl",
    "usr/share/postgresql",
    "usr/share/zoneinfo",
    "var/cache",
    "var/lib/apt",
    "var/lib/postgresql",
];

/// Instead of the suite's script, which downloads them.
const IMAGES: &str = "\
#!/bin/sh
here=$(dirname \"$(readlink -f \"$0\")\")
echo \"BUSYBOX_IMAGE=$here/testdata/busybox.tar\"
echo \"DEBIAN_IMAGE=$here/testdata/debian.tar\"
";

/// Raise it when this file makes something else of the same packages.
const RECIPE: u32 = 1;

/// Where bats finds its tests, below the suite's directory.
fn tests(directory: &Path) -> PathBuf {
    directory.join(IMPORT_PATH).join("tests/integration")
}

/// Where programs are that tests call.
fn tools() -> Result<PathBuf> {
    Ok(cache::directory()?.join("conformance/tools"))
}

fn needed() -> Result<Vec<PathBuf>> {
    Ok(vec![tools()?])
}

fn prepare() -> Result<Prepared> {
    let archive = Archive::of_this_machine()?;
    let newest = archive.newest();
    let tools = cache::made_by("conformance/tools", &format!("{TOOLS:?}"), |directory| {
        println!("fetching {}", TOOLS.join(" and "));
        crate::apt::unpack(&newest.download(TOOLS)?, directory)
    })?;
    peers::settle(&tools, &tools.join("usr/bin/gawk"))?;
    let go = cache::made_by("conformance/go", &format!("{GO:?}"), |directory| {
        println!("fetching Go and its libraries");
        crate::apt::unpack(&newest.download(GO)?, directory)
    })?;
    let recipe = format!("{RECIPE} {PROGRAMS:?} {DIRECTORIES:?} {PASSWD} {GROUP} {LEFT_OUT:?} {IMAGES}");
    let directory = cache::made_by(&SUITE.place().display().to_string(), &recipe, |directory| {
        println!("fetching and building {}", SUITE.title);
        let version = archive.source("runc", &directory.join(IMPORT_PATH))?;
        fs::write(directory.join("version"), version).context("write the suite's version")?;
        build(&go, directory)?;
        let data = tests(directory).join("testdata");
        busybox_image(&directory.join("busybox"), &data.join("busybox.tar"))?;
        debian_image(&data.join("debian.tar"))?;
        script(&tests(directory).join("get-images.sh"), IMAGES)
    })?;
    let version = fs::read_to_string(directory.join("version")).context("read the suite's version")?;
    Ok(Prepared { directory, version })
}

fn build(go: &Path, directory: &Path) -> Result<()> {
    let source = directory.join(IMPORT_PATH);
    let programs = source.join("tests/cmd/_bin");
    fs::create_dir_all(&programs).context("make a directory for the suite's programs")?;
    for program in PROGRAMS {
        let mut build = Command::new(go.join("usr/lib/go/bin/go"));
        build.current_dir(&source).args(["build", "-tags", "seccomp", "-buildvcs=false", "-o"]);
        build.arg(&programs).arg(format!("./tests/cmd/{program}"));
        build.env("GO111MODULE", "off").env("GOTOOLCHAIN", "local").env("GOROOT", go.join("usr/lib/go"));
        build.env("GOCACHE", directory.join("go-cache"));
        build.env("GOPATH", format!("{}:{}", directory.display(), go.join("usr/share/gocode").display()));
        invoke::quietly(&mut build)?;
    }
    cache::remove(&directory.join("go-cache"))
}

/// A static busybox under all its names.
fn busybox_image(root: &Path, image: &Path) -> Result<()> {
    for place in DIRECTORIES {
        fs::create_dir_all(root.join(place)).with_context(|| format!("make {place} of the image"))?;
    }
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    let busybox = places.into_iter().find(|place| place.exists());
    let busybox = busybox.context("busybox is missing: apt-get install busybox-static")?;
    fs::copy(busybox, root.join("bin/busybox")).context("copy busybox")?;
    for name in invoke::text(Command::new(busybox).arg("--list"))?.lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name)).with_context(|| format!("link {name}"))?;
    }
    for (file, text) in [("etc/passwd", PASSWD), ("etc/group", GROUP)] {
        fs::write(root.join(file), text).with_context(|| format!("write {file} of the image"))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).context("open /tmp")?;
    archive(root, &[], image)
}

fn debian_image(image: &Path) -> Result<()> {
    archive(&debian::ensure()?, LEFT_OUT, image)
}

fn archive(root: &Path, left_out: &[&str], file: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(file).arg("--directory").arg(root);
    tar.args(left_out.iter().map(|place| format!("--exclude=./{place}")));
    invoke::quietly(tar.arg("."))
}

fn script(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).context("make a script a program")
}
