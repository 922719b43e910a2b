//! What is loaded is there, whoever wrote it.

use std::fs;
use std::path::Path;

use bulkhead_store::{Digest, Kind};
use serde_json::json;

use crate::archive::{Oci, Tar, blob, configuration, gzip, layer, old_docker};
use crate::{Ground, names};

#[test]
fn an_archive_of_docker_becomes_an_image_that_is_found_by_name_and_id() {
    let ground = Ground::new();
    let (lower, upper) = (layer("./etc/a", "lower"), layer("./b", "upper"));
    let archive = old_docker(&json!(["alpine:3.22", "quay.io/x/y:1"]), &[&lower, &upper]);
    let loaded = ground.load(&archive).unwrap();
    let id = Digest::of(&configuration(&[&lower, &upper]));
    assert_eq!(loaded[0].id, id, "the id is the digest of the configuration");
    assert!(!loaded[0].existed);

    let image = ground.store.image("alpine:3.22").unwrap();
    assert_eq!(image.id, id);
    assert_eq!(image.tags(), ["alpine:3.22", "quay.io/x/y:1"]);
    assert_eq!(image.configuration.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
    for wanted in [&id.to_string(), &id.hex(), &id.short(), "docker.io/library/alpine:3.22", "quay.io/x/y:1"]
    {
        assert_eq!(ground.store.image(wanted).unwrap(), image, "as {wanted}");
    }
    assert_eq!(ground.store.image("alpine").unwrap_err().kind(), Kind::NotFound);

    let lower_directories = ground.store.lower(&image);
    assert_eq!(fs::read_to_string(lower_directories[0].join("b")).unwrap(), "upper", "the topmost is first");
    assert_eq!(fs::read_to_string(lower_directories[1].join("etc/a")).unwrap(), "lower");
    assert_eq!(names(&ground.store.places().ingest()), [""; 0], "nothing half made is left");
}

#[test]
fn plain_layers_are_kept_compressed_under_a_manifest_of_ours() {
    let ground = Ground::new();
    let plain = layer("./a", &"a".repeat(100_000));
    ground.load(&old_docker(&json!(["a"]), &[&plain])).unwrap();
    let image = ground.store.image("a").unwrap();
    let kept = &image.layers[0];
    assert_eq!(kept.diff_id, Digest::of(&plain));
    assert!(kept.blob_size < 10_000, "{} bytes are compressed", kept.blob_size);
    let manifest: serde_json::Value =
        serde_json::from_slice(&ground.store.small_blob(&image.manifest).unwrap()).unwrap();
    assert_eq!(manifest["layers"][0]["digest"], kept.blob.to_string());
    assert_eq!(manifest["layers"][0]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(manifest["config"]["digest"], image.id.to_string());
    assert_eq!(image.size, 100_000, "an image's size is that of its files");
}

#[test]
fn a_layout_keeps_its_manifest_byte_for_byte() {
    let ground = Ground::new();
    let oci = Oci::new(&[&layer("./a", "1"), &layer("./b", "2")]);
    ground.load(&oci.archive("alpine:3.22")).unwrap();
    let image = ground.store.image("alpine:3.22").unwrap();
    assert_eq!(image.manifest, Digest::of(&oci.manifest));
    assert_eq!(ground.store.small_blob(&image.manifest).unwrap(), oci.manifest);
    assert_eq!(image.layers[1].blob, Digest::of(&oci.layers[1]));
}

#[test]
fn whatever_compresses_the_archive_it_is_the_same() {
    let plain = old_docker(&json!(["a"]), &[&layer("./a", "1")]);
    let zstd = zstd::encode_all(&plain[..], 3).unwrap();
    let ids = [plain.clone(), gzip(&plain), zstd].map(|archive| {
        let ground = Ground::new();
        ground.load(&archive).unwrap()[0].id
    });
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0], ids[2]);
}

#[test]
fn layers_may_be_compressed_by_zstd_and_have_any_order() {
    let ground = Ground::new();
    let plain = layer("./a", "1");
    let zstd = zstd::encode_all(&plain[..], 3).unwrap();
    let oci = Oci::of(configuration(&[&plain]), vec![zstd.clone()]);
    ground.load(&oci.archive("a:z")).unwrap();
    assert_eq!(ground.store.image("a:z").unwrap().layers[0].blob, Digest::of(&zstd));
}

#[test]
fn images_share_layers_and_an_empty_one_is_there_twice() {
    let ground = Ground::new();
    let (base, empty) = (layer("./base", "1"), Tar::new().end());
    let (one, two) = (layer("./one", "1"), layer("./two", "2"));
    ground.load(&old_docker(&json!(["one"]), &[&base, &empty, &one, &empty])).unwrap();
    ground.load(&old_docker(&json!(["two"]), &[&base, &two])).unwrap();
    assert_eq!(names(&ground.store.places().layers()).len(), 4, "base, empty, one and two");
    let image = ground.store.image("one").unwrap();
    assert_eq!(image.layers.len(), 4);
    assert_eq!(ground.store.lower(&image).len(), 3, "overlayfs gets no directory twice");
    assert_eq!(ground.store.images().unwrap().len(), 2);
}

