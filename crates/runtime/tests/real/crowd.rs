//! Many containers at once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, thread};

use bulkhead_testkit::{Bundle, Sandbox, cgroups, is_root, requires};

use crate::{sandbox, sleeper};

/// How many containers live at the same time.
const CROWD: usize = 200;
/// How many commands of the runtime run at the same time.
const HANDS: usize = 8;

/// Does something once for each member of the crowd, with several at a time.
fn for_each(work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while let number @ 0..CROWD = next.fetch_add(1, Ordering::Relaxed) {
                    work(number);
                }
            });
        }
    });
}

/// Makes a bundle like another one, with the same root file system, and returns its directory.
fn copy(sandbox: &Sandbox, model: &Bundle, id: &str) -> PathBuf {
    let directory = sandbox.directory().join("bundles").join(id);
    fs::create_dir(&directory).unwrap();
    let mut config = model.config().clone();
    config["root"]["path"] = model.rootfs().display().to_string().into();
    config["linux"]["cgroupsPath"] = cgroup(sandbox, id).into();
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    directory
}

fn cgroup(sandbox: &Sandbox, id: &str) -> String {
    format!("/{}/{id}", sandbox.name())
}

/// The leak check at the sandbox's end sees mounts, processes, cgroups, namespaces and files.
#[test]
fn two_hundred_containers_at_once_leave_nothing() {
    requires!(is_root(), "needs root");
    requires!(Path::new("/sys/fs/cgroup").is_dir() && !cgroups::hierarchies().is_empty(), "needs cgroups");
    let sandbox = sandbox();
    let model = sleeper(&sandbox, "model");
    let ids = Vec::from_iter((0..CROWD).map(|number| sandbox.id(&format!("crowd-{number}"))));
    let verb = |words: &[&str], id: &str| sandbox.runtime().args(words).arg(id);

    for_each(|number| {
        let id = ids[number].as_str();
        let directory = copy(&sandbox, &model, id);
        sandbox.runtime().args(["create", "--bundle"]).arg(directory).arg(id).output().succeeds();
        verb(&["start"], id).output().succeeds();
    });
    let listed = sandbox.runtime().args(["list", "--quiet"]).output().succeeds().stdout;
    assert_eq!(listed.lines().count(), CROWD, "all live at the same time");
    for_each(|number| {
        let greeting = format!("echo {number} of $(hostname), pid $$");
        let output = verb(&["exec"], &ids[number]).args(["sh", "-c", &greeting]).output().succeeds();
        assert!(output.stdout.starts_with(&format!("{number} of testkit, pid ")), "{output}");
    });
    for_each(|number| {
        verb(&["delete", "--force"], &ids[number]).output().succeeds().prints("");
    });
    sandbox.runtime().args(["list", "--quiet"]).output().succeeds().prints("");
    for id in &ids {
        assert!(sandbox.cgroups(&cgroup(&sandbox, id)).is_empty(), "no cgroup of {id} is left");
    }
}
