//! What went wrong behind the store's back is found and named, and mended where there is a way.

use std::cell::Cell;
use std::fs;
use std::rc::Rc;

use bulkhead_store::{
    ContainerRecord, Depth, Digest, Durability, Finding, Kind, Mend, Name, Outcome, VolumeRecord,
};
use serde_json::json;

use crate::Ground;
use crate::archive::{Oci, Tar, layer, old_docker};

fn loaded() -> Ground {
    let ground = Ground::new();
    ground.load(&Oci::new(&[&layer("./a", "content"), &layer("./b", "2")]).archive("a:1")).unwrap();
    ground
}

fn check(ground: &Ground, depth: Depth, mend: Mend) -> Vec<Finding> {
    ground.store.check(depth, mend, &|_| Ok(())).unwrap()
}

#[track_caller]
fn only(findings: &[Finding]) -> (&str, &str, &Outcome) {
    let [finding] = findings else { panic!("one thing is wrong, not {findings:?}") };
    (&finding.subject, &finding.problem, &finding.outcome)
}

#[test]
fn a_store_that_is_as_it_should_be_has_no_findings() {
    let ground = loaded();
    for (depth, mend) in [(Depth::Metadata, Mend::No), (Depth::Contents, Mend::Yes)] {
        assert_eq!(check(&ground, depth, mend), []);
    }
}

/// Fails when what has no time in an archive is compared by the time at which it was unpacked.
#[test]
fn a_layer_that_deletes_files_is_as_it_was_unpacked() {
    let ground = Ground::new();
    let first = Tar::new().file("gone", b"1").file("deep/gone", b"2").file("emptied/file", b"3").end();
    let second = Tar::new()
        .directory("./")
        .file(".wh.gone", b"")
        .file("deep/.wh.gone", b"")
        .file("emptied/.wh..wh..opq", b"")
        .file("new/deep/file", b"4")
        .end();
    ground.load(&Oci::new(&[&first, &second]).archive("a:1")).unwrap();
    assert_eq!(check(&ground, Depth::Contents, Mend::No), []);
}

