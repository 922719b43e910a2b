//! Whether this kernel can show the files of a file system with other owners, asked without the runtime under test.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use bulkhead_sys::mount::{self, Attributes, Filesystem, Reach};
use bulkhead_sys::path;
use rustix::fs::OFlags;

use crate::fail::OrFail;

/// Says whether the file system of a directory can be idmapped, see mount_setattr(2). Takes root.
///
/// # Panics
/// When no user namespace can be made, or the directory cannot be opened.
#[track_caller]
pub fn is_possible_at(directory: &Path) -> bool {
    let opened = path::open_host(directory, OFlags::PATH | OFlags::DIRECTORY)
        .or_fail(format_args!("open {}", directory.display()));
    mount::clone_tree(opened, Path::new(""), Reach::Mount).is_ok_and(|tree| takes_map(&tree))
}

/// Says whether a tmpfs can be idmapped. Takes root.
///
/// # Panics
/// When no user namespace can be made.
#[track_caller]
pub fn is_possible_for_tmpfs() -> bool {
    Filesystem::open("tmpfs").and_then(|tmpfs| tmpfs.mount(0)).is_ok_and(|tree| takes_map(&tree))
}

#[track_caller]
fn takes_map(detached: &OwnedFd) -> bool {
    let namespace = user_namespace();
    let attributes = Attributes::new(0, 0).with_idmap(namespace.as_fd());
    mount::set_attributes(detached.as_fd(), attributes, Reach::Mount).is_ok()
}

/// Makes a user namespace in which root is somebody else.
#[track_caller]
fn user_namespace() -> OwnedFd {
    // It says that it is inside, and ends when its standard input does.
    let mut holder = Command::new("unshare")
        .args(["--user", "--", "sh", "-c", "echo; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .or_fail("start unshare");
    let mut line = [0];
    holder.stdout.take().map_or(Ok(()), |mut output| output.read_exact(&mut line)).or_fail("unshare");
    let process = Path::new("/proc").join(holder.id().to_string());
    for map in ["uid_map", "gid_map"] {
        fs::write(process.join(map), "0 100000 65536").or_fail(format_args!("write {map}"));
    }
    let namespace = fs::File::open(process.join("ns/user")).or_fail("open the user namespace");
    drop(holder.stdin.take());
    holder.wait().or_fail("wait for unshare");
    namespace.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{is_root, requires};

    #[test]
    fn a_file_system_without_owners_cannot() {
        requires!(is_root(), "needs root");
        assert!(!is_possible_at(Path::new("/proc/sys")), "procfs has no owners to map");
    }
}
