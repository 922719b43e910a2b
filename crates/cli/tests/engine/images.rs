//! Images.

use serde_json::{Value, json};

use crate::shop::{IMAGE, Shop, shop};

#[test]
fn an_archive_is_loaded_and_listed() {
    let shop = shop!();
    let table = shop.said(&["images"]);
    let (title, row) = table.trim_end().split_once('\n').unwrap();
    let words = Vec::from_iter(title.split("  ").map(str::trim).filter(|word| !word.is_empty()));
    assert_eq!(words, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    assert!(row.starts_with("busybox      test"), "{row}");
    let id = shop.said(&["images", "-q", "--no-trunc"]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(shop.said(&["images", "--format", "{{.Repository}}:{{.Tag}}"]), "busybox:test\n");
    assert_eq!(shop.said(&["images", "-q", "nothing"]), "");
    assert_eq!(shop.said(&["images", "-q", "busybox"]).trim(), &id[7..19]);
}

#[test]
fn an_archive_can_come_by_a_pipe() {
    bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root");
    let shop = Shop::empty();
    let path = shop.path("image.tar");
    shop.archive(&path, "registry.example/a/b:1", &json!({}));
    let loaded = shop.bulkhead(&["load"]).input(std::fs::read(path).unwrap()).output().succeeds();
    assert_eq!(loaded.stdout, "Loaded image: registry.example/a/b:1\n");
}

#[test]
fn names_come_and_go() {
    let shop = shop!();
    shop.said(&["tag", IMAGE, "mine:1"]);
    assert_eq!(shop.said(&["images", "--format", "{{.Repository}}:{{.Tag}}", "mine"]), "mine:1\n");
    assert_eq!(shop.said(&["rmi", "mine:1"]), "Untagged: mine:1\n");
    let wrong = shop.bulkhead(&["tag", IMAGE, "Not A Name"]).output().exits_with(1);
    assert!(wrong.stderr.contains("Not A Name"), "{}", wrong.stderr);
}

#[test]
fn what_is_saved_can_be_loaded() {
    let shop = shop!();
    let file = shop.path("saved.tar");
    let file = file.to_str().unwrap();
    let id = shop.said(&["images", "-q"]);
    for format in ["docker-archive", "oci-archive"] {
        shop.said(&["save", "--format", format, "-o", file, IMAGE]);
        shop.said(&["rmi", IMAGE]);
        assert_eq!(shop.said(&["load", "-i", file]), format!("Loaded image: {IMAGE}\n"), "{format}");
        assert_eq!(shop.said(&["images", "-q"]), id, "{format}");
    }
    let missing = shop
        .bulkhead(&["save", "-o", shop.path("none.tar").to_str().unwrap(), "nothing"])
        .output()
        .exits_with(1);
    assert!(missing.stderr.contains("nothing"), "{}", missing.stderr);
    assert!(!shop.path("none.tar").exists(), "a failure leaves no half of an archive");
}

#[test]
fn an_image_tells_how_it_was_made() {
    let shop = shop!();
    let steps = shop.said(&["history", "--format", "{{.CreatedBy}} {{.Size}}", IMAGE]);
    let steps = Vec::from_iter(steps.lines());
    assert_eq!(steps[0], "CMD echo 0B");
    assert!(steps[1].starts_with("ADD layer.tar ") && steps[1].ends_with("MB"), "{steps:?}");
    let document: Value = serde_json::from_str(&shop.said(&["image", "inspect", IMAGE])).unwrap();
    assert_eq!(document[0]["Config"]["Cmd"], json!(["echo", "from the image"]));
    assert_eq!(document[0]["RootFS"]["Type"], "layers");
}

#[test]
fn prune_takes_what_has_no_name_and_with_all_what_has_no_container() {
    let shop = shop!();
    let path = shop.path("other.tar");
    shop.archive(&path, "other:1", &json!({ "Cmd": ["true"] }));
    shop.said(&["load", "-q", "-i", path.to_str().unwrap()]);
    // The name goes to the other image, and the first has none left.
    shop.said(&["tag", "other:1", IMAGE]);
    assert!(shop.said(&["images", "--format", "{{.Repository}}"]).contains("<none>"));
    let pruned = shop.said(&["image", "prune", "-f"]);
    assert!(pruned.contains("Deleted: sha256:"), "{pruned}");
    assert!(!shop.said(&["images", "--format", "{{.Repository}}"]).contains("<none>"));
    shop.with("create", &["--name", "job"], &["true"]).output().succeeds();
    shop.said(&["image", "prune", "-a", "-f"]);
    assert_eq!(shop.said(&["images", "-q"]).lines().count(), 1, "a container keeps its image");
    shop.said(&["rm", "job"]);
    shop.said(&["network", "create", "unused"]);
    let said = shop.said(&["system", "prune", "-a", "-f"]);
    assert!(said.starts_with("Deleted Networks:\nunused\n\nDeleted Images:\n"), "{said}");
    assert_eq!(shop.said(&["images", "-q"]), "");
}

#[test]
fn a_broken_archive_is_refused_and_leaves_nothing() {
    bulkhead_testkit::requires!(bulkhead_testkit::is_root(), "needs root");
    let shop = Shop::empty();
    let output = shop.bulkhead(&["load"]).input("this is no archive").output().exits_with(1);
    assert!(output.stderr.starts_with("error: "), "{}", output.stderr);
    assert_eq!(shop.said(&["images", "-q"]), "");
}

#[test]
fn what_an_image_says_that_means_nothing_keeps_none_of_its_containers_from_running() {
    let shop = shop!();
    let path = shop.path("odd.tar");
    let changes = json!({ "Entrypoint": [""], "Cmd": ["echo", "runs"], "StopSignal": "SIGFOO" });
    shop.archive(&path, "odd:1", &changes);
    shop.said(&["load", "-q", "-i", path.to_str().unwrap()]);
    let run = shop.of("run", &["--rm", "--network", "none"], "odd:1", &[]).output().succeeds();
    assert_eq!(run.stdout, "runs\n");
    run.complains("it is stopped by SIGTERM");
}
