//! Trees that become archives.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;

use bulkhead_store::Digest;
use bulkhead_store::layer::archive::{Archive, Kind, Whole};
use bulkhead_store::layer::{
    Kernels, Marks, Owner, Owners, Pack, Packed, Unpack, is_kernels, pack, pack_one,
};
use bulkhead_testkit::{is_root, requires};

use crate::builder::{Head, Tar};
use crate::tree::{Nest, chain, describe, how};

fn marks() -> Marks {
    if is_root() { Marks::Trusted } else { Marks::User }
}

fn packed(nest: &Nest, how: &Pack<'_>) -> (Vec<u8>, Packed) {
    let mut archive = Vec::new();
    let packed = pack(File::open(nest.layer()).unwrap().as_fd(), &mut archive, how).unwrap();
    (archive, packed)
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut reader = Archive::new(archive);
    let mut names = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        names.push(String::from_utf8(entry.path).unwrap());
    }
    reader.finish(Whole::Marked).unwrap();
    names
}

#[test]
fn a_layer_that_is_packed_and_unpacked_is_the_same() {
    let long = format!("{0}/{0}/{0}", "n".repeat(90));
    let mut archive = Tar::new()
        .add(&Head::new(b'5', "d").mode(0o1750), b"")
        .records(&[("mtime", b"1234567890.123456789"), ("SCHILY.xattr.user.note", b"\0\xff")])
        .file("d/file", &[7; 70_000])
        .hard_link("d/other", "d/file")
        .symlink("d/link", &"t".repeat(300))
        .records(&[("path", long.as_bytes()), ("mtime", b"-1.5")])
        .file("x", b"deep")
        .add(&Head::new(b'6', "d/pipe"), b"")
        .file("d/.wh.whiteout", b"")
        .directory("opaque")
        .file("opaque/.wh..wh..opq", b"");
    if is_root() {
        let mut device = Head::new(b'3', "null").mode(0o666).owner(3_000_000_000, 5);
        device.device = (1, 3);
        archive = archive.add(&device, b"").add(&Head::new(b'0', "su").mode(0o6755).owner(7, 8), b"");
    }
    let first = Nest::new();
    first.unpack(&archive.end()).unwrap();
    let (bytes, told) = packed(&first, &Pack::layer(marks()));
    assert_eq!(told.diff_id, Digest::of(&bytes), "the digest is that of what was written");
    assert_eq!((told.length, told.size), (bytes.len() as u64, 70_004));
    assert_eq!(packed(&first, &Pack::layer(marks())).0, bytes, "the same files make the same bytes");

    let second = Nest::new();
    let unpacked = second.unpack(&bytes).unwrap();
    assert_eq!(unpacked.diff_id, told.diff_id);
    fs::set_permissions(first.layer(), fs::Permissions::from_mode(0o755)).unwrap();
    let is_of_entry = |line: &String| !line.starts_with("\"\" ");
    let trees = [&first, &second]
        .map(|nest| describe(&nest.layer()).into_iter().filter(is_of_entry).collect::<Vec<_>>());
    assert_eq!(trees[0], trees[1]);
    let names = names(&bytes);
    assert!(
        names.contains(&"d/.wh.whiteout".to_owned()) && names.contains(&"opaque/.wh..wh..opq".to_owned())
    );
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(names.len(), told.entries as usize);
    assert_eq!(names.iter().filter(|name| !name.contains(".wh.")).count(), sorted.len() - 2);
}

/// GNU tar, and whoever else reads archives, must understand ours.
#[test]
fn gnu_tar_understands_what_is_packed() {
    let Some(tar) = bulkhead_testkit::find_program("tar") else { bulkhead_testkit::skip!("needs GNU tar") };
    let nest = Nest::new();
    let deep = format!("{}/{}", "d".repeat(150), "e".repeat(120));
    let archive = Tar::new()
        .file("plain", b"1")
        .records(&[("path", deep.as_bytes())])
        .file("x", b"2")
        .symlink("long", &"t".repeat(200))
        .hard_link("same", "plain");
    nest.unpack(&archive.end()).unwrap();
    let (bytes, _) = packed(&nest, &Pack::layer(marks()));
    let other = Nest::new();
    fs::write(other.path().join("archive"), &bytes).unwrap();
    let output = std::process::Command::new(tar)
        .args(["--extract", "--numeric-owner", "--preserve-permissions", "--file", "../archive"])
        .current_dir(other.layer())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(other.path().join("archive")).unwrap();
    let trees = [&nest, &other].map(|nest| describe(&nest.layer()));
    assert_eq!(trees[0][1..], trees[1][1..], "all but the root, which is no entry");
}

#[test]
fn what_the_runtime_made_is_left_out() {
    let nest = Nest::new();
    nest.unpack(&Tar::new().file("etc/hosts", b"").file("etc/x", b"").file("proc/1/2", b"").end()).unwrap();
    let skip = [PathBuf::from("etc/hosts"), PathBuf::from("proc")];
    let (bytes, _) = packed(&nest, &Pack { skip: &skip, ..Pack::layer(marks()) });
    assert_eq!(names(&bytes), ["etc/", "etc/x"]);
}

