//! The guest's Debian: this machine's release, with systemd and the programs that tests call; and a second one with what
//! belongs to security modules.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::disk::{self, Name};
use super::guest;
use super::job::SecurityModule;
use crate::apt::Archive;
use crate::{cache, invoke};

/// Besides what every Debian has.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "dbus",
    "dbus-user-session",
    "gcc",
    "iproute2",
    "jq",
    "kmod",
    "libc6-dev",
    "libpam-systemd",
    "libseccomp2",
    "nftables",
    "procps",
    "python3",
    "strace",
    "sudo",
    "systemd-sysv",
    "uidmap",
];

/// Besides these, for guests with a security module: AppArmor's parser, and a policy for SELinux.
const SECURITY_PACKAGES: &[&str] = &["apparmor", "selinux-policy-default"];

/// Raise it when this file makes something else of the same packages.
const RECIPE: u32 = 2;

/// SELinux is on from the beginning.
const SELINUX_CONFIG: &str = "SELINUX=enforcing\nSELINUXTYPE=default\n";

/// Lets nobody be denied anything but containers, whose domain Debian does not have.
const SELINUX_MODULE: &str = include_str!("selinux.cil");

/// Names every file's label, which mke2fs copies. Such a machine needs no SELinux itself.
const LABEL: &str = "\
semodule -n -s default -i /root/bulkhead.cil && rm /root/bulkhead.cil &&
setfiles -F /etc/selinux/default/contexts/files/file_contexts /";

/// By which the kernel knows the disk.
const SIGNATURE: u32 = 0x6275_6c6b;

/// Nothing in a guest reads these.
const UNUSED: &[&str] =
    &["usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists"];

/// What tests may write below `/`.
const FREE: u64 = 2 << 30;

/// The image for guests with this security module, or without a chosen one; made when it is missing or was made
/// otherwise, which takes some minutes and needs root.
pub(super) fn ensure(module: Option<SecurityModule>) -> Result<PathBuf> {
    let _lock = cache::lock("vm")?;
    let recipe = format!("{RECIPE} {PACKAGES:?} {UNUSED:?}\n{}", guest::STUB);
    let directory = match module {
        None => cache::made_by("vm/image", &recipe, |directory| make(directory, PACKAGES, &|_| Ok(()))),
        Some(_) => {
            let recipe = format!("{recipe}{SECURITY_PACKAGES:?} {SELINUX_CONFIG:?}\n{SELINUX_MODULE}{LABEL}");
            let packages = [PACKAGES, SECURITY_PACKAGES].concat();
            cache::made_by("vm/image-security", &recipe, |directory| make(directory, &packages, &label))
        }
    };
    Ok(directory.context("get the guest's Debian")?.join("root.img"))
}

/// How the kernel is told where its root is.
pub(super) fn root() -> String {
    format!("PARTUUID={SIGNATURE:08x}-01")
}

fn make(directory: &Path, packages: &[&str], finish: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "debootstrap needs root");
    let archive = Archive::of_this_machine()?;
    println!("making a {} for guests, which takes some minutes", archive.release);
    let root = directory.join("root");
    bootstrap(&archive, packages, &root)?;
    settle(&root)?;
    finish(&root)?;
    disk::from_directory(&root, &directory.join("root.img"), FREE, Name::Signature(SIGNATURE))?;
    cache::remove(&root)
}

/// Its processes and mounts end with it.
fn bootstrap(archive: &Archive, packages: &[&str], root: &Path) -> Result<()> {
    let mut command = alone();
    command.args(["debootstrap", "--variant=minbase"]);
    command.arg(format!("--components={}", archive.components.join(",")));
    command.arg(format!("--include={}", packages.join(",")));
    command.arg(&archive.release).arg(root).arg(&archive.address);
    invoke::quietly(&mut command)
}

/// A command that keeps its processes and mounts to itself.
fn alone() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--"]);
    command
}

/// Makes it a Debian for SELinux.
fn label(root: &Path) -> Result<()> {
    for (file, text) in [("etc/selinux/config", SELINUX_CONFIG), ("root/bulkhead.cil", SELINUX_MODULE)] {
        fs::write(root.join(file), text).with_context(|| format!("write {file}"))?;
    }
    let mut command = alone();
    command.args(["sh", "-c", "mount -t proc proc \"$1/proc\" && exec chroot \"$1\" sh -c \"$2\"", "sh"]);
    invoke::quietly(command.arg(root).arg(LABEL))
}

fn settle(root: &Path) -> Result<()> {
    for place in UNUSED {
        cache::remove(&root.join(place))?;
    }
    let stub = root.join(guest::STUB_PLACE.trim_start_matches('/'));
    for (file, text) in [
        (&stub, guest::STUB),
        (&root.join("etc/fstab"), ""),
        (&root.join("etc/hostname"), "guest\n"),
        // A first boot asks for one, and it would be another each time.
        (&root.join("etc/machine-id"), "0123456789abcdef0123456789abcdef\n"),
    ] {
        fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    }
    fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).context("make the stub a program")?;
    fs::create_dir(root.join("payload")).context("make the payload's mount point")
}
