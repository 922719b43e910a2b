//! Trees that go away.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use bulkhead_store::layer::{empty, remove};
use bulkhead_testkit::{Scratch, in_fresh_namespaces, is_root, requires};

use crate::tree::chain;

#[test]
fn a_tree_goes_with_all_that_is_in_it_and_nothing_else() {
    let scratch = Scratch::new();
    let root = File::open(scratch.path()).unwrap();
    let tree = scratch.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/file"), "").unwrap();
    fs::write(scratch.path().join("beside"), "stays").unwrap();
    symlink(scratch.path(), tree.join("a/b/link")).unwrap();
    rustix::fs::mknodat(
        File::open(&tree).unwrap(),
        "pipe",
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for closed in ["a/b", "a", ""] {
        fs::set_permissions(tree.join(closed), fs::Permissions::from_mode(0o000)).unwrap();
    }
    remove(root.as_fd(), OsStr::new("tree")).unwrap();
    assert!(!tree.exists());
    assert_eq!(fs::read(scratch.path().join("beside")).unwrap(), b"stays", "links are not followed");
    remove(root.as_fd(), OsStr::new("tree")).expect("what is not there is removed");
    remove(root.as_fd(), OsStr::new("beside")).expect("a file is a tree, too");
    assert!(!scratch.path().join("beside").exists());
}

/// Deeper than there are descriptors, and than a path can be long. Must fail with `std::fs::remove_dir_all`, which keeps a descriptor for each level.
#[test]
fn a_tree_may_be_deeper_than_any_path() {
    let scratch = Scratch::new();
    let root = File::open(scratch.path()).unwrap();
    let mode = rustix::fs::Mode::RWXU;
    let flags = rustix::fs::OFlags::DIRECTORY;
    rustix::fs::mkdirat(&root, "deep", mode).unwrap();
    let mut at = rustix::fs::openat(&root, "deep", flags, mode).unwrap();
    let name = "directory".repeat(20);
    for _ in 0..3000 {
        rustix::fs::mkdirat(&at, &name, mode).unwrap();
        rustix::fs::mkdirat(&at, "neighbour", mode).unwrap();
        at = rustix::fs::openat(&at, &name, flags, mode).unwrap();
    }
    let top = rustix::fs::openat(&root, "deep", flags, mode).unwrap();
    empty(top.as_fd()).unwrap();
    assert_eq!(fs::read_dir(scratch.path().join("deep")).unwrap().count(), 0);
}

#[test]
fn what_the_kernel_keeps_is_named() {
    requires!(is_root(), "needs root, to make a file immutable");
    let scratch = Scratch::new();
    let root = File::open(scratch.path()).unwrap();
    fs::create_dir_all(scratch.path().join("tree/a")).unwrap();
    let file = File::create(scratch.path().join("tree/a/rock")).unwrap();
    let flags = rustix::fs::ioctl_getflags(&file).unwrap();
    requires!(
        rustix::fs::ioctl_setflags(&file, flags | rustix::fs::IFlags::IMMUTABLE).is_ok(),
        "needs a file system with immutable files, and the right to make one"
    );
    let removed = remove(root.as_fd(), OsStr::new("tree"));
    rustix::fs::ioctl_setflags(&file, flags).unwrap();
    let sentence = chain(&removed.unwrap_err());
    assert_eq!(sentence, "\"tree/a/rock\" is immutable: take that from it with `chattr -i -a` first");

    let directory = File::open(scratch.path().join("tree/a")).unwrap();
    rustix::fs::ioctl_setflags(&directory, flags | rustix::fs::IFlags::IMMUTABLE).unwrap();
    let removed = remove(root.as_fd(), OsStr::new("tree"));
    rustix::fs::ioctl_setflags(&directory, flags).unwrap();
    let sentence = chain(&removed.unwrap_err());
    assert!(sentence.starts_with("\"tree/a/rock\" lies in a directory that is immutable"), "{sentence}");
    remove(root.as_fd(), OsStr::new("tree")).unwrap();
}

/// Must fail without RESOLVE_NO_XDEV.
#[test]
fn another_mount_is_not_touched() {
    requires!(is_root(), "needs root, to mount");
    in_fresh_namespaces!(Mount);
    let scratch = Scratch::new();
    let root = File::open(scratch.path()).unwrap();
    fs::create_dir_all(scratch.path().join("tree/mounted")).unwrap();
    fs::create_dir(scratch.path().join("volume")).unwrap();
    fs::write(scratch.path().join("volume/data"), "precious").unwrap();
    rustix::mount::mount_bind(scratch.path().join("volume"), scratch.path().join("tree/mounted")).unwrap();
    let sentence = chain(&remove(root.as_fd(), OsStr::new("tree")).unwrap_err());
    rustix::mount::unmount(scratch.path().join("tree/mounted"), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(
        sentence,
        "\"tree/mounted\" is not removed, since something is mounted on it: unmount that first"
    );
    assert_eq!(fs::read(scratch.path().join("volume/data")).unwrap(), b"precious");
}
