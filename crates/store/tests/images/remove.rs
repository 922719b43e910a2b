//! Names and images that go.

use std::fs;

use bulkhead_store::{ContainerRecord, Digest, Durability, Error, Event, Force, Kind, Name, Store, Subject};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;

use crate::archive::{layer, old_docker};
use crate::{Ground, names};

fn load(ground: &Ground, tags: &[&str], content: &str) -> Digest {
    ground.load(&old_docker(&json!(tags), &[&layer("./base", "base"), &layer("./a", content)])).unwrap()[0].id
}

fn familiar(names: &[Name]) -> Vec<String> {
    names.iter().map(Name::familiar).collect()
}

#[test]
fn the_last_name_takes_the_image_along_and_others_do_not() {
    let ground = Ground::new();
    let id = load(&ground, &["a:1", "a:2", "b"], "1");
    let removed = ground.store.remove_image("a:1", Force::No).unwrap();
    assert_eq!((familiar(&removed.untagged), removed.is_deleted), (vec!["a:1".to_owned()], false));
    let removed = ground.store.remove_image("b", Force::No).unwrap();
    assert!(!removed.is_deleted);
    let removed = ground.store.remove_image("a:2", Force::No).unwrap();
    assert!(removed.is_deleted && removed.id == id);
    assert_eq!(removed.collected.layers.len(), 2);
    ground.is_empty("after its last name");
}

#[test]
fn an_id_with_several_repositories_wants_force() {
    let ground = Ground::new();
    let id = load(&ground, &["a:1", "b"], "1").hex();
    let error = ground.store.remove_image(&id, Force::No).unwrap_err();
    assert!(matches!(&error, Error::SeveralNames { names, .. } if names.len() == 2), "{error}");
    let removed = ground.store.remove_image(&id, Force::Yes).unwrap();
    assert_eq!((removed.untagged.len(), removed.is_deleted), (2, true));
    ground.is_empty("after force");
}

#[test]
fn names_with_digests_go_with_the_last_tag_of_their_repository() {
    let ground = Ground::new();
    let id = load(&ground, &["a:1"], "1");
    let pinned = Name::parse("a").unwrap().at(Digest::of(b"manifest"));
    ground.store.tag(&id, &pinned).unwrap();
    assert_eq!(ground.store.image(&pinned.familiar()).unwrap().digests(), [pinned.familiar()]);
    assert_eq!(
        ground.store.image(&format!("a:9@{}", Digest::of(b"manifest"))).unwrap().id,
        id,
        "a digest outranks a tag"
    );
    let removed = ground.store.remove_image("a:1", Force::No).unwrap();
    assert_eq!((removed.untagged.len(), removed.is_deleted), (2, true));
}

#[test]
fn a_container_keeps_its_image() {
    let ground = Ground::new();
    let id = load(&ground, &["a"], "1");
    let record = ContainerRecord::new(&"1".repeat(64), "web", Some(id));
    ground.store.insert_container(&record, &[], Durability::Process, None).unwrap();
    for wanted in ["a", &id.hex()] {
        let error = ground.store.remove_image(wanted, Force::No).unwrap_err();
        assert_eq!(error.to_string(), format!("image {wanted} is in use by container web"));
    }
    // Another name can go all the same.
    ground.store.tag(&id, &Name::parse("b").unwrap()).unwrap();
    ground.store.remove_image("b", Force::No).unwrap();

    let removed = ground.store.remove_image("a", Force::Yes).unwrap();
    assert_eq!((removed.untagged.len(), removed.is_deleted), (1, false), "by force only the name goes");
    ground.store.collect().unwrap();
    let image = ground.store.image(&id.hex()).unwrap();
    assert!(ground.store.lower(&image).iter().all(|layer| layer.exists()), "its layers stay");

    ground.store.delete_container(&record.id, None).unwrap();
    assert!(ground.store.remove_image(&id.hex(), Force::No).unwrap().is_deleted);
    ground.is_empty("after the container");
}

#[test]
fn shared_layers_stay_as_long_as_one_image_has_them() {
    let ground = Ground::new();
    load(&ground, &["a"], "1");
    load(&ground, &["b"], "2");
    let removed = ground.store.remove_image("a", Force::No).unwrap();
    assert_eq!(removed.collected.layers.len(), 1, "only its own layer");
    let image = ground.store.image("b").unwrap();
    assert!(ground.store.lower(&image).iter().all(|layer| layer.exists()));
    ground.store.remove_image("b", Force::No).unwrap();
    ground.is_empty("after both");
}

#[test]
fn what_a_lease_claims_stays_until_it_is_given_back() {
    let ground = Ground::new();
    let lease = ground.store.lease("a test").unwrap();
    let digest = lease.document(b"{}").unwrap();
    assert!(ground.store.small_blob(&digest).is_err(), "it has a name before it was synced");
    lease.settle().unwrap();
    ground.store.collect().unwrap();
    assert_eq!(ground.store.small_blob(&digest).unwrap(), b"{}");
    // The image that it is of goes, and another that is being pulled wants its layer.
    load(&ground, &["a"], "1");
    let layer = ground.store.image("a").unwrap().layers[1].clone();
    assert_eq!(lease.has(&layer.diff_id).unwrap(), Some(layer.clone()));
    ground.store.remove_image("a", Force::No).unwrap();
    assert!(
        ground.store.places().layer(&layer.diff_id).exists()
            && ground.store.places().blob(&layer.blob).exists()
    );
    assert_eq!(names(&ground.store.places().layers()).len(), 1);
    drop(lease);
    ground.store.collect().unwrap();
    ground.is_empty("after the lease");
}

#[test]
fn a_name_alone_goes_and_the_image_stays() {
    let ground = Ground::new();
    let id = load(&ground, &["a"], "1");
    let name = Name::parse("a").unwrap();
    assert_eq!(ground.store.untag(&name).unwrap(), id);
    assert_eq!(ground.store.untag(&name).unwrap_err().kind(), Kind::NotFound);
    assert!(ground.store.image(&id.hex()).unwrap().names.is_empty());
}

#[test]
fn nobody_waits_while_the_labels_of_an_image_are_read() {
    let ground = Ground::new();
    let id = load(&ground, &["a:1", "a:2", "a:3"], "1");
    let name = |text: &str| Name::parse(text).unwrap();
    let blob = ground.store.places().root.join("blobs/sha256").join(id.hex());
    let configuration = fs::read(&blob).unwrap();
    fs::remove_file(&blob).unwrap();
    mknodat(CWD, &blob, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let changes: [&(dyn Fn(&Store) + Sync); 4] = [
        &|store| assert_eq!(store.tag(&id, &name("a:4")).unwrap(), None),
        &|store| assert_eq!(store.untag(&name("a:4")).unwrap(), id),
        &|store| drop(store.remove_image("a:3", Force::No).unwrap()),
        &|store| store.record_push(&id, &name("a:2"), &id).unwrap(),
    ];
    for change in changes {
        std::thread::scope(|scope| {
            scope.spawn(|| change(&Store::open(ground.store.places()).unwrap()));
            // It is opened when somebody opens it to read, who then waits for what it says.
            let slow = fs::OpenOptions::new().write(true).open(&blob).unwrap();
            ground.store.record_event(&Event::new(Subject::Container, "start", "0123")).unwrap();
            std::io::Write::write_all(&mut &slow, &configuration).unwrap();
        });
    }
    let told = ground.store.events(None, None).unwrap();
    let actions = Vec::from_iter(told.iter().map(|event| event.action.as_str()));
    assert_eq!(actions, ["load", "start", "tag", "start", "untag", "start", "untag", "start", "push"]);
}
