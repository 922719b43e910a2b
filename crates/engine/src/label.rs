//! SELinux labels of what is bound into containers, where the host has it: `:z` and `:Z` of `--volume`, volumes, and the engine's files.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bulkhead_store::{Below, Image, walk};
use bulkhead_sys::path;
use rustix::fs::{FileType, OFlags, XattrFlags, fstat, getxattr, lgetxattr, lsetxattr, setxattr, stat};
use rustix::io::Errno;

use crate::configure::{Caller, FileLabels};
use crate::create::FILES;
use crate::engine::Engine;
use crate::error::{Doing, Error, Result};
use crate::known::Known;
use crate::remove::is_closed;
use crate::request::{Mount, MountKind, Network, Relabel};
use crate::start::SECRETS;
use crate::{host, users};

/// The attribute of a file that is its context.
const ATTRIBUTE: &str = "security.selinux";

/// Directories whose files are the host's own: with another label it could not go on. They are docker's; the homes of whoever
/// calls are, too. Links lead to what is meant, as where `/usr` has it all.
const OF_HOST: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/etc/passwd",
    "/etc/pki",
    "/etc/shadow",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/system",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/sbin",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/tmp",
];

impl Engine {
    /// Labels what is bound into a container: its own files and secrets, for it alone; volumes and the files by which it finds
    /// names with another's network, which all containers may use; and what was asked to be. Of its image it labels the layers: the
    /// kernel looks at these, and not at the overlay, where a program changes the protection of its own memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a directory of the host's own; as setxattr(2).
    pub(crate) fn label(&self, known: &Known, image: Option<&Image>, labels: &FileLabels) -> Result<()> {
        let Known { record, document, .. } = known;
        let places = self.places();
        let layers = image.map(|image| self.store.lower(image)).unwrap_or_default();
        for layer in layers.into_iter().chain(places.mountpoints()) {
            match self.label_own(&layer, &labels.layers) {
                // Nobody but root can enter what its owner has closed, where the user has no further ids; it keeps its label.
                Err(Error::Layer(error)) if host::caller() != Caller::Root && is_closed(&error) => {}
                labelled => labelled?,
            }
        }
        directory(&places.container(&record.id).join(FILES), &labels.private)?;
        directory(&places.container_run(&record.id).join(SECRETS), &labels.private)?;
        match (&document.request.namespaces.network, &record.pod) {
            (Network::Container(other), _) => {
                directory(&places.container(&self.find(other)?.record.id).join(FILES), &labels.shared)?;
            }
            (Network::Pod, Some(pod)) => directory(&self.of_pod(pod)?.0, &labels.shared)?,
            _ => {}
        }
        self.label_mounts(&document.mounts, labels)
    }

    fn label_mounts(&self, mounts: &[Mount], labels: &FileLabels) -> Result<()> {
        for mount in mounts {
            match &mount.kind {
                MountKind::Bind(bind) => match bind.relabel {
                    Some(Relabel::Shared) => source(&bind.source, &labels.shared)?,
                    Some(Relabel::Private) => source(&bind.source, &labels.private)?,
                    None => {}
                },
                MountKind::Volume(volume) => {
                    if let Some(name) = volume.name.as_deref() {
                        self.label_own(&self.places().volume(name).join("data"), &labels.shared)?;
                    }
                }
                MountKind::Tmpfs(_) => {}
            }
        }
        Ok(())
    }

    /// Labels a directory of the engine's, unless it has that label. Files of further ids are out of an ordinary user's reach
    /// but in the user namespace of containers.
    fn label_own(&self, path: &Path, label: &str) -> Result<()> {
        if has(path, label) {
            return Ok(());
        }
        let is_foreign = |error: &Error| match error {
            Error::System { source, .. } => source.kind() == ErrorKind::PermissionDenied,
            Error::Layer(error) => is_closed(error),
            _ => false,
        };
        match directory(path, label) {
            Err(error) if is_foreign(&error) && users::are_elsewhere()? => {
                let words = ["label".as_ref(), path.as_os_str(), label.as_ref()];
                self.do_in_users(&format!("label {} as {label}", path.display()), &words).map(drop)
            }
            labelled => labelled,
        }
    }
}

/// Labels a directory of the engine's, if it is there.
pub(crate) fn directory(path: &Path, label: &str) -> Result<()> {
    match path::open_host(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
        Err(error) if error.errno() == Errno::NOENT => Ok(()),
        top => tree(&top.doing(|| format!("open {}", path.display()))?, path, label),
    }
}

fn source(path: &Path, label: &str) -> Result<()> {
    // Opened once: whoever owns a directory above may exchange what is there.
    let top = path::open_host(path, OFlags::PATH).doing(|| format!("open {}", path.display()))?;
    let homes =
        [env::var_os("HOME").map(PathBuf::from), env::var("SUDO_USER").ok().and_then(|user| home(&user))];
    if is_one_of(&top, OF_HOST.iter().map(Path::new).chain(homes.iter().flatten().map(PathBuf::as_path))) {
        return Err(Error::Invalid {
            what: format!("label of {}", path.display()),
            reason: "with a container's label the host could not use it any more; leave out z or Z, or take a directory below"
                .into(),
        });
    }
    tree(&top, path, label)
}

/// Finds the home of a user of this machine, see passwd(5).
fn home(user: &str) -> Option<PathBuf> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let mut users = passwd.lines().map(|line| line.split(':'));
    users.find_map(|mut fields| {
        (fields.next() == Some(user)).then(|| fields.nth(4)).flatten().map(PathBuf::from)
    })
}

