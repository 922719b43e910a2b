//! What a container changed, over an overlay that the kernel wrote.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bulkhead_store::layer::{Compare, Marks, Owners, Pack, Unpack, changes, pack, unpack};
use bulkhead_testkit::{Scratch, in_fresh_namespaces, is_root, requires};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::builder::Tar;
use crate::tree::describe;

/// Two layers and a writable one, mounted as a container's root.
struct Root {
    scratch: Scratch,
}

impl Root {
    fn new(layers: [Vec<u8>; 2]) -> Self {
        let scratch = Scratch::new();
        for name in ["base", "top", "upper", "work", "merged"] {
            fs::create_dir(scratch.path().join(name)).unwrap();
        }
        for (name, archive) in ["base", "top"].iter().zip(layers) {
            let directory = File::open(scratch.path().join(name)).unwrap();
            unpack(archive.as_slice(), directory.as_fd(), &Unpack::layer(Marks::Trusted)).unwrap();
        }
        Self { scratch }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn merged(&self, work: impl FnOnce(&Path)) {
        let [top, base, upper, work_directory, merged] =
            ["top", "base", "upper", "work", "merged"].map(|name| self.at(name));
        let data = format!(
            "lowerdir={}:{},upperdir={},workdir={}",
            top.display(),
            base.display(),
            upper.display(),
            work_directory.display()
        );
        let data = std::ffi::CString::new(data).unwrap();
        mount("overlay", &merged, "overlay", MountFlags::empty(), data.as_c_str()).unwrap();
        work(&merged);
        unmount(&merged, UnmountFlags::empty()).unwrap();
    }

    fn changes(&self, skip: &[PathBuf]) -> Vec<String> {
        let [upper, top, base] = ["upper", "top", "base"].map(|name| File::open(self.at(name)).unwrap());
        let how = Compare { marks: Marks::Trusted, owners: Owners::Kept, skip };
        let found = changes(upper.as_fd(), &[top.as_fd(), base.as_fd()], &how).unwrap();
        found.iter().map(|change| format!("{} {}", change.kind, change.path.display())).collect()
    }
}

fn layers() -> [Vec<u8>; 2] {
    let base = Tar::new()
        .directory("etc")
        .file("etc/passwd", b"root")
        .file("etc/group", b"root")
        .directory("var")
        .directory("var/cache")
        .file("var/cache/a", b"a")
        .file("var/cache/b", b"b")
        .directory("var/cache/deep")
        .file("var/cache/deep/c", b"c")
        .directory("opt")
        .file("opt/removed by top", b"")
        .file("opt/stays", b"")
        .directory("hidden")
        .file("hidden/base", b"")
        .end();
    let top = Tar::new()
        .file("opt/.wh.removed by top", b"")
        .directory("hidden")
        .file("hidden/.wh..wh..opq", b"")
        .file("hidden/top", b"")
        .file("etc/top", b"top")
        .end();
    [base, top]
}

#[test]
fn changes_are_those_that_docker_tells() {
    requires!(is_root(), "needs root, to mount an overlay");
    in_fresh_namespaces!(Mount);
    let root = Root::new(layers());
    assert_eq!(root.changes(&[]), [] as [&str; 0], "an empty layer changes nothing");
    root.merged(|merged| {
        fs::write(merged.join("etc/passwd"), "changed").unwrap();
        fs::remove_file(merged.join("etc/top")).unwrap();
        // Copied up, and the same.
        drop(fs::OpenOptions::new().append(true).open(merged.join("etc/group")).unwrap());
        fs::create_dir(merged.join("new")).unwrap();
        fs::write(merged.join("new/file"), "").unwrap();
        fs::write(merged.join("opt/removed by top"), "back").unwrap();
        fs::remove_dir_all(merged.join("var/cache")).unwrap();
        fs::create_dir(merged.join("var/cache")).unwrap();
        fs::create_dir(merged.join("var/cache/deep")).unwrap();
        fs::write(merged.join("var/cache/a"), "other").unwrap();
        fs::set_permissions(merged.join("hidden"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(merged.join("hidden/base"), "new").unwrap();
        fs::write(merged.join("etc/hosts"), "the runtime's").unwrap();
        fs::create_dir(merged.join("mnt")).unwrap();
    });
    let skip = [PathBuf::from("etc/hosts"), PathBuf::from("mnt")];
    assert_eq!(
        root.changes(&skip),
        [
            "C /etc",
            "C /etc/passwd",
            "D /etc/top",
            "C /hidden",
            "A /hidden/base",
            "A /new",
            "A /new/file",
            "C /opt",
            "A /opt/removed by top",
            "C /var",
            "C /var/cache",
            "C /var/cache/a",
            "D /var/cache/b",
            "C /var/cache/deep",
            "D /var/cache/deep/c",
        ]
    );
}

#[test]
fn what_the_runtime_made_is_no_change() {
    requires!(is_root(), "needs root, to mount an overlay");
    in_fresh_namespaces!(Mount);
    let root = Root::new(layers());
    root.merged(|merged| fs::write(merged.join("etc/hosts"), "").unwrap());
    assert_eq!(
        root.changes(&[PathBuf::from("etc/hosts")]),
        [] as [&str; 0],
        "nor is the directory's new time"
    );
}

/// A commit: the packed writable layer over the same layers shows what the container saw.
#[test]
fn a_packed_layer_shows_what_the_container_saw() {
    requires!(is_root(), "needs root, to mount an overlay");
    in_fresh_namespaces!(Mount);
    let root = Root::new(layers());
    root.merged(|merged| {
        fs::remove_dir_all(merged.join("var/cache")).unwrap();
        fs::create_dir(merged.join("var/cache")).unwrap();
        fs::write(merged.join("var/cache/new"), "").unwrap();
        fs::remove_file(merged.join("etc/passwd")).unwrap();
        fs::remove_dir_all(merged.join("hidden")).unwrap();
        fs::hard_link(merged.join("etc/group"), merged.join("etc/again")).unwrap();
    });
    let mut seen = Vec::new();
    root.merged(|merged| seen = describe(merged));
    let mut archive = Vec::new();
    pack(File::open(root.at("upper")).unwrap().as_fd(), &mut archive, &Pack::layer(Marks::Trusted)).unwrap();

    let again = Root::new(layers());
    let upper = File::open(again.at("upper")).unwrap();
    unpack(archive.as_slice(), upper.as_fd(), &Unpack::layer(Marks::Trusted)).unwrap();
    let mut shown = Vec::new();
    again.merged(|merged| shown = describe(merged));
    // The root is no entry of a layer.
    assert_eq!(shown[1..], seen[1..]);
}