#[test]
fn a_layer_that_changed_is_unpacked_again() {
    let ground = loaded();
    let image = ground.store.image("a:1").unwrap();
    let diff_id = image.layers[0].diff_id;
    let file = ground.store.places().layer(&diff_id).join("a");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let damages: [(&dyn Fn(), Depth, &str); 4] = [
        (&|| fs::remove_file(&file).unwrap(), Depth::Metadata, "added, lost or changed"),
        (&|| fs::write(file.with_file_name("new"), "").unwrap(), Depth::Metadata, "added, lost or changed"),
        (&|| fs::remove_dir_all(file.parent().unwrap()).unwrap(), Depth::Metadata, "is not there"),
        (
            &|| {
                fs::write(&file, "c0ntent").unwrap();
                fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
            },
            Depth::Contents,
            "its file a has other contents",
        ),
    ];
    for (damage, depth, expected) in damages {
        damage();
        let told = check(&ground, depth, Mend::No);
        let (subject, problem, outcome) = only(&told);
        assert_eq!(subject, format!("layer {diff_id}"));
        assert!(problem.contains(expected), "{problem}, not {expected}");
        assert!(matches!(outcome, Outcome::Left(_)), "nothing is mended unless it is asked for");
        let mended = check(&ground, depth, Mend::Yes);
        assert!(matches!(only(&mended).2, Outcome::Mended(_)), "{mended:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "content");
        assert_eq!(check(&ground, Depth::Contents, Mend::No), [], "and then all is well");
    }
}

#[test]
fn a_layer_under_a_running_container_is_left_where_it_is() {
    let ground = loaded();
    let image = ground.store.image("a:1").unwrap();
    let record = ContainerRecord::new(&"1".repeat(64), "web", Some(image.id));
    ground.store.insert_container(&record, &[], Durability::Process, None).unwrap();
    let directory = ground.store.places().layer(&image.layers[0].diff_id);
    fs::write(directory.join("new"), "").unwrap();
    let asked = Cell::new(0);
    let held = Rc::new(Cell::new(0));
    let runs = || Err("it runs".to_owned());
    let is_in_use = |_: &ContainerRecord| runs();
    let started_meanwhile =
        |_: &ContainerRecord| if asked.replace(asked.get() + 1) == 0 { Ok(Hold::of(&held)) } else { runs() };
    let another_made_meanwhile = |_: &ContainerRecord| {
        if asked.replace(asked.get() + 1) == 3 {
            let late = ContainerRecord::new(&"2".repeat(64), "late", Some(image.id));
            ground.store.insert_container(&late, &[], Durability::Process, None).unwrap();
        }
        Ok(Hold::of(&held))
    };
    let checks: [(&Holding<'_>, &str); 3] = [
        (&is_in_use, "web (it runs)"),
        (&started_meanwhile, "web (it runs)"),
        (&another_made_meanwhile, "late (it is new)"),
    ];
    for (hold, name) in checks {
        let findings = ground.store.check(Depth::Metadata, Mend::Yes, hold).unwrap();
        let (_, _, outcome) = only(&findings);
        assert_eq!(
            *outcome,
            Outcome::Left(format!(
                "containers use it: {name}; check again when these do not run and nobody reads, changes or starts them"
            ))
        );
        assert!(directory.join("new").exists());
        assert_eq!(held.get(), 0, "what was held is given back");
    }
    let findings = ground.store.check(Depth::Metadata, Mend::Yes, &|_| Ok(Hold::of(&held))).unwrap();
    assert!(matches!(only(&findings).2, Outcome::Mended(_)), "stopped, it is mended");
}

type Holding<'a> = dyn Fn(&ContainerRecord) -> Result<Hold, String> + 'a;

/// A container that is held, which is counted.
struct Hold(Rc<Cell<u32>>);

impl Hold {
    fn of(count: &Rc<Cell<u32>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[test]
fn a_damaged_blob_is_named_with_its_images_and_comes_back_by_loading_them() {
    let archive = Oci::new(&[&layer("./a", "content"), &layer("./b", "2")]).archive("a:1");
    for part in ["layer", "manifest", "configuration"] {
        let ground = Ground::new();
        ground.load(&archive).unwrap();
        let image = ground.store.image("a:1").unwrap();
        let digest = match part {
            "layer" => image.layers[0].blob,
            "manifest" => image.manifest,
            _ => image.id,
        };
        let path = ground.store.places().blob(&digest);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(check(&ground, Depth::Metadata, Mend::No), [], "that takes a look at the bytes");
        let findings = check(&ground, Depth::Contents, Mend::Yes);
        let (subject, problem, outcome) = only(&findings);
        assert_eq!(subject, format!("blob {digest}"), "{part}");
        assert!(problem.starts_with("its bytes have the digest"), "{problem}");
        assert_eq!(*outcome, Outcome::Left("pull or load a:1 again".into()));

        ground.load(&archive).unwrap();
        assert_eq!(check(&ground, Depth::Contents, Mend::No), [], "the {part} is whole again");
        assert_eq!(ground.store.image("a:1").unwrap(), image);
    }
}

#[test]
fn where_layer_and_blob_are_gone_the_image_is_named_and_loaded_again() {
    let archive = old_docker(&json!(["a:1"]), &[&layer("./a", "content")]);
    let ground = Ground::new();
    ground.load(&archive).unwrap();
    let image = ground.store.image("a:1").unwrap();
    fs::remove_file(ground.store.places().blob(&image.layers[0].blob)).unwrap();
    fs::remove_dir_all(ground.store.places().layer(&image.layers[0].diff_id)).unwrap();
    let findings = check(&ground, Depth::Metadata, Mend::Yes);
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert_eq!(findings[1].outcome, Outcome::Left("its blob is damaged, too: pull or load a:1 again".into()));
    let error = ground.store.image("a:1").unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged, "it is not used: {error}");
    assert!(ground.store.images().unwrap()[0].damage.is_some(), "but listed");

    ground.load(&archive).unwrap();
    assert_eq!(check(&ground, Depth::Contents, Mend::No), []);
    assert_eq!(ground.store.image("a:1").unwrap().id, image.id);
}

#[test]
fn an_image_that_cannot_be_used_can_be_removed() {
    let ground = loaded();
    let image = ground.store.image("a:1").unwrap();
    fs::write(ground.store.places().blob(&image.id), "{}").unwrap();
    assert_eq!(ground.store.image("a:1").unwrap_err().kind(), Kind::Damaged);
    assert!(ground.store.remove_image("a:1", bulkhead_store::Force::No).unwrap().is_deleted);
    ground.is_empty("after it");
}

#[test]
fn strays_and_void_leases_go() {
    let ground = loaded();
    let places = ground.store.places();
    fs::write(places.blob(&Digest::of(b"stray")), "stray").unwrap();
    fs::write(places.blobs().join("no digest"), "stray").unwrap();
    fs::create_dir_all(places.layer(&Digest::of(b"stray")).join("etc")).unwrap();
    fs::create_dir_all(places.ingest().join("0123-1/etc")).unwrap();
    let told = check(&ground, Depth::Metadata, Mend::No);
    let subjects =
        |findings: &[Finding]| Vec::from_iter(findings.iter().map(|finding| finding.subject.clone()));
    assert_eq!(subjects(&told), ["4 files"]);
    assert!(matches!(only(&told).2, Outcome::Left(_)), "nothing is removed unless it is asked for");
    assert_eq!(subjects(&check(&ground, Depth::Metadata, Mend::Yes)), ["4 files"]);
    assert_eq!(check(&ground, Depth::Contents, Mend::Yes), []);

    // What a living process makes is none.
    let lease = ground.store.lease("a test").unwrap();
    let mut blob = lease.blob().unwrap();
    std::io::Write::write_all(&mut blob, b"half").unwrap();
    assert_eq!(check(&ground, Depth::Contents, Mend::Yes), []);
    let digest = blob.finish(None).unwrap().0;
    assert_eq!(check(&ground, Depth::Contents, Mend::Yes), []);
    assert_eq!(ground.store.small_blob(&digest).unwrap(), b"half");
}

#[test]
fn volumes_are_never_thrown_away() {
    let ground = Ground::new();
    let places = ground.store.places();
    ground.store.insert_volume(&VolumeRecord::new("empty")).unwrap();
    fs::remove_dir_all(places.volume("empty")).unwrap();
    fs::create_dir_all(places.volume("lost").join("data")).unwrap();
    fs::write(places.volume("lost").join("data/file"), "kept").unwrap();
    let findings = check(&ground, Depth::Metadata, Mend::Yes);
    let told =
        Vec::from_iter(findings.iter().map(|finding| (finding.subject.as_str(), finding.problem.as_str())));
    assert_eq!(
        told,
        [("volume empty", "its directory is not there"), ("volume lost", "its directory has no record")]
    );
    assert_eq!(ground.store.volumes().unwrap().len(), 2);
    assert_eq!(fs::read_to_string(places.volume("lost").join("data/file")).unwrap(), "kept");
    assert!(places.volume("empty").join("data").is_dir());
    assert_eq!(check(&ground, Depth::Contents, Mend::No), []);
}

#[test]
fn usage_counts_shared_layers_once() {
    let ground = Ground::new();
    let base = layer("./base", &"b".repeat(1000));
    ground.load(&old_docker(&json!(["a"]), &[&base, &layer("./a", &"a".repeat(10))])).unwrap();
    ground.load(&old_docker(&json!(["b"]), &[&base, &layer("./b", &"b".repeat(20))])).unwrap();
    let record = ContainerRecord {
        volumes: vec!["data".into()],
        ..ContainerRecord::new(&"1".repeat(64), "web", Some(ground.store.image("a").unwrap().id))
    };
    ground.store.insert_container(&record, &[VolumeRecord::new("data")], Durability::Process, None).unwrap();
    fs::write(ground.store.places().volume("data").join("data/file"), vec![1; 10_000]).unwrap();
    let usage = ground.store.usage().unwrap();
    assert_eq!(usage.layers, 1030);
    assert_eq!(usage.reclaimable, 20, "only b's own layer");
    let of = |name: &str| {
        let name = Name::parse(name).unwrap();
        let found = usage.images.iter().find(|usage| usage.image.names.contains(&name)).unwrap();
        (found.unique, found.shared, found.containers)
    };
    assert_eq!((of("a"), of("b")), ((10, 1000, 1), (20, 1000, 0)));
    assert_eq!(usage.volumes[0].containers, 1);
    assert!(usage.volumes[0].size >= 10_000);
    assert_eq!(ground.store.container_size(&record.id).unwrap(), 0, "it has no directory yet");
}
