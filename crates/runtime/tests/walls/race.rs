//! Containers that share a volume and exchange what is in it while the runtime mounts there: CVE-2021-30465,
//! CVE-2023-28642, CVE-2024-45310.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use bulkhead_testkit::{Bundle, Sandbox, is_root, requires};
use rustix::fs::{CWD, RenameFlags};
use serde_json::json;

use crate::outside::Outside;
use crate::sandbox;

/// How many containers a race creates.
fn rounds() -> usize {
    std::env::var("BULKHEAD_RACES").ok().and_then(|count| count.parse().ok()).unwrap_or(40)
}

/// Exchanges two entries of a directory again and again while `work` goes on, and returns how often.
fn exchanging(pairs: &[(PathBuf, PathBuf)], work: impl FnOnce()) -> usize {
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for (one, other) in pairs {
                    rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        // The thread must end however the work does.
        let stopper = Stopper(&stop);
        work();
        drop(stopper);
    });
    count.into_inner()
}

struct Stopper<'a>(&'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A volume with a directory `name` and a link of the other name that leads outside.
fn volume(sandbox: &Sandbox, outside: &Outside, names: &[&str]) -> (PathBuf, Vec<(PathBuf, PathBuf)>) {
    let volume = sandbox.directory().join("volume");
    fs::create_dir(&volume).unwrap();
    let mut pairs = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let (directory, link) = (volume.join(name), volume.join(format!("{name}-link")));
        fs::create_dir(&directory).unwrap();
        symlink(&outside.ways("inner")[number % 2], &link).unwrap();
        pairs.push((directory, link));
    }
    (volume, pairs)
}

/// Runs a container again and again. It may succeed or be refused, and prints nothing when what it has is inside.
fn run_often(sandbox: &Sandbox, bundle: &Bundle, outside: &Outside) {
    let mut succeeded = 0;
    for _ in 0..rounds() {
        let output = sandbox.run(bundle).output();
        assert!(output.stdout.is_empty(), "everything is mounted inside the container\n{output}");
        assert!(output.code() < 2, "it ends by itself\n{output}");
        succeeded += usize::from(output.code() == 0);
    }
    assert!(succeeded > 0, "the race is not lost every time");
    outside.is_untouched();
}

/// A mount that went elsewhere is in the host's directories, or nowhere in sight: the container counts its own.
fn count_mounts(count: usize) -> String {
    format!("test $(grep -c ' race rw' /proc/self/mountinfo) = {count} || cat /proc/self/mountinfo")
}

/// Needs targets that are descriptors, resolved in the root and mounted on by `move_mount`. Must fail with
/// `open_in_root` resolving without RESOLVE_IN_ROOT: the file system is mounted at the host's directory, and
/// directories are made in it.
#[test]
fn mount_targets_that_are_exchanged_stay_inside() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let (volume, pairs) = volume(&sandbox, &outside, &["plain", "deep"]);
    let bundle = sandbox
        .bundle("targets")
        .bind(&volume, "/volume", &[])
        .mount("tmpfs", "race", "/volume/plain", &[])
        .mount("tmpfs", "race", "/volume/deep/made/here", &[])
        .script(&count_mounts(2));
    let exchanges = exchanging(&pairs, || run_often(&sandbox, &bundle, &outside));
    assert!(exchanges > rounds(), "the exchange was faster than the runtime: {exchanges}");
}

/// The same for files: what is missing is made, and must be made inside. As above.
#[test]
fn file_targets_that_are_exchanged_stay_inside() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let (volume, pairs) = volume(&sandbox, &outside, &["files", "nodes"]);
    let source = sandbox.directory().join("source");
    fs::write(&source, "the source\n").unwrap();
    let bundle = sandbox
        .bundle("files")
        .bind(&volume, "/volume", &[])
        .bind(&source, "/volume/files/one", &[])
        .bind(&source, "/volume/files/below/two", &[])
        .edit(|config| {
            config["linux"]["devices"] =
                json!([{ "path": "/volume/nodes/null", "type": "c", "major": 1, "minor": 3 }]);
        })
        .script(&format!(
            "test $(grep -c {} /proc/self/mountinfo) = 2 || cat /proc/self/mountinfo",
            "/source"
        ));
    exchanging(&pairs, || run_often(&sandbox, &bundle, &outside));
    for place in [outside.path().join("inner"), volume.join("nodes"), volume.join("files")] {
        assert!(place.symlink_metadata().is_ok(), "{} is there", place.display());
    }
}

/// Masks and read-only paths that are exchanged cover something inside or fail. As above.
#[test]
fn masked_paths_that_are_exchanged_stay_inside() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let (volume, pairs) = volume(&sandbox, &outside, &["masked", "frozen"]);
    let bundle = sandbox
        .bundle("masks")
        .bind(&volume, "/volume", &[])
        .edit(|config| config["linux"]["maskedPaths"] = json!(["/volume/masked"]))
        .edit(|config| config["linux"]["readonlyPaths"] = json!(["/volume/frozen"]))
        .script("true");
    exchanging(&pairs, || run_often(&sandbox, &bundle, &outside));
}

/// The working directory is made where it is missing. As above.
#[test]
fn working_directories_that_are_exchanged_stay_inside() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    let (volume, pairs) = volume(&sandbox, &outside, &["work"]);
    let bundle = sandbox
        .bundle("cwd")
        .bind(&volume, "/volume", &[])
        .edit(|config| config["process"]["cwd"] = "/volume/work/made/here".into())
        .script("test -e ../../../outside/secret && echo escaped; true");
    exchanging(&pairs, || run_often(&sandbox, &bundle, &outside));
}

/// `/proc` itself, in a root that another container shares, becomes a link after it was looked at. Needs the check and
/// the use to be one call. Must fail when the check is an `lstat` before the lookup.
#[test]
fn proc_that_is_exchanged_for_a_link_is_refused() {
    requires!(is_root(), "needs root");
    let sandbox = sandbox();
    let outside = Outside::new(&sandbox);
    // The mount goes with its directory, whatever that is called at the moment; a few of many tries find it.
    let script = "for try in $(seq 100); do \
                  cat /proc/self/mountinfo /link/self/mountinfo 2>/dev/null | grep -qE ' /(proc|link) .* - proc ' \
                  && exit; done; echo elsewhere";
    let bundle = sandbox
        .bundle("proc")
        .script(script)
        .edit(|config| config["linux"]["maskedPaths"] = json!([]))
        .edit(|config| config["linux"]["readonlyPaths"] = json!([]));
    let proc = bundle.rootfs().join("proc");
    let link = bundle.rootfs().join("link");
    symlink("tmp", &link).unwrap();
    exchanging(&[(proc, link)], || run_often(&sandbox, &bundle, &outside));
}
