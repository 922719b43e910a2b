//! Archives of strangers that mean harm, or are broken: refused with a sentence, and nothing stays.

use bulkhead_store::Digest;
use serde_json::{Value, json};

use crate::archive::{Oci, Tar, blob, configuration, gzip, layer, old_docker};
use crate::{Ground, sentence};

#[track_caller]
fn refuses(archive: &[u8], expected: &str) {
    let ground = Ground::new();
    let error = sentence(&ground.load(archive).expect_err(expected));
    assert!(error.contains(expected), "refused with {error:?}, not {expected:?}");
    ground.is_empty("after it was refused");
}

fn packed(config: &str, layers: &[&str]) -> Vec<u8> {
    json!([{ "Config": config, "RepoTags": ["a"], "Layers": layers }]).to_string().into_bytes()
}

#[test]
fn paths_out_of_the_archive() {
    for (path, expected) in
        [("../x", "leads out of the archive"), ("/x", "absolute path"), ("a/../../x", "leads out")]
    {
        refuses(&Tar::new().file(path, b"x").end(), expected);
    }
    refuses(&Tar::new().link("layer.tar", "/etc/passwd").end(), "a link out of the archive");
    refuses(&Tar::new().link("a/layer.tar", "../../../etc/passwd").end(), "a link out of the archive");
    refuses(
        &Tar::new().file("manifest.json", &packed("../../etc/passwd", &[])).end(),
        "leads out of the archive",
    );
    refuses(&Tar::new().entry("dev", b'3', "", b"").end(), "neither a file, a directory nor a link");
}

#[test]
fn links_in_a_circle() {
    let archive = Tar::new().link("a", "b").link("b", "a").file("manifest.json", &packed("a", &[])).end();
    refuses(&archive, "leads in a circle");
}

#[test]
fn a_path_that_is_there_twice() {
    let plain = layer("./a", "1");
    for archive in [
        Tar::new().file("manifest.json", b"[]").file("./manifest.json", b"[ ]"),
        Tar::new().file("a.tar", &plain).file("a.tar", &layer("./a", "2")),
        Tar::new().file("a", b"x").link("a", "b"),
    ] {
        refuses(&archive.end(), "is there twice");
    }
}

#[test]
fn digests_that_are_others() {
    let plain = layer("./a", "1");
    let configuration = configuration(&[&plain]);
    let other = format!("blobs/sha256/{}", Digest::of(b"another").hex());
    // A layer under the name of another.
    let archive = Tar::new()
        .file(&other, &plain)
        .file("c", &configuration)
        .file("manifest.json", &packed("c", &[&other]));
    refuses(&archive.end(), "has the digest");
    let archive = Tar::new()
        .file(&other, &gzip(&plain))
        .file("c", &configuration)
        .file("manifest.json", &packed("c", &[&other]));
    refuses(&archive.end(), "has the digest");
    // A document.
    refuses(&Tar::new().file(&other, &configuration).end(), "has the digest");
    let hex = format!("{}.json", Digest::of(b"another").hex());
    let archive = Tar::new()
        .file(&hex, &configuration)
        .file("l.tar", &plain)
        .file("manifest.json", &packed(&hex, &["l.tar"]));
    refuses(&archive.end(), "has the digest");
    // A layer that the configuration does not want.
    let archive = Tar::new()
        .file("l.tar", &layer("./a", "2"))
        .file("c", &configuration)
        .file("manifest.json", &packed("c", &["l.tar"]));
    refuses(&archive.end(), "uncompressed, layer l.tar has the digest");
}

#[test]
fn sizes_that_are_others() {
    let oci = Oci::new(&[&layer("./a", "1")]);
    let text = String::from_utf8(oci.manifest.clone()).unwrap();
    let mut manifest: Value = serde_json::from_str(&text).unwrap();
    manifest["layers"][0]["size"] = json!(7);
    let wrong = Oci { manifest: manifest.to_string().into_bytes(), ..oci };
    let directory = Ground::new();
    // A stream takes a layer by its digest before the manifest comes; a directory knows what it wants.
    let layout = directory.scratch.path().join("layout");
    std::fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    for bytes in wrong.blobs() {
        std::fs::write(layout.join(blob(bytes)), bytes).unwrap();
    }
    let index = json!({ "schemaVersion": 2, "manifests": [wrong.descriptor(&json!(null))] });
    std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let error = directory.store.load_path(&layout, &mut |_| ()).unwrap_err().to_string();
    assert!(error.ends_with("has more than 7 bytes"), "{error}");
    directory.is_empty("after a wrong size");
}

