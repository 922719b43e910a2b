//! Bytes that went bad on the disk.

use std::fs;

use bulkhead_testkit::registry::{Guard, Registry};
use bulkhead_testkit::{requires, wait_until};
use serde_json::json;

use super::{WELL, is_whole};
use crate::shop::{IMAGE, Shop, shop};

/// Exchanges a byte of a file and leaves everything else as it was.
fn spoil(path: &std::path::Path) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

#[test]
fn a_damaged_image_is_found_named_and_pulled_again() {
    let shop = shop!();
    requires!(Registry::program().is_some(), "docker-registry is missing: cargo xtask images");
    let registry = Registry::start(&shop.path("registry"), &Guard::Nobody, None);
    let image = format!("{}/team/shop:1", registry.host());
    let archive = shop.path("pulled.tar");
    shop.archive(&archive, &image, &json!({ "Labels": { "other": "image" } }));
    // In places of its own, so that what is pulled comes from the registry and not from another image.
    let elsewhere = Shop::empty();
    elsewhere.said(&["load", "--quiet", "-i", archive.to_str().unwrap()]);
    elsewhere.said(&["push", "--quiet", &image]);
    let shop = Shop::empty();
    shop.said(&["pull", "--quiet", &image]);
    let document = shop.said(&["image", "inspect", &image]);
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let diff_id = document[0]["RootFS"]["Layers"][0].as_str().unwrap().to_owned();
    let layer = shop.path("engine/layers").join(diff_id.replace(':', "-"));
    let file = layer.join("etc/passwd");
    let largest = || {
        let blobs = fs::read_dir(shop.path("engine/blobs/sha256")).unwrap().flatten();
        blobs.max_by_key(|blob| blob.metadata().unwrap().len()).unwrap().path()
    };
    let parent = shop.parent();
    let said =
        || shop.said(&["run", "--rm", "--cgroup-parent", &parent, &image, "head", "-n1", "/etc/passwd"]);
    let (whole, blob) = (said(), largest());
    let name = blob.file_name().unwrap().to_str().unwrap().to_owned();
    let deep = || shop.bulkhead(&["system", "check", "--contents"]).output();

    // The unpacked layer: named, and unpacked again from its blob.
    spoil(&file);
    let told = shop.bulkhead(&["system", "check", "--contents", "--dry-run"]).output().exits_with(1);
    assert!(
        told.stdout.contains(&format!("layer {diff_id}: its file etc/passwd has other contents")),
        "{told}"
    );
    let mended = deep().succeeds();
    assert!(mended.stdout.contains("(mended: unpacked again from its blob)"), "{mended}");
    assert_eq!(deep().succeeds().stdout, WELL);
    assert_eq!(said(), whole);

    // The blob: named with its image, and pulled again.
    spoil(&blob);
    let told = deep().exits_with(1);
    assert!(told.stdout.contains(&format!("blob sha256:{name}: its bytes have the digest")), "{told}");
    assert!(told.stdout.contains(&format!("(not mended: pull or load {image} again)")), "{told}");
    assert_eq!(said(), whole, "the layer is whole, and what is made of it runs");
    shop.said(&["pull", "--quiet", &image]);
    assert_eq!(deep().succeeds().stdout, WELL);

    // Both: nothing runs on it, and a pull brings both again.
    spoil(&blob);
    fs::remove_file(&file).unwrap();
    let told = deep().exits_with(1);
    assert!(told.stdout.contains(&format!("its blob is damaged, too: pull or load {image} again")), "{told}");
    let refused =
        shop.bulkhead(&["run", "--rm", "--cgroup-parent", &parent, &image, "true"]).output().exits_with(125);
    assert!(refused.stderr.contains("damaged"), "{refused}");
    shop.said(&["pull", "--quiet", &image]);
    assert_eq!(deep().succeeds().stdout, WELL);
    assert_eq!(said(), whole);
    is_whole(&shop, "all that");
}

