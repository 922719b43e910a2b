//! The guest's Debian: this machine's release, with systemd and the programs that tests call.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::disk::{self, Name};
use super::guest;
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
    "procps",
    "python3",
    "strace",
    "sudo",
    "systemd-sysv",
    "uidmap",
];

/// Raise it when this file makes something else of the same packages.
const RECIPE: u32 = 2;

/// By which the kernel knows the disk.
const SIGNATURE: u32 = 0x6275_6c6b;

/// Nothing in a guest reads these.
const UNUSED: &[&str] =
    &["usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists"];

/// What tests may write below `/`.
const FREE: u64 = 2 << 30;

/// The image; made when it is missing or was made otherwise, which takes some minutes and needs root.
pub(super) fn ensure() -> Result<PathBuf> {
    let _lock = cache::lock("vm")?;
    let recipe = format!("{RECIPE} {PACKAGES:?} {UNUSED:?}\n{}", guest::STUB);
    let directory = cache::made_by("vm/image", &recipe, make).context("get the guest's Debian")?;
    Ok(directory.join("root.img"))
}

/// How the kernel is told where its root is.
pub(super) fn root() -> String {
    format!("PARTUUID={SIGNATURE:08x}-01")
}

fn make(directory: &Path) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "debootstrap needs root");
    let archive = Archive::of_this_machine()?;
    println!("making a {} for guests, which takes some minutes", archive.release);
    let root = directory.join("root");
    bootstrap(&archive, &root)?;
    settle(&root)?;
    disk::from_directory(&root, &directory.join("root.img"), FREE, Name::Signature(SIGNATURE))?;
    cache::remove(&root)
}

/// Its processes and mounts end with it.
fn bootstrap(archive: &Archive, root: &Path) -> Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--"]);
    command.args(["debootstrap", "--variant=minbase"]);
    command.arg(format!("--components={}", archive.components.join(",")));
    command.arg(format!("--include={}", PACKAGES.join(",")));
    command.arg(&archive.release).arg(root).arg(&archive.address);
    invoke::quietly(&mut command)
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
