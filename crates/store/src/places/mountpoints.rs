//! Empty directories and files on which runtimes mount, one by which programs know that they are in a container, and a link that docker makes, too.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// By this programs know that they are in a container: docker's name for it, which more of them look for than for any other.
pub(super) const MARKER: &str = ".dockerenv";

const FILES: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];
const DIRECTORIES: [&str; 5] = ["", "etc", "dev", "proc", "sys"];
/// By this programs find what is mounted that do not know of /proc/mounts: the file systems of the JDK, old df(1) and mount(8).
const TABLE: (&str, &str) = ("etc/mtab", "/proc/mounts");
/// The last: where they are, all are.
const LAST: [&str; 2] = [MARKER, TABLE.0];

/// Tells whether all of them are there.
pub(super) fn are_there(at: &Path) -> bool {
    LAST.iter().all(|name| at.join(name).symlink_metadata().is_ok())
}

/// Makes them, with the rights that a runtime would give them whatever the caller's umask is.
pub(super) fn make(at: &Path) -> io::Result<()> {
    if are_there(at) {
        return Ok(());
    }
    DIRECTORIES.iter().try_for_each(|name| directory(&at.join(name)))?;
    FILES.iter().try_for_each(|name| file(&at.join(name)))?;
    file(&at.join(MARKER))?;
    match symlink(TABLE.1, at.join(TABLE.0)) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => fs::set_permissions(path, Permissions::from_mode(0o755)),
    }
}

fn file(path: &Path) -> io::Result<()> {
    File::create(path)?.set_permissions(Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use bulkhead_testkit::Scratch;

    use super::*;

    #[test]
    fn what_is_half_made_is_made_whole() {
        let scratch = Scratch::new();
        let at = scratch.path().join("mountpoints");
        fs::create_dir_all(at.join("etc")).unwrap();
        fs::set_permissions(at.join("etc"), Permissions::from_mode(0o700)).unwrap();
        assert!(!are_there(&at));
        make(&at).unwrap();
        assert!(are_there(&at));
        let mode = |name: &str| fs::metadata(at.join(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(["", "etc", "dev", "proc", "sys"].map(mode), [0o755; 5]);
        assert_eq!(fs::read_link(at.join("etc/mtab")).unwrap(), Path::new("/proc/mounts"));
        assert_eq!([FILES.map(mode).as_slice(), &[mode(MARKER)]].concat(), [0o644; 4]);
    }
}
