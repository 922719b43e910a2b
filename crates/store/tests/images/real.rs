//! What others write is loaded, and what is saved they read: skopeo and umoci.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bulkhead_store::{Digest, Format, Image};
use bulkhead_testkit::{cached, requires};
use serde_json::json;

use crate::Ground;
use crate::archive::{layer, old_docker};

/// A program of those that `cargo xtask images` unpacks.
fn program(name: &str) -> Option<PathBuf> {
    cached("images").map(|directory| directory.join("usr/bin").join(name)).filter(|program| program.is_file())
}

fn run(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(program(name).unwrap()).args(arguments).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn run_tar(directory: &Path, archive: &Path) {
    let status =
        Command::new("tar").args(["-C", text(directory), "-cf", text(archive), "."]).status().unwrap();
    assert!(status.success(), "pack {}", directory.display());
}

fn skopeo(arguments: &[&str]) -> String {
    run("skopeo", &[&["--insecure-policy"], arguments].concat())
}

/// A store with an image of two layers, one of which has a program's worth of bytes.
fn ground() -> (Ground, Image) {
    let ground = Ground::new();
    let large = layer("./bin/sh", &"#!/bin/sh\n".repeat(50_000));
    ground.load(&old_docker(&json!(["a:1"]), &[&large, &layer("./etc/b", "2")])).unwrap();
    let image = ground.store.image("a:1").unwrap();
    (ground, image)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn skopeo_reads_what_is_saved_and_writes_what_is_loaded() {
    requires!(program("skopeo").is_some(), "skopeo is missing: cargo xtask images");
    let (ground, image) = ground();
    let directory = ground.scratch.path();
    let (docker, oci, layout) =
        (directory.join("docker.tar"), directory.join("oci.tar"), directory.join("layout"));
    ground.store.save(&["a:1"], Format::DockerArchive, &mut fs::File::create(&docker).unwrap()).unwrap();
    ground.store.save(&["a:1"], Format::OciArchive, &mut fs::File::create(&oci).unwrap()).unwrap();
    ground.store.save_directory(&["a:1"], &layout).unwrap();
    let sources = [
        format!("docker-archive:{}", text(&docker)),
        format!("oci-archive:{}", text(&oci)),
        format!("oci:{}", text(&layout)),
    ];
    for source in &sources {
        let told: serde_json::Value =
            serde_json::from_str(&skopeo(&["inspect", "--config", source])).unwrap();
        let expected = serde_json::to_value(&image.configuration).unwrap();
        assert_eq!(told["rootfs"], expected["rootfs"], "{source}");
    }
    // Between docker's and OCI's own forms skopeo writes the configuration anew, and so the image gets another id.
    let zstd = ["oci-archive", "--dest-compress-format", "zstd", "--dest-compress-level", "3"];
    for (number, (source, more, is_same)) in [
        (&sources[0], &["docker-archive"][..], true),
        (&sources[1], &["docker-archive"], true),
        (&sources[0], &["oci-archive"], false),
        (&sources[1], &["oci-archive"], true),
        (&sources[2], &zstd, true),
        (&sources[2], &["oci"], true),
    ]
    .into_iter()
    .enumerate()
    {
        let target = directory.join(format!("target-{number}"));
        let destination = format!("{}:{}:b:2", more[0], text(&target));
        skopeo(&[&["copy", "--quiet"], &more[1..], &[source, &destination]].concat());
        let other = Ground::new();
        let loaded = other.store.load_path(&target, &mut |_| ()).unwrap();
        let found = other.store.image("b:2").unwrap();
        assert_eq!(loaded[0].id, found.id);
        assert_eq!(found.id == image.id, is_same, "{source} as {more:?}");
        let sizes =
            |image: &Image| Vec::from_iter(image.layers.iter().map(|layer| (layer.diff_id, layer.size)));
        assert_eq!(sizes(&found), sizes(&image), "{source} as {more:?}");
    }
}

#[test]
fn an_image_of_umoci_is_loaded_and_ours_is_one_for_umoci() {
    requires!(program("umoci").is_some(), "umoci is missing: cargo xtask images");
    let ground = Ground::new();
    let directory = ground.scratch.path();
    let layout = directory.join("layout");
    let image = format!("{}:3.22", text(&layout));
    let bundle = directory.join("bundle");
    run("umoci", &["init", "--layout", text(&layout)]);
    run("umoci", &["new", "--image", &image]);
    // One that ends its layer with the last file.
    fs::write(directory.join("file"), "inserted").unwrap();
    run("umoci", &["insert", "--rootless", "--image", &image, text(&directory.join("file")), "/inserted"]);
    run("umoci", &["unpack", "--rootless", "--image", &image, text(&bundle)]);
    fs::create_dir(bundle.join("rootfs/srv")).unwrap();
    for (file, gone) in [("hello", None), ("world", Some("hello"))] {
        gone.into_iter().for_each(|gone| fs::remove_file(bundle.join("rootfs/srv").join(gone)).unwrap());
        fs::write(bundle.join("rootfs/srv").join(file), file).unwrap();
        run("umoci", &["repack", "--refresh-bundle", "--image", &image, text(&bundle)]);
    }
    let loaded = ground.store.load_path(&layout, &mut |_| ()).unwrap();
    let found = ground.store.image("localhost/3.22").unwrap();
    assert_eq!(found.id, loaded[0].id);
    assert_eq!(found.layers.len(), 3);
    let lowest = ground.store.lower(&found)[2].join("inserted");
    assert_eq!(fs::read_to_string(lowest).unwrap(), "inserted");
    let top = &ground.store.lower(&found)[0];
    assert_eq!(fs::read_to_string(top.join("srv/world")).unwrap(), "world");
    assert!(!top.join("srv/hello").is_file(), "what was removed is covered, not there");

    let archive = directory.join("layout.tar");
    run_tar(&layout, &archive);
    let other = Ground::new();
    assert_eq!(other.store.load_path(&archive, &mut |_| ()).unwrap()[0].id, found.id, "as a stream, too");

    let saved = directory.join("saved");
    ground.store.save_directory(&["localhost/3.22:latest"], &saved).unwrap();
    assert_eq!(run("umoci", &["ls", "--layout", text(&saved)]).trim(), "latest");
    let told = run("umoci", &["stat", "--json", "--image", &format!("{}:latest", text(&saved))]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let layers = told["history"].as_array().unwrap().iter().filter_map(|step| step["diff_id"].as_str());
    let expected = found.layers.iter().map(|layer| layer.diff_id);
    assert!(layers.map(|text| Digest::parse(text).unwrap()).eq(expected), "{told}");
}
