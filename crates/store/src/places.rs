//! Where everything lies. `docs/engine.md` draws the tree.

mod mountpoints;

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::Digest;
use crate::error::{Doing as _, Error, Result};

/// The two directories of one user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// What outlives a reboot.
    pub root: PathBuf,
    /// What does not.
    pub run: PathBuf,
}

/// The directory of what runtimes mount on.
const MOUNTPOINTS: &str = "mountpoints";

/// By this programs know that they are in a container, at its root: an empty file.
pub const MARKER: &str = mountpoints::MARKER;

impl Places {
    /// Finds the places of whoever calls: `BULKHEAD_ROOT` and `BULKHEAD_RUN`, else `/var/lib/bulkhead` and
    /// `/run/bulkhead` for root, else the XDG directories. Nothing is made.
    ///
    /// # Errors
    /// [`Error::Place`] for a variable that is no absolute path, or a user without a home.
    pub fn of_user() -> Result<Self> {
        Self::of(|name| std::env::var_os(name).map(PathBuf::from), rustix::process::geteuid().as_raw())
    }

    fn of(variable: impl Fn(&str) -> Option<PathBuf>, user: u32) -> Result<Self> {
        let set = |name: &str| match variable(name).filter(|path| !path.as_os_str().is_empty()) {
            Some(path) if path.is_absolute() => Ok(Some(path)),
            Some(path) => {
                Err(Error::Place { path, reason: format!("is what {name} says, and not absolute") })
            }
            None => Ok(None),
        };
        // The specification of the XDG directories has relative ones ignored.
        let xdg = |name: &str| variable(name).filter(|path| path.is_absolute());
        let root = match (set("BULKHEAD_ROOT")?, user) {
            (Some(root), _) => root,
            (None, 0) => PathBuf::from("/var/lib/bulkhead"),
            (None, _) => match (xdg("XDG_DATA_HOME"), xdg("HOME")) {
                (Some(data), _) => data.join("bulkhead"),
                (None, Some(home)) => home.join(".local/share/bulkhead"),
                (None, None) => {
                    let reason =
                        "has no absolute path in the environment: set HOME or BULKHEAD_ROOT".to_owned();
                    return Err(Error::Place { path: PathBuf::from("~"), reason });
                }
            },
        };
        let run = match (set("BULKHEAD_RUN")?, user) {
            (Some(run), _) => run,
            (None, 0) => PathBuf::from("/run/bulkhead"),
            (None, _) => match xdg("XDG_RUNTIME_DIR") {
                Some(directory) => directory.join("bulkhead"),
                // After `su` there is none: what everybody may write to is safe, since only a directory of the user's
                // own is taken, see `make`.
                None => PathBuf::from(format!("/tmp/bulkhead-run-{user}")),
            },
        };
        Ok(Self { root, run })
    }

    /// Makes the directories that are missing, each with mode 0700 from its first moment.
    ///
    /// # Errors
    /// As mkdir(2); [`Error::Place`] when `root` or `run` is somebody else's, or open to others.
    pub fn make(&self) -> Result<()> {
        for path in [&self.root, &self.run] {
            make_own(path)?;
        }
        for name in ["blobs", "blobs/sha256", "layers", "ingest", "containers", "volumes", "pods"] {
            make_within(&self.root.join(name))?;
        }
        for name in ["containers", "pods", "runtime"] {
            make_within(&self.run.join(name))?;
        }
        // On a full disk all else goes on without them.
        let _ = mountpoints::make(&self.root.join(MOUNTPOINTS));
        Ok(())
    }

    /// Returns the database's file.
    pub fn database(&self) -> PathBuf {
        self.root.join("bulkhead.db")
    }

    /// Returns the directory of all blobs.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// Returns a blob's file.
    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Returns the directory of all layers.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    /// Returns the directory of an unpacked layer.
    pub fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(format!("sha256-{}", diff_id.hex()))
    }

    /// Returns the directory of what runtimes mount on in every container, the lowest layer: so nobody makes that anew,
    /// and takes it away, for each container. Nothing where there was no room for it yet.
    pub fn mountpoints(&self) -> Option<PathBuf> {
        Some(self.root.join(MOUNTPOINTS)).filter(|at| mountpoints::are_there(at))
    }

    /// Returns the directory of what is half made.
    pub fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Returns the directory of a container that outlives a reboot.
    pub fn container(&self, id: &str) -> PathBuf {
        self.root.join("containers").join(id)
    }

    /// Returns the directory of a container that does not.
    pub fn container_run(&self, id: &str) -> PathBuf {
        self.run.join("containers").join(id)
    }

    /// Returns the directory of a pod that outlives a reboot.
    pub fn pod(&self, id: &str) -> PathBuf {
        self.root.join("pods").join(id)
    }

    /// Returns the directory of a pod that does not.
    pub fn pod_run(&self, id: &str) -> PathBuf {
        self.run.join("pods").join(id)
    }

    /// Returns the directory of what is known of networks until the next reboot. Who writes there makes it.
    pub fn networks_run(&self) -> PathBuf {
        self.run.join("networks")
    }

    /// Returns the directory of what plugins have made in networks from elsewhere. Who writes there makes it.
    pub fn attachments(&self) -> PathBuf {
        self.root.join("cni")
    }

    /// Returns the directory of a volume; what is mounted is `data` in it.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    /// Returns the `--root` of a runtime.
    pub fn runtime(&self, name: &str) -> PathBuf {
        self.run.join("runtime").join(name)
    }
}

