//! A disk without room.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use bulkhead_testkit::registry::{Guard, Registry};
use bulkhead_testkit::{Output, in_fresh_namespaces, is_root, requires, wait_until};
use serde_json::json;

use super::{WELL, is_whole};
use crate::shop::{IMAGE, Shop};

/// A shop on a small disk of its own, in a mount namespace of the test's.
fn small(megabytes: u32) -> Shop {
    let shop = Shop::empty();
    let disk = shop.path("engine");
    fs::create_dir(&disk).unwrap();
    let size = format!("size={megabytes}m,mode=700");
    shop.sandbox.command("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&disk).output().succeeds();
    let archive = shop.path("busybox.tar");
    shop.archive(&archive, IMAGE, &json!({}));
    shop.said(&["load", "--quiet", "-i", archive.to_str().unwrap()]);
    shop
}

/// Takes the disk away again: what is mounted would be a leak.
fn give_back(shop: &Shop) {
    shop.sandbox.command("umount").arg(shop.path("engine")).output().succeeds();
}

/// Fills the disk to the last byte.
fn fill(path: &Path) {
    let mut filler = File::create(path).unwrap();
    while filler.write_all(&[1; 1 << 16]).is_ok() {}
    while filler.write_all(&[1]).is_ok() {}
}

/// Whether the kernel's words, or SQLite's, are told.
fn is_told(output: &Output) -> bool {
    let told = output.stderr.to_lowercase();
    ["no space left on device", "disk is full"].iter().any(|words| told.contains(words))
}

/// Bytes that do not become smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn the_first_command_of_all_on_a_full_disk_says_so_and_harms_no_later_one() {
    requires!(is_root(), "needs root to mount");
    in_fresh_namespaces!(Mount);
    let shop = Shop::empty();
    let disk = shop.path("engine");
    fs::create_dir(&disk).unwrap();
    shop.sandbox
        .command("mount")
        .args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"])
        .arg(&disk)
        .output()
        .succeeds();
    let filler = disk.join("filler");
    // The database needs room for its file, its log, and the index of that, in this order.
    for room in [0, 8, 24, 48, 96] {
        fill(&filler);
        let length = fs::metadata(&filler).unwrap().len();
        File::options().write(true).open(&filler).unwrap().set_len(length - (room << 10)).unwrap();
        let first = shop.bulkhead(&["ps"]).output().exits_with(1);
        assert!(is_told(&first), "{room} KiB: {}", first.stderr);
        fs::remove_file(&filler).unwrap();
        shop.bulkhead(&["ps"]).output().succeeds();
        for entry in fs::read_dir(&disk).unwrap() {
            let path = entry.unwrap().path();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
    give_back(&shop);
}

#[test]
fn a_pull_that_does_not_fit_is_told_and_leaves_nothing() {
    requires!(is_root(), "needs root to mount");
    requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
    in_fresh_namespaces!(Mount);
    let shop = small(24);
    let registry = Registry::start(&shop.path("registry"), &Guard::Nobody, None);
    let image = format!("{}/team/large:1", registry.host());
    let elsewhere = Shop::empty();
    let archive = elsewhere.path("large.tar");
    elsewhere.large_archive(&archive, &image, &noise(30 << 20));
    elsewhere.said(&["load", "--quiet", "-i", archive.to_str().unwrap()]);
    elsewhere.said(&["push", "--quiet", &image]);

    let refused = shop.bulkhead(&["pull", &image]).output().exits_with(1);
    assert!(is_told(&refused), "{refused}");
    is_whole(&shop, "a pull that does not fit");
    assert_eq!(shop.said(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), format!("{IMAGE}\n"));
    shop.script(&[], "echo still here").output().succeeds().prints("still here\n");

    // To the last byte: what is there can be looked at, and removed.
    fill(&shop.path("engine/filler"));
    let refused = shop.bulkhead(&["pull", &image]).output().exits_with(1);
    assert!(is_told(&refused), "{refused}");
    assert!(shop.said(&["images"]).contains("busybox"));
    shop.said(&["rmi", IMAGE]);
    fs::remove_file(shop.path("engine/filler")).unwrap();
    is_whole(&shop, "a full disk");
    give_back(&shop);
}

#[test]
fn a_container_on_a_full_disk_goes_on_and_ends_in_order() {
    requires!(is_root(), "needs root to mount");
    in_fresh_namespaces!(Mount);
    let shop = small(24);
    // Most of the disk at once, and then as fast as others still come to something.
    let script = "yes talking | head -n 150000; while :; do yes talking | head -n 1000; sleep 0.01; done";
    shop.service("talker", script);
    let free = || {
        let stat = rustix::fs::statvfs(shop.path("engine")).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    wait_until("its log has filled the disk", || free() < 64 << 10);
    fill(&shop.path("engine/filler"));
    assert_eq!(shop.inspect("talker")["State"]["Status"], "running");
    let last = shop.said(&["logs", "-n", "1", "talker"]);
    // What is written meanwhile comes, too.
    assert!(last.ends_with("talking\n"), "what is in the log is whole");
    assert!(last.lines().all(|line| line == "talking"), "what is in the log is whole");
    let refused = shop.with("run", &["--rm"], &["true"]).output();
    // The room that is kept for removals may do for another, which leaves nothing; else it is told.
    assert!(refused.code() == 0 || is_told(&refused), "{refused}");
    assert_eq!(shop.said(&["stop", "talker"]), "talker\n");
    let state = shop.inspect("talker")["State"].clone();
    assert_eq!(state["Status"], "exited", "{state}");
    assert_eq!(state["ExitCode"], 137, "how it ended is known: {state}");
    assert_eq!(shop.said(&["rm", "talker"]), "talker\n", "a full disk keeps nobody from removing");
    fs::remove_file(shop.path("engine/filler")).unwrap();
    is_whole(&shop, "a full disk");
    shop.script(&[], "echo still here").output().succeeds().prints("still here\n");
    assert_eq!(shop.said(&["system", "check", "--contents"]), WELL);
    give_back(&shop);
}

#[test]
fn a_commit_that_does_not_fit_is_told_and_leaves_nothing() {
    requires!(is_root(), "needs root to mount");
    in_fresh_namespaces!(Mount);
    let shop = small(32);
    let script = "head -c 9000000 /dev/urandom > /large; echo kept > /small";
    shop.with("run", &["--name", "job"], &["sh", "-c", script]).output().succeeds();
    let before = shop.said(&["images", "-q"]);
    fill(&shop.path("engine/filler"));
    let room = File::options().write(true).open(shop.path("engine/filler")).unwrap();
    let length = room.metadata().unwrap().len();
    room.set_len(length - (6 << 20)).unwrap();
    drop(room);
    let refused = shop.bulkhead(&["commit", "job", "large:1"]).output().exits_with(1);
    assert!(is_told(&refused), "{refused}");
    assert_eq!(shop.said(&["images", "-q"]), before, "no image came of it");
    is_whole(&shop, "a commit that does not fit");
    fs::remove_file(shop.path("engine/filler")).unwrap();
    assert_eq!(shop.said(&["diff", "job"]), "A /large\nA /small\n", "the container is as it was");
    assert_eq!(shop.said(&["system", "check", "--contents"]), WELL);
    give_back(&shop);
}
