//! SELinux labels of what is bound into containers, where the host has it: `:z` and `:Z` of `--volume`, and volumes.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use bulkhead_store::{Below, Places, walk};
use bulkhead_sys::path;
use rustix::fs::{OFlags, XattrFlags, lgetxattr, lsetxattr, setxattr};
use rustix::io::Errno;

use crate::configure::FileLabels;
use crate::error::{Doing, Error, Result};
use crate::request::{Mount, MountKind, Relabel};

/// The attribute of a file that is its context.
const ATTRIBUTE: &str = "security.selinux";

/// Directories whose files are the host's own: with another label it could not go on. They are docker's, and what they are
/// links to where `/usr` has it all.
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

/// Labels what is bound into a container and was asked to be, and volumes, which all containers may use.
///
/// # Errors
/// [`Error::Invalid`] for a directory of the host's own; as setxattr(2).
pub(crate) fn mounts(mounts: &[Mount], places: &Places, labels: &FileLabels) -> Result<()> {
    for mount in mounts {
        match &mount.kind {
            MountKind::Bind(bind) => match bind.relabel {
                Some(Relabel::Shared) => source(&bind.source, &labels.shared)?,
                Some(Relabel::Private) => source(&bind.source, &labels.private)?,
                None => {}
            },
            MountKind::Volume(volume) => {
                let data = volume.name.as_deref().map(|name| places.volume(name).join("data"));
                if let Some(data) = data.filter(|data| !has(data, &labels.shared)) {
                    tree(&data, &labels.shared)?;
                }
            }
            MountKind::Tmpfs(_) => {}
        }
    }
    Ok(())
}

fn source(path: &Path, label: &str) -> Result<()> {
    let real = fs::canonicalize(path).doing(|| format!("find {}", path.display()))?;
    let home = env::var_os("HOME").map(PathBuf::from);
    let is_of_host =
        |path: &Path| OF_HOST.iter().any(|of| Path::new(of) == path) || home.as_deref() == Some(path);
    if is_of_host(path) || is_of_host(&real) {
        return Err(Error::Invalid {
            what: format!("label of {}", path.display()),
            reason: "with a container's label the host could not use it any more; leave out z or Z, or take a directory below"
                .into(),
        });
    }
    tree(&real, label)
}

fn has(path: &Path, label: &str) -> bool {
    let mut value = vec![0; label.len() + 1];
    let read = lgetxattr(path, ATTRIBUTE, &mut value[..]);
    read.is_ok_and(|length| {
        value[..length].strip_suffix(b"\0").unwrap_or(&value[..length]) == label.as_bytes()
    })
}

/// Gives a file, or a directory with all that is in it, a context. No link is followed. A file system that has none is left
/// as it is, as docker does.
fn tree(path: &Path, label: &str) -> Result<()> {
    let doing = || format!("label {} as {label}", path.display());
    let top = path::open_host(path, OFlags::PATH | OFlags::NOFOLLOW).doing(doing)?;
    let in_proc =
        |directory: BorrowedFd<'_>| PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    let set = |done: std::result::Result<(), Errno>| match done {
        // It went meanwhile.
        Err(Errno::NOTSUP | Errno::NOENT) => Ok(()),
        done => done.doing(doing),
    };
    set(setxattr(in_proc(top.as_fd()), ATTRIBUTE, label.as_bytes(), XattrFlags::empty()))?;
    if !path.is_dir() {
        return Ok(());
    }
    walk(top.as_fd(), path, |directory, name: &OsStr, _| {
        let file = in_proc(directory).join(name);
        set(lsetxattr(file, ATTRIBUTE, label.as_bytes(), XattrFlags::empty()))?;
        Ok::<Below, Error>(Below::Entered)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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
    fn what_is_the_host_s_own_is_refused() {
        for path in ["/", "/usr", "/etc", "/home", "/lib", "/var/lib"] {
            if Path::new(path).exists() {
                let error = source(Path::new(path), "x").unwrap_err().to_string();
                assert!(error.starts_with(&format!("label of {path}: ")), "{error}");
            }
        }
    }
}
