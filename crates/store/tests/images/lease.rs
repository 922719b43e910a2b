//! Who holds a lease, and what a lease costs.

use std::fs;
use std::io::Write as _;

use bulkhead_store::Store;
use bulkhead_testkit::{find_program, is_root, requires};

use crate::again::{acting, again};
use crate::archive::{Oci, layer};
use crate::{Ground, names, places};

#[test]
fn a_collection_in_another_pid_namespace_leaves_what_is_being_made() {
    if let Some(directory) = acting() {
        Store::open(&places(&directory)).unwrap().collect().unwrap();
        return;
    }
    requires!(is_root(), "needs root to make a pid namespace");
    let ground = Ground::new();
    let lease = ground.store.lease("a test").unwrap();
    let mut blob = lease.blob().unwrap();
    blob.write_all(b"half").unwrap();
    let before = names(&ground.store.places().ingest());
    assert_eq!(before.len(), 2, "the blob and the lock: {before:?}");

    let test = "lease::a_collection_in_another_pid_namespace_leaves_what_is_being_made";
    let words = ["unshare", "--pid", "--fork", "--mount-proc"];
    let output = again(&words, test, ground.scratch.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");

    assert_eq!(names(&ground.store.places().ingest()), before, "what is being made was taken away");
    blob.write_all(b", whole").unwrap();
    let (digest, size) = blob.finish(None).unwrap();
    assert_eq!((ground.store.small_blob(&digest).unwrap(), size), (b"half, whole".to_vec(), 11));
    drop(lease);
    ground.store.collect().unwrap();
    ground.is_empty("without the lease");
}

#[test]
fn what_was_being_made_goes_with_whoever_was_killed() {
    if let Some(directory) = acting() {
        let store = Store::open(&places(&directory)).unwrap();
        let lease = store.lease("a test").unwrap();
        lease.document(b"{}").unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    }
    let ground = Ground::new();
    let test = "lease::what_was_being_made_goes_with_whoever_was_killed";
    assert!(!again(&[], test, ground.scratch.path()).output().unwrap().status.success(), "it lives");
    assert_eq!(names(&ground.store.places().ingest()).len(), 2, "the document and the lock");
    let collected = ground.store.collect().unwrap();
    assert_eq!((collected.leases, collected.strays), (1, 1));
    ground.is_empty("after who was killed");
}

/// A sync of the file system waits for everybody who writes there, not for us alone.
#[test]
fn many_layers_are_synced_at_once() {
    if let Some(directory) = acting() {
        let archive = fs::read(directory.join("archive")).unwrap();
        Store::open(&places(&directory)).unwrap().load(&mut &archive[..], &mut |_| ()).unwrap();
        return;
    }
    requires!(find_program("strace").is_some(), "strace is missing");
    let ground = Ground::new();
    let layers = Vec::from_iter((0..8).map(|number| layer(&format!("./{number}"), "content")));
    let layers = Vec::from_iter(layers.iter().map(Vec::as_slice));
    fs::write(ground.scratch.path().join("archive"), Oci::new(&layers).archive("many:1")).unwrap();
    let trace = ground.scratch.path().join("trace");
    let words = ["strace", "-f", "-e", "syncfs,fsync,fdatasync", "-o", trace.to_str().unwrap()];
    let output =
        again(&words, "lease::many_layers_are_synced_at_once", ground.scratch.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let trace = fs::read_to_string(trace).unwrap();
    let count = |call: &str| trace.lines().filter(|line| line.contains(&format!(" {call}("))).count();
    let counts = ["syncfs", "fsync", "fdatasync"].map(count);
    println!("syncfs, fsync, fdatasync: {counts:?}");
    assert_eq!(counts[0], 1, "eight layers and two documents are synced by {counts:?} calls");
    // Two directories, and the database.
    assert!(counts[1] + counts[2] <= 6, "eight layers and two documents are synced by {counts:?} calls");
    assert_eq!(ground.store.image("many:1").unwrap().layers.len(), 8);
}
