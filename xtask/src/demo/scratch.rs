//! The throw-away layer: a directory in memory that holds all the container writes, its bundle and its state.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use bulkhead_measure::claim::{self, Claim};
use bulkhead_spec::Config;

use crate::{cache, invoke, tmpfs};

/// A directory that is on every Linux, in memory, and never part of the container's root: an overlay cannot have
/// its upper layer below its lower one.
const PLACE: &str = "/dev/shm";

/// Begins every container's id and every directory of ours.
const PREFIX: &str = "bh-demo-";

/// Where the runtime keeps its state, in the directory.
const STATE: &str = "state";

/// How long removing a container may take; more means that it hangs.
const SECONDS: &str = "20";

/// The directory. [`Scratch::remove`] removes it and tells what went wrong; dropping it does what can be done.
pub(super) struct Scratch {
    runtime: PathBuf,
    claim: Claim,
}

impl Scratch {
    /// Makes it for containers of this runtime, after removing what demos left that were killed.
    pub(super) fn make(runtime: &Path) -> Result<Self> {
        Self::make_in(Path::new(PLACE), runtime)
    }

    fn make_in(place: &Path, runtime: &Path) -> Result<Self> {
        ensure!(tmpfs::is_at(place)?, "{} is no tmpfs", place.display());
        for abandoned in claim::abandoned(place, PREFIX)? {
            if let Err(error) = remove(runtime, &abandoned) {
                eprintln!("an earlier demo was killed, and what it left is not removed: {error:#}");
            }
        }
        let scratch = Self { runtime: runtime.to_owned(), claim: Claim::make(place, PREFIX)? };
        for (name, mode) in [("root", 0o755), ("upper", 0o755), ("work", 0o755), (STATE, 0o700)] {
            make_directory(&scratch.bundle().join(name), mode)?;
        }
        Ok(scratch)
    }

    /// The container's id, unique on this machine.
    pub(super) fn id(&self) -> &str {
        self.claim.name()
    }

    pub(super) fn bundle(&self) -> &Path {
        self.claim.path()
    }

    pub(super) fn root(&self) -> PathBuf {
        self.bundle().join("root")
    }

    /// Where the runtime keeps its state.
    pub(super) fn state(&self) -> PathBuf {
        self.bundle().join(STATE)
    }

    /// Makes the upper and the work directory of an overlay over `lower`. The root of an overlay shows mode and
    /// owner of its upper layer, so they are those of the lower one.
    pub(super) fn layer(&self, name: &str, lower: &Path) -> Result<(PathBuf, PathBuf)> {
        let upper = self.bundle().join("upper").join(name);
        let work = self.bundle().join("work").join(name);
        let mode =
            lower.metadata().with_context(|| format!("look at {}", lower.display()))?.permissions().mode();
        make_directory(&upper, mode & 0o7777)?;
        make_directory(&work, 0o700)?;
        Ok((upper, work))
    }

    pub(super) fn write_config(&self, config: &Config) -> Result<()> {
        let text = serde_json::to_string_pretty(config).context("write config.json")?;
        fs::write(self.bundle().join("config.json"), text).context("write config.json")
    }

    /// What the runtime did not clean up in its state directory.
    pub(super) fn state_files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect_files(&self.state(), &mut found);
        found
    }

    /// Removes the container, if it is there, with everything in it.
    pub(super) fn remove_container(&self) -> Result<()> {
        remove_container(&self.runtime, &self.claim)
    }

    pub(super) fn remove(self) -> Result<()> {
        remove_all(self.bundle())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.bundle().exists()
            && let Err(error) = remove(&self.runtime, &self.claim)
        {
            eprintln!("{error:#}");
        }
    }
}

fn remove(runtime: &Path, claim: &Claim) -> Result<()> {
    remove_container(runtime, claim)?;
    remove_all(claim.path())
}

fn remove_container(runtime: &Path, claim: &Claim) -> Result<()> {
    let mut delete = Command::new("timeout");
    delete.arg(SECONDS).arg(runtime).arg("--root").arg(claim.path().join(STATE));
    // Out of the terminal's reach: an impatient second Ctrl-C must not stop what the first one asked for.
    invoke::quietly(delete.args(["delete", "--force", claim.name()]).process_group(0))
}

/// Makes a directory with exactly this mode, whatever the umask is; one that is there stays.
fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let made =
        fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    made.with_context(|| format!("make {}", path.display()))
}

fn collect_files(directory: &Path, found: &mut Vec<String>) {
    for entry in directory.read_dir().into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_files(&path, found);
            // A directory that stays empty is left behind too, unless the runtime may keep it for others.
        } else {
            found.push(path.display().to_string());
        }
    }
}

/// Removes a tree in which an overlay left a directory that not even its owner may enter.
fn remove_all(directory: &Path) -> Result<()> {
    if directory.components().count() < 3 {
        bail!("refusing to remove {}", directory.display());
    }
    open_up(directory);
    cache::remove(directory)
}

fn open_up(directory: &Path) {
    // What cannot be opened up cannot be removed either, and removing reports it.
    drop(fs::set_permissions(directory, fs::Permissions::from_mode(0o700)));
    for entry in directory.read_dir().into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_removed_even_what_is_closed() {
        let scratch = Scratch::make(Path::new("true")).unwrap();
        let directory = scratch.bundle().to_owned();
        let (upper, work) = scratch.layer("tmp", Path::new("/tmp")).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&upper), mode(Path::new("/tmp")), "a layer is as open as what it covers");
        make_directory(&work.join("work"), 0).unwrap();
        fs::create_dir(upper.join("sub")).unwrap();
        assert_eq!(scratch.state_files(), [""; 0]);
        fs::write(scratch.state().join("left"), "").unwrap();
        assert_eq!(scratch.state_files().len(), 1);
        scratch.remove().unwrap();
        assert!(!directory.exists());
    }

    #[test]
    fn only_a_tmpfs_will_do() {
        assert!(Scratch::make_in(Path::new("/proc"), Path::new("true")).is_err());
    }
}
