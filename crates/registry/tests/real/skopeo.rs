//! Another client of the same registry: skopeo pulls what we push, and we pull what it pushes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use bulkhead_registry::{Digest, media_type};
use bulkhead_testkit::{cached, requires};

use crate::{Image, client, descriptor, ground, here, opener, read};

fn program() -> Option<PathBuf> {
    cached("images").map(|directory| directory.join("usr/bin/skopeo")).filter(|program| program.is_file())
}

#[track_caller]
fn skopeo(directory: &Path, arguments: &[&str]) {
    // What it remembers of blobs is not to stay on the machine, nor to serve the next call.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let home = directory.join(format!("home-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    let program = program().unwrap();
    let output = Command::new(program)
        .args(["--insecure-policy", "--tmpdir"])
        .arg(directory)
        .args(arguments)
        .env("HOME", &home)
        .env("XDG_DATA_HOME", &home)
        .env("_CONTAINERS_ROOTLESS_UID", "1000")
        .output()
        .unwrap();
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An image whose layer is an archive with one file.
fn archive(directory: &Path) -> Image {
    let tree = directory.join("tree");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("hello"), "hello\n".repeat(10_000)).unwrap();
    let output = Command::new("tar").args(["-C"]).arg(&tree).args(["-c", "hello"]).output().unwrap();
    assert!(output.status.success(), "tar fails");
    Image::of(vec![output.stdout], "amd64")
}

#[test]
fn skopeo_pulls_what_we_push() {
    let ground = ground!();
    requires!(program().is_some(), "skopeo is missing: cargo xtask images");
    let directory = ground.scratch.path();
    let image = archive(directory);
    for (kind, tag) in [(media_type::MANIFEST, "oci"), (media_type::DOCKER_MANIFEST, "docker")] {
        let reference = ground.reference(&format!("ours:{tag}"));
        image.push(&client(), &reference, kind);
        let place = directory.join(tag);
        let copied = format!("dir:{}", place.display());
        skopeo(directory, &["copy", "--src-tls-verify=false", &format!("docker://{reference}"), &copied]);
        assert_eq!(std::fs::read(place.join("manifest.json")).unwrap(), image.manifest(kind));
        let layer = std::fs::read(place.join(Digest::of(&image.layers[0]).hex())).unwrap();
        assert!(layer == image.layers[0], "skopeo got another layer");
    }
}

#[test]
fn we_pull_what_skopeo_pushes() {
    let ground = ground!();
    requires!(program().is_some(), "skopeo is missing: cargo xtask images");
    let directory = ground.scratch.path();
    let image = archive(directory);
    let origin = ground.reference("ours:1");
    image.push(&client(), &origin, media_type::MANIFEST);
    let kept = format!("dir:{}", directory.join("kept").display());
    skopeo(directory, &["copy", "--src-tls-verify=false", &format!("docker://{origin}"), &kept]);
    for (tag, options, manifest, layer) in [
        (
            "gzip",
            &["--format", "oci"][..],
            media_type::MANIFEST,
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        (
            "zstd",
            &["--format", "oci", "--dest-compress-format", "zstd"],
            media_type::MANIFEST,
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
        (
            "schema2",
            &["--format", "v2s2"],
            media_type::DOCKER_MANIFEST,
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ),
    ] {
        let reference = ground.reference(&format!("theirs:{tag}"));
        let target = format!("docker://{reference}");
        let command =
            [&["copy", "--dest-tls-verify=false"], options, &[kept.as_str(), target.as_str()]].concat();
        skopeo(directory, &command);
        let client = client();
        let found = client.resolve(&reference, &here()).unwrap();
        assert_eq!(found.manifest.media_type, manifest, "{tag}");
        assert_eq!(found.manifest.layers[0].media_type, layer, "{tag}");
        assert!(found.manifest.is_image());
        let bytes = read(&client, &found, &found.manifest.layers[0]).unwrap();
        assert!(bytes.len() < image.layers[0].len(), "{tag} is not compressed");

        // And what skopeo made goes on to another repository as it is.
        let push = client.push(&ground.reference(&format!("again:{tag}"))).unwrap();
        push.blob(&descriptor("", &bytes), &[], &opener(&bytes)).unwrap();
        let configuration = read(&client, &found, &found.manifest.configuration).unwrap();
        push.blob(&found.manifest.configuration, &[], &opener(&configuration)).unwrap();
        assert_eq!(push.manifest(&found.manifest.bytes, manifest).unwrap(), found.manifest.digest);
    }
}
