//! A Debian, packed by GNU tar and unpacked by both.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};

use bulkhead_store::layer::{Marks, Unpack, unpack};
use bulkhead_testkit::{Scratch, cached, find_program, is_root, requires, skip};

use crate::tree::describe;

#[test]
fn a_debian_is_unpacked_as_by_gnu_tar() {
    requires!(is_root(), "needs root, to give files away");
    let Some(tar) = find_program("tar") else { skip!("needs GNU tar") };
    let Some(debian) = cached("debian/rootfs") else { skip!("needs the Debian of `cargo xtask debian`") };
    let scratch = Scratch::new();
    let archive = scratch.path().join("archive");
    // Programs, libraries, configuration, set-user-id bits, links and devices, but not all that is in /usr/share.
    let packed = Command::new(&tar)
        .args(["--create", "--format", "pax", "--xattrs", "--numeric-owner", "--sort", "name"])
        .args(["--exclude", "./usr/share", "--exclude", "./usr/lib/python3*", "--exclude", "./var/cache"])
        .args(["--exclude", "./proc/*", "--exclude", "./sys/*", "--file"])
        .arg(&archive)
        .arg(".")
        .current_dir(&debian)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(packed.success(), "GNU tar packs the Debian");
    let [ours, theirs] = ["ours", "theirs"].map(|name| scratch.path().join(name));
    for directory in [&ours, &theirs] {
        fs::create_dir(directory).unwrap();
    }
    let unpacked = unpack(
        File::open(&archive).unwrap(),
        File::open(&ours).unwrap().as_fd(),
        &Unpack::layer(Marks::Trusted),
    );
    let unpacked = unpacked.unwrap();
    assert_eq!(unpacked.length, fs::metadata(&archive).unwrap().len());
    assert!(unpacked.entries > 3000, "a Debian has {} files", unpacked.entries);
    let extracted = Command::new(&tar)
        .args(["--extract", "--xattrs", "--xattrs-include", "*", "--numeric-owner", "--preserve-permissions"])
        .arg("--file")
        .arg(&archive)
        .arg("--directory")
        .arg(&theirs)
        .status()
        .unwrap();
    assert!(extracted.success(), "GNU tar unpacks the Debian");
    let [ours, theirs] = [ours, theirs].map(|directory| describe(&directory));
    let differences: Vec<_> = ours.iter().zip(&theirs).filter(|(one, other)| one != other).take(5).collect();
    assert!(differences.is_empty() && ours.len() == theirs.len(), "they differ in {differences:#?}");
}