/// Makes a directory that only its owner may enter, and those above it as mkdir(1) `-p` does.
fn make_own(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .doing(|| format!("make {}", parent.display()))?;
    }
    make_within(path)?;
    let metadata = fs::symlink_metadata(path).doing(|| format!("look at {}", path.display()))?;
    let fault = |reason: &str| Err(Error::Place { path: path.to_owned(), reason: reason.to_owned() });
    if metadata.is_symlink() {
        // Whoever may put a link there decides where the store is; below /tmp that is everybody.
        let parent = path.parent().unwrap_or(Path::new("/"));
        let parent = fs::metadata(parent).doing(|| format!("look at {}", parent.display()))?;
        if parent.mode() & 0o022 != 0 {
            return fault("is a link in a directory that others may write to");
        }
    }
    let metadata = fs::metadata(path).doing(|| format!("look at {}", path.display()))?;
    if !metadata.is_dir() {
        return fault("is not a directory");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return fault("belongs to another user");
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .doing(|| format!("close {} to other users", path.display()))?;
    }
    Ok(())
}

fn make_within(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.doing(|| format!("make {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)], user: u32) -> Result<Places> {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Places::of(find, user)
    }

    #[test]
    fn everybody_has_places() {
        let xdg = [("HOME", "/home/a"), ("XDG_DATA_HOME", "/data"), ("XDG_RUNTIME_DIR", "/run/user/7")];
        let own = [("BULKHEAD_ROOT", "/a"), ("BULKHEAD_RUN", "/b"), ("HOME", "/home/a")];
        for (variables, user, root, run) in [
            (&xdg[..], 0, "/var/lib/bulkhead", "/run/bulkhead"),
            (&xdg, 7, "/data/bulkhead", "/run/user/7/bulkhead"),
            (&xdg[..1], 7, "/home/a/.local/share/bulkhead", "/tmp/bulkhead-run-7"),
            (&own, 7, "/a", "/b"),
            (&own, 0, "/a", "/b"),
            (&[("BULKHEAD_ROOT", ""), ("BULKHEAD_RUN", "/b")], 0, "/var/lib/bulkhead", "/b"),
        ] {
            let expected = Places { root: root.into(), run: run.into() };
            assert_eq!(places(variables, user).unwrap(), expected, "for {variables:?} and user {user}");
        }
    }

    #[test]
    fn a_relative_place_and_a_user_without_a_home_are_refused() {
        let error = places(&[("BULKHEAD_ROOT", "here")], 0).unwrap_err();
        assert_eq!(error.to_string(), "here is what BULKHEAD_ROOT says, and not absolute");
        assert!(places(&[], 7).unwrap_err().to_string().contains("set HOME or BULKHEAD_ROOT"));
    }

    #[test]
    fn directories_are_closed_to_others_and_links_of_others_are_refused() {
        let scratch = bulkhead_testkit::Scratch::new();
        let made = Places { root: scratch.path().join("deep/root"), run: scratch.path().join("run") };
        made.make().unwrap();
        made.make().unwrap();
        for directory in [made.root.clone(), made.run.clone(), made.blobs(), made.layers(), made.ingest()] {
            let mode = fs::metadata(&directory).unwrap().mode() & 0o7777;
            assert_eq!(mode, 0o700, "the mode of {directory:?}");
        }
        fs::set_permissions(&made.root, fs::Permissions::from_mode(0o755)).unwrap();
        made.make().unwrap();
        assert_eq!(fs::metadata(&made.root).unwrap().mode() & 0o7777, 0o700, "an open root is closed");

        let open = scratch.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
        std::os::unix::fs::symlink(&made.root, open.join("root")).unwrap();
        let error = Places { root: open.join("root"), run: made.run }.make().unwrap_err();
        assert!(error.to_string().ends_with("is a link in a directory that others may write to"), "{error}");
    }
}
