//! Whiteouts and opaque directories, as the kernel's overlayfs reads them.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;

use bulkhead_store::layer::{Marks, Owners, Unpack, unpack};
use bulkhead_testkit::{Scratch, in_fresh_namespaces, is_root, requires};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::builder::Tar;
use crate::tree::xattrs;

fn layer(scratch: &Scratch, name: &str, archive: &[u8], how: &Unpack<'_>) {
    let path = scratch.path().join(name);
    fs::create_dir(&path).unwrap();
    unpack(archive, File::open(&path).unwrap().as_fd(), how).unwrap();
}

/// Shows layers as a container sees them, the topmost first, and returns all paths.
fn shown(scratch: &Scratch, layers: &[&str], options: &str) -> Vec<String> {
    let merged = scratch.path().join("merged");
    fs::create_dir_all(&merged).unwrap();
    let lower: Vec<_> = layers.iter().map(|name| scratch.path().join(name).display().to_string()).collect();
    let data = std::ffi::CString::new(format!("lowerdir={}{options}", lower.join(":"))).unwrap();
    mount("overlay", &merged, "overlay", MountFlags::empty(), data.as_c_str()).unwrap();
    let mut paths = Vec::new();
    list(&merged, Path::new(""), &mut paths);
    unmount(&merged, UnmountFlags::empty()).unwrap();
    paths.sort();
    paths
}

fn list(root: &Path, path: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(root.join(path)).unwrap() {
        let entry = entry.unwrap();
        let path = path.join(entry.file_name());
        into.push(path.display().to_string());
        if entry.file_type().unwrap().is_dir() {
            list(root, &path, into);
        }
    }
}

fn base() -> Vec<u8> {
    let directories = ["kept", "gone", "opaque", "again", "implied", "later"];
    let tar = directories.iter().fold(Tar::new(), |tar, name| {
        tar.directory(name).file(&format!("{name}/old"), b"old").file(&format!("{name}/older"), b"old")
    });
    tar.file("file", b"old").file("both", b"old").end()
}

/// What deletes stands before and behind what it must not delete.
fn changed() -> Vec<u8> {
    Tar::new()
        .file(".wh.gone", b"")
        .file(".wh.file", b"")
        .directory("opaque")
        .file("opaque/first", b"")
        .file("opaque/.wh..wh..opq", b"")
        .file("opaque/new", b"")
        .file("kept/.wh.old", b"")
        .file("both", b"new")
        .file(".wh.both", b"")
        .file(".wh.again", b"")
        .directory("again")
        .file("again/new", b"")
        .file(".wh.implied", b"")
        .file("implied/new", b"")
        .directory("later")
        .file("later/new", b"")
        .file(".wh.later", b"")
        .file(".wh..wh.plnk/123", b"aufs")
        .file(".wh..wh.aufs", b"aufs")
        .file("kept/.wh.was never there", b"")
        .end()
}

const EXPECTED: [&str; 11] = [
    "again",
    "again/new",
    "both",
    "implied",
    "implied/new",
    "kept",
    "kept/older",
    "later",
    "later/new",
    "opaque",
    "opaque/new",
];

fn expected() -> Vec<String> {
    let mut expected: Vec<_> = EXPECTED.map(String::from).into();
    expected.push("opaque/first".to_owned());
    expected.sort();
    expected
}

#[test]
fn the_kernel_shows_what_the_layers_say() {
    requires!(is_root(), "needs root, to mount an overlay");
    in_fresh_namespaces!(Mount);
    let scratch = Scratch::new();
    let how = Unpack::layer(Marks::Trusted);
    layer(&scratch, "base", &base(), &how);
    layer(&scratch, "changed", &changed(), &how);
    assert_eq!(shown(&scratch, &["changed", "base"], ""), expected());
    let opaque = xattrs(&scratch.path().join("changed/opaque"));
    assert_eq!(opaque, [("trusted.overlay.opaque".to_owned(), b"y".to_vec())]);
}

/// Without any privilege: the user's own attributes, and the same devices.
#[test]
fn the_kernel_shows_the_same_to_a_user_of_her_own_namespace() {
    requires!(
        bulkhead_testkit::fresh::is_possible(&[
            bulkhead_testkit::fresh::Kind::User,
            bulkhead_testkit::fresh::Kind::Mount
        ]),
        "needs user namespaces"
    );
    in_fresh_namespaces!(User, Mount);
    let scratch = Scratch::new();
    // Attributes of users need a file system that has them; not every /tmp does.
    let how = Unpack { owners: Owners::Caller, ..Unpack::layer(Marks::User) };
    layer(&scratch, "base", &base(), &how);
    layer(&scratch, "changed", &changed(), &how);
    assert_eq!(shown(&scratch, &["changed", "base"], ",userxattr"), expected());
    let opaque = xattrs(&scratch.path().join("changed/opaque"));
    assert_eq!(opaque, [("user.overlay.opaque".to_owned(), b"y".to_vec())]);
}
