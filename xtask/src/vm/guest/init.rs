//! Process 1: prepares a machine, then becomes systemd or takes its place.

use std::ffi::CStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, mount, mount_bind_recursive, mount_move};
use rustix::process::{WaitOptions, wait};

use super::port::Reporter;
use super::{FILES, PAYLOAD, PROGRAM, in_payload};
use crate::vm::job::{Init, Job, Word};

const UNITS: &str = "/run/systemd/system";
const GENERATORS: &str = "/lib/systemd/system-generators";

const TARGET: &str = "\
[Unit]
Description=a test guest
Requires=basic.target bulkhead.service
After=basic.target
";

/// Delegation makes systemd enable every controller for the cgroups beside the service's, too, and keep them.
const SERVICE: &str = "\
[Unit]
Description=the job of a test guest
DefaultDependencies=no
Wants=dbus.service systemd-logind.service
After=basic.target dbus.service systemd-logind.service
[Service]
Type=oneshot
ExecStart=/payload/guest vm guest work
StandardOutput=tty
StandardError=tty
TTYPath=/dev/console
Delegate=yes
TasksMax=infinity
OOMPolicy=continue
";

/// Units that take seconds under emulation and do nothing that a test wants.
const MASKED: &[&str] = &[
    "apparmor.service",
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@.service",
    "kmod-static-nodes.service",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-journal-flush.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-rfkill.service",
    "systemd-sysusers.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-udev-settle.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
    "systemd-update-utmp.service",
    "tmp.mount",
];

/// Returns only what the host has to be told of a failure.
pub(super) fn run(job: &Job, _reporter: &Reporter) -> Result<Word> {
    mount_on("/run", c"tmpfs", c"mode=755")?;
    move_modules().context("move the kernel's modules")?;
    let files = Path::new(PAYLOAD).join(FILES);
    job.places.iter().try_for_each(|place| show(&files, place))?;
    // An installer writes it, debootstrap does not. Engines copy it into their containers.
    fs::write("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 guest\n").context("write /etc/hosts")?;
    match job.init {
        Init::Systemd => become_systemd(),
        Init::Bare => stay(),
    }
}

/// Has the kernel's modules be elsewhere than below `/usr`: over a directory with mounts in it nobody can lay an overlay in a user
/// namespace, as tests do with trees of packages.
fn move_modules() -> std::io::Result<()> {
    const USUAL: &str = "/usr/lib/modules";
    const ELSEWHERE: &str = "/modules";
    fs::create_dir(ELSEWHERE)?;
    mount_move(USUAL, ELSEWHERE)?;
    fs::remove_dir(USUAL)?;
    symlink(ELSEWHERE, USUAL)
}

/// Mounts a file system of the kernel's on a directory, made when missing.
fn mount_on(point: &str, kind: &CStr, options: &CStr) -> Result<()> {
    fs::create_dir_all(point).with_context(|| format!("make {point}"))?;
    mount(kind, point, kind, MountFlags::NOSUID, options).with_context(|| format!("mount {point}"))
}

/// Lets a file or directory of the payload appear where the host has it.
fn show(files: &Path, place: &Path) -> Result<()> {
    let source = in_payload(files, place);
    if source.is_dir() {
        fs::create_dir_all(place).with_context(|| format!("make {}", place.display()))?;
    } else if !place.exists() {
        let parent = place.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        fs::write(place, "").with_context(|| format!("make {}", place.display()))?;
    }
    mount_bind_recursive(&source, place).with_context(|| format!("show {}", place.display()))
}

fn become_systemd() -> Result<Word> {
    fs::create_dir_all(UNITS).context("make the directory for units")?;
    for (name, text) in [("bulkhead.target", TARGET), ("bulkhead.service", SERVICE)] {
        fs::write(Path::new(UNITS).join(name), text).with_context(|| format!("write {name}"))?;
    }
    for unit in MASKED {
        mask(&Path::new(UNITS).join(unit))?;
    }
    let hidden = Path::new("/run/systemd/system-generators");
    fs::create_dir_all(hidden).context("make the directory for generators")?;
    for entry in fs::read_dir(GENERATORS).context("list systemd's generators")? {
        mask(&hidden.join(entry?.file_name()))?;
    }
    let error = Command::new("/lib/systemd/systemd").arg("--unit=bulkhead.target").env_clear().exec();
    Err(error).context("execute systemd")
}

fn mask(place: &Path) -> Result<()> {
    symlink("/dev/null", place).with_context(|| format!("mask {}", place.display()))
}

/// Does for one job what an init does, then switches the machine off.
fn stay() -> Result<Word> {
    mount_on("/dev/pts", c"devpts", c"mode=620,gid=5,ptmxmode=666")?;
    mount_on("/dev/shm", c"tmpfs", c"mode=1777")?;
    mount_on("/dev/mqueue", c"mqueue", c"")?;
    mount_on("/sys/fs/cgroup", c"cgroup2", c"nsdelegate")?;
    mount_on("/sys/fs/bpf", c"bpf", c"")?;
    mount_on("/sys/kernel/security", c"securityfs", c"")?;
    delegate(Path::new("/sys/fs/cgroup"))?;
    rustix::system::sethostname(b"guest").context("set the host's name")?;
    Command::new("/sbin/ip").args(["link", "set", "lo", "up"]).status().context("start ip")?;
    let program = Path::new(PAYLOAD).join(PROGRAM);
    let worker = Command::new(program).args(["vm", super::WORD, "work"]).spawn().context("start the job")?;
    let worker = i32::try_from(worker.id()).context("read a pid")?;
    while let Some((pid, _)) = wait(WaitOptions::empty()).context("wait for any process")? {
        if pid.as_raw_nonzero().get() == worker {
            break;
        }
    }
    Ok(Word::Failed("the job ended without a word".into()))
}

/// Gives all controllers to the root's children, and makes one for ourselves.
fn delegate(root: &Path) -> Result<()> {
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).context("list the controllers")?;
    for controller in controllers.split_whitespace() {
        fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"))
            .with_context(|| format!("give away {controller}"))?;
    }
    let own = root.join("init");
    fs::create_dir(&own).context("make a cgroup for process 1")?;
    fs::write(own.join("cgroup.procs"), "0").context("move to a cgroup")
}
