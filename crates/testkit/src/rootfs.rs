//! A root file system made of one static busybox.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{fs, io};

use crate::fail::OrFail;

/// Where Debian's package busybox-static puts its program.
pub const BUSYBOX: &str = "/bin/busybox";

const DIRECTORIES: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/user", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
user:x:1000:1000:user:/home/user:/bin/sh
nobody:x:65534:65534:nobody:/:/bin/false
";

const GROUP: &str = "\
root:x:0:
tty:x:5:
user:x:1000:
extra:x:2000:user
nogroup:x:65534:
";

/// Fills a new directory with a root file system: busybox with all its applets, users, and empty directories.
///
/// The users are root, `user` (1000, also in the group `extra`, 2000) and nobody. The program is a copy, so that a
/// container that writes to it hurts no one.
///
/// # Panics
/// Without busybox-static, or when the directory exists or cannot be written.
pub fn create(root: &Path) {
    fs::create_dir(root).or_fail(format_args!("create {}", root.display()));
    for (directory, mode) in DIRECTORIES {
        let path = root.join(directory);
        fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(*mode)))
            .or_fail(format_args!("create {}", path.display()));
    }
    fs::write(root.join("etc/passwd"), PASSWD).or_fail("write etc/passwd");
    fs::write(root.join("etc/group"), GROUP).or_fail("write etc/group");
    fs::copy(BUSYBOX, root.join("bin/busybox"))
        .or_fail(format_args!("copy {BUSYBOX} (package busybox-static)"));
    for applet in applets() {
        match symlink("/bin/busybox", root.join(applet)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                panic!("testkit cannot link {}: {error}", applet.display())
            }
            _ => {}
        }
    }
}

/// Lists the paths, relative to a root, under which busybox offers its applets. Asked once per process.
fn applets() -> &'static [PathBuf] {
    static APPLETS: OnceLock<Vec<PathBuf>> = OnceLock::new();
    APPLETS.get_or_init(|| {
        let output = Command::new(BUSYBOX)
            .arg("--list-full")
            .output()
            .or_fail(format_args!("run {BUSYBOX} (package busybox-static)"));
        let list = String::from_utf8(output.stdout).or_fail("read busybox's list of applets");
        let known =
            |path: &PathBuf| DIRECTORIES.iter().any(|(known, _)| path.parent() == Some(Path::new(known)));
        list.lines().map(PathBuf::from).filter(known).collect()
    })
}
