//! Volumes.

use serde_json::Value;

use crate::shop::shop;

#[test]
fn a_volume_outlives_its_containers() {
    let shop = shop!();
    assert_eq!(shop.said(&["volume", "create", "--label", "k=v", "data"]), "data\n");
    shop.script(&["-v", "data:/data"], "echo kept > /data/file").output().succeeds();
    shop.script(&["--mount", "type=volume,source=data,target=/there"], "cat /there/file")
        .output()
        .succeeds()
        .prints("kept\n");
    assert_eq!(shop.said(&["volume", "ls", "-q"]), "data\n");
    let document: Value = serde_json::from_str(&shop.said(&["volume", "inspect", "data"])).unwrap();
    assert_eq!(document[0]["Labels"]["k"], "v");
    assert_eq!(shop.said(&["volume", "rm", "data"]), "data\n");
    assert_eq!(shop.said(&["volume", "ls", "-q"]), "");
    shop.bulkhead(&["volume", "rm", "data"]).output().exits_with(1).complains("data");
    shop.said(&["volume", "rm", "--force", "data"]);
}

#[test]
fn a_volume_in_use_stays() {
    let shop = shop!();
    shop.with("create", &["--name", "job", "-v", "data:/data"], &["true"]).output().succeeds();
    let used = shop.bulkhead(&["volume", "rm", "data"]).output().exits_with(1);
    assert!(used.stderr.contains("hint: `bulkhead rm -f job` first"), "with the way out: {}", used.stderr);
    shop.said(&["volume", "prune", "--all", "--force"]);
    assert_eq!(shop.said(&["volume", "ls", "--format", "{{.Name}}"]), "data\n");
    shop.said(&["rm", "job"]);
    let pruned = shop.said(&["volume", "prune", "--all", "--force"]);
    assert!(pruned.contains("data"), "{pruned}");
}

/// Fails when a volume that may only be read has no files on which the engine's own could be mounted.
#[test]
fn a_new_volume_has_the_files_that_are_bound_into_it() {
    let shop = shop!();
    let script = "ls /etc/hosts /etc/hostname /etc/resolv.conf && cat /etc/passwd && hostname";
    let said = shop.script(&["-v", "new:/etc:ro", "-h", "here"], script).output().succeeds().stdout;
    assert!(said.contains("root:") && said.ends_with("here\n"), "{said}");
    let again = shop.script(&["-v", "new:/etc:ro"], "cat /etc/hosts").output().succeeds().stdout;
    assert!(again.contains("localhost"), "what it has stays: {again}");
    assert_eq!(std::fs::read_to_string(shop.path("engine/volumes/new/data/hosts")).unwrap(), "");
}

#[test]
fn volumes_without_a_name_go_with_their_container() {
    let shop = shop!();
    shop.script(&["-v", "/data"], "echo x > /data/file").output().succeeds();
    assert_eq!(shop.said(&["volume", "ls", "-q"]), "", "--rm takes them along");
    shop.with("run", &["--name", "job", "-v", "/data"], &["true"]).output().succeeds();
    assert_eq!(shop.said(&["volume", "ls", "-q"]).trim().len(), 64);
    shop.said(&["rm", "--volumes", "job"]);
    assert_eq!(shop.said(&["volume", "ls", "-q"]), "");
}

#[test]
fn a_directory_of_this_machine_is_mounted() {
    let shop = shop!();
    let directory = shop.path("shared");
    std::fs::create_dir(&directory).unwrap();
    let mount = format!("{}:/shared", directory.display());
    shop.script(&["-v", &mount], "echo from inside > /shared/file").output().succeeds();
    assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), "from inside\n");
    let output = shop.script(&["-v", &format!("{mount}:ro")], "touch /shared/no").output().exits_with(1);
    assert!(output.stderr.contains("Read-only"), "{}", output.stderr);
}