#[test]
fn parts_that_are_missing_or_contradict_each_other() {
    let plain = layer("./a", "1");
    let one = configuration(&[&plain]);
    refuses(&Tar::new().end(), "neither manifest.json nor index.json");
    refuses(
        &Tar::new().file("etc/passwd", b"root:x:0:0").end(),
        "a root file system is imported, not loaded",
    );
    refuses(&Tar::new().file("manifest.json", b"[]").end(), "has no image");
    refuses(&Tar::new().file("manifest.json", &packed("c", &[])).end(), "c is named, and is not there");
    let with = |layers: &[&str]| {
        Tar::new().file("c", &one).file("l.tar", &plain).file("manifest.json", &packed("c", layers))
    };
    refuses(&with(&[]).end(), "tells of 1 layers, and manifest.json of 0");
    refuses(&with(&["l.tar", "l.tar"]).end(), "tells of 1 layers, and manifest.json of 2");
    refuses(&with(&["c"]).end(), "c is named, and is not there as a layer");
    refuses(&with(&["none.tar"]).end(), "none.tar is named, and is not there as a layer");
    let broken = Tar::new().file("c", b"{\"rootfs\": 7}").file("manifest.json", &packed("c", &[]));
    refuses(&broken.end(), "is no image's configuration");
    let both = Tar::new().file("index.json", br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#);
    refuses(&both.end(), "is a manifest and an index at once");
}

#[test]
fn names_that_are_none() {
    let plain = layer("./a", "1");
    for (name, expected) in
        [("A:1", "must be in lower case"), ("a b", "other letters"), ("../a", "is no host's name")]
    {
        refuses(&old_docker(&json!([name]), &[&plain]), expected);
    }
    let pinned = format!("a@{}", Digest::of(b""));
    refuses(&old_docker(&json!([pinned]), &[&plain]), "has a digest");
}

#[test]
fn archives_that_are_cut_or_damaged_anywhere() {
    let whole = old_docker(&json!(["a"]), &[&layer("./a", "1"), &layer("./b", "2")]);
    let ground = Ground::new();
    ground.load(&whole).unwrap();
    // The last kilobyte of a plain one are zeros, of which one half is enough.
    for (archive, needed) in [(&whole, whole.len() - 1024), (&gzip(&whole), gzip(&whole).len() - 1)] {
        let ground = Ground::new();
        for part in 1..20 {
            let length = needed * part / 20;
            let error = ground.load(&archive[..length]).expect_err("it is cut");
            assert!(!error.to_string().is_empty());
            ground.is_empty("after it was cut");
        }
    }
    let mut damaged = gzip(&whole);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    let ground = Ground::new();
    ground.load(&damaged).expect_err("it is damaged");
    ground.is_empty("after it was damaged");
}

#[test]
fn layers_that_mean_harm() {
    for (plain, expected) in [
        (Tar::new().file("../x", b"1").end(), ".."),
        (Tar::new().link("d", "/etc").file("d/../../x", b"1").end(), ".."),
    ] {
        refuses(&old_docker(&json!(["a"]), &[&plain]), expected);
    }
    assert!(!std::path::Path::new("/x").exists());
}

#[test]
fn more_documents_than_memory() {
    let mut tar = Tar::new();
    let document = [b"{\"a\":\"".to_vec(), vec![b'a'; 7 << 20], b"\"}".to_vec()].concat();
    for number in 0..6 {
        tar = tar.file(&format!("{number}.json"), &document);
    }
    refuses(&gzip(&tar.end()), "more than 32 MiB");
}
