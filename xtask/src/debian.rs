//! A whole Debian (or Ubuntu) in which tests run real programs: package manager, sudo, Python, databases.
//!
//! It lies at `debian/rootfs` in the cache and is never written: tests lay an overlay over it. Making it takes some
//! minutes and needs root. Daemons are installed in it but not started: its packages are told not to, and all of it
//! happens in a pid and a mount namespace that end with it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use lexopt::Parser;

use crate::apt::Archive;
use crate::{cache, invoke};

/// Besides what every Debian has.
const PROGRAMS: &[&str] = &["procps", "python3", "sudo"];

/// The services that tests run.
const DAEMONS: &[&str] = &["nginx", "postgresql", "redis-server"];

/// What tests install: small, with dependencies of its own and a script that runs when it is installed.
const TO_INSTALL: &[&str] = &["gawk"];

/// Where in the tree the directory of packages is that apt installs from.
const REPOSITORY: &str = "srv/packages";

/// The file that tells how a tree was made: one that was made otherwise is made again.
const RECIPE: &str = "recipe";

/// Tells the scripts of packages to start nothing.
const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// Prints where the tree is; `--refresh` begins anew.
pub(crate) fn run(mut parser: Parser) -> Result<ExitCode> {
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Long("refresh") => {
                let _lock = cache::lock("debian")?;
                cache::remove(&cache::directory()?.join("debian"))?;
            }
            other => return Err(other.unexpected()).context("usage: cargo xtask debian [--refresh]"),
        }
    }
    println!("{}", ensure()?.display());
    Ok(ExitCode::SUCCESS)
}

/// The tree's root directory; made when it is missing or was made otherwise.
pub(crate) fn ensure() -> Result<PathBuf> {
    let _lock = cache::lock("debian")?;
    let place = cache::directory()?.join("debian");
    let recipe = format!("{PROGRAMS:?} {DAEMONS:?} {TO_INSTALL:?}\n");
    if fs::read_to_string(place.join(RECIPE)).is_ok_and(|made| made == recipe) {
        return Ok(place.join("rootfs"));
    }
    ensure!(rustix::process::geteuid().is_root(), "debootstrap needs root");
    cache::remove(&place)?;
    let made = cache::made("debian", |directory| {
        make(&Archive::of_this_machine()?, &directory.join("rootfs"))?;
        fs::write(directory.join(RECIPE), &recipe).context("write how the tree was made")
    })?;
    Ok(made.join("rootfs"))
}

fn make(archive: &Archive, root: &Path) -> Result<()> {
    println!("making a {} that tests run in containers, which takes some minutes", archive.release);
    let components = format!("--components={}", archive.components.join(","));
    let include = format!("--include={}", PROGRAMS.join(","));
    let mut bootstrap = apart("debootstrap");
    bootstrap.args(["--variant=minbase", &components, &include, &archive.release]).arg(root);
    invoke::quietly(bootstrap.arg(&archive.address))?;

    let policy = root.join("usr/sbin/policy-rc.d");
    fs::write(&policy, POLICY).context("write policy-rc.d")?;
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o755)).context("make policy-rc.d a program")?;
    let source = format!("deb [trusted=yes] file:/{REPOSITORY} ./\n");
    fs::write(root.join("etc/apt/sources.list"), source).context("write sources.list")?;

    offer(archive, DAEMONS, root)?;
    let script = "mount -t proc proc \"$0/proc\"
        export DEBIAN_FRONTEND=noninteractive
        chroot \"$0\" apt-get update
        chroot \"$0\" apt-get install --yes --no-install-recommends \"$@\"";
    invoke::quietly(apart("sh").args(["-euc", script]).arg(root).args(DAEMONS))?;
    offer(archive, TO_INSTALL, root)
}

/// Fills the repository with packages and all they depend on, instead of what was there.
fn offer(archive: &Archive, packages: &[&str], root: &Path) -> Result<()> {
    let repository = root.join(REPOSITORY);
    cache::remove(&repository)?;
    fs::create_dir_all(&repository).with_context(|| format!("make {}", repository.display()))?;
    let mut index = String::new();
    for package in archive.download(packages)? {
        let name = package.file_name().context("a package without a name")?;
        fs::copy(&package, repository.join(name)).with_context(|| format!("copy {}", package.display()))?;
        let fields = invoke::text(Command::new("dpkg-deb").arg("--field").arg(&package))?;
        let sum = invoke::text(Command::new("sha256sum").arg(&package))?;
        let sum = sum.split_whitespace().next().unwrap_or_default();
        let size = fs::metadata(&package).with_context(|| format!("stat {}", package.display()))?.len();
        let name = name.display();
        writeln!(index, "{}\nFilename: ./{name}\nSize: {size}\nSHA256: {sum}\n", fields.trim_end())?;
    }
    fs::write(repository.join("Packages"), index).context("write the repository's index")
}

/// A command whose processes and mounts end with it.
fn apart(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--"])
        .arg(program);
    command
}
