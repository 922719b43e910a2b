//! A whole Debian (or Ubuntu) for tests that run real programs in a container.
//!
//! It lies at `debian` in the cache. It has apt, sudo, Python and Redis, and in `/root/packages` a package that is
//! not installed. Tests use it read-only, as the lower layer of an overlay.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::apt::Archive;
use crate::{cache, invoke};

/// Besides what every Debian has.
const PACKAGES: &[&str] = &["procps", "python3-minimal", "redis-server", "sudo"];

/// Small, without a daemon, and in every release.
const TO_INSTALL: &str = "hello";

/// The directory, made when missing, which takes a minute or two and needs root.
pub(crate) fn ensure() -> Result<PathBuf> {
    let _lock = cache::lock("debian")?;
    cache::made("debian", |directory| {
        ensure!(rustix::process::geteuid().is_root(), "debootstrap needs root");
        let archive = Archive::of_this_machine()?;
        println!("making a {} for tests, which takes a minute or two", archive.release);
        invoke::quietly(&mut bootstrap(&archive, directory))?;
        copy_package(&archive, directory)
    })
}

/// Nothing in there is started: debootstrap puts a stand-in before whatever would start a daemon.
fn bootstrap(archive: &Archive, directory: &Path) -> Command {
    let mut command = Command::new("debootstrap");
    command.arg("--variant=minbase").arg(format!("--components={}", archive.components.join(",")));
    command.arg(format!("--include={}", PACKAGES.join(",")));
    command.arg(&archive.release).arg(directory).arg(&archive.address);
    command
}

fn copy_package(archive: &Archive, directory: &Path) -> Result<()> {
    let place = directory.join("root/packages");
    fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let files = archive.download(&[TO_INSTALL])?;
    let named =
        |file: &&PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TO_INSTALL));
    let package =
        files.iter().find(named).with_context(|| format!("find {TO_INSTALL} among the downloads"))?;
    let to = place.join(format!("{TO_INSTALL}.deb"));
    fs::copy(package, &to).with_context(|| format!("copy to {}", to.display())).map(|_| ())
}
