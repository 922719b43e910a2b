//! What is saved is loaded the same.

use std::fs;

use bulkhead_store::{Digest, Format, Kind};
use serde_json::json;

use crate::Ground;
use crate::archive::{Oci, layer, old_docker};

fn save(ground: &Ground, wanted: &[&str], format: Format) -> Vec<u8> {
    let mut archive = Vec::new();
    ground.store.save(wanted, format, &mut archive).unwrap();
    archive
}

#[test]
fn an_image_comes_back_with_its_id_its_manifest_and_its_names() {
    let oci = Oci::new(&[&layer("./a", "1"), &layer("./b", "2")]);
    let ground = Ground::new();
    ground.load(&oci.archive("alpine:3.22")).unwrap();
    let image = ground.store.image("alpine:3.22").unwrap();
    for format in [Format::DockerArchive, Format::OciArchive] {
        let archive = save(&ground, &["alpine:3.22"], format);
        assert_eq!(archive, save(&ground, &["alpine:3.22"], format), "the same image makes the same bytes");
        let other = Ground::new();
        other.load(&archive).unwrap();
        let found = other.store.image("alpine:3.22").unwrap();
        assert_eq!((found.id, found.manifest), (image.id, image.manifest), "{format:?}");
        assert_eq!((found.names, found.layers), (image.names.clone(), image.layers.clone()), "{format:?}");
    }
}

#[test]
fn plain_layers_make_an_archive_that_says_the_same_everywhere() {
    let ground = Ground::new();
    ground.load(&old_docker(&json!(["a:1"]), &[&layer("./a", "1")])).unwrap();
    let image = ground.store.image("a:1").unwrap();
    let other = Ground::new();
    other.load(&save(&ground, &["a:1"], Format::DockerArchive)).unwrap();
    assert_eq!(other.store.image("a:1").unwrap().manifest, image.manifest);
}

#[test]
fn names_are_those_that_were_asked_for() {
    let ground = Ground::new();
    let id = ground.load(&old_docker(&json!(["a:1", "a:2", "b"]), &[&layer("./a", "1")])).unwrap()[0].id;
    for (wanted, expected) in [
        (&["a:1"][..], &["a:1"][..]),
        (&["a"], &["a:1", "a:2"]),
        (&["a:2", "b"], &["a:2", "b:latest"]),
        (&[&id.hex()], &[]),
        (&[&id.hex(), "b"], &["b:latest"]),
    ] {
        for format in [Format::DockerArchive, Format::OciArchive] {
            let other = Ground::new();
            other.load(&save(&ground, wanted, format)).unwrap();
            assert_eq!(other.store.image(&id.hex()).unwrap().tags(), expected, "{wanted:?} as {format:?}");
        }
    }
    let error = ground.store.save(&["none"], Format::OciArchive, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[test]
fn a_directory_is_a_layout_and_must_be_empty() {
    let ground = Ground::new();
    ground.load(&old_docker(&json!(["a:1"]), &[&layer("./a", "1")])).unwrap();
    let directory = ground.scratch.path().join("layout");
    ground.store.save_directory(&["a:1"], &directory).unwrap();
    let other = Ground::new();
    other.store.load_path(&directory, &mut |_| ()).unwrap();
    assert_eq!(other.store.image("a:1").unwrap().id, ground.store.image("a:1").unwrap().id);
    let error = ground.store.save_directory(&["a:1"], &directory).unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
}

#[test]
fn a_damaged_blob_is_named_and_not_given_away() {
    let ground = Ground::new();
    ground.load(&old_docker(&json!(["a"]), &[&layer("./a", "1")])).unwrap();
    let blob = ground.store.image("a").unwrap().layers[0].blob;
    let path = ground.store.places().blob(&blob);
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = ground.store.save(&["a"], Format::DockerArchive, &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    let found = Digest::of(&bytes);
    assert!(
        error.to_string().starts_with(&format!("blob {blob} is damaged: its bytes have the digest {found}")),
        "{error}"
    );
}