/// Fails when a layer is exchanged, and the old one emptied, while somebody reads it or is about to start on it.
#[test]
fn a_damaged_layer_stays_as_long_as_somebody_has_it() {
    let shop = shop!();
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    let document: serde_json::Value = serde_json::from_str(&shop.said(&["image", "inspect", IMAGE])).unwrap();
    let diff_id = document[0]["RootFS"]["Layers"][0].as_str().unwrap().to_owned();
    let layer = shop.path("engine/layers").join(diff_id.replace(':', "-"));
    fs::write(layer.join("stray"), "").unwrap();
    let left = |by: u32| {
        let told = shop.bulkhead(&["system", "check"]).output().exits_with(1);
        assert!(told.stdout.contains(&format!("containers use it: web (process {by} (")), "{told}");
        assert!(told.stdout.contains(") holds it); check again when"), "{told}");
        assert!(layer.join("stray").exists());
    };
    // Whoever starts it holds it, before there is anything that runs.
    let id = shop.inspect("web")["Id"].as_str().unwrap().to_owned();
    let directory = fs::File::open(shop.path("engine/containers").join(id)).unwrap();
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).unwrap();
    left(std::process::id());
    drop(directory);
    export_and_end(&shop, "web", &left, || {});
    // One that runs when that begins, and ends: it is held as long, and by nobody who would keep it from anything.
    shop.with("run", &["--detach", "--name", "run"], &["sleep", "1000"]).output().succeeds();
    shop.said(&["rm", "web"]);
    let told = shop.bulkhead(&["system", "check"]).output().exits_with(1);
    assert!(told.stdout.contains("containers use it: run (it runs); check again when"), "{told}");
    let left = |by: u32| {
        let told = shop.bulkhead(&["system", "check"]).output().exits_with(1);
        let whom = format!("containers use it: run (process {by} (bulkhead) reads it); check again when");
        assert!(told.stdout.contains(&whom), "{told}");
        assert!(layer.join("stray").exists());
    };
    export_and_end(&shop, "run", &left, || {
        for verb in [&["pause", "run"][..], &["unpause", "run"], &["restart", "-t0", "run"], &["kill", "run"]]
        {
            let begin = std::time::Instant::now();
            shop.said(verb);
            assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{verb:?} waited");
        }
        wait_until("it has ended", || shop.inspect("run")["State"]["Status"] == "exited");
    });
    assert!(shop.said(&["system", "check"]).contains("(mended: unpacked again from its blob)"));
    assert!(!layer.join("stray").exists());
    is_whole(&shop, "a layer that somebody had");
}

/// Exports a container, and does something else before that is read; a damaged layer is left alone as long.
fn export_and_end(shop: &Shop, name: &str, left: &dyn Fn(u32), between: impl FnOnce()) {
    // Longer than a pipe is: it goes on once it is read.
    let (archive, to) = std::io::pipe().unwrap();
    let export = shop.bulkhead(&["export", name]).stdout(to).spawn();
    wait_until("it writes", || rustix::io::ioctl_fionread(&archive).is_ok_and(|length| length > 0));
    between();
    left(export.pid());
    let list = shop.sandbox.command("tar").arg("-t").stdin(std::os::fd::OwnedFd::from(archive)).output();
    assert!(list.succeeds().stdout.contains("bin/busybox"));
    export.wait().succeeds();
}

/// Fails when the removal of a container makes a short archive of an export, and nobody learns of that.
#[test]
fn an_export_of_what_is_removed_meanwhile_fails() {
    let shop = shop!();
    let script =
        "i=0; while [ $i -lt 40 ]; do head -c 65536 /dev/zero >/$i; i=$((i+1)); done; echo made; sleep 1000";
    shop.with("run", &["--detach", "--name", "web"], &["sh", "-c", script]).output().succeeds();
    wait_until("it has files", || shop.said(&["logs", "web"]).contains("made"));
    let (archive, to) = std::io::pipe().unwrap();
    let export = shop.bulkhead(&["export", "web"]).stdout(to).spawn();
    wait_until("it writes", || rustix::io::ioctl_fionread(&archive).is_ok_and(|length| length > 0));
    shop.said(&["rm", "--force", "web"]);
    shop.sandbox.command("wc").arg("-c").stdin(std::os::fd::OwnedFd::from(archive)).output().succeeds();
    let failed = export.wait();
    assert!(!failed.status.success(), "{failed}");
}