#[test]
fn what_the_kernel_shows_is_no_tree_of_files() {
    let nest = Nest::new();
    for (path, expected) in [("/proc", true), ("/proc/self/fd", true), ("/sys", true)] {
        assert_eq!(is_kernels(File::open(path).unwrap()).unwrap(), expected, "{path}");
    }
    assert!(!is_kernels(File::open(nest.layer()).unwrap()).unwrap());
    let kernel = File::open("/proc/sys").unwrap();
    let how = Pack { kernels: Kernels::Empty, ..Pack::plain() };
    let mut archive = Vec::new();
    pack_one(kernel.as_fd(), OsStr::new("kernel"), OsStr::new("k"), &mut archive, &how).unwrap();
    assert_eq!(names(&archive), ["k/"], "its root is an empty directory");
    let mut archive = Vec::new();
    let name = OsStr::new("kernel/hostname");
    let kernel = File::open("/proc/sys/kernel").unwrap();
    let told = pack_one(kernel.as_fd(), OsStr::new("hostname"), name, &mut archive, &how).unwrap();
    assert!(names(&archive).is_empty() && told.left_out.count == 1, "{told:?}");
}

#[test]
fn what_a_layer_cannot_say_is_refused() {
    let nest = Nest::new();
    fs::create_dir(nest.at("d")).unwrap();
    fs::write(nest.at("d/.wh.x"), "").unwrap();
    let refused = |how: &Pack<'_>| {
        let result = pack(File::open(nest.layer()).unwrap().as_fd(), Vec::new(), how);
        chain(&result.expect_err("no layer can hold it"))
    };
    let sentence = refused(&Pack::layer(marks()));
    assert_eq!(sentence, "\"d/.wh.x\" has a name that means a deletion in layers, which a layer cannot hold");
    let (bytes, _) = packed(&nest, &Pack::plain());
    assert_eq!(names(&bytes), ["d/", "d/.wh.x"], "in other archives it is a name");
    fs::remove_file(nest.at("d/.wh.x")).unwrap();

    let name = if is_root() { "trusted.overlay.redirect" } else { "user.overlay.redirect" };
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(nest.at("d"), name, b"/elsewhere", flags).unwrap();
    let sentence = refused(&Pack::layer(marks()));
    assert!(
        sentence.starts_with("\"d\" is a directory that was renamed, and lies in a lower layer"),
        "{sentence}"
    );
}

#[test]
fn one_file_or_tree_gets_a_name_of_choice() {
    let nest = Nest::new();
    nest.unpack(&Tar::new().file("etc/a", b"1").symlink("etc/b", "a").file("alone", b"2").end()).unwrap();
    let root = File::open(nest.layer()).unwrap();
    for (name, expected) in [("etc", &["as/", "as/a", "as/b"][..]), ("alone", &["as"])] {
        let mut bytes = Vec::new();
        pack_one(root.as_fd(), OsStr::new(name), OsStr::new("as"), &mut bytes, &Pack::plain()).unwrap();
        assert_eq!(names(&bytes), expected);
    }
    let mut bytes = Vec::new();
    let missing = pack_one(root.as_fd(), OsStr::new("none"), OsStr::new("x"), &mut bytes, &Pack::plain());
    let sentence = chain(&missing.expect_err("there is no such file"));
    assert!(sentence.starts_with("look at \"none\": "), "{sentence}");
}

#[test]
fn owners_go_back_to_what_they_are_in_the_container() {
    requires!(is_root(), "needs root, to give files away");
    let nest = Nest::new();
    // The capabilities of a user namespace's root, 100000.
    const CAPABILITY: &[u8] = b"\x01\0\0\x03\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xa0\x86\x01\0";
    fs::write(nest.at("x"), "").unwrap();
    std::os::unix::fs::chown(nest.at("x"), Some(101_000), Some(100_005)).unwrap();
    rustix::fs::setxattr(nest.at("x"), "security.capability", CAPABILITY, rustix::fs::XattrFlags::empty())
        .unwrap();
    let back = |owner: Owner| {
        let back = |id: u32| id.checked_sub(100_000);
        Some(Owner { user: back(owner.user)?, group: back(owner.group).or(Some(0))? })
    };
    let (bytes, _) = packed(&nest, &Pack { owners: Owners::Mapped(&back), ..Pack::layer(Marks::Trusted) });
    let entry = Archive::new(bytes.as_slice()).next_entry().unwrap().unwrap();
    assert_eq!((entry.kind, entry.user, entry.group), (Kind::Regular, 1000, 5));
    let plain = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    assert_eq!(entry.xattrs, [(b"security.capability".to_vec(), plain)], "they are root's in the container");
}

#[test]
fn sockets_stay_and_links_are_not_followed() {
    let nest = Nest::new();
    let _socket = std::os::unix::net::UnixListener::bind(nest.at("socket")).unwrap();
    symlink(nest.path().join("beside"), nest.at("link")).unwrap();
    let (bytes, packed) = packed(&nest, &Pack::plain());
    assert_eq!(names(&bytes), ["link"]);
    assert_eq!(packed.left_out.examples, [(PathBuf::from("socket"), "a socket".to_owned())]);
    let _ = Unpack::plain();
    let _ = how();
    assert_eq!(fs::metadata(nest.path().join("beside/victim")).unwrap().size(), 9);
}
