//! The kernels of the guests: Debian's for clouds, which have disks and ext4 built in and need no initrd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::disk::{self, Name};
use super::guest;
use crate::apt::{self, Archive};
use crate::{cache, invoke};

const PACKAGE: &str = "linux-image-cloud-amd64";

/// Of all that the package depends on, what holds a kernel and its modules; later releases split it.
const PARTS: &[&str] = &["linux-image-", "linux-binary-", "linux-modules-"];

/// Raise it when this file makes something else of the same packages.
const RECIPE: u32 = 2;

/// Modules of devices that a guest does not have.
const UNUSED: &[&str] = &[
    "drivers/gpu",
    "drivers/infiniband",
    "drivers/media",
    "drivers/net/ethernet",
    "drivers/net/wireless",
    "sound",
];

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// That of this machine's release: 6.1 in Debian 12.
    Release,
    /// The newest that the archive has.
    Newest,
    /// The oldest that the runtime is made for: 5.10, of Debian 11.
    Oldest,
}

/// A kernel in the cache.
#[derive(Debug)]
pub(super) struct Files {
    /// As `uname -r` prints it.
    pub(super) version: String,
    /// What a boot loader loads.
    pub(super) program: PathBuf,
    /// A file system for `/lib/modules`.
    pub(super) modules: PathBuf,
}

impl Kernel {
    pub(super) const ALL: [Self; 3] = [Self::Release, Self::Newest, Self::Oldest];

    /// Those that tests run under unless one is named. Archives drop old releases, so the oldest may be out of reach.
    pub(super) const USUAL: [Self; 2] = [Self::Release, Self::Newest];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Newest => "newest",
            Self::Oldest => "oldest",
        }
    }

    pub(super) fn named(name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|kernel| kernel.name() == name);
        known.with_context(|| format!("{name} is neither release, newest nor oldest"))
    }

    /// Fetches it when it is missing. Needs no root.
    pub(super) fn ensure(self) -> Result<Files> {
        let _lock = cache::lock("vm")?;
        let name = format!("vm/kernel-{}", self.name());
        let recipe = format!("{RECIPE} {PACKAGE} {UNUSED:?}\n");
        let directory = cache::made_by(&name, &recipe, |directory| self.make(directory))
            .with_context(|| format!("get the {} kernel", self.name()))?;
        Ok(Files {
            version: fs::read_to_string(directory.join("version")).context("read a kernel's version")?,
            program: directory.join("vmlinuz"),
            modules: directory.join("modules.img"),
        })
    }

    fn make(self, directory: &Path) -> Result<()> {
        let own = Archive::of_this_machine()?;
        ensure!(own.is_debian(), "only Debian's kernels are known to boot without an initrd");
        let archive = match self {
            Self::Release => own,
            Self::Newest => own.newest(),
            Self::Oldest => own.debian_11(),
        };
        println!("fetching the kernel of {}", archive.release);
        let root = directory.join("root");
        let _peers = cache::lock("peers")?; // They are downloaded to the same place.
        let packages = archive.download(&[PACKAGE])?;
        apt::unpack(&Vec::from_iter(packages.into_iter().filter(|file| is_part(file))), &root)?;

        let modules = ["lib/modules", "usr/lib/modules"].map(|place| root.join(place));
        let modules = modules.iter().find(|place| place.exists()).context("find the kernel's modules")?;
        let version = only_entry(modules)?;
        for place in UNUSED {
            cache::remove(&modules.join(&version).join("kernel").join(place))?;
        }
        let program = [root.join(format!("boot/vmlinuz-{version}")), modules.join(&version).join("vmlinuz")];
        let program = program.iter().find(|file| file.exists()).context("find the kernel itself")?;
        fs::copy(program, directory.join("vmlinuz")).context("copy the kernel")?;

        // depmod looks below lib only.
        if !root.join("lib").exists() {
            std::os::unix::fs::symlink("usr/lib", root.join("lib")).context("link lib")?;
        }
        let depmod = if invoke::in_path("depmod") { "depmod" } else { "/sbin/depmod" };
        invoke::quietly(Command::new(depmod).arg("-b").arg(&root).arg(&version))?;
        disk::from_directory(modules, &directory.join("modules.img"), 0, Name::Label(guest::MODULES_LABEL))?;
        fs::write(directory.join("version"), version).context("write the kernel's version")?;
        cache::remove(&root)
    }
}

fn is_part(package: &Path) -> bool {
    let name = package.file_name().unwrap_or_default().to_string_lossy();
    PARTS.iter().any(|part| name.starts_with(part))
}

fn only_entry(directory: &Path) -> Result<String> {
    let names = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let names = names.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    ensure!(names.len() == 1, "{} holds {} kernels instead of one", directory.display(), names.len());
    Ok(names[0].to_string_lossy().into_owned())
}
