//! Removals that were begun by commands that were killed: whoever removes something, or wants the name, finishes them.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};

use super::is_whole;
use crate::shop::{IMAGE, Shop, shop};

/// Makes a container whose removal has begun, and whoever did that is dead.
fn half_removed(shop: &Shop, name: &str, options: &[&str]) -> String {
    shop.with("create", &[&["--name", name], options].concat(), &["true"]).output().succeeds();
    let id = shop.inspect(name)["Id"].as_str().unwrap().to_owned();
    let store = rusqlite::Connection::open(shop.path("engine/bulkhead.db")).unwrap();
    let marked = store.execute("UPDATE containers SET stage = 'removing' WHERE id = ?", [&id]).unwrap();
    assert_eq!(marked, 1);
    id
}

#[test]
fn the_next_removal_finishes_what_was_begun_and_nobody_is_at() {
    let shop = shop!();
    shop.with("create", &["--name", "other"], &["true"]).output().succeeds();
    let held = half_removed(&shop, "held", &[]);
    half_removed(&shop, "dead", &["-v", "data:/data"]);
    let lock = File::open(shop.path("engine/containers").join(held)).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    assert_eq!(shop.said(&["rm", "other"]), "other\n", "it tells of nothing else");
    assert_eq!(shop.said(&["ps", "-a", "--format", "{{.Names}}"]), "held\n");
    assert_eq!(shop.said(&["volume", "ls", "-q"]), "data\n", "it has a name");
    drop(lock);
    shop.said(&["container", "prune", "--force"]);
    assert_eq!(shop.said(&["ps", "-aq"]), "");
    is_whole(&shop, "two removals");
}

#[test]
fn what_is_as_good_as_gone_uses_neither_volume_nor_image() {
    let shop = shop!();
    half_removed(&shop, "one", &["-v", "data:/data"]);
    shop.said(&["volume", "rm", "data"]);
    half_removed(&shop, "two", &[]);
    let told = shop.said(&["rmi", IMAGE]);
    assert!(told.contains("Deleted: sha256:"), "{told}");
    is_whole(&shop, "two removals");
}

#[test]
fn the_name_of_what_is_as_good_as_gone_is_free() {
    let shop = shop!();
    let first = half_removed(&shop, "web", &[]);
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    assert_ne!(shop.inspect("web")["Id"], first);
    let second = half_removed(&shop, "db", &[]);
    let lock = File::open(shop.path("engine/containers").join(second)).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let taken = shop.with("create", &["--name", "db"], &["true"]).output();
    taken.exits_with(1).complains("db");
    drop(lock);
    shop.script(&["--rm", "--name", "db"], "echo ran").output().succeeds().prints("ran\n");
    assert_eq!(shop.said(&["ps", "-a", "--format", "{{.Names}}"]), "web\n");
    is_whole(&shop, "two removals");
}

/// Fails where who asks for a name hears what is wrong with the container that has it.
#[test]
fn a_name_is_taken_whatever_keeps_it_from_being_freed() {
    let shop = shop!();
    let id = half_removed(&shop, "web", &[]);
    let store = rusqlite::Connection::open(shop.path("engine/bulkhead.db")).unwrap();
    let document = |text: &str| {
        store.execute("UPDATE containers SET document = ? WHERE id = ?", [text, &id]).unwrap();
    };
    let text: String =
        store.query_row("SELECT document FROM containers WHERE id = ?", [&id], |row| row.get(0)).unwrap();
    document("{");
    let taken = shop.with("create", &["--name", "web"], &["true"]).output().exits_with(1);
    assert!(taken.stderr.contains("is in use by") && !taken.stderr.contains("document"), "{}", taken.stderr);
    document(&text);
    shop.with("create", &["--name", "web"], &["true"]).output().succeeds();
    assert_ne!(shop.inspect("web")["Id"], id.as_str());
    is_whole(&shop, "a removal");
}
