//! Killed at any call that changes something, the store is whole, or `check` makes it so; and nothing that was
//! acknowledged is lost.

use std::fs;
use std::path::Path;
use std::process::Command;

use bulkhead_store::{ContainerRecord, Depth, Durability, Force, Mend, Outcome, Store, VolumeRecord};
use bulkhead_testkit::{Scratch, requires, skip};
use serde_json::json;

use crate::again::{acting, again};
use crate::archive::{Oci, layer, old_docker};
use crate::{names, places, sentence};

/// The calls by which files and the database change. Between two of them the disk stays as it is.
const CHANGES: &str = "write,pwrite64,ftruncate,fallocate,fsync,fdatasync,syncfs,rename,renameat,renameat2,unlink,\
    unlinkat,rmdir,mkdir,mkdirat,fchmod,fchmodat,utimensat,linkat,symlinkat,mknodat";

/// How many moments of an action are tried.
const MOMENTS: usize = 40;

/// What is said when something was acknowledged.
const DONE: &str = "acknowledged";

/// Kills an action at moments of its whole life, each time on a copy of what was prepared.
#[track_caller]
fn sweep(test: &str, prepare: impl Fn(&Store), judge: impl Fn(&Store, bool)) {
    let scratch = Scratch::new();
    let base = scratch.path().join("base");
    prepare(&Store::open(&places(&base)).unwrap());
    let copy = |name: &str| {
        let directory = scratch.path().join(name);
        let copied = Command::new("cp").arg("-a").arg(&base).arg(&directory).status().unwrap();
        assert!(copied.success(), "copy the store");
        directory
    };
    let trace = scratch.path().join("trace");
    let trace = trace.to_str().unwrap();
    let whole = again(&["strace", "-f", "-e", CHANGES, "-o", trace], test, &copy("whole")).output().unwrap();
    let said = String::from_utf8_lossy(&whole.stdout).into_owned();
    assert!(
        whole.status.success() && said.contains(DONE),
        "it works when nobody kills it: {said}{}",
        String::from_utf8_lossy(&whole.stderr)
    );
    // strace counts for each thread apart.
    let mut calls = std::collections::BTreeMap::<String, usize>::new();
    for line in fs::read_to_string(trace).unwrap().lines().filter(|line| !line.contains("resumed>")) {
        *calls.entry(line.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let most = calls.values().copied().max().unwrap();
    let mut killed = 0;
    for moment in (1..=most).step_by((most / MOMENTS).max(1)) {
        let directory = copy(&format!("at-{moment}"));
        let inject = format!("inject={CHANGES}:signal=KILL:when={moment}");
        let output =
            again(&["strace", "-f", "-e", &inject, "-o", "/dev/null"], test, &directory).output().unwrap();
        killed += usize::from(!output.status.success());
        let acknowledged = String::from_utf8_lossy(&output.stdout).contains(DONE);
        let store = Store::open(&places(&directory)).unwrap();
        let findings = store.check(Depth::Contents, Mend::Yes, &|_| Ok(())).unwrap();
        for finding in &findings {
            assert!(matches!(finding.outcome, Outcome::Mended(_)), "killed at change {moment}: {finding:?}");
        }
        let left = store.check(Depth::Contents, Mend::Yes, &|_| Ok(())).unwrap();
        assert_eq!(left, [], "killed at change {moment}, a second check finds something");
        assert_eq!(
            names(&store.places().ingest()),
            [""; 0],
            "killed at change {moment}, something half made stays"
        );
        judge(&store, acknowledged);
        fs::remove_dir_all(&directory).unwrap();
    }
    assert!(killed * 2 > MOMENTS, "only {killed} were killed of {most} moments");
}

fn can_kill() -> bool {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    works.is_ok_and(|output| output.status.success())
}

fn first() -> Vec<u8> {
    old_docker(&json!(["first"]), &[&layer("./base", "base"), &layer("./first", "1")])
}

fn second() -> Vec<u8> {
    Oci::new(&[&layer("./base", "base"), &layer("./second", "2")]).archive("second:1")
}

fn load(store: &Store, archive: &[u8]) {
    store.load(&mut &archive[..], &mut |_| ()).unwrap_or_else(|error| panic!("load: {}", sentence(&error)));
}

/// An image is whole: its parts are what they were.
#[track_caller]
fn is_whole(store: &Store, name: &str, file: &str) {
    let image = store.image(name).unwrap();
    let lower = store.lower(&image);
    assert!(lower[0].join(file).exists() && lower[1].join("base").exists(), "{name} has its files");
    store.save(&[name], bulkhead_store::Format::OciArchive, &mut std::io::sink()).unwrap();
}

#[test]
fn a_load_is_whole_or_nothing() {
    if let Some(directory) = acting() {
        load(&Store::open(&places(&directory)).unwrap(), &second());
        println!("{DONE}");
        return;
    }
    requires!(can_kill(), "needs strace, and the right to trace");
    sweep(
        "crash::a_load_is_whole_or_nothing",
        |store| load(store, &first()),
        |store, acknowledged| {
            is_whole(store, "first", "first");
            if acknowledged || store.image("second:1").is_ok() {
                is_whole(store, "second:1", "second");
            } else {
                assert_eq!(names(&store.places().layers()).len(), 2, "nothing of it stays");
                load(store, &second());
                is_whole(store, "second:1", "second");
            }
        },
    );
}

#[test]
fn a_removal_takes_nothing_else_along_and_can_be_repeated() {
    if let Some(directory) = acting() {
        let store = Store::open(&places(&directory)).unwrap();
        store.remove_image("second:1", Force::No).unwrap();
        println!("{DONE}");
        return;
    }
    requires!(can_kill(), "needs strace, and the right to trace");
    let prepare = |store: &Store| {
        load(store, &first());
        load(store, &second());
    };
    sweep("crash::a_removal_takes_nothing_else_along_and_can_be_repeated", prepare, |store, acknowledged| {
        is_whole(store, "first", "first");
        match store.image("second:1") {
            Ok(_) => {
                assert!(!acknowledged, "it was said to be gone");
                is_whole(store, "second:1", "second");
                store.remove_image("second:1", Force::No).unwrap();
            }
            Err(error) => assert_eq!(error.kind(), bulkhead_store::Kind::NotFound),
        }
        assert_eq!(names(&store.places().layers()).len(), 2, "its own layer is gone, the shared one stays");
    });
}

#[test]
fn a_container_and_its_volume_come_and_go_whole() {
    let id = "1".repeat(64);
    if let Some(directory) = acting() {
        let store = Store::open(&places(&directory)).unwrap();
        let image = store.image("first").unwrap().id;
        let record =
            ContainerRecord { volumes: vec!["data".into()], ..ContainerRecord::new(&id, "web", Some(image)) };
        store.insert_container(&record, &[VolumeRecord::new("data")], Durability::PowerLoss, None).unwrap();
        fs::write(store.places().volume("data").join("data/file"), "kept").unwrap();
        store.delete_volume("old").unwrap();
        store.begin_removal(&id, Durability::Process, |_| Ok(None)).unwrap();
        store.delete_container(&id, None).unwrap();
        println!("{DONE}");
        return;
    }
    requires!(can_kill(), "needs strace, and the right to trace");
    let prepare = |store: &Store| {
        load(store, &first());
        store.insert_volume(&VolumeRecord::new("old")).unwrap();
        store.insert_volume(&VolumeRecord::new("other")).unwrap();
        fs::write(store.places().volume("other").join("data/file"), "kept").unwrap();
    };
    sweep("crash::a_container_and_its_volume_come_and_go_whole", prepare, |store, acknowledged| {
        let other = fs::read_to_string(store.places().volume("other").join("data/file")).unwrap();
        assert_eq!(other, "kept");
        for volume in store.volumes().unwrap() {
            assert!(
                store.places().volume(&volume.name).join("data").is_dir(),
                "{} has its directory",
                volume.name
            );
        }
        if let Ok(record) = store.container("web") {
            assert!(!acknowledged, "it was said to be gone");
            assert_eq!(record.volumes, ["data"]);
            store.delete_container(&id, None).unwrap();
        }
        is_whole(store, "first", "first");
    });
}

/// Several commands at once, some of which are killed: the others go on, and nothing is lost.
#[test]
fn loads_and_removals_by_many_processes_at_once_leave_a_whole_store() {
    let test = "crash::loads_and_removals_by_many_processes_at_once_leave_a_whole_store";
    if let Some(directory) = acting() {
        let (directory, number) =
            (directory.parent().unwrap().to_owned(), directory.file_name().unwrap().to_owned());
        act_at_random(&directory, number.to_str().unwrap().parse().unwrap());
        return;
    }
    if std::thread::available_parallelism().is_err() {
        skip!("nobody knows how many processors there are");
    }
    let scratch = Scratch::new();
    load(&Store::open(&places(scratch.path())).unwrap(), &first());
    let spawn = |number: usize| {
        let mut command = again(&[], test, &scratch.path().join(number.to_string()));
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let mut actors = Vec::from_iter((0..8).map(spawn));
    for (number, actor) in actors.iter_mut().enumerate().filter(|(number, _)| number % 4 == 3) {
        std::thread::sleep(std::time::Duration::from_millis(40 * number as u64));
        actor.kill().unwrap();
    }
    for (number, mut actor) in actors.into_iter().enumerate() {
        let status = actor.wait().unwrap();
        assert!(status.success() || number % 4 == 3, "actor {number} failed: {status}");
    }
    let store = Store::open(&places(scratch.path())).unwrap();
    for finding in store.check(Depth::Contents, Mend::Yes, &|_| Ok(())).unwrap() {
        assert!(matches!(finding.outcome, Outcome::Mended(_)), "{finding:?}");
    }
    assert_eq!(store.check(Depth::Contents, Mend::Yes, &|_| Ok(())).unwrap(), []);
    is_whole(&store, "first", "first");
}

fn act_at_random(directory: &Path, number: usize) {
    for round in 0..15 {
        let store = Store::open(&places(directory)).unwrap();
        match (number + round) % 3 {
            0 => load(&store, &second()),
            1 => match store.remove_image("second:1", Force::No) {
                Err(error) if error.kind() == bulkhead_store::Kind::NotFound => {}
                removed => drop(removed.unwrap()),
            },
            _ => drop(store.collect().unwrap()),
        }
    }
}