/// Tells whether a file is one of these, by whatever name.
fn is_one_of<'a>(file: &OwnedFd, mut paths: impl Iterator<Item = &'a Path>) -> bool {
    let Ok(found) = fstat(file) else { return true };
    paths.any(|path| stat(path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (found.st_dev, found.st_ino)))
}

/// Gives a file, or a directory with all that is in it, a context. No link is followed. A file system that has none is left
/// as it is, as docker does, and so is what has that context: it may be another's, and backups go by the time of a change.
fn tree(top: &OwnedFd, path: &Path, label: &str) -> Result<()> {
    let doing = || format!("label {} as {label}", path.display());
    let in_proc =
        |directory: BorrowedFd<'_>| PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let done = |done: std::result::Result<(), Errno>| match done {
        // It went meanwhile.
        Err(Errno::NOTSUP | Errno::NOENT) => Ok(()),
        done => done.doing(doing),
    };
    if FileType::from_raw_mode(fstat(top).doing(doing)?.st_mode) == FileType::Directory {
        walk(top.as_fd(), path, |directory, name: &OsStr, _| {
            let file = in_proc(directory).join(name);
            if !has(&file, label) {
                done(lsetxattr(file, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()))?;
            }
            Ok::<Below, Error>(Below::Entered)
        })?;
    }
    // Last, so that a volume that has it is labelled to the end, whatever was killed before.
    let file = in_proc(top.as_fd());
    if is_label(label, |value| getxattr(&file, ATTRIBUTE, value)) {
        return Ok(());
    }
    done(setxattr(&file, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()))
}

fn has(path: &Path, label: &str) -> bool {
    is_label(label, |value| lgetxattr(path, ATTRIBUTE, value))
}

fn is_label(label: &str, read: impl FnOnce(&mut [u8]) -> std::result::Result<usize, Errno>) -> bool {
    let mut value = vec![0; label.len() + 1];
    read(&mut value).is_ok_and(|length| {
        value[..length].strip_suffix(b"\0").unwrap_or(&value[..length]) == label.as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use bulkhead_testkit::{Scratch, is_root, requires, skip};

    use super::*;

    #[test]
    fn a_tree_is_labelled_and_what_links_lead_to_is_not() {
        requires!(is_root(), "needs root");
        let scratch = Scratch::new();
        let outside = scratch.path().join("outside");
        let inside = scratch.path().join("inside");
        fs::create_dir_all(inside.join("deep/er")).unwrap();
        fs::write(inside.join("deep/er/file"), "").unwrap();
        fs::write(&outside, "").unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        let label = "system_u:object_r:container_file_t:s0";
        if setxattr(&outside, ATTRIBUTE, b"before", XattrFlags::empty()).is_err() {
            skip!("files have no contexts here");
        }
        source(&inside, label).unwrap();
        for path in ["inside", "inside/deep", "inside/deep/er", "inside/deep/er/file", "inside/link"] {
            assert!(has(&scratch.path().join(path), label), "{path}");
        }
        assert!(has(&outside, "before"), "a link is not followed");
        source(&outside, label).unwrap();
        assert!(has(&outside, label), "a file is labelled, too");
    }

    #[test]
    fn what_is_labelled_half_way_is_labelled_to_the_end_and_what_has_its_label_is_not_touched() {
        requires!(is_root(), "needs root");
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        fs::create_dir_all(path("data/below")).unwrap();
        fs::write(path("data/below/file"), "").unwrap();
        if setxattr(path("data/below"), ATTRIBUTE, b"label", XattrFlags::empty()).is_err() {
            skip!("files have no contexts here");
        }
        let changed = |name: &str| {
            let metadata = fs::metadata(path(name)).unwrap();
            (metadata.ctime(), metadata.ctime_nsec())
        };
        let before = changed("data/below");
        source(&path("data"), "label").unwrap();
        for name in ["data", "data/below", "data/below/file"] {
            assert!(has(&path(name), "label"), "{name}");
        }
        assert_eq!(changed("data/below"), before, "it had its label");
        let before = ["data", "data/below/file"].map(changed);
        source(&path("data"), "label").unwrap();
        assert_eq!(["data", "data/below/file"].map(changed), before, "a second time changes nothing");
    }

    // Asked of what decides: what labels would label this machine if the answer were wrong.
    #[test]
    fn the_host_s_own_is_known_by_whatever_name() {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.path().join(name);
        fs::create_dir_all(path("var/home/a/below")).unwrap();
        symlink("var/home", path("home")).unwrap();
        let homes = [path("home/a"), path("no/such")];
        let is_refused = |of: &Path, homes: &[PathBuf]| {
            let file = path::open_host(of, OFlags::PATH).unwrap();
            is_one_of(&file, OF_HOST.iter().map(Path::new).chain(homes.iter().map(PathBuf::as_path)))
        };
        for of in ["/", "/usr", "/etc", "/home/", "/lib", "/var/../var/lib", "/proc/self/root"] {
            assert!(!Path::new(of).exists() || is_refused(Path::new(of), &[]), "{of}");
        }
        assert!(is_refused(&path("var/home/a"), &homes), "a home is refused by the name that a link hides");
        assert!(!is_refused(&path("var/home/a"), &[]), "it was refused as a home");
        assert!(!is_refused(&path("var/home/a/below"), &homes), "what is below a home may be labelled");
        assert_eq!(home("root"), Some(PathBuf::from("/root")));
        assert_eq!(home("no such user"), None);
    }
}