#[test]
fn several_images_of_an_archive_come_at_once() {
    let ground = Ground::new();
    let (first, second) = (layer("./a", "1"), layer("./b", "2"));
    let configurations = [configuration(&[&first]), configuration(&[&first, &second])];
    let packed = json!([
        { "Config": blob(&configurations[0]), "RepoTags": ["first"], "Layers": [blob(&first)] },
        { "Config": blob(&configurations[1]), "RepoTags": null, "Layers": [blob(&first), blob(&second)] },
    ]);
    let archive = Tar::new()
        .file("manifest.json", packed.to_string().as_bytes())
        .file(&blob(&configurations[0]), &configurations[0])
        .file(&blob(&configurations[1]), &configurations[1])
        .file(&blob(&first), &first)
        .file(&blob(&second), &second)
        .end();
    let loaded = ground.load(&archive).unwrap();
    assert_eq!(loaded.len(), 2);
    let nameless = ground.store.image(&loaded[1].id.hex()).unwrap();
    assert!(nameless.names.is_empty(), "one without a name is dangling");
}

#[test]
fn loading_again_changes_nothing_and_a_name_moves_to_a_new_image() {
    let ground = Ground::new();
    let first = old_docker(&json!(["a"]), &[&layer("./a", "1")]);
    let before = ground.load(&first).unwrap()[0].id;
    let image = ground.store.image("a").unwrap();
    let again = ground.load(&first).unwrap();
    assert!(again[0].existed && again[0].taken.is_empty());
    assert_eq!(ground.store.image("a").unwrap(), image);

    let after = ground.load(&old_docker(&json!(["a"]), &[&layer("./a", "2")])).unwrap();
    assert_eq!(after[0].taken.len(), 1);
    assert_eq!(after[0].taken[0].1, before, "it tells who lost the name");
    assert_eq!(ground.store.image("a").unwrap().id, after[0].id);
    assert!(ground.store.image(&before.hex()).unwrap().names.is_empty(), "the old one stays, without a name");
}

#[test]
fn a_layout_in_a_directory_is_read_where_its_documents_point() {
    let ground = Ground::new();
    let directory = ground.scratch.path().join("layout");
    let oci = Oci::new(&[&layer("./a", "1")]);
    let index = json!({ "schemaVersion": 2, "manifests": [
        oci.descriptor(&json!({ "org.opencontainers.image.ref.name": "python-basic" })),
    ] });
    fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    for bytes in oci.blobs() {
        fs::write(directory.join(blob(bytes)), bytes).unwrap();
    }
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    let mut seen = Vec::new();
    let loaded = ground
        .store
        .load_path(&directory, &mut |progress| seen.push(progress.done == progress.size))
        .unwrap();
    assert_eq!(loaded[0].names[0].to_string(), "localhost/python-basic:latest");
    assert_eq!(ground.store.image("python-basic").unwrap().id, loaded[0].id, "a word means the local one");
    assert_eq!(seen.last(), Some(&true), "the last that is told of a layer is its end");

    fs::remove_file(directory.join("index.json")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", directory.join("index.json")).unwrap();
    let error = ground.store.load_path(&directory, &mut |_| ()).unwrap_err();
    assert!(
        error.to_string().contains("neither manifest.json nor index.json"),
        "a link stays inside: {error}"
    );
}

#[test]
fn of_an_index_the_image_for_this_machine_is_loaded() {
    let ground = Ground::new();
    let own = Oci::new(&[&layer("./a", "own")]);
    let architecture =
        serde_json::from_slice::<serde_json::Value>(&own.configuration).unwrap()["architecture"].clone();
    let with = |oci: &Oci, architecture: &serde_json::Value| {
        let mut descriptor = oci.descriptor(&json!(null));
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        descriptor
    };
    let foreign = Oci::new(&[&layer("./a", "foreign")]);
    let nested = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [with(&foreign, &json!("unknown")), with(&own, &architecture)],
    });
    let nested = nested.to_string().into_bytes();
    let index = json!({ "schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.index.v1+json", "digest": Digest::of(&nested), "size": nested.len(),
        "annotations": { "io.containerd.image.name": "docker.io/library/a:1" },
    }] });
    let mut tar = Tar::new().file(&blob(&nested), &nested).file("index.json", index.to_string().as_bytes());
    for bytes in own.blobs() {
        tar = tar.file(&blob(bytes), bytes);
    }
    ground.load(&tar.end()).unwrap();
    assert_eq!(ground.store.image("a:1").unwrap().id, Digest::of(&own.configuration));
}

#[test]
fn a_link_to_a_layer_is_the_layer() {
    let ground = Ground::new();
    let plain = layer("./a", "1");
    let configuration = configuration(&[&plain, &plain]);
    let packed = json!([{ "Config": "c.json", "RepoTags": ["a"], "Layers": ["1/layer.tar", "2/layer.tar"] }]);
    let archive = Tar::new()
        .link("2/layer.tar", "../1/layer.tar")
        .file("1/layer.tar", &plain)
        .file("c.json", &configuration)
        .file("manifest.json", packed.to_string().as_bytes())
        .end();
    ground.load(&archive).unwrap();
    assert_eq!(ground.store.image("a").unwrap().layers.len(), 2);
}

#[test]
fn what_no_image_of_an_archive_wants_does_not_stay() {
    let ground = Ground::new();
    let (wanted, spare) = (layer("./a", "1"), layer("./spare", "1"));
    let configuration = configuration(&[&wanted]);
    let packed = json!([{ "Config": "c.json", "RepoTags": ["a"], "Layers": ["layer.tar"] }]);
    let archive = Tar::new()
        .file("spare.tar", &spare)
        .file("layer.tar", &wanted)
        .file("c.json", &configuration)
        .file("manifest.json", packed.to_string().as_bytes())
        .end();
    ground.load(&archive).unwrap();
    let layers = names(&ground.store.places().layers());
    assert_eq!(layers, [format!("sha256-{}", Digest::of(&wanted).hex())]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let ground = Ground::new();
    let error = ground.store.load_path(Path::new("/no/such/archive"), &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "open /no/such/archive");
}
